"""Readiness and readings over HTTP and on their pages: in words, with drawings, and never by colour alone."""

from datetime import timedelta

import httpx
import pytest

from contracts.base import JsonObject
from contracts.plans import Reading
from contracts.readiness import CheckState, Readiness, ReadinessCheck, ReadinessLook
from contracts.watches import SignalNow
from gateway.drawing import sparkline, strip, tally
from tests.gateway.conftest import Door
from tests.gateway.seed import Clock, Scene, verification
from tests.gateway.test_console import look, send

AT = "/v1/readiness/web/production"


async def read(browser: httpx.AsyncClient, path: str) -> str:
    """Give a page's source, its white space made plain."""
    answer = await browser.get(path)
    assert answer.status_code == 200, answer.text
    return " ".join(answer.text.split())


def found(state: CheckState, detail: str = "") -> Readiness:
    """Give what a look found."""
    check = ReadinessCheck(name="lag", target="aws:global_cluster/main/shop", state=state, detail=detail)
    return Readiness(checks=(check,))


@pytest.fixture
def looked(scene: Scene) -> Scene:
    """Give a failover that was ready twice, and is not any more."""
    for state, detail in ((CheckState.OK, ""), (CheckState.OK, ""), (CheckState.NOT_READY, "<b>9 s</b>")):
        scene.ledger.readiness.record("web", "production", found(state, detail), ["ada"])
        scene.clock.forward(minutes=30)
    return scene


@pytest.mark.usefixtures("looked")
async def test_list_and_show(door: Door) -> None:
    """Each failover of the catalogue is listed; one is shown with its history, oldest first."""
    async with door.client("linus") as client:
        (listed,) = (await client.get("/v1/readiness")).json()
        shown = (await client.get(AT)).json()
        short = (await client.get(AT, params={"limit": 1})).json()
        missing = await client.get("/v1/readiness/pay/production")

    assert (listed["service"], listed["state"], listed["history"]) == ("web", "not_ready", [])
    assert [one["state"] for one in shown["history"]] == ["ok", "ok", "not_ready"]
    assert [one["state"] for one in short["history"]] == ["not_ready"]
    assert (shown["at"], shown["since"]) == (shown["history"][2]["at"], shown["history"][2]["at"])
    assert missing.status_code == 404
    assert missing.json() == {"error": "'pay' has no failover in 'production' in the service catalogue"}


async def test_nobody_has_looked_yet(door: Door, scene: Scene) -> None:
    """A failover that nobody has looked at is not known to be ready, and says so."""
    scene.tell()
    async with door.client("linus") as client:
        (listed,) = (await client.get("/v1/readiness")).json()
    page = await read(await door.browser("linus"), "/readiness")

    assert (listed["state"], listed["at"]) == ("unknown", None)
    assert "nobody has looked yet" in page


async def test_have_it_looked_at_now(door: Door, looked: Scene) -> None:
    """Whoever is signed in may have it looked at now; who is not may not, and looking orders nothing."""
    async with door.client("linus") as client:
        before = (await client.get(AT)).json()["next_at"]
        answer = await client.post(f"{AT}/run")
        missing = await client.post("/v1/readiness/web/nowhere/run")
        due = (await client.get(AT)).json()["next_at"]
    async with door.client("") as stranger:
        refused = await stranger.post(f"{AT}/run")

    assert (before, answer.status_code, missing.status_code, refused.status_code) == (None, 202, 404, 401)
    assert due is not None
    assert [one.item for one in looked.ledger.watches.claim(9, timedelta(minutes=1))] == [
        "readiness/web/production"
    ]


@pytest.mark.usefixtures("looked")
async def test_the_page(door: Door) -> None:
    """The page says the state, since when, the checks and the history, and what a check says stays text."""
    page = await read(await door.browser("linus"), "/readiness")

    assert "web · production" in page
    assert "not ready" in page
    assert "of 3 looks 2 ready, 1 not ready" in page
    assert '<rect class="not_ready"' in page
    assert "&lt;b&gt;9 s&lt;/b&gt;" in page
    assert '<a href="/readiness">Readiness</a>' in page


async def test_the_page_says_that_a_look_was_asked_for(door: Door, looked: Scene) -> None:
    """Who presses the button sees that it is on its way, and then when the next look is due."""
    browser = await door.browser("linus")
    before = await look(browser, "/readiness")
    await send(browser, before.form("/readiness/web/production/run"))
    asked = await look(browser, "/readiness")
    looked.ledger.watches.claim(9, timedelta(minutes=1))
    after = await look(browser, "/readiness")

    assert "as soon as a worker can" not in before.text
    assert "It is looked at as soon as a worker can." in asked.text
    assert f"Next look at {looked.clock() + timedelta(minutes=1):%H:%M:%S} UTC." in after.text


async def test_the_reading_now_beside_a_plan(door: Door, scene: Scene) -> None:
    """While a plan waits, its page and its route say how the signal is now, and how it was when sealed."""
    scene.tell()
    browser = await door.browser()
    empty = await read(browser, "/approvals/APR-2")
    item = "question/APR-2/1"
    readings = [Reading(value=value, at=scene.clock()) for value in (41.0, None, 0.25)]
    state: JsonObject = {"healthy_since": scene.clock().isoformat(), "recovered": True}
    scene.ledger.watches.keep(item, readings, state)
    scene.clock.forward(seconds=4)
    page = await read(browser, "/approvals/APR-2")
    async with door.client("linus") as client:
        (seen,) = (await client.get("/v1/approvals/APR-2/readings")).json()

    assert "No reading yet" in empty
    assert "now 0.25 %" in page
    assert "(4 s ago)" in page
    assert "when sealed 41.7 %, unhealthy" in page
    assert "the problem may be over" in page
    assert "error_rate: 3 readings between 0.25 % and 41 %" in page
    assert [one["value"] for one in seen["readings"]] == [41.0, None, 0.25]
    assert seen["recovered"]


@pytest.mark.parametrize("values", [[None], [1.0], [1.0, 1.0], [None, 5.0, None], [-1e300, 1e300]])
def test_every_history_can_be_drawn(scene: Scene, values: list[float | None]) -> None:
    """No data, one reading and flat lines have a drawing too, and names from outside stay text."""
    clock: Clock = scene.clock
    rule = verification(clock).model_copy(update={"signal": '"><script>'})
    now = SignalNow(
        step=1, verification=rule, readings=tuple(Reading(value=one, at=clock()) for one in values)
    )

    assert "<script>" not in sparkline(now)
    assert "nan" not in sparkline(now)


def test_a_history_in_words(scene: Scene) -> None:
    """The strip is said in words, and what was not ready stands out by its height too."""
    states = [CheckState.OK, CheckState.UNKNOWN, CheckState.NOT_READY]
    history = [ReadinessLook(at=scene.clock(), state=state) for state in states]

    assert tally(history) == "of 3 looks 1 ready, 1 not ready, 1 not known"
    assert [part.split('"')[0] for part in str(strip(history)).split('height="')[1:]] == ["6", "12", "20"]
