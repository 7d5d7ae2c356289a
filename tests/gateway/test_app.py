"""The application as a whole: health, headers, the contract, and that looking changes nothing."""

import asyncio
import logging
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ProviderUnavailableError
from contracts.incidents import Phase
from gateway import edge
from gateway.edge import HEADERS, LARGEST_ORDER
from ledger import database
from tests.gateway.conftest import Door
from tests.gateway.seed import Scene

CSP = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PARAMETERS = {
    "source": "alertmanager",
    "incident": "INC-1",
    "approval": "APR-2",
    "subject": "APR-2",
    "name": "console.css",
    "version": "x",
    "kind": "replan",
    "token": "TOK-1",
    "freeze": "FRZ-1",
    "grant": "GRT-1",
    "number": "1",
    "order": "undo",
    "answer": "accept",
    "service": "web",
    "environment": "production",
}


def paths(door: Door, method: str) -> list[str]:
    """Give every path of a method, with its parameters filled in; streams, which never end, left out."""
    found = [
        re.sub(r"{(\w+)}", lambda match: PARAMETERS[match[1]], path)
        for path, methods in _routes(door.app.routes)
        if method in methods
    ]
    return sorted(path for path in found if not path.endswith("/events"))


def _routes(routes: Any) -> list[tuple[str, set[str]]]:
    found = []
    for route in routes:
        if hasattr(route, "path") and getattr(route, "methods", None):
            found.append((route.path, route.methods))
        elif inner := getattr(route, "original_router", None):
            found += _routes(inner.routes)
    return found


def dump(scene: Scene) -> list[str]:
    """Give all that the ledger holds, as text."""
    with scene.ledger.database.read() as connection:
        raw = connection.connection.driver_connection
        return list(raw.iterdump())  # type: ignore[union-attr]  # SQLite's own


async def test_alive(door: Door) -> None:
    """The process says that it runs, without asking anything else."""
    async with door.client() as client:
        answer = await client.get("/livez")

    assert (answer.status_code, answer.json()) == (200, {"alive": True})


async def test_ready(door: Door) -> None:
    """With ledger and engine all is well."""
    async with door.client() as client:
        answer = await client.get("/readyz")

    good = {"ok": True, "detail": ""}
    assert (answer.status_code, answer.json()) == (
        200,
        {"ready": True, "dependencies": {"ledger": good, "engine": good}},
    )


async def test_ready_without_the_engine(door: Door) -> None:
    """Without the engine alerts and decisions are still taken: ready, and the answer says what is away."""
    door.engine.away = "the engine does not answer"
    async with door.client() as client:
        answer = await client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json()["dependencies"]["engine"] == {"ok": False, "detail": "the engine does not answer"}


async def test_not_ready_without_the_ledger(
    door: Door, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the ledger nothing can be taken."""

    def gone() -> None:
        raise ProviderUnavailableError("ledger: gone")

    monkeypatch.setattr(scene.ledger, "check", gone)
    async with door.client() as client:
        answer = await client.get("/readyz")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["ready"] is False


async def test_not_ready_while_nothing_can_be_written(
    door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A ledger that can be read but not written is not ready, and the log says so once."""
    least = database.LEAST_FREE
    async with door.client() as client:
        monkeypatch.setattr(database, "LEAST_FREE", 1 << 62)
        full = [await client.get("/readyz") for _ in range(3)]
        monkeypatch.setattr(database, "LEAST_FREE", least)
        well = await client.get("/readyz")

    assert ([one.status_code for one in full], well.status_code) == ([503, 503, 503], 200)
    assert "MiB are free on its disk" in full[0].json()["dependencies"]["ledger"]["detail"]
    said = [(one.levelname, one.message) for one in caplog.records if one.message.startswith("ledger: ")]
    assert [level for level, _ in said] == ["ERROR"]
    assert "MiB are free on its disk" in said[0][1]


async def test_metrics(door: Door, scene: Scene) -> None:
    """What is scraped tells of waiting decisions, open incidents, the backlog and the log's size."""
    scene.tell()
    scene.open_incident(service="pay", fingerprint="other", severity="SEV1")
    async with door.client() as client:
        text = (await client.get("/metrics")).text
        again = (await client.get("/metrics")).text

    size = scene.ledger.evidence.size()
    backlog = scene.ledger.outbox.backlog()
    for line in (
        "stanch_ledger_up 1.0",
        "stanch_approvals_pending 1.0",
        "stanch_approval_oldest_seconds 40.0",
        'stanch_incidents_open{severity="SEV1"} 1.0',
        'stanch_incidents_open{severity="SEV2"} 1.0',
        'stanch_incidents_open{severity="SEV3"} 0.0',
        'stanch_approval_wait_seconds_bucket{le="120",severity="SEV2"} 0.0',
        'stanch_approval_wait_seconds_bucket{le="300",severity="SEV2"} 1.0',
        'stanch_approval_wait_seconds_sum{severity="SEV2"} 220.0',
        'stanch_approval_wait_seconds_count{severity="SEV1"} 0.0',
        'stanch_approval_answer_seconds_count{person="ada"} 1.0',
        'stanch_approval_answer_seconds_sum{person="ada"} 220.0',
        f"stanch_outbox_backlog {backlog:.1f}",
        f"stanch_evidence_entries {size:.1f}",
    ):
        assert line in text.splitlines()
    assert 'stanch_http_request_seconds_count{method="GET",route="/metrics",status="200"} 1.0' in again


async def test_metrics_without_the_ledger(door: Door, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape during ledger trouble still answers, and says so."""

    def gone() -> int:
        raise ProviderUnavailableError("ledger: gone")

    monkeypatch.setattr(scene.ledger.outbox, "backlog", gone)
    async with door.client() as client:
        answer = await client.get("/metrics")

    assert answer.status_code == 200
    assert "stanch_ledger_up 0.0" in answer.text.splitlines()


async def test_every_answer_has_the_headers(door: Door, scene: Scene) -> None:
    """No answer, whatever its status, goes without the security headers."""
    scene.tell()
    browser = await door.browser()
    answers = [await browser.get(path) for path in [*paths(door, "GET"), "/nothing", "/v1/nothing"]]
    answers += [await browser.get("/", headers={"Host": "evil.example"}), await browser.post("/signout")]

    assert HEADERS["Content-Security-Policy"] == CSP
    for answer in answers:
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, answer.url
    cached = [str(a.url) for a in answers if a.headers["cache-control"] != "no-store"]
    assert all("/static/" in url or "favicon" in url for url in cached)


async def test_looking_changes_nothing(door: Door, scene: Scene) -> None:
    """No GET of any route changes one byte of the ledger, or wakes anybody."""
    scene.tell()
    browser = await door.browser()
    before = dump(scene)
    looked = paths(door, "GET")
    statuses = {path: (await browser.get(path)).status_code for path in looked}

    assert dump(scene) == before
    assert door.woken == []
    assert len(looked) >= 22
    assert set(statuses.values()) == {200, 401, 404}
    assert statuses["/v1/tokens"] == 401
    assert list(statuses.values()).count(200) >= 20


async def test_nothing_is_ordered_by_looking(door: Door, scene: Scene) -> None:
    """What changes something does not answer to GET at all."""
    scene.tell()
    browser = await door.browser()
    only_post = set(paths(door, "POST")) - set(paths(door, "GET"))
    statuses = {path: (await browser.get(path)).status_code for path in only_post}

    assert set(statuses.values()) == {405}


HOSTS = [
    "evil.example",
    "evil.example:8420",
    "localhost.evil.example",
    "0.0.0.0",
    "10.0.0.1:8420",
    "",
    "[::2]:80",
]


@pytest.mark.parametrize("host", HOSTS)
async def test_a_rebound_name(shared: Door, host: str) -> None:
    """A page whose own name points at us reads nothing and orders nothing."""
    async with shared.client("ada", Host=host) as client:
        answers = [
            await client.get("/v1/incidents"),
            await client.post("/v1/incidents/INC-1/ack"),
            await client.get("/signin"),
            await client.get("/status"),
        ]

    assert {answer.status_code for answer in answers} == {403}
    assert "INC-1" not in "".join(answer.text for answer in answers)


@pytest.mark.parametrize("host", ["127.0.0.1:8420", "localhost:8420", "localhost", "[::1]:8420"])
async def test_our_own_names(shared: Door, host: str) -> None:
    """The names of this machine are answered."""
    async with shared.client("ada", Host=host) as client:
        answer = await client.get("/v1/incidents")

    assert answer.status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
async def test_no_page_of_another_site_orders_anything(door: Door, scene: Scene, site: str) -> None:
    """Whatever a browser sends on behalf of another page changes nothing, alerts included."""
    scene.tell()
    before = dump(scene)
    async with door.client("ada", **{"Sec-Fetch-Site": site}) as client:
        answers = [await client.post(path, json={}) for path in paths(door, "POST")]

    assert {answer.status_code for answer in answers} == {403}
    assert dump(scene) == before


@pytest.mark.parametrize("size", [LARGEST_ORDER + 1, 20 * LARGEST_ORDER])
async def test_an_order_has_a_size(door: Door, scene: Scene, size: int) -> None:
    """A stranger makes us hold no more than an order's size, and nothing of it is kept."""
    before, taken = dump(scene), 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(0, size, 1024):
            taken += 1024
            yield b"x" * min(1024, size)

    async with door.client() as client:
        answer = await client.post("/v1/approvals/APR-1/decision", content=body())

    assert answer.status_code == 413
    assert answer.json()["error"] == "an order has at most 65536 bytes: say it in fewer words"
    assert taken <= 5 * LARGEST_ORDER
    assert dump(scene) == before


async def test_an_order_that_does_not_come_is_given_up(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that holds back its body is told so; it does not hold the gateway."""
    monkeypatch.setattr(edge, "READ_WITHIN", 0.05)

    async def held_back() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    async with door.client() as client:
        answer = await client.post("/v1/approvals/APR-1/decision", content=held_back())

    assert (answer.status_code, "did not arrive" in answer.json()["error"]) == (408, True)
    assert answer.headers["connection"] == "close"


def test_who_only_looks_need_send_no_body(door: Door) -> None:
    """A GET that says that a body comes is answered without it, and the connection does not stay."""
    with door.served() as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=8) as caller:
            caller.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n")
            answer = b"".join(iter(lambda: caller.recv(4096), b""))

    assert answer.startswith(b"HTTP/1.1 200 OK")


async def test_a_bug_shows_no_trace(
    door: Door, scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug of ours is an answer with a reference, and the trace is in the log under it."""

    def bug(**_: object) -> None:
        raise KeyError("secret detail")

    monkeypatch.setattr(scene.ledger.incidents, "list", bug)
    caplog.set_level(logging.CRITICAL)
    async with door.client("ada") as client:
        answer = await client.get("/v1/incidents")
        page = await (await door.browser()).get("/")

    assert answer.status_code == page.status_code == 500
    match = re.fullmatch(
        r'\{"error":"internal error; see the gateway\'s log, reference ([0-9a-f]{12})"\}', answer.text
    )
    assert match
    for text in (answer.text, page.text):
        assert "secret" not in text
        assert "Traceback" not in text
    assert page.headers["content-type"].startswith("text/html")


async def test_errors_of_pages_are_pages(door: Door) -> None:
    """A person gets a page that says what went wrong; a program gets JSON."""
    browser = await door.browser()
    page = await browser.get("/incidents/INC-9")
    program = await browser.get("/v1/incidents/INC-9")

    assert "INC-9: not found" in page.text
    assert page.headers["content-type"].startswith("text/html")
    assert program.json() == {"error": "INC-9: not found"}


@pytest.mark.parametrize(
    ("path", "back"),
    [
        ("/incidents/INC-9", "/"),
        ("/incidents/INC-9/roles", "/incidents/INC-9"),
        ("/approvals/APR-9/decision", "/approvals/APR-9"),
        ("/grants", "/grants"),
        ("/mitigations/INC-9/1/extend", "/mitigations"),
        ("/readiness/web/nowhere/run", "/readiness"),
        ("/tokens/TOK-9/revoke", "/tokens"),
        ("/grantsx", "/"),
    ],
)
async def test_the_way_back(door: Door, path: str, back: str) -> None:
    """From a refusal one goes back to the page of its form, and so does who has to sign in first."""
    browser = await door.browser()
    refused = await browser.post(path, data={"token": "x"})
    async with door.client(**{"Sec-Fetch-Site": "same-origin", "Origin": "null"}) as stranger:
        away = await stranger.post(path, data={"token": "x"})

    assert refused.is_client_error
    assert f'<a href="{back}">' in refused.text
    assert away.headers.get("location", f"/signin?after={back}") == f"/signin?after={back}"


@pytest.mark.parametrize("path", ["/incidents/INC-1/", "/grants/", "/v1/incidents/", "/status/"])
async def test_no_address_leads_elsewhere(door: Door, scene: Scene, path: str) -> None:
    """A slash too many is no redirect to an address that is made of the Host header."""
    scene.open_incident()
    answer = await (await door.browser()).get(path)

    assert (answer.status_code, answer.headers.get("location")) == (404, None)


async def test_no_documentation_page(door: Door) -> None:
    """There are no pages that load scripts from elsewhere."""
    async with door.client() as client:
        statuses = [(await client.get(path)).status_code for path in ("/docs", "/redoc")]

    assert statuses == [404, 404]


async def test_the_contract(door: Door) -> None:
    """The OpenAPI document names every route of the API once, and each reference in it leads somewhere."""
    async with door.client() as client:
        document = (await client.get("/openapi.json")).json()

    assert document["openapi"].startswith("3.")
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names)) >= 23
    for operation in operations:
        assert operation["summary"]
        assert {"4XX", "5XX"} <= operation["responses"].keys()
    references = set(re.findall(r"'#/components/schemas/(\w+)'", str(document)))
    assert references <= document["components"]["schemas"].keys()
    assert "HTTPValidationError" not in references
    assert not any(path.startswith(("/signin", "/incidents", "/status")) for path in document["paths"])


async def test_a_status_page_for_everybody(door: Door, scene: Scene) -> None:
    """The public page says what is wrong, and no name, no service, no plan."""
    incident = scene.tell()
    scene.record(scene.open_incident(service="pay", fingerprint="p"), 1, Phase.RESOLVED)
    async with door.client() as client:
        page = (await client.get("/status")).text

    assert "1 problem we are working on" in page
    assert "Partial outage" in page
    for internal in (incident, "Ada", "ada", "web", "new-recommendations", "restart", "SEV2", "alertmanager"):
        assert internal not in re.sub(r"<head>.*</head>", "", page, flags=re.DOTALL), internal


def test_what_the_gateway_starts_with() -> None:
    """Nothing but the dispatcher's side knows the engine's SDK."""
    folder = Path(__file__).parent.parent.parent / "gateway"
    allowed = {"dispatcher.py", "serve.py", "temporal_engine.py"}
    knowing = {file.name for file in folder.rglob("*.py") if "temporalio" in file.read_text()}

    assert knowing <= allowed
