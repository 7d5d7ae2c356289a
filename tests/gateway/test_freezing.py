"""The freeze through the front door: who may set and lift it, and that everybody sees it."""

import httpx
import pytest

from contracts.evidence import EvidenceKind
from tests.gateway.conftest import Door
from tests.gateway.test_console import look, send

FREEZES = "/v1/freezes"


async def freeze(door: Door, person: str, **order: str) -> httpx.Response:
    """Ask for a freeze."""
    return await door.client(person).post(FREEZES, json={"reason": "checkout is odd"} | order)


async def lift(door: Door, person: str, which: str = "FRZ-1", reason: str = "over") -> httpx.Response:
    """Ask for its end."""
    return await door.client(person).post(f"{FREEZES}/{which}/lift", json={"reason": reason})


async def test_anybody_freezes(door: Door) -> None:
    """Whoever is signed in stops all changes; a repeat gives the freeze that stands."""
    first, again = await freeze(door, "linus"), await freeze(door, "linus")

    assert (first.status_code, first.json()["id"], first.json()["person"]) == (201, "FRZ-1", "linus")
    assert again.json() == first.json()
    assert (await door.client("ada").get(FREEZES)).json() == [first.json()]


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"reason": " "}, "give a reason"),
        ({"service": "wbe"}, "service 'wbe' is not in the service catalogue"),
        ({"servcie": "web"}, "servcie: Extra inputs are not permitted"),
    ],
)
async def test_what_cannot_be_frozen(door: Door, order: dict[str, str], said: str) -> None:
    """A freeze without a reason, or of a service that is none, is refused with a sentence."""
    answer = await freeze(door, "ada", **order)

    assert answer.status_code == 422
    assert said in answer.json()["error"]


async def test_who_lifts(door: Door) -> None:
    """Who set it lifts it, and who commands an open incident that it stops; nobody else does."""
    incident = door.scene.open_incident()
    await freeze(door, "linus", service="web")
    refused = await lift(door, "ada")
    door.scene.take(incident)

    assert refused.status_code == 403
    assert refused.json() == {
        "error": "FRZ-1 was set by linus: linus lifts it, or who commands an open incident of web"
    }
    assert (await lift(door, "ada", reason=" ")).status_code == 422
    assert (await lift(door, "ada")).json()["lifted_by"] == "ada"
    assert (await lift(door, "linus")).status_code == 409
    await freeze(door, "linus")
    assert (await lift(door, "linus", "FRZ-2")).json()["lifted_by"] == "linus"
    assert (await lift(door, "linus", "FRZ-9")).status_code == 404


async def test_the_commander_of_another_service(door: Door) -> None:
    """Who commands an incident of one service does not lift a freeze of another."""
    door.scene.take(door.scene.open_incident(service="web"))
    door.scene.ledger.freezes.set(service="other", reason="odd", person="linus")

    assert (await lift(door, "ada")).status_code == 403


async def test_a_freeze_needs_somebody(door: Door) -> None:
    """Without a token nobody sees or sets one."""
    for answer in (
        await door.client().get(FREEZES),
        await door.client().post(FREEZES, json={"reason": "x"}),
        await door.client().get("/v1/locks"),
    ):
        assert answer.status_code == 401


async def test_the_console(door: Door) -> None:
    """Every page has the button, then the banner, and the form that ends it; hostile text stays text."""
    incident = door.scene.open_incident()
    browser = await door.browser("ada")
    page = await look(browser, f"/incidents/{incident}")
    await send(browser, page.form("/freezes", reason="<b>odd</b>"))

    for path in ("/", f"/incidents/{incident}"):
        page = await look(browser, path)
        assert "All changes are stopped." in page.text
        assert "Ada Lovelace, just now: <b>odd</b>" in page.text
    page = await look(browser, "/")
    await send(browser, page.form("/freezes/FRZ-1/lift", reason="over"))
    assert "All changes are stopped." not in (await look(browser, "/")).text
    kinds = [entry.kind for entry in door.scene.ledger.evidence.entries()]
    assert kinds.count(EvidenceKind.FREEZE) == 2


async def test_strangers_do_not_see_it(door: Door) -> None:
    """The public page says nothing of a freeze."""
    await freeze(door, "ada")

    assert "odd" not in (await look(door.client(), "/status")).text


async def test_metrics(door: Door) -> None:
    """An alert rule can tell that changes are stopped."""
    assert 'stanch_frozen{service="*"} 0.0' in (await door.client().get("/metrics")).text
    await freeze(door, "ada", service="web")
    await freeze(door, "ada")

    text = (await door.client().get("/metrics")).text
    assert 'stanch_frozen{service="*"} 1.0' in text
    assert 'stanch_frozen{service="web"} 1.0' in text
