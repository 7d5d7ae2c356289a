"""What is asked of AWS and what it says; no SDK.

What AWS says is read by models with its own field names as aliases; a state that was dumped is read back by
the names that it has here.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel, to_pascal

from contracts.actions import ActionRequest, ProbeRequest
from contracts.base import Frozen, JsonObject
from contracts.catalogue import RoutingPanel, Slug
from contracts.errors import ProviderUnavailableError
from contracts.plans import ActionCall, Observation, Reading, Target
from contracts.readiness import Readiness

# A region becomes part of a host name, so nothing else may pass.
Region = Annotated[str, Field(pattern=r"^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$")]
Name = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]
Arn = Annotated[str, Field(max_length=1600, pattern=r"^arn:aws[a-z-]*:[^\s:]+:[^\s:]*:[0-9]{12}:\S+$")]
Count = Annotated[int, Field(ge=0, le=100_000)]
Weight = Annotated[int, Field(ge=0, le=255)]
Json = Mapping[str, Any]

# Names our own rule in an override, beside the ARNs of AWS's.
OUR_RULE = "at-least-on"
Rule = Annotated[str, Field(pattern=rf"^({OUR_RULE}|arn:aws[a-z-]*:\S+safetyrule/\S+)$")]


class Pascal(Frozen):
    """Something that AWS writes with capitals: ``DesiredCapacity``."""

    model_config = ConfigDict(alias_generator=to_pascal, populate_by_name=True)


class Camel(Frozen):
    """Something that AWS writes with a small letter first: ``desiredCount``."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Seen(Frozen):
    """A target as it was read: the ``state`` of an observation.

    Attributes:
        notes: What could not be seen, and why.
    """

    notes: tuple[str, ...] = ()


@contextmanager
def reading(where: str, what: str) -> Iterator[None]:
    """Read an answer of AWS within this: what does not fit makes AWS unavailable.

    Raises:
        ProviderUnavailableError: The answer is not what it should be.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ProviderUnavailableError(f"{where}: the answer does not look like {what}") from error


class InRegion(Frozen):
    """Where a call goes: one of the catalogue's accounts, and a region.

    Class attributes:
        words: How people are told what it is about.
    """

    words: ClassVar[str] = "account {0.account}, {0.region}"

    account: Slug
    region: Region

    @property
    def where(self) -> str:
        """What it is about, for people."""
        return self.words.format(self)


class AwsRequest(InRegion, ActionRequest):
    """What is asked of one target in AWS.

    Class attributes:
        kind: What the target is, as the catalogue says it.
        path: The fields that tell which one it is, outermost first.
    """

    kind: ClassVar[str]
    path: ClassVar[tuple[str, ...]]

    @property
    def target(self) -> Target:
        """What is changed, as the catalogue names it."""
        return Target(provider="aws", kind=self.kind, path=tuple(getattr(self, name) for name in self.path))


# Capacity of EC2.


class SetDesiredCapacity(AwsRequest):
    """Have this many instances in service.

    Attributes:
        minimum: The group's limit, changed in the same call; ``None`` leaves and respects the present one.
        maximum: Likewise.
    """

    action: ClassVar[str] = "aws.set_desired_capacity"
    kind = "auto_scaling_group"
    path = ("account", "region", "group")
    words = "Auto Scaling group {0.group} in {0.region}, account {0.account}"

    group: Name
    desired: Count
    minimum: Count | None = None
    maximum: Count | None = None

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        low, high = self.within(self.desired, self.desired)
        if not low <= self.desired <= high:
            raise ValueError(f"desired {self.desired} is not within minimum {low} and maximum {high}")
        return self

    def within(self, low: int, high: int) -> tuple[int, int]:
        """Give the limits that it names, and these where it names none."""
        return low if self.minimum is None else self.minimum, high if self.maximum is None else self.maximum


class Instance(Pascal):
    """One instance of a group."""

    instance_id: str
    lifecycle_state: str = ""
    health_status: str = ""
    weighted_capacity: int = 1

    @property
    def serves(self) -> bool:
        """Whether the group counts it as in service."""
        return self.lifecycle_state == "InService" and self.health_status.lower() == "healthy"


class Quota(Frozen):
    """A quota of the account that a scale-out uses up.

    Attributes:
        used: ``None`` when AWS has no measurement of it.
    """

    name: str
    limit: float
    used: float | None = None

    def __str__(self) -> str:
        used = "an unknown part" if self.used is None else f"{self.used:g}"
        return f"{used} of {self.limit:g} used of quota {self.name}"


# AWS has an object for each process, and we have its name.
ProcessName = Annotated[
    str, BeforeValidator(lambda said: said["ProcessName"] if isinstance(said, dict) else said)
]


class GroupState(Pascal, Seen):
    """A group as it was read: the ``state`` of an observation.

    Attributes:
        healthy: Name of each attached target group to how many of the group's instances are healthy there.
        activity: What the last scaling activity says, when it failed or is still under way.
    """

    arn: str = Field(alias="AutoScalingGroupARN")
    min_size: int
    max_size: int
    desired_capacity: int
    instances: tuple[Instance, ...] = ()
    target_groups: tuple[str, ...] = Field((), alias="TargetGroupARNs")
    suspended: tuple[ProcessName, ...] = Field((), alias="SuspendedProcesses")
    status: str = ""
    healthy: dict[str, int] = {}
    activity: str = ""
    quota: Quota | None = None


# ECS.


class InService(InRegion):
    """Where an ECS service is."""

    kind: ClassVar[str] = "ecs_service"
    path: ClassVar[tuple[str, ...]] = ("account", "region", "cluster", "service")
    words = "ECS service {0.cluster}/{0.service} in {0.region}, account {0.account}"

    cluster: Name
    service: Name

    @property
    def resource(self) -> str:
        """The service, as Application Auto Scaling names it."""
        return f"service/{self.cluster}/{self.service}"


class SetServiceCount(InService, AwsRequest):
    """Have this many tasks running."""

    action: ClassVar[str] = "aws.set_service_count"

    count: Count


class RollBackService(InService, AwsRequest):
    """Run this revision of the task definition.

    Attributes:
        task_definition: The whole ARN with its revision: never "the one before", never "the latest".
    """

    action: ClassVar[str] = "aws.roll_back_service"

    task_definition: Annotated[
        str, Field(pattern=r"^arn:aws[a-z-]*:ecs:[a-z0-9-]+:[0-9]{12}:task-definition/[A-Za-z0-9_-]+:[0-9]+$")
    ]

    @property
    def attempt(self) -> str:
        """With the revision."""
        return f"{super().attempt} {self.task_definition}"


class Rollout(Camel):
    """One deployment of a service.

    Attributes:
        status: ``PRIMARY`` is the newest, ``ACTIVE`` one that is being replaced.
        rollout_state: ``IN_PROGRESS``, ``COMPLETED`` or ``FAILED``.
    """

    id: str
    status: str
    task_definition: str
    desired_count: int = 0
    running_count: int = 0
    failed_tasks: int = 0
    rollout_state: str = ""
    rollout_state_reason: str = ""
    created_at: datetime


class Limits(Pascal):
    """What Application Auto Scaling keeps a dimension within."""

    min_capacity: int
    max_capacity: int


class ServiceState(Camel, Seen):
    """A service as it was read: the ``state`` of an observation.

    Attributes:
        target_groups: ARN of each of the load balancers' target groups to that of the one with which it takes
            turns, from deployment to deployment.
        healthy: Name of each to how many healthy targets it has, together with its alternate.
        limits: Of Application Auto Scaling; ``None`` when it does not move the count.
        images: Of the task definition that is asked for.
        wanted_status: ``ACTIVE``, or what else the task definition that is asked for is.
        fargate: Whether its tasks run there, and not on instances of the cluster.
    """

    arn: str = Field(alias="serviceArn")
    status: str
    desired_count: int
    running_count: int
    task_definition: str = ""
    deployments: tuple[Rollout, ...] = ()
    controller: str = "ECS"
    scheduling: str = Field("REPLICA", alias="schedulingStrategy")
    target_groups: dict[str, str | None] = {}
    healthy: dict[str, int] = {}
    limits: Limits | None = None
    images: tuple[str, ...] = ()
    wanted_status: str = ""
    fargate: bool = False
    quota: Quota | None = None

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, said: Any) -> Any:
        if isinstance(said, dict) and "serviceArn" in said:
            groups = {
                one["targetGroupArn"]: (one.get("advancedConfiguration") or {}).get("alternateTargetGroupArn")
                for one in said.get("loadBalancers") or ()
                if "targetGroupArn" in one
            }
            controller = (said.get("deploymentController") or {}).get("type", "ECS")
            strategy = [one["capacityProvider"] for one in said.get("capacityProviderStrategy") or ()]
            fargate = any(one.startswith("FARGATE") for one in [said.get("launchType") or "", *strategy])
            return {**said, "targetGroups": groups, "controller": controller, "fargate": fargate}
        return said

    @property
    def primary(self) -> Rollout | None:
        """The newest deployment."""
        return next((one for one in self.deployments if one.status == "PRIMARY"), None)


class SetScalableTarget(AwsRequest):
    """Have Application Auto Scaling keep a dimension within these limits.

    Attributes:
        resource: As AWS names it, for example ``service/main/web``.
    """

    action: ClassVar[str] = "aws.set_scalable_target"
    kind = "scalable_target"
    path = ("account", "region", "namespace", "resource", "dimension")
    words = "scalable target {0.resource} in {0.region}, account {0.account}"

    namespace: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]+$")] = "ecs"
    resource: Name
    dimension: Name = "ecs:service:DesiredCount"
    minimum: Count
    maximum: Count

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self


class ScalableState(Limits, Seen):
    """A scalable target as it was read.

    Attributes:
        service: Where it is an ECS service, that.
    """

    arn: str = Field("", alias="ScalableTargetARN")
    service: ServiceState | None = None


# Route 53.


class Answers(Frozen):
    """What a record answers with.

    Attributes:
        values: Its resource records; empty for an alias.
        alias: An alias target, as AWS writes it.
        health_check: Id of the health check that takes the record out.
    """

    ttl: int | None = None
    values: tuple[str, ...] = ()
    alias: JsonObject | None = None
    health_check: str | None = None

    @classmethod
    def read(cls, record: Json) -> "Answers":
        """Take them from a resource record set."""
        return cls(
            ttl=record.get("TTL"),
            values=tuple(one["Value"] for one in record.get("ResourceRecords") or ()),
            alias=record.get("AliasTarget"),
            health_check=record.get("HealthCheckId"),
        )

    def put_into(self, record: Json) -> dict[str, Any]:
        """Give a resource record set that answers with these, and is otherwise the same."""
        own = {"TTL", "ResourceRecords", "AliasTarget", "HealthCheckId"}
        kept = {key: value for key, value in record.items() if key not in own}
        if self.alias is not None:
            kept["AliasTarget"] = dict(self.alias)
        else:
            kept |= {"TTL": self.ttl, "ResourceRecords": [{"Value": value} for value in self.values]}
        return kept | ({"HealthCheckId": self.health_check} if self.health_check else {})


def plain_name(said: str) -> str:
    r"""Give a record's name as people write it: Route 53 says ``\052.shop.`` for ``*.shop``."""
    plain = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), said)
    return plain.rstrip(".").lower()


class SetRecordWeights(AwsRequest):
    """Have a name's weighted records weigh this, or its failover records answer with this.

    The records are changed by one batch, which AWS applies as a whole or not at all.

    Attributes:
        region: Where Route 53's control plane is.
        zone: Id of the hosted zone.
        weights: Set identifier to weight; records that are not named keep theirs.
        answers: Set identifier to what the record answers with: swapping those of a failover pair moves the
            traffic. Taken from an observation (``answers_of``), so that the request is absolute.
        override_rules: ``at-least-on``, to go on although no record that would answer is healthy.
    """

    action: ClassVar[str] = "aws.set_record_weights"
    kind = "record"
    path = ("account", "zone", "bare_name", "type")
    words = "{0.type} records of {0.name} in zone {0.zone}, account {0.account}"

    region: Region = "us-east-1"
    zone: Annotated[str, Field(pattern=r"^[A-Z0-9]{1,32}$")]
    name: Name
    type: Annotated[str, Field(pattern=r"^[A-Z]{1,5}$")] = "A"
    weights: dict[Name, Weight] = {}
    answers: dict[Name, Answers] = {}
    override_rules: tuple[Literal["at-least-on"], ...] = ()

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.weights and not self.answers:
            raise ValueError("name at least one record in weights or answers")
        return self

    @property
    def bare_name(self) -> str:
        """The name as the catalogue writes it."""
        return plain_name(self.name)

    @property
    def changed(self) -> tuple[str, ...]:
        """Set identifiers of the records that it names."""
        return tuple(dict.fromkeys([*self.weights, *self.answers]))

    def after(self, records: Mapping[str, JsonObject]) -> dict[str, str | None]:
        """Give each record that Route 53 would answer with after the change, and its health check's id."""
        weights = {name: record.get("Weight", 1) for name, record in records.items()} | self.weights
        checks: dict[str, Any] = {name: record.get("HealthCheckId") for name, record in records.items()}
        checks |= {name: answers.health_check for name, answers in self.answers.items()}
        return {name: checks[name] for name, weight in weights.items() if weight}


class RecordsState(Seen):
    """A name's records as they were read.

    Attributes:
        records: Set identifier to the resource record set, as AWS gives it.
        healthy: Id of each health check to what Route 53's checkers say, while there is a change to make.
        sync: ``PENDING`` or ``INSYNC`` after a change of this worker; empty when it made none.
    """

    records: dict[str, JsonObject]
    healthy: dict[str, bool] = {}
    sync: str = ""

    @property
    def weights(self) -> dict[str, Any]:
        """What each of the weighted ones weighs."""
        return {name: one["Weight"] for name, one in self.records.items() if "Weight" in one}

    def answers_of(self, identifier: str) -> Answers:
        """Give what one of them answers with."""
        return Answers.read(self.records[identifier])


# Regional failover.


class Mode(StrEnum):
    """Whether a switch keeps all data and waits for it, or goes ahead without."""

    GRACEFUL = "graceful"
    UNGRACEFUL = "ungraceful"


class InPanel(InRegion):
    """Where a control panel is: at the endpoints that the catalogue names for it, in no region alone."""

    words = "control panel {0.panel}, account {0.account}"

    region: Region = "us-west-2"
    panel: Slug


class SetRoutingControls(InPanel, AwsRequest):
    """Have routing controls of a control panel on or off, all in one call.

    Attributes:
        region: Of no importance here: the catalogue names the panel's five endpoints.
        states: Name of each control in the catalogue to whether it is on; others stay as they are.
        override_rules: ARNs of the safety rules that are overridden, each by name, and ``at-least-on`` for
            the catalogue's own.
    """

    action: ClassVar[str] = "aws.set_routing_controls"
    kind = "routing_panel"
    path = ("panel",)

    states: Annotated[dict[Slug, bool], Field(min_length=1)]
    override_rules: tuple[Rule, ...] = ()


class RoutingState(Seen):
    """A panel's routing controls as they were read, by their names in the catalogue."""

    on: dict[str, bool]


class Execution(Camel):
    """One execution of a Region switch plan."""

    id: str = Field(alias="executionId")
    mode: str = Mode.GRACEFUL.value
    state: str = Field(alias="executionState")
    action: str = Field(alias="executionAction")
    region: str = Field(alias="executionRegion")
    comment: str = ""
    start_time: datetime

    def __str__(self) -> str:
        return f"{self.action} {self.region}, {self.mode}: {self.state}"


class ExecutionStep(Camel):
    """One step of an execution."""

    name: str
    status: str


class SwitchState(Camel, Seen):
    """A Region switch plan as it was read.

    Attributes:
        approach: ``activePassive`` or ``activeActive``.
        steps: Names of the plan's steps for what is asked for.
        newest: The latest execution that the region holds.
        progress: Its steps.
        databases: ARN of each cluster that its steps make the writer in the target region, to whether they
            would give up what it has not got yet.
        lags: Seconds by which each lags behind; ``None`` when CloudWatch has no data.
    """

    arn: str = ""
    name: str
    version: str
    approach: str = Field(alias="recoveryApproach")
    regions: tuple[str, ...]
    steps: tuple[str, ...] = ()
    newest: Execution | None = None
    progress: tuple[ExecutionStep, ...] = ()
    databases: dict[str, bool] = {}
    lags: dict[str, float | None] = {}

    @property
    def last(self) -> str:
        """Id of the newest execution; empty when there is none."""
        return self.newest.id if self.newest else ""


# AWS takes no request from a clock that differs by more.
SKEW = timedelta(minutes=5)


class ExecuteRegionSwitch(AwsRequest):
    """Have the newest execution of a Region switch plan be this one.

    Attributes:
        region: Whose endpoint is called: the one that is to serve.
        plan: The plan's ARN.
        verb: What is done to ``target_region``.
        mode: It can be switched in flight: by the same request with the other mode.
        version: The plan's version that was reviewed; another one is refused.
        after: Id of the newest execution that the region held when this was planned, so that the request is
            absolute; empty when there was none.
        since: Older executions are not what is asked for: each region tells those alone that it holds, so the
            way back, through another region, does not meet ``after`` there.
    """

    action: ClassVar[str] = "aws.execute_region_switch"
    kind = "region_switch_plan"
    path = ("account", "plan")

    plan: Arn
    verb: Literal["activate", "deactivate"] = "activate"
    target_region: Region
    mode: Mode = Mode.GRACEFUL
    version: Annotated[str, Field(min_length=1)]
    after: str = ""
    since: datetime | None = None

    @property
    def where(self) -> str:
        """What it is about, for people."""
        return f"Region switch plan {self.plan.rpartition('/')[2]}, account {self.account}"

    def as_of(self, observed: Observation) -> Self:
        """Give the same, to be started after the newest execution that was there."""
        last = SwitchState.model_validate(observed.state).last
        return self.model_copy(update={"after": last, "since": observed.at - SKEW})

    def found(self, state: SwitchState) -> Execution | None:
        """Give the plan's newest execution if it is what is asked for."""
        newest = state.newest
        if newest is None or newest.id == self.after or (self.since and newest.start_time < self.since):
            return None
        return newest if (newest.action, newest.region) == (self.verb, self.target_region) else None


class SwitchGlobalCluster(AwsRequest):
    """Have this cluster be the writer of an Aurora global database.

    Attributes:
        region: Whose endpoint is asked: the one of the writer to be. A switchover is ordered where the writer
            is now.
        cluster: Identifier of the global database.
        writer: ARN of the cluster that is to write.
        mode: Ungraceful gives up what has not been replicated.
    """

    action: ClassVar[str] = "aws.switch_global_cluster"
    kind = "global_cluster"
    path = ("account", "cluster")
    words = "Aurora global database {0.cluster}, account {0.account}"

    cluster: Name
    writer: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:rds:[a-z0-9-]+:[0-9]{12}:cluster:[A-Za-z0-9-]+$")]
    mode: Mode = Mode.GRACEFUL

    @model_validator(mode="after")
    def _is_there(self) -> Self:
        if self.writer.split(":")[3] != self.region:
            raise ValueError(f"writer {self.writer} is not in {self.region}, whose endpoint is to be called")
        return self


class Member(Pascal):
    """One cluster of a global database."""

    arn: Arn = Field(alias="DBClusterArn")
    is_writer: bool = False
    synchronization_status: str = ""

    def __str__(self) -> str:
        return f"{self.arn.rpartition(':')[2]} in {self.region}"

    @property
    def region(self) -> str:
        """Where it is."""
        return self.arn.split(":")[3]


class Move(Pascal):
    """A switchover or failover that is under way.

    Attributes:
        status: ``pending``, ``switching-over``, ``failing-over``, or ``cancelling`` when AWS gives it up.
    """

    status: str
    to: str = Field("", alias="ToDbClusterArn")
    may_lose: bool = Field(default=False, alias="IsDataLossAllowed")

    @property
    def is_failover(self) -> bool:
        """Whether it goes ahead whatever is lost."""
        return self.may_lose or self.status == "failing-over"


class GlobalState(Pascal, Seen):
    """A global database as it was read.

    Attributes:
        lag: Seconds by which the writer to be lags behind; ``None`` when CloudWatch has no data.
        estimated_loss: What the move would lose, by that lag, in one sentence.
        standby: The status of the writer to be; empty when it could not be seen.
        instances: How many instances it has: without one nobody could write.
        away: Why nobody answers in the writer's region, which a switchover needs; empty: somebody does.
    """

    arn: str = Field(alias="GlobalClusterArn")
    status: str
    members: tuple[Member, ...] = Field((), alias="GlobalClusterMembers")
    # Where nothing moves AWS says nothing, or an empty object.
    move: Annotated[Move | None, BeforeValidator(lambda said: said or None)] = Field(
        None, alias="FailoverState"
    )
    lag: float | None = None
    estimated_loss: str = ""
    standby: str = ""
    instances: int | None = None
    away: str = ""

    @property
    def writer(self) -> Member | None:
        """Who writes."""
        return next((one for one in self.members if one.is_writer), None)


# What can be seen.


class Metric(InRegion, ProbeRequest[Reading]):
    """What is this CloudWatch metric's newest value?

    Attributes:
        per: Another metric of the same namespace and dimensions by which it is divided: errors per request.
            A period that has this one alone counts as zero, as AWS writes no zero errors.
        statistic: As CloudWatch names it, for example ``Average``, ``Sum`` or ``p99``.
        period: Seconds that one value stands for.
        within: How many periods back a value is still taken; older than that is no data.
    """

    probe: ClassVar[str] = "aws.metric"

    namespace: Name
    metric: Name
    per: Name | None = None
    dimensions: dict[Name, Name] = {}
    statistic: Name = "Average"
    period: Annotated[int, Field(ge=1, le=86_400)] = 60
    within: Annotated[int, Field(ge=1, le=60)] = 5


class CheckReadiness(ProbeRequest[Readiness]):
    """Would this failover run now?

    Attributes:
        steps: Its steps, as a plan would have them; each is observed and checked, none is run.
        longest_lag: By how much a database that is to write may lag behind.
    """

    probe: ClassVar[str] = "aws.readiness"

    steps: Annotated[tuple[ActionCall, ...], Field(min_length=1)]
    longest_lag: timedelta = timedelta(seconds=5)


class ServiceRevision(Frozen):
    """One revision of the task definition that a service runs or ran.

    Attributes:
        task_definition: The whole ARN.
        released_at: When the deployment began that brought it, restarts left out; ``None``: it is not known
            that it was ever deployed.
        served: For how long it has served since a deployment of it succeeded.
    """

    task_definition: str
    images: tuple[str, ...] = ()
    released_at: datetime | None = None
    served: timedelta = timedelta(0)

    @property
    def name(self) -> str:
        """Family and number: ``web:7``."""
        return self.task_definition.rpartition("/")[2]


class ServiceRevisions(Frozen):
    """What a service runs, and what it could go back to.

    Attributes:
        former: Living revisions with a lower number, those that served most recently first; then the others.
        notes: What could not be seen, and why.
    """

    present: ServiceRevision
    former: tuple[ServiceRevision, ...] = ()
    notes: tuple[str, ...] = ()


class ServiceHistory(InService, ProbeRequest[ServiceRevisions]):
    """Which revisions has this ECS service run, and how well?"""

    probe: ClassVar[str] = "aws.service_history"


class AwsService(Protocol):
    """What actions and probes need of AWS; ``client`` has the real one.

    Every method raises ``ActionRefusedError`` or ``ProviderUnavailableError``. Operations are named as the
    SDK names them, ``describe_services``; answers are as the SDK gives them.
    """

    def now(self) -> datetime:
        """Give the time now (UTC)."""

    def read(self, at: InRegion, service: str, operation: str, params: Json) -> Json:
        """Ask; every page of the answer, and once more when the answer was lost."""

    def change(
        self, at: InRegion, service: str, operation: str, params: Json, *, action: str, action_id: str
    ) -> Json:
        """Send a change, once."""

    def panel(self, at: InPanel) -> RoutingPanel:
        """Find a control panel of the account in the catalogue."""

    def silent(self, at: InPanel, operation: str, params: Json) -> list[str]:
        """Name the regions of a panel's endpoints that do not answer a question."""

    def allows(self, at: InRegion, verb: str, *, action: str = "", resource: str = "*") -> bool | None:
        """Say whether our role may do something; ``None`` when AWS does not tell."""
