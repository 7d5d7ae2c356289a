"""Whether what an incident may need would work now: found out before there is one."""

from datetime import datetime
from enum import StrEnum

from contracts.base import Frozen
from contracts.errors import ProviderUnavailableError, StanchError


class CheckState(StrEnum):
    """What one check says. ``unknown`` is not good: nobody could look."""

    OK = "ok"
    NOT_READY = "not_ready"
    UNKNOWN = "unknown"

    @classmethod
    def after(cls, error: StanchError) -> "CheckState":
        """Say what is known after a look that failed: what was refused would not work."""
        return cls.UNKNOWN if isinstance(error, ProviderUnavailableError) else cls.NOT_READY


class ReadinessCheck(Frozen):
    """One thing that was checked.

    Attributes:
        name: What is asked, in a word or two, the same at every look: ``permissions``, ``lag``.
        target: What it is asked of, as its ``Target`` writes itself.
        detail: One sentence.
    """

    name: str
    target: str
    state: CheckState
    detail: str = ""


class Readiness(Frozen):
    """All that one look found."""

    checks: tuple[ReadinessCheck, ...]

    @property
    def state(self) -> CheckState:
        """The worst of its checks; nothing checked is unknown."""
        states = {check.state for check in self.checks}
        if CheckState.NOT_READY in states:
            return CheckState.NOT_READY
        return CheckState.OK if states == {CheckState.OK} else CheckState.UNKNOWN


class ReadinessLook(Frozen):
    """How ready a service's failover was at one moment."""

    at: datetime
    state: CheckState


class ServiceReadiness(Frozen):
    """How ready a service's failover is in one environment, as far as anybody has looked.

    Attributes:
        state: Unknown while nobody has looked.
        at: When it was looked at last.
        since: Since when it is in this state.
        next_at: When it is looked at next.
        checks: What the last look found.
        history: The former looks and the last one, oldest first.
    """

    service: str
    environment: str
    state: CheckState = CheckState.UNKNOWN
    at: datetime | None = None
    since: datetime | None = None
    next_at: datetime | None = None
    checks: tuple[ReadinessCheck, ...] = ()
    history: tuple[ReadinessLook, ...] = ()
