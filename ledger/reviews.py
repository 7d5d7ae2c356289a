"""What two others say afterwards of each approval that broke the glass: tracked until both have spoken."""

import builtins
from typing import Any

from sqlalchemy import func, select

from contracts.approvals import ApprovalRequest, Review, Reviewed
from contracts.errors import ConflictError, ForbiddenError
from contracts.evidence import EvidenceKind
from ledger import evidence, rows
from ledger.database import Stored, moment_of
from ledger.schema import approval as approvals
from ledger.schema import review as reviews

ENOUGH = 2


class Reviews(Stored):
    """All approvals that broke the glass, with their reviews."""

    def list(self, *, open_only: bool = False, limit: int = 100) -> builtins.list[Reviewed]:
        """Give them, the newest first; with ``open_only`` those that still lack a review."""
        query = select(approvals).where(approvals.c.broke_glass).order_by(approvals.c.number.desc())
        if open_only:
            count = select(func.count()).where(reviews.c.approval == approvals.c.number).scalar_subquery()
            query = query.where(count < ENOUGH)
        with self._database.read() as connection:
            found = connection.execute(query.limit(limit)).all()
            numbers = [row.number for row in found]
            written = select(reviews).where(reviews.c.approval.in_(numbers)).order_by(reviews.c.at)
            said = [
                Review.model_validate(row._asdict() | {"request": f"APR-{row.approval}"})
                for row in connection.execute(written)
            ]
        requests = [ApprovalRequest.model_validate(rows.facts(approvals, row)) for row in found]
        return [
            Reviewed(request=request, reviews=tuple(one for one in said if one.request == request.id))
            for request in requests
        ]

    def add(self, approval: str, *, person: str, was_right: bool, remark: str) -> Review:
        """Add one person's review; the same person's again is a conflict: what was said stays.

        Raises:
            ForbiddenError: The person broke the glass themselves.
            ConflictError: The glass was not broken for it, or the person has reviewed it already.
        """
        number = rows.number_of(approvals, approval)
        with self._database.write() as connection:
            row = rows.one(connection, approvals, number=number)
            if row is None or not row.broke_glass:
                raise ConflictError(f"{approval}: no glass was broken for it")
            if row.signed["decision"]["person"] == person:
                raise ForbiddenError(f"{approval} was approved by {person}: two others review it")
            if rows.one(connection, reviews, approval=number, person=person) is not None:
                raise ConflictError(f"{approval} was reviewed by {person} before")
            now = moment_of(connection)
            facts: dict[str, Any] = {"was_right": was_right, "remark": remark}
            rows.add(connection, reviews, approval=number, person=person, at=now, **facts)
            says = "right" if was_right else "wrong"
            said = f"{person} reviews {approval}: breaking the glass was {says}. {remark}"
            kind, key = EvidenceKind.REVIEW, f"{approval}/review/{person}"
            body, where = facts | {"approval": approval}, row.incident
            evidence.note(connection, kind, key, said, incident=where, actor=person, body=body)
            return Review(request=approval, person=person, was_right=was_right, remark=remark, at=now)
