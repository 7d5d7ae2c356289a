"""The service catalogue: the only place that names targets, people and signals."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field, model_validator

from contracts.base import Strict
from contracts.incidents import Severity
from contracts.plans import ProbeCall, Target, Verification

Slug = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]


class Person(Strict):
    """Somebody who may be given a role."""

    id: Slug
    name: str
    email: str | None = None


class Cluster(Strict):
    """A Kubernetes API. Credentials are never written here: only where they are found."""

    name: Slug
    kubeconfig: str | None = Field(
        None, description="Path; without it the pod's own service account is used."
    )
    context: str | None = Field(None, description="Of the kubeconfig; its current one when empty.")


class LaunchDarklyProject(Strict):
    """A LaunchDarkly project and where its API is."""

    project: str
    api: str = "https://app.launchdarkly.com"
    token_env: str = Field(
        "LAUNCHDARKLY_TOKEN", description="Name of the environment variable that holds the API token."
    )
    sdk_key_env: str | None = Field(
        None, description="Name of the variable with a server SDK key, to observe changes through the SDK."
    )
    stream: str | None = Field(None, description="Base URI of the SDK stream, when it is not the vendor's.")
    sdk: str | None = Field(
        None,
        description="Base URI of SDK polling; without it `stream`, as a relay serves both, or the vendor's.",
    )
    sdk_environment: str | None = Field(
        None, description="Key of the environment that the SDK key belongs to, when the project has several."
    )


class Prometheus(Strict):
    """A Prometheus-compatible query API."""

    name: Slug
    url: str


class Signal(Strict):
    """One thing that users feel, measured. Exactly one of the two thresholds is set."""

    prometheus: Slug = Field(description="Which of the catalogue's Prometheus servers is asked.")
    query: str = Field(description="PromQL that gives one number.")
    unit: str = Field("", description="For people, for example `%` or `ms`.")
    healthy_below: float | None = Field(None, description="A reading is healthy when it is below this.")
    healthy_above: float | None = Field(None, description="A reading is healthy when it is above this.")
    every: timedelta = Field(timedelta(seconds=5), description="How often it is read during verification.")
    hold: timedelta = Field(
        timedelta(seconds=60), description="How long every reading is healthy before a step is effective."
    )
    within: timedelta = Field(
        timedelta(minutes=5), description="How long verification waits for that before it gives up."
    )

    @model_validator(mode="after")
    def _one_threshold(self) -> "Signal":
        if (self.healthy_below is None) == (self.healthy_above is None):
            raise ValueError("set exactly one of healthy_below and healthy_above")
        return self

    def verification(self, name: str) -> Verification:
        """Give the rule by which a step is verified against this signal."""
        return Verification(
            signal=name,
            probe=ProbeCall(
                name="prometheus.query", arguments={"source": self.prometheus, "query": self.query}
            ),
            **self.model_dump(exclude={"prometheus", "query"}),
        )


class Deployment(Strict):
    """A Kubernetes deployment that belongs to a service."""

    cluster: Slug
    namespace: str
    name: str

    def target(self) -> Target:
        """Give it as a target."""
        return Target(provider="k8s", kind="deployment", path=(self.cluster, self.namespace, self.name))


class Flag(Strict):
    """A feature flag that belongs to a service."""

    project: str
    environment: str
    key: str

    def target(self) -> Target:
        """Give it as a target."""
        return Target(provider="launchdarkly", kind="flag", path=(self.project, self.environment, self.key))


class ServiceEnvironment(Strict):
    """What one service consists of in one environment."""

    regions: tuple[str, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    flags: tuple[Flag, ...] = ()
    signals: dict[str, Signal] = {}
    dashboards: dict[str, str] = {}
    checks: dict[str, str] = Field(
        {}, description="Name to URL (http or https) of something that answers 2xx when it is healthy."
    )

    def targets(self) -> tuple[Target, ...]:
        """Give everything of it that an action may change."""
        deployments = (deployment.target() for deployment in self.deployments)
        flags = (flag.target() for flag in self.flags)
        return (*deployments, *flags)


class Service(Strict):
    """A service: who answers for it, and what it consists of."""

    name: Slug
    description: str = ""
    on_call: tuple[Slug, ...] = Field(
        (), description="Who may take the Incident Commander's role, first first."
    )
    alerts: dict[str, str] = Field(
        {}, description="Alert name to signal, for rules without a label `signal`."
    )
    environments: dict[str, ServiceEnvironment]


class Catalogue(Strict):
    """The whole file."""

    people: tuple[Person, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    launchdarkly: tuple[LaunchDarklyProject, ...] = ()
    prometheus: tuple[Prometheus, ...] = ()
    severities: dict[str, Severity] = Field(
        {}, description="Value of the label `severity` to ours; SEV1 to SEV4 are always known."
    )
    monitoring: timedelta = Field(
        timedelta(minutes=10), description="How long all signals stay healthy before an incident is resolved."
    )
    approval: timedelta = Field(timedelta(minutes=15), description="How long a sealed plan may be approved.")
    services: tuple[Service, ...] = ()

    @model_validator(mode="after")
    def _names_are_known(self) -> "Catalogue":
        people = {person.id for person in self.people}
        for service in self.services:
            for person in service.on_call:
                if person not in people:
                    raise ValueError(f"service {service.name}: on_call names {person}, who is not in people")
            for name, environment in service.environments.items():
                self._check_environment(f"service {service.name}, environment {name}", environment)
        return self

    def _check_environment(self, where: str, environment: ServiceEnvironment) -> None:
        clusters = {cluster.name for cluster in self.clusters}
        projects = {project.project for project in self.launchdarkly}
        sources = {source.name for source in self.prometheus}
        for deployment in environment.deployments:
            if deployment.cluster not in clusters:
                raise ValueError(f"{where}: cluster {deployment.cluster} is not in clusters")
        for flag in environment.flags:
            if flag.project not in projects:
                raise ValueError(f"{where}: LaunchDarkly project {flag.project} is not in launchdarkly")
        for signal, spec in environment.signals.items():
            if spec.prometheus not in sources:
                raise ValueError(
                    f"{where}: signal {signal} asks {spec.prometheus}, which is not in prometheus"
                )

    def service(self, name: str) -> Service | None:
        """Find a service by name."""
        return next((service for service in self.services if service.name == name), None)

    def environment(self, service: str, environment: str) -> ServiceEnvironment | None:
        """Find what a service consists of in an environment."""
        entry = self.service(service)
        return entry.environments.get(environment) if entry else None

    def owns(self, service: str, environment: str, target: Target) -> bool:
        """Say whether the catalogue gives this target to this service: nothing else may be changed for it."""
        entry = self.environment(service, environment)
        return entry is not None and target in entry.targets()
