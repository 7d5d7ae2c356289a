"""What can be seen in AWS."""

import math
from datetime import timedelta

from activities.aws.models import AwsService, Metric, reading
from contracts.actions import Probe
from contracts.errors import ActionRefusedError
from contracts.plans import Reading


class MetricProbe(Probe[Metric, Reading]):
    """Takes the newest value of a CloudWatch metric.

    No value is no data: ``None``, never zero. The reading's time is ours, so that readings of several sources
    can be compared; the value's own time is in the detail.
    """

    request_type = Metric

    def __init__(self, service: AwsService) -> None:
        self._service = service

    def look(self, request: Metric) -> Reading:
        """Look once."""
        now = self._service.now()
        dimensions = [{"Name": name, "Value": value} for name, value in request.dimensions.items()]
        metric = {"Namespace": request.namespace, "MetricName": request.metric, "Dimensions": dimensions}
        stat = {"Metric": metric, "Period": request.period, "Stat": request.statistic}
        asked = {
            "MetricDataQueries": [{"Id": "value", "MetricStat": stat}],
            "StartTime": now - timedelta(seconds=request.period * request.within),
            "EndTime": now,
            "ScanBy": "TimestampDescending",
        }
        answer = self._service.read(request, "cloudwatch", "get_metric_data", asked)
        with reading(request.where, "metric data"):
            result = answer["MetricDataResults"][0]
            if result.get("StatusCode") in {"Forbidden", "InternalError"}:
                raise ActionRefusedError(f"{request.where}: CloudWatch gives no {request.metric}")
            values = sorted(zip(result["Timestamps"], result["Values"], strict=True), reverse=True)
        if not values or not math.isfinite(values[0][1]):
            return Reading(value=None, at=now, detail="no data")
        at, value = values[0]
        return Reading(value=value, at=now, detail=f"of {at.isoformat()}")
