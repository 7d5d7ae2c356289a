"""What the policies let Stanch do in AWS: its actions, and with one verb less not even these."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from activities.aws import (
    CheckReadiness,
    ReadinessProbe,
    ServiceHistory,
    ServiceHistoryProbe,
    SetRoutingControls,
)
from activities.aws.actions import SetRoutingControlsAction
from activities.aws.client import AwsClient
from activities.aws.fake import FakeAws
from contracts.catalogue import Aws
from contracts.errors import ActionRefusedError
from contracts.outcomes import Outcome
from contracts.readiness import CheckState
from runtime.clock import utc_now
from tests.activities.aws import conftest, test_faults
from tests.activities.aws.conftest import RULE, World
from tests.activities.aws.test_faults import Case, carry_out

POLICIES = Path(__file__).parent.parent.parent / "deploy" / "aws"
# The same AWS as the actions' own tests have.
moto, proxy, aws, accounts = conftest.moto, conftest.proxy, conftest.aws, conftest.accounts
sdk, world = conftest.sdk, conftest.world

Made = Callable[[World], Case]
CHANGES: dict[Made, tuple[str, str]] = {
    # Which verb of which policy each case needs.
    test_faults.capacity: ("set-desired-capacity", "autoscaling:SetDesiredCapacity"),
    test_faults.capacity_and_limits: ("set-desired-capacity", "autoscaling:UpdateAutoScalingGroup"),
    test_faults.count: ("set-service-count", "ecs:UpdateService"),
    test_faults.limits: ("set-scalable-target", "application-autoscaling:RegisterScalableTarget"),
    test_faults.revision: ("roll-back-service", "ecs:UpdateService"),
    test_faults.weights: ("set-record-weights", "route53:ChangeResourceRecordSets"),
    test_faults.routing: ("set-routing-controls", "route53-recovery-cluster:UpdateRoutingControlStates"),
    test_faults.region_switch: ("execute-region-switch", "arc-region-switch:StartPlanExecution"),
    test_faults.harder: ("execute-region-switch", "arc-region-switch:UpdatePlanExecution"),
    test_faults.switchover: ("switch-global-cluster", "rds:SwitchoverGlobalCluster"),
    test_faults.failover: ("switch-global-cluster", "rds:FailoverGlobalCluster"),
}
NEEDED: dict[str, Made] = {
    "application-autoscaling:DescribeScalableTargets": test_faults.limits,
    "arc-region-switch:GetPlanExecution": test_faults.harder,
    "arc-region-switch:GetPlanInRegion": test_faults.region_switch,
    "arc-region-switch:ListPlanExecutions": test_faults.region_switch,
    "autoscaling:DescribeAutoScalingGroups": test_faults.capacity,
    "ecs:DescribeServices": test_faults.count,
    "ecs:DescribeTaskDefinition": test_faults.revision,
    "elasticloadbalancing:DescribeTargetHealth": test_faults.capacity,
    "rds:DescribeGlobalClusters": test_faults.switchover,
    "route53-recovery-cluster:ListRoutingControls": test_faults.routing,
    "route53:ListResourceRecordSets": test_faults.weights,
}
WORTH_SEEING: dict[str, Made] = {
    "rds:DescribeDBClusters": test_faults.switchover,
    "route53:GetHealthCheck": test_faults.weights,
    "route53:GetHealthCheckStatus": test_faults.weights,
    "autoscaling:DescribeScalingActivities": test_faults.capacity,
    "cloudwatch:GetMetricData": test_faults.failover,
    "route53:GetChange": test_faults.weights,
    "servicequotas:GetServiceQuota": test_faults.capacity,
}


def unready(client: AwsClient, case: Case) -> list[str]:
    """Give what a look at a step says that is not ok; what its credential may do is not asked here."""
    found = ReadinessProbe(client).look(CheckReadiness(steps=(case.request.call(),))).checks
    return [one.detail for one in found if one.state is not CheckState.OK and one.name != "permissions"]


def history(client: AwsClient, world: World) -> tuple[str, ...]:
    """Give what a look at a service's history says that could not be seen."""
    former, _ = world.make_service()
    world.aws.deployed = [(former, utc_now() - timedelta(hours=1))]
    try:
        seen = ServiceHistoryProbe(client).look(ServiceHistory(**world.at_service))
    except ActionRefusedError as error:
        return (str(error),)
    assert [one.served > timedelta(0) for one in seen.former] == [not seen.notes]
    return seen.notes


# What the probes look at besides.
LOOKS: dict[str, Callable[[AwsClient, World], Sequence[str]]] = {
    "arc-region-switch:GetPlanEvaluationStatus": lambda client, world: unready(
        client, test_faults.region_switch(world)
    ),
    "ecs:DescribeServiceRevisions": history,
    "ecs:ListServiceDeployments": history,
    "ecs:ListTaskDefinitions": history,
}


def statements(name: str, *, without: str = "", zone: str = "") -> list[dict[str, Any]]:
    """Give the statements of a policy, one verb left out, for a hosted zone."""
    text = (POLICIES / f"{name}.json").read_text(encoding="utf-8")
    policy = json.loads(text.replace("Z0SHOPEXAMPLE", zone or "Z0SHOPEXAMPLE"))
    found: list[dict[str, Any]] = policy["Statement"]
    return [{**one, "Action": [verb for verb in one["Action"] if verb != without]} for one in found]


def verbs(name: str) -> set[str]:
    """Give the verbs that a policy allows."""
    return {verb for one in statements(name) for verb in one["Action"]}


@pytest.fixture(scope="session")
def client(accounts: Aws) -> Iterator[AwsClient]:
    """Our client, which looks with one key and changes with another."""
    names = [path.stem for path in POLICIES.glob("*.json")]
    profiles = {f"aws.{name.replace('-', '_')}": "limited" for name in names}
    account = accounts.accounts[0].model_copy(update={"profiles": profiles})
    ours = accounts.model_copy(update={"accounts": (account, *accounts.accounts[1:])})
    with closing(AwsClient(ours, clock=utc_now, read_timeout=20)) as made:
        yield made


def allow(aws: FakeAws, case: Case, policy: str, *, look: str = "", change: str = "") -> None:
    """Put the policies in force: one to look with, one for the change; each with a verb left out."""
    zone = getattr(case.request, "zone", "")
    aws.policies = {
        "main": statements("observe", without=look, zone=zone),
        "limited": statements(policy, without=change, zone=zone),
    }


def test_the_tables_are_all_that_the_policies_allow() -> None:
    """A change here is a change of what a stolen worker can do."""
    names = {path.stem for path in POLICIES.glob("*.json")}
    allowed = {(name, verb) for name in names - {"observe", "explain"} for verb in verbs(name)}

    assert allowed == {*CHANGES.values()}
    assert verbs("observe") == NEEDED.keys() | WORTH_SEEING.keys() | LOOKS.keys()
    assert verbs("explain") == {"iam:SimulatePrincipalPolicy"}


@pytest.mark.parametrize("path", sorted(POLICIES.glob("*.json")), ids=lambda path: path.stem)
def test_no_policy_allows_everything(path: Path) -> None:
    """No wildcard among the verbs, nothing is changed on any resource whatever, no role is passed."""
    policy = json.loads(path.read_text(encoding="utf-8"))
    said = {verb for one in policy["Statement"] for verb in one["Action"]}

    assert policy["Version"] == "2012-10-17"
    assert [verb for verb in said if "*" in verb or verb == "iam:PassRole"] == []
    if path.stem != "observe":
        assert [one["Sid"] for one in policy["Statement"] if one["Resource"] == "*"] == []


@pytest.mark.parametrize("made", CHANGES)
def test_each_action_runs_under_exactly_its_policy(
    aws: FakeAws, world: World, client: AwsClient, made: Made
) -> None:
    """To look there is one policy, and for its change each action has its own."""
    case = made(world)
    allow(aws, case, CHANGES[made][0])

    assert carry_out(case.action(client), case.request) is Outcome.DONE
    assert case.is_done()
    assert {one.key for one in aws.changes} == {"limited"}


@pytest.mark.parametrize("made", CHANGES)
def test_one_verb_less_changes_nothing_and_is_named(
    aws: FakeAws, world: World, client: AwsClient, made: Made
) -> None:
    """Without its verb an action is refused by AWS, in a sentence that names the verb."""
    policy, verb = CHANGES[made]
    case = made(world)
    allow(aws, case, policy, change=verb)
    action = case.action(client)
    observed = action.observe(case.request)

    with pytest.raises(ActionRefusedError, match=f"the credential may not do {verb} "):
        action.apply(case.request, observed, action_id="INC-1/1/1/apply")
    assert aws.changes == []


@pytest.mark.parametrize("made", CHANGES)
def test_a_missing_verb_is_named_before_anybody_approves(
    aws: FakeAws, world: World, client: AwsClient, made: Made
) -> None:
    """Where the role may ask, the plan says what is missing; where it has all, the plan says nothing."""
    policy, verb = CHANGES[made]
    case = made(world)
    action = case.action(client)
    observed = action.observe(case.request)
    allow(aws, case, policy)
    aws.policies["limited"] += statements("explain")
    complete = action.preflight(case.request, observed)
    allow(aws, case, policy, change=verb)
    aws.policies["limited"] += statements("explain")

    assert complete == ()
    assert action.preflight(case.request, observed) == (
        f"{case.request.where}: the credential may not do {verb}",
    )


@pytest.mark.parametrize("verb", NEEDED)
def test_one_look_less_is_refused_and_named(aws: FakeAws, world: World, client: AwsClient, verb: str) -> None:
    """What an action has to see, it has to be allowed to see."""
    case = NEEDED[verb](world)
    if verb == "elasticloadbalancing:DescribeTargetHealth":
        world.balance_group()
    allow(aws, case, CHANGES[NEEDED[verb]][0], look=verb)

    with pytest.raises(ActionRefusedError, match=f"the credential may not do {verb} "):
        case.action(client).observe(case.request)


@pytest.mark.parametrize("verb", WORTH_SEEING)
def test_what_is_worth_seeing_may_be_missing(
    aws: FakeAws, world: World, client: AwsClient, verb: str
) -> None:
    """Without it the action runs, and the observation says what it could not see."""
    case = WORTH_SEEING[verb](world)
    allow(aws, case, CHANGES[WORTH_SEEING[verb]][0], look=verb)
    action = case.action(client)
    before = action.observe(case.request)
    action.apply(case.request, before, action_id="INC-1/1/1/apply")
    after = action.observe(case.request)

    assert case.is_done()
    assert any(verb in note for note in [*before.state["notes"], *after.state["notes"]])


@pytest.mark.parametrize("verb", LOOKS)
def test_a_probe_names_the_verb_that_it_lacks(
    aws: FakeAws, world: World, client: AwsClient, verb: str
) -> None:
    """Under the policy a probe sees all; with one verb less it says which one."""
    aws.policies = {"main": statements("observe")}
    whole = LOOKS[verb](client, world)
    aws.policies = {"main": statements("observe", without=verb)}
    world.cluster += "-2"
    less = LOOKS[verb](client, world)

    assert [one for one in whole if "may not do" in one] == []
    assert [f"may not do {verb} " in one for one in less if "may not do" in one] == [True]


def test_safety_rules_are_not_overridden_under_the_policy(
    aws: FakeAws, world: World, client: AwsClient
) -> None:
    """Breaking glass takes another role, even for who approves it."""
    case = test_faults.routing(world)
    aws.rules[0].at_least = 2
    request = SetRoutingControls.model_validate(case.request.model_dump() | {"override_rules": [RULE]})
    allow(aws, case, "set-routing-controls")
    action = SetRoutingControlsAction(client)

    with pytest.raises(ActionRefusedError, match="may not do route53-recovery-cluster:Update"):
        action.apply(request, action.observe(request), action_id="INC-1/1/1/apply")
    assert aws.changes == []


def test_records_are_only_changed_under_their_names(aws: FakeAws, world: World, client: AwsClient) -> None:
    """The policy names the records too, so that no other name of the zone is changed."""
    zone = world.make_zone(blue={"Weight": 100, "Name": f"db.{world.domain}"})
    case = test_faults.weights(world)
    request = case.request.model_copy(
        update={"zone": zone, "name": f"db.{world.domain}", "weights": {"blue": 1}}
    )
    aws.policies = {
        "main": statements("observe", zone=zone),
        "limited": statements("set-record-weights", zone=zone),
    }
    action = case.action(client)

    with pytest.raises(ActionRefusedError, match="may not do route53:ChangeResourceRecordSets"):
        action.apply(request, action.observe(request), action_id="INC-1/1/1/apply")
    assert aws.changes == []
