"""API tokens: made on a page by a person for themselves, used for orders, and ended."""

import re
from datetime import timedelta
from pathlib import Path

import httpx

from contracts.approvals import ApprovalState
from contracts.identities import Scope, TokenOrder
from contracts.plans import Risk
from ledger.identities import is_token
from runtime.settings import Settings
from tests.gateway.conftest import Door, delivery
from tests.gateway.seed import Scene, plan
from tests.gateway.test_console import look, send


def holder(door: Door, *scopes: Scope, person: str | None = "ada") -> httpx.AsyncClient:
    """Give a client with a new API token."""
    order = TokenOrder(name="laptop", person=person, scopes=scopes, lasts=timedelta(days=1))
    _, secret = door.scene.ledger.tokens.create(order, by="operator")
    return door.client(Authorization=f"Bearer {secret}")


async def test_making_and_ending_one(door: Door) -> None:
    """A person makes a token on the page, sees it once, uses it and revokes it."""
    browser = await door.browser()
    form = (await look(browser, "/tokens")).form("/tokens", name="laptop", days="30")
    form[1]["scope-read"] = "on"
    made = await send(browser, form)
    secret = re.findall(r'<pre id="secret" tabindex="0">(\w+)</pre>', made.text)[0]
    async with door.client(Authorization=f"Bearer {secret}") as program:
        read = await program.get("/v1/incidents")
        ordered = await program.post("/v1/incidents", json={})
        page = await look(browser, "/tokens")
        await send(browser, page.form("/tokens/TOK-1/revoke"))
        after = await program.get("/v1/incidents")

    assert is_token(secret)
    assert [one.status_code for one in (read, ordered, after)] == [200, 403, 401]
    assert secret not in page.text
    assert "last used just now" in " ".join(page.text.split())
    assert "Revoked by ada" in (await browser.get("/tokens")).text
    assert after.json() == {"error": "TOK-1 was revoked by ada: use another API token"}


async def test_a_new_one_needs_a_fresh_sign_in(door: Door, scene: Scene) -> None:
    """What outlives the session is not made with a session that somebody found open."""
    browser = await door.browser()
    form = (await look(browser, "/tokens")).form("/tokens", name="laptop", days="30")
    form[1]["scope-read"] = "on"
    scene.clock.forward(minutes=15)
    page = await look(browser, "/tokens")
    answer = await send(browser, form)

    assert (answer.status_code, answer.headers["location"]) == (303, "/signin?after=/tokens&fresh=1")
    assert "needs a fresh sign-in" in page.text
    assert scene.ledger.tokens.list() == []


async def test_what_nobody_makes_for_themselves(door: Door, scene: Scene) -> None:
    """Scopes of machines and of who looks after tokens, no scope, no name and a long life are refused."""
    browser = await door.browser()
    action, fields = (await look(browser, "/tokens")).form("/tokens", name="laptop", days="30")
    wrong = [
        {},
        {"scope-admin": "on"},
        {"scope-alerts": "on"},
        {"scope-read": "on", "days": "4000"},
        {"scope-read": "on", "days": "x"},
        {"scope-read": "on", "days": "9" * 30},
        {"scope-read": "on", "name": ""},
    ]
    answers = [await send(browser, (action, fields | change)) for change in wrong]
    forged = await send(browser, (action, fields | {"scope-read": "on", "token": "x"}))

    assert {answer.status_code for answer in answers} == {422}
    assert forged.status_code == 403
    assert scene.ledger.tokens.list() == []


async def test_anothers_token_is_not_found(door: Door, scene: Scene) -> None:
    """Nobody sees or ends another's token on the page."""
    holder(door, Scope.READ)
    browser = await door.browser("grace")
    page = await look(browser, "/tokens")
    answer = await send(browser, ("/tokens/TOK-1/revoke", page.form("/tokens")[1]))

    assert ("TOK-1" in page.text, answer.status_code) == (False, 404)
    assert scene.ledger.tokens.list()[0].revoked_at is None


async def test_who_looks_after_them(door: Door, scene: Scene) -> None:
    """With the scope admin everybody's tokens are listed and ended, and nothing else is done."""
    holder(door, Scope.READ, person="grace")
    async with holder(door, Scope.ADMIN, person=None) as scanner, holder(door, Scope.COMMAND) as other:
        listed = await scanner.get("/v1/tokens")
        ended = await scanner.post("/v1/tokens/TOK-1/revoke")
        refused = [
            await scanner.get("/v1/incidents"),
            await scanner.post("/v1/incidents/INC-1/ack"),
            await other.get("/v1/tokens"),
            await other.post("/v1/tokens/TOK-1/revoke"),
        ]

    assert [one["id"] for one in listed.json()] == ["TOK-3", "TOK-2", "TOK-1"]
    assert "secret" not in listed.text
    assert (ended.json()["revoked_by"], scene.ledger.tokens.list("grace")[0].revoked_by) == ("TOK-2", "TOK-2")
    assert {one.status_code for one in refused} == {403}


async def test_deciding_with_a_token(door: Door, scene: Scene) -> None:
    """A decision by token says so; one of high risk needs the scope for it."""
    incident = scene.open_incident()
    scene.take(incident)
    step = plan(scene.clock, incident, 1).steps[0].model_copy(update={"risk": Risk.HIGH})
    request = scene.ask(incident, 1, steps=(step,))
    order = {"verdict": "approve", "plan_digest": request.plan_digest}
    path = f"/v1/approvals/{request.id}/decision"
    async with (
        holder(door, Scope.READ) as reads,
        holder(door, Scope.APPROVE) as low,
        holder(door, Scope.APPROVE_HIGH) as high,
    ):
        answers = [await one.post(path, json=order) for one in (reads, low, high)]

    assert [answer.status_code for answer in answers] == [403, 403, 200], answers[-1].text
    assert "needs the scope approve:high" in answers[1].json()["error"]
    signed = scene.ledger.approvals.get(request.id).request.signed
    assert signed is not None
    assert (signed.decision.person, signed.decision.authenticated_by) == ("ada", "token")
    refused = [entry.summary for entry in scene.ledger.evidence.entries() if "refused/" in entry.key]
    assert len(refused) == 2


async def test_high_risk_in_local_mode(door: Door, scene: Scene) -> None:
    """Local mode asks for the name again too; rejecting needs no fresh sign-in."""
    incident = scene.open_incident()
    scene.take(incident)
    step = plan(scene.clock, incident, 1).steps[0].model_copy(update={"risk": Risk.HIGH})
    changes = {"steps": (step,), "expires_at": scene.clock() + timedelta(hours=1)}
    request = scene.ask(incident, 1, **changes)
    browser = await door.browser()
    action = f"/approvals/{request.id}/decision"
    form = (await look(browser, f"/approvals/{request.id}")).form(action, verdict="approve", reason="")
    scene.clock.forward(minutes=15)
    late = await send(browser, form)
    stale = await look(browser, f"/approvals/{request.id}")
    again = await browser.post("/signin", data={"person": "ada", "after": f"/approvals/{request.id}"})
    fresh = (await look(browser, again.headers["location"])).form(action, verdict="approve", reason="")
    approved = await send(browser, fresh)

    where = f"/signin?after=/approvals/{request.id}&fresh=1"
    assert (late.status_code, late.headers["location"]) == (303, where)
    assert "Sign in again to approve" in stale.text
    assert stale.form(action, verdict="reject")
    assert approved.status_code == 303
    assert scene.ledger.approvals.get(request.id).request.state is ApprovalState.APPROVED


async def test_a_machine_delivers_alerts(scene: Scene, tmp_path: Path) -> None:
    """Where alert sources must show a token, one of the scope will do, and no other."""
    door = Door(scene, Settings(home=tmp_path, alert_token="s3cret"))  # noqa: S106  (a test's)
    async with holder(door, Scope.ALERTS, person=None) as machine, holder(door, Scope.READ) as reader:
        answers = [await one.post("/v1/alerts/alertmanager", json=delivery()) for one in (machine, reader)]

    assert [answer.status_code for answer in answers] == [200, 403]
    assert scene.ledger.tokens.list()[-1].used_at == scene.clock()
