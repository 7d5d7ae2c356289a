"""Server-sent events: in order, once, resumed, honest about trouble, and ended when we stop."""

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from contracts.errors import ProviderUnavailableError
from contracts.evidence import EvidenceEntry, EvidenceKind
from gateway import live
from gateway.live import Live
from gateway.server import GRACE
from ledger.evidence import EvidenceLog
from tests.gateway.conftest import NIGHT, Door
from tests.gateway.seed import Scene


@dataclass
class Log(EvidenceLog):
    """An evidence log in memory that counts how it is read, and can be away."""

    held: list[EvidenceEntry] = field(default_factory=list)
    away: bool = False
    reads: int = 0

    def add(self, count: int, incident: str = "INC-1") -> None:
        """Append entries."""
        for _ in range(count):
            index = len(self.held)
            self.held.append(
                EvidenceEntry(
                    key=str(index),
                    kind=EvidenceKind.COMMAND,
                    incident=incident,
                    actor="ada",
                    at=NIGHT,
                    summary=f"entry {index}",
                    index=index,
                    leaf_hash="",
                )
            )

    def entries(
        self, *, incident: str | None = None, after: int = -1, limit: int = 1000
    ) -> list[EvidenceEntry]:
        """Give entries in order."""
        self.reads += 1
        if self.away:
            raise ProviderUnavailableError("ledger: gone\nevil: line")
        found = [e for e in self.held[after + 1 :] if incident in {None, e.incident}]
        return found[:limit]

    def size(self) -> int:
        """Give how many there are."""
        self.reads += 1
        if self.away:
            raise ProviderUnavailableError("ledger: gone")
        return len(self.held)


class Listener:
    """One that reads a stream."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream

    async def next(self, kind: str = "") -> str:
        """Give the next event, or the next of a kind."""
        async with asyncio.timeout(5):
            while True:
                event = (await anext(self._stream)).decode()
                if kind in event:
                    return event

    async def indexes(self, count: int) -> list[int]:
        """Give the places of the next entries."""
        events = [await self.next("event: evidence") for _ in range(count)]
        return [int(event.split("id: ")[1].split("\n")[0]) for event in events]


@pytest.fixture
def log() -> Log:
    """Give an empty log."""
    return Log()


@pytest.fixture
async def stream(log: Log) -> AsyncIterator[Live]:
    """Give a quick stream over it."""
    made = Live(log, every=0.01, beat=0.2)
    yield made
    await made.stop()


async def test_what_was_and_what_comes(log: Log, stream: Live) -> None:
    """A listener gets what it has missed and then what comes, each once and in order."""
    log.add(3)
    listener = Listener(stream.stream(incident="INC-1", after=0))
    before = await listener.indexes(2)
    log.add(2)

    assert before + await listener.indexes(2) == [1, 2, 3, 4]


async def test_a_stream_ends(log: Log) -> None:
    """After a while a listener is let go: who comes back is asked again who they are."""
    short = Live(log, every=0.01, beat=0.02, longest=0.1)
    async with asyncio.timeout(5):
        told = [event async for event in short.stream(incident=None, after=None)]
    await short.stop()

    assert told


async def test_from_now_on(log: Log, stream: Live) -> None:
    """Without a place a listener hears only what comes."""
    log.add(3)
    listener = Listener(stream.stream(incident=None, after=None))
    await listener.next()
    waiting = asyncio.create_task(listener.indexes(1))
    await asyncio.sleep(0.1)
    log.add(1)

    assert await waiting == [3]


async def test_only_its_own_incident(log: Log, stream: Live) -> None:
    """A listener of one incident hears nothing of another."""
    listener = Listener(stream.stream(incident="INC-2", after=-1))
    for incident in ("INC-1", "INC-2", "INC-1", "INC-2"):
        log.add(1, incident)

    assert await listener.indexes(2) == [1, 3]


async def test_far_behind(log: Log, stream: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is behind what is kept in memory still gets every entry once."""
    monkeypatch.setattr(live, "KEPT", 10)
    monkeypatch.setattr(live, "PAGE", 7)
    slow = Listener(stream.stream(incident=None, after=-1))
    await slow.next()
    await asyncio.sleep(0.1)  # the reader has begun at the beginning: all of it goes through memory
    quick = Listener(stream.stream(incident=None, after=-1))
    log.add(100)
    await quick.indexes(100)
    log.add(1)

    assert await slow.indexes(101) == list(range(101))


async def test_many_listeners_are_one_reader(log: Log, stream: Live) -> None:
    """A hundred listeners cost the ledger what one does, and none of them cost nothing."""
    listeners = [Listener(stream.stream(incident=None, after=None)) for _ in range(100)]
    for listener in listeners:
        await listener.next()
    waiting = [asyncio.create_task(listener.indexes(1)) for listener in listeners]
    await asyncio.sleep(0.1)
    reads = log.reads
    log.add(1)

    assert [await task for task in waiting] == [[0]] * 100
    assert log.reads - reads < 30


async def test_nobody_listens(log: Log, stream: Live) -> None:
    """The log is not read when nobody listens any more."""
    events = stream.stream(incident=None, after=None)
    await anext(events)
    await events.aclose()  # type: ignore[attr-defined]  # an async generator
    await asyncio.sleep(0.1)
    reads = log.reads
    await asyncio.sleep(0.1)

    assert log.reads == reads


async def test_heartbeats(stream: Live) -> None:
    """A silent stream says now and then that it is there."""
    listener = Listener(stream.stream(incident=None, after=-1))

    assert await listener.next(": beat") == ": beat\n\n"


async def test_trouble_and_its_end(log: Log, stream: Live) -> None:
    """Ledger trouble is an event of one line, so is its end, and nothing in between is lost."""
    listener = Listener(stream.stream(incident=None, after=-1))
    log.add(1)
    assert await listener.indexes(1) == [0]

    log.away = True
    trouble = await listener.next("event: trouble")
    log.add(1)
    log.away = False

    assert trouble.count("\n") == 3
    assert json.loads(trouble.split("data: ")[1]) == {"error": "ledger: gone\nevil: line"}
    assert "event: recovered" in await listener.next("event: recovered")
    assert await listener.indexes(1) == [1]


async def test_trouble_from_the_start(log: Log, stream: Live) -> None:
    """A listener that comes during trouble hears of it, and everything when it is over."""
    log.add(2)
    log.away = True
    listener = Listener(stream.stream(incident="INC-1", after=-1))
    await listener.next("event: trouble")
    log.away = False

    assert await listener.indexes(2) == [0, 1]


async def test_a_bug_in_reading(log: Log, stream: Live, caplog: pytest.LogCaptureFixture) -> None:
    """Even a bug of ours is trouble that ends, and it is logged once."""
    real = log.entries
    log.entries = None  # type: ignore[assignment,method-assign]
    listener = Listener(stream.stream(incident=None, after=None))
    trouble = await listener.next("event: trouble")
    await asyncio.sleep(0.1)
    log.entries = real  # type: ignore[method-assign]

    assert "internal error" in trouble
    assert len([record for record in caplog.records if record.exc_info]) == 1
    await listener.next("event: recovered")


async def test_closing_ends_every_stream(stream: Live) -> None:
    """When the server stops, no stream holds it."""
    streams = [stream.stream(incident=None, after=-1) for _ in range(3)]
    ends = [asyncio.create_task(_drain(events)) for events in streams]
    await asyncio.sleep(0.05)
    stream.close()

    async with asyncio.timeout(1):
        await asyncio.gather(*ends)


async def _drain(events: AsyncIterator[bytes]) -> None:
    async for _ in events:
        pass


@contextmanager
def listening(url: str, path: str, **headers: str) -> Iterator[http.client.HTTPResponse]:
    """Read a stream over a real socket."""
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)) as connection:
        connection.request("GET", path, headers=headers)
        yield connection.getresponse()


def places(response: http.client.HTTPResponse, count: int) -> list[int]:
    """Give the places of the next entries of a stream."""
    found: list[int] = []
    while len(found) < count:
        line = response.readline().decode()
        if line.startswith("id: "):
            found.append(int(line[4:]))
    return found


def test_over_http(door: Door, scene: Scene) -> None:
    """A browser that lost its connection goes on where it was."""
    incident = scene.tell()
    token = {"Authorization": f"Bearer {door.token}"}
    with door.served() as url:
        path = f"/v1/incidents/{incident}/events"
        with listening(url, path, **token) as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            assert response.headers["Cache-Control"] == "no-store"
            first = places(response, 3)
        with listening(url, f"{path}?after=0", **token, **{"Last-Event-ID": str(first[-1])}) as response:
            rest = places(response, 3)
            scene.clock.forward(seconds=1)
            scene.take(incident, "grace")
            everything = [entry.index for entry in scene.ledger.evidence.entries(incident=incident)]
            rest += places(response, len(everything) - 6)

            assert first + rest == everything


def test_an_open_stream_does_not_hold_the_server(door: Door, scene: Scene) -> None:
    """The server stops at once although somebody listens."""
    scene.open_incident()
    with ExitStack() as held:
        with door.served() as url:
            token = {"Authorization": f"Bearer {door.token}"}
            response = held.enter_context(listening(url, "/v1/events?after=-1", **token))
            assert places(response, 1) == [0]
            began = time.monotonic()

        assert time.monotonic() - began < GRACE - 1


def test_a_stream_needs_the_token(door: Door) -> None:
    """Nobody listens without the token or a session."""
    with door.served() as url, listening(url, "/v1/events") as response:
        assert response.status == 401
