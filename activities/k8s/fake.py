"""A Kubernetes API on 127.0.0.1 for tests and the demo: what we use of it behaves as the real one.

It has the resources below, JSON, merge and strategic merge patches, dry runs, bearer tokens with rules, and
the controllers that make a Deployment roll out. Its clock moves when somebody asks: there is no thread of its
own, each request first lets everything happen that was due by then. An image with ``bad`` in its name cannot
be pulled. It can be told to fail, and its request log is the witness of what arrived and what was applied.

``python -m activities.k8s.fake --port 6443 --state cluster.json`` runs one as a process.
"""

import argparse
import hashlib
import json
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from activities.k8s.models import ACTION, BOOKKEEPING, RESOURCES, REVISION, TEMPLATE_HASH_LABEL

Object = dict[str, Any]

GROUPS = {one.name: (one.api, one.kind) for one in RESOURCES.values()} | {
    "namespaces": ("api/v1", "Namespace")
}
WORKLOADS = ("deployments", "statefulsets", "daemonsets")
SCALABLE = {"Deployment": "deployments", "StatefulSet": "statefulsets"}
SYNCED = ("applications", "kustomizations", "helmreleases")
DAEMON_NODES = 3
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
OPEN_PATHS = {REVIEWS, "/version", "/livez", "/readyz"}  # for every token
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
REVISIONS = f"{REVISION}-history"
DESIRED, MOST = "deployment.kubernetes.io/desired-replicas", "deployment.kubernetes.io/max-replicas"
NOT_COPIED = BOOKKEEPING - {ACTION}
REVISION_HASH = "controller-revision-hash"
LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # of generated names: they make no words
LARGEST_BODY = 3 * 1024 * 1024
EVENTS_KEPT = 200
ANNOTATIONS_LARGEST = 256 * 1024
QUALIFIED = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class Fault(StrEnum):
    """What becomes of a request instead of its plain answer."""

    REFUSED = "refused"  # 4xx, nothing is done
    THROTTLED = "throttled"  # 429 with Retry-After, nothing is done
    CONFLICT = "conflict"  # 409, nothing is done
    ERROR_BEFORE = "error_before"  # 5xx, nothing is done
    ERROR_AFTER = "error_after"  # 5xx, although it is done
    TIMEOUT_BEFORE = "timeout_before"  # no answer, nothing is done
    TIMEOUT_AFTER = "timeout_after"  # no answer, although it is done
    LATE = "late"  # no answer, and it is done after ``delay`` seconds, or when ``let_go`` is set
    CUT_BEFORE = "cut_before"  # the connection breaks, nothing is done
    CUT_AFTER = "cut_after"  # the connection breaks, although it is done
    GARBLED_AFTER = "garbled_after"  # 200 with half of the answer, and it is done
    STALE = "stale"  # a read sees the cluster before its last change


AFTER = {Fault.ERROR_AFTER, Fault.TIMEOUT_AFTER, Fault.LATE, Fault.CUT_AFTER, Fault.GARBLED_AFTER}


@dataclass
class Planned:
    """A fault for requests to come: the next ``times`` with this method whose path contains ``path``."""

    fault: Fault
    method: str = "PATCH"
    path: str = ""
    times: int = 1
    status: int = 0
    said: str = "the request was refused as a test wanted it"
    retry_after: int = 7
    delay: float = 0.0


@dataclass(frozen=True)
class Rule:
    """What a token may do: as in a Role, without API groups."""

    verbs: tuple[str, ...]
    resources: tuple[str, ...]
    namespaces: tuple[str, ...] = ("*",)
    names: tuple[str, ...] = ()

    def allows(self, verb: str, resource: str, namespace: str, name: str) -> bool:
        """Say whether it allows this; a rule with names allows no list and no create."""
        return (
            (verb in self.verbs or "*" in self.verbs)
            and (resource in self.resources or "*" in self.resources)
            and (namespace in self.namespaces or "*" in self.namespaces)
            and (not self.names or name in self.names)
        )


@dataclass(frozen=True)
class Access:
    """Whose token it is, and its rules."""

    user: str
    rules: tuple[Rule, ...]

    def may(self, verb: str, resource: str, namespace: str, name: str) -> bool:
        """Say whether it may."""
        return any(rule.allows(verb, resource, namespace, name) for rule in self.rules)


EVERYTHING = (Rule(("*",), ("*",)),)
LEAST = (  # what the actions and probes of this package need, and no more
    Rule(("get", "patch"), (*WORKLOADS, "deployments/scale", "statefulsets/scale", *SYNCED)),
    Rule(("get", "patch", "list"), ("horizontalpodautoscalers",)),
    Rule(("list",), ("replicasets", "controllerrevisions", "pods", "events", "resourcequotas")),
)
TOKENS = {
    "admin-token": Access("admin", EVERYTHING),
    "stanch-token": Access("system:serviceaccount:stanch:stanch", LEAST),
}


class Refusal(Exception):  # noqa: N818  (it is an answer, not an error of ours)
    """A Status object for an answer."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": details,
            "code": code,
        }


def manifest(
    name: str,
    image: str,
    *,
    namespace: str = "shop",
    replicas: int = 3,
    kind: str = "Deployment",
    **spec: Any,
) -> Object:
    """Give a small Deployment; ``spec`` adds to its spec, for example ``progressDeadlineSeconds=6``."""
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            **({} if kind == "DaemonSet" else {"replicas": replicas}),
            **({"serviceName": name} if kind == "StatefulSet" else {}),
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": name, "image": image}]},
            },
            **spec,
        },
    }


# --- the cluster: objects, and the controllers that move them -------------------------------------------


class World:
    """The objects and what happens to them in time. Objects are replaced, not changed, by ``store``."""

    def __init__(self, *, ready_after: float, lag: float) -> None:
        self.ready_after = ready_after
        self.lag = lag
        self.now = 0.0
        self.version = 1000
        self.serial = 0
        self.objects: dict[str, Object] = {}
        self.timers: dict[str, float] = {}

    def dump(self) -> Object:
        """Give everything as JSON."""
        return {key: deepcopy(getattr(self, key)) for key in ("version", "serial", "objects", "timers")}

    def load(self, dumped: Object) -> None:
        """Take back what ``dump`` gave."""
        for key, value in dumped.items():
            setattr(self, key, value)

    def advance(self, now: float) -> None:
        """Let everything happen that is due by ``now``, in order."""
        while self.timers:
            timer = min(self.timers, key=lambda one: (self.timers[one], one))
            if self.timers[timer] > now:
                break
            self.now = max(self.now, self.timers.pop(timer))
            what, _, key = timer.partition(" ")
            if key in self.objects:
                {"sync": self._look_at, "ready": self._ready, "deadline": self._deadline}[what](key)
        self.now = max(self.now, now)

    def time(self) -> str:
        """Give the time as the API writes it."""
        return datetime.fromtimestamp(self.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def add(self, resource: str, one: Object) -> Object:
        """Store a new object with the metadata that a server gives it."""
        self.serial += 1
        group, kind = GROUPS[resource]
        metadata = one["metadata"]
        metadata |= {
            "uid": f"{self.serial:08x}-5741-4e43-8000-{self.version:012x}",
            "creationTimestamp": self.time(),
            "generation": 1,
        }
        return self.store(
            resource, {"apiVersion": group.partition("/")[2], "kind": kind, **one, "metadata": metadata}
        )

    def store(self, resource: str, one: Object) -> Object:
        """Store an object under a new resource version; its controller will look at it."""
        self.version += 1
        one["metadata"]["resourceVersion"] = str(self.version)
        key = key_of(resource, one)
        self.objects[key] = one
        if resource in WORKLOADS or resource == "horizontalpodautoscalers":
            self.timers.setdefault(f"sync {key}", self.now + self.lag)
        if resource in SCALABLE.values():
            above = f"horizontalpodautoscalers/{one['metadata']['namespace']}/"
            for other in self.objects:
                if other.startswith(above):
                    self.timers.setdefault(f"sync {other}", self.now + self.lag)
        return one

    def remove(self, key: str) -> None:
        """Delete an object and all that it owns."""
        gone = self.objects.pop(key)
        self.version += 1
        for other, one in list(self.objects.items()):
            if gone["metadata"]["uid"] in {owner["uid"] for owner in _owners(one)}:
                self.remove(other)
        for owner in _owners(gone):
            self.timers.setdefault(f"sync {self._controlled(gone, owner)}", self.now + self.lag)

    def _controlled(self, one: Object, owner: Object) -> str:
        """Give what the controller looks at that is above an object: of a ReplicaSet's pod the Deployment."""
        key = f"{owner['kind'].lower()}s/{one['metadata']['namespace']}/{owner['name']}"
        above = (
            _owners(self.objects[key])[:1] if owner["kind"] == "ReplicaSet" and key in self.objects else ()
        )
        return next((self._controlled(one, higher) for higher in above), key)

    def owned(self, resource: str, owner: Object) -> list[Object]:
        """Give what an object owns, oldest first."""
        uid, prefix = owner["metadata"]["uid"], f"{resource}/{owner['metadata']['namespace']}/"
        return [
            one
            for key, one in self.objects.items()
            if key.startswith(prefix) and any(owner["uid"] == uid for owner in _owners(one))
        ]

    def _look_at(self, key: str) -> None:
        """Do what the controller of an object does when it looks at it."""
        resource = key.partition("/")[0]
        if resource == "deployments":
            self._sync(key)
        elif resource == "horizontalpodautoscalers":
            self._autoscale(key)
        else:
            self._sync_set(key, self.objects[key])

    def _autoscale(self, key: str) -> None:
        """Keep a count between the limits, as an autoscaler without metrics does; zero switches it off."""
        spec, namespace = self.objects[key]["spec"], key.split("/")[1]
        target = f"{SCALABLE[spec['scaleTargetRef']['kind']]}/{namespace}/{spec['scaleTargetRef']['name']}"
        before = self.objects.get(target)
        count = before["spec"]["replicas"] if before else 0
        wanted = max(spec["minReplicas"], min(spec["maxReplicas"], count))
        if before and count and wanted != count:
            after = deepcopy(before)
            after["spec"]["replicas"] = wanted
            after["metadata"]["generation"] += 1
            sign(before, after, "kube-controller-manager", self.time(), "scale")
            self.store(target.partition("/")[0], after)

    def _sync_set(self, key: str, above: Object) -> None:
        """Do what the controllers of StatefulSets and DaemonSets do with one of them."""
        spec, metadata, ordered = above["spec"], above["metadata"], key.startswith("statefulsets/")
        new = self._controller_revision(above)
        count = spec["replicas"] if ordered else DAEMON_NODES
        slots = [f"{metadata['name']}-{n}" if ordered else f"node-{n}" for n in range(count)]

        for slot, pod in self._slots(above).items():
            if slot not in slots:
                self.remove(key_of("pods", pod))
        for slot in slots:
            there = self._slots(above)
            if ordered and not all(map(_is_ready, there.values())):
                break  # one after the other
            if slot not in there:
                self._start_pod(above, spec["template"], slot, new["metadata"]["name"])
        if len(self._slots(above)) == count and spec["updateStrategy"]["type"] == "RollingUpdate":
            self._replace(above, slots, new["metadata"]["name"])
        there = self._slots(above)
        ready = sum(map(_is_ready, there.values()))
        updated = sum(_of_revision(pod, new["metadata"]["name"]) for pod in there.values())
        status: Object = {"observedGeneration": metadata["generation"]}
        if ordered:
            status |= {"replicas": len(there), "readyReplicas": ready, "availableReplicas": ready}
            status |= {"updatedReplicas": updated, "updateRevision": new["metadata"]["name"]}
        else:
            status |= {"desiredNumberScheduled": count, "currentNumberScheduled": len(there)}
            status |= {"numberReady": ready, "numberAvailable": ready, "updatedNumberScheduled": updated}
        if status != above.get("status"):
            above["status"] = status
            self._bump(above)

    def _slots(self, above: Object) -> dict[str, Object]:
        """Give the pods of a StatefulSet by name, of a DaemonSet by node."""
        by_name = above["kind"] == "StatefulSet"
        return {
            pod["metadata"]["name"] if by_name else pod["spec"]["nodeName"]: pod
            for pod in self.owned("pods", above)
        }

    def _replace(self, above: Object, slots: list[str], revision: str) -> None:
        """Take away one former pod when all serve; those of a DaemonSet that do not serve go at once."""
        there = self._slots(above)
        held = slots[: above["spec"]["updateStrategy"].get("rollingUpdate", {}).get("partition", 0)]
        old = [
            pod for slot, pod in sorted(there.items()) if slot not in held and not _of_revision(pod, revision)
        ]
        broken = [pod for pod in old if not _is_ready(pod) and above["kind"] == "DaemonSet"]
        if not broken and all(map(_is_ready, there.values())):
            broken = old[-1:]
        for pod in broken:
            self.remove(key_of("pods", pod))

    def _controller_revision(self, above: Object) -> Object:
        """Make or take again the ControllerRevision of the present template, under the highest number."""
        metadata, template = above["metadata"], above["spec"]["template"]
        data = {"spec": {"template": {**deepcopy(template), "$patch": "replace"}}}
        there = self.owned("controllerrevisions", above)
        number = max((one["revision"] for one in there), default=0)
        new = next((one for one in there if one["data"] == data), None)
        if new is not None and new["revision"] < number:
            new["revision"] = number + 1
            self.store("controllerrevisions", new)
        if new is None:
            name = f"{metadata['name']}-{_digest(template)}"
            labels = {**template["metadata"].get("labels", {}), REVISION_HASH: name}
            about = {"name": name, "namespace": metadata["namespace"], "labels": labels}
            about |= {
                "annotations": dict(metadata.get("annotations", {})),
                "ownerReferences": [_owner(above)],
            }
            new = self.add("controllerrevisions", {"metadata": about, "data": data, "revision": number + 1})
            for old in sorted(there, key=lambda one: int(one["revision"])):
                if len(self.owned("controllerrevisions", above)) > above["spec"]["revisionHistoryLimit"] + 1:
                    self.remove(key_of("controllerrevisions", old))
        return new

    def _sync(self, key: str) -> None:
        """Do what the Deployment controller and the ReplicaSet controller do with one Deployment."""
        deployment = self.objects[key]
        spec, number = deployment["spec"], deployment["metadata"].get("annotations", {}).get(REVISION)
        sets = self.owned("replicasets", deployment)
        for one in sets:
            self._resize(one, one["spec"]["replicas"])
        new = next((one for one in sets if _without_hash(one["spec"]["template"]) == spec["template"]), None)
        if not spec.get("paused"):
            new = self._number(deployment, new, [one for one in sets if one is not new])
        old = [one for one in sets if one is not new]
        if new is None:
            pass  # paused before its first rollout
        elif spec.get("paused"):
            self._resize(new, max(0, spec["replicas"] - sum(one["spec"]["replicas"] for one in old)))
        elif spec["strategy"]["type"] == "Recreate":
            for one in old:
                self._resize(one, 0)
            self._resize(new, spec["replicas"])
        else:
            self._roll(spec, new, old)
        started = deployment["metadata"].get("annotations", {}).get(REVISION) != number
        self._tell(key, deployment, new, old, started=started)

    def _number(self, deployment: Object, new: Object | None, old: list[Object]) -> Object:
        """Make or take again the ReplicaSet of the present template, under the highest number."""
        spec, metadata = deployment["spec"], deployment["metadata"]
        number = max((_revision(one) for one in old), default=0) + 1
        if new is None:
            digest = _digest(spec["template"])
            template = deepcopy(spec["template"])
            template["metadata"].setdefault("labels", {})[TEMPLATE_HASH_LABEL] = digest
            selector = deepcopy(spec["selector"])
            selector.setdefault("matchLabels", {})[TEMPLATE_HASH_LABEL] = digest
            new = self.add(
                "replicasets",
                {
                    "metadata": {
                        "name": f"{metadata['name']}-{digest}",
                        "namespace": metadata["namespace"],
                        "labels": dict(template["metadata"]["labels"]),
                        "annotations": {REVISION: str(number)},
                        "ownerReferences": [_owner(deployment)],
                    },
                    "spec": {"replicas": 0, "selector": selector, "template": template},
                    "status": {"replicas": 0},
                },
            )
        marks = new["metadata"]["annotations"]
        if _revision(new) < number:
            marks[REVISIONS] = ",".join([*marks.get(REVISIONS, "").split(","), marks[REVISION]]).lstrip(",")
            marks[REVISION] = str(number)
        own = metadata.get("annotations", {})
        marks |= {mark: value for mark, value in own.items() if mark not in NOT_COPIED}
        marks |= {DESIRED: str(spec["replicas"]), MOST: str(spec["replicas"] + _room(spec)[0])}
        if own.get(REVISION) != marks[REVISION]:
            metadata["annotations"] = own | {REVISION: marks[REVISION]}
        return new

    def _roll(self, spec: Object, new: Object, old: list[Object]) -> None:
        """Move pods from the old ReplicaSets to the new one, as far as surge and availability allow."""
        surge, missing = _room(spec)
        wanted, least = spec["replicas"], spec["replicas"] - missing
        while True:
            sizes = [one["spec"]["replicas"] for one in (new, *old)]
            self._resize(new, min(wanted, sizes[0] + max(0, wanted + surge - sum(sizes))))
            every = sum(one["spec"]["replicas"] for one in (new, *old))
            spare = every - least - (new["spec"]["replicas"] - self._serving(new))
            for one in old:  # those that do not serve go first
                cut = max(0, min(spare, one["spec"]["replicas"] - self._serving(one)))
                self._resize(one, one["spec"]["replicas"] - cut)
                spare -= cut
            spare = min(spare, sum(self._serving(one) for one in (new, *old)) - least)
            for one in old:
                cut = max(0, min(spare, one["spec"]["replicas"]))
                self._resize(one, one["spec"]["replicas"] - cut)
                spare -= cut
            if sizes == [one["spec"]["replicas"] for one in (new, *old)]:
                return

    def _resize(self, replica_set: Object, count: int) -> None:
        """Make or delete pods until there are this many."""
        before, metadata = replica_set["spec"]["replicas"], replica_set["metadata"]
        pods = sorted(self.owned("pods", replica_set), key=lambda pod: (_is_ready(pod), -_serial(pod)))
        for pod in pods[: max(0, len(pods) - count)]:
            self.remove(key_of("pods", pod))
        for _ in range(count - len(pods)):
            self._start_pod(replica_set, replica_set["spec"]["template"])
        if before != count:
            said = f"Scaled {'up' if count > before else 'down'} replica set {metadata['name']}"
            self._event(replica_set, "ScalingReplicaSet", f"{said} from {before} to {count}")
            replica_set["spec"]["replicas"] = count
            metadata["generation"] += 1
        status = {"replicas": count, "readyReplicas": self._serving(replica_set)}
        if replica_set["status"] != status or before != count:
            replica_set["status"] = status
            self.store("replicasets", replica_set)

    def _start_pod(self, owner: Object, template: Object, slot: str = "", revision: str = "") -> None:
        template, above = deepcopy(template), owner["metadata"]
        name = slot if owner["kind"] == "StatefulSet" else f"{above['name']}-{_word(self.serial + 1)}"
        labels = {**template["metadata"].get("labels", {}), **({REVISION_HASH: revision} if revision else {})}
        containers, first = template["spec"]["containers"], template["spec"].get("initContainers", [])
        bad_first = any("bad" in one["image"] for one in first)
        bad = bad_first or any("bad" in one["image"] for one in containers)
        statuses = {"containerStatuses": _waiting(containers, bad=bad and not bad_first)}
        if bad_first:
            statuses["initContainerStatuses"] = _waiting(first, bad=True)
        pod = self.add(
            "pods",
            {
                "metadata": {
                    **template["metadata"],
                    "labels": labels,
                    "name": name,
                    "namespace": above["namespace"],
                    "ownerReferences": [_owner(owner)],
                },
                "spec": {**template["spec"], "nodeName": slot or "fake"},
                "status": {
                    "phase": "Pending",
                    "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": self.time()}],
                    **statuses,
                    "startTime": self.time(),
                },
            },
        )
        if bad:
            self._event(pod, "Failed", "Failed to pull image: not found", kind="Warning")
        else:
            self.timers[f"ready {key_of('pods', pod)}"] = self.now + self.ready_after

    def _ready(self, key: str) -> None:
        pod = self.objects[key]
        pod["status"] |= {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": self.time()}],
        }
        for container in pod["status"]["containerStatuses"]:
            container |= {"ready": True, "state": {"running": {"startedAt": self.time()}}}
        self.store("pods", pod)
        self._look_at(self._controlled(pod, _owners(pod)[0]))

    def _deadline(self, key: str) -> None:
        deployment = self.objects[key]
        status = deployment["status"]
        conditions = _with(status["conditions"], "Progressing", "False", "ProgressDeadlineExceeded")
        deployment["status"] = status | {"conditions": conditions}
        self._bump(deployment)

    def _tell(
        self, key: str, deployment: Object, new: Object | None, old: list[Object], *, started: bool
    ) -> None:
        """Write the status, and drop what the history has no room for."""
        spec, before = deployment["spec"], deployment.get("status", {})
        every = [one for one in (new, *old) if one]
        pods = sum(one["spec"]["replicas"] for one in every)
        serving = sum(self._serving(one) for one in every)
        updated = new["spec"]["replicas"] if new else 0
        counts = {
            "replicas": pods,
            "updatedReplicas": updated,
            "readyReplicas": serving,
            "availableReplicas": serving,
            "unavailableReplicas": max(0, pods - serving),
        }
        enough = serving >= spec["replicas"] - _room(spec)[1]
        reason = f"MinimumReplicas{'Available' if enough else 'Unavailable'}"
        conditions = _with(before.get("conditions", []), "Available", str(enough), reason)
        last = next((one["reason"] for one in conditions if one["type"] == "Progressing"), "")
        moved = started or any(before.get(name, 0) != count for name, count in counts.items())
        if spec.get("paused"):
            conditions = _with(conditions, "Progressing", "Unknown", "DeploymentPaused")
            self.timers.pop(f"deadline {key}", None)
        elif spec["replicas"] == updated == pods == serving:
            conditions = _with(conditions, "Progressing", "True", "NewReplicaSetAvailable")
            self.timers.pop(f"deadline {key}", None)
            idle = sorted((one for one in old if not one["spec"]["replicas"]), key=_revision)
            for one in idle[: max(0, len(idle) - spec["revisionHistoryLimit"])]:
                self.remove(key_of("replicasets", one))
        elif moved or last == "DeploymentPaused":
            conditions = _with(conditions, "Progressing", "True", "ReplicaSetUpdated")
            self.timers[f"deadline {key}"] = self.now + spec["progressDeadlineSeconds"]
        status = {name: count for name, count in counts.items() if count}
        status |= {"observedGeneration": deployment["metadata"]["generation"], "conditions": conditions}
        if status != before:
            deployment["status"] = status
            self._bump(deployment)

    def _bump(self, one: Object) -> None:
        """Give a new resource version for a change that its controller made itself."""
        self.version += 1
        one["metadata"]["resourceVersion"] = str(self.version)

    def _serving(self, replica_set: Object) -> int:
        return sum(_is_ready(pod) for pod in self.owned("pods", replica_set))

    def _event(self, about: Object, reason: str, message: str, *, kind: str = "Normal") -> None:
        metadata = about["metadata"]
        self.add(
            "events",
            {
                "metadata": {
                    "name": f"{metadata['name']}.{self.serial:x}",
                    "namespace": metadata["namespace"],
                },
                "involvedObject": {"kind": about["kind"], "name": metadata["name"], "uid": metadata["uid"]},
                "type": kind,
                "reason": reason,
                "message": message,
                "lastTimestamp": self.time(),
            },
        )
        events = [key for key in self.objects if key.startswith("events/")]
        for key in events[:-EVENTS_KEPT]:
            del self.objects[key]


def key_of(resource: str, one: Object) -> str:
    """Give the key under which an object is stored."""
    return f"{resource}/{one['metadata'].get('namespace', '')}/{one['metadata']['name']}"


def _with(conditions: list[Object], kind: str, status: str, reason: str) -> list[Object]:
    others = [one for one in conditions if one["type"] != kind]
    return [*others, {"type": kind, "status": status, "reason": reason}]


def _owner(one: Object) -> Object:
    metadata = one["metadata"]
    kind = {"apiVersion": one["apiVersion"], "kind": one["kind"]}
    return {**kind, "name": metadata["name"], "uid": metadata["uid"], "controller": True}


def _owners(one: Object) -> list[Object]:
    owners: list[Object] = one["metadata"].get("ownerReferences", [])
    return owners


def _revision(replica_set: Object) -> int:
    return int(replica_set["metadata"]["annotations"][REVISION])


def _waiting(containers: list[Object], *, bad: bool) -> list[Object]:
    """Give the statuses of containers that have not started."""
    reason = "ImagePullBackOff" if bad else "ContainerCreating"
    status = {"imageID": "", "ready": False, "restartCount": 0, "state": {"waiting": {"reason": reason}}}
    return [{"name": one["name"], "image": one["image"], **deepcopy(status)} for one in containers]


def _is_ready(pod: Object) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"]["conditions"])


def _word(number: int, length: int = 5) -> str:
    """Give a number in the letters of generated names."""
    size = len(LETTERS)
    return "".join(LETTERS[number // size**place % size] for place in reversed(range(length)))


def _digest(template: Object) -> str:
    text = json.dumps(template, sort_keys=True).encode()
    return _word(int.from_bytes(hashlib.sha256(text).digest()), 10)


def _of_revision(pod: Object, revision: str) -> bool:
    return bool(pod["metadata"]["labels"][REVISION_HASH] == revision)


def _serial(one: Object) -> int:
    return int(one["metadata"]["uid"][:8], 16)


def _without_hash(template: Object) -> Object:
    bare = deepcopy(template)
    bare["metadata"]["labels"].pop(TEMPLATE_HASH_LABEL, None)
    return bare


def _room(spec: Object) -> tuple[int, int]:
    """Give how many pods more, and how many less, a rolling update may have."""
    rolling = spec["strategy"].get("rollingUpdate")
    if rolling is None:
        return 0, spec["replicas"]

    def count(share: int | str, rounded: Callable[[float], int]) -> int:
        return rounded(spec["replicas"] * int(share.rstrip("%")) / 100) if isinstance(share, str) else share

    surge, missing = count(rolling["maxSurge"], ceil), count(rolling["maxUnavailable"], int)
    return surge, (missing if surge or missing else 1)


# --- what the API server does with an object: defaults, validation, patches ------------------------------


def _fill(one: Object, defaults: Mapping[str, Any]) -> None:
    for key, value in defaults.items():
        if one.get(key) in (None, ""):
            one[key] = deepcopy(value)


def _fill_workload(resource: str, deployment: Object) -> None:
    """Fill in what a Deployment, StatefulSet or DaemonSet leaves out."""
    spec = deployment["spec"]
    how = "strategy" if resource == "deployments" else "updateStrategy"
    defaults: Mapping[str, Object] = {
        "deployments": {"maxSurge": "25%", "maxUnavailable": "25%"},
        "statefulsets": {"partition": 0},
        "daemonsets": {"maxSurge": 0, "maxUnavailable": 1},
    }
    _fill(spec, {"revisionHistoryLimit": 10, how: {}})
    if resource != "daemonsets":
        _fill(spec, {"replicas": 1})
    if resource == "deployments":
        _fill(spec, {"progressDeadlineSeconds": 600})
    if resource == "statefulsets":
        _fill(spec, {"podManagementPolicy": "OrderedReady"})
    _fill(spec[how], {"type": "RollingUpdate"})
    if spec[how]["type"] == "RollingUpdate":
        _fill(spec[how], {"rollingUpdate": {}})
        _fill(spec[how]["rollingUpdate"], defaults[resource])
    template = spec["template"]
    _fill(template, {"metadata": {}})
    template["metadata"].pop("creationTimestamp", None)
    _fill(
        template["spec"],
        {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler",
            "securityContext": {},
        },
    )
    for container in template["spec"]["containers"]:
        name = container.get("image", "").rpartition("/")[2]
        latest = name.endswith(":latest") or not (":" in name or "@" in name)
        _fill(
            container,
            {
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "imagePullPolicy": "Always" if latest else "IfNotPresent",
            },
        )
        for port in container.get("ports", ()):
            _fill(port, {"protocol": "TCP"})


def _check_deployment(deployment: Object) -> Iterator[tuple[str, str]]:
    """Give the fields of a Deployment that are not valid, and why."""
    spec = deployment.get("spec")
    template = spec.get("template") if isinstance(spec, dict) else None
    pod = template.get("spec") if isinstance(template, dict) else None
    if not isinstance(spec, dict) or not isinstance(template, dict) or not isinstance(pod, dict):
        yield "spec.template.spec", "Required value"
        return
    metadata = template.get("metadata") or {}
    for where, marks in (("metadata", deployment["metadata"]), ("spec.template.metadata", metadata)):
        yield from _check_marks(where, marks)
    selector = (spec.get("selector") or {}).get("matchLabels") or {}
    if not selector:
        yield "spec.selector", "Required value"
    labels = metadata.get("labels") or {}
    if any(labels.get(key) != value for key, value in selector.items()):
        yield "spec.template.metadata.labels", "Invalid value: `selector` does not match template `labels`"
    if not isinstance(spec.get("replicas", 1), int) or spec.get("replicas", 1) < 0:
        yield "spec.replicas", "Invalid value: must be greater than or equal to 0"
    containers = pod.get("containers")
    if not isinstance(containers, list) or not containers:
        yield "spec.template.spec.containers", "Required value"
        return
    for number, container in enumerate(containers):
        for field in ("name", "image"):
            if not container.get(field):
                yield f"spec.template.spec.containers[{number}].{field}", "Required value"


def _check_marks(where: str, metadata: Object) -> Iterator[tuple[str, str]]:
    for key, value in (metadata.get("labels") or {}).items():
        if not QUALIFIED.fullmatch(key) or not isinstance(value, str) or not LABEL_VALUE.fullmatch(value):
            yield f"{where}.labels", f"Invalid value: {key!r}"
    annotations = metadata.get("annotations") or {}
    for key, value in annotations.items():
        if not QUALIFIED.fullmatch(key) or not isinstance(value, str):
            yield f"{where}.annotations", f"Invalid value: {key!r}"
    if sum(len(f"{key}{value}".encode()) for key, value in annotations.items()) > ANNOTATIONS_LARGEST:
        yield f"{where}.annotations", f"Too long: may not be more than {ANNOTATIONS_LARGEST} bytes"


def _check(resource: str, one: Object) -> None:
    """Refuse an object that is not valid, as the API server words it."""
    metadata = one.get("metadata")
    if not isinstance(metadata, dict) or not NAME.fullmatch(str(metadata.get("name", ""))):
        raise Refusal(422, "Invalid", "metadata.name: Required value", causes=[{"field": "metadata.name"}])
    found = (
        list(_check_deployment(one)) if resource in WORKLOADS else list(_check_marks("metadata", metadata))
    )
    if found:
        kind, name = GROUPS[resource][1], metadata["name"]
        said = "; ".join(f"{field}: {message}" for field, message in found)
        causes = [{"field": field, "message": message} for field, message in found]
        raise Refusal(
            422, "Invalid", f'{kind} "{name}" is invalid: {said}', name=name, kind=kind, causes=causes
        )


class PatchError(ValueError):
    """A JSON patch does not fit the object."""


def json_patch(document: Any, operations: list[Object]) -> Any:
    """Apply a JSON patch (RFC 6902: add, remove, replace, test) to a copy.

    Raises:
        PatchError: An operation does not fit; nothing is changed.
    """
    document = {"": deepcopy(document)}
    for operation in operations:
        try:
            kind, pointer = operation["op"], operation["path"]
            path = [""] + [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
            parent: Any = document
            for part in path[:-1]:
                parent = parent[int(part)] if isinstance(parent, list) else parent[part]
            _operate(parent, path[-1], kind, operation)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise PatchError(f"{operation}: {error!r}") from error
    return document[""]


def _operate(parent: Any, name: str, kind: str, operation: Object) -> None:
    at: Any = name
    if isinstance(parent, list):
        at = len(parent) if name == "-" and kind == "add" else int(name)
    if kind == "test":
        # The API server takes a field that is absent for null.
        found, value = parent.get(at) if isinstance(parent, dict) else parent[at], operation["value"]
        if found != value or isinstance(found, bool) is not isinstance(value, bool):
            raise ValueError("test failed")
    elif kind == "remove":
        del parent[at]
    elif kind == "replace":
        _ = parent[at]
        parent[at] = deepcopy(operation["value"])
    elif kind == "add" and isinstance(parent, list):
        parent.insert(at, deepcopy(operation["value"]))
    elif kind == "add":
        parent[at] = deepcopy(operation["value"])
    else:
        raise ValueError("no such operation")


def merge_patch(document: Any, patch: Any, *, strategic: bool = False) -> Any:
    """Apply a merge patch (RFC 7396), or with ``strategic`` one that merges lists of named things by name."""
    if isinstance(patch, dict):
        merged = dict(document) if isinstance(document, dict) else {}
        for key, value in patch.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = merge_patch(merged.get(key), value, strategic=strategic)
        return merged
    named = strategic and isinstance(patch, list) and isinstance(document, list) and patch and document
    if named and all(isinstance(one, dict) and "name" in one for one in [*patch, *document]):
        merged = {one["name"]: one for one in document}
        for one in patch:
            if one.get("$patch") == "delete":
                merged.pop(one["name"], None)
            else:
                merged[one["name"]] = merge_patch(merged.get(one["name"]), one, strategic=True)
        return list(merged.values())
    return deepcopy(patch)


# --- the server: authority, faults, the log, HTTP --------------------------------------------------------


@dataclass
class Call:
    """One request, as far as the API server looks at it."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: Any = None
    access: Access = Access("system:anonymous", ())
    resource: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def dry(self) -> bool:
        """Whether it is a dry run."""
        return self.query.get("dryRun") == "All"

    @property
    def key(self) -> str:
        """Where its object is stored."""
        return f"{self.resource}/{self.namespace}/{self.name}"


class FakeKubernetes:
    """The server. Use it as a context manager; it stops with all its threads.

    Args:
        port: 0 takes a free one.
        tokens: Who may do what; by default ``admin-token`` everything and ``stanch-token`` what we need.
        ready_after: Seconds until a new pod serves.
        lag: Seconds until the controllers look at a change.
        state: A file that keeps everything, the log too, over a stop and over being killed.

    Attributes:
        let_go: Ends the wait of late calls.
        reads_kept: How many of the last requests the log has whole; of older ones it has no reads.
    """

    reads_kept = 2000

    def __init__(
        self,
        *,
        port: int = 0,
        tokens: Mapping[str, Access] = TOKENS,
        ready_after: float = 0.05,
        lag: float = 0.0,
        state: Path | None = None,
        clock: Callable[[], float] = time.time,  # noqa: TID251  (a server has a clock of its own)
    ) -> None:
        self.world = World(ready_after=ready_after, lag=lag)
        self.tokens = dict(tokens)
        self._requests: list[Object] = []
        self._faults: list[Planned] = []
        self._former: dict[str, Object] = {}
        self._clock = clock
        self._state = state
        self._lock = threading.RLock()
        self.stopping = threading.Event()
        self.let_go = threading.Event()
        if state is not None and state.exists():
            kept = json.loads(state.read_text(encoding="utf-8"))
            self.world.load(kept["world"])
            self._requests = kept["requests"]
        self.world.advance(clock())
        for namespace in ("default", "shop"):
            if f"namespaces//{namespace}" not in self.world.objects:
                self.world.add("namespaces", {"metadata": {"name": namespace}})
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._serve, name="fake-kubernetes")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self.let_go.set()
        with suppress(OSError):  # the listening thread waits for somebody
            socket.create_connection(("127.0.0.1", self._server.server_port), 1).close()
        self._thread.join()
        self._server.close_connections()
        self._server.server_close()
        with self._lock:
            self._keep()

    def _serve(self) -> None:
        while not self.stopping.is_set():
            self._server.handle_request()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def kubeconfig(self, path: Path, *, token: str = "stanch-token") -> Path:  # noqa: S107  (it guards nothing)
        """Write a kubeconfig for one of the tokens."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "fake", "user": {"token": token}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "current-context": "fake",
        }
        path.write_text(json.dumps(config), encoding="utf-8")
        return path

    def fail(self, fault: Fault, **planned: Any) -> None:
        """Plan a fault for requests to come; the arguments are those of ``Planned``."""
        with self._lock:
            self._faults.append(Planned(fault, **planned))

    @property
    def requests(self) -> list[Object]:
        """Every request so far, oldest first: what arrived, what was answered, and what it changed."""
        with self._lock:
            return deepcopy(self._requests)

    @property
    def changes(self) -> list[Object]:
        """The requests that changed something."""
        return [one for one in self.requests if one["applied"]]

    def create(self, resource: str, one: Object) -> Object:
        """Store an object as a POST of an admin would; it is not in the log."""
        namespace = one["metadata"].get("namespace", "")
        call = Call("POST", "", {}, {}, one, Access("admin", EVERYTHING), resource, namespace)
        with self._lock:
            self.world.advance(self._clock())
            return deepcopy(self._execute(call))

    def objects(self, resource: str, namespace: str = "shop") -> list[Object]:
        """Give all objects of a kind, as they are now."""
        with self._lock:
            self.world.advance(self._clock())
            prefix = f"{resource}/{namespace}/"
            return [deepcopy(one) for key, one in self.world.objects.items() if key.startswith(prefix)]

    def answer(self, call: Call) -> tuple[int, Object, dict[str, str], Fault | None]:
        """Answer one request: status, body, headers, and what has to happen to the connection."""
        with self._lock:
            entry = {
                "number": (self._requests[-1]["number"] if self._requests else 0) + 1,
                "at": self._clock(),
                "method": call.method,
                "path": call.path,
                "query": call.query,
                "content_type": call.headers.get("content-type"),
                "user_agent": call.headers.get("user-agent"),
                "body": call.body,
                "user": None,
                "status": None,
                "applied": False,
                "ended": False,
                "fault": None,
            }
            self._requests.append(entry)
            if len(self._requests) > 2 * self.reads_kept:
                old, new = self._requests[: -self.reads_kept], self._requests[-self.reads_kept :]
                self._requests = [one for one in old if one["method"] != "GET"] + new
            planned = self._plan(call)
            entry["fault"] = planned.fault if planned else None
        if planned and planned.fault is Fault.LATE:
            self.let_go.wait(planned.delay)
        with self._lock:
            status, body, headers = self._answer(call, entry, planned)
            unanswered = planned is not None and planned.fault in SILENT
            entry |= {"status": None if unanswered else status, "ended": True}
            if entry["applied"]:
                self._keep()
        return status, body, headers, planned.fault if planned else None

    def _plan(self, call: Call) -> Planned | None:
        for planned in self._faults:
            if planned.times and planned.method == call.method and planned.path in call.path:
                planned.times -= 1
                return planned
        return None

    def _answer(
        self, call: Call, entry: Object, planned: Planned | None
    ) -> tuple[int, Object, dict[str, str]]:
        headers: dict[str, str] = {}
        fault = planned.fault if planned else None
        try:
            if planned and fault not in AFTER and fault is not Fault.STALE:
                headers = {"Retry-After": str(planned.retry_after)} if fault is Fault.THROTTLED else {}
                raise _failure(planned)
            self.world.advance(self._clock())
            self._authorize(call)
            entry["user"] = call.access.user
            if fault is Fault.STALE and self._former:
                present, self.world.objects = self.world.objects, self._former
                try:
                    body = deepcopy(self._execute(call))
                finally:
                    self.world.objects = present
            else:
                body = self._change(call, entry)
            if planned and fault is Fault.ERROR_AFTER:
                raise _failure(planned)
        except Refusal as refusal:
            return refusal.code, refusal.body, headers
        return 201 if call.method == "POST" else 200, body, headers

    def _change(self, call: Call, entry: Object) -> Object:
        world = self.world
        version, serial, objects, timers = (
            world.version,
            world.serial,
            dict(world.objects),
            dict(world.timers),
        )
        former = None if call.method == "GET" or call.dry else deepcopy(objects)
        body = deepcopy(self._execute(call))
        if call.dry:
            world.version, world.serial, world.objects, world.timers = version, serial, objects, timers
        elif world.version != version:
            entry["applied"] = True
            self._former = former or {}
        return body

    def _authorize(self, call: Call) -> None:
        """Find out who asks, and whether that one may."""
        kind, _, token = call.headers.get("authorization", "").partition(" ")
        access = self.tokens.get(token) if kind == "Bearer" else None
        if access is None:
            raise Refusal(401, "Unauthorized", "Unauthorized")
        call.access = access
        if call.method in {"POST", "PUT"} and not isinstance(call.body, dict):
            raise Refusal(400, "BadRequest", "the body is not an object of the API")
        if call.path in OPEN_PATHS:
            return
        _locate(call)
        verb = VERBS.get(call.method) or ("get" if call.name else "list")
        what = f"{call.resource}/{call.subresource}" if call.subresource else call.resource
        if not access.may(verb, what, call.namespace, call.name):
            group, full, named = _names(call)
            said = f'{named or full} is forbidden: User "{access.user}" cannot {verb} resource "{what}"'
            said = f'{said} in API group "{group}" in the namespace "{call.namespace}"'
            raise Refusal(403, "Forbidden", said, name=call.name, group=group, kind=call.resource)

    def _execute(self, call: Call) -> Object:
        """Carry out a request that may be carried out."""
        if call.path in OPEN_PATHS:
            return {"gitVersion": "v1.35.0-fake"} if call.method == "GET" else self._review(call)
        if not call.name:
            return self._list(call) if call.method == "GET" else self._create(call)
        one = self.world.objects.get(call.key)
        if one is None:
            raise _missing(call)
        if call.method == "DELETE":
            self.world.remove(call.key)
            # The real one gives a Status, except for a pod, which is there until its kubelet lets go.
            return one if call.resource == "pods" else {"kind": "Status", "status": "Success"}
        if call.subresource:
            return self._scale(call, one)
        return one if call.method == "GET" else self._update(call, one, _patched(call, one))

    def _review(self, call: Call) -> Object:
        asked = call.body["spec"]["resourceAttributes"]
        what = "/".join(part for part in (asked["resource"], asked.get("subresource")) if part)
        allowed = call.access.may(asked["verb"], what, asked.get("namespace", ""), asked.get("name", ""))
        return {**call.body, "status": {"allowed": allowed}}

    def _list(self, call: Call) -> Object:
        if call.query.get("watch") in {"true", "1"}:
            raise Refusal(400, "BadRequest", "watches are not known here")
        prefix = f"{call.resource}/{call.namespace}/" if call.namespace else f"{call.resource}/"
        selector = call.query.get("labelSelector", "")
        items = [
            one
            for key, one in self.world.objects.items()
            if key.startswith(prefix)
            and _selects(selector, one["metadata"].get("labels") or {})
            and _has_fields(call.query.get("fieldSelector", ""), one)
        ]
        group, kind = GROUPS[call.resource]
        metadata = {"resourceVersion": str(self.world.version)}
        version = group.partition("/")[2]
        return {"kind": f"{kind}List", "apiVersion": version, "metadata": metadata, "items": items}

    def _create(self, call: Call) -> Object:
        one = deepcopy(call.body)  # the log keeps what was sent
        if not isinstance(one.get("metadata"), dict):
            raise Refusal(400, "BadRequest", "the body has no metadata")
        if call.resource != "namespaces":
            one["metadata"].setdefault("namespace", call.namespace)
            if f"namespaces//{call.namespace}" not in self.world.objects:
                said = f'namespaces "{call.namespace}" not found'
                raise Refusal(404, "NotFound", said, name=call.namespace, kind="namespaces")
        one["metadata"].pop("resourceVersion", None)
        _check(call.resource, one)
        if key_of(call.resource, one) in self.world.objects:
            name = one["metadata"]["name"]
            raise Refusal(409, "AlreadyExists", f'{call.resource} "{name}" already exists', name=name)
        if call.resource in WORKLOADS:
            _fill_workload(call.resource, one)
            one["status"] = {}
        if call.resource == "horizontalpodautoscalers":
            _fill(one["spec"], {"minReplicas": 1})
        if call.resource == "resourcequotas":
            pods = sum(key.startswith(f"pods/{call.namespace}/") for key in self.world.objects)
            one["status"] = {"hard": one["spec"]["hard"], "used": {"pods": str(pods)}}
        self._sign(call, {}, one)
        return self.world.add(call.resource, one)

    def _scale(self, call: Call, deployment: Object) -> Object:
        if call.subresource != "scale" or call.resource not in SCALABLE.values():
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        before = _scale_of(deployment)
        if call.method == "GET":
            return before
        replicas = _patched(call, before).get("spec", {}).get("replicas", 0)
        changed = deepcopy(deployment)
        changed["spec"]["replicas"] = replicas
        return _scale_of(self._update(call, deployment, changed))

    def _update(self, call: Call, before: Object, after: Object) -> Object:
        """Store a changed object, if it may be changed so."""
        if not isinstance(after, dict) or not isinstance(after.get("metadata"), dict):
            raise Refusal(422, "Invalid", "metadata: Required value", causes=[{"field": "metadata"}])
        old, new = before["metadata"], after["metadata"]
        for field in ("uid", "resourceVersion"):
            if new.get(field) not in (None, "", old[field]):
                said = f'Operation cannot be fulfilled on {call.resource} "{call.name}": {field} is another'
                raise Refusal(409, "Conflict", said, name=call.name, kind=call.resource)
        for field in ("uid", "name", "namespace", "creationTimestamp", "generation", "managedFields"):
            if field in old:
                new[field] = deepcopy(old[field])
        if call.resource != "applications":  # the one without a status subresource
            after["status"] = deepcopy(before.get("status", {}))
        _check(call.resource, after)
        if call.resource in WORKLOADS:
            _fill_workload(call.resource, after)
            _keep_selector(before, after)
        if call.resource in {*WORKLOADS, *SYNCED}:
            new["generation"] += _grown(call.resource, before) != _grown(call.resource, after)
        new["resourceVersion"] = old["resourceVersion"]
        if after == before:
            return before
        self._sign(call, before, after)
        return self.world.store(call.resource, after)

    def _sign(self, call: Call, before: Object, after: Object) -> None:
        agent = call.headers.get("user-agent", "unknown").split("/")[0]
        manager = call.query.get("fieldManager") or agent
        sign(before, after, manager, self.world.time(), call.subresource)

    def _keep(self) -> None:
        """Write everything to the state file, whole or not at all."""
        if self._state is not None:
            kept = {"world": self.world.dump(), "requests": self._requests}
            part = self._state.with_name(f"{self._state.name}.part")
            part.write_text(json.dumps(kept), encoding="utf-8")
            part.replace(self._state)


SILENT = {Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.LATE, Fault.CUT_BEFORE, Fault.CUT_AFTER}


def _failure(planned: Planned) -> Refusal:
    if planned.fault is Fault.THROTTLED:
        said = "the server has received too many requests and has asked us to try again later"
        return Refusal(429, "TooManyRequests", said, retryAfterSeconds=planned.retry_after)
    if planned.fault is Fault.CONFLICT:
        return Refusal(409, "Conflict", "Operation cannot be fulfilled: the object has been modified")
    if planned.fault is Fault.REFUSED:
        return Refusal(planned.status or 400, "BadRequest", planned.said)
    return Refusal(planned.status or 500, "InternalError", "an error on the server as a test wanted it")


def _names(call: Call) -> tuple[str, str, str]:
    """Give the API group, the resource with it, and the object, as messages name them."""
    group = "".join(GROUPS[call.resource][0].split("/")[1:-1])
    full = f"{call.resource}.{group}" if group else call.resource
    return group, full, f'{full} "{call.name}"' if call.name else ""


def _missing(call: Call) -> Refusal:
    group, _, named = _names(call)
    return Refusal(404, "NotFound", f"{named} not found", name=call.name, group=group, kind=call.resource)


def _locate(call: Call) -> None:
    """Read the path of a request."""
    parts = call.path.strip("/").split("/")
    size = 2 if parts[0] == "api" else 3
    group, rest = "/".join(parts[:size]), parts[size:]
    if rest[:1] == ["namespaces"] and len(rest) > 2:  # noqa: PLR2004  (namespaces/{namespace}/{resource})
        call.namespace, rest = rest[1], rest[2:]
    call.resource, call.name, call.subresource = (*rest, "", "", "")[:3]
    if GROUPS.get(call.resource, ("nothing",))[0] != group or len(rest) > 3:  # noqa: PLR2004  (resource/name/sub)
        raise Refusal(404, "NotFound", "the server could not find the requested resource")


def _patched(call: Call, one: Object) -> Object:
    """Give the object as the request wants it."""
    if call.method == "PUT":
        return deepcopy(call.body)
    kind = (call.headers.get("content-type") or "").partition(";")[0]
    try:
        if kind == "application/json-patch+json":
            patched: Object = json_patch(one, call.body)
        elif kind in {"application/merge-patch+json", "application/strategic-merge-patch+json"}:
            patched = deepcopy(merge_patch(one, call.body, strategic="strategic" in kind))
        else:
            raise Refusal(
                415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {kind}"
            )
    except (PatchError, TypeError) as error:
        said = "the server rejected our request due to an error in our request"
        raise Refusal(422, "Invalid", said) from error
    return patched


def _keep_selector(before: Object, after: Object) -> None:
    if after["spec"]["selector"] != before["spec"]["selector"]:
        causes = [{"field": "spec.selector", "message": "field is immutable"}]
        raise Refusal(422, "Invalid", "spec.selector: field is immutable", causes=causes)


def _grown(resource: str, one: Object) -> tuple[Any, ...]:
    """Give what a generation counts: the spec, of a Deployment its annotations too, of an Application all."""
    more = one["metadata"].get("annotations") or {} if resource == "deployments" else {}
    return one.get("spec"), more, one.get("status") if resource == "applications" else None


def sign(before: Object, after: Object, manager: str, now: str, subresource: str = "") -> None:
    """Note who changes which fields: they are no longer the others'."""
    same = {"manager": manager, "operation": "Update", "fieldsType": "FieldsV1", "apiVersion": "v1"}
    same |= {"subresource": subresource} if subresource else {}
    parts = ("spec", "status", "labels", "annotations")

    def marked(one: Object) -> Object:
        found = {part: one.get(part) for part in parts[:2] if part in one}
        metadata = {part: value for part in parts[2:] if (value := one.get("metadata", {}).get(part))}
        return found | ({"metadata": metadata} if metadata else {})

    changed = _fields(marked(before), marked(after))
    own: Object = {}
    entries = []
    for entry in after["metadata"].get("managedFields", []):
        if {key: entry.get(key) for key in same} == same and entry.get("subresource", "") == subresource:
            own = entry["fieldsV1"]
        elif left := _less(entry["fieldsV1"], changed):
            entries.append({**entry, "fieldsV1": left})
    entries.append({**same, "time": now, "fieldsV1": merge_patch(own, changed)})
    after["metadata"]["managedFields"] = entries


def _fields(before: Any, after: Any) -> Object:
    """Give the fields, in the form of ``fieldsV1``, in which the second differs from the first."""
    if isinstance(after, list) and all(isinstance(one, dict) and "name" in one for one in after):
        names = ("before", before), ("after", after)
        pair = {
            which: {f'k:{{"name":"{one["name"]}"}}': one for one in items if isinstance(one, dict)}
            if isinstance(items, list)
            else {}
            for which, items in names
        }
        return {
            key: _fields(pair["before"].get(key), one)
            for key, one in pair["after"].items()
            if one != pair["before"].get(key)
        }
    if not isinstance(after, dict):
        return {}
    was = before if isinstance(before, dict) else {}
    return {f"f:{key}": _fields(was.get(key), one) for key, one in after.items() if one != was.get(key)}


def _less(fields: Object, taken: Object) -> Object:
    """Give fields without those that another has taken."""
    kept = {}
    for key, inner in fields.items():
        left = _less(inner, taken[key]) if key in taken else inner
        if key not in taken or left:
            kept[key] = left
    return kept


def _has_fields(selector: str, one: Object) -> bool:
    """Say whether a field selector selects an object."""
    for term in filter(None, selector.split(",")):
        path, _, wanted = term.partition("=")
        found: Any = one
        for name in path.split("."):
            found = found.get(name, {}) if isinstance(found, dict) else {}
        if found != wanted:
            return False
    return True


def _scale_of(deployment: Object) -> Object:
    """Give the scale subresource; as in the real one a zero is left out."""
    metadata, replicas = deployment["metadata"], deployment["spec"]["replicas"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    labels = deployment["spec"]["selector"]["matchLabels"].items()
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in kept},
        "spec": {"replicas": replicas} if replicas else {},
        "status": {
            "replicas": deployment["status"].get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in labels),
        },
    }


def _selects(selector: str, labels: Mapping[str, str]) -> bool:
    """Say whether a label selector selects these labels."""
    for term in re.split(r",(?![^(]*\))", selector):
        listed = re.fullmatch(r"\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*", term)
        if listed:
            values = {value.strip() for value in listed[3].split(",")}
            fits = (labels.get(listed[1]) in values) is (listed[2] == "in")
        elif "!=" in term:
            key, _, value = term.partition("!=")
            fits = labels.get(key.strip()) != value.strip()
        elif "=" in term:
            key, _, value = term.partition("=")
            fits = labels.get(key.strip()) == value.lstrip("=").strip()
        else:
            fits = not term or (term.strip().lstrip("!") in labels) is not term.strip().startswith("!")
        if not fits:
            return False
    return True


class _Server(ThreadingHTTPServer):
    """A server that joins its threads when it is closed."""

    daemon_threads = False
    fake: FakeKubernetes

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Wake up the threads that wait for the next request of their connection."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer is one packet
    server: _Server

    def do_GET(self) -> None:
        fake = self.server.fake
        target = urlsplit(self.path)
        call = Call(
            self.command,
            target.path,
            dict(parse_qsl(target.query)),
            {name.lower(): value for name, value in self.headers.items()},
        )
        length = self.headers.get("Content-Length") or "0"
        size = int(length) if length.isdecimal() else 0
        if size > LARGEST_BODY:
            self.rfile.read(min(size, 2 * LARGEST_BODY))  # who still sends does not hear the answer
            said = {"kind": "Status", "code": 413, "message": "request body too large"}
            self._say(413, said, {"Connection": "close"})
            return
        try:
            call.body = json.loads(self.rfile.read(size)) if size else None
        except ValueError:
            self._say(400, {"kind": "Status", "code": 400, "message": "the body is not JSON"})
            return
        if call.path.startswith("/_fake/"):
            self._say(*_control(fake, call))
            return
        status, body, headers, fault = fake.answer(call)
        if fault in {Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.LATE}:
            fake.stopping.wait(LONGEST_SILENCE)
        if fault in SILENT:
            self.close_connection = True
            return
        self._say(status, body, headers, half=fault is Fault.GARBLED_AFTER)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  (http.server's names)

    def _say(
        self, status: int, body: Any, headers: Mapping[str, str] | None = None, *, half: bool = False
    ) -> None:
        text = json.dumps(body).encode()
        text = text[: len(text) // 2] if half else text
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):  # the client has gone: a timeout of its own, or it was killed
            super().handle_one_request()
            return
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (http.server's name)
        """Keep quiet: the log is in ``requests``."""


LONGEST_SILENCE = 30.0


def _control(fake: FakeKubernetes, call: Call) -> tuple[int, Any]:
    """Answer a test or the demo that is another process: the log, and faults to come."""
    if call.method == "GET" and call.path == "/_fake/requests":
        return 200, fake.requests
    if call.method == "POST" and call.path == "/_fake/faults":
        try:
            fake.fail(Fault(call.body.pop("fault")), **call.body)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return 400, {"error": f"not a fault: {error}"}
        return 200, {}
    return 404, {"error": "there are GET /_fake/requests and POST /_fake/faults"}


def main(arguments: list[str] | None = None) -> int:
    """Run one until SIGTERM or Ctrl-C; its URL is the first line that it prints."""
    parser = argparse.ArgumentParser(prog="python -m activities.k8s.fake", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--state", type=Path, help="file that keeps the objects and the request log")
    parser.add_argument(
        "--kubeconfig", type=Path, help="write a kubeconfig for the token `stanch-token` here"
    )
    parser.add_argument("--ready-after", type=float, default=1.0, help="seconds until a new pod serves")
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with FakeKubernetes(port=options.port, state=options.state, ready_after=options.ready_after) as fake:
        if options.kubeconfig is not None:
            fake.kubeconfig(options.kubeconfig)
        sys.stdout.write(f"{fake.url}\n")
        sys.stdout.flush()
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
