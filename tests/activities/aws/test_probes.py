"""What the probes see."""

from datetime import timedelta

import pytest

from activities.aws import (
    Metric,
    MetricProbe,
    Mode,
    Readiness,
    ReadinessProbe,
    SetDesiredCapacity,
    SetRoutingControls,
    SetServiceCount,
    SwitchGlobalCluster,
    Verdict,
)
from activities.aws.client import AwsClient
from activities.aws.fake import FakeAws, Fault
from contracts.actions import ActionRequest
from contracts.errors import ActionRefusedError, ProviderUnavailableError
from contracts.plans import ActionCall, Target
from runtime.clock import utc_now
from tests.activities.aws.conftest import AT, ENDPOINTS, STANDBY, World


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


def test_a_metric_that_cannot_be_read_says_why(aws: FakeAws, client: AwsClient) -> None:
    """Refused and unavailable are told apart, and the missing permission is named."""
    asked = Metric(**AT, namespace="Shop", metric="latency")
    aws.fail(Fault.FORBIDDEN, "GetMetricData")
    with pytest.raises(ActionRefusedError, match="may not do cloudwatch:GetMetricData"):
        MetricProbe(client).look(asked)

    aws.fail(Fault.ERROR_BEFORE, "GetMetricData")
    with pytest.raises(ProviderUnavailableError):
        MetricProbe(client).look(asked)


def findings(client: AwsClient, *steps: ActionRequest) -> list[tuple[Verdict, str]]:
    """Look whether steps would run."""
    report = ReadinessProbe(client).look(Readiness(steps=tuple(step.call() for step in steps)))
    assert report.ready is (Verdict.FAIL not in [one.verdict for one in report.findings])
    return [(one.verdict, one.detail) for one in report.findings]


def failover(world: World, **more: int) -> tuple[ActionRequest, ...]:
    """Make a standby, and the steps that fail over to it."""
    world.make_group()
    world.make_service()
    world.make_panel()
    return (
        SetDesiredCapacity.model_validate({**world.at_group, "desired": 5, **more}),
        SetServiceCount.model_validate({**world.at_service, "count": 6}),
        SetRoutingControls(account="main", panel="shop", states={"ireland": False, "virginia": True}),
        SwitchGlobalCluster(
            account="main",
            region=STANDBY,
            cluster=world.make_global(),
            writer=world.standby_db,
            mode=Mode.UNGRACEFUL,
        ),
    )


def test_a_standby_that_is_ready(aws: FakeAws, world: World, client: AwsClient) -> None:
    """Every step says that it would run, and nothing was changed by asking."""
    world.make_lag(0.5)
    aws.quota = ("vCPUs", 1000.0)
    found = findings(client, *failover(world))

    assert [detail for verdict, detail in found if verdict is not Verdict.OK] == []
    assert [detail for _, detail in found].count("it would run now") == 4
    assert (Verdict.OK, "5 of 5 endpoints answer") in found
    assert (Verdict.OK, "it lags 0.5 seconds behind") in found
    assert aws.changes == []


def test_a_standby_that_is_not_ready(aws: FakeAws, world: World, client: AwsClient) -> None:
    """Limits, lag, health and endpoints that stand against a failover are told long before it is due."""
    world.make_lag(90)
    steps = failover(world, desired=50)
    world.make_limits(1, 4)
    aws.in_service, aws.quota = 1, ("vCPUs", 1000.0)
    for region in ENDPOINTS[:3]:
        aws.close_endpoint(region)
    found = findings(client, *steps)
    said = {verdict: [detail for one, detail in found if one is verdict] for verdict in Verdict}

    assert [
        word
        for word in ("not within the limits, 1 to 6", "within 1 to 4", "2 of 5 endpoints", "lags 90 seconds")
        if not any(word in detail for detail in said[Verdict.FAIL])
    ] == []
    assert said[Verdict.WARN] == ["1 of 2 instances are in service"]
    assert "it would run now" not in said[Verdict.OK]


def test_a_step_that_cannot_be_looked_at_is_a_failure(aws: FakeAws, world: World, client: AwsClient) -> None:
    """Not permitted, away, unknown or wrong: a step that nobody could check is not ready."""
    step = SetDesiredCapacity.model_validate({**world.at_group, "desired": 5})
    aws.fail(Fault.FORBIDDEN, "DescribeAutoScalingGroups")
    (denied,) = findings(client, step)
    aws.fail(Fault.ERROR_BEFORE, "DescribeAutoScalingGroups")
    (away,) = findings(client, step)
    stranger = step.call().model_copy(update={"name": "aws.delete_everything"})
    wrong = ActionCall(
        name=step.action, target=Target(provider="aws", kind="x", path=()), arguments={"desired": "many"}
    )
    report = ReadinessProbe(client).look(Readiness(steps=(stranger, wrong)))

    assert denied[0] is away[0] is Verdict.FAIL
    assert "may not do autoscaling:DescribeAutoScalingGroups" in denied[1]
    assert [one.verdict for one in report.findings] == [Verdict.FAIL, Verdict.FAIL]
