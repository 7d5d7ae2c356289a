"""The console without JavaScript: pages, forms, and what hostile text cannot do in them."""

import asyncio
import hashlib
import re
from html.parser import HTMLParser

import httpx
import pytest

from authority.seals import digest
from contracts.approvals import ApprovalState
from contracts.evidence import EvidenceKind
from contracts.incidents import Effect, Phase, Role, Severity
from contracts.plans import Difference, Plan
from gateway.forms import own_path
from tests.gateway.conftest import Door
from tests.gateway.seed import Scene, plan


class Page(HTMLParser):
    """A page as a browser without scripts sees it: elements, forms, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.forms: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element, and a form's hidden fields."""
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag == "form":
            self.forms.append((attributes["action"], {}))
        if tag == "input" and attributes.get("type") == "hidden":
            self.forms[-1][1][attributes["name"]] = attributes["value"]

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += data

    def form(self, action: str, **fields: str) -> tuple[str, dict[str, str]]:
        """Give a form's action and fields, filled in; of several, the one that has these hidden values."""
        for found, hidden in self.forms:
            if found == action and all(hidden.get(name, value) == value for name, value in fields.items()):
                return found, hidden | fields
        raise AssertionError(f"no form for {action} with {fields} in {self.forms}")


async def look(browser: httpx.AsyncClient, path: str) -> Page:
    """Open a page."""
    answer = await browser.get(path)
    assert answer.status_code == 200, answer.text
    return Page(answer.text)


async def send(
    browser: httpx.AsyncClient, form: tuple[str, dict[str, str]], **headers: str
) -> httpx.Response:
    """Send a form."""
    return await browser.post(form[0], data=form[1], headers=headers)


async def test_pages_need_a_session(door: Door, scene: Scene) -> None:
    """Who is not signed in is sent to sign in, and afterwards back."""
    incident = scene.open_incident()
    async with door.client() as stranger:
        answer = await stranger.get(f"/incidents/{incident}")
        page = await look(stranger, answer.headers["location"])

    assert (answer.status_code, answer.headers["location"]) == (303, f"/signin?after=/incidents/{incident}")
    assert "proves nothing" in page.text
    assert page.form("/signin")[1] == {"after": f"/incidents/{incident}"}


async def test_a_handoff_by_forms(door: Door, scene: Scene) -> None:
    """Command is offered by a form; the other sees what there is to know, and accepts by another one."""
    incident = scene.open_incident()
    scene.take(incident)
    request = scene.ask(incident)
    path = f"/incidents/{incident}"
    ada, grace = await door.browser("ada"), await door.browser("grace")
    page = await look(ada, path)
    form = page.form(f"{path}/roles")
    offered = await send(ada, (form[0], form[1] | {"role": "incident_commander", "person": "grace"}))
    page = await look(ada, path)
    assert page.form(f"{path}/handoff/withdraw")
    between = scene.ledger.incidents.get(incident).roles
    page = await look(grace, path)
    assert page.text.index("Ada Lovelace offers you to be Incident Commander.") < page.text.index(
        "Decision needed"
    )
    accepted = await send(grace, page.form(f"{path}/handoff/accept"))
    forged = await send(grace, (f"{path}/handoff/accept", {"token": "x"}))

    assert (offered.status_code, accepted.status_code, forged.status_code) == (303, 303, 403)
    assert f"{request.id} Restart the pods of web" in page.text
    assert between == {Role.INCIDENT_COMMANDER: "ada"}
    assert scene.ledger.incidents.get(incident).roles == {Role.INCIDENT_COMMANDER: "grace"}
    taken = (await look(ada, path)).form(f"{path}/take-over")
    back = await send(ada, (taken[0], taken[1] | {"reason": "grace sleeps"}))
    assert back.status_code == 303
    assert scene.ledger.incidents.get(incident).roles == {Role.INCIDENT_COMMANDER: "ada"}


async def test_who_was_told_of_a_question(door: Door, scene: Scene) -> None:
    """The page says who was told, by what, and whether it was seen: by a form, as a page changes nothing."""
    incident = scene.open_incident()
    scene.take(incident)
    request = scene.ask(incident)
    scene.ledger.notices.climb(request.id, 0, scene.catalogue)
    ada = await door.browser("ada")
    before = await look(ada, f"/approvals/{request.id}")
    seen = await send(ada, before.form(f"/approvals/{request.id}/seen"))
    after = await look(ada, f"/approvals/{request.id}")
    stale = await send(ada, (f"/approvals/{request.id}/seen", {"token": "x"}))

    told = " ".join(before.text.split())
    assert "Ada Lovelace on the console: told, not seen yet, just now" in told
    assert "Ada Lovelace on the console: seen just now" in " ".join(after.text.split())
    assert (seen.status_code, stale.status_code) == (303, 403)


async def test_who_looks_at_an_incident_that_waits(door: Door, scene: Scene) -> None:
    """The page of what needs a person says who looks at it, so that nobody else is called meanwhile."""
    incident = scene.open_incident()
    scene.take(incident)
    scene.record(incident, 1, Phase.TRIAGE, attention="INC-1/1 ended expired")
    ada = await door.browser("ada")
    page = await look(ada, f"/incidents/{incident}")
    seen = await send(ada, page.form(f"/incidents/{incident}/seen"))

    (notice,) = scene.ledger.notices.list(subject=incident)
    assert (seen.status_code, seen.headers["location"]) == (303, f"/incidents/{incident}")
    assert (notice.person, notice.state) == ("ada", "seen")


async def test_signing_in_and_out(door: Door) -> None:
    """The session is a cookie that scripts cannot read and other sites cannot send; signing out ends it."""
    async with door.client(Origin="http://127.0.0.1") as browser:
        answer = await browser.post("/signin", data={"person": "grace", "after": "/status"})
        page = await look(browser, "/")
        left = await send(browser, page.form("/signout"))
        after = await browser.get("/")

    assert answer.headers["location"] == "/status"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "Grace Hopper" in page.text
    assert (left.status_code, after.status_code) == (303, 303)


async def test_signing_in_as_nobody(door: Door) -> None:
    """Only people of the catalogue can sign in, and only from our own page."""
    async with door.client(Origin="http://127.0.0.1") as browser:
        unknown = await browser.post("/signin", data={"person": "mallory"})
        elsewhere = await browser.post(
            "/signin", data={"person": "ada"}, headers={"Origin": "http://evil.example"}
        )

    assert (unknown.status_code, elsewhere.status_code) == (403, 403)
    assert "set-cookie" not in unknown.headers
    assert "set-cookie" not in elsewhere.headers


@pytest.mark.parametrize(
    ("path", "goes"),
    [
        ("/incidents/INC-1", "/incidents/INC-1"),
        ("/", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\nb", "/"),
        ("/incidents/INC-1\n", "/"),
        ("", "/"),
        ("/%2f%2fevil", "/"),
    ],
)
def test_where_a_sign_in_leads(path: str, goes: str) -> None:
    """Nobody is led to another site after signing in."""
    assert own_path(path) == goes


async def test_the_list(door: Door, scene: Scene) -> None:
    """The worst open incident is first, with who commands it and what waits; closed ones come after."""
    scene.tell()
    scene.open_incident(service="pay", fingerprint="p", severity=Severity.SEV1, summary="Payments fail")
    scene.record(
        scene.open_incident(service="mail", fingerprint="m", summary="Mail is late"), 1, Phase.RESOLVED
    )
    page = await look(await door.browser(), "/")

    order = [
        page.text.index(text)
        for text in ("Payments fail", "40 % of checkout", "Recently closed", "Mail is late")
    ]
    assert order == sorted(order)
    for text in ("Decision needed: Disable the flag", "Ada Lovelace", "nobody yet", "10 min ago", "major"):
        assert text in " ".join(page.text.split())


async def test_one_incident_shows_all_that_a_decision_needs(door: Door, scene: Scene) -> None:
    """Diff, blast radius, risk, goal, baseline, undo, idempotency, expiry, digest: all on the page."""
    incident = scene.tell()
    request = scene.ledger.approvals.list(ApprovalState.PENDING)[0]
    page = await look(await door.browser(), f"/incidents/{incident}")
    text = " ".join(page.text.split())

    for said in (
        "Needs a person. The restart did not help.",
        "Disable the flag new-recommendations",
        "turned on 14 min before the first error",
        "environments.production.on \N{MINUS SIGN}true +false",
        "Everybody who sees recommendations in production",
        "error_rate below 1 % for 1 min, read every 5 s; known within 5 min after it has settled",
        "41.7 %, unhealthy",
        'launchdarkly.set_flag(key="new-recommendations", on=true)',
        "Does nothing: the flag is already off.",
        "If the effect is worse, the undo runs by itself under this approval.",
        "14 min left",
        " ".join(request.plan_digest[start : start + 4] for start in (0, 4, 8)),
        "Low risk",
        "✕ineffective",
        "error_rate was 41.7 % before and 39.8 % after 5 min",
        "Incident Commander Ada Lovelace",
        "ada approves INC-1/1: Restart the pods of web (cheap, and nothing is lost by it)",
        "●mitigating (now)",
        "CheckoutErrors firing",
    ):
        assert said in text, said


async def test_refusals_are_loud(door: Door, scene: Scene) -> None:
    """A plan that would be refused says so before anything else, and on its button."""
    incident = scene.open_incident()
    scene.take(incident)
    sealed = plan(scene.clock, incident, 1)
    refused = sealed.steps[0].model_copy(
        update={"refusals": ("no permission to patch shop/web", "web is paused")}
    )
    scene.ask(incident, steps=(refused,))
    page = await look(await door.browser(), f"/incidents/{incident}")

    assert "2 refusals found before anything was done" in page.text
    assert "no permission to patch shop/web" in page.text
    assert "Approve although it would be refused" in page.text
    assert ("div", {"class": "refused", "role": "alert"}) in page.tags


async def test_what_has_changed_since_the_former_plan(door: Door, scene: Scene) -> None:
    """Who is asked again, because the target is no longer as it was shown, sees what has changed first."""
    incident = scene.open_incident()
    scene.take(incident)
    changed = Difference(path="launchdarkly:flag/shop/production/new version", before=7, after=8)
    scene.ask(incident, supersedes="c" * 64, differences=(changed,))
    page = await look(await door.browser(), f"/incidents/{incident}")

    said = ["which stopped because the target was no longer as it was shown", "What has changed since then"]
    at = [page.text.index(words) for words in (*said, changed.path)]
    assert at == sorted(at)
    assert at[-1] < page.text.index("What changes, as observed")
    assert "never run" not in page.text


async def test_taking_command_approving_and_rejecting(door: Door, scene: Scene) -> None:
    """The whole way by forms alone: take command, reject with a reason, approve the next plan."""
    incident = scene.open_incident()
    first = scene.ask(incident)
    browser = await door.browser()

    page = await look(browser, f"/incidents/{incident}")
    assert "You cannot decide this." in page.text
    taken = await send(
        browser, page.form(f"/incidents/{incident}/roles", role="incident_commander", person="ada")
    )
    assert taken.headers["location"] == f"/incidents/{incident}"

    page = await look(browser, f"/incidents/{incident}")
    action = f"/approvals/{first.id}/decision"
    empty = await send(browser, page.form(action, verdict="reject", reason=" "))
    assert (empty.status_code, "give a reason to reject" in empty.text.lower()) == (422, True)
    assert f'href="/approvals/{first.id}"' in empty.text
    rejected = await send(browser, page.form(action, verdict="reject", reason="pods are fine"))
    assert rejected.status_code == 303

    second = scene.ask(incident, 2)
    page = await look(browser, f"/approvals/{second.id}")
    approved = await send(
        browser, page.form(f"/approvals/{second.id}/decision", verdict="approve", reason="")
    )
    assert approved.headers["location"] == f"/incidents/{incident}"
    page = await look(browser, f"/incidents/{incident}")
    assert "No decision is needed now" in page.text
    states = {request.id: request.state for request in scene.ledger.approvals.list()}
    assert states == {first.id: ApprovalState.REJECTED, second.id: ApprovalState.APPROVED}
    assert len(door.woken) == 3


async def test_a_double_click(door: Door, scene: Scene) -> None:
    """The same form ten times at once is one decision, and every answer says the same."""
    incident = scene.tell()
    request = scene.ledger.approvals.list(ApprovalState.PENDING)[0]
    browser = await door.browser()
    page = await look(browser, f"/incidents/{incident}")
    form = page.form(f"/approvals/{request.id}/decision", verdict="approve", reason="")
    answers = await asyncio.gather(*(send(browser, form) for _ in range(10)))

    assert {answer.status_code for answer in answers} == {303}
    decisions = [e for e in scene.ledger.evidence.entries() if e.body.get("signed") and request.id in e.key]
    assert len(decisions) == 1


async def test_who_may_not_decide_sees_why(door: Door, scene: Scene) -> None:
    """Another person sees the plan and why it is not theirs, and no button for it."""
    incident = scene.tell()
    page = await look(await door.browser("grace"), f"/incidents/{incident}")

    assert "INC-1: only the Incident Commander (ada) decides, not grace" in page.text
    assert not [action for action, _ in page.forms if action.endswith("/decision")]


async def test_who_is_not_on_call_cannot_take_command(door: Door, scene: Scene) -> None:
    """The page says who is on call instead of offering what would be refused."""
    incident = scene.open_incident()
    page = await look(await door.browser("linus"), f"/incidents/{incident}")

    assert "linus is not on call for web: ada, grace may do this" in page.text
    assert not [1 for tag, attributes in page.tags if attributes.get("id") == "take-now"]


async def test_orders_by_form(door: Door, scene: Scene) -> None:
    """Severity, another plan, roles and the end are forms; a form sent twice is one order."""
    incident = scene.open_incident()
    scene.take(incident)
    browser = await door.browser()
    page = await look(browser, f"/incidents/{incident}")
    forms = [
        page.form(f"/incidents/{incident}/severity", severity="SEV1", reason="all regions"),
        page.form(f"/incidents/{incident}/replan", reason="the flag was not it"),
        page.form(f"/incidents/{incident}/resolve", reason="errors are gone"),
        page.form(f"/incidents/{incident}/roles", role="scribe", person="linus"),
    ]
    for form in forms:
        for _ in range(2):
            assert (await send(browser, form)).status_code == 303

    found = scene.ledger.incidents.get(incident)
    assert (found.severity, found.roles[Role.SCRIBE]) == (Severity.SEV1, "linus")
    commands = [e for e in scene.ledger.evidence.entries() if e.kind is EvidenceKind.COMMAND]
    assert [entry.body["kind"] for entry in commands] == ["severity", "replan", "resolve"]


async def test_asking_for_a_playbook_by_form(door: Door, scene: Scene) -> None:
    """Each playbook has a form with its parameters in its own words; what is left empty is not given."""
    incident = scene.open_incident()
    scene.ledger.incidents.assign(incident, Role.TECHNICAL_LEAD, "linus", by="linus")
    browser = await door.browser("linus")
    page = await look(browser, f"/incidents/{incident}")
    where = f"/incidents/{incident}/replan"

    alone = Door(scene, door.settings.model_copy(update={"solo": True}))
    in_solo = await look(await alone.browser("linus"), f"/incidents/{incident}")

    assert "How many at once. Otherwise 1." in page.text
    assert "Somebody else than who asks approves the plan." in page.text
    assert "Somebody else than who asks" not in in_solo.text
    for count in ("2", "2", ""):
        form = page.form(where, playbook="restart-pods", reason="told", **{"param-count": count})
        assert (await send(browser, form)).status_code == 303
    commands = [e for e in scene.ledger.evidence.entries() if e.kind is EvidenceKind.COMMAND]
    assert [entry.body["params"] for entry in commands] == [{"count": 2}, {}]
    wrong = await send(
        browser, page.form(where, playbook="restart-pods", reason="told", **{"param-count": "x"})
    )
    assert "Parameters of restart-pods: count: Input should be a valid integer" in wrong.text
    over = (f"/incidents/{incident}/resolve", page.form(where, playbook="restart-pods", reason="told")[1])
    assert (await send(browser, over)).status_code == 403


async def test_declaring_by_form(door: Door, scene: Scene) -> None:
    """A person who sees what no alert tells opens an incident."""
    browser = await door.browser("linus")
    page = await look(browser, "/")
    answer = await send(
        browser, page.form("/incidents", title="Carts are empty", place="pay|staging", severity="SEV3")
    )

    [incident] = scene.ledger.incidents.list()
    assert answer.headers["location"] == f"/incidents/{incident.id}"
    assert (incident.title, incident.service, incident.environment) == ("Carts are empty", "pay", "staging")
    await send(browser, page.form("/incidents", title="EU", place="web|production|eu", severity="SEV3"))
    assert [one.region for one in scene.ledger.incidents.list()] == ["eu", None]


async def test_a_plan_and_its_bytes(door: Door, scene: Scene) -> None:
    """The plan's page has the whole digest, and the file whose SHA-256 it is."""
    scene.tell()
    request = scene.ledger.approvals.list(ApprovalState.PENDING)[0]
    browser = await door.browser()
    page = await look(browser, f"/approvals/{request.id}")
    file = await browser.get(f"/approvals/{request.id}/plan.json")

    assert request.plan_digest in page.text
    assert hashlib.sha256(file.content).hexdigest() == request.plan_digest
    assert digest(Plan.model_validate_json(file.content)) == request.plan_digest
    assert file.headers["content-disposition"].startswith("attachment")


async def test_a_decided_plan(door: Door, scene: Scene) -> None:
    """A decided plan shows who decided, how that person was known, and by which key it is signed."""
    scene.tell()
    page = await look(await door.browser("grace"), "/approvals/APR-1")

    text = " ".join(page.text.split())
    assert "Approved by Ada Lovelace 6 min ago" in text
    assert "Authenticated by local: an evaluation sign-in that proves nothing." in text
    assert scene.signer.key_id in text


async def test_an_expired_question(door: Door, scene: Scene) -> None:
    """After its time a plan offers no decision, only the reason."""
    incident = scene.tell()
    scene.clock.forward(minutes=20)
    page = await look(await door.browser(), f"/incidents/{incident}")

    assert "APR-2 has expired: ask for a new plan" in page.text
    assert not [action for action, _ in page.forms if action.endswith("/decision")]


async def test_a_postmortem_is_shown_as_text(door: Door, scene: Scene) -> None:
    """The postmortem is text, never markup."""
    incident = scene.open_incident()
    scene.ledger.postmortems.write(incident, "# It <script>alert(1)</script> broke\n")
    browser = await door.browser()
    page = await look(browser, f"/incidents/{incident}/postmortem")

    assert "# It <script>alert(1)</script> broke" in page.text
    assert f"/incidents/{incident}/postmortem" in (await browser.get(f"/incidents/{incident}")).text


@pytest.mark.parametrize(
    ("headers", "change"),
    [
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}, {}),
        ({"Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": "same-site"}, {}),
        ({"Origin": "http://evil.example"}, {}),
        ({"Origin": "null", "Sec-Fetch-Site": ""}, {}),
        ({}, {"token": ""}),
        ({}, {"token": "x" * 43}),
        ({}, {"plan_digest": "0" * 64}),
    ],
)
async def test_no_other_page_can_approve(
    door: Door, scene: Scene, headers: dict[str, str], change: dict[str, str]
) -> None:
    """A browser that is made to send the form from elsewhere, or about another plan, decides nothing."""
    incident = scene.tell()
    browser = await door.browser()
    page = await look(browser, f"/incidents/{incident}")
    action, fields = page.form("/approvals/APR-2/decision", verdict="approve", reason="")
    answer = await send(browser, (action, fields | change), **headers)

    assert answer.status_code == 403
    assert scene.ledger.approvals.get("APR-2").request.state is ApprovalState.PENDING


async def test_a_token_of_one_plan_does_not_approve_another(door: Door, scene: Scene) -> None:
    """The form of the plan that was read cannot be sent for the plan that came after."""
    incident = scene.open_incident()
    scene.take(incident)
    scene.ask(incident, 1)
    browser = await door.browser()
    page = await look(browser, f"/incidents/{incident}")
    _, old = page.form("/approvals/APR-1/decision", verdict="approve", reason="")
    new = scene.ask(incident, 2)
    stale = await send(browser, ("/approvals/APR-2/decision", old))
    mixed = await send(browser, ("/approvals/APR-2/decision", old | {"plan_digest": new.plan_digest}))

    assert (stale.status_code, mixed.status_code) == (403, 403)
    refused = [entry for entry in scene.ledger.evidence.entries() if entry.kind is EvidenceKind.ACCESS]
    assert [str(entry.body["about"])[:5] for entry in refused if "about" in entry.body] == ["APR-2", "APR-2"]
    assert scene.ledger.approvals.get("APR-2").request.state is ApprovalState.PENDING


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"verdict": "approve"}', "application/json"),
        (b"verdict=approve", "text/plain"),
        (b"a=%ff", "application/x-www-form-urlencoded"),
        (b"&".join(b"a%d=1" % number for number in range(100)), "application/x-www-form-urlencoded"),
    ],
)
async def test_forms_that_are_none(door: Door, scene: Scene, content: bytes, kind: str) -> None:
    """What no form of ours sends is refused with a sentence."""
    scene.tell()
    browser = await door.browser()
    answer = await browser.post("/approvals/APR-2/decision", content=content, headers={"Content-Type": kind})

    assert answer.status_code == 422
    assert "form" in answer.text


POLYGLOTS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "javascript:alert(1)",
    "</title></style></textarea></script><svg onload=alert(1)>",
    "{{7*7}} {% raw %} ${7*7} #{7*7}",
    "<!-- --><details open ontoggle=alert(1)>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    (
        "jaVasCript:/*-/*`/*\\`/*'/*\"/**/(/* */oNcliCk=alert() )//%0D%0A//"
        "</stYle/</scRipt/--!>\\x3csVg/<sVg/oNloAd=alert()//>"
    ),
    "\u202egnp.exe\u0000\x1b[31m\u2028",
    "a" * 3000,
]


@pytest.mark.parametrize("text", POLYGLOTS)
async def test_hostile_text_is_text(door: Door, scene: Scene, text: str) -> None:
    """Whatever an alert, a plan or a person says is shown as text: no element or script of theirs."""
    hostile = {
        "service": text[:100],
        "environment": text[:100],
        "name": text,
        "summary": text,
        "region": text,
    }
    incident = scene.open_incident(
        **hostile, labels={text[:200]: text}, annotations={"runbook_url": text, text[:200]: text}, signal=text
    )
    sealed = plan(scene.clock, incident, 2)
    step = sealed.steps[0].model_copy(
        update={
            "title": text,
            "blast_radius": text,
            "idempotent": text,
            "refusals": (text,),
            "change": (
                sealed.steps[0].change[0].model_copy(update={"path": text, "before": text, "after": [text]}),
            ),
        }
    )
    scene.ask(
        incident, 2, title=text, rationale=text, steps=(step,), undo_when=(Effect.WORSE,), playbook=text
    )
    scene.record(incident, 1, Phase.TRIAGE, attention=text)
    scene.happen(incident, EvidenceKind.OUTCOME, text, {text[:200]: text})
    scene.ledger.postmortems.write(incident, text)
    browser = await door.browser()
    for path in (
        "/",
        f"/incidents/{incident}",
        "/approvals/APR-1",
        f"/incidents/{incident}/postmortem",
        "/status",
    ):
        answer = await browser.get(path)
        page = Page(answer.text)

        assert answer.status_code == 200, answer.text
        assert {tag for tag, _ in page.tags} & {"svg", "iframe", "object", "embed", "style"} == set()
        assert [attributes.get("src") for tag, attributes in page.tags if tag == "script"] == [
            attributes["src"]
            for tag, attributes in page.tags
            if tag == "script" and attributes["src"].startswith("/static/")
        ]
        assert all(attributes["src"].startswith("/static/") for tag, attributes in page.tags if tag == "img")
        for tag, attributes in page.tags:
            assert not any(name.startswith("on") for name in attributes), (tag, attributes)
            assert not attributes.get("href", "").lower().startswith("javascript"), attributes
            assert "style" not in attributes
        assert not re.search("[\x00\x1b\u202e\u2028]", answer.text)
        assert not re.search(r"\b49 ", page.text)


async def test_hostile_text_is_complete(door: Door, scene: Scene) -> None:
    """Nothing of hostile text is swallowed: a person sees what was sent."""
    incident = scene.open_incident(summary=POLYGLOTS[1])
    page = await look(await door.browser(), f"/incidents/{incident}")

    assert POLYGLOTS[1] in page.text


async def test_the_bones_of_every_page(door: Door, scene: Scene) -> None:
    """Every page has a language, a title, one main heading, one main landmark, and a label for each field."""
    scene.tell()
    scene.ledger.postmortems.write("INC-1", "# It broke\n")
    browser = await door.browser()
    for path in (
        "/",
        "/incidents/INC-1",
        "/approvals/APR-2",
        "/incidents/INC-1/postmortem",
        "/mitigations",
        "/status",
        "/signin",
    ):
        page = await look(browser, path)
        names = [tag for tag, _ in page.tags]
        labels = {
            attributes["for"] for tag, attributes in page.tags if tag == "label" and "for" in attributes
        }
        fields = [
            a
            for t, a in page.tags
            if t in {"select", "textarea", "input"} and a.get("type") not in {"hidden", "radio"}
        ]
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]

        assert ("html", {"lang": "en"}) in page.tags
        assert names.count("h1") == names.count("main") == names.count("title") == 1, path
        assert all(field["id"] in labels for field in fields), (path, fields)
        assert len(ids) == len(set(ids)), path
        assert ("a", {"class": "skip", "href": "#main"}) in page.tags
        assert all("alt" in attributes for tag, attributes in page.tags if tag == "img")


async def test_static_files(door: Door) -> None:
    """Our few files are served for ever; no other file is."""
    async with door.client() as client:
        page = await client.get("/signin")
        [style] = re.findall(r'href="(/static/\w+/console\.css)"', page.text)
        good = await client.get(style)
        bad = [
            (await client.get(path)).status_code
            for path in (
                "/static/x/../console.py",
                "/static/x/%2e%2e%2fapp.py",
                "/static/x/base.html",
                "/static/x/",
            )
        ]

    assert good.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert good.headers["content-type"] == "text/css; charset=utf-8"
    assert bad == [404, 404, 404, 404]


async def test_a_long_night(door: Door, scene: Scene) -> None:
    """A timeline of a thousand entries shows the newest and says where the others are."""
    incident = scene.open_incident()
    for number in range(310):
        scene.happen(incident, EvidenceKind.VERIFICATION, f"Reading number {number}")
    page = await look(await door.browser(), f"/incidents/{incident}")

    assert "Reading number 309" in page.text
    assert "Reading number 5 " not in page.text
    assert "12 earlier entries are not shown here" in page.text
