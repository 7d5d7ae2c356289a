"""Whether what an incident may need would work now: found out before there is one."""

from enum import StrEnum

from contracts.base import Frozen


class CheckState(StrEnum):
    """What one check says. ``unknown`` is not good: nobody could look."""

    OK = "ok"
    NOT_READY = "not_ready"
    UNKNOWN = "unknown"


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
