"""`stanch playbook` and `stanch postmortem`."""

import json

from contracts.messages import PreviewAnswer
from tests.cli.answers import PLAN, Answers
from tests.cli.conftest import Terminal

PREVIEW = "POST /v1/playbooks/disable-flag/plan"


def test_list_has_one_line_each(stanch: Terminal, gateway: Answers) -> None:
    """Each playbook is named with its risk and its first sentence."""
    gateway.give(
        "GET /v1/playbooks", [{"name": "disable-flag", "summary": "Switch a flag off.", "risk": "low"}]
    )

    lines = stanch("playbook", "list").out.splitlines()

    assert [line.split(maxsplit=2) for line in lines] == [
        ["NAME", "RISK", "WHAT IT DOES"],
        ["disable-flag", "low", "Switch a flag off."],
    ]


def test_plan_shows_what_would_be_proposed(stanch: Terminal, gateway: Answers) -> None:
    """A preview is a plan as an approver would see it, and says that it is none."""
    gateway.give(PREVIEW, PreviewAnswer(plan=PLAN))

    said = stanch("playbook", "plan", "disable-flag", "--service", "web", "--signal", "error_rate")

    assert "Step 1 of 1: Turn new-recommendations off" in said.out
    assert said.out.endswith("This is a preview: nothing was sealed, and nobody was asked.\n")
    assert gateway.orders[0].body == {
        "service": "web",
        "environment": "production",
        "severity": "SEV3",
        "signal": "error_rate",
        "params": {},
    }


def test_plan_says_why_there_is_none(stanch: Terminal, gateway: Answers) -> None:
    """A playbook that proposes nothing is quoted, and that is no failure."""
    gateway.give(PREVIEW, PreviewAnswer(note="no flag was changed"))

    said = stanch("playbook", "plan", "disable-flag", "--service", "web")

    assert (said.code, said.out) == (0, "disable-flag proposes nothing: no flag was changed\n")


def test_parameters_are_json_where_they_are(stanch: Terminal, gateway: Answers) -> None:
    """A value is a number, a truth or a list where it reads as one, and a text otherwise."""
    gateway.give(PREVIEW, PreviewAnswer(note="-"))

    stanch(
        *("playbook", "plan", "disable-flag", "--service", "web"),
        *("--param", "count=3", "--param", "dry=true", "--param", "within=PT6H", "--param", "a=b=c"),
    )

    assert gateway.orders[0].body["params"] == {"count": 3, "dry": True, "within": "PT6H", "a": "b=c"}


def test_a_parameter_without_a_value_is_refused(stanch: Terminal, gateway: Answers) -> None:
    """A parameter that cannot be read is named."""
    said = stanch("playbook", "plan", "disable-flag", "--service", "web", "--param", "count")

    assert (said.code, gateway.asked) == (1, [])
    assert said.err == "stanch: --param count: write it as NAME=VALUE\n"


def test_plan_gives_json(stanch: Terminal, gateway: Answers) -> None:
    """Programs get the plan as the gateway gave it."""
    gateway.give(PREVIEW, PreviewAnswer(plan=PLAN))

    said = stanch("playbook", "plan", "disable-flag", "--service", "web", "--json")

    assert json.loads(said.out)["plan"] == PLAN.model_dump(mode="json")


def test_a_postmortem_is_printed_as_it_is(stanch: Terminal, gateway: Answers) -> None:
    """Markdown keeps its lines; what could drive the terminal is marked."""
    gateway.give("GET /v1/incidents/INC-1/postmortem", b"# INC-1\n\n- a\tb\x1b[0m\n")

    said = stanch("postmortem", "INC-1")

    assert said.out == "# INC-1\n\n- a b\ufffd[0m\n"


def test_a_missing_postmortem_is_one_sentence(stanch: Terminal, gateway: Answers) -> None:
    """The gateway's own sentence says that there is none yet."""
    gateway.give("GET /v1/incidents/INC-1/postmortem", {"error": "INC-1 has no postmortem yet"}, status=404)

    said = stanch("postmortem", "INC-1")

    assert (said.code, said.err) == (1, "stanch: INC-1 has no postmortem yet\n")
