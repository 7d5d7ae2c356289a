"""What is asked of a URL or of a team's own endpoint, and what they say; no HTTP library."""

from datetime import datetime, timedelta
from typing import Annotated, ClassVar, Protocol

from pydantic import BeforeValidator, Field, model_validator

from contracts.actions import ActionRequest, ProbeRequest
from contracts.base import Frozen, JsonObject
from contracts.catalogue import Hook, Slug
from contracts.plans import Reading, Target

Status = Annotated[int, Field(ge=100, le=599)]


class HttpCheck(ProbeRequest[Reading]):
    """Does this URL answer as it should? The reading is 1 when it does and 0 when it does not.

    Attributes:
        url: One of the catalogue's ``checks``.
        expect_status: The lowest and the highest status that is right.
        timeout: How long the status may take.
    """

    probe: ClassVar[str] = "http.check"

    url: str
    expect_status: tuple[Status, Status] = (200, 299)
    timeout: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(minutes=1))] = timedelta(seconds=5)

    @model_validator(mode="after")
    def _lowest_first(self) -> "HttpCheck":
        if self.expect_status[0] > self.expect_status[1]:
            raise ValueError("expect_status: write the lowest status first")
        return self


class Answer(Frozen):
    """What came back.

    Attributes:
        status: ``None`` when no answer came.
        seconds: How long it took to get the status, or to give up.
        problem: Why there was no answer; one sentence.
        known: False when nobody can say what users get: the name cannot be resolved from here.
    """

    status: int | None = None
    seconds: float
    problem: str = ""
    known: bool = True


class WebService(Protocol):
    """What the probe needs; ``client`` has the real one."""

    def get(self, url: str, timeout: timedelta) -> Answer:
        """Ask once."""


class CallHook(ActionRequest):
    """Have a team's own remediation endpoint bring about what is desired.

    Attributes:
        hook: Its name in the catalogue.
        desired: What it is asked for, absolute: never "two more".
    """

    action: ClassVar[str] = "http.call_hook"

    hook: Slug
    desired: Annotated[JsonObject, Field(min_length=1)]

    @property
    def target(self) -> Target:
        """The hook, as the catalogue names it."""
        return Target(provider="http", kind="hook", path=(self.hook,))


class HookStatus(Frozen):
    """How things are, as an endpoint's ``status_url`` tells it; ``null`` is nothing.

    Attributes:
        wanted: What it is working towards, while it does.
        problem: Why it does not get there; one sentence.
    """

    state: JsonObject
    wanted: Annotated[JsonObject, BeforeValidator(lambda said: said or {})] = {}
    problem: Annotated[str, BeforeValidator(lambda said: said or "")] = ""

    def has(self, desired: JsonObject) -> bool:
        """Say whether that is so."""
        return all(key in self.state and self.state[key] == value for key, value in desired.items())

    @property
    def ahead(self) -> JsonObject:
        """How things will be when it has done what it works towards."""
        return {**self.state, **self.wanted}


class HookService(Protocol):
    """What the action needs of the endpoints; ``client`` has the real one.

    Every method but ``now`` raises ``ActionRefusedError`` or ``ProviderUnavailableError``.
    """

    def now(self) -> datetime:
        """Give the time now (UTC)."""

    def hook(self, name: str) -> Hook:
        """Find a hook in the catalogue."""

    def status(self, hook: Hook) -> HookStatus | None:
        """Ask how things are; ``None`` when the hook has no ``status_url``."""

    def check(self, hook: Hook) -> None:
        """See that the hook could be called: its secret is there, and somebody answers."""

    def send(self, hook: Hook, request: CallHook, *, action_id: str) -> None:
        """Send the request once, signed."""
