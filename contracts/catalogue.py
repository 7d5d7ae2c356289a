"""The service catalogue: the only place that names targets, people and signals."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Annotated, ClassVar, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, model_validator

from contracts.base import JsonObject, Strict
from contracts.evidence import ENGINE
from contracts.incidents import Severity
from contracts.plans import WITHIN_AT_MOST, ProbeCall, Risk, Target, Verification

Slug = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]
KubernetesName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]

# Whom a rung of a ladder calls.
Called = Annotated[
    str,
    Field(pattern=r"^(incident_commander|technical_lead|on_call|team|(team|rotation|person):[a-z0-9._-]+)$"),
]

# Short enough to end within an incident's life, and a wait where something is repeated.
Span = Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(days=7))]
Wait = Annotated[timedelta, Field(ge=timedelta(milliseconds=50), le=timedelta(days=7))]
SET_BACK = timedelta(hours=1)  # clocks that people live by, at most
LONGEST_STEADY = timedelta(minutes=15)  # a step that waits is tried for twice as long


def _in_utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError(f"{at.isoformat()} has no time zone: write it in UTC, as 2026-11-02T09:00:00Z")
    if not 1970 <= at.year < 9999:  # noqa: PLR2004  (elsewhere its day may be out of the calendar)
        raise ValueError(f"{at.isoformat()} is out of reach: name a year from 1970 to 9998")
    return at.astimezone(UTC)


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError) as error:
        raise ValueError(f"{name[:64]!r} is no time zone: write one such as Europe/Berlin") from error
    return name


def _zone_of(name: str | None) -> tzinfo:
    return ZoneInfo(name) if name else UTC


def on_the_wall(at: datetime, zone: str | None) -> datetime:
    """Give what the clocks of a zone show at a moment; those of UTC without a zone."""
    return at.astimezone(_zone_of(zone)).replace(tzinfo=None)


Moment = Annotated[datetime, AfterValidator(_in_utc)]
Zone = Annotated[str, AfterValidator(_zone)]


class Person(Strict):
    """Somebody who may be given a role.

    Attributes:
        email: Who signs in with it, once the provider verified it, is this.
        oidc_subject: The provider's own name (``sub``); with it no email address counts.
        groups: What the policy may call them, besides their teams.
        contacts: Kind of channel to address, for example ``webhook`` to a URL.
    """

    id: Slug
    name: str
    email: str | None = None
    oidc_subject: str | None = Field(None, min_length=1)
    groups: tuple[Slug, ...] = ()
    contacts: dict[Slug, str] = {}

    def address(self, kind: str) -> str | None:
        """Give where a kind of channel reaches them."""
        return self.contacts.get(kind) or (self.email if kind == "email" else None)


class Team(Strict):
    """People who answer for services together; the policy knows a team as a group.

    Attributes:
        members: Ids of people.
        oidc_groups: Groups of the identity provider whose people count as members when they sign in.
    """

    name: Slug
    members: tuple[Slug, ...] = ()
    oidc_groups: tuple[str, ...] = ()


class Override(Strict):
    """Somebody stands in for whoever the rotation would name."""

    person: Slug
    starts: Moment
    ends: Moment

    @model_validator(mode="after")
    def _forwards(self) -> "Override":
        if self.ends <= self.starts:
            raise ValueError(f"the override of {self.person} ends before it starts")
        return self


class Rotation(Strict):
    """People who take turns at being on call.

    Attributes:
        people: In the order of their turns.
        starts: When the first turn begins; the first person has it until then too.
        each: How long a turn is.
        zone: By whose clocks turns are counted, ``Europe/Berlin``: summer time moves no hand-over there.
            Without it by UTC.
        overrides: Where two cover a moment, the later one counts.
    """

    name: Slug
    people: tuple[Slug, ...] = Field(min_length=1)
    starts: Moment
    each: Annotated[timedelta, Field(ge=timedelta(hours=1), le=timedelta(days=366))] = timedelta(days=7)
    zone: Zone | None = None
    overrides: tuple[Override, ...] = ()


class Rung(Strict):
    """One rung of an escalation ladder.

    Attributes:
        after: How long nobody has acknowledged when it is reached, from the first call.
        notify: ``incident_commander``, ``technical_lead``, ``on_call``, ``team`` (the service's own),
            ``team:<name>``, ``rotation:<name>``, ``person:<id>``.
        channel: By which kind of channel; without it by the usual ones.
    """

    after: Span = timedelta(0)
    notify: tuple[Called, ...] = Field(min_length=1)
    channel: Slug | None = None


class Cluster(Strict):
    """A Kubernetes API. Credentials are never written here: only where they are found.

    Attributes:
        kubeconfig: Path; without it the pod's own service account is used.
        context: Of the kubeconfig; its current one when empty.
    """

    name: Slug
    kubeconfig: str | None = None
    context: str | None = None


class LaunchDarklyProject(Strict):
    """A LaunchDarkly project and where its API is.

    Attributes:
        token_env: Name of the environment variable that holds the API token.
        sdk_key_env: Name of the variable with a server SDK key, to observe changes through the SDK.
        stream: Base URI of the SDK stream, when it is not the vendor's.
        sdk: Base URI of SDK polling; without it ``stream``, as a relay serves both, or the vendor's.
        sdk_environment: Key of the environment that the SDK key belongs to, when the project has several.
    """

    project: str
    api: str = "https://app.launchdarkly.com"
    token_env: str = "LAUNCHDARKLY_TOKEN"  # noqa: S105  (the name of a variable)
    sdk_key_env: str | None = None
    stream: str | None = None
    sdk: str | None = None
    sdk_environment: str | None = None


class AwsAccount(Strict):
    """An AWS account. Credentials are never written here: only where they are found.

    Attributes:
        config: Path of an AWS config file; without it the SDK's own places are searched.
        profile: Of the config file; the SDK's default one when empty.
        profiles: Action name to the profile that its changes are sent with: one role per action.
    """

    name: Slug
    config: str | None = None
    profile: str | None = None
    profiles: dict[str, str] = {}


class RoutingEndpoint(Strict):
    """One of the Regional endpoints of an ARC routing control cluster."""

    region: str
    url: str


class RoutingPanel(Strict):
    """A control panel of ARC routing controls; a failover asks no control plane where its endpoints are.

    Attributes:
        endpoints: All five of its cluster, in the order in which they are tried.
        controls: Name to ARN of each routing control that may be changed.
        at_least_on: How many of the controls are on after any change.
        wait: How long a changed control is left alone, against flapping; at most 15 minutes. The undo of the
            mitigation that has changed it does not wait.
    """

    name: Slug
    account: Slug
    arn: str
    endpoints: tuple[RoutingEndpoint, ...] = Field(min_length=1)
    controls: dict[Slug, str]
    at_least_on: int = Field(1, ge=0)
    wait: timedelta = Field(timedelta(seconds=60), ge=timedelta(0), le=LONGEST_STEADY)


class Aws(Strict):
    """Where AWS is reached."""

    accounts: tuple[AwsAccount, ...] = ()
    panels: tuple[RoutingPanel, ...] = ()


class Prometheus(Strict):
    """A Prometheus-compatible query API."""

    name: Slug
    url: str = Field(pattern=r"^https?://[^\s]+$")


class CloudWatchMetric(Strict):
    """A metric of CloudWatch, or the share that it has in another one.

    Attributes:
        namespace: For example ``AWS/ApplicationELB``.
        metric: For example ``HTTPCode_Target_5XX_Count``.
        per: Another metric by which it is divided, for example ``RequestCount``: a share.
        statistic: As CloudWatch names it: ``Sum``, ``p99``.
        period: Seconds that one value stands for.
        within: How many periods old a value may be; older is no data.
    """

    account: Slug
    region: str
    namespace: str = Field(min_length=1)
    metric: str = Field(min_length=1)
    per: str | None = None
    dimensions: dict[str, str] = {}
    statistic: str = "Average"
    period: int = Field(60, ge=1, le=86_400)
    within: int = Field(3, ge=1, le=60)


class _Owned(Strict):
    """Something that belongs to a service, and may be changed for it; its fields say where it is."""

    provider: ClassVar[str] = "aws"
    called: ClassVar[str]

    def target(self) -> Target:
        """Give it as a target."""
        return Target(provider=self.provider, kind=self.called, path=tuple(dict(self).values()))


class _InNamespace(_Owned):
    """Something in a Kubernetes cluster."""

    cluster: Slug
    namespace: Slug
    name: KubernetesName
    kind: str

    def target(self) -> Target:
        """Give it as a target."""
        return Target(provider="k8s", kind=self.kind, path=(self.cluster, self.namespace, self.name))


class Deployment(_InNamespace):
    """A Kubernetes deployment that belongs to a service."""

    kind: Literal["deployment", "stateful_set", "daemon_set"] = "deployment"


# What a signal may ask, and what is healthy where that is the same for everybody.
_LOOKS: dict[str, JsonObject] = {
    "check": {"healthy_above": 0.5},
    "rollout": {"healthy_above": 0.99},
    "warnings": {"healthy_below": 1},
}
_SOURCES = {"prometheus", "query", "cloudwatch", *_LOOKS}
LEAST_WARNED = timedelta(seconds=10)  # a kubelet repeats itself no more often


class Signal(Strict):
    """One thing that users feel: a query, a metric or a look. Exactly one of the thresholds is set.

    Attributes:
        prometheus: Which of the catalogue's Prometheus servers is asked; ``query`` belongs to it.
        query: PromQL that gives one number.
        cloudwatch: Instead of these two.
        check: Instead of those: one of the environment's ``checks``, which reads 1 while it answers 2xx and 0
            while it does not. Healthy is above 0.5, unless another threshold is set.
        rollout: Instead of those: one of the environment's ``deployments``; it reads the share of its pods
            that are new and serve. Healthy is above 0.99, all of them, unless another threshold is set.
        warnings: Instead of those: one of the ``deployments`` too; it reads how many warnings Kubernetes has
            about it and its pods in the last ``hold``. Healthy is below 1, unless another threshold is set.
        unit: For people, for example ``%`` or ``ms``.
        healthy_below: A reading is healthy when it is below this.
        healthy_above: A reading is healthy when it is above this.
        every: How often it is read during verification.
        hold: How long every reading is healthy before a step is effective.
        within: How long verification waits for that, from when the step has settled, before it gives up; at
            most 2 hours.
    """

    prometheus: Slug | None = None
    query: str | None = Field(None, min_length=1)
    cloudwatch: CloudWatchMetric | None = None
    check: str | None = None
    rollout: Deployment | None = None
    warnings: Deployment | None = None
    unit: str = ""
    healthy_below: float | None = Field(None, allow_inf_nan=False)
    healthy_above: float | None = Field(None, allow_inf_nan=False)
    every: Wait = timedelta(seconds=5)
    hold: Span = timedelta(seconds=60)
    within: timedelta = Field(timedelta(minutes=5), ge=timedelta(0), le=WITHIN_AT_MOST)

    @model_validator(mode="before")
    @classmethod
    def _a_look_has_its_threshold(cls, written: object) -> object:
        if not isinstance(written, dict) or {"healthy_below", "healthy_above"} & written.keys():
            return written
        return next((_LOOKS[look] for look in _LOOKS if written.get(look) is not None), {}) | written

    @model_validator(mode="after")
    def _one_threshold(self) -> "Signal":
        if (self.healthy_below is None) == (self.healthy_above is None):
            raise ValueError("set exactly one of healthy_below and healthy_above")
        if self.hold > self.within:
            raise ValueError("hold is at most within: else nothing is ever effective")
        if self.every > self.within:
            raise ValueError("every is at most within: else it is read once, and nothing is ever effective")
        asks = {name for name in _SOURCES if getattr(self, name) is not None}
        if asks != {"prometheus", "query"} and (len(asks) != 1 or asks & {"prometheus", "query"}):
            raise ValueError("set prometheus and query, or cloudwatch, or check, or rollout, or warnings")
        if self.warnings is not None and self.hold < LEAST_WARNED:
            raise ValueError(f"hold is at least {LEAST_WARNED.seconds} seconds: warnings are counted over it")
        metric = self.cloudwatch
        if metric is not None and self.hold.total_seconds() < metric.period * metric.within:
            oldest = f"{metric.period * metric.within} seconds, period times within of its metric"
            raise ValueError(f"hold is at least {oldest}: else a value from before the step could decide")
        return self

    def verification(self, name: str, checks: Mapping[str, str]) -> Verification:
        """Give the rule by which a step is verified against this signal.

        Args:
            name: The signal's.
            checks: The environment's.
        """
        if self.check is not None:
            probe = ProbeCall(name="http.check", arguments={"url": checks[self.check]})
        elif self.cloudwatch is not None:
            probe = ProbeCall(name="aws.metric", arguments=self.cloudwatch.model_dump(mode="json"))
        elif self.rollout is not None:
            probe = ProbeCall(name="k8s.rollout_status", arguments=self.rollout.model_dump())
        elif self.warnings is not None:
            within = {"within": self.hold.total_seconds()}
            probe = ProbeCall(name="k8s.events", arguments=self.warnings.model_dump() | within)
        else:
            arguments: JsonObject = {"source": self.prometheus, "query": self.query}
            probe = ProbeCall(name="prometheus.query", arguments=arguments)
        rule = self.model_dump(exclude=_SOURCES)
        return Verification(signal=name, probe=probe, **rule)


class Sync(_InNamespace):
    """What keeps deployments as Git has them: it may be paused while one of them is changed by hand.

    Attributes:
        cluster: Where the object itself is; Argo CD's may be another cluster.
        kind: An Argo CD Application, or Flux's Kustomization or HelmRelease.
    """

    kind: Literal["application", "kustomization", "helm_release"]


class Flag(_Owned):
    """A feature flag that belongs to a service."""

    provider = "launchdarkly"
    called = "flag"

    project: str
    environment: str
    key: str


class AutoScalingGroup(_Owned):
    """An EC2 Auto Scaling group that belongs to a service."""

    called = "auto_scaling_group"

    account: Slug
    region: str
    name: str


class EcsService(_Owned):
    """An ECS service that belongs to a service."""

    called = "ecs_service"

    account: Slug
    region: str
    cluster: str
    name: str


class ScalableTarget(_Owned):
    """The limits within which Application Auto Scaling moves one dimension of a resource.

    Attributes:
        namespace: As AWS calls the service.
        resource: As AWS names it, for example ``service/main/web``.
    """

    called = "scalable_target"

    account: Slug
    region: str
    namespace: str = "ecs"
    resource: str
    dimension: str = "ecs:service:DesiredCount"


class DnsRecord(_Owned):
    """A name in a Route 53 hosted zone whose weighted or failover records belong to a service.

    Attributes:
        zone: Id of the hosted zone.
        name: The full name, with or without the last dot.
    """

    account: Slug
    zone: str
    name: str
    type: str = "A"

    def target(self) -> Target:
        """Give it as a target."""
        path = (self.account, self.zone, self.name.rstrip(".").lower(), self.type)
        return Target(provider="aws", kind="record", path=path)


class RegionSwitchPlan(_Owned):
    """An ARC Region switch plan of a service."""

    called = "region_switch_plan"

    account: Slug
    arn: str


class GlobalCluster(_Owned):
    """An Aurora global database of a service."""

    called = "global_cluster"

    account: Slug
    name: str


class AwsResources(Strict):
    """What a service has in AWS, and may be changed for it.

    Attributes:
        panels: Names of the catalogue's ARC control panels.
    """

    auto_scaling_groups: tuple[AutoScalingGroup, ...] = ()
    ecs_services: tuple[EcsService, ...] = ()
    scalable_targets: tuple[ScalableTarget, ...] = ()
    records: tuple[DnsRecord, ...] = ()
    panels: tuple[Slug, ...] = ()
    region_switch_plans: tuple[RegionSwitchPlan, ...] = ()
    global_clusters: tuple[GlobalCluster, ...] = ()

    def targets(self) -> tuple[Target, ...]:
        """Give everything of it that an action may change."""
        panels = (Target(provider="aws", kind="routing_panel", path=(name,)) for name in self.panels)
        owned = (one for name, listed in self if name != "panels" for one in listed)
        return (*(one.target() for one in owned), *panels)

    @property
    def accounts(self) -> set[str]:
        """Which accounts it is in."""
        return {target.path[0] for target in self.targets() if target.kind != "routing_panel"}


class HookUndo(Strict):
    """What takes back what a hook has done.

    Attributes:
        hook: Another hook of the service; without it the same one.
        desired: What it is asked for.
    """

    hook: Slug | None = None
    desired: JsonObject = Field(min_length=1)


class Hook(_Owned):
    """A team's own remediation endpoint: it is told what is wanted, signed, and brings it about.

    Attributes:
        name: No other hook of the catalogue has it.
        url: Gets the POST; redirects are not followed.
        secret_env: Name of the variable with the signing secret: ``whsec_`` and base64 of 24 to 64 bytes.
        status_url: Answers how things are: ``{"state": {...}}``.
        once_per_key: The endpoint carries out each ``Idempotency-Key`` once, so that a request whose answer
            was lost may be sent again.
        desired: What the playbook ``hotfix`` asks it for.
        signals: For which of the service's signals it is a hotfix.
        in_force_for: How long the hotfix may stay before its owner is asked to undo it.
        undo: Without it what ``status_url`` said before is asked for again.
        risk: Medium or high: nobody but its team knows what it does.
        blast_radius: One sentence: who and what is touched.
    """

    name: Slug
    url: str = Field(pattern=r"^https?://[^\s@]+$")
    secret_env: str
    status_url: str | None = Field(None, pattern=r"^https?://[^\s@]+$")
    once_per_key: bool = False
    desired: JsonObject = {}
    signals: tuple[str, ...] = ()
    in_force_for: Span = timedelta(days=1)
    undo: HookUndo | None = None
    risk: Risk = Risk.MEDIUM
    blast_radius: str = Field(min_length=1)

    @model_validator(mode="after")
    def _hotfix_says_what_for(self) -> "Hook":
        if self.signals and not self.desired:
            raise ValueError(f"hook {self.name}: it is a hotfix for {self.signals[0]}; write what is desired")
        if self.risk in (Risk.NONE, Risk.LOW):
            raise ValueError(f"hook {self.name}: its risk is medium or high, not {self.risk.value}")
        return self

    def target(self) -> Target:
        """Give it as a target."""
        return Target(provider="http", kind="hook", path=(self.name,))


class FailoverStep(Strict):
    """One step of a move: any action on any target of the service.

    Attributes:
        action: Its name, for example ``k8s.scale_deployment``.
        arguments: Its request, as the page of the action has it.
        forced: The arguments that differ when it is done ungracefully; others stay.
        undo_first: On the way back it comes before the others too, as a database's writer does; else what was
            done last is undone first.
    """

    title: str = Field(min_length=1)
    action: str
    arguments: JsonObject
    forced: JsonObject | None = None
    undo_first: bool = False


class Move(Strict):
    """How the traffic of one region goes to another, in order.

    Attributes:
        ready: What says that the region can take it: a readiness, a rollout that is done, or a reading above
            zero, such as ``http.check`` gives.
    """

    away_from: str
    to: str
    steps: tuple[FailoverStep, ...] = Field(min_length=1)
    ready: tuple[ProbeCall, ...] = ()


class Failover(Strict):
    """How a service leaves a region that is unhealthy, and what has to hold for that.

    Attributes:
        regions_on: How many healthy regions serve after a move.
        wait: How long a move is not followed by another one, against flapping.
        serving: Region to a probe that reads above zero while it serves; one that is not named serves.
        in_force_for: How long it may stay before its owner is asked to fail back.
        check_every: How often it is found out whether a move would work now.
    """

    moves: tuple[Move, ...] = Field(min_length=1)
    regions_on: int = Field(1, ge=1)
    wait: Span = timedelta(minutes=15)
    serving: dict[str, ProbeCall] = {}
    in_force_for: Span = timedelta(days=1)
    check_every: Annotated[timedelta, Field(ge=timedelta(seconds=10), le=timedelta(days=1))] = timedelta(
        minutes=30
    )

    def check(self, regions: tuple[str, ...]) -> None:
        """Check that it speaks of these regions.

        Raises:
            ValueError: It does not.
        """
        named = [region for move in self.moves for region in (move.away_from, move.to)]
        for region in [*named, *self.serving]:
            if region not in regions:
                raise ValueError(f"failover: region {region} is not in regions")
        for move in self.moves:
            if move.away_from == move.to:
                raise ValueError(f"failover: a move away from {move.to} goes to {move.to}")
        probes = [*self.serving.values(), *(probe for move in self.moves for probe in move.ready)]
        if any(probe.name == "k8s.events" for probe in probes):
            said = "above zero means good here, and k8s.events counts warnings"
            raise ValueError(f"failover: {said}; ask k8s.rollout_status instead")
        if self.regions_on >= len(set(regions)):
            raise ValueError(
                f"failover: of {len(set(regions))} regions, {self.regions_on} never serve after a move"
            )


class ServiceEnvironment(Strict):
    """What one service consists of in one environment.

    Attributes:
        checks: Name to URL (http or https) of something that answers 2xx when it is healthy.
    """

    regions: tuple[str, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    syncs: tuple[Sync, ...] = ()
    flags: tuple[Flag, ...] = ()
    aws: AwsResources = AwsResources()
    signals: dict[str, Signal] = {}
    dashboards: dict[str, str] = {}
    checks: dict[str, str] = {}
    hooks: tuple[Hook, ...] = ()
    failover: Failover | None = None

    @model_validator(mode="after")
    def _names_are_its_own(self) -> "ServiceEnvironment":
        for name, signal in self.signals.items():
            if signal.check is not None and signal.check not in self.checks:
                raise ValueError(f"signal {name} asks {signal.check}, which is not in checks")
            asked = signal.rollout or signal.warnings
            if asked is not None and asked not in self.deployments:
                raise ValueError(f"signal {name} asks {asked.target()}, which is not in deployments")
        hooks = {hook.name for hook in self.hooks}
        for hook in self.hooks:
            for name in hook.signals:
                if name not in self.signals:
                    raise ValueError(f"hook {hook.name} is for {name}, which is not in signals")
            if hook.undo and hook.undo.hook and hook.undo.hook not in hooks:
                raise ValueError(f"hook {hook.name} is undone by {hook.undo.hook}, which is not in hooks")
        if self.failover is not None:
            self.failover.check(self.regions)
        return self

    def verification(self, signal: str) -> Verification:
        """Give the rule by which a step is verified against one of its signals."""
        return self.signals[signal].verification(signal, self.checks)

    @property
    def aws_accounts(self) -> set[str]:
        """Which AWS accounts it is in, or is measured in."""
        metrics = (signal.cloudwatch for signal in self.signals.values())
        return self.aws.accounts | {metric.account for metric in metrics if metric is not None}

    def targets(self) -> tuple[Target, ...]:
        """Give everything of it that an action may change."""
        owned = (*self.deployments, *self.syncs, *self.flags, *self.hooks)
        return (*(one.target() for one in owned), *self.aws.targets())


class Service(Strict):
    """A service: who answers for it, and what it consists of.

    Attributes:
        on_call: Who may take the Incident Commander's role, first first; later whom the ladder calls, too.
        team: The team that answers for it.
        rotation: The rotation whose turn comes before everybody in ``on_call``.
        alerts: Alert name to signal, for rules without a label ``signal``.
    """

    name: Slug
    description: str = ""
    on_call: tuple[Slug, ...] = ()
    team: Slug | None = None
    rotation: Slug | None = None
    alerts: dict[str, str] = {}
    environments: dict[str, ServiceEnvironment]


class Limits(Strict):
    """How much may be changed; plans that go beyond it need an override that names the guardrail.

    Attributes:
        cooldown: How long a changed target is left alone by other mitigations.
        actions_per_hour: How many actions one service may have in an hour.
        ineffective_in_a_row: After so many mitigations of a playbook or a service within a day, none of them
            effective, there is no other one.
        replica_share: How large a part of a workload's replicas one plan may take away.
        regions: How many regions or clusters one plan may change.
        flags: How many flags one plan may change.
        regions_on: How many places of a failover target are on after any change.
    """

    cooldown: Span = timedelta(minutes=1)
    actions_per_hour: int = Field(30, ge=1)
    ineffective_in_a_row: int = Field(3, ge=1)
    replica_share: float = Field(0.5, gt=0, le=1)
    regions: int = Field(2, ge=1)
    flags: int = Field(3, ge=1)
    regions_on: int = Field(1, ge=0)


class ChangeFreeze(Strict):
    """A window of the calendar in which nothing new is changed.

    Attributes:
        every: It comes again after so long, for example ``P7D`` for each week.
        zone: By whose clocks it comes again, ``Europe/Berlin``: summer time moves it nowhere. Without it by
            UTC.
        services: Only these; empty means every service.
    """

    name: Slug
    starts: Moment
    ends: Moment
    every: timedelta | None = None
    zone: Zone | None = None
    services: tuple[Slug, ...] = ()

    @model_validator(mode="after")
    def _is_a_window(self) -> "ChangeFreeze":
        if self.ends <= self.starts:
            raise ValueError(f"change freeze {self.name}: it ends before it starts")
        if self.every is not None and self.every < self.ends - self.starts:
            raise ValueError(f"change freeze {self.name}: it comes again before it has ended")
        return self

    def until(self, now: datetime) -> datetime | None:
        """Give when the window ends that this moment is in, if it is in one."""
        if self.every is None:
            return self.ends if self.starts <= now < self.ends else None
        starts, ends = (on_the_wall(at, self.zone) for at in (self.starts, self.ends))
        for near in (now, now + SET_BACK):  # a clock that was set back shows less than it did
            shift = max(0, (on_the_wall(near, self.zone) - starts) // self.every) * self.every
            window = ((at + shift).replace(tzinfo=_zone_of(self.zone)) for at in (starts, ends))
            begins, over = (at.astimezone(UTC) for at in window)
            if begins <= now < over:
                return over
        return None


class GuardrailLimits(Limits):
    """What holds even against the Incident Commander, unless an override names the guardrail.

    Attributes:
        services: Service to its own limits; what is not given there is as above.
    """

    services: dict[Slug, Limits] = {}
    change_freezes: tuple[ChangeFreeze, ...] = ()

    def of(self, service: str) -> Limits:
        """Give the limits of a service."""
        own = self.services.get(service)
        return self if own is None else self.model_copy(update=own.model_dump(exclude_unset=True))


class Catalogue(Strict):
    """The whole file.

    Attributes:
        escalation: Whom to call, rung after rung, until somebody acknowledges; ours where none is given.
        escalate_again: How long after its last rung a ladder begins again while nobody acknowledges; as long
            as the ladder itself where none is given, at least PT5M.
        severities: Value of the label ``severity`` to ours; SEV1 to SEV4 are always known.
        monitoring: How long all signals stay healthy before an incident is resolved.
        approval: How long a sealed plan may be approved.
    """

    people: tuple[Person, ...] = ()
    teams: tuple[Team, ...] = ()
    rotations: tuple[Rotation, ...] = ()
    escalation: dict[Severity, Annotated[tuple[Rung, ...], Field(min_length=1)]] = {}
    escalate_again: dict[Severity, Wait] = {}
    clusters: tuple[Cluster, ...] = ()
    launchdarkly: tuple[LaunchDarklyProject, ...] = ()
    prometheus: tuple[Prometheus, ...] = ()
    aws: Aws = Aws()
    severities: dict[str, Severity] = {}
    monitoring: Span = timedelta(minutes=10)
    approval: Wait = timedelta(minutes=15)
    guardrails: GuardrailLimits = GuardrailLimits()
    services: tuple[Service, ...] = ()

    @model_validator(mode="after")
    def _names_are_known(self) -> "Catalogue":
        named = {
            "people": [person.id for person in self.people],
            "emails of people": [person.email.casefold() for person in self.people if person.email],
            "oidc_subjects of people": [one.oidc_subject for one in self.people if one.oidc_subject],
            "teams": [team.name for team in self.teams],
            "rotations": [rotation.name for rotation in self.rotations],
            "clusters": [cluster.name for cluster in self.clusters],
            "launchdarkly": [project.project for project in self.launchdarkly],
            "prometheus": [source.name for source in self.prometheus],
            "aws.accounts": [account.name for account in self.aws.accounts],
            "aws.panels": [panel.name for panel in self.aws.panels],
            "services": [service.name for service in self.services],
            "hooks": [hook.name for hook in self.hooks()],
        }
        for kind, names in named.items():
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"{kind}: {twice} is there twice")
        if ENGINE in named["people"]:
            raise ValueError(f"people: {ENGINE} is whom the log names when nobody did it: choose another id")
        for where, kind, wanted in self._references():
            for name in wanted:
                if name is not None and name not in named[kind]:
                    raise ValueError(f"{where} names {name}, and {kind} has no {name}")
        for severity, rungs in self.escalation.items():
            if any(rung.after >= following.after for rung, following in pairwise(rungs)):
                raise ValueError(f"escalation of {severity}: each rung comes later than the one before it")
        return self

    def _references(self) -> Iterator[tuple[str, str, Iterable[str | None]]]:
        """Give the names that stand for something else in the file: where they are, and what of."""
        yield from ((f"panel {panel.name}", "aws.accounts", [panel.account]) for panel in self.aws.panels)
        yield from ((f"team {team.name}", "people", team.members) for team in self.teams)
        for rotation in self.rotations:
            stand_ins = (override.person for override in rotation.overrides)
            yield f"rotation {rotation.name}", "people", (*rotation.people, *stand_ins)
        for service in self.services:
            yield f"service {service.name}: on_call", "people", service.on_call
            yield f"service {service.name}: team", "teams", [service.team]
            yield f"service {service.name}: rotation", "rotations", [service.rotation]
            for name, environment in service.environments.items():
                where = f"service {service.name}, environment {name}"
                in_clusters = (*environment.deployments, *environment.syncs)
                yield where, "clusters", [one.cluster for one in in_clusters]
                yield where, "launchdarkly", [flag.project for flag in environment.flags]
                yield where, "aws.accounts", sorted(environment.aws_accounts)
                yield where, "aws.panels", environment.aws.panels
                yield where, "prometheus", [signal.prometheus for signal in environment.signals.values()]
        kinds = {"team": "teams", "rotation": "rotations", "person": "people"}
        for severity, rungs in self.escalation.items():
            for kind, colon, name in (whom.partition(":") for rung in rungs for whom in rung.notify):
                if colon:
                    yield f"escalation of {severity}", kinds[kind], [name]
        yield "guardrails: services", "services", self.guardrails.services
        for window in self.guardrails.change_freezes:
            yield f"guardrails: change freeze {window.name}", "services", window.services

    def hooks(self) -> tuple[Hook, ...]:
        """Give the hooks of all services."""
        environments = (one for service in self.services for one in service.environments.values())
        return tuple(hook for environment in environments for hook in environment.hooks)

    def service(self, name: str) -> Service | None:
        """Find a service by name."""
        return next((service for service in self.services if service.name == name), None)

    def environment(self, service: str, environment: str) -> ServiceEnvironment | None:
        """Find what a service consists of in an environment."""
        entry = self.service(service)
        return entry.environments.get(environment) if entry else None

    def failovers(self) -> tuple[tuple[str, str, Failover], ...]:
        """Give every failover, with its service and environment."""
        return tuple(
            (service.name, name, environment.failover)
            for service in self.services
            for name, environment in service.environments.items()
            if environment.failover is not None
        )

    def owns(self, service: str, environment: str, target: Target) -> bool:
        """Say whether the catalogue gives this target to this service: nothing else may be changed for it."""
        entry = self.environment(service, environment)
        return entry is not None and target in entry.targets()
