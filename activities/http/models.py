"""What is asked of a URL; no HTTP library."""

from datetime import timedelta
from typing import Annotated, ClassVar, Protocol

from pydantic import Field, model_validator

from contracts.actions import ProbeRequest
from contracts.base import Frozen
from contracts.plans import Reading

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
        ...
