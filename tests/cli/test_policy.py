"""`stanch policy` answers without a gateway."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from authority.policy import DEFAULT, Policy
from contracts.incidents import Role
from tests.cli.answers import APPROVAL, INCIDENT, PLAN, Answers
from tests.cli.conftest import Terminal

HOW_TO = Path(__file__).parent.parent.parent / "docs" / "how-to" / "write-a-policy.md"
EXPLAIN = ("policy", "explain", "--action", "k8s.roll_back_deployment", "--service", "web")
OPEN = '@id("all") permit (principal, action, resource);'
PEOPLE = "people: [{id: ada, name: Ada, groups: [incident-commanders]}, {id: bo, name: Bo}]"


def write(folder: Path, text: str) -> str:
    """Write a file and give its path."""
    path = folder / "file"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_explain_every_risk(run: Terminal) -> None:
    """Without a risk every one is answered, with the rule that says so."""
    said = run(*EXPLAIN, "--json")

    assert said.code == 0
    assert [(one["risk"], one["needs"], one["rules"]) for one in json.loads(said.out)["asks"]] == [
        ("none", "one", ["one-person"]),
        ("low", "one", ["one-person"]),
        ("medium", "one", ["one-person"]),
        ("high", "two", ["two-people"]),
    ]


def test_explain_for_people(run: Terminal) -> None:
    """The table says it in words, and what nothing permits says so."""
    said = run(*EXPLAIN, "--risk", "high", "--severity", "SEV4")

    assert said.out.splitlines() == [
        "RISK  ASKS    BY THE RULE         STEP",
        "high  denied  no rule permits it  k8s.roll_back_deployment",
    ]


def test_explain_by_the_clock(run: Terminal, tmp_path: Path) -> None:
    """A time in any zone is asked about in UTC, and a rule's own words are shown."""
    night = (
        '@id("night") @because("we sleep")'
        ' forbid (principal, action == Action::"run", resource) when { context.hour == 3 };'
    )
    rules = ("--policy", write(tmp_path, OPEN + night), "--risk", "low")
    asked = {
        at: run(*EXPLAIN, *rules, "--at", at).out for at in ("2026-11-21T03:00Z", "2026-11-21T03:00+01:00")
    }

    assert "low   denied  night" in asked["2026-11-21T03:00Z"]
    assert "night     we sleep" in asked["2026-11-21T03:00Z"]
    assert "low   nobody  all" in asked["2026-11-21T03:00+01:00"]


@pytest.mark.parametrize(("person", "group_grants"), [("ada", True), ("bo", False)])
def test_explain_a_person(run: Terminal, home: Path, person: str, *, group_grants: bool) -> None:
    """A person's groups come from the catalogue, and each role is answered."""
    (home / "catalogue.yaml").write_text(PEOPLE, encoding="utf-8")

    said = json.loads(run(*EXPLAIN, "--person", person, "--json").out)["may"]
    may = {(one["role"], one["verb"], one["needs"]): one["may"] for one in said}

    assert may["incident_commander", "approve", "one"]
    assert not may["technical_lead", "approve", "one"]
    assert may["technical_lead", "approve", "two"]
    assert may[None, "approve", "two"] is group_grants
    assert may[None, "grant", None] is group_grants


def test_explain_a_person_of_the_identity_provider(run: Terminal, home: Path) -> None:
    """A group of the provider counts through a team that names it; what a sign-in may add is said."""
    teams = "teams: [{name: incident-commanders, oidc_groups: [ic]}, {name: sre}]"
    (home / "catalogue.yaml").write_text(f"people: [{{id: bo, name: Bo}}]\n{teams}\n", encoding="utf-8")
    explained = [
        json.loads(run(*EXPLAIN, "--person", "bo", *groups, "--json").out)
        for groups in ((), ("--oidc-group", "ic"), ("--oidc-group", "incident-commanders"))
    ]
    grants = [
        one["may"]
        for said in explained
        for one in said["may"]
        if (one["role"], one["verb"]) == (None, "grant")
    ]

    assert grants == [False, True, False]
    assert [said["teams_by_sign_in"] for said in explained] == [
        ["incident-commanders"],
        [],
        ["incident-commanders"],
    ]
    note = "A sign-in may count bo into incident-commanders too: try that with --oidc-group."
    assert note in run(*EXPLAIN, "--person", "bo").out


def test_explain_a_request(stanch: Terminal, gateway: Answers) -> None:
    """A request is explained by what was sealed into its plan, and a person by where it is about."""
    gateway.give("GET /v1/approvals/APR-2", APPROVAL)
    gateway.give("GET /v1/incidents/INC-1", INCIDENT)

    found = json.loads(stanch("policy", "explain", "APR-2", "--person", "ada", "--json").out)

    assert [(one["step"].split()[0], one["needs"]) for one in found["asks"]] == [
        ("launchdarkly.set_flag", "one")
    ]
    assert [one["may"] for one in found["may"] if one["verb"] == "approve"] == [True, False, False]


@pytest.mark.parametrize(
    ("about", "plan", "why"),
    [
        ({"declared_by": "ada"}, {}, "was declared by ada"),
        ({}, {"author": "ada", "fresh": True}, "ada wrote this playbook"),
        ({}, {"requester": "ada"}, "ada asked for this playbook by name"),
    ],
)
def test_explain_who_has_a_part_in_a_request(
    stanch: Terminal, gateway: Answers, about: dict[str, Any], plan: dict[str, Any], why: str
) -> None:
    """Who declared the incident, wrote the fresh playbook or asked for it is told so, as the policy does."""
    asked = APPROVAL.model_copy(update={"plan": PLAN.model_copy(update=plan)})
    gateway.give("GET /v1/approvals/APR-2", asked)
    gateway.give("GET /v1/incidents/INC-1", INCIDENT.model_copy(update=about))

    found = json.loads(stanch("policy", "explain", "APR-2", "--person", "ada", "--json").out)
    commander = next(one for one in found["may"] if one["role"] == "incident_commander")

    assert (commander["verb"], commander["may"]) == ("approve", False)
    assert why in commander["why"]


def test_explain_who_confirms_what_the_commander_asked_for(stanch: Terminal, gateway: Answers) -> None:
    """What the Incident Commander asked for by name the technical lead confirms; what others did, not."""
    gateway.give("GET /v1/incidents/INC-1", INCIDENT)
    answers = []
    for requester in (INCIDENT.roles[Role.INCIDENT_COMMANDER], "bo"):
        plan = PLAN.model_copy(update={"requester": requester})
        gateway.give("GET /v1/approvals/APR-2", APPROVAL.model_copy(update={"plan": plan}))
        found = json.loads(stanch("policy", "explain", "APR-2", "--person", "cy", "--json").out)
        answers += [
            one["may"] for one in found["may"] if (one["role"], one["verb"]) == ("technical_lead", "approve")
        ]

    assert answers == [True, False]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("policy", "explain"), "name the step with --action, or a request"),
        ((*EXPLAIN, "--at", "tomorrow"), "--at: "),
        ((*EXPLAIN, "--at", "2026-11-21T03:00"), "--at: Input should have timezone info"),
        ((*EXPLAIN, "--policy", "/nowhere"), "policy /nowhere: No such file"),
        (("policy", "test", "/nowhere"), "expectations /nowhere: No such file"),
    ],
)
def test_questions_that_cannot_be_answered(run: Terminal, argv: tuple[str, ...], said: str) -> None:
    """What is missing or wrong is named in one sentence."""
    ended = run(*argv)

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"stanch: {said}")


def test_strangers(run: Terminal, home: Path) -> None:
    """A person who is not in the catalogue is not explained away."""
    (home / "catalogue.yaml").write_text(PEOPLE, encoding="utf-8")

    assert "mallory: not among the people" in run(*EXPLAIN, "--person", "mallory").err


def test_show(run: Terminal, home: Path) -> None:
    """The rules in force are printed so that they can be written to a file again."""
    shown = run("policy", "show").out
    (home / "policy.cedar").write_text(OPEN, encoding="utf-8")
    whole: dict[str, Any] = json.loads(run("policy", "show", "--json").out)

    assert shown.strip() == DEFAULT.strip()
    assert run("policy", "show").out.strip() == OPEN
    assert (whole["digest"], whole["rules"]) == (Policy(OPEN).digest, {"all": ""})
    assert "context" in run("policy", "show", "--schema").out


def test_the_table_of_the_how_to(run: Terminal, tmp_path: Path) -> None:
    """What the how-to expects of the shipped policy is so, and its example is a rule."""
    page = HOW_TO.read_text(encoding="utf-8")
    table, rule = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)[0] for kind in ("yaml", "cedar"))

    said = run("policy", "test", write(tmp_path, table))

    assert (said.code, said.out.split(", ")[-1]) == (0, "0 differences.\n")
    assert "two-at-night" in Policy(DEFAULT + rule).because


def test_differences(run: Terminal, tmp_path: Path) -> None:
    """Each difference is shown with where it is, and the program ends with 1."""
    table = """
- {severity: SEV2, risk: high, needs: one, by: one-person}
- {severity: SEV2, risk: low, who: {groups: [x]}, may: {approve: true, grant: false}}
"""
    said = run("policy", "test", write(tmp_path, table))
    found = json.loads(run("policy", "test", write(tmp_path, table), "--json").out)

    assert (said.code, said.out.splitlines()[-1]) == (1, "2 expectations, 2 situations, 3 differences.")
    assert re.search(r"1 +SEV2 production any.action high +one +two by two-people", said.out)
    assert [(one["expectation"], one["expected"]) for one in found["differences"]] == [
        (1, "one"),
        (1, "by one-person"),
        (2, "approve: yes"),
    ]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "write a list, with one entry for each expectation"),
        ("needs: one", "write a list, with one entry for each expectation"),
        ("- {needs: three}", "expectation 1.needs: "),
        ("- {risk: low}", "expectation 1: it expects nothing"),
        ("- {needs: one}\n- {need: one}", "expectation 2.need: "),
        ("- {needs: one, needs: two}", "the key needs is there twice"),
        ("- {needs: one, severity: []}", "expectation 1.severity: "),
        ("- {may: {aprove: true}}", "expectation 1.may.aprove"),
    ],
)
def test_tables_that_say_nothing(run: Terminal, tmp_path: Path, table: str, said: str) -> None:
    """A table that is empty, misspelt or without an expectation is refused and named."""
    ended = run("policy", "test", write(tmp_path, table))

    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err
