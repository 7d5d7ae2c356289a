"""What the probes see."""

import itertools
import re
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from activities.aws import (
    CheckReadiness,
    ExecuteRegionSwitch,
    Metric,
    MetricProbe,
    Mode,
    ReadinessProbe,
    ServiceHistory,
    ServiceHistoryProbe,
    ServiceRevision,
    SetDesiredCapacity,
    SetRecordWeights,
    SetRoutingControls,
    SetScalableTarget,
    SetServiceCount,
    SwitchGlobalCluster,
)
from activities.aws.client import AwsClient
from activities.aws.fake import FakeAws, Fault
from activities.aws.models import ServiceRevisions
from activities.registry import Registry
from contracts.actions import ActionRequest
from contracts.catalogue import Aws, Signal
from contracts.errors import ActionRefusedError, ProviderUnavailableError
from contracts.plans import ActionCall, Target
from contracts.readiness import CheckState, ReadinessCheck
from runtime.clock import utc_now
from tests.activities.aws.conftest import AT, ENDPOINTS, PLAN, STANDBY, World


def test_a_metric_is_read(world: World, client: AwsClient) -> None:
    """The newest value is the reading."""
    data = {
        "MetricName": "latency",
        "Dimensions": [{"Name": "Service", "Value": world.cluster}],
        "Value": 0.25,
        "Timestamp": utc_now() - timedelta(minutes=1),
    }
    world.sdk("cloudwatch").put_metric_data(Namespace="Shop", MetricData=[data])
    asked = Metric(**AT, namespace="Shop", metric="latency", dimensions={"Service": world.cluster})
    seen = MetricProbe(client).look(asked)

    assert seen.value == 0.25
    assert seen.detail.startswith("of 20")


def test_no_data_is_not_zero(aws: FakeAws, client: AwsClient) -> None:
    """A metric without a value is no data."""
    del aws
    seen = MetricProbe(client).look(Metric(**AT, namespace="Shop", metric="no-such"))

    assert (seen.value, seen.detail) == (None, "no data")


def test_a_metric_per_another_is_a_share(world: World, client: AwsClient) -> None:
    """Errors per request: a minute with requests alone has none; one without requests is no data."""
    asked = Metric(**AT, namespace=world.cluster, metric="errors", per="requests", statistic="Sum")
    before, now = utc_now() - timedelta(minutes=3), utc_now() - timedelta(minutes=1)

    def put(**values: float) -> float | None:
        at = now if "errors" not in values else before
        data = [{"MetricName": name, "Value": value, "Timestamp": at} for name, value in values.items()]
        world.sdk("cloudwatch").put_metric_data(Namespace=world.cluster, MetricData=data)
        return MetricProbe(client).look(asked).value

    assert [put(errors=5), put(errors=0, requests=20), put(requests=10)] == [None, 0.25, 0.0]


def test_a_signal_of_the_catalogue_is_measured(world: World, client: AwsClient) -> None:
    """What the catalogue writes of a metric is what the probe takes; without a value it stays no data."""
    metric = {**AT, "namespace": world.cluster, "metric": "errors", "dimensions": {"Stage": "live"}}
    signal = Signal.model_validate({"cloudwatch": metric, "healthy_below": 1, "hold": 180})
    call, verbs = signal.verification("errors", {}).probe, Registry([], [MetricProbe(client)])
    before = verbs.measure(call)
    data = {"MetricName": "errors", "Dimensions": [{"Name": "Stage", "Value": "live"}], "Value": 0.5}
    at = utc_now() - timedelta(minutes=1)
    world.sdk("cloudwatch").put_metric_data(Namespace=world.cluster, MetricData=[data | {"Timestamp": at}])

    assert (before.value, verbs.measure(call).value) == (None, 0.5)


def test_a_metric_that_cannot_be_read_says_why(aws: FakeAws, client: AwsClient) -> None:
    """Refused and unavailable are told apart, and the missing permission is named."""
    asked = Metric(**AT, namespace="Shop", metric="latency")
    aws.fail(Fault.FORBIDDEN, "GetMetricData")
    with pytest.raises(ActionRefusedError, match="may not do cloudwatch:GetMetricData"):
        MetricProbe(client).look(asked)

    aws.fail(Fault.ERROR_BEFORE, "GetMetricData")
    with pytest.raises(ProviderUnavailableError):
        MetricProbe(client).look(asked)


def test_two_metrics_have_the_same_times(aws: FakeAws, world: World, accounts: Aws) -> None:
    """The clock goes on between the two questions, and an error is still found in its minute."""
    asked = Metric(**AT, namespace=world.cluster, metric="errors", per="requests", statistic="Sum")
    at = utc_now() - timedelta(minutes=3)
    data = [
        {"MetricName": name, "Value": value, "Timestamp": at}
        for name, value in (("errors", 5.0), ("requests", 10.0))
    ]
    world.sdk("cloudwatch").put_metric_data(Namespace=world.cluster, MetricData=data)
    late = itertools.count()
    with closing(AwsClient(accounts, clock=lambda: utc_now() + timedelta(seconds=7 * next(late)))) as client:
        seen = MetricProbe(client).look(asked).value

    assert seen == 0.5
    assert len(aws.arrived("GetMetricData")) == 2


def test_a_part_of_a_metric_is_no_data(aws: FakeAws, world: World, client: AwsClient) -> None:
    """Errors of which a part is missing would read as no errors per request: it is asked again instead."""
    asked = Metric(**AT, namespace=world.cluster, metric="errors", per="requests", statistic="Sum")
    ends: list[Any] = []
    for code in ("Complete", "PartialData", "InternalError", "Forbidden"):
        aws.rewrites["GetMetricData"] = partial(re.sub, "Complete", code)
        try:
            ends.append(MetricProbe(client).look(asked).value)
        except (ActionRefusedError, ProviderUnavailableError) as error:
            ends.append(type(error))

    assert ends == [None, ProviderUnavailableError, ProviderUnavailableError, ActionRefusedError]


def test_values_without_their_times_are_no_answer(aws: FakeAws, world: World, client: AwsClient) -> None:
    """An answer that contradicts itself makes AWS unavailable, and is no mistake of ours."""
    data = [{"MetricName": "errors", "Value": 1.0, "Timestamp": utc_now() - timedelta(minutes=1)}]
    world.sdk("cloudwatch").put_metric_data(Namespace=world.cluster, MetricData=data)
    aws.rewrites["GetMetricData"] = lambda said: re.sub(r'"Timestamps": ?\[[^]]+\]', '"Timestamps": []', said)

    with pytest.raises(ProviderUnavailableError, match="does not look like metric data"):
        MetricProbe(client).look(Metric(**AT, namespace=world.cluster, metric="errors"))


# Readiness.


def checks(client: AwsClient, *steps: ActionRequest) -> dict[tuple[str, str], list[ReadinessCheck]]:
    """Look whether steps would run; give the checks by kind of target and name."""
    found: dict[tuple[str, str], list[ReadinessCheck]] = {}
    asked = CheckReadiness(steps=tuple(step.call() for step in steps))
    for check in ReadinessProbe(client).look(asked).checks:
        kind = check.target.partition(":")[2].partition("/")[0]
        found.setdefault((kind, check.name), []).append(check)
    return found


def test_a_simulation_that_says_nothing_permits_nothing(
    aws: FakeAws, world: World, client: AwsClient
) -> None:
    """No result is not a yes: whether the permission is there is not known then."""
    world.make_group()
    aws.rewrites["SimulatePrincipalPolicy"] = partial(re.sub, "<EvaluationResults>.*</EvaluationResults>", "")
    (check,) = checks(client, SetDesiredCapacity(**world.at_group, desired=3))[
        "auto_scaling_group", "permissions"
    ]

    assert check.state is CheckState.UNKNOWN


def failover(world: World, **more: int) -> tuple[ActionRequest, ...]:
    """Make a standby of everything, and the steps that fail over to it."""
    world.make_group()
    world.make_service(launchType="FARGATE")
    world.make_limits()
    world.make_panel()
    world.make_plan()
    zone = world.make_zone(
        ireland={"Weight": 100}, virginia={"Weight": 0, "HealthCheckId": world.make_health_check()}
    )
    return (
        SetDesiredCapacity.model_validate({**world.at_group, "desired": 5, **more}),
        SetServiceCount.model_validate({**world.at_service, "count": 6}),
        SetScalableTarget(**AT, resource=world.resource, minimum=4, maximum=10),
        SetRecordWeights(
            account="main",
            zone=zone,
            name=f"www.{world.domain}",
            weights={"ireland": 0, "virginia": 100},
        ),
        SetRoutingControls(account="main", panel="shop", states={"ireland": False, "virginia": True}),
        ExecuteRegionSwitch(
            account="main",
            region=STANDBY,
            plan=PLAN,
            target_region=STANDBY,
            version="7",
            after="execution-0",
        ),
        SwitchGlobalCluster(
            account="main",
            region=STANDBY,
            cluster=world.make_global(),
            writer=world.standby_db,
            mode=Mode.UNGRACEFUL,
        ),
    )


def test_a_standby_that_is_ready(aws: FakeAws, world: World, client: AwsClient) -> None:
    """Every kind of target is asked for permission, health and capacity; nothing is changed by that."""
    world.make_lag(0.5)
    world.make_quota(100, used=3)
    found = checks(client, *failover(world))
    said = {key: {one.detail for one in found[key]} for key in found}

    assert {one.state for several in found.values() for one in several} == {CheckState.OK}
    assert {kind for kind, name in found if name == "permissions"} == {kind for kind, _ in found}
    assert said["routing_panel", "endpoints"] == {"5 of 5 endpoints answer"}
    assert said["record", "health"] == {
        f"virginia is healthy, by health check {world.health_check}",
    }
    assert said["region_switch_plan", "evaluation"] == {"AWS's own evaluation of the plan: passed"}
    assert said["global_cluster", "health"] == {
        f"{world.standby_db.rpartition(':')[2]} is available and has 1 instances"
    }
    for kind in ("global_cluster", "region_switch_plan"):
        assert "lags 0.5 seconds behind" in said[kind, "lag"].pop()
    for kind in ("auto_scaling_group", "ecs_service", "scalable_target"):
        assert {"capacity", "quota"} <= {name for one, name in found if one == kind}
    assert aws.changes == []


def test_a_standby_that_is_not_ready(aws: FakeAws, world: World, client: AwsClient) -> None:
    """Limits, lag, health, quota and endpoints against a failover are told long before it is due."""
    world.make_lag(90)
    steps = failover(world, desired=50)
    aws.in_service = 1
    world.make_quota(32, used=31)
    aws.unhealthy = {world.health_check}
    aws.globals[f"{world.cluster}-db"].instances = 0
    warning = {"warningStatus": "active", "stepName": "scale out", "warningMessage": "no such group"}
    aws.evaluation = {"evaluationState": "actionRequired", "warnings": [warning]}
    for region in ENDPOINTS[:3]:
        aws.close_endpoint(region)
    found = checks(client, *steps)
    against = {
        key: " ".join(one.detail for one in several if one.state is CheckState.NOT_READY)
        for key, several in found.items()
    }

    assert [
        (key, word)
        for key, word in {
            ("auto_scaling_group", "rules"): "not within the limits, 1 to 6",
            ("auto_scaling_group", "capacity"): "1 of 2 instances are in service",
            ("auto_scaling_group", "quota"): "31 of 32 used of quota vCPUs",
            ("record", "rules"): "no health check succeeds",
            ("record", "health"): "virginia is not healthy",
            ("routing_panel", "endpoints"): "2 of 5 endpoints answer, not us-east-1",
            ("region_switch_plan", "evaluation"): "actionRequired; scale out: no such group",
            ("region_switch_plan", "lag"): "lags 90 seconds behind, 5 are allowed",
            ("global_cluster", "lag"): "lags 90 seconds behind, 5 are allowed",
            ("global_cluster", "health"): "has 0 instances",
            ("global_cluster", "rules"): "has no instance, so nobody could write",
        }.items()
        if word not in against[key]
    ] == []


def test_what_nobody_could_look_at_is_not_ready_or_unknown(
    aws: FakeAws, world: World, client: AwsClient
) -> None:
    """Not permitted, not there or wrong is not ready; away, or without data, is unknown: neither is ok."""
    steps = failover(world)
    aws.fail(Fault.FORBIDDEN, "DescribeAutoScalingGroups")
    (denied,) = checks(client, steps[0]).values()
    aws.fail(Fault.ERROR_BEFORE, "DescribeAutoScalingGroups")
    (away,) = checks(client, steps[0]).values()
    stranger = steps[0].call().model_copy(update={"name": "aws.delete_everything"})
    wrong = ActionCall(
        name=steps[0].action, target=Target(provider="aws", kind="x", path=()), arguments={"desired": "many"}
    )
    strange = ReadinessProbe(client).look(CheckReadiness(steps=(stranger, wrong)))
    aws.fail(Fault.FORBIDDEN, "GetPlanEvaluationStatus")
    aws.fail(Fault.FORBIDDEN, "DescribeDBClusters")
    aws.fail(Fault.ERROR_BEFORE, "SimulatePrincipalPolicy", times=9)
    unseen = checks(client, *steps[5:])

    assert [one.state for one in (*denied, *away)] == [CheckState.NOT_READY, CheckState.UNKNOWN]
    assert "may not do autoscaling:DescribeAutoScalingGroups" in denied[0].detail
    assert [one.state for one in strange.checks] == [CheckState.NOT_READY] * 2
    assert {key for key, several in unseen.items() if several[0].state is CheckState.UNKNOWN} == {
        *(
            (kind, name)
            for kind in ("region_switch_plan", "global_cluster")
            for name in ("permissions", "lag")
        ),
        ("region_switch_plan", "evaluation"),
        ("global_cluster", "health"),
        ("global_cluster", "visible"),
    }


# The history of a service.


def history(client: AwsClient, world: World) -> ServiceRevisions:
    """Look at what the service has run."""
    return ServiceHistoryProbe(client).look(ServiceHistory(**world.at_service))


def test_the_history_says_what_served_and_for_how_long(aws: FakeAws, world: World, client: AwsClient) -> None:
    """Former revisions come in the order in which they served, those that never did come last."""
    one, two, three, four = world.make_service(revisions=4)
    now = utc_now()
    hours = ((one, 50.0), (two, 20), (one, 19), (four, 1), (four, 0.1))
    aws.deployed = [(arn, now - timedelta(hours=ago)) for arn, ago in reversed(hours)]
    seen = history(client, world)

    assert seen.present.task_definition == four
    assert seen.present.released_at == aws.deployed[1][1]
    assert [former.task_definition for former in seen.former] == [one, two, three]
    assert [round(former.served / timedelta(hours=1)) for former in seen.former] == [48, 1, 0]
    assert [former.images for former in seen.former] == [("shop/1",), ("shop/2",), ()]
    assert seen.former[2].released_at is None


def test_only_older_revisions_are_former_ones(aws: FakeAws, world: World, client: AwsClient) -> None:
    """After a rollback the bad release has served too, but to run it again would be no rollback."""
    one, two, three = world.make_service(revisions=3)
    aws.deployed = [(arn, utc_now() - timedelta(hours=ago)) for arn, ago in ((one, 50), (three, 9), (two, 1))]
    world.sdk("ecs").update_service(cluster=world.cluster, service="web", taskDefinition=two)
    seen = history(client, world)

    assert (seen.present.task_definition, [former.task_definition for former in seen.former]) == (two, [one])


def test_a_revision_that_was_deregistered_is_none_to_go_back_to(
    aws: FakeAws, world: World, client: AwsClient
) -> None:
    """ECS would not run it, however well it served."""
    one, two, _ = world.make_service(revisions=3)
    aws.deployed = [(two, utc_now() - timedelta(hours=9))]
    world.sdk("ecs").deregister_task_definition(taskDefinition=two)

    assert [former.task_definition for former in history(client, world).former] == [one]


def test_what_somebody_else_deploys_has_its_history_there(world: World, client: AwsClient) -> None:
    """A service that CodeDeploy deploys has nothing that ECS could go back to."""
    world.make_service(deploymentController={"type": "CODE_DEPLOY"})
    seen = history(client, world)

    assert (seen.former, seen.present.released_at) == ((), None)
    assert "CODE_DEPLOY deploys it" in seen.notes[0]


def test_a_history_that_cannot_be_seen_is_said(aws: FakeAws, world: World, client: AwsClient) -> None:
    """Without the former deployments, the revisions are there and it is said what is not known of them."""
    one, _ = world.make_service()
    aws.fail(Fault.FORBIDDEN, "ListServiceDeployments")
    seen = history(client, world)

    assert seen.former == (ServiceRevision(task_definition=one),)
    assert seen.present.released_at is not None
    assert "may not do ecs:ListServiceDeployments" in seen.notes[0]


READ_FAULTS: dict[str, tuple[Fault, type[Exception] | None, int]] = {
    # What happens once, what the look then says, and how many calls arrive.
    "4xx": (Fault.BAD_REQUEST, ActionRefusedError, 1),
    "403": (Fault.FORBIDDEN, ActionRefusedError, 1),
    "429": (Fault.THROTTLED, ProviderUnavailableError, 1),
    "5xx": (Fault.ERROR_BEFORE, ProviderUnavailableError, 1),
    "timeout": (Fault.TIMEOUT_BEFORE, None, 2),
    "connection cut": (Fault.CUT_AFTER, None, 2),
    "200 of something else": (Fault.ANOTHER, ProviderUnavailableError, 1),
}
LOOKS: dict[str, tuple[type[Any], type[Any], Callable[[World], dict[str, Any]]]] = {
    # The call that goes wrong: its probe, its request, and the request's arguments.
    "GetMetricData": (MetricProbe, Metric, lambda world: {**AT, "namespace": world.cluster, "metric": "x"}),
    "DescribeServices": (ServiceHistoryProbe, ServiceHistory, lambda world: world.at_service),
    "ListTaskDefinitions": (ServiceHistoryProbe, ServiceHistory, lambda world: world.at_service),
}


@pytest.mark.parametrize("fault", READ_FAULTS)
@pytest.mark.parametrize("operation", LOOKS)
def test_every_answer_to_a_look_is_refused_unavailable_or_read_again(
    aws: FakeAws, world: World, impatient: AwsClient, operation: str, fault: str
) -> None:
    """What AWS turned away in words is told in words; what was lost on the way is asked once more."""
    world.make_service()
    probe, request, arguments = LOOKS[operation]
    what, said, arrive = READ_FAULTS[fault]
    aws.fail(what, operation)
    if said is None:
        probe(impatient).look(request(**arguments(world)))
    else:
        with pytest.raises(said):
            probe(impatient).look(request(**arguments(world)))

    assert len(aws.arrived(operation)) == arrive
    assert aws.changes == []
