"""Telling people: what the ledger has queued goes out by channels, and what came of it goes back."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from fastapi import APIRouter

from contracts.catalogue import Catalogue
from contracts.errors import ProviderUnavailableError, StanchError
from contracts.notices import Notice
from gateway.asking import READS, By
from gateway.channels import Channel, Letter
from gateway.channels.hook import Hook
from gateway.channels.mail import Mail
from gateway.dispatcher import Handler
from gateway.orders import Orders
from ledger import Ledger, OutboxMessage, ladders
from runtime.clock import utc_now
from runtime.settings import Settings

_AT_ONCE: Final = 8  # threads of their own: a channel that hangs takes none from the ledger
_PATIENCE: Final = 8.0  # seconds; less than the lease, so that no second gateway sends meanwhile


@dataclass(frozen=True, kw_only=True)
class Notifier:
    """Handles the messages of the outbox that are for people.

    Attributes:
        ledger: Where the notices are.
        catalogue: Who is on call, and where people are reached.
        channels: Kind to channel; a kind that is not there fails, and the person's next one is taken.
        base: URL of the console, for links.
        threads: In which channels send.
    """

    ledger: Ledger
    catalogue: Catalogue
    channels: Mapping[str, Channel]
    base: str
    threads: ThreadPoolExecutor

    @property
    def handlers(self) -> dict[str, Handler]:
        """Give what the dispatcher calls."""
        climb = partial(self.ledger.notices.climb, catalogue=self.catalogue)
        tell = partial(self.ledger.notices.tell, catalogue=self.catalogue)
        return {
            ladders.LADDER: lambda message: asyncio.to_thread(climb, **message.payload),
            ladders.SEND: self._send,
            ladders.TELL: lambda message: asyncio.to_thread(
                tell, message.key, message.incident, **message.payload
            ),
            ladders.HANDOFF: lambda message: asyncio.to_thread(self.ledger.handoffs.lapse, message.key),
        }

    async def _send(self, message: OutboxMessage) -> datetime | None:
        notices = self.ledger.notices
        facts: dict[str, Any] = dict(message.payload)  # what the ledger's method of this kind takes
        notice = await asyncio.to_thread(notices.outgoing, **facts)
        if notice is None:
            return None
        try:
            async with asyncio.timeout(_PATIENCE):
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self.threads, self._post, notice)
        except TimeoutError:
            error, is_final = f"no answer within {_PATIENCE:.0f} s", False
        except StanchError as failed:
            error, is_final = str(failed), not isinstance(failed, ProviderUnavailableError)
        else:
            await asyncio.to_thread(notices.sent, notice)
            return None
        return await asyncio.to_thread(notices.failed, notice, error, self.catalogue, final=is_final)

    def _post(self, notice: Notice) -> None:
        channel = self.channels.get(notice.channel)
        if channel is None:
            raise StanchError(f"the channel {notice.channel} is not set up: see docs/how-to/escalation.md")
        person = next((known for known in self.catalogue.people if known.id == notice.person), None)
        address = person.address(notice.channel) if person else None
        if address is None:
            raise StanchError(f"{notice.person} has no {notice.channel} in the catalogue any more")
        channel.send(Letter(notice, address, f"{self.base}{notice.path}"))


def notifier(
    config: Settings, ledger: Ledger, catalogue: Catalogue, *, clock: Callable[[], datetime] = utc_now
) -> Notifier:
    """Give one with the channels that the settings allow.

    Raises:
        InputError: The mail server's settings would send a password in the clear.
    """
    channels: dict[str, Channel] = {"webhook": Hook(config.webhook_secret, clock=clock)}
    if config.smtp_host:
        channels["email"] = Mail(config)
    threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="notice")
    base = config.public_url or config.url
    return Notifier(ledger=ledger, catalogue=catalogue, channels=channels, base=base, threads=threads)


def router(orders: Orders) -> APIRouter:
    """Give the routes about who was told."""
    routes = APIRouter(prefix="/v1", tags=["notices"])
    ledger = orders.ledger

    @routes.get("/approvals/{approval}/notices", dependencies=READS)
    def list_approval_notices(approval: str) -> list[Notice]:
        """List who was told of a request, by which channel, and whether it arrived and was seen."""
        ledger.approvals.get(approval)
        return ledger.notices.list(subject=approval)

    @routes.post("/approvals/{approval}/seen")
    def acknowledge_approval(approval: str, principal: By) -> list[Notice]:
        """Say that the asking person looks at it: the ladder is held for ten minutes. Gives who was told."""
        ledger.notices.seen(ledger.approvals.get(approval).request.id, principal.person)
        orders.wake()
        return ledger.notices.list(subject=approval)

    @routes.get("/incidents/{incident}/notices", dependencies=READS)
    def list_incident_notices(incident: str) -> list[Notice]:
        """List who was told of anything in an incident."""
        return ledger.notices.list(incident=ledger.incidents.get(incident).id)

    return routes
