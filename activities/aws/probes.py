"""What can be seen in AWS."""

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from activities.aws.actions import (
    ExecuteRegionSwitchAction,
    RollBackServiceAction,
    SetDesiredCapacityAction,
    SetRecordWeightsAction,
    SetRoutingControlsAction,
    SetScalableTargetAction,
    SetServiceCountAction,
    SwitchGlobalClusterAction,
)
from activities.aws.models import (
    AwsService,
    Finding,
    GlobalState,
    GroupState,
    Metric,
    Readiness,
    ReadinessReport,
    ServiceState,
    SetRoutingControls,
    Verdict,
    reading,
)
from contracts.actions import Probe
from contracts.base import Frozen
from contracts.errors import ActionRefusedError, ProviderUnavailableError
from contracts.plans import ActionCall, Reading

# AWS promises that three of the five endpoints of a routing control cluster answer.
ENDPOINTS = 3
NEARLY_USED = 0.8  # of a quota

STEPS: tuple[Any, ...] = (
    ExecuteRegionSwitchAction,
    RollBackServiceAction,
    SetDesiredCapacityAction,
    SetRecordWeightsAction,
    SetRoutingControlsAction,
    SetScalableTargetAction,
    SetServiceCountAction,
    SwitchGlobalClusterAction,
)

Said = Iterator[tuple[Verdict, str]]


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


class ReadinessProbe(Probe[Readiness, ReadinessReport]):
    """Checks the steps of a failover without running any: permissions, capacity, lag, health of the standby.

    Each step is observed and asked for what stands against it, as for a plan. What AWS promises nothing
    about, capacity above all, stays unpromised.
    """

    request_type = Readiness

    def __init__(self, service: AwsService) -> None:
        self._service = service
        self._actions = {kind.request_type.action: kind(service) for kind in STEPS}

    def look(self, request: Readiness) -> ReadinessReport:
        """Look once at every step."""
        findings = []
        for step in request.steps:
            said = list(self._step(step, request.longest_lag))
            if all(verdict is Verdict.OK for verdict, _ in said):
                said.append((Verdict.OK, "it would run now"))
            findings += [Finding(step=str(step), verdict=verdict, detail=detail) for verdict, detail in said]
        return ReadinessReport(findings=tuple(findings), at=self._service.now())

    def _step(self, step: ActionCall, longest_lag: timedelta) -> Said:
        action = self._actions.get(step.name)
        if action is None:
            yield Verdict.FAIL, f"{step.name}: AWS has no such action"
            return
        try:
            request = action.request_type.model_validate(step.arguments)
            observed = action.observe(request)
            refusals = action.preflight(request, observed)
        except ValidationError as error:
            yield Verdict.FAIL, f"{step.name}: {error.errors()[0]['msg']}"
            return
        except (ActionRefusedError, ProviderUnavailableError) as error:
            yield Verdict.FAIL, str(error)
            return
        for refusal in refusals:
            yield Verdict.FAIL, refusal
        if isinstance(request, SetRoutingControls):
            yield from self._endpoints(request)
        notes = observed.state.get("notes")
        for note in notes if isinstance(notes, list) else ():
            yield Verdict.WARN, str(note)
        yield from _standby(action.state(observed), longest_lag)

    def _endpoints(self, request: SetRoutingControls) -> Said:
        panel = self._service.panel(request, request.panel)
        silent = []
        for endpoint in panel.endpoints:
            alone = {"name": f"{panel.name}@{endpoint.region}", "endpoints": (endpoint,)}
            try:
                self._service.route(
                    request,
                    panel.model_copy(update=alone),
                    "list_routing_controls",
                    {"ControlPanelArn": panel.arn},
                )
            except (ActionRefusedError, ProviderUnavailableError):
                silent.append(endpoint.region)
        answering = len(panel.endpoints) - len(silent)
        said = f"{answering} of {len(panel.endpoints)} endpoints answer"
        if silent:
            few = Verdict.WARN if answering >= ENDPOINTS else Verdict.FAIL
            yield few, f"{said}, not {', '.join(silent)}"
        else:
            yield Verdict.OK, said


def _standby(state: Frozen | None, longest_lag: timedelta) -> Said:
    """Say how the standby is, by what was observed of it."""
    if isinstance(state, GroupState):
        yield from _of_group(state)
    elif isinstance(state, ServiceState):
        yield from _of_service(state)
    elif isinstance(state, GlobalState):
        yield from _of_database(state, longest_lag)


def _of_group(state: GroupState) -> Said:
    serving = sum(one.weighted_capacity for one in state.instances if one.serves)
    if serving < state.desired_capacity:
        yield Verdict.WARN, f"{serving} of {state.desired_capacity} instances are in service"
    if state.activity:
        yield Verdict.WARN, f"its last scaling activity: {state.activity}"
    quota = state.quota
    if quota is not None and quota.used is not None and quota.used > NEARLY_USED * quota.limit:
        yield Verdict.WARN, str(quota)


def _of_service(state: ServiceState) -> Said:
    if state.running_count < state.desired_count:
        yield Verdict.WARN, f"{state.running_count} of {state.desired_count} tasks run"
    if state.primary is not None and state.primary.rollout_state == "FAILED":
        yield Verdict.FAIL, f"its deployment failed: {state.primary.rollout_state_reason}"


def _of_database(state: GlobalState, longest_lag: timedelta) -> Said:
    longest = longest_lag.total_seconds()
    if state.lag is None:
        yield Verdict.WARN, "its lag is not known"
    elif state.lag > longest:
        yield Verdict.FAIL, f"it lags {state.lag:g} seconds behind, {longest:g} are allowed"
    else:
        yield Verdict.OK, f"it lags {state.lag:g} seconds behind"
