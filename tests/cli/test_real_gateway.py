"""The terminal beside the real application: its interface, its ledger, its rules about who may do what."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import uvicorn

from authority import seals
from authority.decisions import Signer
from authority.policy import Policy
from cli.client import Gateway
from contracts.approvals import ApprovalRequest
from contracts.catalogue import Catalogue
from contracts.errors import ProviderUnavailableError
from contracts.evidence import Evidence, EvidenceKind
from contracts.incidents import Severity
from contracts.messages import PreviewAnswer, PreviewRequest
from gateway.app import build
from ledger import Ledger
from playbooks import kit
from runtime import settings as configuration
from runtime.clock import utc_now
from runtime.settings import Settings
from tests.cli.answers import PLAN
from tests.cli.conftest import Said, Terminal

CATALOGUE = """
people: [{id: ada, name: Ada, groups: [incident-commanders]}, {id: bo, name: Bo}, {id: cy, name: Cy}]
clusters: [{name: main, kubeconfig: /nowhere/kubeconfig}]
launchdarkly: [{project: shop, token_env: TEST_OF_DOCTOR_TOKEN}]
services:
  - name: web
    on_call: [ada, bo]
    environments: {production: {deployments: [{cluster: main, namespace: shop, name: web}]}}
"""


class Engine:
    """An engine that answers previews with the plan, or is away."""

    def __init__(self) -> None:
        self.away = False
        self.asked: list[PreviewRequest] = []

    async def check(self) -> None:
        """Answer unless away."""
        if self.away:
            raise ProviderUnavailableError("the engine does not answer")

    async def preview(self, request: PreviewRequest) -> PreviewAnswer:
        """Propose the plan."""
        await self.check()
        self.asked.append(request)
        return PreviewAnswer(plan=PLAN)


class House:
    """A gateway with its ledger, in this process."""

    def __init__(self, settings: Settings, ledger: Ledger, engine: Engine) -> None:
        self.settings = settings
        self.ledger = ledger
        self.engine = engine

    def asks(self, incident: str, number: int = 1) -> ApprovalRequest:
        """Ask about a sealed plan of an incident."""
        plan = PLAN.model_copy(
            update={
                "incident": incident,
                "mitigation": f"{incident}/{number}",
                "policy_digest": Policy().digest,
                "expires_at": utc_now() + timedelta(minutes=15),
            }
        )
        return self.ledger.approvals.ask(plan, severity=Severity.SEV2)


@pytest.fixture
def house(home: Path, monkeypatch: pytest.MonkeyPatch, run: Terminal) -> Iterator[House]:
    """Serve the real application on a free port; the terminal finds it by its settings."""
    del run  # it has cleared the environment
    (home / "catalogue.yaml").write_text(CATALOGUE, encoding="utf-8")
    listening = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setenv("STANCH_HTTP_PORT", str(listening.getsockname()[1]))
    monkeypatch.setenv("STANCH_PERSON", "ada")
    settings = configuration.load()
    ledger = Ledger.open(settings.ledger_url, clock=utc_now)
    ledger.migrate()
    engine = Engine()
    app = build(
        settings,
        ledger,
        configuration.load_catalogue(settings.catalogue_path),
        Signer(configuration.signing_key(settings)),
        wake=lambda: None,
        engine=engine,
        playbooks=kit.catalogue(),
    )
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    yield House(settings, ledger, engine)
    server.should_exit = True
    thread.join()
    ledger.close()
    listening.close()


def declare(run: Terminal) -> str:
    """Declare an incident as cy, who may not approve its plans; give its id."""
    said = run(
        *("incident", "declare", "Carts are empty", "--service", "web", "--severity", "SEV2"),
        *("--as", "cy", "--json"),
    )
    assert said.code == 0, said.err
    incident: str = json.loads(said.out)["id"]
    return incident


def test_an_incident_is_declared_led_and_handed_over(run: Terminal, house: House) -> None:
    """The verbs about incidents reach the ledger, and what the gateway answers is understood."""
    incident = declare(run)

    steps = [
        run("incident", "ack", incident),
        run("incident", "severity", incident, "SEV1", "--reason", "checkout too"),
        run("incident", "replan", incident, "--reason", "new facts"),
        run("incident", "handoff", incident, "--to", "bo"),
        run("incident", "accept", incident, "--as", "bo"),
        run("incident", "resolve", incident, "--reason", "over", "--as", "bo"),
        run("incident", "list"),
        run("incident", "show", incident),
    ]

    assert [(said.code, said.err) for said in steps] == [(0, "")] * len(steps)
    assert "role      incident commander: bo" in steps[-1].out
    assert f"{incident}  SEV1" in steps[-2].out
    assert house.ledger.incidents.get(incident).severity is Severity.SEV1


def test_a_shown_plan_is_approved_once(run: Terminal, house: House) -> None:
    """The digest that the terminal computes is the sealed one; the second answer is the recorded one."""
    incident = declare(run)
    request = house.asks(incident)
    run("incident", "ack", incident)

    first = run("approve", request.id, "--yes", "--json")
    again = run("approve", request.id, "--yes", "--json")
    too_late = run("reject", request.id, "--yes", "--reason", "no")

    assert json.loads(first.out[first.out.index("{") :])["decision"]["plan_digest"] == request.plan_digest
    assert (again.code, again.out) == (0, first.out)
    assert (too_late.code, too_late.err.count("\n")) == (1, 1)
    assert "approved by ada" in too_late.err


def test_a_rejection_is_recorded(run: Terminal, house: House) -> None:
    """A rejected request is listed as such, with its reason in the evidence."""
    incident = declare(run)
    request = house.asks(incident)
    run("incident", "ack", incident)

    said = run("reject", request.id, "--yes", "--reason", "wrong flag")
    listed = json.loads(run("approval", "list", "--state", "all", "--json").out)
    decisions = [
        entry
        for entry in house.ledger.evidence.entries(incident=incident)
        if entry.kind == EvidenceKind.DECISION
    ]

    assert said.code == 0
    assert [(one["id"], one["state"]) for one in listed] == [(request.id, "rejected")]
    assert "wrong flag" in json.dumps(decisions[0].body)


@pytest.mark.parametrize(
    ("person", "sentence"),
    [
        ("bo", "only the Incident Commander (ada) decides, not bo"),
        ("eve", "is not in the service catalogue's"),
    ],
)
def test_the_wrong_person_is_refused(run: Terminal, house: House, person: str, sentence: str) -> None:
    """Who does not hold the role hears who does, and nothing is decided."""
    incident = declare(run)
    request = house.asks(incident)
    run("incident", "ack", incident)

    said = run("approve", request.id, "--yes", "--as", person)

    assert said.code == 1
    assert sentence in said.err
    assert house.ledger.approvals.get(request.id).request.signed is None


@pytest.mark.parametrize(
    "argv",
    [
        ("incident", "show", "INC-99"),
        ("incident", "ack", "INC-99"),
        ("approval", "show", "APR-99"),
        ("approve", "nonsense/..", "--yes"),
        ("postmortem", "INC-99"),
        ("playbook", "plan", "no-such", "--service", "web"),
        ("playbook", "plan", "disable-flag", "--service", "elsewhere"),
        ("playbook", "plan", "disable-flag", "--service", "web", "--param", "nonsense=1"),
        ("incident", "declare", "", "--service", "web", "--severity", "SEV1"),
        ("incident", "declare", "x" * 5000, "--service", "web", "--severity", "SEV1"),
        ("incident", "declare", "x", "--service", "elsewhere", "--severity", "SEV1"),
    ],
)
def test_what_is_not_there_is_one_sentence(run: Terminal, house: House, argv: tuple[str, ...]) -> None:
    """Each wrong name or value is refused with one sentence and exit code 1."""
    said = run(*argv)

    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("stanch: ")
    assert said.err.count("\n") == 1
    assert house.engine.asked == []


def test_a_playbook_is_previewed(run: Terminal, house: House) -> None:
    """The preview of a real playbook reaches the engine with its parameters."""
    name = json.loads(run("playbook", "list", "--json").out)[0]["name"]

    said = run("playbook", "plan", name, "--service", "web", "--severity", "SEV1")

    assert said.code == 0
    assert "This is a preview" in said.out
    assert [(one.playbook, one.incident.service) for one in house.engine.asked] == [(name, "web")]


def test_a_postmortem_reaches_the_terminal(run: Terminal, house: House) -> None:
    """What the ledger holds is printed."""
    incident = declare(run)
    house.ledger.postmortems.write(incident, "# What happened\n")

    assert run("postmortem", incident).out == "# What happened\n"


def test_a_long_timeline_is_read_to_its_end(run: Terminal, house: House) -> None:
    """Pages of the evidence are put together."""
    incident = declare(run)
    before = len(house.ledger.evidence.entries(incident=incident))
    now = utc_now()
    house.ledger.evidence.append(
        *(
            Evidence(
                key=f"note-{n}",
                kind=EvidenceKind.COMMAND,
                incident=incident,
                actor="ada",
                at=now,
                summary="x",
            )
            for n in range(1001)
        )
    )

    timeline = json.loads(run("incident", "show", incident, "--json").out)["timeline"]

    assert len(timeline) == before + 1001


def test_audit_verifies_what_is_stored(run: Terminal, house: House) -> None:
    """A whole log is called whole, with its size."""
    incident = declare(run)
    request = house.asks(incident)
    run("incident", "ack", incident)
    run("approve", request.id, "--yes")

    said = run("audit", "verify")
    report = json.loads(run("audit", "verify", "--json").out)

    assert (said.code, said.out.splitlines()[-1]) == (0, "The evidence is whole.")
    assert (report["ok"], report["decisions"]) == (True, 1)
    assert report["entries"] == house.ledger.evidence.size()


def test_audit_tells_what_is_wrong(run: Terminal, house: House, home: Path) -> None:
    """A decision that no known key has signed is a sentence and exit code 1."""
    incident = declare(run)
    request = house.asks(incident)
    run("incident", "ack", incident)
    run("approve", request.id, "--yes")
    (home / "keys" / "decision-1.pub").unlink()

    said = run("audit", "verify")

    assert said.code == 1
    assert "WRONG" in said.out
    assert said.out.splitlines()[-1] == "The evidence is NOT whole."


def findings(said: Said) -> dict[str, str]:
    """Give the state of each thing that the doctor looked at."""
    return {one["name"]: one["state"] for one in json.loads(said.out)}


def test_doctor_finds_a_running_house(run: Terminal, house: House) -> None:
    """Beside a running gateway the doctor misses only the credentials that the catalogue names."""
    del house

    said = run("doctor", "--json")

    found = findings(said)
    assert said.code == 1
    assert [name for name, state in found.items() if state == "missing"] == [
        "TEST_OF_DOCTOR_TOKEN",
        "cluster main",
    ]
    assert [
        found[name] for name in ("ledger", "keys", "gateway", "gateway's ledger", "gateway's engine")
    ] == ["ok"] * 5


def test_doctor_says_that_the_engine_is_away(
    run: Terminal, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that the gateway does not reach is missing; a set credential is not, and is never printed."""
    house.engine.away = True
    monkeypatch.setenv("TEST_OF_DOCTOR_TOKEN", "api-secret-of-the-test")

    said = run("doctor")

    assert "MISSING   gateway's engine: the engine does not answer" in said.out
    assert "ok        TEST_OF_DOCTOR_TOKEN: set" in said.out
    assert "api-secret-of-the-test" not in said.out


def test_the_port_may_be_the_systems_choice(
    run: Terminal, house: House, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With port 0 the terminal reads where `stanch up` said that the gateway is."""
    (home / "run.json").write_text(json.dumps({"gateway": house.settings.url}), encoding="utf-8")
    monkeypatch.setenv("STANCH_HTTP_PORT", "0")

    assert run("incident", "list").out == "No incident yet.\n"


def test_a_gateway_that_dies_in_its_answer_is_one_sentence(
    run: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost answer is not taken for a refusal: the sentence says that something may be recorded."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        monkeypatch.setenv("STANCH_HTTP_PORT", str(listening.getsockname()[1]))

        def hang_up() -> None:
            connection, _ = listening.accept()
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        said = run("incident", "ack", "INC-1", "--as", "ada")
        thread.join()

    assert said.code == 1
    assert said.err.endswith("did not finish its answer: look at what it recorded, then repeat\n")


def test_the_digest_is_of_the_whole_plan() -> None:
    """The fixture's plan has the digest that the terminal would compute after the wire."""
    assert seals.digest(type(PLAN).model_validate_json(PLAN.model_dump_json())) == seals.digest(PLAN)


def test_reading_needs_no_person(run: Terminal, house: House) -> None:
    """A gateway client without a person may look."""
    del run

    assert Gateway(house.settings).get("/v1/incidents") == []
    assert Catalogue().services == ()


def test_changes_are_frozen_and_begin_again(run: Terminal, house: House) -> None:
    """A freeze is set, shown with what is locked, and lifted by its id or as the only one."""
    for arguments, code, words in (
        (("freeze",), 1, "say why with --reason"),
        (("freeze", "--show"), 0, "Nothing is frozen."),
        (("unfreeze", "--reason", "over"), 1, "nothing is frozen"),
        (("freeze", "--reason", "odd"), 0, "FRZ-1: all changes are stopped. No call to a provider begins"),
        (("freeze", "--reason", "odd", "--service", "web"), 0, "FRZ-2: changes of web are stopped."),
        (("freeze", "--show"), 0, "FRZ-2     changes of web are stopped by ada, "),
        (("unfreeze", "--reason", "over"), 1, "say which one: FRZ-1, FRZ-2"),
        (("unfreeze", "FRZ-1", "--reason", "x", "--as", "bo"), 1, "FRZ-1 was set by ada: ada lifts it"),
        (("unfreeze", "FRZ-1", "--reason", "over"), 0, "FRZ-2 stands: changes of web are stopped by ada"),
        (("unfreeze", "--reason", "over"), 0, "FRZ-2 is lifted."),
    ):
        said = run(*arguments)
        assert (said.code, words in said.out + said.err) == (code, True), said

    assert json.loads(run("freeze", "--show", "--json").out) == {"freezes": [], "locks": []}
    assert house.ledger.freezes.list() == []


def test_a_broken_glass_is_reviewed_by_two(run: Terminal, house: House) -> None:
    """Whoever broke it cannot review it; two others can, once each, and then nothing waits."""
    incident = declare(run)
    run("incident", "ack", incident, "--as", "bo")
    request = house.asks(incident)
    for argv, code, words in (
        (("review", "list"), 0, "No broken glass waits for a review."),
        (
            ("approve", request.id, "--yes", "--break-glass", "--reason", "bo sleeps"),
            0,
            "The glass is broken",
        ),
        (("approval", "show", request.id), 0, "BROKE THE GLASS: bo sleeps"),
        (("review", "sign", request.id, "--right", "--remark", "x"), 1, "two others review it"),
        (("review", "sign", request.id, "--wrong", "--remark", "wake me", "--as", "bo"), 0, "it was wrong"),
        (
            ("review", "sign", request.id, "--right", "--remark", "x", "--as", "bo"),
            1,
            "reviewed by bo before",
        ),
        (("review", "list"), 0, "1 of 2 reviews"),
        (("review", "sign", request.id, "--right", "--remark", "ok", "--as", "cy"), 0, "it was right"),
        (("review", "list"), 0, "No broken glass waits for a review."),
        (("review", "list", "--all"), 0, "by bo: wake me"),
        (("review", "sign", "APR-9", "--right", "--remark", "x"), 1, "no glass was broken"),
    ):
        said = run(*argv)
        assert (said.code, words in said.out + said.err) == (code, True), said

    assert [len(one["reviews"]) for one in json.loads(run("review", "list", "--all", "--json").out)] == [2]


def test_grants_at_the_terminal(run: Terminal, house: House) -> None:
    """A grant is given, listed, shown and revoked; who may not give one hears why."""
    give = (
        *("grant", "give", "--service", "web", "--action", "k8s.scale", "--target", "k8s:deployment/*"),
        *("--limit", "replicas<=10", "--reason", "calm"),
    )
    for argv, code, words in (
        (("grant", "list"), 0, "No grant is in use."),
        ((*give, "--for", "8h", "--as", "bo"), 1, "no rule of the policy lets bo give this grant"),
        ((*give, "--for", "91d"), 1, "lasts: "),
        ((*give, "--for", "8h", "--uses", "0"), 1, "uses: "),
        ((*give, "--for", "8h", "--limit", "replicas<=x"), 1, "is no number"),
        ((*give, "--for", "8h", "--uses", "3", "--after", "5m"), 0, "limits    replicas <= 10"),
        (("grant", "list"), 0, "GRT-1"),
        (("grant", "show", "GRT-1"), 0, "answers   after 5 min of silence"),
        (("grant", "show", "GRT-7"), 1, "GRT-7: not found"),
        (("grant", "revoke", "GRT-1", "--reason", "x", "--as", "cy"), 1, "cy is not on call for web"),
        (("grant", "revoke", "GRT-1", "--reason", "enough"), 0, "revoked   by ada, "),
        (("grant", "list"), 0, "No grant is in use."),
        (("grant", "list", "--all"), 0, "revoked"),
    ):
        said = run(*argv)
        assert (said.code, words in said.out + said.err) == (code, True), said

    assert json.loads(run("grant", "list", "--json").out) == []
    assert json.loads(run("grant", "list", "--all", "--json").out)[0]["revoked_by"] == "ada"
    assert house.ledger.grants.get("GRT-1").grant.uses == 3
