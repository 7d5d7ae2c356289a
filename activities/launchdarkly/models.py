"""What is asked of LaunchDarkly and what it says; no SDK."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, ClassVar, Protocol

from pydantic import Field, StringConstraints

from contracts.actions import ActionRequest, ProbeRequest
from contracts.base import Frozen
from contracts.plans import Target

# A key becomes one segment of a URL: it is escaped there, but "." and ".." would still climb.
Key = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^(\.?[^.]|\.\..)")]


class InFlag(Frozen):
    """Which flag, in which environment."""

    project: Key
    environment: Key
    key: Key


class SetFlag(InFlag, ActionRequest):
    """Have a flag's targeting on or off in one environment.

    Attributes:
        on: True serves what the flag's rules say, False serves its off variation to everybody.
        targeting: Of a way back: what these rules were, as ``FlagSeen`` has it. It is compared, not restored.
    """

    action: ClassVar[str] = "launchdarkly.set_flag"

    on: bool
    targeting: str = ""

    @property
    def target(self) -> Target:
        """The flag in its environment, as the catalogue names it."""
        return Target(provider="launchdarkly", kind="flag", path=(self.project, self.environment, self.key))


class FlagSeen(Frozen):
    """A flag in one environment, as the REST API tells it.

    Attributes:
        version: Counts every change of the flag's configuration in this environment.
        serves_off: What everybody gets while it is off; ``None`` when that is each application's own default.
        serves_else: What those get whom no rule and no target names while it is on.
        targets: How many contexts are targeted one by one.
        targeting: Stands for all of that: another one, when any of it was changed.
        modified_at: When the configuration in this environment was last changed (UTC).
    """

    project: str
    environment: str
    key: str
    name: str
    on: bool
    version: int
    archived: bool = False
    serves_off: str | None = None
    serves_else: str | None = None
    rules: int = 0
    targets: int = 0
    prerequisites: tuple[str, ...] = ()
    targeting: str = ""
    modified_at: datetime | None = None


class SdkSight(Frozen):
    """What SDKs have of a flag.

    Attributes:
        stream: Its state in an SDK that is connected to the stream; ``None`` when that SDK does not have it.
        polled: Its state in what polling SDKs are given; asked for only when the stream's is not the API's.
        problem: Why it cannot be observed at all, for example a refused SDK key; one sentence.
    """

    stream: bool | None = None
    polled: bool | None = None
    problem: str = ""


class FlagChange(Frozen):
    """One change of what a flag serves.

    Attributes:
        on: Whether the flag is on now, which is not necessarily what the change made it.
        by: Who made it, as LaunchDarkly names them; text for people.
        title: ``Ariel Flores turned on the flag``; text for people.
        comment: What they wrote to it; our own changes carry the action's id here.
    """

    key: str
    name: str
    on: bool
    changed_at: datetime
    by: str = ""
    title: str
    comment: str = ""


class RecentChanges(Frozen):
    """The changes of some flags, most recent first, and what could not be seen."""

    changes: tuple[FlagChange, ...] = ()
    notes: tuple[str, ...] = ()


class RecentFlagChanges(ProbeRequest[RecentChanges]):
    """Which of these flags were changed lately, and how?"""

    probe: ClassVar[str] = "launchdarkly.recent_changes"

    project: Key
    environment: Key
    keys: tuple[Key, ...]
    within: timedelta = Field(timedelta(hours=6), gt=timedelta(0))


class AuditEntry(Frozen):
    """One entry of the audit log, with what it says of flags in the environment that was asked about.

    Attributes:
        actions: What was done to which flag: pairs of action (``updateOn``) and flag key.
    """

    id: str
    at: datetime
    actions: tuple[tuple[str, str], ...]
    by: str
    verb: str
    description: str
    comment: str


class FlagService(Protocol):
    """What the actions and probes need of LaunchDarkly; ``client`` has the real one.

    Every method raises ``ActionRefusedError`` or ``ProviderUnavailableError``.
    """

    def now(self) -> datetime:
        """Give the time now (UTC)."""

    def flag(self, project: str, environment: str, key: str) -> FlagSeen:
        """Read a flag."""

    def dependents(self, project: str, environment: str, key: str) -> tuple[str, ...] | None:
        """Name the flags that have this one as prerequisite; ``None`` when that cannot be known."""

    def sight(self, seen: FlagSeen) -> SdkSight | None:
        """Say what SDKs have of it; ``None`` when the catalogue configures no observation."""

    def set_flag(self, request: SetFlag, *, comment: str, dry_run: bool = False) -> None:
        """Send the change once."""

    def audit(
        self, project: str, environment: str, keys: Sequence[str], since: datetime
    ) -> tuple[tuple[AuditEntry, ...], bool]:
        """Give the flags' entries since then, newest first, and whether that is all of them."""
