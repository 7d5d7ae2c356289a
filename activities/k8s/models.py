"""What is asked of Kubernetes and what it says, and when two pod templates are the same; no SDK."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from math import inf
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from contracts.actions import ActionRequest, ProbeRequest
from contracts.base import Frozen, JsonObject
from contracts.catalogue import KubernetesName, Slug, Sync, Wait
from contracts.errors import NothingToProposeError, ProviderUnavailableError, one_line
from contracts.outcomes import Progress, Reached
from contracts.plans import Difference, Reading, Target

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
REVISION = "deployment.kubernetes.io/revision"
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
OURS = "stanch.dev/"
ACTION = f"{OURS}action"
# What we have asked of the pod template last: admission in the cluster may have made more of it.
ASKED = f"{OURS}asked"
# In a pod template: the version of the stored data that a release works with, and the oldest one whose
# releases still work with the data as this release leaves it. Both are whole numbers.
SCHEMA = f"{OURS}schema"
SCHEMA_BACK_TO = f"{OURS}schema-back-to"
# Whose annotations stay as they are in a rollback. The tools' say whether they look after a deployment; our
# marks, copied by its controller to every later ReplicaSet, would soon stand on revisions that nobody marked.
STAY = ("stanch.dev", "argoproj.io", "fluxcd.io", "helm.sh")
MANAGER = "stanch"
ARGO_CD = {
    "argocd-controller",
    "argocd-application-controller",
}  # the latter until 2.4, and where it replaces
TEMPLATE_HASH_LABEL = "pod-template-hash"
EVENTS_SHOWN = 100
STUCK = "a pod that never got ready may have to be deleted by hand"
# What a kubelet says of an image that it has given up to pull for now.
UNPULLABLE = frozenset({"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})

# These belong to the Deployment and not to one of its revisions: kubectl leaves them in a rollback, we too.
BOOKKEEPING = {
    *(APPLIED, REVISION, ACTION, "deprecated.deployment.rollback.to"),
    *(
        f"deployment.kubernetes.io/{name}"
        for name in ("revision-history", "desired-replicas", "max-replicas")
    ),
}

# Names become segments of a URL, so nothing else may pass.
Namespace = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
# As the API gives them, every field kept, known to us or not.
KubernetesObject = dict[str, Any]
Template = dict[str, Any]


@dataclass(frozen=True)
class Resource:
    """Where the API has the objects of one kind.

    Attributes:
        api: Group and version as in the path, ``apis/apps/v1``.
        name: The plural in the path.
        kind: As the objects call themselves.
    """

    api: str
    name: str
    kind: str

    @property
    def group(self) -> str:
        """The API group; empty for the oldest one."""
        return "".join(self.api.split("/")[1:-1])


RESOURCES = {
    "deployment": Resource("apis/apps/v1", "deployments", "Deployment"),
    "stateful_set": Resource("apis/apps/v1", "statefulsets", "StatefulSet"),
    "daemon_set": Resource("apis/apps/v1", "daemonsets", "DaemonSet"),
    "replica_set": Resource("apis/apps/v1", "replicasets", "ReplicaSet"),
    "controller_revision": Resource("apis/apps/v1", "controllerrevisions", "ControllerRevision"),
    # Every cluster has v1.
    "autoscaler": Resource("apis/autoscaling/v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    "pod": Resource("api/v1", "pods", "Pod"),
    "event": Resource("api/v1", "events", "Event"),
    "quota": Resource("api/v1", "resourcequotas", "ResourceQuota"),
    "application": Resource("apis/argoproj.io/v1alpha1", "applications", "Application"),
    "kustomization": Resource("apis/kustomize.toolkit.fluxcd.io/v1", "kustomizations", "Kustomization"),
    "helm_release": Resource("apis/helm.toolkit.fluxcd.io/v2", "helmreleases", "HelmRelease"),
}


@contextmanager
def reading(at: "InCluster", what: str) -> Iterator[None]:
    """Read what the API said within this: what does not fit makes the cluster unavailable.

    Raises:
        ProviderUnavailableError: The answer is not what it should be.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProviderUnavailableError(f"{at.where}: the answer does not look like {what}") from error


class InCluster(Frozen):
    """Where an object is; ``kind`` is one of ``RESOURCES``."""

    cluster: Slug
    namespace: Namespace
    name: KubernetesName
    kind: str

    @property
    def target(self) -> Target:
        """The object, as the catalogue names it."""
        return Target(provider="k8s", kind=self.kind, path=(self.cluster, self.namespace, self.name))

    @property
    def resource(self) -> Resource:
        """What the API calls such objects."""
        return RESOURCES[self.kind]

    @property
    def where(self) -> str:
        """The same for people: ``shop/web in cluster demo``."""
        return f"{self.namespace}/{self.name} in cluster {self.cluster}"


class InDeployment(InCluster):
    """Where a deployment is: a Deployment, or a StatefulSet or DaemonSet."""

    kind: Literal["deployment", "stateful_set", "daemon_set"] = "deployment"


class Change(InCluster, ActionRequest):
    """What an action is asked for."""


class RestartDeployment(InDeployment, Change):
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


class RollBackDeployment(InDeployment, Change):
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

    @property
    def attempt(self) -> str:
        """With the release: its number changes when it is restored, and a restart makes no other one."""
        return f"{super().attempt} {template_hash(_before_restart(self.template))}"


class ScaleDeployment(InDeployment, Change):
    """Have this many pods. A DaemonSet has one on each node, so it cannot be asked for."""

    action: ClassVar[str] = "k8s.scale_deployment"

    kind: Literal["deployment", "stateful_set"] = "deployment"
    replicas: int = Field(ge=0, le=10_000)


class SetAutoscalerLimits(InDeployment, Change):
    """Have the autoscaler of a deployment keep its count between these two.

    Attributes:
        name: The deployment's, which is the target.
        autoscaler: Name of its HorizontalPodAutoscaler.
    """

    action: ClassVar[str] = "k8s.set_autoscaler_limits"

    kind: Literal["deployment", "stateful_set"] = "deployment"
    autoscaler: KubernetesName
    minimum: int = Field(ge=0, le=10_000)
    maximum: int = Field(ge=1, le=10_000)

    @model_validator(mode="after")
    def _in_order(self) -> "SetAutoscalerLimits":
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is more than maximum {self.maximum}")
        return self

    @property
    def limits(self) -> InCluster:
        """Where the autoscaler is."""
        return InCluster.model_validate({**dict(self), "name": self.autoscaler, "kind": "autoscaler"})


class SetSync(Change):
    """Have Argo CD or Flux keep what it applies as Git has it, or leave it alone for now.

    Attributes:
        suspended: True while it leaves everything alone.
        restore: With ``suspended`` false what the field had before, literally: Argo CD's
            ``spec.syncPolicy.automated``, Flux's ``spec.suspend`` (``None``: the field was absent).
    """

    action: ClassVar[str] = "k8s.set_sync"

    kind: Literal["application", "kustomization", "helm_release"]
    suspended: bool
    restore: JsonObject | bool | None = None

    @model_validator(mode="after")
    def _is_absolute(self) -> "SetSync":
        argo = self.kind == "application"
        if self.suspended and self.restore is not None:
            raise ValueError("restore belongs to suspended: false")
        if not self.suspended and argo and not isinstance(self.restore, dict):
            raise ValueError("restore is needed: the former value of spec.syncPolicy.automated")
        if not self.suspended and not argo and self.restore not in (None, False):
            raise ValueError("restore is the former value of spec.suspend: false, or nothing")
        return self

    @property
    def value(self) -> JsonValue:
        """What the field has then; ``None`` is absent."""
        if self.suspended:
            return None if self.kind == "application" else True
        return self.restore


class Revision(Frozen):
    """One revision in a Deployment's history.

    Attributes:
        number: As ``kubectl rollout history`` shows it; it moves up when the revision is restored.
        kept_in: Name of the ReplicaSet or ControllerRevision.
        release: The same for revisions that differ by nothing but a restart, so that nobody rolls back from a
            restart to what was restarted.
        created_at: When it was released first; restoring it does not change that.
        current: True when its template is the one that the Deployment has now.
        annotations: What it takes with it when it is restored; also where somebody may have marked it.
        pods: How many pods of it there are now.
        serving: How many of these are known to serve.
    """

    number: int
    kept_in: str
    template_hash: str
    release: str
    images: tuple[str, ...]
    created_at: datetime
    current: bool
    pods: int
    serving: int = 0
    template: Template
    annotations: dict[str, str]

    @property
    def hashes(self) -> tuple[str, str]:
        """By which a mark may name it: our own of its template, and the controller's, as its name ends."""
        return self.template_hash, self.kept_in.rpartition("-")[2]


class Owner(Frozen):
    """A tool that keeps an object as something else says, so that a change by hand does not last.

    Attributes:
        kind: What of it does so: ``application``, ``kustomization``, ``helm_release``; for Helm ``release``.
        namespace: Empty where the object's marks do not tell; ``name`` too.
    """

    tool: Literal["Argo CD", "Flux", "Helm"]
    kind: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        name = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{self.tool} ({self.kind.replace('_', ' ')} {name})" if name else self.tool

    @property
    def note(self) -> str:
        """What it will do to a change, one sentence."""
        if self.tool == "Helm":
            return f"{self} overwrites this at its next upgrade."
        return f"{self} may put back what this changes."


class History(InDeployment):
    """The revisions that can be restored, newest first, and who keeps the deployment as it is."""

    revisions: tuple[Revision, ...]
    owners: tuple[Owner, ...] = ()

    @classmethod
    def read(cls, at: InDeployment, state: "DeploymentState", found: list[KubernetesObject]) -> "History":
        """Read what the API said: ReplicaSets or ControllerRevisions, those of others left out.

        Raises:
            ProviderUnavailableError: They do not look like that.
        """
        revisions = []
        with reading(at, "its revisions"):
            for one in found:
                metadata, annotations = one["metadata"], one["metadata"].get("annotations") or {}
                mine = any(owner.get("uid") == state.uid for owner in metadata.get("ownerReferences") or ())
                number = str(one.get("revision", "") or annotations.get(REVISION, ""))
                if not mine or not number.isdecimal():
                    continue
                status = one.get("status") or {}
                template = bare_template((one.get("data") or one)["spec"]["template"])
                revision = Revision(
                    number=int(number),
                    kept_in=metadata["name"],
                    template_hash=template_hash(template),
                    release=template_hash(_before_restart(template)),
                    images=images(template),
                    created_at=metadata["creationTimestamp"],
                    current=same_template(template, state.template),
                    pods=status.get("replicas", 0),
                    serving=status.get("readyReplicas", 0),
                    template=template,
                    annotations={key: value for key, value in annotations.items() if key not in BOOKKEEPING},
                )
                revisions.append(revision)
        revisions.sort(key=lambda revision: -revision.number)
        return cls(**dict(at), revisions=tuple(revisions), owners=state.owners)

    def roll_back_to(self, revision: Revision) -> RollBackDeployment:
        """Give the request that restores one of them; annotations come back where kubectl does that too."""
        return RollBackDeployment(
            **dict(self),
            revision=revision.number,
            template_hash=revision.template_hash,
            template=revision.template,
            annotations=revision.annotations if self.kind == "deployment" else None,
        )

    def incompatible(self, template: Mapping[str, Any]) -> str:
        """Say why a release cannot work with the data that a later one has left; empty when none says so."""
        kept = [one.number for one in self.revisions if same_template(one.template, template)]
        later = [one for one in self.revisions if not kept or one.number > max(kept)]
        declared = {_declared(one.template, SCHEMA_BACK_TO): one for one in reversed(later)}
        least = max((number for number in declared if number is not None), default=-inf)
        has = _declared(template, SCHEMA)
        if least == -inf or (has is not None and inf > has >= least):
            return ""
        last = declared[least]
        needs = last.template["metadata"]["annotations"][SCHEMA_BACK_TO]
        mine = "declares none" if has is None else f"has {template['metadata']['annotations'][SCHEMA]}"
        said = f"revision {last.number} ({', '.join(last.images)}) has changed the stored data: with it work"
        return f"{said} releases of schema {needs} or later ({SCHEMA_BACK_TO}); this one {mine} ({SCHEMA})"


class RolloutHistory(InDeployment, ProbeRequest[History]):
    """Which revisions can be restored?"""

    probe: ClassVar[str] = "k8s.rollout_history"


class Rollout(Progress, Reading):
    """How far a rollout is: the value is the share of the wanted pods that are new and serve, 0 to 1."""


class RolloutStatus(InDeployment, ProbeRequest[Rollout]):
    """Is the last rollout done?"""

    probe: ClassVar[str] = "k8s.rollout_status"


class WarningEvent(Frozen):
    """One warning; ``at`` is when it was said last, ``about`` kind and name, ``count`` how often."""

    at: datetime
    about: str
    reason: str
    message: str
    count: int


class Warnings(Reading):
    """The warnings about a deployment; the value is how many there are, of which the newest are shown."""

    events: tuple[WarningEvent, ...]

    @classmethod
    def read(cls, request: "WarningEvents", found: list[KubernetesObject], *, now: datetime) -> "Warnings":
        """Read what the API said: those of the deployment, its ReplicaSets and its pods.

        Raises:
            ProviderUnavailableError: These are not what events look like.
        """
        ours = re.compile(_OWN[request.kind].replace("NAME", re.escape(request.name)))
        events = []
        with reading(request, "events"):
            for one in found:
                about = f"{one['involvedObject'].get('kind')} {one['involvedObject'].get('name')}"
                again = one.get("series") or {}  # how today's API says that it is said again
                last = again.get("lastObservedTime") or one.get("lastTimestamp") or one.get("eventTime")
                event = WarningEvent(
                    at=last or one["metadata"]["creationTimestamp"],
                    about=about,
                    reason=one.get("reason") or "",
                    message=one_line(one.get("message") or ""),
                    count=again.get("count") or one.get("count") or 1,
                )
                is_late = event.at < now - request.within
                if ours.fullmatch(about) and not is_late and one.get("type") == "Warning":
                    events.append(event)
        events.sort(key=lambda event: event.at, reverse=True)
        said = f"{len(events)} warnings"
        if events:
            said += f": {events[0].about}: {events[0].reason}: {events[0].message}"
        return cls(value=len(events), at=now, detail=said, events=tuple(events[:EVENTS_SHOWN]))


class WarningEvents(InDeployment, ProbeRequest[Warnings]):
    """What warnings are there about a deployment?

    Attributes:
        within: How long ago they were said at most.
    """

    probe: ClassVar[str] = "k8s.events"

    within: Wait


# Names that controllers give have letters and digits that make no words, so `web` is not taken for `web-api`.
_MADE = "[bcdfghjklmnpqrstvwxz2456789]"
_OWN = {
    "deployment": f"(Deployment NAME|ReplicaSet NAME-{_MADE}+|Pod NAME-{_MADE}+-{_MADE}{{5}})",
    "stateful_set": "(StatefulSet NAME|Pod NAME-[0-9]+)",
    "daemon_set": f"(DaemonSet NAME|Pod NAME-{_MADE}{{5}})",
}


class Seen(Frozen):
    """An object as it was read: the ``state`` of an observation.

    Attributes:
        annotated: True when it has annotations at all (a JSON patch has to know).
        mark: Our annotation on it, if there is one.
        made_by: What made it, if something did, and would set it again.
        owners: Who is known to put back or to overwrite what others change.
    """

    uid: str
    generation: int
    annotated: bool = False
    mark: str | None = None
    made_by: str = ""
    owners: tuple[Owner, ...] = ()


def marks(at: InCluster, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Give what the metadata of an object say, as ``Seen`` has it."""
    annotations = metadata.get("annotations")
    controllers = (one for one in metadata.get("ownerReferences") or () if one.get("controller"))
    return {
        "uid": metadata["uid"],
        "annotated": annotations is not None,
        "mark": (annotations or {}).get(ACTION),
        "made_by": next((f"{one.get('kind')} {one.get('name')}" for one in controllers), ""),
        "owners": owners(at.resource, metadata),
    }


class DeploymentState(Seen):
    """A Deployment, StatefulSet or DaemonSet as it was read.

    Attributes:
        replicas: How many pods are wanted.
        pods: How many there are, of all revisions.
        updated: How many of these have the present template.
        available: How many of these, of any revision, serve.
        held: How many keep a former template on purpose: the partition of a StatefulSet.
        on_delete: True when its pods get another template only after somebody deletes them.
        in_order: True when a StatefulSet waits for each pod before it goes on to the next.
        progressing: Reason of the condition ``Progressing``.
        waiting: Why a pod of the present template does not start, as its kubelet says it, or the scheduler,
            or why none is made, as the API server does.
        unpullable: How many of these cannot pull their image.
        revision: The number of the present template; 0 while it is unknown.
        annotations: Its own, without what ``kubectl apply`` keeps there for itself.
    """

    observed_generation: int = 0
    paused: bool = False
    replicas: int
    pods: int = 0
    updated: int = 0
    available: int = 0
    held: int = 0
    on_delete: bool = False
    in_order: bool = False
    progressing: str = ""
    waiting: str = ""
    unpullable: int = 0
    strategy: str
    revision: int = 0
    images: tuple[str, ...]
    template_hash: str
    template: Template
    annotations: dict[str, str]

    @classmethod
    def read(cls, at: InDeployment, deployment: KubernetesObject) -> "DeploymentState":
        """Read what the API said.

        Raises:
            ProviderUnavailableError: It is not what such an object looks like.
        """
        with reading(at, f"a {at.resource.kind}"):
            metadata, spec = deployment["metadata"], deployment["spec"]
            annotations = dict(metadata.get("annotations") or {})
            annotations.pop(APPLIED, None)
            template = bare_template(spec["template"])
            number = annotations.get(REVISION, "")
            return cls(
                **marks(at, metadata),
                generation=metadata["generation"],
                paused=spec.get("paused", False),
                revision=int(number) if number.isdecimal() else 0,
                images=images(template),
                template_hash=template_hash(template),
                template=template,
                annotations=annotations,
                **_counts(at.kind, spec, deployment.get("status") or {}),
            )

    def progress(self, where: str) -> Progress:
        """Say whether its last change is carried out: the rule of ``kubectl rollout status``."""
        if self.observed_generation < self.generation:
            return _settling(where, "the change is stored, its controller has yet to see it")
        wanted = self.replicas - self.held
        said = f"{self.updated} of {wanted} pods have the new template"
        failed = self._failed()
        if failed:
            detail = f"{where}: the rollout {failed}: {said}, {self.available} serve"
            return Progress(reached=Reached.FAILED, detail=detail)
        stuck = STUCK if self.in_order and self.available < self.pods else ""
        why = f"; {self.waiting or stuck}" if self.waiting or stuck else ""
        if self.updated < wanted:
            return _settling(where, f"{said}; it is paused" if self.paused else f"{said}{why}")
        if self.pods > self.updated + self.held:
            return _settling(where, f"{self.pods - self.updated - self.held} former pods are still there")
        there = min(self.updated + self.held, self.replicas)
        if self.available < there:
            return _settling(where, f"{self.available} of {there} new pods serve{why}")
        held = f"; its partition keeps {self.held} as they were" if self.held else ""
        return Progress(reached=Reached.YES, detail=f"{where}: all {wanted} pods are new and serve{held}")

    def progress_of_scale(self, where: str) -> Progress:
        """Say whether as many pods serve as are wanted, whatever their template."""
        if self.observed_generation < self.generation:
            return _settling(where, "the change is stored, its controller has yet to see it")
        if self.available < self.replicas:
            said, failed = f"{self.available} of {self.replicas} pods serve", self._failed()
            if failed:
                return Progress(reached=Reached.FAILED, detail=f"{where}: {said}, it {failed}")
            return _settling(where, f"{said}; {self.waiting}" if self.waiting else said)
        # While a rollout is under way there are more pods than wanted, by its surge.
        if self.pods > self.replicas and self.updated == self.pods:
            return _settling(where, f"{self.pods - self.replicas} pods are still to go")
        return Progress(reached=Reached.YES, detail=f"{where}: {self.replicas} of {self.replicas} pods serve")

    def _failed(self) -> str:
        """Say why what is under way cannot be carried out, or nothing."""
        if self.unpullable and self.unpullable >= self.updated:  # else some have pulled it, so it is there
            return f"cannot pull its image ({self.waiting})"
        late = "exceeded its progress deadline" + (f" ({self.waiting})" if self.waiting else "")
        return late if self.progressing == "ProgressDeadlineExceeded" else ""


class RollBackState(DeploymentState):
    """The same with what a rollback needs to know of the history.

    Attributes:
        kept_as: Number of the revision that has the wanted template; ``None`` when the history has lost it.
        images_run: True when the wanted images are known to be there: pods that serve have them now.
        incompatible: Why the wanted release does not work with the stored data, as a later one declares it.
        admitted: True when what is there is what admission has made of the wanted template.
    """

    admitted: bool = False
    kept_as: int | None = None
    images_run: bool = False
    incompatible: str = ""


class Autoscaler(Frozen):
    """A HorizontalPodAutoscaler, as a listing shows it."""

    name: str
    minimum: int
    maximum: int

    def __str__(self) -> str:
        return f"{self.name} ({self.minimum} to {self.maximum})"

    @classmethod
    def of(cls, at: InCluster, found: Iterable[KubernetesObject]) -> tuple["Autoscaler", ...]:
        """Give those of a listing, or the one that was read, that set the number of a deployment's pods.

        Raises:
            ProviderUnavailableError: They are not what autoscalers look like.
        """
        with reading(at, "autoscalers"):
            every = [(one["metadata"]["name"], one["spec"], one["spec"]["scaleTargetRef"]) for one in found]
            return tuple(
                cls(name=name, minimum=spec.get("minReplicas", 1), maximum=spec["maxReplicas"])
                for name, spec, target in every
                if (target["kind"], target["name"]) == (at.resource.kind, at.name)
            )


class Room(Frozen):
    """How many more pods of one template a quota has room for, and which of its numbers says so."""

    quota: str
    resource: str
    used: str
    hard: str
    pods: int

    def __str__(self) -> str:
        said = f"{self.resource}: {self.used} of {self.hard} used"
        return f"quota {self.quota} has room for {self.pods} more pods ({said})"


class ScaleState(DeploymentState):
    """The same with what limits the number of pods.

    Attributes:
        scale: The scale subresource's ``spec``, literally (at zero replicas the field is absent).
        autoscalers: Those that set the number.
        room: What the tightest quota of the namespace leaves; ``None`` when none counts these pods.
        unknown: What could not be read of these, and why.
    """

    scale: JsonObject = {}
    autoscalers: tuple[Autoscaler, ...] = ()
    room: Room | None = None
    unknown: tuple[str, ...] = ()


class LimitsState(ScaleState):
    """The same with the autoscaler, whose marks, ``uid`` and ``owners`` are the ones meant.

    Attributes:
        minimum: The least number of pods that it sets.
        maximum: The greatest.
    """

    minimum: int
    maximum: int


class SyncState(Seen):
    """An Argo CD Application, or Flux's Kustomization or HelmRelease, as it was read.

    Attributes:
        suspended: True when it leaves alone by itself what it has applied.
        value: The field that says so, literally: ``spec.syncPolicy.automated`` or ``spec.suspend``; ``None``
            when it is absent.
        around: Argo CD's whole ``spec.syncPolicy``, or ``None``.
        busy: True while a sync that began before is still running.
        sync: What Argo CD says of the difference to Git, for example ``OutOfSync``.
    """

    suspended: bool
    value: JsonValue = None
    around: JsonObject | None = None
    busy: bool = False
    sync: str = ""

    @classmethod
    def read(cls, at: InCluster, found: KubernetesObject) -> "SyncState":
        """Read what the API said.

        Raises:
            ProviderUnavailableError: It is not what such an object looks like.
        """
        with reading(at, f"a {at.resource.kind}"):
            metadata, spec, status = found["metadata"], found["spec"], found.get("status") or {}
            around, sync = None, ""
            if at.kind == "application":
                around, sync = spec.get("syncPolicy"), (status.get("sync") or {}).get("status", "")
                value = (around or {}).get("automated")
                suspended = value is None or value.get("enabled") is False
            else:
                value = spec.get("suspend")
                suspended = value is True
            return cls(
                **marks(at, metadata),
                generation=metadata.get("generation", 0),
                suspended=suspended,
                value=value,
                around=around,
                busy=(status.get("operationState") or {}).get("phase") in {"Running", "Terminating"},
                sync=sync,
            )


def pauses(at: InDeployment, owned_by: Iterable[Owner], syncs: Iterable[Sync]) -> tuple[SetSync, ...]:
    """Give what has to be paused before a deployment is changed by hand: whatever keeps it as it is.

    Raises:
        NothingToProposeError: The catalogue does not name what would have to be paused.
    """
    syncs, found = tuple(syncs), []
    for owner in owned_by:
        if owner.tool == "Helm":  # it comes back with the next upgrade only, and says so in the blast radius
            continue
        fitting = [
            one
            for one in syncs
            if one.kind == owner.kind
            and owner.name in ("", one.name)
            and owner.namespace in ("", one.namespace)
        ]
        if len(fitting) != 1:
            said = f"{at.where}: {owner} would put back what is changed by hand"
            kind = owner.kind.replace("_", " ")
            raise NothingToProposeError(
                f"{said}. Name that {kind} in the catalogue under `syncs`, so that it can be paused first"
            )
        found.append(SetSync(**fitting[0].model_dump(), suspended=True))
    return tuple(found)


def owners(resource: Resource, metadata: Mapping[str, Any]) -> tuple[Owner, ...]:
    """Find who keeps an object as something else says, by its marks and by who has written its fields."""
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    managers = {entry.get("manager") for entry in metadata.get("managedFields") or ()}
    found = []
    app, _, tracked = str(annotations.get("argocd.argoproj.io/tracking-id", "")).partition(":")
    itself = f"{resource.group}/{resource.kind}:{metadata.get('namespace', '')}/{metadata.get('name', '')}"
    if tracked == itself:  # else the mark of another object was copied with the rest of it
        namespace, _, name = _name(app).rpartition("_")
        found.append(Owner(tool="Argo CD", kind="application", namespace=namespace, name=name))
    elif managers & ARGO_CD or "argocd.argoproj.io/instance" in labels:
        name = labels.get("argocd.argoproj.io/instance") or labels.get("app.kubernetes.io/instance", "")
        found.append(Owner(tool="Argo CD", kind="application", name=name))
    for kind, group, manager in (
        ("kustomization", "kustomize.toolkit.fluxcd.io", "kustomize-controller"),
        ("helm_release", "helm.toolkit.fluxcd.io", "helm-controller"),
    ):
        name, namespace = labels.get(f"{group}/name", ""), labels.get(f"{group}/namespace", "")
        if (name or manager in managers) and annotations.get(f"{group}/reconcile") != "disabled":
            found.append(Owner(tool="Flux", kind=kind, namespace=namespace, name=name))
    release = _name(annotations.get("meta.helm.sh/release-name", ""))
    by_helm = release or labels.get("app.kubernetes.io/managed-by") == "Helm" or "helm" in managers
    if by_helm and not found:
        found.append(Owner(tool="Helm", kind="release", name=release))
    return tuple(found)


def last_manager(metadata: Mapping[str, Any], *path: str) -> str | None:
    """Give the field manager that last changed something at or below a path of fields; others before us.

    Times in ``managedFields`` are whole seconds. What is not as we want it is not what we wrote, so of two in
    the same second the other one was later.
    """
    found = []
    for entry in metadata.get("managedFields") or ():
        fields: Any = entry.get("fieldsV1")
        for name in path:
            fields = fields.get(f"f:{name}") if isinstance(fields, dict) else None
        if fields is not None:
            manager = str(entry.get("manager", ""))
            found.append((str(entry.get("time", "")), manager != MANAGER, manager))
    return max(found)[2] if found else None


def waiting(template: Mapping[str, Any], pods: Iterable[KubernetesObject]) -> dict[str, Any]:
    """Give why pods of a template do not start, what cannot be pulled first, and how many cannot pull."""
    wanted, found = set(images(template)), []
    for pod in pods:
        status = pod.get("status") or {}
        why = [
            {"message": one["image"], **((one.get("state") or {}).get("waiting") or {})}
            for one in [
                *(status.get("initContainerStatuses") or ()),
                *(status.get("containerStatuses") or ()),
            ]
            if one.get("image") in wanted
        ]
        if wanted.intersection(images(pod)):
            why += [one for one in status.get("conditions") or () if one.get("reason") == "Unschedulable"]
        found += sorted(
            (one["reason"] in UNPULLABLE, f"{one['reason']}: {_steady(one.get('message') or '')}")
            for one in why
            if one.get("reason", "") not in {"", "ContainerCreating", "PodInitializing"}
        )[-1:]
    return {"waiting": max(found)[1], "unpullable": sum(one for one, _ in found)} if found else {}


def _steady(said: str) -> str:
    """Say it without the names and numbers that are others each time: else a repeat is taken for progress."""
    short = said.partition(" nodes are available: ")[2].partition(". ")[0]
    short = short or said.partition(" is forbidden: ")[2].partition(", used: ")[0] or said
    return one_line(re.sub(r"\b[0-9]+ ", "", short))


_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {f"{letter}i": 10 * power for power, letter in enumerate("KMGTPE", start=1)}


def quantity(text: object) -> Decimal:
    """Read a quantity of Kubernetes: ``500m``, ``1.5Gi``, ``2e3``.

    Raises:
        ValueError: It is none.
    """
    read = re.fullmatch(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]{1,3})?)([numkMGTPE]|[KMGTPE]i)?", str(text))
    try:
        number, suffix = Decimal(read[1] if read else ""), (read[2] if read else "") or ""
    except InvalidOperation:
        raise ValueError(f"{text} is no quantity") from None
    return number * (2 ** _BINARY[suffix] if suffix in _BINARY else Decimal(10) ** _SUFFIXES[suffix])


def room(at: InCluster, template: Mapping[str, Any], quotas: Iterable[KubernetesObject]) -> Room | None:
    """Give what the tightest quota leaves for pods of a template; quotas for some pods only are left out.

    Raises:
        ProviderUnavailableError: These are not what quotas look like.
    """
    found = []
    with reading(at, "quotas"):
        for quota in quotas:
            spec, status = quota.get("spec") or {}, quota.get("status") or {}
            if spec.get("scopeSelector") or set(spec.get("scopes") or ()) - {"NotTerminating"}:
                continue
            for resource, hard in (status.get("hard") or {}).items():
                each, used = _per_pod(template, resource), (status.get("used") or {}).get(resource, "0")
                if each:
                    left = max(Decimal(0), quantity(hard) - quantity(used)) // each
                    said = {"resource": resource, "used": str(used), "hard": str(hard)}
                    found.append(Room(quota=quota["metadata"]["name"], **said, pods=int(left)))
    return min(found, key=lambda one: one.pods, default=None)


def _per_pod(template: Mapping[str, Any], resource: str) -> Decimal:
    """Give how much of a quota's resource one pod of a template uses."""
    if resource in {"pods", "count/pods"}:
        return Decimal(1)
    part, _, what = resource.rpartition(".")
    if part not in {"", "requests", "limits"} or what not in {"cpu", "memory", "ephemeral-storage"}:
        return Decimal(0)

    def of(container: Mapping[str, Any]) -> Decimal:
        asked = container.get("resources") or {}
        limit = (asked.get("limits") or {}).get(what, "0")
        request = (asked.get("requests") or {}).get(what, limit)  # as the API server fills it in
        return quantity(limit if part == "limits" else request)

    first = template["spec"].get("initContainers") or ()
    stay = [*template["spec"]["containers"], *(one for one in first if one.get("restartPolicy") == "Always")]
    return max(sum(map(of, stay), Decimal(0)), *map(of, first), Decimal(0))


def own_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    """Give those that come back with a revision and go with it."""
    return {
        key: value
        for key, value in annotations.items()
        if key not in BOOKKEEPING and not key.partition("/")[0].endswith(STAY)
    }


def bare_template(template: Mapping[str, Any]) -> Template:
    """Give a pod template without what a controller or the encoding adds: this is what is stored and sent."""
    bare: Template = _without_nulls(deepcopy(dict(template)))
    bare.pop("$patch", None)  # a ControllerRevision is a patch
    metadata = bare.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("labels"), dict):
        metadata["labels"].pop(TEMPLATE_HASH_LABEL, None)
    return bare


def template_hash(template: Mapping[str, Any]) -> str:
    """Give 12 hex digits that stand for a template as the API gives it, defaults included."""
    text = json.dumps(bare_template(template), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _before_restart(template: Template) -> Template:
    plain = deepcopy(template)
    marks = plain.get("metadata", {}).get("annotations") or {}
    if marks.pop(RESTARTED_AT, None) is not None and not marks:
        del plain["metadata"]["annotations"]
    return plain


def same_template(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether two templates mean the same: the API server's defaults may be written out or left out."""
    return _meant(one) == _meant(other)


def same_release(one: Template, other: Template) -> bool:
    """Say whether two templates mean the same but for a restart."""
    return same_template(_before_restart(one), _before_restart(other))


def images(template: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the images of a template's containers, in order; those of its init containers come last."""
    spec = template["spec"]
    return tuple(str(one.get("image", "")) for one in [*spec["containers"], *spec.get("initContainers", ())])


def template_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Give what differs between two templates, field by field, defaults left out."""
    return tuple(_differences(_meant(before), _meant(after), "spec.template"))


def _settling(where: str, said: str) -> Progress:
    return Progress(reached=Reached.SETTLING, detail=f"{where}: {said}")


def _name(text: object) -> str:
    """Give a name that stands in an annotation, which may hold anything; nothing if it is none."""
    return str(text) if re.fullmatch(r"[A-Za-z0-9._-]{1,253}", str(text)) else ""


def _declared(template: Mapping[str, Any], annotation: str) -> float | None:
    """Give the number in an annotation of a template; one that cannot be read allows nothing."""
    text = (template.get("metadata", {}).get("annotations") or {}).get(annotation)
    if text is None:
        return None
    return int(text) if re.fullmatch("[0-9]{1,18}", str(text)) else inf


def _counts(kind: str, spec: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    """Give how many pods there are and how they are replaced, in the words of a Deployment."""
    on_nodes, in_turn = kind == "daemon_set", kind == "stateful_set"
    wanted = status.get("desiredNumberScheduled", 0) if on_nodes else spec.get("replicas", 1)
    update = spec.get("strategy" if kind == "deployment" else "updateStrategy") or {}
    rolling = update.get("rollingUpdate") or {}
    missing = rolling.get("maxUnavailable", 1 if on_nodes else "25%")
    strategy = f"{'node by node' if on_nodes else 'a few at a time'} (at most {missing} of them missing)"
    if in_turn:
        strategy = "one at a time, the last first"
    elif update.get("type") == "Recreate":
        strategy = "all at once, so that none serves meanwhile"
    counted = zip(("pods", "updated", "available"), _COUNTS[on_nodes], strict=True)
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    return {
        **{ours: status.get(theirs, 0) for ours, theirs in counted},
        "observed_generation": status.get("observedGeneration", 0),
        "replicas": wanted,
        "held": min(wanted, rolling.get("partition", 0)) if in_turn else 0,
        "on_delete": update.get("type") == "OnDelete",
        "in_order": in_turn and spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady",
        "progressing": conditions.get("Progressing", {}).get("reason", ""),
        "waiting": _steady(conditions.get("ReplicaFailure", {}).get("message", "")),
        "strategy": strategy,
    }


# What a status calls the pods that there are, that have the present template, that serve.
_COUNTS = {
    False: ("replicas", "updatedReplicas", "availableReplicas"),
    True: ("currentNumberScheduled", "updatedNumberScheduled", "numberAvailable"),
}


def _without_nulls(value: Any) -> Any:
    """Leave out fields that are ``null``: in the API they are the same as absent ones."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


# What the API server fills in for each kind of object: a field to its default, or to what is filled in below.
_HTTP_GET = {"httpGet": {"path": "/", "scheme": "HTTP"}}
_TIMES = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_PROBE = {**_HTTP_GET, **_TIMES, "grpc": {"service": ""}}
_REFERENCE = {"fieldRef": {"apiVersion": "v1"}, "resourceFieldRef": {"divisor": "0"}}
_FILES = {"defaultMode": 420, "items": _REFERENCE}
_CONTAINER = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "resources": {},
    "securityContext": {},
    "command": [],
    "args": [],
    "ports": {"protocol": "TCP"},
    "env": {"value": "", "valueFrom": _REFERENCE},
    **dict.fromkeys(("livenessProbe", "readinessProbe", "startupProbe"), _PROBE),
    "lifecycle": {"postStart": _HTTP_GET, "preStop": _HTTP_GET},
}
_SOURCE = {"serviceAccountToken": {"expirationSeconds": 3600}, "downwardAPI": {"items": _REFERENCE}}
_VOLUME = {
    "emptyDir": {},
    **dict.fromkeys(("secret", "configMap", "downwardAPI"), _FILES),
    "hostPath": {"type": ""},
    "projected": {"defaultMode": 420, "sources": _SOURCE},
}
_TEMPLATE = {
    "metadata": {"annotations": {}, "labels": {}},
    "spec": {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        **dict.fromkeys(("containers", "initContainers"), _CONTAINER),
        "volumes": _VOLUME,
    },
}


def _not_filled_in(value: Any, filled_in: Any) -> Any:
    """Give a value without what the server would fill in; of its lists, without the empty ones."""
    if isinstance(value, list):
        return [_not_filled_in(inner, filled_in) for inner in value]
    if not isinstance(value, dict) or not isinstance(filled_in, dict):
        return value
    kept = {key: _not_filled_in(inner, filled_in.get(key)) for key, inner in value.items()}
    return {
        key: inner for key, inner in kept.items() if key not in filled_in or inner not in ([], filled_in[key])
    }


def _meant(template: Mapping[str, Any]) -> Template:
    """Give a template without what the server would fill in by itself."""
    meant: Template = _not_filled_in(bare_template(template), _TEMPLATE)
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
    pairs = _pairs(before, after)
    if not pairs:
        yield Difference(path=path, before=before, after=after)
    for name, one, other in pairs:
        yield from _differences(one, other, path + name)


def _pairs(before: Any, after: Any) -> list[tuple[str, Any, Any]]:
    """Give what belongs together in two values, and how it is called; nothing for what has no parts."""
    if isinstance(before or after, dict) and all(isinstance(one, dict | None) for one in (before, after)):
        before, after = before or {}, after or {}
        keys = sorted(before.keys() | after.keys())
        plain = {key: key.replace("-", "").replace("_", "").isalnum() for key in keys}
        return [(f".{key}" if plain[key] else f"[{key}]", before.get(key), after.get(key)) for key in keys]
    if not isinstance(before, list) or not isinstance(after, list):
        return []
    one, other = _by_name(before), _by_name(after)
    if [name for name in one if name in other] == [name for name in other if name in one] != []:
        return [(f"[{name}]", one.get(name), other.get(name)) for name in {**one, **other}]
    same_length = zip(before, after, strict=True) if len(before) == len(after) else ()
    return [(f"[{number}]", *pair) for number, pair in enumerate(same_length)]


def _by_name(items: list[Any]) -> dict[str, Any]:
    """Give a list as a mapping when its items have names of their own; otherwise give nothing."""
    named = {str(item["name"]): item for item in items if isinstance(item, dict) and "name" in item}
    return named if len(named) == len(items) else {}
