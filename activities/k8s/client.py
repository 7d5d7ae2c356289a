"""The only importer of the Kubernetes SDK: it has the credentials, the TLS and the wire.

Objects pass as plain JSON and not as the SDK's models: a pod template that is restored must keep the fields
that a newer cluster knows and this SDK does not.
"""

import json
import threading
import time
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any
from weakref import WeakSet

from kubernetes import client, config
from urllib3 import Retry, exceptions

from activities.k8s.actions import Patch
from activities.k8s.models import MANAGER, RESOURCES, InCluster, KubernetesObject, reading
from contracts.catalogue import Cluster
from contracts.errors import ActionRefusedError, PreconditionFailedError, ProviderUnavailableError, one_line

JSON, JSON_PATCH = "application/json", "application/json-patch+json"
LARGEST_ANSWER = 32 * 1024 * 1024

# Only reads are sent again, once; a change is sent by the caller or not at all.
RETRIES = Retry(
    total=None,
    connect=0,
    read=1,
    redirect=0,
    status=0,
    other=0,
    allowed_methods=frozenset({"GET"}),
    raise_on_redirect=False,
    respect_retry_after_header=False,
)
EXPRESSIONS = {"In": "{} in ({})", "NotIn": "{} notin ({})", "Exists": "{}", "DoesNotExist": "!{}"}
NEVER_SENT = (exceptions.NewConnectionError, exceptions.ConnectTimeoutError, exceptions.ProxyError)


class KubernetesClusters:
    """The catalogue's clusters, each connected to when it is first needed; threads may share this.

    Args:
        clusters: Where they are.
        connect_timeout: Seconds.
        read_timeout: Seconds. The API server is told the same, so that it gives up what it has not done by
            then; with the former it stays below the ``in_flight`` of the actions.
    """

    def __init__(
        self, clusters: Iterable[Cluster], *, connect_timeout: float = 3.0, read_timeout: float = 8.0
    ) -> None:
        self._clusters = {cluster.name: cluster for cluster in clusters}
        self._timeouts = (connect_timeout, read_timeout)
        self._connected: dict[str, Any] = {}
        self._known: WeakSet[Any] = WeakSet()  # connections whose credential was taken
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for api in self._connected.values():
                api.close()
            self._connected.clear()

    def read(self, at: InCluster, subresource: str = "") -> KubernetesObject:
        """Read one object, or a subresource of it."""
        return self._send(at, "GET", _path(at, subresource))

    def items(
        self, at: InCluster, what: str, *, selected_by: KubernetesObject | None = None, fields: str = ""
    ) -> list[KubernetesObject]:
        """Read the objects of a kind in the same namespace."""
        resource, query = RESOURCES[what], [("fieldSelector", fields)] if fields else []
        if selected_by is not None:
            with reading(at, f"a {at.resource.kind}"):
                query.append(("labelSelector", _label_selector(selected_by["spec"]["selector"])))
        path = f"/{resource.api}/namespaces/{at.namespace}/{resource.name}"
        answer = self._send(at, "GET", path, query=query)
        items = answer.get("items") or []
        if not all(isinstance(one, dict) and isinstance(one.get("metadata"), dict) for one in items):
            raise ProviderUnavailableError(f"{at.where}: the answer does not look like a list of objects")
        return list(items)

    def may_patch(self, at: InCluster, subresource: str = "") -> bool:
        """Ask whether our credential may patch the object, or a subresource of it."""
        what = {"group": at.resource.group, "resource": at.resource.name, "subresource": subresource}
        asked = {**what, "verb": "patch", "namespace": at.namespace, "name": at.name}
        review = {"kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": asked}}
        review["apiVersion"] = "authorization.k8s.io/v1"
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = self._send(at, "POST", path, body=review)
        return bool((answer.get("status") or {}).get("allowed"))

    def patch(
        self, at: InCluster, patch: Patch, *, subresource: str = "", action_id: str, dry_run: bool = False
    ) -> None:
        """Send one JSON patch, once; a failed test in it is a ``PreconditionFailedError``.

        The action's id is in the user agent too, so that the cluster's audit log has it.
        """
        query = [("fieldManager", MANAGER), *([("dryRun", "All")] if dry_run else [])]
        self._send(
            at, "PATCH", _path(at, subresource), query=query, body=patch, agent=f"{MANAGER} ({action_id})"
        )

    def _send(
        self,
        at: InCluster,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: Any = None,
        agent: str = MANAGER,
    ) -> KubernetesObject:
        """Send one request and give the object in the answer.

        Raises:
            PreconditionFailedError: The object is not as the request expects it.
            ActionRefusedError: No such cluster, namespace or object; no or not enough authority; invalid.
            ProviderUnavailableError: The cluster does not answer, or not as it should.
        """
        asked = [*query, ("timeout", f"{self._timeouts[1]:g}s")]
        lost = method == "PATCH" and ("dryRun", "All") not in asked
        api = self._api(at)
        try:
            request = api.param_serialize(
                method,
                path,
                query_params=asked,
                header_params={"Accept": JSON, "Content-Type": JSON_PATCH if method == "PATCH" else JSON},
                body=body,
                auth_settings=["BearerToken"],
            )
            request[2]["User-Agent"] = agent  # the SDK's own overwrites what is passed
            answer = api.call_api(*request, _request_timeout=self._timeouts).response
            text = self._read(answer)
        except (exceptions.HTTPError, client.ApiException, config.ConfigException) as error:
            raise _unanswered(at, error, lost=lost) from error
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        if isinstance(said, dict) and answer.status in {HTTPStatus.OK, HTTPStatus.CREATED}:
            self._known.add(api)
            return said
        if answer.status == HTTPStatus.UNAUTHORIZED:
            self._forget(at.cluster, api)
            if api in self._known:  # its credential is over, and nothing was done
                return self._send(at, method, path, query=query, body=body, agent=agent)
        raise _refusal(at, answer, said if isinstance(said, dict) else {}, lost=lost)

    def _read(self, answer: Any) -> bytes:
        """Read an answer's body, within a time and a size: the timeouts of a socket are for each packet."""
        until = time.monotonic() + self._timeouts[1]
        text = bytearray()
        while part := answer.read1(65536):
            text += part
            if len(text) > LARGEST_ANSWER or time.monotonic() > until:
                answer.close()
                raise exceptions.ProtocolError("the answer is too long, or takes too long")
        return bytes(text)

    def _api(self, at: InCluster) -> Any:
        api = self._connected.get(at.cluster)
        if api is None:
            # Not under the lock: a kubeconfig may start a program for its credentials, and that may hang.
            api = self._connect(at)
            with self._lock:
                api = self._connected.setdefault(at.cluster, api)
        return api

    def _connect(self, at: InCluster) -> Any:
        cluster = self._clusters.get(at.cluster)
        if cluster is None:
            known = ", ".join(sorted(self._clusters)) or "none"
            raise ActionRefusedError(f"{at.where}: no such cluster in the catalogue, which has {known}")
        settings = client.Configuration()
        source = cluster.kubeconfig or "the pod's service account"
        try:
            if cluster.kubeconfig is None:
                config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
            else:
                where = (cluster.kubeconfig, cluster.context, settings)
                config.load_kube_config(*where, persist_config=False)  # type: ignore[no-untyped-call]
        except Exception as error:
            said = f"its credentials cannot be read from {source}: {one_line(error)}"
            raise ActionRefusedError(f"cluster {at.cluster}: {said}") from error
        if not settings.host.startswith(("https://", "http://")):
            raise ActionRefusedError(
                f"cluster {at.cluster}: {settings.host or 'nothing'} is no URL of a server"
            )
        settings.retries = RETRIES
        return client.ApiClient(settings)

    def _forget(self, cluster: str, api: Any) -> None:
        """Read the credentials again next time: they may have been renewed."""
        with self._lock:
            if self._connected.get(cluster) is api:
                del self._connected[cluster]
        api.close()


def _path(at: InCluster, subresource: str) -> str:
    # The models let only DNS names pass, so nothing has to be escaped.
    path = f"/{at.resource.api}/namespaces/{at.namespace}/{at.resource.name}/{at.name}"
    return f"{path}/{subresource}" if subresource else path


def _label_selector(selector: dict[str, Any]) -> str:
    terms = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for term in selector.get("matchExpressions") or ():
        values = ",".join(term.get("values") or ())
        terms.append(EXPRESSIONS[term["operator"]].format(term["key"], values))
    return ",".join(terms)


def _unanswered(at: InCluster, error: Exception, *, lost: bool) -> Exception:
    """Say what an exception of the wire means."""
    cause = error.reason if isinstance(error, exceptions.MaxRetryError) and error.reason else error
    said = f"cluster {at.cluster}: {one_line(cause)}"
    if isinstance(cause, exceptions.LocationValueError) or "CERTIFICATE_VERIFY_FAILED" in said:
        return ActionRefusedError(said)
    sent = not isinstance(cause, (*NEVER_SENT, config.ConfigException))
    return ProviderUnavailableError(said, may_have_applied=lost and sent)


def _refusal(at: InCluster, answer: Any, said: dict[str, Any], *, lost: bool) -> Exception:
    """Say what an answer other than OK means."""
    status, details = answer.status, said.get("details")
    details = details if isinstance(details, dict) else {}
    message = one_line(said.get("message") or f"HTTP {status}, and not from a Kubernetes API")
    # A failed test in a patch has no causes; an object that is not valid has, or a webhook's own words.
    is_told = details.get("causes") or "denied the request" in message
    if status in {HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY} and not is_told:
        return PreconditionFailedError(f"{at.where}: it is no longer as it was read just before")
    busy = status == HTTPStatus.TOO_MANY_REQUESTS
    if busy or not HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return ProviderUnavailableError(
            f"cluster {at.cluster}: {message}",
            may_have_applied=lost and not busy,
            retry_after=_retry_after(answer, details),
        )
    if status == HTTPStatus.UNAUTHORIZED:
        return ActionRefusedError(f"cluster {at.cluster}: the credential was refused ({message})")
    if status == HTTPStatus.NOT_FOUND and details.get("kind") == at.resource.name:
        return ActionRefusedError(f"{at.where}: no such {at.kind.replace('_', ' ')}")
    return ActionRefusedError(f"{at.where}: {message}")


def _retry_after(answer: Any, details: dict[str, Any]) -> float | None:
    asked = str(answer.headers.get("Retry-After") or details.get("retryAfterSeconds") or "")
    return float(asked) if asked.isdecimal() else None
