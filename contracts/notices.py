"""Who was told of what, by which channel, and whether it arrived; and roles that are handed over."""

from datetime import datetime
from enum import StrEnum

from contracts.base import Frozen
from contracts.incidents import AttemptEnd, Phase, Role, Severity
from contracts.plans import Risk

CONSOLE = "console"


class NoticeState(StrEnum):
    """How far a notice got."""

    QUEUED = "queued"
    SENT = "sent"
    FAILED = "failed"
    SEEN = "seen"
    DROPPED = "dropped"


class Notice(Frozen):
    """What one person is told of one thing by one channel.

    Attributes:
        subject: ``APR-7``, ``INC-42``, or another thing that happened in the incident.
        channel: ``email``, ``webhook``; ``console`` is shown only, to people who have no other.
        state: ``sent``: the channel took it; ``seen``: the person opened it; ``dropped``: it was settled
            before it was sent.
        rung: Which rung of the ladder called last, from 0; ``None`` when no ladder did.
        times: How often it was sent or tried, reminders included: the end of the message's own id.
        attempts: How often the channel was tried for the latest one.
        error: Why the latest one did not arrive, or not yet.
    """

    subject: str
    incident: str
    person: str
    channel: str
    title: str
    text: str
    state: NoticeState
    rung: int | None = None
    times: int
    attempts: int
    queued_at: datetime
    sent_at: datetime | None = None
    seen_at: datetime | None = None
    error: str = ""

    @property
    def id(self) -> str:
        """The message's id: the same over all attempts, another one for each reminder."""
        return f"{self.subject}/{self.person}/{self.channel}/{self.times}"

    @property
    def path(self) -> str:
        """Where the console shows what it is about."""
        if self.subject.startswith("APR-"):
            return f"/approvals/{self.subject.partition('/')[0]}"
        return f"/incidents/{self.incident}" if self.incident else "/"


class HandoffState(StrEnum):
    """How an offer of a role stands; every state but the first is final."""

    OFFERED = "offered"
    ACCEPTED = "accepted"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class PendingQuestion(Frozen):
    """A question that waits for its answer."""

    id: str
    title: str
    risk: Risk
    plan_digest: str
    expires_at: datetime


class Tried(Frozen):
    """A mitigation that was tried."""

    mitigation: str
    title: str
    end: AttemptEnd


class Timer(Frozen):
    """Something that happens by itself."""

    what: str
    at: datetime


class Packet(Frozen):
    """What somebody has to know to take a role over, as it was when the role was offered."""

    title: str
    severity: Severity
    phase: Phase
    attention: str | None = None
    roles: dict[Role, str] = {}
    firing: tuple[str, ...] = ()
    pending: tuple[PendingQuestion, ...] = ()
    in_force: tuple[str, ...] = ()
    timers: tuple[Timer, ...] = ()
    tried: tuple[Tried, ...] = ()


class Handoff(Frozen):
    """A role that is offered to somebody, who has it from the moment of accepting.

    Attributes:
        id: ``HND-3``.
        giver: Who holds the role and offers it.
        person: To whom; nobody else can accept.
    """

    id: str
    incident: str
    role: Role
    giver: str
    person: str
    state: HandoffState = HandoffState.OFFERED
    packet: Packet
    offered_at: datetime
    expires_at: datetime
    closed_at: datetime | None = None
