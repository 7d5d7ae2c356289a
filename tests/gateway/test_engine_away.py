"""The gateway while there is no engine: alerts are taken, readiness says what is away, nothing ends."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from authority.decisions import Signer
from contracts.catalogue import Catalogue
from contracts.errors import ProviderUnavailableError
from contracts.incidents import Alert
from contracts.messages import PreviewRequest
from gateway import serve
from gateway.temporal_engine import TemporalEngine
from ledger import Ledger
from runtime import engine, settings, temporal
from runtime.clock import utc_now
from runtime.settings import Settings


async def test_dispatcher_waits_for_an_engine_that_was_never_there(tmp_path: Path) -> None:
    """Without an engine the incident is in the ledger, its message is kept, and the dispatcher goes on."""
    config = Settings(home=tmp_path, temporal_address=f"127.0.0.1:{engine.free_port()}")
    ledger = Ledger.open(config.ledger_url, clock=utc_now)
    ledger.migrate()
    client = await temporal.connect(config, lazy=True)
    signer = Signer(settings.signing_key(config))
    dispatcher = serve.dispatcher(config, ledger=ledger, client=client, catalogue=Catalogue(), signer=signer)
    alert = Alert(
        source="t", fingerprint="f", starts_at=datetime(2026, 1, 1, tzinfo=UTC), name="E", service="s"
    )
    ledger.inbox.accept("t", b"{}", [alert], trace={})
    running = asyncio.create_task(dispatcher.run())
    dispatcher.wake()
    await asyncio.sleep(1.5)
    ended = running.done()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    backlog, incidents = ledger.outbox.backlog(), ledger.incidents.list()
    ledger.close()

    assert not ended
    assert backlog == 1
    assert [incident.service for incident in incidents] == ["s"]


async def test_engine_that_is_away_is_unavailable(tmp_path: Path) -> None:
    """Readiness and previews say that the engine does not answer, as something to try again."""
    config = Settings(home=tmp_path, temporal_address=f"127.0.0.1:{engine.free_port()}")
    away = TemporalEngine(await temporal.connect(config, lazy=True))
    ledger = Ledger.open(config.ledger_url, clock=utc_now)
    ledger.migrate()
    ledger.inbox.accept(
        "t", b"{}", [Alert(source="t", fingerprint="f", starts_at=utc_now(), name="E", service="s")], trace={}
    )
    ledger.inbox.dispatch()
    incident = ledger.incidents.list()[0]
    ledger.close()

    with pytest.raises(ProviderUnavailableError, match="does not answer"):
        await away.check()
    with pytest.raises(ProviderUnavailableError, match="does not answer"):
        await away.preview(PreviewRequest(playbook="disable-flag", incident=incident))
