"""A grant covers what is inside its envelope and nothing else."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from activities.aws import models as aws
from activities.http import models as http
from activities.k8s import models as k8s
from activities.k8s.models import RestartDeployment, RollBackDeployment, SetAutoscalerLimits, template_hash
from activities.launchdarkly import models as launchdarkly
from authority.grants import around, outside, read_limits, write_limits
from contracts.actions import ONLY_TOLD, ActionRequest
from contracts.approvals import Bound, Envelope
from contracts.errors import InputError
from contracts.plans import Needs, Plan, Risk
from tests.authority.plans import NOW, grant, plan

LATER = NOW + timedelta(minutes=1)


def one_step(**changes: Any) -> Plan:
    """Give a plan whose one step scales to six."""
    step = plan().steps[0]
    action = step.action.model_copy(update={"arguments": {"replicas": 6, "zone": "a", "deep": True}})
    updated = step.model_copy(update={"needs": Needs.ONE, "action": action} | changes)
    return plan().model_copy(update={"steps": (updated,)})


def enveloped(**changes: Any) -> Any:
    """Give the grant with another envelope."""
    return grant().model_copy(update={"envelope": grant().envelope.model_copy(update=changes)})


def test_inside() -> None:
    """A step that fits the envelope in every part is inside."""
    limits = {"replicas": Bound(at_least=1, at_most=10), "zone": Bound(one_of=("a", "b"))}
    targets = ("launchdarkly:flag/shop/*",)

    assert outside(enveloped(limits=limits, targets=targets), one_step(), LATER) == {}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"actions": ("k8s.scale",)}, "does not name launchdarkly.set_flag"),
        ({"targets": ("launchdarkly:flag/shop/production/newer",)}, "does not name launchdarkly:flag"),
        ({"targets": ("launchdarkly:flag/shop/production/ne",)}, "does not name launchdarkly:flag"),
        ({"max_risk": Risk.NONE}, "ends at risk none"),
        ({"limits": {"replicas": Bound(at_most=5)}}, "bounds replicas"),
        ({"limits": {"replicas": Bound(at_least=7)}}, "bounds replicas"),
        ({"limits": {"gone": Bound(at_most=5)}}, "bounds gone"),
        ({"limits": {"zone": Bound(at_most=5)}}, "bounds zone"),
        ({"limits": {"zone": Bound(one_of=("b",))}}, "bounds zone"),
        ({"limits": {"deep": Bound(at_most=5)}}, "bounds deep"),
        ({"limits": {"deep": Bound(one_of=(1,))}}, "bounds deep"),
    ],
)
def test_outside_the_envelope(changes: dict[str, Any], why: str) -> None:
    """Whatever does not fit is outside, with the reason; a bound holds an argument that is missing, too."""
    assert why in outside(enveloped(**changes), one_step(), LATER)[1]


@pytest.mark.parametrize("needs", [Needs.TWO, Needs.DENIED])
def test_what_needs_more_than_one_is_outside_every_grant(needs: Needs) -> None:
    """One person's grant never stands for two people, and never for what is denied."""
    assert "the policy asks more" in outside(grant(), one_step(needs=needs), LATER)[1]


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        ({"incident": "INC-2"}, LATER),
        ({"service": "other"}, LATER),
        ({"environment": "staging"}, LATER),
        ({}, grant().expires_at),
        ({}, NOW - timedelta(seconds=1)),
    ],
)
def test_out_of_scope_or_time(changes: dict[str, Any], at: Any) -> None:
    """Another incident, service or environment, and any time but its own, is outside for every step."""
    assert list(outside(grant().model_copy(update=changes), one_step(), at)) == [1]


@pytest.mark.parametrize(
    ("lines", "limits"),
    [
        (["replicas<=10"], {"replicas": Bound(at_most=10)}),
        ([" replicas >= 2 ", "replicas <= 10"], {"replicas": Bound(at_least=2, at_most=10)}),
        (["ids <= 123456789012", "ids >= 0.125"], {"ids": Bound(at_least=0.125, at_most=123456789012)}),
        (["on = false"], {"on": Bound(one_of=(False,))}),
        (["key=a b", 'key="1"', "key=1"], {"key": Bound(one_of=("a b", "1", 1))}),
        (["weight=NaN", "weight=1e999"], {"weight": Bound(one_of=("NaN", "1e999"))}),
        ([], {}),
    ],
)
def test_limits_as_people_write_them(lines: list[str], limits: dict[str, Bound]) -> None:
    """What people write is read, and what is written of it is read the same."""
    envelope = Envelope(actions=("k8s.scale",), targets=("k8s:deployment/a/b/c",), limits=limits)

    assert read_limits(lines) == limits
    assert read_limits(write_limits(envelope)) == limits


@pytest.mark.parametrize("line", ['states = {"eu": tr', "ids = [1, 2", 'key = "a'])
def test_a_limit_whose_end_was_cut_off(line: str) -> None:
    """It is not taken for a text that nothing is ever equal to."""
    with pytest.raises(InputError, match="no whole JSON"):
        read_limits([line])


@pytest.mark.parametrize(
    "line", ["", "replicas", "replicas < 10", "replicas <= ten", "replicas<=true", "a b = 1", "x<=NaN", "x="]
)
def test_a_limit_that_is_none(line: str) -> None:
    """What cannot be read as a limit is refused, not left out."""
    with pytest.raises(InputError, match="is no"):
        read_limits([line])


def test_a_limit_said_twice() -> None:
    """Of two upper limits neither wins."""
    with pytest.raises(InputError, match="limited twice"):
        read_limits(["replicas<=10", "replicas<=20"])


def asking(**arguments: Any) -> Plan:
    """Give the plan with other arguments of its step."""
    action = one_step().steps[0].action
    return one_step(action=action.model_copy(update={"arguments": dict(action.arguments) | arguments}))


def test_an_envelope_around_a_plan() -> None:
    """It has the plan's actions and targets, and holds everything at what it is; so the plan is inside."""
    found = around(asking(key=one_step().steps[0].action.target.path[-1]))
    same = {"zone": Bound(one_of=("a",)), "deep": Bound(one_of=(True,))}

    assert found.limits == {"replicas": Bound(at_most=6)} | same
    assert (
        outside(enveloped(**dict(found)), asking(key=one_step().steps[0].action.target.path[-1]), LATER) == {}
    )


@pytest.mark.parametrize(
    ("arguments", "beyond"),
    [
        ({"replicas": 5}, None),
        ({"replicas": 7}, "replicas"),
        ({"zone": "b"}, "zone"),
        ({"deep": False}, "deep"),
        ({"mode": "ungraceful"}, "mode"),
        ({"states": {"eu": False, "us": False}}, "states"),
        ({"maximum": 9}, "maximum"),
    ],
)
def test_an_envelope_around_a_plan_is_not_wider_than_it(
    arguments: dict[str, Any], beyond: str | None
) -> None:
    """A plan that asks for anything else, such as the ungraceful way, is asked about again."""
    shown = {"mode": "graceful", "states": {"eu": False, "us": True}, "maximum": None}
    given = enveloped(**dict(around(asking(**shown))))

    found = outside(given, asking(**(shown | arguments)), LATER)

    assert found == ({1: f"GRT-1 bounds {beyond}"} if beyond else {})


WEB = {"cluster": "demo", "namespace": "shop", "name": "web"}


def called(*requests: ActionRequest) -> Plan:
    """Give a plan that asks for these."""
    steps = (one_step(action=request.call()).steps[0] for request in requests)
    numbered = tuple(step.model_copy(update={"number": number}) for number, step in enumerate(steps, 1))
    return plan().model_copy(update={"steps": numbered})


def test_a_yes_ahead_of_time_to_a_restart() -> None:
    """The next restart is asked for at another time and is inside all the same."""
    given = enveloped(**dict(around(called(RestartDeployment(**WEB, restarted_at="2026-01-01T00:00:00Z")))))

    assert outside(given, called(RestartDeployment(**WEB, restarted_at="2026-01-02T00:00:00Z")), LATER) == {}


def test_a_yes_ahead_of_time_to_a_release() -> None:
    """The release is the template, whatever number it has by then."""

    def back(revision: int, image: str) -> Plan:
        template = {"spec": {"containers": [{"name": "web", "image": image}]}}
        about = {"revision": revision, "template": template, "template_hash": template_hash(template)}
        return called(RollBackDeployment.model_validate(WEB | about))

    given = enveloped(**dict(around(back(3, "web:1"))))

    assert outside(given, back(5, "web:1"), LATER) == {}
    assert outside(given, back(3, "web:2"), LATER) == {1: "GRT-1 bounds template, template_hash"}


def test_what_is_named_like_the_target_is_held_too() -> None:
    """An argument is not left out because it looks like a part of the target; the plan is inside still."""

    def limited(autoscaler: str, name: str = "web") -> SetAutoscalerLimits:
        return SetAutoscalerLimits.model_validate(
            WEB | {"name": name, "autoscaler": autoscaler, "minimum": 1, "maximum": 2}
        )

    asked = called(limited("web"), limited("api-scaler", "api"))
    given = enveloped(**dict(around(asked)))

    assert outside(given, asked, LATER) == {}
    assert outside(given, called(limited("payments")), LATER) == {1: "GRT-1 bounds autoscaler"}
    assert outside(given, called(limited("api-scaler")), LATER) == {}


def test_only_what_asks_for_nothing_is_told() -> None:
    """What no limit holds is there beside what says the same, or is when a restart was asked for."""
    told = {
        request.action: ONLY_TOLD & set(request.model_fields)
        for module in (aws, http, k8s, launchdarkly)
        for request in vars(module).values()
        if isinstance(request, type) and issubclass(request, ActionRequest) and hasattr(request, "action")
    }

    assert {name: names for name, names in told.items() if names} == {
        "k8s.restart_deployment": {"restarted_at"},
        "k8s.roll_back_deployment": {"revision"},
        "launchdarkly.set_flag": {"targeting"},
    }


def test_an_envelope_around_several_actions() -> None:
    """Each limit is of its own action, so the plan is inside, and what one of them exceeds is not."""
    first = one_step().steps[0]
    pause = first.action.model_copy(update={"name": "k8s.set_sync", "arguments": {"paused": True}})
    both = (first, first.model_copy(update={"number": 2, "action": pause}))
    whole = one_step().model_copy(update={"steps": both})
    given = enveloped(**dict(around(whole)))
    resumed = pause.model_copy(update={"arguments": {"paused": False}})
    other = whole.model_copy(update={"steps": (first, both[1].model_copy(update={"action": resumed}))})

    assert "launchdarkly.set_flag.replicas <= 6" in write_limits(given.envelope)
    assert read_limits(write_limits(given.envelope)) == given.envelope.limits
    assert outside(given, whole, LATER) == {}
    assert outside(given, other, LATER) == {2: "GRT-1 bounds k8s.set_sync.paused"}


def test_a_limit_of_an_action_that_is_not_named() -> None:
    """A limit that would bound nothing is a mistake, and is said."""
    with pytest.raises(ValidationError, match=r"is a limit of k8s\.scale, which is not among the actions"):
        Envelope(actions=("k8s.restart",), targets=("x",), limits={"k8s.scale.replicas": Bound(at_most=1)})
