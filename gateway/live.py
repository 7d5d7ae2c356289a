"""What happens, while it happens: server-sent events from the evidence log, one reader for all listeners."""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from contracts.errors import StanchError
from contracts.evidence import EvidenceEntry
from ledger.evidence import EvidenceLog

EVERY: Final = 0.3  # seconds: below what a person notices, far above what a query costs
BEAT: Final = 15.0  # seconds: proxies cut a silent stream after 30 or more
LONGEST: Final = 600.0  # seconds of one stream: who comes back is asked again who they are
KEPT: Final = 2_000  # entries in memory; who is further behind reads the ledger
PAGE: Final = 500

log = logging.getLogger(__name__)


@dataclass
class _Recent:
    """The newest entries: all of those after ``floor`` up to ``last``."""

    floor: int
    last: int
    entries: deque[EvidenceEntry] = field(default_factory=deque)

    def add(self, fresh: list[EvidenceEntry]) -> None:
        """Append, and let go of the oldest."""
        self.entries.extend(fresh)
        self.last = fresh[-1].index
        while len(self.entries) > KEPT:
            self.floor = self.entries.popleft().index

    def after(self, index: int, incident: str | None) -> list[EvidenceEntry]:
        """Give what came after, of one incident or of all."""
        return [
            entry
            for entry in self.entries
            if entry.index > index and (incident is None or entry.incident == incident)
        ]


@dataclass
class Live:
    """Reads the log only while somebody listens; each listener keeps only its place in it."""

    evidence: EvidenceLog
    every: float = EVERY
    beat: float = BEAT
    longest: float = LONGEST
    _listeners: int = field(default=0, init=False)
    _poller: asyncio.Task[None] | None = field(default=None, init=False)
    _recent: _Recent | None = field(default=None, init=False)
    _trouble: str = field(default="", init=False)
    _news: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _closed: bool = field(default=False, init=False)

    def close(self) -> None:
        """End every stream, so that the server can stop; call it in the event loop."""
        self._closed = True
        self._announce()

    async def stop(self) -> None:
        """End every stream and the reader, and wait for the reader."""
        self.close()
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    async def stream(self, *, incident: str | None, after: int | None) -> AsyncIterator[bytes]:
        """Give the events of one listener: entries, trouble and its end, and heartbeats; then it comes back.

        Args:
            incident: Of this incident only.
            after: The last entry that the listener has; ``None``: from now on.
        """
        self._listeners += 1
        if self._poller is None or self._poller.done():
            self._recent = None
            self._poller = asyncio.create_task(self._poll(), name="live evidence")
        try:
            yield b"retry: 1000\n\n"
            async for event in self._events(incident, after):
                yield event
        finally:
            self._listeners -= 1

    async def _events(self, incident: str | None, after: int | None) -> AsyncIterator[bytes]:
        place = after
        troubled = False
        spoke = began = time.monotonic()
        while not self._closed and time.monotonic() - began < self.longest:
            news = self._news  # taken before looking: what comes while we look is not missed
            entries: list[EvidenceEntry] = []
            if self._recent is not None and not self._trouble:
                place = self._recent.last if place is None else place
                entries, place = await self._next(self._recent, place, incident)
            if bool(self._trouble) is not troubled:
                troubled = not troubled
                yield _event("trouble" if troubled else "recovered", {"error": self._trouble})
                spoke = time.monotonic()
            for entry in entries:
                yield _event("evidence", entry.model_dump(mode="json"), entry.index)
                spoke = time.monotonic()
            if time.monotonic() - spoke >= self.beat:
                yield b": beat\n\n"
                spoke = time.monotonic()
            if not entries:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.beat):
                        await news.wait()

    async def _next(
        self, recent: _Recent, place: int, incident: str | None
    ) -> tuple[list[EvidenceEntry], int]:
        """Give the next entries after a place, and the place after them."""
        if place >= recent.floor:
            return recent.after(place, incident), max(place, recent.last)
        reached = recent.last
        try:
            page = await asyncio.to_thread(self.evidence.entries, incident=incident, after=place, limit=PAGE)
        except StanchError as error:
            self._set_trouble(str(error))
            return [], place
        last = page[-1].index if page else reached
        return page, last if len(page) == PAGE else max(reached, last)

    async def _poll(self) -> None:
        while self._listeners and not self._closed:
            try:
                await self._look()
            except StanchError as error:
                self._set_trouble(str(error))
            except Exception:
                if not self._trouble:
                    log.exception("the live timeline cannot be read")
                self._set_trouble("internal error; see the gateway's log")
            await asyncio.sleep(self.every)

    async def _look(self) -> None:
        if self._recent is None:
            last = await asyncio.to_thread(self.evidence.size) - 1
            self._recent = _Recent(floor=last, last=last)
            self._announce()
        fresh = await asyncio.to_thread(self.evidence.entries, after=self._recent.last, limit=PAGE)
        if fresh:
            self._recent.add(fresh)
        if fresh or self._trouble:
            self._trouble = ""
            self._announce()

    def _set_trouble(self, sentence: str) -> None:
        if not self._trouble:
            log.warning("live timeline: %s", json.dumps(sentence))
            self._trouble = sentence
            self._announce()

    def _announce(self) -> None:
        """Wake everybody who listens, and give the next ones an event of their own."""
        self._news.set()
        self._news = asyncio.Event()


def _event(kind: str, body: object, index: int | None = None) -> bytes:
    """Give one event; JSON without raw newlines, so no content can forge another event."""
    place = "" if index is None else f"id: {index}\n"
    return f"{place}event: {kind}\ndata: {json.dumps(body)}\n\n".encode()
