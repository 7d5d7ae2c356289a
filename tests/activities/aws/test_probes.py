"""What the probes see."""

from datetime import timedelta

import pytest

from activities.aws import Metric, MetricProbe
from activities.aws.client import AwsClient
from activities.aws.fake import FakeAws, Fault
from contracts.errors import ActionRefusedError, ProviderUnavailableError
from runtime.clock import utc_now
from tests.activities.aws.conftest import AT, World


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
