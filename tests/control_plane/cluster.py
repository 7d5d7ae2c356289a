"""A Kubernetes control plane on this machine: real programs, nodes that KWOK plays, and nothing left behind.

Everything listens on 127.0.0.1 and a free port, keeps its data in a folder that the caller removes, and ends
with the process that started it, however that one ends.
"""

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from deploy.demo.processes import Processes, WorldError, free_ports

STAGES = Path(__file__).parent / "kwok.yaml"
READY_WITHIN = 90.0  # seconds; 8 on an idle machine, and the builder's machine is never idle
NODES = 2
# What moves the objects of an application; the others of some forty controllers would only take memory.
CONTROLLERS = (
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "serviceaccount-controller",
    "statefulset-controller",
)


@dataclass(frozen=True)
class ControlPlane:
    """A running one.

    Attributes:
        server: The API's URL.
        kubeconfig: An administrator's, as JSON.
        pids: The processes by name.
        took: Seconds until it was ready.
    """

    server: str
    kubeconfig: Path
    pids: dict[str, int]
    took: float


@contextmanager
def control_plane(programs: Path, home: Path) -> Iterator[ControlPlane]:
    """Run a control plane until the block ends. Enter it in the main thread.

    Args:
        programs: The folder of the built programs.
        home: An empty folder for its data and logs.

    Raises:
        WorldError: It did not come up; the message has the end of its log.
    """
    began = time.monotonic()
    etcd, peer, port = free_ports(3)
    token, server = secrets.token_hex(16), f"https://127.0.0.1:{port}"
    kubeconfig, certificates = home / "kubeconfig.json", home / "certificates"
    home.mkdir(parents=True, exist_ok=True)
    _write_secret(home / "tokens.csv", f'{token},admin,admin,"system:masters"\n')
    _write_secret(home / "service-accounts.pem", _private_key())
    with Processes(home / "logs", stop_within=2.0) as processes:

        def start(name: str, *flags: str) -> None:
            processes.start(name, str(programs / name), *flags)

        start(
            "etcd",
            f"--data-dir={home / 'etcd'}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
        )
        start(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={certificates}",
            f"--token-auth-file={home / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={home / 'service-accounts.pem'}",
            f"--service-account-signing-key-file={home / 'service-accounts.pem'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--endpoint-reconciler-type=none",  # there is no address besides the loopback
        )
        try:
            api = _wait_for_api(processes, server, certificates / "apiserver.crt", token)
            authority = (certificates / "apiserver.crt").read_bytes()
            _write_secret(kubeconfig, json.dumps(_kubeconfig(server, authority, token)))
            start(
                "kube-controller-manager",
                f"--kubeconfig={kubeconfig}",
                f"--controllers={','.join(CONTROLLERS)}",
                "--leader-elect=false",
                "--secure-port=0",
                "--kube-api-qps=500",  # the default of 20 would be what the tests wait for
                "--kube-api-burst=500",
                "--horizontal-pod-autoscaler-sync-period=1s",
            )
            start(
                "kube-scheduler",
                f"--kubeconfig={kubeconfig}",
                "--leader-elect=false",
                "--secure-port=0",
                "--kube-api-qps=500",
                "--kube-api-burst=500",
            )
            start(
                "kwok",
                f"--kubeconfig={kubeconfig}",
                f"--config={STAGES}",
                "--manage-all-nodes",
                "--node-lease-duration-seconds=40",
                "--node-ip=127.0.0.1",
            )
            for number in range(NODES):
                api.create("nodes", {"metadata": {"name": f"node-{number}"}})
            _wait(processes, "a ready node", api.has_ready_nodes)
            _wait(processes, "a service account", api.has_service_account)
        except WorldError as error:
            raise WorldError(f"{error}\n{_ends(home / 'logs')}") from error
        yield ControlPlane(server, kubeconfig, processes.pids, time.monotonic() - began)


class _Api:
    """As much of a client as waiting takes."""

    def __init__(self, server: str, certificate: Path, token: str) -> None:
        self._pool = urllib3.PoolManager(ca_certs=str(certificate), retries=False, timeout=5.0)
        self._headers = {"Authorization": f"Bearer {token}"}
        self._server = server

    def is_ready(self) -> bool:
        try:
            answer = self._pool.request("GET", f"{self._server}/readyz", headers=self._headers)
        except (OSError, urllib3.exceptions.HTTPError):  # it has no certificate, or does not listen yet
            return False
        return answer.status == 200

    def has_ready_nodes(self) -> bool:
        nodes = self._pool.request("GET", f"{self._server}/api/v1/nodes", headers=self._headers).json()
        ready = [
            one
            for node in nodes["items"]
            for one in node["status"].get("conditions", ())
            if (one["type"], one["status"]) == ("Ready", "True") and not node["spec"].get("taints")
        ]
        return len(ready) == NODES

    def has_service_account(self) -> bool:
        path = f"{self._server}/api/v1/namespaces/default/serviceaccounts/default"
        return self._pool.request("GET", path, headers=self._headers).status == 200

    def create(self, what: str, body: dict[str, object]) -> None:
        url = f"{self._server}/api/v1/{what}"
        answer = self._pool.request("POST", url, json=body, headers=self._headers)
        if answer.status != 201:
            raise WorldError(f"{what}: {answer.data.decode()}")


def _wait_for_api(processes: Processes, server: str, certificate: Path, token: str) -> _Api:
    _wait(processes, "the API's certificate", certificate.exists)
    api = _Api(server, certificate, token)
    _wait(processes, "the API", api.is_ready)
    return api


def _wait(processes: Processes, what: str, there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while not there():
        processes.check()
        if time.monotonic() > deadline:
            raise WorldError(f"the control plane had not {what} within {READY_WITHIN:.0f} s")
        time.sleep(0.1)


def _kubeconfig(server: str, authority: bytes, token: str) -> dict[str, object]:
    trusted = base64.b64encode(authority).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority-data": trusted}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
    }


def _private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _ends(logs: Path) -> str:
    """Give the last lines of every log: the folder goes with the control plane."""
    parts = []
    for path in sorted(logs.glob("*.log")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
        parts.append("\n".join([f"--- {path.stem}", *(line[:300] for line in lines)]))
    return "\n".join(parts)
