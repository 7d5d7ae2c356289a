"""What can go wrong, in the two words that an operator acts on: refused (final) and unavailable (retry)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the terminal's help loads this module, and no library
    from pydantic import ValidationError

LONGEST_WAIT = 600.0  # seconds; what asks for more is broken, and no incident waits longer


def one_line(text: object, longest: int = 600) -> str:
    """Make a part of a sentence of what a server or a library said: one line, printable, not endless."""
    said = str(text)[: 4 * longest]  # what is longer than that is not even looked at
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in said).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def first_wrong(error: "ValidationError") -> str:
    """Give the first thing that is wrong with what should be a model: where, and what."""
    first = error.errors()[0]
    where, said = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


class StanchError(Exception):
    """An error with one sentence for a person: it names the thing and what to do."""


class InputError(StanchError):
    """Something that came from outside cannot be used as it is."""


class NotFoundError(StanchError):
    """There is no such thing."""


class ConflictError(StanchError):
    """Somebody else was first, or the state does not allow it; the message says who and when."""


class ForbiddenError(StanchError):
    """The person may not do this; the message says who may."""


class UnknownKeyError(ForbiddenError):
    """Signed with a key that is not among ours, or that this process has not been given yet."""


class ActionRefusedError(StanchError):
    """The provider or our own rule said no, and nothing was changed. Repeating it is useless."""


class PreconditionFailedError(ActionRefusedError):
    """The target is not as it was when the plan was sealed; nothing was changed."""


class GuardrailError(ActionRefusedError):
    """A guardrail holds and no override names it, so nothing was changed; the message says which."""


class ProviderUnavailableError(StanchError):
    """The provider did not answer as it should; it may be tried again.

    Attributes:
        may_have_applied: False only when the change certainly did not reach the provider (the connection
            was refused, or the provider said that it turned the request away). True when the answer was
            lost: then the target has to be read before anything is sent again.
        retry_after: Seconds that the provider asked us to wait, if it did; ten minutes at most.
    """

    def __init__(
        self, message: str, *, may_have_applied: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.may_have_applied = may_have_applied
        self.retry_after = None if retry_after is None else min(retry_after, LONGEST_WAIT)


class NothingToProposeError(StanchError):
    """A playbook looked and has nothing to propose; the message says why."""
