"""What two others say afterwards of each approval that broke the glass: tracked until both have spoken."""

import builtins

from sqlalchemy import func, insert, select

from contracts.approvals import ApprovalRequest, Review, Reviewed
from contracts.errors import ConflictError, ForbiddenError
from contracts.evidence import Evidence, EvidenceKind
from ledger import evidence, incidents
from ledger.database import Database
from ledger.schema import approval as approvals
from ledger.schema import review as reviews
from ledger.storable import one_line

ENOUGH = 2


class Reviews:
    """All approvals that broke the glass, with their reviews."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, *, open_only: bool = False, limit: int = 100) -> builtins.list[Reviewed]:
        """Give them, the newest first; with ``open_only`` those that still lack a review."""
        query = select(approvals).where(approvals.c.broke_glass).order_by(approvals.c.number.desc())
        if open_only:
            count = select(func.count()).where(reviews.c.approval == approvals.c.number).scalar_subquery()
            query = query.where(count < ENOUGH)
        with self._database.read() as connection:
            requests = [
                ApprovalRequest.model_validate(row._asdict() | {"id": f"APR-{row.number}"})
                for row in connection.execute(query.limit(limit))
            ]
            numbers = [incidents.number_of(request.id, "APR") for request in requests]
            said: dict[str, list[Review]] = {}
            rows = select(reviews).where(reviews.c.approval.in_(numbers)).order_by(reviews.c.at)
            for row in connection.execute(rows):
                review = Review.model_validate(row._asdict() | {"request": f"APR-{row.approval}"})
                said.setdefault(review.request, []).append(review)
        return [Reviewed(request=one, reviews=tuple(said.get(one.id, ()))) for one in requests]

    def add(self, approval: str, *, person: str, was_right: bool, remark: str) -> Review:
        """Add one person's review; the same person's again is a conflict: what was said stays.

        Raises:
            ForbiddenError: The person broke the glass themselves.
            ConflictError: The glass was not broken for it, or the person has reviewed it already.
        """
        number = incidents.number_of(approval, "APR")
        with self._database.write() as connection:
            row = connection.execute(select(approvals).where(approvals.c.number == number)).one_or_none()
            if row is None or not row.broke_glass:
                raise ConflictError(f"{approval}: no glass was broken for it")
            if row.signed["decision"]["person"] == person:
                raise ForbiddenError(f"{approval} was approved by {person}: two others review it")
            mine = (reviews.c.approval == number) & (reviews.c.person == person)
            if connection.execute(select(reviews).where(mine)).one_or_none() is not None:
                raise ConflictError(f"{approval} was reviewed by {person} before")
            now = self._database.now()
            values = {"was_right": was_right, "remark": remark, "at": now}
            connection.execute(insert(reviews).values(values | {"approval": number, "person": person}))
            says = "right" if was_right else "wrong"
            evidence.append(
                connection,
                Evidence(
                    key=f"{approval}/review/{person}",
                    kind=EvidenceKind.REVIEW,
                    incident=row.incident,
                    actor=person,
                    at=now,
                    summary=one_line(f"{person} reviews {approval}: breaking the glass was {says}. {remark}"),
                    body={"approval": approval, "was_right": was_right, "remark": remark},
                ),
            )
            return Review(request=approval, person=person, was_right=was_right, remark=remark, at=now)
