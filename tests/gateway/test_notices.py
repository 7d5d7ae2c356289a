"""Notices on their whole way: from the change in the ledger, by the dispatcher, to who takes them."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from temporalio.client import Client

from authority.decisions import Signer
from contracts.catalogue import Catalogue, Person, Rung, Service, ServiceEnvironment
from contracts.evidence import EvidenceKind
from contracts.incidents import Severity
from contracts.notices import NoticeState
from gateway.dispatcher import Dispatcher
from gateway.notices import notifier
from ledger import Ledger
from runtime.clock import utc_now
from runtime.settings import Settings
from tests.gateway.channels.receivers import Hooks, Mailbox, hook_server, mail_server


@pytest.fixture
def box() -> Iterator[Mailbox]:
    """Give a mail server."""
    with mail_server() as made:
        yield made


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    """Give a webhook's receiver."""
    with hook_server() as made:
        yield made


def book(hooks: int) -> Catalogue:
    """Give a catalogue with one person on call, who has a webhook and an address, and one more behind."""
    return Catalogue(
        people=(
            Person(
                id="ada",
                name="Ada",
                email="ada@example.com",
                contacts={"webhook": f"http://127.0.0.1:{hooks}/ada"},
            ),
            Person(id="grace", name="Grace", contacts={"webhook": f"http://127.0.0.1:{hooks}/grace"}),
        ),
        escalation=dict.fromkeys(
            Severity,
            (Rung(notify=("on_call",)), Rung(after=timedelta(hours=1), notify=("person:grace",))),
        ),
        services=(Service(name="web", on_call=("ada",), environments={"production": ServiceEnvironment()}),),
    )


def settings(home: Path, mail: int) -> Settings:
    """Give the settings that lead to the servers."""
    return Settings(
        home=home,
        smtp_host="127.0.0.1",
        smtp_port=mail,
        smtp_tls="none",
        webhook_secret="s",  # noqa: S106  (the test's)
        public_url="https://stanch.example.com",
    )


def dispatching(
    config: Settings, ledger: Ledger, catalogue: Catalogue, clock: Callable[[], datetime]
) -> Dispatcher:
    """Give a dispatcher with nothing but people behind it."""
    return Dispatcher(
        ledger=ledger,
        client=cast("Client", None),
        catalogue=catalogue,
        signer=Signer(Ed25519PrivateKey.generate()),
        clock=clock,
        handlers=notifier(config, ledger, catalogue, clock=clock).handlers,
    )


@asynccontextmanager
async def at_work(
    home: Path, mail: int, hooks: int, clock: Callable[[], datetime] = utc_now
) -> AsyncIterator[Ledger]:
    """Give a ledger with a dispatcher at work on it."""
    config = settings(home, mail)
    ledger = Ledger.open(config.ledger_url, clock=clock)
    ledger.migrate()
    running = asyncio.create_task(dispatching(config, ledger, book(hooks), clock).run())
    yield ledger
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    ledger.close()


def declare(ledger: Ledger) -> str:
    """Open an incident that nobody commands."""
    return ledger.incidents.declare(
        title="t", service="web", environment="production", severity=Severity.SEV1, person="grace", trace={}
    ).id


async def until(look: Callable[[], object], *, within: float = 20.0) -> None:
    """Wait until something is so."""
    deadline = asyncio.get_running_loop().time() + within
    while not await asyncio.to_thread(look):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


def states(ledger: Ledger, incident: str) -> list[tuple[str, str, str]]:
    """Give who was told by what, and whether it arrived."""
    return [(one.person, one.channel, one.state) for one in ledger.notices.list(subject=incident)]


async def test_a_call_arrives(tmp_path: Path, box: Mailbox, hooks: Hooks) -> None:
    """Opening an incident calls who is on call, with a link to its page, by the first channel only."""
    async with at_work(tmp_path, box.port, hooks.port) as ledger:
        incident = declare(ledger)
        await until(lambda: states(ledger, incident) == [("ada", "webhook", NoticeState.SENT)])

    assert b"https://stanch.example.com/incidents/INC-1" in hooks.posts[0].body
    assert (len(hooks.posts), box.mails) == (1, [])


@pytest.mark.parametrize("fate", [500, "cut"])
async def test_a_hiccup(tmp_path: Path, box: Mailbox, hooks: Hooks, fate: str | int) -> None:
    """A receiver that fails once is tried again with the same id."""
    hooks.plan = [fate]
    async with at_work(tmp_path, box.port, hooks.port) as ledger:
        incident = declare(ledger)
        await until(lambda: states(ledger, incident) == [("ada", "webhook", NoticeState.SENT)])

    assert hooks.tries == 2
    assert {post.headers["idempotency-key"] for post in hooks.posts} == {f"{incident}/ada/webhook/1"}


async def test_the_other_channel_and_the_next_rung(tmp_path: Path, box: Mailbox, hooks: Hooks) -> None:
    """When webhook and mail refuse the person on call, the next rung is called an hour early."""
    hooks.plan = [404]
    box.plan = [550]
    async with at_work(tmp_path, box.port, hooks.port) as ledger:
        incident = declare(ledger)
        await until(lambda: ("grace", "webhook", NoticeState.SENT) in states(ledger, incident))
        found = states(ledger, incident)
        said = [one.summary for one in ledger.evidence.entries() if one.kind is EvidenceKind.ESCALATION]

    assert found[:2] == [("ada", "email", NoticeState.FAILED), ("ada", "webhook", NoticeState.FAILED)] or (
        found[:2] == [("ada", "webhook", NoticeState.FAILED), ("ada", "email", NoticeState.FAILED)]
    )
    assert said == [f"{incident} is unanswered: rung 2 calls grace"]


async def test_a_channel_that_is_not_set_up(tmp_path: Path, hooks: Hooks) -> None:
    """A contact by a channel that this gateway does not have is followed by the person's next one."""
    config = settings(tmp_path, 25).model_copy(update={"smtp_host": ""})
    ledger = Ledger.open(config.ledger_url, clock=utc_now)
    ledger.migrate()
    people = (
        Person(
            id="ada",
            name="Ada",
            contacts={"email": "a@x.example", "webhook": f"http://localhost:{hooks.port}"},
        ),
    )
    catalogue = book(hooks.port).model_copy(update={"people": people})
    running = asyncio.create_task(dispatching(config, ledger, catalogue, utc_now).run())
    incident = declare(ledger)
    await until(lambda: ("ada", "webhook", NoticeState.SENT) in states(ledger, incident))
    failed = next(one for one in ledger.notices.list(subject=incident) if one.channel == "email")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    ledger.close()

    assert failed.error.startswith("the channel email is not set up")


PROGRAM = """
import asyncio, sys
from pathlib import Path
from ledger import Ledger
from runtime.clock import utc_now
from tests.gateway.test_notices import book, dispatching, settings

async def main():
    config = settings(Path(sys.argv[1]), int(sys.argv[2]))
    ledger = Ledger.open(config.ledger_url, clock=utc_now)
    await dispatching(config, ledger, book(int(sys.argv[3])), utc_now).run()

asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_kill_between_sending_and_noting_it(tmp_path: Path, box: Mailbox, hooks: Hooks) -> None:
    """A gateway that is killed while a message is on its way is followed by one that sends it with its id."""
    hooks.plan = ["hang"]
    config = settings(tmp_path, box.port)
    ledger = Ledger.open(config.ledger_url, clock=utc_now)
    ledger.migrate()
    incident = declare(ledger)
    ledger.close()
    argv = [sys.executable, "-c", PROGRAM, str(tmp_path), str(box.port), str(hooks.port)]
    quiet = asyncio.subprocess.DEVNULL
    killed = await asyncio.create_subprocess_exec(*argv, cwd=Path(__file__).parents[2], stderr=quiet)
    await until(lambda: hooks.tries == 1)
    killed.kill()
    await killed.wait()

    async with at_work(
        tmp_path, box.port, hooks.port, clock=lambda: utc_now() + timedelta(seconds=30)
    ) as after:
        await until(lambda: states(after, incident) == [("ada", "webhook", NoticeState.SENT)])

    assert hooks.tries == 2
    assert [post.headers["idempotency-key"] for post in hooks.posts] == [f"{incident}/ada/webhook/1"]
