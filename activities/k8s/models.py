"""What is asked of Kubernetes and what it says, and when two pod templates are the same; no SDK."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, ClassVar

from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator

from contracts.actions import ActionRequest, ProbeRequest
from contracts.base import Frozen, JsonObject
from contracts.catalogue import Slug
from contracts.errors import ProviderUnavailableError
from contracts.outcomes import Progress, Reached
from contracts.plans import Difference, Target

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
REVISION = "deployment.kubernetes.io/revision"
OURS = "stanch.dev/"
ACTION = f"{OURS}action"
TEMPLATE_HASH_LABEL = "pod-template-hash"

# These belong to the Deployment and not to one of its revisions: kubectl leaves them in a rollback, we too.
BOOKKEEPING = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        "deployment.kubernetes.io/revision-history",
        "deployment.kubernetes.io/desired-replicas",
        "deployment.kubernetes.io/max-replicas",
        "deprecated.deployment.rollback.to",
        ACTION,
    }
)

# Names become segments of a URL, so nothing else may pass.
Namespace = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
# As the API gives them, every field kept, known to us or not.
KubernetesObject = dict[str, Any]
Template = dict[str, Any]


class InDeployment(Frozen):
    """Where a Deployment is."""

    cluster: Slug
    namespace: Namespace
    name: Name

    @property
    def target(self) -> Target:
        """The Deployment, as the catalogue names it."""
        return Target(provider="k8s", kind="deployment", path=(self.cluster, self.namespace, self.name))

    @property
    def where(self) -> str:
        """The same for people: ``shop/web in cluster demo``."""
        return f"{self.namespace}/{self.name} in cluster {self.cluster}"


class RestartDeployment(InDeployment, ActionRequest):
    """Have all pods replaced, with the template as it is.

    Attributes:
        restarted_at: When it was asked for, RFC 3339, fixed when it is planned, so that the request is
            absolute.
    """

    action: ClassVar[str] = "k8s.restart_deployment"

    restarted_at: str

    @field_validator("restarted_at")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        if datetime.fromisoformat(value).tzinfo is None:
            raise ValueError(f"restarted_at {value} has no time zone; write it as 2026-01-31T03:04:05Z")
        return value


class RollBackDeployment(InDeployment, ActionRequest):
    """Have the pod template of a former revision.

    Attributes:
        revision: Its number when this was planned, for people; the number changes when it is restored.
        template_hash: What ``template_hash()`` gives for ``template``.
        template: The whole pod template to restore, so that it can be restored after the history has lost it.
        annotations: The Deployment's own annotations of that revision, which come back with it as kubectl
            does it; ``None`` leaves the present ones.
    """

    action: ClassVar[str] = "k8s.roll_back_deployment"

    revision: int
    template_hash: str
    template: Template
    annotations: dict[str, str] | None = None

    @model_validator(mode="after")
    def _hash_fits(self) -> "RollBackDeployment":
        if template_hash(self.template) != self.template_hash:
            raise ValueError(f"template_hash {self.template_hash} is not that of the template")
        return self


class ScaleDeployment(InDeployment, ActionRequest):
    """Have this many pods."""

    action: ClassVar[str] = "k8s.scale_deployment"

    replicas: int = Field(ge=0, le=10_000)


class Revision(Frozen):
    """One revision in a Deployment's history.

    Attributes:
        number: As ``kubectl rollout history`` shows it; it moves up when the revision is restored.
        release: The same for revisions that differ by nothing but a restart, so that nobody rolls back from a
            restart to what was restarted.
        created_at: When it was released first; restoring it does not change that.
        current: True when its template is the one that the Deployment has now.
        annotations: What it takes with it when it is restored; also where somebody may have marked it.
        pods: How many pods of it there are now.
    """

    number: int
    replica_set: str
    template_hash: str
    release: str
    images: tuple[str, ...]
    created_at: datetime
    current: bool
    pods: int
    template: Template
    annotations: dict[str, str]


class History(InDeployment):
    """The revisions that can be restored, newest first."""

    revisions: tuple[Revision, ...]

    @classmethod
    def read(
        cls, at: InDeployment, state: "DeploymentState", replica_sets: list[KubernetesObject]
    ) -> "History":
        """Read what the API said.

        Raises:
            ProviderUnavailableError: These are not what ReplicaSets look like.
        """
        found = []
        try:
            for one in replica_sets:
                metadata, annotations = one["metadata"], one["metadata"].get("annotations") or {}
                number = annotations.get(REVISION, "")
                if not number.isdecimal():
                    continue
                template = bare_template(one["spec"]["template"])
                found.append(
                    Revision(
                        number=int(number),
                        replica_set=metadata["name"],
                        template_hash=template_hash(template),
                        release=template_hash(_before_restart(template)),
                        images=images(template),
                        created_at=metadata["creationTimestamp"],
                        current=same_template(template, state.template),
                        pods=(one.get("status") or {}).get("replicas", 0),
                        template=template,
                        annotations={
                            key: value for key, value in annotations.items() if key not in BOOKKEEPING
                        },
                    )
                )
        except (AttributeError, KeyError, TypeError, ValidationError) as error:
            raise ProviderUnavailableError(
                f"{at.where}: the answer does not look like ReplicaSets"
            ) from error
        found.sort(key=lambda revision: -revision.number)
        return cls(cluster=at.cluster, namespace=at.namespace, name=at.name, revisions=tuple(found))

    def roll_back_to(self, revision: Revision) -> RollBackDeployment:
        """Give the request that restores one of them."""
        return RollBackDeployment(
            cluster=self.cluster,
            namespace=self.namespace,
            name=self.name,
            revision=revision.number,
            template_hash=revision.template_hash,
            template=revision.template,
            annotations=revision.annotations,
        )


class RolloutHistory(InDeployment, ProbeRequest[History]):
    """Which revisions can be restored?"""

    probe: ClassVar[str] = "k8s.rollout_history"


class RolloutStatus(InDeployment, ProbeRequest[Progress]):
    """Is the last rollout done?"""

    probe: ClassVar[str] = "k8s.rollout_status"


class DeploymentState(Frozen):
    """A Deployment as it was read: the ``state`` of an observation.

    Attributes:
        replicas: How many pods are wanted.
        pods: How many there are, of all revisions.
        updated: How many of these have the present template.
        available: How many of these, of any revision, serve.
        progressing: Reason of the condition ``Progressing``.
        annotations: The Deployment's own, without what ``kubectl apply`` keeps there for itself.
        annotated: True when it has annotations at all (a JSON patch has to know).
        reverted_by: Controllers that are known to put back what others change.
    """

    uid: str
    generation: int
    observed_generation: int = 0
    paused: bool = False
    replicas: int
    pods: int = 0
    updated: int = 0
    available: int = 0
    progressing: str = ""
    strategy: str
    images: tuple[str, ...]
    template_hash: str
    template: Template
    annotations: dict[str, str]
    annotated: bool
    reverted_by: tuple[str, ...] = ()

    @property
    def revision(self) -> int:
        """The number that its controller gave it last; 0 before it did."""
        number = self.annotations.get(REVISION, "")
        return int(number) if number.isdecimal() else 0

    @classmethod
    def read(cls, where: str, deployment: KubernetesObject) -> "DeploymentState":
        """Read what the API said.

        Raises:
            ProviderUnavailableError: It is not what a Deployment looks like.
        """
        try:
            metadata, spec, status = (
                deployment["metadata"],
                deployment["spec"],
                deployment.get("status") or {},
            )
            annotations = metadata.get("annotations")
            template = bare_template(spec["template"])
            return cls(
                uid=metadata["uid"],
                generation=metadata["generation"],
                observed_generation=status.get("observedGeneration", 0),
                paused=spec.get("paused", False),
                replicas=spec.get("replicas", 1),
                pods=status.get("replicas", 0),
                updated=status.get("updatedReplicas", 0),
                available=status.get("availableReplicas", 0),
                progressing=next(
                    (
                        condition.get("reason", "")
                        for condition in status.get("conditions") or ()
                        if condition["type"] == "Progressing"
                    ),
                    "",
                ),
                strategy=_strategy(spec.get("strategy") or {}),
                images=images(template),
                template_hash=template_hash(template),
                template=template,
                annotations={
                    key: value
                    for key, value in (annotations or {}).items()
                    if key != "kubectl.kubernetes.io/last-applied-configuration"
                },
                annotated=annotations is not None,
                reverted_by=_reverted_by(metadata),
            )
        except (AttributeError, KeyError, TypeError, ValidationError) as error:
            raise ProviderUnavailableError(f"{where}: the answer does not look like a Deployment") from error

    def progress(self, where: str) -> Progress:
        """Say whether its last change is carried out: the rule of ``kubectl rollout status``."""
        if self.observed_generation < self.generation:
            return _settling(where, "the change is stored, its controller has yet to see it")
        if self.progressing == "ProgressDeadlineExceeded":
            said = f"{self.updated} of {self.replicas} pods have the new template, {self.available} serve"
            said = f"the rollout exceeded its progress deadline: {said}"
            return Progress(reached=Reached.FAILED, detail=f"{where}: {said}")
        if self.updated < self.replicas:
            said = f"{self.updated} of {self.replicas} pods have the new template"
            return _settling(where, f"{said}; it is paused" if self.paused else said)
        if self.pods > self.updated:
            return _settling(where, f"{self.pods - self.updated} former pods are still there")
        if self.available < self.updated:
            return _settling(where, f"{self.available} of {self.updated} new pods serve")
        return Progress(reached=Reached.YES, detail=f"{where}: all {self.replicas} pods are new and serve")

    def progress_of_scale(self, where: str) -> Progress:
        """Say whether as many pods serve as are wanted, whatever their template."""
        if self.observed_generation < self.generation:
            return _settling(where, "the change is stored, its controller has yet to see it")
        if self.available < self.replicas:
            said = f"{self.available} of {self.replicas} pods serve"
            if self.progressing == "ProgressDeadlineExceeded":
                return Progress(
                    reached=Reached.FAILED, detail=f"{where}: {said}, and it came to a stop there"
                )
            return _settling(where, said)
        # While a rollout is under way there are more pods than wanted, by its surge.
        if self.pods > self.replicas and self.updated == self.pods:
            return _settling(where, f"{self.pods - self.replicas} pods are still to go")
        return Progress(reached=Reached.YES, detail=f"{where}: {self.replicas} of {self.replicas} pods serve")


class RollBackState(DeploymentState):
    """The same with what a rollback needs to know of the history.

    Attributes:
        kept_as: Number of the revision that has the wanted template; ``None`` when the history has lost it.
    """

    kept_as: int | None = None


class ScaleState(DeploymentState):
    """The same with what the scale subresource said.

    Attributes:
        scale: The subresource's ``spec``, literally (at zero replicas the field is absent).
    """

    scale: JsonObject


def own_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    """Give those that come back with a revision and go with it.

    Our marks stay where they are: its controller copies what a Deployment has to every later ReplicaSet, so a
    mark that came back would soon stand on revisions that nobody marked.
    """
    return {
        key: value
        for key, value in annotations.items()
        if key not in BOOKKEEPING and not key.startswith(OURS)
    }


def bare_template(template: Mapping[str, Any]) -> Template:
    """Give a pod template without what a controller or the encoding adds: this is what is stored and sent."""
    bare: Template = _without_nulls(deepcopy(dict(template)))
    metadata = bare.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("labels"), dict):
        metadata["labels"].pop(TEMPLATE_HASH_LABEL, None)
    return bare


def template_hash(template: Mapping[str, Any]) -> str:
    """Give 12 hex digits that stand for a template as the API gives it, defaults included."""
    text = json.dumps(bare_template(template), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _before_restart(template: Template) -> Template:
    marks = template.get("metadata", {}).get("annotations")
    if not marks or RESTARTED_AT not in marks:
        return template
    plain = deepcopy(template)
    del plain["metadata"]["annotations"][RESTARTED_AT]
    if not plain["metadata"]["annotations"]:
        del plain["metadata"]["annotations"]
    return plain


def same_template(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether two templates mean the same: the API server's defaults may be written out or left out."""
    return _meant(one) == _meant(other)


def images(template: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the images of a template's containers, in order."""
    return tuple(str(container.get("image", "")) for container in template["spec"]["containers"])


def template_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Give what differs between two templates, field by field, defaults left out."""
    return tuple(_differences(_meant(before), _meant(after), "spec.template"))


def _settling(where: str, said: str) -> Progress:
    return Progress(reached=Reached.SETTLING, detail=f"{where}: {said}")


def _strategy(strategy: Mapping[str, Any]) -> str:
    if strategy.get("type") == "Recreate":
        return "all at once, so that none serves meanwhile"
    limits = strategy.get("rollingUpdate") or {}
    return f"a few at a time (at most {limits.get('maxUnavailable', '25%')} of them missing)"


def _reverted_by(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    marks = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    managers = {entry.get("manager") for entry in metadata.get("managedFields") or ()}
    found = {
        "Argo CD": "argocd.argoproj.io/tracking-id" in marks or "argocd-controller" in managers,
        "Flux": any(key.split("/")[0].endswith(".toolkit.fluxcd.io") for key in marks)
        or not managers.isdisjoint({"kustomize-controller", "helm-controller"}),
    }
    return tuple(name for name, there in found.items() if there)


def _without_nulls(value: Any) -> Any:
    """Leave out fields that are ``null``: in the API they are the same as absent ones."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class _Shape:
    """What the API server fills in for one kind of object, and which of its fields are such objects."""

    defaults: Mapping[str, JsonValue] = field(default_factory=dict)
    parts: Mapping[str, "_Shape"] = field(default_factory=dict)

    def meant(self, value: Any) -> Any:
        """Give the value without what the server would fill in."""
        if isinstance(value, list):
            return [self.meant(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        kept = {
            key: self.parts[key].meant(inner) if key in self.parts else inner for key, inner in value.items()
        }
        return {
            key: inner
            for key, inner in kept.items()
            if key not in self.defaults or inner != self.defaults[key]
        }


_HTTP_GET = _Shape({"path": "/", "scheme": "HTTP"})
_HOOK = _Shape(parts={"httpGet": _HTTP_GET})
_PROBE = _Shape(
    {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
    {"httpGet": _HTTP_GET, "grpc": _Shape({"service": ""})},
)
_REFERENCE = {"fieldRef": _Shape({"apiVersion": "v1"}), "resourceFieldRef": _Shape({"divisor": "0"})}
_FILES = _Shape({"defaultMode": 420}, {"items": _Shape(parts=_REFERENCE)})
_CONTAINER = _Shape(
    {
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "resources": {},
        "securityContext": {},
        "env": [],
        "command": [],
        "args": [],
    },
    {
        "ports": _Shape({"protocol": "TCP"}),
        "env": _Shape({"value": ""}, {"valueFrom": _Shape(parts=_REFERENCE)}),
        "livenessProbe": _PROBE,
        "readinessProbe": _PROBE,
        "startupProbe": _PROBE,
        "lifecycle": _Shape(parts={"postStart": _HOOK, "preStop": _HOOK}),
    },
)
_VOLUME = _Shape(
    {"emptyDir": {}},
    {
        "secret": _FILES,
        "configMap": _FILES,
        "downwardAPI": _FILES,
        "hostPath": _Shape({"type": ""}),
        "projected": _Shape(
            {"defaultMode": 420},
            {
                "sources": _Shape(
                    parts={
                        "serviceAccountToken": _Shape({"expirationSeconds": 3600}),
                        "downwardAPI": _Shape(parts={"items": _Shape(parts=_REFERENCE)}),
                    }
                )
            },
        ),
    },
)
_TEMPLATE = _Shape(
    parts={
        "metadata": _Shape({"annotations": {}, "labels": {}}),
        "spec": _Shape(
            {
                "restartPolicy": "Always",
                "terminationGracePeriodSeconds": 30,
                "dnsPolicy": "ClusterFirst",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "volumes": [],
                "initContainers": [],
            },
            {"containers": _CONTAINER, "initContainers": _CONTAINER, "volumes": _VOLUME},
        ),
    }
)


def _meant(template: Mapping[str, Any]) -> Template:
    """Give a template without what the server would fill in by itself."""
    meant: Template = _TEMPLATE.meant(bare_template(template))
    spec = meant.get("spec", {})
    for container in [*spec.get("containers", ()), *spec.get("initContainers", ())]:
        if container.get("imagePullPolicy") == _pull_policy(str(container.get("image", ""))):
            del container["imagePullPolicy"]
    if spec.get("serviceAccount") == spec.get("serviceAccountName"):
        spec.pop("serviceAccount", None)  # the former name of the same field
    return meant


def _pull_policy(image: str) -> str:
    name = image.rpartition("/")[2]
    latest = name.endswith(":latest") or not (":" in name or "@" in name)
    return "Always" if latest else "IfNotPresent"


def _differences(before: Any, after: Any, path: str) -> Iterator[Difference]:
    if before == after:
        return
    if (
        isinstance(before or after, dict)
        and isinstance(before, dict | None)
        and isinstance(after, dict | None)
    ):
        before, after = before or {}, after or {}
        for key in sorted(before.keys() | after.keys()):
            plain = key.replace("-", "").replace("_", "").isalnum()
            yield from _differences(
                before.get(key), after.get(key), f"{path}.{key}" if plain else f"{path}[{key}]"
            )
    elif isinstance(before, list) and isinstance(after, list):
        one, other = _by_name(before), _by_name(after)
        if [name for name in one if name in other] == [name for name in other if name in one] != []:
            for name in {**one, **other}:
                yield from _differences(one.get(name), other.get(name), f"{path}[{name}]")
        elif len(before) == len(after):
            for number, pair in enumerate(zip(before, after, strict=True)):
                yield from _differences(*pair, f"{path}[{number}]")
        else:
            yield Difference(path=path, before=before, after=after)
    else:
        yield Difference(path=path, before=before, after=after)


def _by_name(items: list[Any]) -> dict[str, Any]:
    """Give a list as a mapping when its items have names of their own; otherwise give nothing."""
    named = {str(item["name"]): item for item in items if isinstance(item, dict) and "name" in item}
    return named if len(named) == len(items) else {}
