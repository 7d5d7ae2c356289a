"""Ways to a person: each channel is one small class that sends one notice, or says refused or unavailable."""

from dataclasses import dataclass
from typing import Protocol

from contracts.notices import Notice


@dataclass(frozen=True)
class Letter:
    """A notice on its way to one address.

    Attributes:
        address: Where the channel reaches the person, from the catalogue.
        link: The page of the console that shows what it is about; opening it decides nothing.
    """

    notice: Notice
    address: str
    link: str


class Channel(Protocol):
    """Sends letters; called in a thread, and within seconds it is done or gives up."""

    def send(self, letter: Letter) -> None:
        """Send it. It may come twice with the same ``letter.notice.id``, which every channel passes on.

        Raises:
            ActionRefusedError: It will not arrive, however often it is tried.
            ProviderUnavailableError: It may be tried again.
        """
