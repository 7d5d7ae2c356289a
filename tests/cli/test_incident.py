"""`stanch incident`: seeing and commanding incidents."""

import json
from datetime import timedelta
from typing import Any

import pytest

from contracts.incidents import Phase
from contracts.notices import HandoffState
from runtime.clock import utc_now
from tests.cli.answers import HANDOFF, INCIDENT, REQUEST, Answers, entry
from tests.cli.conftest import Terminal


def test_list_says_when_and_what_needs_a_person(stanch: Terminal, gateway: Answers) -> None:
    """A listing has one line for each incident, and one for each that waits for a person."""
    opened = INCIDENT.model_copy(update={"opened_at": utc_now() - timedelta(minutes=4)})
    closed = opened.model_copy(update={"id": "INC-0", "phase": Phase.CLOSED})
    gateway.give("GET /v1/incidents", [opened, closed])

    lines = stanch("incident", "list").out.splitlines()

    assert [line.split()[:4] for line in lines[1:3]] == [
        ["INC-1", "SEV2", "mitigating", "web"],
        ["INC-0", "SEV2", "closed", "web"],
    ]
    assert "Z, 4 min ago  5xx rate above 5 %" in lines[1]
    assert [line.strip() for line in lines[3:]] == ["INC-1 needs a person: a decision on APR-2"]


def test_list_can_leave_out_what_is_over(stanch: Terminal, gateway: Answers) -> None:
    """--open is the gateway's own filter."""
    gateway.give("GET /v1/incidents", [])

    assert stanch("incident", "list", "--open").out == "No incident is open.\n"
    assert gateway.asked[0].path == "/v1/incidents?open=true"


def test_show_has_roles_attempts_and_the_timeline(stanch: Terminal, gateway: Answers) -> None:
    """One incident is shown with who leads it, what was tried, and what happened under each day."""
    gateway.give("GET /v1/incidents/INC-1", INCIDENT)
    gateway.give("GET /v1/incidents/INC-1/evidence", [entry(0, "one\x07"), entry(20, "two")])
    gateway.give("GET /v1/approvals", [REQUEST])

    out = stanch("incident", "show", "INC-1").out

    assert out.startswith("INC-1  SEV2  mitigating  5xx rate above 5 %\nservice   web in production\n")
    assert "role      incident commander: ada\n" in out
    assert "tried     Restart web: ineffective (error_rate stayed at 12 %)\n" in out
    assert f"waits     APR-2 {REQUEST.title} (low)\n" in out
    assert "/v1/approvals?incident=INC-1&state=pending" in [one.path for one in gateway.asked]
    assert out.endswith(
        "\n2026-03-01 (UTC)\n23:59:50  one\ufffd [stanch]\n\n2026-03-02 (UTC)\n00:00:10  two [stanch]\n"
    )


def test_show_keeps_to_a_screen(stanch: Terminal, gateway: Answers) -> None:
    """A long timeline is cut at its beginning and says so; --all and --json give all of it."""
    gateway.give("GET /v1/incidents/INC-1", INCIDENT)
    gateway.give("GET /v1/incidents/INC-1/evidence", [entry(index, f"n{index}.") for index in range(40)])
    gateway.give("GET /v1/approvals", [])

    short = stanch("incident", "show", "INC-1").out
    whole = stanch("incident", "show", "INC-1", "--all").out
    for_programs = json.loads(stanch("incident", "show", "INC-1", "--json").out)

    assert "10 earlier entries are not shown; --all shows them." in short
    assert ("n9." in short, "n10." in short, "n39." in short) == (False, True, True)
    assert "n0." in whole
    assert len(for_programs["timeline"]) == 40


def test_declare_says_how_to_take_the_lead(stanch: Terminal, gateway: Answers) -> None:
    """A declared incident is answered with its number and what to do next."""
    gateway.give("POST /v1/incidents", INCIDENT, status=201)

    sent = ("incident", "declare", "Carts are empty", "--service", "web", "--severity", "sev2")
    said = stanch(*sent)
    stanch(*sent, "--region", "eu")

    assert said.out == "INC-1 declared. Take the lead with `stanch incident ack INC-1`.\n"
    assert gateway.orders[0].body == {
        "title": "Carts are empty",
        "service": "web",
        "environment": "production",
        "severity": "SEV2",
    }
    assert gateway.orders[1].body == {**gateway.orders[0].body, "region": "eu"}


@pytest.mark.parametrize(
    ("argv", "path", "body"),
    [
        (["ack", "INC-1"], "ack", {}),
        (
            ["assign", "INC-1", "--to", "bo", "--role", "scribe"],
            "roles",
            {"role": "scribe", "person": "bo"},
        ),
        (
            ["take-over", "INC-1", "--from", "bo", "--reason", "no answer"],
            "take-over",
            {"holder": "bo", "reason": "no answer"},
        ),
        (
            ["severity", "INC-1", "SEV1", "--reason", "worse"],
            "severity",
            {"severity": "SEV1", "reason": "worse"},
        ),
        (["replan", "INC-1", "--reason", "new facts"], "replan", {"reason": "new facts"}),
        (
            ["replan", "INC-1", "--playbook", "scale-out", "--param", "most=9", "--reason", "more"],
            "replan",
            {"playbook": "scale-out", "params": {"most": 9}, "reason": "more"},
        ),
        (["resolve", "INC-1", "--reason", "over"], "resolve", {"reason": "over"}),
    ],
)
def test_commands_are_sent_as_they_are(
    stanch: Terminal, gateway: Answers, argv: list[str], path: str, body: dict[str, Any]
) -> None:
    """Every command of the gateway's interface can be given at the terminal."""
    gateway.give(f"POST /v1/incidents/INC-1/{path}", INCIDENT)

    said = stanch("incident", *argv)

    assert (said.code, said.err) == (0, "")
    assert [(one.path, one.body) for one in gateway.orders] == [(f"/v1/incidents/INC-1/{path}", body)]
    own_choice = "You asked for scale-out by name: somebody else approves its plan, unless STANCH_SOLO"
    assert (own_choice in said.out) == ("playbook" in body)


@pytest.mark.parametrize(
    ("argv", "path", "body"),
    [
        (["handoff", "INC-1", "--to", "bo"], "handoff", {"role": "incident_commander", "person": "bo"}),
        (
            ["handoff", "INC-1", "--to", "bo", "--role", "scribe"],
            "handoff",
            {"role": "scribe", "person": "bo"},
        ),
        (["accept", "INC-1"], "handoff/accept", {"role": None}),
        (["accept", "INC-1", "--role", "scribe"], "handoff/accept", {"role": "scribe"}),
    ],
)
def test_a_handoff_shows_its_packet(
    stanch: Terminal, gateway: Answers, argv: list[str], path: str, body: dict[str, str]
) -> None:
    """Who offers or accepts a role sees what there is to know: what waits, what is in force, what comes."""
    gateway.give(f"POST /v1/incidents/INC-1/{path}", HANDOFF)

    said = stanch("incident", *argv)
    lines = said.out.splitlines()

    assert [(one.path, one.body) for one in gateway.orders] == [(f"/v1/incidents/INC-1/{path}", body)]
    assert lines[:6] == [
        "HND-1: incident commander from ada to bo, offered.",
        "state     SEV2, mitigating: 5xx rate above 5 %",
        "attention a decision on APR-2",
        "firing    HighErrorRate",
        "waits     APR-2 Disable flag new-recommendations (low)",
        "in force  INC-1/1: Restart web (ada)",
    ]
    assert lines[6] == "tried     Restart web: ineffective"
    assert lines[7].startswith("next      ")


def test_an_offer_is_taken_back(stanch: Terminal, gateway: Answers) -> None:
    """Taking back says which offers are gone."""
    gone = HANDOFF.model_copy(update={"state": HandoffState.WITHDRAWN})
    gateway.give("POST /v1/incidents/INC-1/handoff/withdraw", [gone])

    said = stanch("incident", "handoff", "INC-1", "--withdraw")

    assert said.out == "HND-1: incident commander from ada to bo, withdrawn.\n"
