"""Who speaks to us, and what an API token may do."""

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field, model_validator

from contracts.base import Frozen, Strict

LONGEST_LIFE = timedelta(days=366)


class Scope(StrEnum):
    """One thing that an API token may do; each names nothing but itself."""

    READ = "read"
    DECLARE = "declare"
    COMMAND = "command"
    APPROVE = "approve"
    APPROVE_HIGH = "approve:high"
    ALERTS = "alerts"
    ADMIN = "admin"


OF_A_MACHINE = frozenset({Scope.READ, Scope.ALERTS, Scope.ADMIN})
OF_ONESELF = frozenset(Scope) - {Scope.ALERTS, Scope.ADMIN}


class TokenOrder(Strict):
    """An API token that somebody wants.

    Attributes:
        name: What it is for, for the people who will wonder: ``laptop``, ``alertmanager``.
        person: For whom it speaks; ``None``: for a machine, which gives no orders.
        lasts: How long it is valid: up to a year.
    """

    name: str = Field(min_length=1, max_length=100)
    person: str | None
    scopes: tuple[Scope, ...] = Field(min_length=1)
    lasts: timedelta = Field(gt=timedelta(0), le=LONGEST_LIFE)

    @model_validator(mode="after")
    def _fits(self) -> "TokenOrder":
        for_people = sorted(set(self.scopes) - OF_A_MACHINE)
        if self.person is None and for_people:
            raise ValueError(f"{', '.join(for_people)}: an order is given by a person, so name one")
        return self


class ApiToken(Frozen):
    """An API token as it may be shown: everything but the secret.

    Attributes:
        id: ``TOK-3``.
        person: For whom it speaks; ``None``: for a machine.
        used_at: When it was last seen, to about a minute.
    """

    id: str
    name: str
    person: str | None
    scopes: tuple[Scope, ...]
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_by: str | None = None
