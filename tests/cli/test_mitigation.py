"""`stanch mitigation`: what is in force, and the orders about it as they are sent."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from contracts.in_force import ForceState, InForce, StepInForce
from tests.cli.answers import NOW, STEP, Answers
from tests.cli.conftest import Terminal

assert STEP.undo is not None
FOUND = InForce(
    mitigation="INC-1/2",
    incident="INC-1",
    service="web",
    environment="production",
    title="Disable flag \x1b[31mnew-recommendations",
    plan_digest="a" * 64,
    owner="ada",
    steps=(StepInForce(step=1, title=STEP.title, action=STEP.action, undo=STEP.undo, since=NOW),),
    since=NOW,
    expires_at=NOW + timedelta(hours=23, minutes=30),
    undo="INC-1/2-undo",
)
AT = "/v1/mitigations/INC-1/2"


def test_list(stanch: Terminal, gateway: Answers) -> None:
    """The list has owner, end and what runs, with nothing that moves the cursor; --all asks for all."""
    over = FOUND.model_copy(update={"mitigation": "INC-1/3", "state": ForceState.PERMANENT, "owner": ""})
    gateway.give("GET /v1/mitigations", [FOUND, over])
    said = stanch("mitigation", "list", "--all", "--incident", "INC-1")
    words = " ".join(said.out.split())

    assert said.code == 0
    assert "INC-1/2 web ada" in words
    assert "in 23 h, INC-1/2-undo runs" in words
    assert "INC-1/3 web nobody permanent" in words
    assert "\x1b" not in said.out
    assert gateway.asked[0].path == "/v1/mitigations?limit=1000&closed=true&incident=INC-1"


def test_nothing(stanch: Terminal, gateway: Answers) -> None:
    """Nothing in force is said in a sentence, and as an empty list to programs."""
    gateway.give("GET /v1/mitigations", [])

    assert stanch("mitigation", "list").out == "Nothing is in force.\n"
    assert json.loads(stanch("mitigation", "list", "--json").out) == []


def test_what_somebody_has_changed_back(stanch: Terminal, gateway: Answers) -> None:
    """A step that is in force on paper only says who has changed it back, and nothing they named it."""
    step = FOUND.steps[0].model_copy(update={"changed_by": "argocd\x1b[31m", "changed_at": NOW})
    gateway.give(f"GET {AT}", FOUND.model_copy(update={"steps": (step,)}))
    said = stanch("mitigation", "show", "INC-1/2").out

    assert "CHANGED BACK by argocd" in " ".join(said.split())
    assert "\x1b" not in said


def test_show(stanch: Terminal, gateway: Answers) -> None:
    """One is shown with its steps and targets, and the same as JSON."""
    gateway.give(f"GET {AT}", FOUND)
    words = " ".join(stanch("mitigation", "show", "INC-1/2").out.split())

    for part in (
        "INC-1/2 in_force Disable flag",
        "step 1. Turn new-recommendations off: launchdarkly:flag/shop/production/new-recommendations",
        "undo INC-1/2-undo is on its way; see `stanch approval list`",
    ):
        assert part in words
    shown = json.loads(stanch("mitigation", "show", "INC-1/2", "--json").out)
    assert InForce.model_validate(shown) == FOUND


def test_undo(stanch: Terminal, gateway: Answers) -> None:
    """The order names the steps and the reason."""
    gateway.give(f"POST {AT}/undo", FOUND, status=202)
    said = stanch("mitigation", "undo", "INC-1/2", "--reason", "fixed", "--step", "2", "--step", "1")

    assert said.code == 0
    assert [(one.path, one.body) for one in gateway.orders] == [
        (f"{AT}/undo", {"reason": "fixed", "steps": [2, 1]})
    ]


@pytest.mark.parametrize(
    ("span", "wanted"),
    [("30m", timedelta(minutes=30)), ("4h", timedelta(hours=4)), ("3d", timedelta(days=3))],
)
def test_extend(stanch: Terminal, gateway: Answers, span: str, wanted: timedelta) -> None:
    """A span counts from now."""
    gateway.give(f"POST {AT}/extend", FOUND)
    began = datetime.now(UTC)
    assert stanch("mitigation", "extend", "INC-1/2", "--for", span, "--reason", "later").code == 0
    (order,) = gateway.orders

    until = datetime.fromisoformat(order.body["until"])
    assert began + wanted <= until <= datetime.now(UTC) + wanted
    assert order.body["reason"] == "later"


@pytest.mark.parametrize("span", ["3", "-1h", "1.5h", "0d", "1w", "999999d", "\u0663d"])
def test_what_is_no_span(stanch: Terminal, gateway: Answers, span: str) -> None:
    """Anything else is a wrong command line."""
    said = stanch("mitigation", "extend", "INC-1/2", f"--for={span}", "--reason", "later")

    assert said.code == 2
    assert "is no span: write 30m, 4h or 3d" in said.err
    assert gateway.asked == []


def test_make_permanent_and_refusals(stanch: Terminal, gateway: Answers) -> None:
    """The order is sent as it is, and a refusal is one sentence."""
    gateway.give(f"POST {AT}/make-permanent", {"error": "INC-1/2: only its owner"}, status=403)
    said = stanch("mitigation", "make-permanent", "INC-1/2", "--reason", "it is the fix")
    odd = stanch("mitigation", "show", "INC-1/../x y")

    assert (said.code, said.err) == (1, "stanch: INC-1/2: only its owner\n")
    assert gateway.orders[0].body == {"reason": "it is the fix"}
    assert odd.code == 1
    assert gateway.asked[-1].path == "/v1/mitigations/INC-1/..%2Fx%20y"
