"""What can be done in AWS.

Almost none of its calls is conditional. So every change is absolute, what it was planned upon is read and
compared just before the call, and the call is sent once.
"""

import math
import time
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ClassVar, TypeVar

from pydantic.alias_generators import to_pascal

from activities.aws.models import (
    OUR_RULE,
    AwsRequest,
    AwsService,
    ExecuteRegionSwitch,
    Execution,
    ExecutionStep,
    GlobalState,
    GroupState,
    InRegion,
    InService,
    Json,
    Limits,
    Mode,
    Quota,
    RecordsState,
    RollBackService,
    RoutingState,
    ScalableState,
    Seen,
    ServiceState,
    SetDesiredCapacity,
    SetRecordWeights,
    SetRoutingControls,
    SetScalableTarget,
    SetServiceCount,
    SwitchGlobalCluster,
    SwitchState,
    plain_name,
    reading,
)
from contracts.actions import Action, Compared, Made, Wanted
from contracts.base import JsonObject
from contracts.errors import ActionRefusedError, PreconditionFailedError, ProviderUnavailableError
from contracts.outcomes import Progress, Reached
from contracts.plans import Observation, Reach, Risk
from contracts.readiness import CheckState, ReadinessCheck

# On-Demand vCPUs, of Standard instances and of Fargate: what a scale-out runs into first.
EC2_QUOTA = ("ec2", "L-1216C47A")
FARGATE_QUOTA = ("fargate", "L-3032A538")
NEARLY_USED = 0.8  # of a quota
# Reading before a change takes no longer, or nothing is sent: `in_flight` counts on it.
LOOK_WITHIN = timedelta(seconds=25)
# AWS promises that three of the five endpoints of a routing control cluster answer.
ENDPOINTS = 3
# Route 53 takes a target as healthy when more of its checkers than this say so.
HEALTHY_SHARE = 0.18
MILLISECONDS = 1000
WORDS = {True: "On", False: "Off"}
REGION_SWITCH = "arc-region-switch"
ROUTING, LISTED = "route53-recovery-cluster", "list_routing_controls"
SCALABLE = ("application-autoscaling", "describe_scalable_targets", "ScalableTargets")
CLUSTERS = ("rds", "describe_global_clusters", "GlobalClusters")
STUCK = {"failed", "pendingApproval"}
UNDER_WAY = {"inProgress", "pausedByFailedStep", "pausedByOperator", "pending", "pendingManualApproval"}
# The fields of requests whose names are left alone for a while after a change.
STEADY = ("states", "weights", "answers")
# Seconds that an alias of a load balancer is kept by resolvers.
ALIAS_TTL = 60

RequestT = TypeVar("RequestT", bound=AwsRequest)
StateT = TypeVar("StateT", bound=Seen)
OnServiceT = TypeVar("OnServiceT", SetServiceCount, RollBackService)
Notes = list[str]
Found = dict[str, Any]
Back = tuple[RequestT | None, str]
# A change: the service and the operation, as the SDK names them, and what is sent.
Call = tuple[str, str, dict[str, Any]]
UNSEEN = (ActionRefusedError, ProviderUnavailableError)
Check = tuple[str, CheckState, str]
Said = Iterator[Check]
OK, NOT_READY, UNKNOWN = CheckState.OK, CheckState.NOT_READY, CheckState.UNKNOWN
STATES = {True: OK, False: NOT_READY, None: UNKNOWN}


class _OnAws(Compared[RequestT, StateT]):
    """What the actions share: a state that is read, its guard, and the comparison just before the call.

    Class attributes:
        guarded: The fields of the state that void an approval when they change.
        counted: The field of the difference that is how many replicas there are.
    """

    guarded: ClassVar[tuple[str, ...]] = ()
    counted: ClassVar[str] = ""
    # Reads and one change with the client's timeouts, and some seconds to spare.
    in_flight: ClassVar[timedelta] = timedelta(seconds=40)

    def __init__(self, service: AwsService) -> None:
        self._aws = service

    def observe(self, request: RequestT) -> Observation:
        """Read the target, and besides it what a person wants to know of it."""
        state = self._look(request)
        shown = self._shown(request, state).model_dump(mode="json")
        return Observation(state=shown, guard=self._guard(request, state), at=self._aws.now())

    def preflight(self, request: RequestT, observed: Observation) -> tuple[str, ...]:
        """Find what stands against it: our own rules, the target's state, and missing permissions."""
        state = self.state(observed)
        if not self._change(request, state):
            return ()
        verb, allowed = self._permission(request, state)
        denied = () if allowed is not False else (f"{request.where}: the credential may not do {verb}",)
        return (*self._refusals(request, state), *denied)

    def check(
        self, request: RequestT, observed: Observation, longest_lag: timedelta
    ) -> tuple[ReadinessCheck, ...]:
        """Check whether it would run now, and how that is what it leans on."""
        state, target = self.state(observed), str(request.target)
        refusals = self._refusals(request, state)
        verb, allowed = self._permission(request, state)
        missing = {True: "nothing", False: verb, None: "AWS does not tell"}
        said = [
            ("permissions", STATES[allowed], f"missing: {missing[allowed]}"),
            ("rules", NOT_READY if refusals else OK, "; ".join(refusals) or "nothing stands against it"),
            *(("visible", UNKNOWN, note) for note in state.notes),
            *self._checks(request, state, longest_lag),
        ]
        return tuple(
            ReadinessCheck(name=name, target=target, state=so, detail=detail) for name, so, detail in said
        )

    def _permission(self, request: RequestT, state: StateT) -> tuple[str, bool | None]:
        """Name what IAM has to allow, and say whether it does; ``None``: nobody knows."""
        service, operation, _ = self._call(request, state, "")
        verb = f"{service}:{to_pascal(operation)}"
        said = {
            self._aws.allows(request, verb, action=request.action, resource=one) if one else None
            for one in self._resources(request, state)
        }
        return verb, next((one for one in (False, None) if one in said), True)

    def waits_for(self, request: RequestT, observed: Observation, made: Made) -> str:
        """Wait for what is under way, and after a change, so that traffic does not flap."""
        state = self.state(observed)
        wait, names = self._steady(request, state)
        for call, ago in made() if wait else ():
            arguments: dict[str, Any] = call.arguments
            both = sorted(name for field in STEADY for name in arguments.get(field, ()) if name in names)
            if ago < wait and both:
                said = f"{', '.join(both)} was changed less than {wait} ago, so it is left alone"
                return f"{request.where}: {said}"
        return self._waits(request, state)

    def apply(self, request: RequestT, observed: Observation, *, action_id: str) -> None:
        """Compare the guard once more, and send the change once."""
        if not self.change(request, observed):
            return
        began = time.monotonic()
        state = self._look(request)
        now = self._guard(request, state)
        if now != observed.guard:
            names = sorted(name for name in now if now[name] != observed.guard.get(name))
            raise PreconditionFailedError(f"{request.where}: changed since it was read: {', '.join(names)}")
        refusals = self._refusals(request, self._shown(request, state))
        if refusals:
            raise ActionRefusedError("; ".join(refusals))
        if time.monotonic() - began > LOOK_WITHIN.total_seconds():
            raise ProviderUnavailableError(f"{request.where}: reading it took too long, nothing was sent")
        self._send(request, state, action_id)

    def is_reached(self, request: RequestT, observed: Observation) -> Progress:
        """Compare the target with what is asked for, then look at what serves."""
        reached, detail = self._progress(request, self.state(observed))
        return Progress(reached=reached, detail=f"{request.where}: {detail}")

    def undo(self, request: RequestT, observed: Observation) -> Back[RequestT]:
        """Give what brings the observed state back."""
        state = self.state(observed)
        if not self._change(request, state):
            return None, "It is as it should be already, so there is nothing to bring back."
        return self._undo(request, state)

    def blast_radius(self, request: RequestT, observed: Observation) -> str:
        """Say who and what is touched."""
        return self._touched(request, self.state(observed))

    def reach(self, request: RequestT, observed: Observation) -> Reach:
        """Give the region that the target is in, and how many replicas it has."""
        region = request.region if "region" in request.path else None
        return Reach(region=region, replicas=self._wanted(request, self.state(observed)).get(self.counted))

    def _read(self, request: RequestT, service: str, operation: str, /, **params: Any) -> Json:
        return self._aws.read(request, service, operation, params)

    def _first(self, request: RequestT, what: str, looked: tuple[str, str, str], /, **params: Any) -> StateT:
        """Read the one thing that is asked for, by a service's operation, out of a field of the answer."""
        service, operation, field = looked
        answer = self._read(request, service, operation, **params)
        with reading(request.where, what):
            for found in answer[field]:
                return self.state_type.model_validate(found)
        raise ActionRefusedError(f"{request.where}: no such {what.partition(' ')[2]}")

    def _shown(self, request: RequestT, state: StateT) -> StateT:
        """Add what is worth showing."""
        notes = list(state.notes)
        found = self._look_around(request, state, notes)
        return state.model_copy(update={**found, "notes": tuple(notes)})

    def _healthy(
        self, request: RequestT, groups: Mapping[str, str | None], among: set[str] | None
    ) -> dict[str, int]:
        """Count the healthy targets of each target group and its alternate, of all or of some ids."""
        counts: dict[str, int] = {}
        for group, arn in ((one, arn) for one, other in groups.items() for arn in (one, other) if arn):
            answer = self._read(request, "elbv2", "describe_target_health", TargetGroupArn=arn)
            with reading(request.where, "the health of targets"):
                counts[group.split("/")[1]] = counts.get(group.split("/")[1], 0) + sum(
                    one["TargetHealth"]["State"] == "healthy"
                    for one in answer["TargetHealthDescriptions"]
                    if among is None or one["Target"]["Id"] in among
                )
        return counts

    def _quota(self, request: RequestT, service: str, code: str) -> Quota:
        named = {"ServiceCode": service, "QuotaCode": code}
        answer = self._read(request, "service-quotas", "get_service_quota", **named)
        with reading(request.where, "a quota"):
            quota = answer["Quota"]
            found = Quota(name=quota["QuotaName"], limit=quota["Value"])
            metric = quota.get("UsageMetric") or {}
            if not metric.get("MetricName"):
                return found
            about = (metric["MetricNamespace"], metric["MetricName"], metric["MetricDimensions"])
            statistic = metric.get("MetricStatisticRecommendation") or "Maximum"
            used = series(self._aws, request, about, statistic, period=300)
            return found.model_copy(update={"used": next(iter(used.values()), None)})

    def _around_service(
        self, request: RequestT, at: InService, state: ServiceState, notes: Notes, *, grows: bool
    ) -> Found:
        """Look how many targets of an ECS service are healthy, and what bounds a scale-out."""
        found: Found = {"healthy": self._healthy(request, state.target_groups, None)}
        if grows and state.fargate:
            with noting(notes, "the quota cannot be seen"):
                found["quota"] = self._quota(request, *FARGATE_QUOTA)
        with noting(notes, "whether Application Auto Scaling moves its count is not known"):
            service, operation, field = SCALABLE
            named = {"ServiceNamespace": "ecs", "ScalableDimension": "ecs:service:DesiredCount"}
            answer = self._read(request, service, operation, ResourceIds=[at.resource], **named)
            with reading(at.where, "a scalable target"):
                found["limits"] = next((Limits.model_validate(one) for one in answer[field]), None)
        return found

    @abstractmethod
    def _look(self, request: RequestT) -> StateT:
        """Read what the guard and the call need."""

    def _look_around(self, request: RequestT, state: StateT, notes: Notes) -> Found:
        """Give fields of the state that are worth showing, and note what could not be seen."""
        return {}

    def _guard(self, request: RequestT, state: StateT) -> JsonObject:
        """Give what voids an approval when it changes."""
        return {name: getattr(state, name) for name in self.guarded}

    def _resources(self, request: RequestT, state: StateT) -> Iterable[str]:
        """Give the ARNs that a policy names."""
        return (str(getattr(state, "arn", "")),)

    def _refusals(self, request: RequestT, state: StateT) -> tuple[str, ...]:
        """Give what stands against it, whatever AWS would say."""
        return ()

    def _waits(self, request: RequestT, state: StateT) -> str:
        """Say what has to end first; empty: nothing."""
        return ""

    def _steady(self, request: RequestT, state: StateT) -> tuple[timedelta, set[str]]:
        """Give for how long a change is left alone, and the names of what is to be changed."""
        return timedelta(0), set()

    def _checks(self, request: RequestT, state: StateT, longest_lag: timedelta) -> Said:
        """Say how that is what the action leans on: the name of each check, its state and a sentence."""
        return iter(())

    @abstractmethod
    def _call(self, request: RequestT, state: StateT, action_id: str) -> Call:
        """Give the change."""

    def _send(self, request: RequestT, state: StateT, action_id: str) -> Json:
        """Send the change, once."""
        call = self._call(request, state, action_id)
        return self._aws.change(request, *call, action=request.action, action_id=action_id)

    @abstractmethod
    def _progress(self, request: RequestT, state: StateT) -> tuple[Reached, str]:
        """Compare what is and what is asked for."""

    @abstractmethod
    def _undo(self, request: RequestT, state: StateT) -> Back[RequestT]:
        """Give the request that brings the state back."""

    @abstractmethod
    def _touched(self, request: RequestT, state: StateT) -> str:
        """Say who and what is touched, in one sentence."""


class SetDesiredCapacityAction(_OnAws[SetDesiredCapacity, GroupState], Action[SetDesiredCapacity]):
    """Sets how many instances an EC2 Auto Scaling group has; its limits are respected, or named too.

    It is reached when that many instances are in service and healthy in every target group that is attached:
    that AWS has accepted the number says nothing about capacity.

    Idempotent: a second call finds that number already asked for and changes nothing.
    Undo: the former number, and the former limits where these were changed.
    """

    request_type = SetDesiredCapacity
    state_type = GroupState
    counted = "desired"
    risk = Risk.MEDIUM
    guarded = ("arn", "desired_capacity", "min_size", "max_size")

    def _look(self, request: SetDesiredCapacity) -> GroupState:
        groups = ("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups")
        return self._first(request, "an Auto Scaling group", groups, AutoScalingGroupNames=[request.group])

    def _look_around(self, request: SetDesiredCapacity, state: GroupState, notes: Notes) -> Found:
        ids = {one.instance_id for one in state.instances}
        groups: dict[str, None] = dict.fromkeys(state.target_groups)
        found: Found = {"healthy": self._healthy(request, groups, ids)}
        with noting(notes, "scaling activities cannot be seen"):
            found["activity"] = self._activity(request)
        if request.desired > state.desired_capacity:
            with noting(notes, "the quota cannot be seen"):
                found["quota"] = self._quota(request, *EC2_QUOTA)
        return found

    def _activity(self, request: SetDesiredCapacity) -> str:
        asked = {"AutoScalingGroupName": request.group, "MaxRecords": 1}
        answer = self._read(request, "autoscaling", "describe_scaling_activities", **asked)
        with reading(request.where, "scaling activities"):
            last: Json = next(iter(answer["Activities"]), {})
            if last.get("StatusCode", "Successful") in {"Successful", "Cancelled"}:
                return ""
            said = last.get("StatusMessage") or last.get("Description") or last.get("Cause") or ""
            return f"{last['StatusCode']}: {said}"

    def _wanted(self, request: SetDesiredCapacity, state: GroupState) -> Wanted:
        low, high = request.within(state.min_size, state.max_size)
        return {
            "desired": (state.desired_capacity, request.desired),
            "minimum": (state.min_size, low),
            "maximum": (state.max_size, high),
        }

    def _refusals(self, request: SetDesiredCapacity, state: GroupState) -> tuple[str, ...]:
        found = []
        low, high = request.within(state.min_size, state.max_size)
        if not low <= request.desired <= high:
            said = f"{request.desired} instances are not within the limits, {low} to {high}"
            found.append(f"{request.where}: {said}; name other limits in the request to change them with it")
        more = request.desired - state.desired_capacity
        adds = {"Launch", "AddToLoadBalancer"} if state.target_groups else {"Launch"}
        needs = adds if more > 0 else {"Terminate"}
        stopped = [one for one in state.suspended if more and one in needs]
        found += [f"{request.where}: its process {one} is suspended; resume it first" for one in stopped]
        if state.status:
            found.append(f"{request.where}: it is being deleted ({state.status})")
        return tuple(found)

    def _checks(self, request: SetDesiredCapacity, state: GroupState, longest_lag: timedelta) -> Said:
        serving = sum(one.weighted_capacity for one in state.instances if one.serves)
        said = f"{serving} of {state.desired_capacity} instances are in service"
        failed = state.activity.startswith("Failed")
        if failed:
            said += f"; its last scaling activity: {state.activity}"
        yield "capacity", NOT_READY if failed or serving < state.desired_capacity else OK, said
        yield from _targets(state.healthy, sum(one.serves for one in state.instances))
        if request.desired > state.desired_capacity:
            yield _headroom(state.quota)

    def _call(self, request: SetDesiredCapacity, state: GroupState, action_id: str) -> Call:
        params = {"AutoScalingGroupName": request.group, "DesiredCapacity": request.desired}
        if request.minimum is None and request.maximum is None:
            # A cooldown is for the group's own policies: it does not hold up what a person has approved.
            return "autoscaling", "set_desired_capacity", params | {"HonorCooldown": False}
        low, high = request.within(state.min_size, state.max_size)
        return "autoscaling", "update_auto_scaling_group", params | {"MinSize": low, "MaxSize": high}

    def _progress(self, request: SetDesiredCapacity, state: GroupState) -> tuple[Reached, str]:
        if self._change(request, state):
            limits = f"within {state.min_size} to {state.max_size}"
            return Reached.NO, f"{state.desired_capacity} instances are wanted there, {limits}"
        said = f" (last scaling activity: {state.activity})" if state.activity else ""
        # Instances of a group may count for more than one each.
        serving = [one for one in state.instances if one.serves]
        weight = sum(one.weighted_capacity for one in serving)
        going = sum(one.lifecycle_state.startswith("Terminating") for one in state.instances)
        if len(serving) == weight > request.desired:
            going += weight - request.desired
        if weight < request.desired:
            return Reached.SETTLING, f"{weight} of {request.desired} instances are in service{said}"
        if going:
            return Reached.SETTLING, f"{going} instances are still to go{said}"
        for group, healthy in state.healthy.items():
            if healthy < len(serving):
                detail = f"{healthy} of {len(serving)} instances are healthy in target group {group}"
                return Reached.SETTLING, detail
        return Reached.YES, f"{weight} of {request.desired} instances are in service"

    def _undo(self, request: SetDesiredCapacity, state: GroupState) -> Back[SetDesiredCapacity]:
        back = {
            "desired": state.desired_capacity,
            "minimum": None if request.minimum is None else state.min_size,
            "maximum": None if request.maximum is None else state.max_size,
        }
        return request.model_copy(update=back), f"Sets {state.desired_capacity} instances again."

    def _touched(self, request: SetDesiredCapacity, state: GroupState) -> str:
        more = request.desired - state.desired_capacity
        if more > 0:
            said = f"Launches {more} instances, at their cost, if AWS has them; {_headroom(state.quota)[2]}."
        elif more < 0:
            said = f"Terminates {-more} of {state.desired_capacity} instances; AWS chooses which."
        else:
            said = "Moves only the limits between which its policies scale."
        groups = ", ".join(state.healthy)
        return f"{said} Their traffic comes from {groups}." if groups else said


class _OnService(_OnAws[OnServiceT, ServiceState]):
    """What the actions on an ECS service share."""

    state_type = ServiceState
    settles_within: ClassVar[timedelta] = timedelta(minutes=20)

    def _look(self, request: OnServiceT) -> ServiceState:
        return look_at_service(self._aws, request)

    def _look_around(self, request: OnServiceT, state: ServiceState, notes: Notes) -> Found:
        return self._around_service(request, request, state, notes, grows=self._grows(request, state))

    def _checks(self, request: OnServiceT, state: ServiceState, longest_lag: timedelta) -> Said:
        yield from _running(state, grows=self._grows(request, state))

    def _grows(self, request: OnServiceT, state: ServiceState) -> bool:
        return isinstance(request, SetServiceCount) and request.count > state.desired_count

    def _call(self, request: OnServiceT, state: ServiceState, action_id: str) -> Call:
        # The differences have the names that ECS has for them.
        after = {path: after for path, (_, after) in self._wanted(request, state).items()}
        return "ecs", "update_service", {"cluster": request.cluster, "service": request.service, **after}

    def _served(self, state: ServiceState, wanted: int) -> tuple[Reached, str]:
        """Say whether so many tasks run and are healthy."""
        running = f"{state.running_count} of {wanted} tasks run"
        if state.running_count != wanted:
            return Reached.SETTLING, running
        for group, healthy in state.healthy.items():
            if healthy < wanted:
                return Reached.SETTLING, f"{healthy} of {wanted} tasks are healthy in target group {group}"
        return Reached.YES, running


class SetServiceCountAction(_OnService[SetServiceCount], Action[SetServiceCount]):
    """Sets how many tasks an ECS service runs.

    Where Application Auto Scaling moves that number, one outside its limits is refused: it would be moved
    back. `aws.set_scalable_target` moves the limits.

    Idempotent: a second call finds that number already asked for and changes nothing.
    Undo: the former number.
    """

    request_type = SetServiceCount
    counted = "desiredCount"
    risk = Risk.MEDIUM
    guarded = ("arn", "desired_count")

    def _wanted(self, request: SetServiceCount, state: ServiceState) -> Wanted:
        return {"desiredCount": (state.desired_count, request.count)}

    def _refusals(self, request: SetServiceCount, state: ServiceState) -> tuple[str, ...]:
        if state.scheduling != "REPLICA":
            return (f"{request.where}: it is a {state.scheduling} service and has no count",)
        limits = state.limits
        if limits and not limits.min_capacity <= request.count <= limits.max_capacity:
            said = f"Application Auto Scaling keeps it within {limits.min_capacity} to {limits.max_capacity}"
            return (f"{request.where}: {said}; change those limits instead",)
        return ()

    def _progress(self, request: SetServiceCount, state: ServiceState) -> tuple[Reached, str]:
        if state.desired_count != request.count:
            return Reached.NO, f"{state.desired_count} tasks are wanted there, not {request.count}"
        return self._served(state, request.count)

    def _undo(self, request: SetServiceCount, state: ServiceState) -> Back[SetServiceCount]:
        back = request.model_copy(update={"count": state.desired_count})
        return back, f"Sets {state.desired_count} tasks again."

    def _touched(self, request: SetServiceCount, state: ServiceState) -> str:
        more = request.count - state.desired_count
        said = f"Starts {more} more tasks" if more > 0 else f"Stops {-more} of {state.desired_count} tasks"
        moved = "; Application Auto Scaling may move the number again" if state.limits else ""
        quota = f"; {_headroom(state.quota)[2]}" if more > 0 else ""
        return f"{said} of {request.where}{moved}{quota}."


class RollBackServiceAction(_OnService[RollBackService], Action[RollBackService]):
    """Has an ECS service run a former revision of its task definition, named by its whole ARN.

    A new deployment is never forced. It is done when the new deployment has ended well, all its tasks run and
    are healthy; it has failed when the circuit breaker says so.

    Idempotent: a second call finds that revision in place and starts no deployment.
    Undo: the revision that was there before.
    """

    request_type = RollBackService
    risk = Risk.MEDIUM

    def _look(self, request: RollBackService) -> ServiceState:
        state = super()._look(request)
        named = {"taskDefinition": request.task_definition}
        answer = self._read(request, "ecs", "describe_task_definition", **named)
        with reading(request.where, "a task definition"):
            wanted = answer["taskDefinition"]
            images = tuple(str(one.get("image", "")) for one in wanted["containerDefinitions"])
            return state.model_copy(update={"images": images, "wanted_status": str(wanted["status"])})

    def _guard(self, request: RollBackService, state: ServiceState) -> JsonObject:
        return {
            "arn": state.arn,
            "task_definition": state.task_definition,
            "newest deployment": state.primary.id if state.primary else None,
        }

    def _wanted(self, request: RollBackService, state: ServiceState) -> Wanted:
        return {"taskDefinition": (state.task_definition, request.task_definition)}

    def _refusals(self, request: RollBackService, state: ServiceState) -> tuple[str, ...]:
        if state.controller != "ECS":
            return (f"{request.where}: {state.controller} deploys it, so ECS would refuse a change of ours",)
        if family(request.task_definition) != family(state.task_definition):
            said = f"{request.task_definition} is no revision of {family(state.task_definition)}"
            return (f"{request.where}: {said}, which it runs",)
        if state.wanted_status != "ACTIVE":
            return (f"{request.where}: {request.task_definition} is {state.wanted_status}; register it anew",)
        return ()

    def _progress(self, request: RollBackService, state: ServiceState) -> tuple[Reached, str]:
        if state.task_definition != request.task_definition:
            failed = [
                one.rollout_state_reason
                for one in state.deployments
                if one.task_definition == request.task_definition and one.rollout_state == "FAILED"
            ]
            said = f"; a deployment of it failed ({failed[0]})" if failed else ""
            return Reached.NO, f"it runs {_revision(state.task_definition)}{said}"
        reached, said = self._rolled_out(state)
        return reached, f"{_revision(request.task_definition)}: {said}"

    def _rolled_out(self, state: ServiceState) -> tuple[Reached, str]:
        """Say whether the newest deployment is carried out and serves."""
        newest = state.primary
        if newest is None:
            return Reached.SETTLING, "no deployment is there yet"
        running = f"{newest.running_count} of {newest.desired_count} tasks run"
        if newest.failed_tasks:
            running += ", some have failed"  # without their number: a growing one is no progress
        if newest.rollout_state == "FAILED":
            return Reached.FAILED, f"its deployment failed ({newest.rollout_state_reason}); {running}"
        if newest.rollout_state == "IN_PROGRESS" or newest.running_count < newest.desired_count:
            return Reached.SETTLING, running
        former = sum(one.running_count for one in state.deployments if one is not newest)
        if former:
            return Reached.SETTLING, f"{former} former tasks still run"
        return self._served(state, state.desired_count)

    def _undo(self, request: RollBackService, state: ServiceState) -> Back[RollBackService]:
        back = request.model_copy(update={"task_definition": state.task_definition})
        return back, f"Runs {_revision(state.task_definition)} again."

    def _touched(self, request: RollBackService, state: ServiceState) -> str:
        before, after = _revision(state.task_definition), _revision(request.task_definition)
        said = f"Replaces all {state.desired_count} tasks of {request.where}, {before} by {after}"
        going = "; a deployment is under way there" if len(state.deployments) > 1 else ""
        return f"{said} ({', '.join(state.images)}){going}."


class SetScalableTargetAction(_OnAws[SetScalableTarget, ScalableState], Action[SetScalableTarget]):
    """Sets the limits within which Application Auto Scaling moves a dimension, of an ECS service or another.

    It changes what is registered, and registers nothing new. For an ECS service it is reached when at least
    the minimum of tasks runs.

    Idempotent: a second call finds these limits and changes nothing.
    Undo: the former limits.
    """

    request_type = SetScalableTarget
    state_type = ScalableState
    risk = Risk.MEDIUM
    guarded = ("arn", "min_capacity", "max_capacity")

    def _look(self, request: SetScalableTarget) -> ScalableState:
        named = {"ServiceNamespace": request.namespace, "ScalableDimension": request.dimension}
        return self._first(request, "a scalable target", SCALABLE, ResourceIds=[request.resource], **named)

    def _look_around(self, request: SetScalableTarget, state: ScalableState, notes: Notes) -> Found:
        kind, _, path = request.resource.partition("/")
        cluster, _, service = path.partition("/")
        if (request.namespace, kind, bool(service)) != ("ecs", "service", True):
            return {}
        at = InService(account=request.account, region=request.region, cluster=cluster, service=service)
        with noting(notes, "its service cannot be seen", UNSEEN[:1]):
            seen, grows = look_at_service(self._aws, at), request.minimum > state.min_capacity
            found = self._around_service(request, at, seen, notes, grows=grows)
            return {"service": seen.model_copy(update={**found, "notes": tuple(notes)})}
        return {}

    def _checks(self, request: SetScalableTarget, state: ScalableState, longest_lag: timedelta) -> Said:
        if state.service is not None:
            yield from _running(state.service, grows=request.minimum > state.min_capacity)

    def _wanted(self, request: SetScalableTarget, state: ScalableState) -> Wanted:
        return {
            "minimum": (state.min_capacity, request.minimum),
            "maximum": (state.max_capacity, request.maximum),
        }

    def _call(self, request: SetScalableTarget, state: ScalableState, action_id: str) -> Call:
        params = {
            "ServiceNamespace": request.namespace,
            "ResourceId": request.resource,
            "ScalableDimension": request.dimension,
            "MinCapacity": request.minimum,
            "MaxCapacity": request.maximum,
        }
        return "application-autoscaling", "register_scalable_target", params

    def _progress(self, request: SetScalableTarget, state: ScalableState) -> tuple[Reached, str]:
        if self._change(request, state):
            return Reached.NO, f"its limits are {state.min_capacity} to {state.max_capacity}"
        said = f"its limits are {request.minimum} to {request.maximum}"
        service = state.service
        if service is not None:
            serving = min([service.running_count, *service.healthy.values()])
            if serving < request.minimum:
                wanted = f"{serving} tasks run and are healthy, {service.desired_count} are wanted"
                return Reached.SETTLING, f"{said}; {wanted}"
        return Reached.YES, "; ".join([said, *state.notes])

    def _undo(self, request: SetScalableTarget, state: ScalableState) -> Back[SetScalableTarget]:
        limits = {"minimum": state.min_capacity, "maximum": state.max_capacity}
        said = f"Sets the limits {state.min_capacity} to {state.max_capacity} again."
        return request.model_copy(update=limits), said

    def _touched(self, request: SetScalableTarget, state: ScalableState) -> str:
        now = f", now {state.service.desired_count}" if state.service else ""
        said = f"{request.dimension} of {request.resource}{now}"
        grows = state.service is not None and request.minimum > state.min_capacity
        quota = f"; {_headroom(state.service.quota)[2]}" if state.service and grows else ""
        within = f"within {request.minimum} to {request.maximum}{quota}"
        return f"Lets Application Auto Scaling keep {said}, {within}."


class SetRecordWeightsAction(_OnAws[SetRecordWeights, RecordsState], Action[SetRecordWeights]):
    """Sets the weights of a name's weighted records, or what its failover records answer, in one batch.

    An UPSERT replaces whole records, so all of the name's records are its guard. Every weight zero is
    refused: Route 53 then answers with all of them alike. So is a change after which no record would answer
    whose health check does not fail; to go against that, the request names the rule. A record that was
    changed is then left alone for a minute. It is reached when Route 53 says that all of its servers have the
    change; only the worker that made the change can ask for that.

    Idempotent: a second call finds the records so and changes nothing.
    Undo: the former weights and answers.
    """

    request_type = SetRecordWeights
    state_type = RecordsState
    risk = Risk.HIGH

    def __init__(self, service: AwsService, *, wait: timedelta = timedelta(seconds=60)) -> None:
        super().__init__(service)
        self._wait = wait
        self._batches: dict[str, str] = {}

    def reach(self, request: SetRecordWeights, observed: Observation) -> Reach:
        """Give which weighted records answer."""
        weights = self.state(observed).weights
        after = weights | request.weights
        return Reach(places={name: (bool(one), bool(after[name])) for name, one in weights.items()})

    def _look(self, request: SetRecordWeights) -> RecordsState:
        first = {"StartRecordName": request.name, "StartRecordType": request.type, "MaxItems": "300"}
        ask = partial(self._read, request, "route53", "list_resource_record_sets")
        answer = ask(HostedZoneId=request.zone, **first)
        wanted = (request.bare_name, request.type)
        with reading(request.where, "resource record sets"):
            records = {
                one["SetIdentifier"]: one
                for one in answer["ResourceRecordSets"]
                if (plain_name(one["Name"]), one["Type"]) == wanted and "SetIdentifier" in one
            }
            state = RecordsState(records=records)
        for name in request.changed:
            if name not in records:
                known = ", ".join(records) or "none that is weighted or for failover"
                raise ActionRefusedError(f"{request.where}: no record {name}, there are {known}")
        # Route 53 answers few questions a second: they are kept for when the answer counts.
        return self._with_health(request, state) if self._change(request, state) else state

    def _with_health(self, request: SetRecordWeights, state: RecordsState) -> RecordsState:
        """Add what the checkers say of what would answer after the change."""
        healthy, notes = {}, list(state.notes)
        for check in dict.fromkeys(one for one in request.after(state.records).values() if one):
            with noting(notes, f"health check {check} cannot be seen"):
                ask = partial(self._read, request, "route53", HealthCheckId=check)
                answer, known = ask("get_health_check_status"), ask("get_health_check")
                with reading(request.where, "the status of a health check"):
                    how = known["HealthCheck"]["HealthCheckConfig"]
                    said = [
                        one["StatusReport"]["Status"].startswith("Success")
                        for one in answer["HealthCheckObservations"]
                    ]
                    # What is disabled counts as healthy, and what is inverted as the opposite: that is how
                    # people move traffic by hand. Of a check of other checks no checker says anything.
                    if said or how.get("Disabled"):
                        good = how.get("Disabled") or sum(said) > HEALTHY_SHARE * len(said)
                        healthy[check] = good is not bool(how.get("Inverted"))
        return state.model_copy(update={"healthy": healthy, "notes": tuple(notes)})

    def _checks(self, request: SetRecordWeights, state: RecordsState, longest_lag: timedelta) -> Said:
        said = {True: "is healthy", False: "is not healthy", None: "cannot be seen"}
        seen = state if state.healthy else self._with_health(request, state)
        for name, check in request.after(state.records).items():
            if check is None:
                yield "health", UNKNOWN, f"{name} has no health check"
            else:
                healthy = seen.healthy.get(check)
                yield "health", STATES[healthy], f"{name} {said[healthy]}, by health check {check}"

    def _look_around(self, request: SetRecordWeights, state: RecordsState, notes: Notes) -> Found:
        batch = self._batches.get(str(request))
        if batch is not None:
            with noting(notes, "whether all servers of Route 53 have it cannot be seen", UNSEEN[:1]):
                answer = self._read(request, "route53", "get_change", Id=batch)
                with reading(request.where, "a change"):
                    return {"sync": answer["ChangeInfo"]["Status"]}
        return {}

    def _steady(self, request: SetRecordWeights, state: RecordsState) -> tuple[timedelta, set[str]]:
        return self._wait, set(request.changed)

    def _guard(self, request: SetRecordWeights, state: RecordsState) -> JsonObject:
        return dict(state.records)

    def _resources(self, request: SetRecordWeights, state: RecordsState) -> Iterable[str]:
        return (f"arn:aws:route53:::hostedzone/{request.zone}",)

    def _wanted(self, request: SetRecordWeights, state: RecordsState) -> Wanted:
        wanted: Wanted = {
            f"{name}.Weight": (state.records[name].get("Weight"), weight)
            for name, weight in request.weights.items()
        }
        for name, answers in request.answers.items():
            before = state.answers_of(name)
            wanted[f"{name} answers"] = (before.model_dump(mode="json"), answers.model_dump(mode="json"))
        return wanted | _overridden(request.override_rules, wanted)

    def _refusals(self, request: SetRecordWeights, state: RecordsState) -> tuple[str, ...]:
        found = [
            f"{request.where}: record {name} has no weight"
            for name in request.weights
            if "Weight" not in state.records[name]
        ]
        after = request.after(state.records)
        if request.weights and not after:
            said = "every weight would be zero, and then Route 53 answers with all of them alike"
            found.append(f"{request.where}: {said}; leave at least one above zero")
        elif not request.override_rules and all(
            state.healthy.get(one or "") is False for one in after.values()
        ):
            said = f"of {', '.join(after)}, which alone would answer, no health check succeeds"
            found.append(f"{request.where}: {said}; to go against it, name {OUR_RULE} in override_rules")
        return tuple(found)

    def _call(self, request: SetRecordWeights, state: RecordsState, action_id: str) -> Call:
        changes = []
        for name in request.changed:
            record: dict[str, Any] = dict(state.records[name])
            if name in request.weights:
                record["Weight"] = request.weights[name]
            if name in request.answers:
                record = request.answers[name].put_into(record)
            changes.append({"Action": "UPSERT", "ResourceRecordSet": record})
        batch = {"Comment": f"stanch {action_id}", "Changes": changes}
        params = {"HostedZoneId": request.zone, "ChangeBatch": batch}
        return "route53", "change_resource_record_sets", params

    def _send(self, request: SetRecordWeights, state: RecordsState, action_id: str) -> Json:
        answer = super()._send(request, state, action_id)
        batch = (answer.get("ChangeInfo") or {}).get("Id")
        if batch:
            self._batches[str(request)] = batch
        return answer

    def _progress(self, request: SetRecordWeights, state: RecordsState) -> tuple[Reached, str]:
        changes = self._change(request, state)
        if changes:
            return Reached.NO, f"not so yet: {', '.join(one.path for one in changes)}"
        if state.sync == "PENDING":
            return Reached.SETTLING, "Route 53 is still telling its servers"
        ttls = [one.ttl for name in state.records if (one := state.answers_of(name)).ttl is not None]
        known = "all servers of Route 53 have it" if state.sync else "Route 53 has it"
        kept = max(ttls, default=ALIAS_TTL)
        return Reached.YES, f"{known}; resolvers may keep the former answer for {kept} seconds"

    def _undo(self, request: SetRecordWeights, state: RecordsState) -> Back[SetRecordWeights]:
        weights = {name: state.records[name].get("Weight") for name in request.weights}
        answers = {name: state.answers_of(name) for name in request.answers}
        said = ", ".join(f"{name} {weight}" for name, weight in weights.items())
        back = request.model_copy(update={"weights": weights, "answers": answers, "override_rules": ()})
        return back, f"Sets the former {said or 'answers'} again."

    def _touched(self, request: SetRecordWeights, state: RecordsState) -> str:
        after = state.weights | request.weights
        total = sum(after.values())
        shares = [f"{name} {100 * weight / total:.0f} %" for name, weight in after.items()] if total else []
        others = f"other answers of {', '.join(request.answers)}"
        said = f"shares are then {', '.join(shares)}" if shares else others
        kept = "others than Route 53 keep answers for their TTL"
        return f"Everybody who resolves {request.name}: {said}; {kept}.{_overrides(request.override_rules)}"


class SetRoutingControlsAction(_OnAws[SetRoutingControls, RoutingState], Action[SetRoutingControls]):
    """Turns ARC routing controls on or off, all in one call, at whichever of the five endpoints answers.

    How many would be on afterwards is checked before the call, beside AWS's own safety rules; to go against
    either, the request names the rule. A control that was changed is then left alone for the panel's `wait`.

    Idempotent: a second call finds the controls so and changes nothing.
    Undo: the former states.
    """

    request_type = SetRoutingControls
    state_type = RoutingState
    risk = Risk.HIGH
    # All five endpoints to read and all five to change, with the client's timeouts for them.
    in_flight = timedelta(seconds=50)

    def reach(self, request: SetRoutingControls, observed: Observation) -> Reach:
        """Give which controls are on."""
        is_on = self.state(observed).on
        return Reach(places={name: (was, request.states.get(name, was)) for name, was in is_on.items()})

    def _look(self, request: SetRoutingControls) -> RoutingState:
        panel = self._aws.panel(request)
        answer = self._read(request, ROUTING, LISTED, ControlPanelArn=panel.arn)
        with reading(request.where, "routing controls"):
            states = {
                one["RoutingControlArn"]: one["RoutingControlState"] for one in answer["RoutingControls"]
            }
        for name in request.states:
            if name not in panel.controls:
                said = f"the catalogue has no control {name}, it has {', '.join(panel.controls)}"
                raise ActionRefusedError(f"{request.where}: {said}")
        for name, arn in panel.controls.items():
            if arn not in states:
                raise ActionRefusedError(f"{request.where}: control {name} ({arn}) is not there")
        return RoutingState(on={name: states[arn] == "On" for name, arn in panel.controls.items()})

    def _steady(self, request: SetRoutingControls, state: RoutingState) -> tuple[timedelta, set[str]]:
        changed = {name for name, on in request.states.items() if state.on[name] is not on}
        return self._aws.panel(request).wait, changed

    def _guard(self, request: SetRoutingControls, state: RoutingState) -> JsonObject:
        controls = self._aws.panel(request).controls  # the names are the catalogue's, and may move
        return {name: f"{WORDS[on]} {controls[name]}" for name, on in state.on.items()}

    def _resources(self, request: SetRoutingControls, state: RoutingState) -> Iterable[str]:
        controls = self._aws.panel(request).controls
        return (controls[name] for name in request.states)

    def _wanted(self, request: SetRoutingControls, state: RoutingState) -> Wanted:
        wanted: Wanted = {name: (WORDS[state.on[name]], WORDS[on]) for name, on in request.states.items()}
        return wanted | _overridden(request.override_rules, wanted)

    def _checks(self, request: SetRoutingControls, state: RoutingState, longest_lag: timedelta) -> Said:
        panel = self._aws.panel(request)
        silent = self._aws.silent(request, LISTED, {"ControlPanelArn": panel.arn})
        count = len(panel.endpoints)
        answering = count - len(silent)
        said = f"{answering} of {count} endpoints answer{', not ' if silent else ''}{', '.join(silent)}"
        yield "endpoints", OK if answering >= min(ENDPOINTS, count) else NOT_READY, said

    def _refusals(self, request: SetRoutingControls, state: RoutingState) -> tuple[str, ...]:
        least = self._aws.panel(request).at_least_on
        after = state.on | request.states
        if sum(after.values()) >= least or OUR_RULE in request.override_rules:
            return ()
        said = f"{sum(after.values())} of {len(after)} controls would be on, at least {least} are to be"
        return (f"{request.where}: {said}; to go against it, name {OUR_RULE} in override_rules",)

    def _call(self, request: SetRoutingControls, state: RoutingState, action_id: str) -> Call:
        arns = self._aws.panel(request).controls
        states = [(arns[name], WORDS[on]) for name, on in request.states.items()]
        entries = [{"RoutingControlArn": arn, "RoutingControlState": word} for arn, word in states]
        rules = [rule for rule in request.override_rules if rule != OUR_RULE]
        params: dict[str, Any] = {"UpdateRoutingControlStateEntries": entries}
        params |= {"SafetyRulesToOverride": rules} if rules else {}
        return ROUTING, "update_routing_control_states", params

    def _progress(self, request: SetRoutingControls, state: RoutingState) -> tuple[Reached, str]:
        said = ", ".join(f"{name} {WORDS[on]}" for name, on in state.on.items())
        return (Reached.NO if self._change(request, state) else Reached.YES), said

    def _undo(self, request: SetRoutingControls, state: RoutingState) -> Back[SetRoutingControls]:
        former = {name: state.on[name] for name in request.states}
        said = ", ".join(f"{name} {WORDS[on]}" for name, on in former.items())
        back = request.model_copy(update={"states": former, "override_rules": ()})
        return back, f"Turns {said} again; no rule is overridden for that."

    def _touched(self, request: SetRoutingControls, state: RoutingState) -> str:
        after = state.on | request.states
        on = ", ".join(name for name, one in after.items() if one) or "nothing"
        overridden = _overrides(request.override_rules)
        return f"Everybody's traffic through panel {request.panel} goes to {on} afterwards.{overridden}"


class ExecuteRegionSwitchAction(_OnAws[ExecuteRegionSwitch, SwitchState], Action[ExecuteRegionSwitch]):
    """Executes an ARC Region switch plan, in the version that was reviewed, through the region to serve.

    AWS is given a token made from the action's id, so that one action starts one execution, however often it
    is sent. It is reached when AWS says completed; AWS does not promise that there is capacity. Its undo
    can begin only when it has ended.

    Idempotent: a token of the action's own makes a second call give the first one's execution.
    Undo: activate the other region, gracefully, in the same version of the plan.
    """

    request_type = ExecuteRegionSwitch
    state_type = SwitchState
    risk = Risk.HIGH
    settles_within = timedelta(minutes=60)
    guarded = ("version", "last")

    def _look(self, request: ExecuteRegionSwitch) -> SwitchState:
        plan = self._read(request, REGION_SWITCH, "get_plan_in_region", arn=request.plan)
        ran = self._read(request, REGION_SWITCH, "list_plan_executions", planArn=request.plan)
        with reading(request.where, "a Region switch plan"):
            state = SwitchState.model_validate(plan["plan"])
            executions = [Execution.model_validate(one) for one in ran["items"]]
            # What tidies up where it came from has moved nothing.
            executions = [one for one in executions if one.action != "postRecovery"]
            steps = [
                step
                for workflow in plan["plan"].get("workflows") or ()
                if workflow.get("workflowTargetAction", request.verb) == request.verb
                and workflow.get("workflowTargetRegion", request.target_region) == request.target_region
                for step in workflow.get("steps") or ()
            ]
            found: Found = {"steps": tuple(step["name"] for step in steps)}
            found |= {"newest": max(executions, key=lambda one: one.start_time, default=None)}
            found |= {"databases": dict(_databases(steps, request))}
            return state.model_copy(update=found)

    def _look_around(self, request: ExecuteRegionSwitch, state: SwitchState, notes: Notes) -> Found:
        lags = {}
        for database in state.databases:
            with noting(notes, "the lag cannot be seen"):
                lags[database] = replica_lag(self._aws, request, database)
        if not state.last:
            return {"lags": lags}
        named = {"planArn": request.plan, "executionId": state.last}
        answer = self._read(request, REGION_SWITCH, "get_plan_execution", **named)
        with reading(request.where, "an execution"):
            newest = Execution.model_validate(answer)
            steps = tuple(ExecutionStep.model_validate(one) for one in answer.get("stepStates") or ())
            return {"lags": lags, "newest": newest, "progress": steps}

    def _wanted(self, request: ExecuteRegionSwitch, state: SwitchState) -> Wanted:
        found = request.found(state)
        if found is None:
            newest = str(state.newest) if state.newest else None
            return {"execution": (newest, f"{request.verb} {request.target_region}, {request.mode}")}
        return {} if found.state not in UNDER_WAY else {"mode": (found.mode, request.mode.value)}

    def _refusals(self, request: ExecuteRegionSwitch, state: SwitchState) -> tuple[str, ...]:
        found = []
        if state.version != request.version:
            found.append(f"it is in version {state.version}, what was reviewed is {request.version}")
        if request.target_region not in state.regions:
            found.append(f"{request.target_region} is none of {', '.join(state.regions)}")
        if state.newest and state.newest.state in UNDER_WAY and request.found(state) is None:
            found.append(f"another execution is under way ({state.newest}); let it end or cancel it")
        return tuple(f"{request.where}: {said}" for said in found)

    def _checks(self, request: ExecuteRegionSwitch, state: SwitchState, longest_lag: timedelta) -> Said:
        states = {"passed": OK, "actionRequired": NOT_READY}
        try:
            said = self._read(request, REGION_SWITCH, "get_plan_evaluation_status", planArn=request.plan)
            with reading(request.where, "an evaluation"):
                active = (one for one in said.get("warnings") or () if one.get("warningStatus") == "active")
                warnings = [f"{one.get('stepName', '')}: {one['warningMessage']}" for one in active]
                told = "; ".join([said["evaluationState"], *warnings])
                detail = f"AWS's own evaluation of the plan: {told}"
                yield "evaluation", states.get(said["evaluationState"], UNKNOWN), detail
        except UNSEEN as error:
            yield "evaluation", UNKNOWN, str(error)
        for database in state.databases:
            yield _lag(_cluster(database), state.lags.get(database), longest_lag)

    def _call(self, request: ExecuteRegionSwitch, state: SwitchState, action_id: str) -> Call:
        params = {"planArn": request.plan, "comment": f"stanch {action_id}"}
        found = request.found(state)
        if found is not None:
            params |= {"executionId": found.id, "action": f"switchTo{request.mode.value.capitalize()}"}
            return REGION_SWITCH, "update_plan_execution", params
        params |= {
            "targetRegion": request.target_region,
            "action": request.verb,
            "mode": request.mode.value,
            "latestVersion": request.version,
            "clientToken": str(uuid.uuid5(uuid.NAMESPACE_URL, f"stanch:{action_id}")),
        }
        return REGION_SWITCH, "start_plan_execution", params

    def _progress(self, request: ExecuteRegionSwitch, state: SwitchState) -> tuple[Reached, str]:
        found = request.found(state)
        if found is None:
            newest = f", the newest is {state.newest}" if state.newest else ""
            return Reached.NO, f"no execution does that{newest}"
        if "mode" in (one.path for one in self._change(request, state)):
            return Reached.NO, f"its execution is {found.mode}"
        ended = sum(one.status in {"completed", "skipped"} for one in state.progress)
        stuck = [f"{one.name} {one.status}" for one in state.progress if one.status in STUCK]
        steps = f", {ended} of {len(state.progress)} steps" if state.progress else ""
        said = f"{found.state}{steps}{': ' if stuck else ''}{', '.join(stuck)}"
        if found.state.startswith("completed"):
            return Reached.YES, said
        if found.state == "pausedByFailedStep":
            return Reached.FAILED, f"{said}; skip or retry that step in AWS, or switch its mode"
        return (Reached.SETTLING if found.state in UNDER_WAY else Reached.FAILED), said

    def _undo(self, request: ExecuteRegionSwitch, state: SwitchState) -> Back[ExecuteRegionSwitch]:
        others = [region for region in state.regions if region != request.target_region]
        if not others:
            return None, "The plan has no other region."
        back: dict[str, Any] = {"mode": Mode.GRACEFUL, "after": state.last, "region": others[0]}
        if state.approach != "activeActive":
            back |= {"target_region": others[0]}
        elif request.verb == "activate":
            back |= {"verb": "deactivate"}
        else:
            back |= {"verb": "activate", "region": request.target_region}
        undo = request.model_copy(update=back)
        return undo, f"Executes the plan again, to {undo.verb} {undo.target_region}, gracefully."

    def _touched(self, request: ExecuteRegionSwitch, state: SwitchState) -> str:
        said = f"Runs {len(state.steps)} steps ({', '.join(state.steps)}) of plan {state.name}"
        said += f" to {request.verb} {request.target_region}; AWS promises no capacity."
        losing = [one for one, loses in state.databases.items() if loses]
        lost = [f"of {_cluster(one)} {_loss(state.lags.get(one))}" for one in losing]
        if not lost and request.mode is Mode.UNGRACEFUL:
            lost = ["what is not replicated is lost"]
        return f"{said} {request.mode.capitalize()}: {'; '.join(lost)}." if lost else said


class SwitchGlobalClusterAction(_OnAws[SwitchGlobalCluster, GlobalState], Action[SwitchGlobalCluster]):
    """Makes another cluster the writer of an Aurora global database.

    Gracefully it is a switchover, which loses nothing and needs both regions: it is ordered in that of the
    present writer, and refused when nobody answers there. Ungracefully it is a failover, which gives up what
    has not been replicated: how much that is, is estimated from the lag. A cluster without an instance is
    refused: nobody could write there. A failover is reached when the new writer is available, however long
    AWS rebuilds the others. AWS takes no failover while a switchover is
    under way and has no call that ends one: a failover that is forced then waits until AWS has ended it or
    given it up, and goes on if it is still needed.

    Idempotent: a second call finds that writer, or the move to it, and changes nothing.
    Undo: switch over to the former writer, gracefully, once it is in step again; lost data stays lost.
    """

    request_type = SwitchGlobalCluster
    state_type = GlobalState
    risk = Risk.HIGH
    settles_within = timedelta(minutes=20)

    def _look(self, request: SwitchGlobalCluster) -> GlobalState:
        return self._first(request, "a global database", CLUSTERS, GlobalClusterIdentifier=request.cluster)

    def _look_around(self, request: SwitchGlobalCluster, state: GlobalState, notes: Notes) -> Found:
        found: Found = {}
        with noting(notes, "the lag cannot be seen"):
            found["lag"] = replica_lag(self._aws, request, request.writer)
        with noting(notes, "the cluster that is to write cannot be seen"):
            answer = self._read(request, "rds", "describe_db_clusters", DBClusterIdentifier=request.writer)
            with reading(request.where, "a database cluster"):
                (cluster,) = answer["DBClusters"]
                found |= {"standby": cluster["Status"], "instances": len(cluster["DBClusterMembers"])}
        if request.mode is Mode.UNGRACEFUL:
            return found | {"estimated_loss": _loss(found.get("lag"))}
        try:
            self._read(self._ordered(request, state), *CLUSTERS[:2], GlobalClusterIdentifier=request.cluster)
        except ProviderUnavailableError as error:
            found["away"] = str(error)
        return found | {"estimated_loss": "nothing is lost"}

    def _ordered(self, request: SwitchGlobalCluster, state: GlobalState) -> SwitchGlobalCluster:
        """Give the same to be sent where AWS takes it: a switchover where the writer is now."""
        if request.mode is Mode.UNGRACEFUL or state.writer is None:
            return request
        return request.model_copy(update={"region": state.writer.region})

    def _checks(self, request: SwitchGlobalCluster, state: GlobalState, longest_lag: timedelta) -> Said:
        if state.instances is None:
            yield "health", UNKNOWN, f"{_cluster(request.writer)} cannot be seen"
        else:
            ready = state.standby == "available" and state.instances
            said = f"{_cluster(request.writer)} is {state.standby} and has {state.instances} instances"
            yield "health", OK if ready else NOT_READY, said
        yield _lag(_cluster(request.writer), state.lag, longest_lag)

    def _guard(self, request: SwitchGlobalCluster, state: GlobalState) -> JsonObject:
        return {
            "writer": state.writer.arn if state.writer else None,
            "members": ", ".join(sorted(one.arn for one in state.members)),
            "move": f"{state.move.status} to {state.move.to}" if state.move else None,
        }

    def _wanted(self, request: SwitchGlobalCluster, state: GlobalState) -> Wanted:
        return {"writer": (self._ahead(request, state), request.writer)}

    def _ahead(self, request: SwitchGlobalCluster, state: GlobalState) -> str | None:
        """Give the ARN of who writes, or will when what is under way has ended.

        What AWS gives up ends as it was. Who is ready to lose writes does not wait for a switchover, which
        may never end.
        """
        move = state.move
        is_slow = move and request.mode is Mode.UNGRACEFUL and move.to == request.writer
        if move and move.status != "cancelling" and (move.is_failover or not is_slow):
            return move.to
        return state.writer.arn if state.writer else None

    def _waits(self, request: SwitchGlobalCluster, state: GlobalState) -> str:
        if not state.move or state.move.to != request.writer:
            return ""
        doing = f"AWS is {state.move.status} to {state.move.to} and takes nothing else before that has ended"
        return f"{request.where}: {doing}, well or given up; then it goes on if it is still needed"

    def _refusals(self, request: SwitchGlobalCluster, state: GlobalState) -> tuple[str, ...]:
        member = next((one for one in state.members if one.arn == request.writer), None)
        if member is None:
            known = ", ".join(str(one) for one in state.members)
            return (f"{request.where}: {request.writer} is none of its clusters, which are {known}",)
        found = []
        if state.move and self._ahead(request, state) != request.writer:
            found.append(f"{request.where}: it is {state.move.status} to {state.move.to}; let that end")
        if request.mode is Mode.GRACEFUL and state.status != "available":
            found.append(f"{request.where}: it is {state.status}, and a switchover needs it available")
        if member.synchronization_status == "pending-resync":
            found.append(f"{request.where}: {member} is being brought in step again and cannot write")
        if state.instances == 0:
            found.append(f"{request.where}: {member} has no instance, so nobody could write; add one first")
        if state.away:
            found.append(f"a switchover needs the region of {state.writer}, and nobody answers: {state.away}")
        return tuple(found)

    def _call(self, request: SwitchGlobalCluster, state: GlobalState, action_id: str) -> Call:
        params = {"GlobalClusterIdentifier": request.cluster, "TargetDbClusterIdentifier": request.writer}
        if request.mode is Mode.GRACEFUL:
            return "rds", "switchover_global_cluster", params
        # Without this it would be a switchover.
        return "rds", "failover_global_cluster", params | {"AllowDataLoss": True}

    def _send(self, request: SwitchGlobalCluster, state: GlobalState, action_id: str) -> Json:
        return super()._send(self._ordered(request, state), state, action_id)

    def _progress(self, request: SwitchGlobalCluster, state: GlobalState) -> tuple[Reached, str]:
        moving = f", and it is {state.move.status} to {state.move.to}" if state.move else ""
        if self._ahead(request, state) != request.writer:
            return Reached.NO, f"{state.writer or 'nobody'} writes{moving}"
        if not state.writer or state.writer.arn != request.writer:
            return Reached.SETTLING, f"{state.writer or 'nobody'} still writes{moving}"
        if state.status != "available":
            said = f"{state.writer} writes, and it is {state.status}"
            # After a failover the others are rebuilt, for hours, or once their region is back.
            can_write = request.mode is Mode.UNGRACEFUL and state.standby == "available"
            return (Reached.YES if can_write else Reached.SETTLING), said
        return Reached.YES, f"{state.writer} writes"

    def _undo(self, request: SwitchGlobalCluster, state: GlobalState) -> Back[SwitchGlobalCluster]:
        if state.writer is None:
            return None, "Nobody writes now, so there is nobody to switch back to."
        former = state.writer.arn
        back = {"region": state.writer.region, "writer": former, "mode": Mode.GRACEFUL}
        said = f"Switches over to {state.writer} again, once it is there and in step"
        lost = "" if request.mode is Mode.GRACEFUL else "; what was lost stays lost, also after that"
        return request.model_copy(update=back), f"{said}{lost}."

    def _touched(self, request: SwitchGlobalCluster, state: GlobalState) -> str:
        said = f"All writes go to {request.region} instead of {state.writer or 'nobody'}"
        if request.mode is Mode.GRACEFUL:
            return f"{said}; nothing is lost, writes stop for a minute or so while the clusters get in step."
        return f"{said}; {state.estimated_loss}."


ACTIONS: tuple[Callable[[AwsService], Any], ...] = (
    ExecuteRegionSwitchAction,
    RollBackServiceAction,
    SetDesiredCapacityAction,
    SetRecordWeightsAction,
    SetRoutingControlsAction,
    SetScalableTargetAction,
    SetServiceCountAction,
    SwitchGlobalClusterAction,
)


@contextmanager
def noting(notes: Notes, what: str, errors: tuple[type[Exception], ...] = UNSEEN) -> Iterator[None]:
    """Look within this at something that can be done without, and note why it was not seen."""
    try:
        yield
    except errors as error:
        notes.append(f"{what}: {error}")


def look_at_service(aws: AwsService, at: InService) -> ServiceState:
    """Read an ECS service.

    Raises:
        ActionRefusedError: There is none.
    """
    answer = aws.read(at, "ecs", "describe_services", {"cluster": at.cluster, "services": [at.service]})
    with reading(at.where, "an ECS service"):
        found = [one for one in answer["services"] if one["status"] != "INACTIVE"]
        if not found:
            raise ActionRefusedError(f"{at.where}: no such service")
        return ServiceState.model_validate(found[0])


def series(
    aws: AwsService,
    at: InRegion,
    metric: tuple[str, str, Mapping[str, str]],
    statistic: str = "Maximum",
    *,
    period: int = 60,
    within: int = 5,
) -> dict[datetime, float]:
    """Give the finite values of a CloudWatch metric in the last periods by their times, newest first.

    Args:
        aws: Who is asked.
        at: Where.
        metric: Its namespace, its name and its dimensions.
        statistic: As CloudWatch names it.
        period: Seconds that one value stands for.
        within: How many periods back a value still counts.
    """
    now = aws.now()
    # At the edge of a period: two metrics that are asked for one after the other have the same times.
    start = datetime.fromtimestamp((now.timestamp() // period - within) * period, UTC)
    namespace, name, dimensions = metric
    about = {
        "Namespace": namespace,
        "MetricName": name,
        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
    }
    stat = {"Metric": about, "Period": period, "Stat": statistic}
    asked = {
        "MetricDataQueries": [{"Id": "value", "MetricStat": stat}],
        "StartTime": start,
        "EndTime": now,
        "ScanBy": "TimestampDescending",
    }
    answer = aws.read(at, "cloudwatch", "get_metric_data", asked)
    with reading(at.where, "metric data"):
        results = answer["MetricDataResults"]  # one of each page
        said = [one.get("StatusCode", "Complete") for one in results]
        if "Forbidden" in said:
            raise ActionRefusedError(f"{at.where}: CloudWatch gives no {name}")
        # A part must not pass for the whole: errors that are left out are no errors per request.
        if "InternalError" in said or said[-1] == "PartialData":
            raise ProviderUnavailableError(f"{at.where}: CloudWatch gives only a part of {name}")
        values = [pair for one in results for pair in zip(one["Timestamps"], one["Values"], strict=True)]
        return {when: value for when, value in sorted(values, reverse=True) if math.isfinite(value)}


def replica_lag(aws: AwsService, at: InRegion, cluster: str) -> float | None:
    """Give how many seconds of writes a cluster of a global database has not got; ``None``: no data."""
    dimensions = {"DBClusterIdentifier": cluster.rpartition(":")[2]}
    # What would be lost, and, where an old engine does not say that, how long a change is on its way.
    for name in ("AuroraGlobalDBRPOLag", "AuroraGlobalDBReplicationLag"):
        for lag in series(aws, at, ("AWS/RDS", name, dimensions)).values():
            return lag / MILLISECONDS
    return None


def _databases(steps: Sequence[Json], request: ExecuteRegionSwitch) -> Iterator[tuple[str, bool]]:
    """Give the clusters that a plan's steps make the writer, and whether they do so whatever is lost.

    A block may be set to fail over gracefully too, or to switch over ungracefully too.
    """
    for step in steps:
        block = step.get("executionBlockConfiguration") or {}
        yield from _databases((block.get("parallelConfig") or {}).get("steps") or (), request)
        for how in block.values():
            harder = (how.get("ungraceful") or {}).get("ungraceful")
            way = harder if harder and request.mode is Mode.UNGRACEFUL else how.get("behavior")
            for arn in how.get("databaseClusterArns") or ():
                if arn.split(":")[3] == request.target_region:
                    yield arn, way == "failover"


def _loss(lag: float | None) -> str:
    lost = "an unknown amount of" if lag is None else f"about the last {lag:g} seconds of"
    return f"{lost} writes are lost, by the replication lag now"


def _lag(cluster: str, lag: float | None, longest: timedelta) -> Check:
    if lag is None:
        return "lag", UNKNOWN, f"the lag of {cluster} is not known"
    allowed, said = longest.total_seconds(), f"{cluster} lags {lag:g} seconds behind"
    return ("lag", OK, said) if lag <= allowed else ("lag", NOT_READY, f"{said}, {allowed:g} are allowed")


def _headroom(quota: Quota | None) -> Check:
    if quota is None or quota.used is None:
        return "quota", UNKNOWN, f"the quota's headroom is not known{f' ({quota})' if quota else ''}"
    return "quota", NOT_READY if quota.used > NEARLY_USED * quota.limit else OK, str(quota)


def _targets(healthy: Mapping[str, int], wanted: int) -> Said:
    for group, count in healthy.items():
        said = f"{count} of {wanted} are healthy in target group {group}"
        yield "health", OK if count >= wanted else NOT_READY, said


def _running(state: ServiceState, *, grows: bool) -> Said:
    said = f"{state.running_count} of {state.desired_count} tasks run"
    yield "capacity", OK if state.running_count >= state.desired_count else NOT_READY, said
    yield from _targets(state.healthy, state.desired_count)
    if state.primary is not None and state.primary.rollout_state == "FAILED":
        yield "deployment", NOT_READY, f"its deployment failed: {state.primary.rollout_state_reason}"
    if grows:
        yield _headroom(state.quota)


def _overridden(rules: Sequence[str], wanted: Wanted) -> Wanted:
    """Give the rules that a change overrides, to be shown in it."""
    differs = any(before != after for before, after in wanted.values())
    return {"overridden rules": (None, ", ".join(rules))} if rules and differs else {}


def _overrides(rules: Sequence[str]) -> str:
    return f" It overrides {', '.join(rules)}." if rules else ""


def _cluster(arn: str) -> str:
    return arn.rpartition(":")[2]


def family(task_definition: str) -> str:
    """Give what a revision is one of: its ARN without the number."""
    return task_definition.rsplit(":", 1)[0]


def _revision(task_definition: str) -> str:
    return task_definition.rsplit("/", 1)[-1]
