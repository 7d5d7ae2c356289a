"""The whole application over the real ledger; only the engine behind it is made here."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import Field

from contracts.errors import ProviderUnavailableError
from contracts.messages import PreviewAnswer, PreviewRequest
from contracts.plans import Risk
from contracts.playbooks import Playbook, PlaybookParams
from gateway.app import build
from gateway.server import server
from runtime import settings as configuration
from runtime.settings import Settings
from tests.gateway.seed import Clock, Scene

BASE = "http://127.0.0.1"
NIGHT = datetime(2026, 3, 10, 14, 32, tzinfo=UTC)


class FakeEngine:
    """An engine that is there or not, and says what it was asked."""

    def __init__(self) -> None:
        self.away = ""
        self.asked: list[PreviewRequest] = []

    async def check(self) -> None:
        """Answer, unless it is away."""
        if self.away:
            raise ProviderUnavailableError(self.away)

    async def preview(self, request: PreviewRequest) -> PreviewAnswer:
        """Propose nothing."""
        await self.check()
        self.asked.append(request)
        return PreviewAnswer(note="nothing to propose")


class Params(PlaybookParams):
    """Parameters of the one playbook."""

    count: int = Field(1, description="How many at once.")


async def _plan(*_: object) -> None:
    """Never called: only the engine runs playbooks."""


PLAYBOOK = Playbook(
    name="restart-pods",
    summary="Restart the pods.",
    description="Restart the pods.",
    digest="5e" * 32,
    matches=(),
    risk=Risk.LOW,
    order=10,
    params=Params,
    plan=_plan,  # type: ignore[arg-type]  # its name is all that the gateway needs
)


@dataclass
class Door:
    """The application, its ledger, and clients of it."""

    scene: Scene
    settings: Settings
    engine: FakeEngine = field(default_factory=FakeEngine)
    woken: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.app: FastAPI = build(
            self.settings,
            self.scene.ledger,
            self.scene.catalogue,
            self.scene.signer,
            wake=lambda: self.woken.append(True),
            engine=self.engine,
            playbooks=(PLAYBOOK,),
            clock=self.scene.clock,
        )
        self.token = configuration.local_token(self.settings)

    def client(self, person: str = "", **headers: str) -> httpx.AsyncClient:
        """Give a client; with a person it has the token and speaks for the person."""
        if person:
            headers |= {"Authorization": f"Bearer {self.token}", "X-Stanch-Person": person}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app), base_url=BASE, headers=headers, timeout=30
        )

    async def browser(self, person: str = "ada") -> httpx.AsyncClient:
        """Give a client that is signed in as a browser is."""
        client = self.client(**{"Sec-Fetch-Site": "same-origin", "Origin": "null"})
        answer = await client.post("/signin", data={"person": person})
        assert answer.status_code == 303, answer.text
        return client

    @contextmanager
    def served(self, port: int = 0) -> Iterator[str]:
        """Serve it by the real server, on a free port unless one is given, and give its URL."""
        with socket.create_server(("127.0.0.1", port)) as listening:
            port = listening.getsockname()[1]
            program = server(self.app, host="127.0.0.1", port=port)
            thread = threading.Thread(target=program.run, kwargs={"sockets": [listening]})
            thread.start()
            while not program.started and thread.is_alive():
                time.sleep(0.01)
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                program.should_exit = True
                thread.join(10)
                assert not thread.is_alive()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the file of an empty ledger: copying it is cheaper than migrating anew."""
    folder = tmp_path_factory.mktemp("migrated")
    Scene(folder, Clock(NIGHT)).ledger.close()
    return folder / "ledger.db"


@pytest.fixture
def scene(tmp_path: Path, migrated: Path) -> Iterator[Scene]:
    """Give an empty ledger at 14:32 of a night in March."""
    shutil.copy(migrated, tmp_path / "ledger.db")
    made = Scene(tmp_path, Clock(NIGHT))
    yield made
    made.ledger.close()


@pytest.fixture
def door(scene: Scene, tmp_path: Path) -> Door:
    """Give the application over an empty ledger."""
    return Door(scene, Settings(home=tmp_path))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Door]:
    """Give an application with one open incident, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copy(migrated, folder / "ledger.db")
    made = Scene(folder, Clock(NIGHT))
    made.open_incident()
    yield Door(made, Settings(home=folder))
    made.ledger.close()


def delivery(**labels: str) -> dict[str, Any]:
    """Give an Alertmanager delivery with one firing alert."""
    every = {"alertname": "CheckoutErrors", "service": "web", "severity": "page"} | labels
    return {
        "version": "4",
        "status": "firing",
        "alerts": [
            {
                "status": "firing",
                "labels": {name: value for name, value in every.items() if value},
                "annotations": {"summary": "40 % of checkout requests fail"},
                "startsAt": "2026-03-10T14:32:00Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "fingerprint": "6134757b43cb8239",
            }
        ],
        "truncatedAlerts": 0,
    }
