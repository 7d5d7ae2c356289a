"""The HTTP interface: who may do what, and how it says no."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from authority.seals import digest
from contracts.approvals import Approval, ApprovalState, SignedDecision
from contracts.catalogue import Rung, Team
from contracts.evidence import EvidenceKind
from contracts.incidents import Phase, Role, Severity
from ledger import ladders
from ledger.audit import verify
from tests.gateway.conftest import Door
from tests.gateway.seed import Scene

DECLARATION = {"title": "Checkout is down", "service": "web", "severity": "SEV1"}


def kinds(scene: Scene) -> list[EvidenceKind]:
    """Give what is in the log."""
    return [entry.kind for entry in scene.ledger.evidence.entries()]


async def test_declare_and_look(door: Door) -> None:
    """A declared incident is listed and shown."""
    async with door.client("linus") as client:
        declared = await client.post("/v1/incidents", json=DECLARATION)
        shown = await client.get(f"/v1/incidents/{declared.json()['id']}")
        listed = await client.get("/v1/incidents", params={"open": "true"})

    assert declared.status_code == 201
    assert declared.json()["declared_by"] == "linus"
    assert shown.json() == declared.json()
    assert listed.json() == [declared.json()]
    assert door.woken == [True]


async def test_ack_takes_command(door: Door, scene: Scene) -> None:
    """Acknowledging takes the Incident Commander's role; again changes nothing."""
    incident = scene.open_incident()
    async with door.client("ada") as client:
        first = await client.post(f"/v1/incidents/{incident}/ack")
        again = await client.post(f"/v1/incidents/{incident}/ack")

    assert first.status_code == again.status_code == 200
    assert first.json()["roles"] == {"incident_commander": "ada"}
    assert again.json() == first.json()
    assert kinds(scene).count(EvidenceKind.ROLE_ASSIGNED) == 1


async def test_ack_by_the_commander_holds_the_calls(door: Door, scene: Scene) -> None:
    """The commander of what needs a person says by acknowledging that they look at it."""
    incident = scene.open_incident()
    scene.take(incident)
    scene.record(incident, 1, Phase.TRIAGE, attention="INC-1/1 ended expired")
    async with door.client("ada") as client:
        await client.post(f"/v1/incidents/{incident}/ack")
        told = (await client.get(f"/v1/incidents/{incident}/notices")).json()

    assert [(one["subject"], one["person"], one["state"]) for one in told] == [(incident, "ada", "seen")]


async def test_one_of_many_takes_command(door: Door, scene: Scene) -> None:
    """Of two people who acknowledge at once, one commands and the other hears who."""
    incident = scene.open_incident()
    async with door.client("ada") as ada, door.client("grace") as grace:
        answers = await asyncio.gather(*(c.post(f"/v1/incidents/{incident}/ack") for c in (ada, grace) * 4))

    commander = scene.ledger.incidents.get(incident).roles[Role.INCIDENT_COMMANDER]
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [409] * 4
    refused = [answer.json()["error"] for answer in answers if answer.status_code == 409]
    assert all(commander in sentence for sentence in refused)


async def test_handing_over(door: Door, scene: Scene) -> None:
    """The commander offers the role to somebody on call, who accepts it; from then on it is theirs alone."""
    incident = scene.open_incident()
    scene.take(incident)
    request = scene.ask(incident)
    path = f"/v1/incidents/{incident}/handoff"
    async with door.client("ada") as client, door.client("grace") as grace:
        offered = await client.post(path, json={"person": "grace"})
        between = await client.get(f"/v1/incidents/{incident}")
        mine = await client.post(f"{path}/accept", json={})
        handed = await grace.post(f"{path}/accept", json={})
        late = await client.post(f"/v1/incidents/{incident}/resolve", json={"reason": "over"})
        approve = {"verdict": "approve", "plan_digest": request.plan_digest}
        old = await client.post(f"/v1/approvals/{request.id}/decision", json=approve)
        new = await grace.post(f"/v1/approvals/{request.id}/decision", json=approve)
        listed = await grace.get(f"/v1/incidents/{incident}/handoffs")

    assert offered.json()["packet"]["pending"][0]["id"] == request.id
    assert between.json()["roles"] == {"incident_commander": "ada"}
    assert (mine.status_code, handed.status_code) == (403, 200)
    assert (old.status_code, new.status_code) == (403, 200)
    assert [one["state"] for one in listed.json()] == ["accepted"]
    assert (late.status_code, late.json()["error"]) == (
        403,
        f"{incident}: only the Incident Commander (grace) may do this, not ada",
    )


async def test_accepting_one_of_two_roles(door: Door, scene: Scene) -> None:
    """Who is not on call any more cannot accept command, and still the other role that is offered."""
    incident = scene.open_incident()
    scene.take(incident)
    for role in (Role.INCIDENT_COMMANDER, Role.TECHNICAL_LEAD):
        scene.ledger.handoffs.offer(scene.ledger.incidents.get(incident), role, "linus", by="ada")
    path = f"/v1/incidents/{incident}/handoff/accept"
    async with door.client("linus") as client:
        command = await client.post(path, json={"role": "incident_commander"})
        lead = await client.post(path, json={"role": "technical_lead"})

    assert (command.status_code, lead.status_code) == (403, 200)
    assert scene.ledger.incidents.get(incident).roles == {
        Role.INCIDENT_COMMANDER: "ada",
        Role.TECHNICAL_LEAD: "linus",
    }


async def test_who_is_called_takes_over(door: Door, scene: Scene) -> None:
    """Whom the ladder has called takes command from who cannot be reached, on call or not; nobody before."""
    team = Team(name="shop", members=("ada", "linus"))
    rung = Rung(after=timedelta(minutes=10), notify=("team:shop",))
    ladder = {Severity.SEV2: (Rung(notify=("on_call",)), rung)}
    catalogue = scene.catalogue.model_copy(update={"teams": (team,), "escalation": ladder})
    incident = scene.open_incident()
    scene.take(incident)
    request = scene.ask(incident)
    path, order = f"/v1/incidents/{incident}/take-over", {"holder": "ada", "reason": "no answer"}
    async with door.client("linus") as client:
        scene.ledger.notices.climb(request.id, 0, catalogue)
        early = await client.post(path, json=order)
        scene.clock.forward(minutes=10)
        scene.ledger.notices.climb(request.id, 0, catalogue)
        called = await client.post(path, json=order)

    assert (early.status_code, called.status_code) == (403, 200)
    assert called.json()["roles"] == {"incident_commander": "linus"}


async def test_who_takes_command_of_what_waits_looks_at_it(door: Door, scene: Scene) -> None:
    """Nobody else is called for a while when somebody has just taken command, in whatever way."""
    incident = scene.open_incident()
    scene.record(incident, 1, Phase.TRIAGE, attention="no mitigation to propose: nothing fits")
    path, over = f"/v1/incidents/{incident}", {"holder": "ada", "reason": "no answer"}
    told = []
    async with door.client("ada") as ada, door.client("grace") as grace:
        for client, way, order in (
            (ada, "/ack", {}),
            (grace, "/take-over", over),
            (grace, "/handoff", {"person": "ada"}),
            (ada, "/handoff/accept", {}),
        ):
            scene.clock.forward(minutes=1)
            assert (await client.post(path + way, json=order)).is_success
            seen = [one for one in scene.ledger.notices.list(subject=incident) if one.seen_at]
            told.append([one.person for one in seen])

    assert told == [["ada"], ["ada", "grace"], ["ada", "grace"], ["ada", "grace"]]


ASSIGNMENTS = [
    ("ada", "technical_lead", "linus", 200),
    ("linus", "scribe", "linus", 200),
    ("grace", "technical_lead", "grace", 200),
    ("linus", "technical_lead", "linus", 403),
    ("linus", "scribe", "grace", 403),
    ("grace", "incident_commander", "grace", 409),
    ("linus", "incident_commander", "linus", 403),
    ("grace", "incident_commander", "linus", 403),
    ("ada", "incident_commander", "linus", 403),
    ("ada", "incident_commander", "grace", 403),
    ("ada", "technical_lead", "mallory", 403),
    ("ada", "king", "ada", 422),
]


@pytest.mark.parametrize(("person", "role", "chosen", "status"), ASSIGNMENTS)
async def test_roles(door: Door, scene: Scene, *, person: str, role: str, chosen: str, status: int) -> None:
    """The commander hands out roles; others take only what is nobody's decision; on call comes first."""
    incident = scene.open_incident()
    scene.take(incident)
    async with door.client(person) as client:
        answer = await client.post(f"/v1/incidents/{incident}/roles", json={"role": role, "person": chosen})

    assert answer.status_code == status, answer.text


async def test_the_technical_lead_is_not_passed_on(door: Door, scene: Scene) -> None:
    """Who may say the second yes is on call, or comes from the Incident Commander: from nobody else."""
    incident = scene.open_incident()
    scene.take(incident)
    scene.ledger.incidents.assign(incident, Role.TECHNICAL_LEAD, "grace", by="ada")
    order = {"person": "linus", "role": "technical_lead"}
    async with door.client("grace") as grace, door.client("ada") as ada, door.client("linus") as linus:
        passed_on = await grace.post(f"/v1/incidents/{incident}/handoff", json=order)
        offered = await ada.post(f"/v1/incidents/{incident}/handoff", json=order)
        accepted = await linus.post(f"/v1/incidents/{incident}/handoff/accept", json={})

    assert [one.status_code for one in (passed_on, offered, accepted)] == [403, 201, 200]


OFFERS = [
    ("ada", {"person": "grace"}, 201),
    ("ada", {"person": "linus", "role": "technical_lead"}, 201),
    ("ada", {"person": "linus"}, 403),
    ("ada", {"person": "mallory"}, 403),
    ("grace", {"person": "grace"}, 403),
    ("linus", {"person": "linus", "role": "scribe"}, 403),
    ("ada", {"person": "ada"}, 409),
    ("ada", {"person": "grace", "role": "king"}, 422),
    ("ada", {}, 422),
]


@pytest.mark.parametrize(("person", "order", "status"), OFFERS)
async def test_offers(door: Door, scene: Scene, *, person: str, order: dict[str, str], status: int) -> None:
    """A role is offered by who holds it or commands, to somebody who may have it."""
    incident = scene.open_incident()
    scene.take(incident)
    async with door.client(person) as client:
        answer = await client.post(f"/v1/incidents/{incident}/handoff", json=order)

    assert answer.status_code == status, answer.text


async def test_taking_over(door: Door, scene: Scene) -> None:
    """Somebody on call takes command from who cannot be reached: with a reason, once, and the other hears."""
    incident = scene.open_incident()
    scene.take(incident)
    path = f"/v1/incidents/{incident}/take-over"
    order = {"holder": "ada", "reason": "no answer for ten minutes"}
    async with door.client("grace") as grace, door.client("linus") as linus:
        stranger = await linus.post(path, json=order)
        wrong = await grace.post(path, json=order | {"holder": "linus"})
        silent = await grace.post(path, json=order | {"reason": " "})
        taken = await grace.post(path, json=order)
        again = await grace.post(path, json=order)

    assert [one.status_code for one in (stranger, wrong, silent)] == [403, 409, 422]
    assert taken.json()["roles"] == again.json()["roles"] == {"incident_commander": "grace"}
    sentence = "grace takes command; until now ada had it: no answer for ten minutes"
    assert scene.ledger.evidence.entries(incident=incident)[-1].summary == sentence
    told = [one for one in scene.ledger.outbox.claim(100, timedelta(seconds=9)) if one.kind == ladders.TELL]
    assert [one.payload for one in told] == [{"whom": ["person:ada"], "text": sentence}]


async def test_who_was_told(door: Door, scene: Scene) -> None:
    """Who was told of a request is listed; saying that one looks is an order, and looking is none."""
    incident = scene.open_incident()
    scene.take(incident)
    request = scene.ask(incident)
    scene.ledger.notices.climb(request.id, 0, scene.catalogue)
    path = f"/v1/approvals/{request.id}"
    async with door.client("ada") as client:
        await client.get(path)
        before = await client.get(f"{path}/notices")
        seen = await client.post(f"{path}/seen")
        after = await client.get(f"{path}/notices")
        all_of_it = await client.get(f"/v1/incidents/{incident}/notices")
        nothing = await client.post("/v1/approvals/APR-99/seen")

    states = [[(one["person"], one["state"]) for one in answer.json()] for answer in (before, after)]
    assert states == [[("ada", "sent"), ("grace", "sent")], [("ada", "seen"), ("grace", "sent")]]
    assert (seen.json(), nothing.status_code) == (after.json(), 404)
    assert all_of_it.json() == after.json()


async def test_orders(door: Door, scene: Scene) -> None:
    """The commander changes the severity, asks for another plan and resolves; each is sent on."""
    incident = scene.open_incident()
    scene.take(incident)
    before = scene.ledger.outbox.backlog()
    async with door.client("ada") as client:
        worse = await client.post(
            f"/v1/incidents/{incident}/severity", json={"severity": "SEV1", "reason": "all regions"}
        )
        for order in ("replan", "resolve"):
            answer = await client.post(f"/v1/incidents/{incident}/{order}", json={"reason": "told"})
            assert answer.status_code == 200, answer.text

    assert worse.json()["severity"] == "SEV1"
    assert scene.ledger.outbox.backlog() == before + 4  # the ladder looks again, too
    assert len(door.woken) == 3


WISH = {"reason": "the graph", "playbook": "restart-pods", "params": {"count": "2"}}


@pytest.mark.parametrize(
    ("role", "person"), [(Role.INCIDENT_COMMANDER, "ada"), (Role.TECHNICAL_LEAD, "linus")]
)
async def test_asking_for_a_playbook(door: Door, scene: Scene, role: Role, person: str) -> None:
    """The commander or the technical lead asks for a playbook by name; the log says who, which and how."""
    incident = scene.open_incident()
    scene.ledger.incidents.assign(incident, role, person, by=person)
    async with door.client(person) as client:
        answer = await client.post(f"/v1/incidents/{incident}/replan", json=WISH)

    assert answer.status_code == 200, answer.text
    [entry] = [one for one in scene.ledger.evidence.entries() if one.kind is EvidenceKind.COMMAND]
    assert entry.summary == f"{person} orders replan with restart-pods (count 2): the graph"
    assert (entry.body["playbook"], entry.body["params"]) == ("restart-pods", {"count": 2})


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("replan", {"playbook": "nope"}, 404, "no playbook is called 'nope'; there is restart-pods"),
    (
        "replan",
        {"params": {"count": "many"}},
        422,
        "parameters of restart-pods: count: Input should be a valid integer",
    ),
    (
        "replan",
        {"params": {"much": 1}},
        422,
        "parameters of restart-pods: much: Extra inputs are not permitted",
    ),
    ("replan", {"params": {"much": "x" * 3000}}, 422, "give parameters of at most 2000 printable characters"),
    ("replan", {"params": {"much": "\0"}}, 422, "give parameters of at most 2000 printable characters"),
    ("replan", {"playbook": ""}, 422, "parameters belong to a playbook"),
    ("resolve", {}, 422, "playbook: Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("order", "change", "status", "sentence"), REFUSED, ids=range(len(REFUSED)))
async def test_a_wish_that_cannot_be(
    door: Door, scene: Scene, *, order: str, change: dict[str, Any], status: int, sentence: str
) -> None:
    """An unknown playbook or parameter gets one sentence, and nothing has started."""
    incident = scene.open_incident()
    scene.take(incident)
    async with door.client("ada") as client:
        answer = await client.post(f"/v1/incidents/{incident}/{order}", json=WISH | change)

    assert answer.status_code == status
    assert answer.json()["error"].startswith(sentence)
    assert EvidenceKind.COMMAND not in kinds(scene)


@pytest.mark.parametrize("count", ["12345678901234567890123", "NaN", "-1e999"])
async def test_a_number_that_is_none(door: Door, scene: Scene, count: str) -> None:
    """A number that no two readers would read alike is said to be that."""
    incident = scene.open_incident()
    scene.take(incident)
    body = json.dumps(WISH | {"params": {"count": "N"}}).replace('"N"', count)
    async with door.client("ada") as client:
        answer = await client.post(
            f"/v1/incidents/{incident}/replan", content=body, headers={"Content-Type": "application/json"}
        )

    said = {"error": "parameter 'count' is a number that is too large, or none"}
    assert (answer.status_code, answer.json()) == (422, said)


async def test_the_technical_lead_only_asks(door: Door, scene: Scene) -> None:
    """Whoever else has no command: the technical lead neither resolves nor asks without a playbook."""
    incident = scene.open_incident()
    scene.ledger.incidents.assign(incident, Role.TECHNICAL_LEAD, "linus", by="linus")
    async with door.client("linus") as lead, door.client("grace") as grace:
        answers = [
            await lead.post(f"/v1/incidents/{incident}/replan", json={"reason": "told"}),
            await lead.post(f"/v1/incidents/{incident}/resolve", json={"reason": "told"}),
            await grace.post(f"/v1/incidents/{incident}/replan", json=WISH),
        ]

    assert [answer.status_code for answer in answers] == [403] * 3


async def test_declaring_in_a_region(door: Door) -> None:
    """A region of the service is taken; another one is refused with those that there are."""
    async with door.client("linus") as client:
        declared = await client.post("/v1/incidents", json=DECLARATION | {"region": "eu"})
        unknown = await client.post("/v1/incidents", json=DECLARATION | {"region": "mars"})

    assert declared.json()["region"] == "eu"
    assert unknown.json()["error"] == (
        "service web in production has no region 'mars' in the catalogue; it has eu, us"
    )


async def test_a_repeated_order_is_one(door: Door, scene: Scene) -> None:
    """With an Idempotency-Key, a retry of an order is the same order."""
    incident = scene.open_incident()
    scene.take(incident)
    async with door.client("ada", **{"Idempotency-Key": "k1"}) as client:
        for _ in range(3):
            await client.post(f"/v1/incidents/{incident}/replan", json={"reason": "told"})

    assert kinds(scene).count(EvidenceKind.COMMAND) == 1


async def test_approving(door: Door, scene: Scene) -> None:
    """The commander's yes is signed, stored and in the log; again gives the same decision."""
    incident = scene.tell()
    [request] = scene.ledger.approvals.list(ApprovalState.PENDING)
    body = {"verdict": "approve", "plan_digest": request.plan_digest, "reason": "the youngest change"}
    async with door.client("ada") as client:
        shown = Approval.model_validate((await client.get(f"/v1/approvals/{request.id}")).json())
        first = await client.post(f"/v1/approvals/{request.id}/decision", json=body)
        again = await client.post(f"/v1/approvals/{request.id}/decision", json=body)
        listed = await client.get("/v1/approvals", params={"state": "approved", "incident": incident})

    assert digest(shown.plan) == request.plan_digest
    signed = SignedDecision.model_validate(first.json())
    assert (signed.decision.person, signed.decision.authenticated_by) == ("ada", "local")
    assert again.json() == first.json()
    assert [item["id"] for item in listed.json()] == ["APR-2", "APR-1"]


@pytest.mark.parametrize("more", [{"break_glass": True}, {"overrides": ["freeze"]}, {"steps": [1]}])
async def test_a_no_is_only_a_no(door: Door, scene: Scene, more: dict[str, Any]) -> None:
    """A rejection breaks no glass, sets no guardrail aside and is of the whole plan."""
    scene.tell()
    request = scene.ledger.approvals.list(ApprovalState.PENDING)[0]
    body = {"verdict": "reject", "plan_digest": request.plan_digest, "reason": "wait"}
    async with door.client("ada") as client:
        answer = await client.post(f"/v1/approvals/{request.id}/decision", json=body | more)

    assert "a rejection is of the whole plan" in answer.json()["error"]
    assert scene.ledger.approvals.get(request.id).request.state is ApprovalState.PENDING


async def test_two_answers(door: Door, scene: Scene) -> None:
    """Whoever is second hears who was first and what was said."""
    scene.tell()
    request = scene.ledger.approvals.list(ApprovalState.PENDING)[0]
    body = {"plan_digest": request.plan_digest}
    async with door.client("ada") as client:
        await client.post(
            f"/v1/approvals/{request.id}/decision", json=body | {"verdict": "reject", "reason": "wait"}
        )
        late = await client.post(f"/v1/approvals/{request.id}/decision", json=body | {"verdict": "approve"})

    assert late.status_code == 409
    assert late.json()["error"].startswith(f"{request.id} was rejected by ada at ")


DECISIONS: list[tuple[str, dict[str, Any], int, str]] = [
    ("grace", {}, 403, "INC-1: only the Incident Commander (ada) decides, not grace"),
    ("mallory", {}, 403, "'mallory' is not in the service catalogue's people"),
    ("ada", {"plan_digest": "0" * 64}, 409, "APR-2 is about plan"),
    ("ada", {"verdict": "reject"}, 422, "give a reason to reject"),
    ("ada", {"verdict": "reject", "reason": " \n"}, 422, "give a reason to reject"),
    ("ada", {"verdict": "maybe"}, 422, "verdict: Input should be 'approve' or 'reject'"),
    ("ada", {"force": True}, 422, "force: Extra inputs are not permitted"),
    ("ada", {"reason": "x" * 2001}, 422, "reason: String should have at most 2000 characters"),
]


@pytest.mark.parametrize(("person", "change", "status", "sentence"), DECISIONS)
async def test_decisions_that_do_not_count(
    door: Door, scene: Scene, *, person: str, change: dict[str, Any], status: int, sentence: str
) -> None:
    """A wrong person, plan or word decides nothing, and says why."""
    scene.tell()
    request = scene.ledger.approvals.list(ApprovalState.PENDING)[0]
    body = {"verdict": "approve", "plan_digest": request.plan_digest} | change
    async with door.client(person) as client:
        answer = await client.post(f"/v1/approvals/{request.id}/decision", json=body)

    assert answer.status_code == status
    assert answer.json()["error"].startswith(sentence)
    assert scene.ledger.approvals.get(request.id).request.state is ApprovalState.PENDING


async def test_an_expired_plan(door: Door, scene: Scene) -> None:
    """After its time a plan cannot be approved any more, and the attempt is evidence."""
    scene.tell()
    request = scene.ledger.approvals.list(ApprovalState.PENDING)[0]
    scene.clock.at = request.expires_at
    async with door.client("ada") as client:
        answer = await client.post(
            f"/v1/approvals/{request.id}/decision",
            json={"verdict": "approve", "plan_digest": request.plan_digest},
        )

    assert answer.status_code == 409
    assert "expired at" in answer.json()["error"]
    assert EvidenceKind.DECISION_REFUSED in kinds(scene)


async def test_who_declares_does_not_approve(door: Door, scene: Scene) -> None:
    """Nobody approves the plan of an incident that they declared themselves."""
    async with door.client("ada") as client:
        incident = (await client.post("/v1/incidents", json=DECLARATION)).json()["id"]
        await client.post(f"/v1/incidents/{incident}/ack")
        request = scene.ask(incident)
        answer = await client.post(
            f"/v1/approvals/{request.id}/decision",
            json={"verdict": "approve", "plan_digest": request.plan_digest},
        )

    assert answer.status_code == 403
    assert "was declared by ada, who cannot approve its plans" in answer.json()["error"]


WRONG: list[tuple[str, str, Any, int, str]] = [
    (
        "POST",
        "/v1/incidents",
        DECLARATION | {"service": "nope"},
        422,
        "service 'nope' is not in the service catalogue",
    ),
    (
        "POST",
        "/v1/incidents",
        DECLARATION | {"environment": "moon"},
        422,
        "service web has no environment 'moon'",
    ),
    ("POST", "/v1/incidents", DECLARATION | {"title": "  "}, 422, "give a title"),
    ("POST", "/v1/incidents", DECLARATION | {"severity": "bad"}, 422, "severity: Input should be"),
    ("POST", "/v1/incidents", {}, 422, "title: Field required"),
    ("POST", "/v1/incidents", [], 422, "body: Input should be a valid dictionary"),
    ("GET", "/v1/incidents/INC-99", None, 404, "INC-99: not found"),
    ("GET", "/v1/incidents/x%0Ay", None, 404, "x y: not found"),
    ("GET", "/v1/incidents/INC-1/postmortem", None, 404, "INC-1 has no postmortem yet"),
    ("GET", "/v1/incidents/INC-99/evidence", None, 404, "INC-99: not found"),
    ("GET", "/v1/incidents/INC-99/events", None, 404, "INC-99: not found"),
    ("GET", "/v1/incidents/INC-1/evidence?after=x", None, 422, "after: Input should be a valid integer"),
    ("GET", "/v1/incidents?limit=100000", None, 422, "limit: Input should be less than or equal to 1000"),
    ("GET", "/v1/approvals?state=odd", None, 422, "state: Input should be"),
    ("GET", "/v1/approvals/APR-99", None, 404, "APR-99: not found"),
    ("POST", "/v1/incidents/INC-1/resolve", {"reason": "over"}, 403, "INC-1 has no Incident Commander yet"),
    ("POST", "/v1/incidents/INC-1/resolve", {"reason": ""}, 422, "give a reason"),
    ("POST", "/v1/incidents/INC-99/ack", None, 404, "INC-99: not found"),
    ("DELETE", "/v1/incidents/INC-1", None, 405, "DELETE is not for this address"),
    ("GET", "/v1/nothing", None, 404, "there is nothing at this address"),
    (
        "POST",
        "/v1/playbooks/nope/plan",
        {"service": "web"},
        404,
        "no playbook is called 'nope'; there is restart-pods",
    ),
    ("POST", "/v1/playbooks/restart-pods/plan", {"service": "x"}, 422, "the service catalogue has no 'x'"),
    (
        "POST",
        "/v1/playbooks/restart-pods/plan",
        {"service": "web", "params": {"count": "many"}},
        422,
        "parameters of restart-pods: count: Input should be a valid integer",
    ),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "sentence"), WRONG, ids=range(len(WRONG)))
async def test_wrong_requests(
    shared: Door, *, method: str, path: str, body: object, status: int, sentence: str
) -> None:
    """Each wrong request gets its status and one sentence."""
    async with shared.client("ada") as client:
        answer = await client.request(method, path, json=body)

    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith(sentence)


async def test_broken_json(door: Door) -> None:
    """A body that is no JSON is a 400."""
    async with door.client("ada") as client:
        answer = await client.post(
            "/v1/incidents", content=b"{", headers={"Content-Type": "application/json"}
        )

    assert (answer.status_code, answer.json()) == (400, {"error": "the body is not JSON"})


async def test_a_closed_incident(door: Door, scene: Scene) -> None:
    """What is resolved takes no orders any more."""
    incident = scene.open_incident()
    scene.take(incident)
    scene.record(incident, 1, Phase.RESOLVED)
    async with door.client("ada") as client:
        answers = [
            await client.post(f"/v1/incidents/{incident}/{order}", json={"reason": "x", "severity": "SEV1"})
            for order in ("ack", "severity")
        ]

    assert [answer.status_code for answer in answers] == [409, 409]
    assert answers[0].json()["error"] == f"{incident} is resolved: nothing about it can be ordered any more"


async def test_reading_needs_the_token_too(door: Door, scene: Scene) -> None:
    """Nothing is read through the API without the token or a session."""
    incident = scene.open_incident()
    paths = ["/v1/incidents", f"/v1/incidents/{incident}", "/v1/approvals", "/v1/playbooks", "/v1/events"]
    async with door.client() as client:
        answers = [await client.get(path) for path in paths]

    assert {answer.status_code for answer in answers} == {401}


async def test_a_browser_reads_the_api_and_orders_nothing(door: Door, scene: Scene) -> None:
    """A session may read, but every order through the API needs the token."""
    incident = scene.open_incident()
    browser = await door.browser()
    read = await browser.get(f"/v1/incidents/{incident}/evidence")
    order = await browser.post(f"/v1/incidents/{incident}/ack", headers={"X-Stanch-Person": "ada"})

    assert (read.status_code, order.status_code) == (200, 401)


async def test_evidence_in_pages(door: Door, scene: Scene) -> None:
    """The log is read on from where one was."""
    incident = scene.tell()
    async with door.client("ada") as client:
        everything = (await client.get(f"/v1/incidents/{incident}/evidence")).json()
        after = everything[3]["index"]
        rest = (await client.get(f"/v1/incidents/{incident}/evidence", params={"after": after})).json()

    assert rest == everything[4:]
    assert (
        len(everything) == scene.ledger.evidence.size() - 1
    )  # one entry is of the delivery, before the incident


async def test_a_postmortem_is_markdown(door: Door, scene: Scene) -> None:
    """The postmortem is given as it was written."""
    incident = scene.open_incident()
    scene.ledger.postmortems.write(incident, "# It broke <b>\n")
    async with door.client("ada") as client:
        answer = await client.get(f"/v1/incidents/{incident}/postmortem")

    assert answer.text == "# It broke <b>\n"
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"


async def test_playbooks_and_previews(door: Door) -> None:
    """Playbooks are listed with their parameters; a preview asks the engine about an imagined incident."""
    async with door.client("ada") as client:
        listed = (await client.get("/v1/playbooks")).json()
        answer = await client.post(
            "/v1/playbooks/restart-pods/plan",
            json={"service": "web", "severity": "SEV2", "signal": "error_rate", "params": {"count": 2}},
        )

    assert [(book["name"], book["risk"]) for book in listed] == [("restart-pods", "low")]
    assert listed[0]["params"]["properties"]["count"]["default"] == 1
    assert answer.json() == {"plan": None, "note": "nothing to propose"}
    [asked] = door.engine.asked
    assert (asked.incident.service, asked.incident.signals) == ("web", ("error_rate",))
    assert (asked.incident.severity, asked.params) == (Severity.SEV2, {"count": 2})


async def test_a_preview_without_the_engine(door: Door) -> None:
    """Without the engine a preview is not available now."""
    door.engine.away = "the engine does not answer"
    async with door.client("ada") as client:
        answer = await client.post("/v1/playbooks/restart-pods/plan", json={"service": "web"})

    assert (answer.status_code, answer.json()) == (503, {"error": "the engine does not answer"})


async def test_everything_said_is_in_a_whole_log(door: Door, scene: Scene) -> None:
    """After orders and decisions the evidence log still verifies."""
    incident = scene.open_incident()
    request = scene.ask(incident)
    answer = {"verdict": "approve", "plan_digest": request.plan_digest}
    async with door.client("ada") as client:
        await client.post(f"/v1/approvals/{request.id}/decision", json=answer)
        await client.post(f"/v1/incidents/{incident}/ack")
        await client.post(f"/v1/approvals/{request.id}/decision", json=answer)
        await client.post(f"/v1/incidents/{incident}/severity", json={"severity": "SEV1", "reason": "worse"})

    report = verify(scene.ledger, scene.verifier)

    assert (report.problems, report.decisions) == ((), 1)
    assert report.entries == scene.ledger.evidence.size()
