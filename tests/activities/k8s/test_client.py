"""The wire, the credentials, and what is said when they fail."""

import inspect
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from activities.k8s import RestartDeployment, RolloutStatus, RolloutStatusProbe
from activities.k8s.actions import RestartDeploymentAction, RollBackDeploymentAction, ScaleDeploymentAction
from activities.k8s.client import KubernetesClusters
from activities.k8s.fake import EVERYTHING, Access, FakeKubernetes, Fault
from contracts.catalogue import Cluster
from contracts.errors import ActionRefusedError, ProviderUnavailableError
from contracts.outcomes import Reached
from tests.activities.k8s.conftest import Place, clusters, now

STATUS = RolloutStatus(cluster="demo", namespace="shop", name="web")
RESTART = RestartDeployment(cluster="demo", namespace="shop", name="web", restarted_at="2026-01-31T03:04:05Z")
Answer = Callable[[BaseHTTPRequestHandler], None]
Serve = Callable[..., Path]


def look(kubeconfig: Path, **timeouts: float) -> Any:
    """Look once through a client of its own."""
    with ExitStack() as stack:
        return RolloutStatusProbe(clusters(kubeconfig, stack, **timeouts), now).look(STATUS)


def write_kubeconfig(path: Path, server: str, **cluster: Any) -> Path:
    """Write a kubeconfig of any server."""
    config = {
        "clusters": [{"name": "x", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "x", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers that answer whatever a test wants; gives a kubeconfig of each."""
    with ExitStack() as stack:

        def start(answer: Answer, context: ssl.SSLContext | None = None) -> Path:
            class Handler(BaseHTTPRequestHandler):
                protocol_version = "HTTP/1.1"

                def do_GET(self) -> None:
                    with suppress(ConnectionError):
                        answer(self)

                do_PATCH = do_GET  # noqa: N815  (http.server's name)

                def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (http.server's name)
                    """Keep quiet."""

            server = stack.enter_context(HTTPServer(("127.0.0.1", 0), Handler))
            server.handle_error = lambda *_: None  # type: ignore[method-assign]
            if context is not None:
                server.socket = context.wrap_socket(server.socket, server_side=True)
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            kind = "https" if context else "http"
            return write_kubeconfig(tmp_path / "any", f"{kind}://127.0.0.1:{server.server_port}")

        yield start


def say(status: int, body: bytes, **headers: str) -> Answer:
    """Answer everything with this."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return answer


def test_the_package_imports_no_sdk() -> None:
    """Playbooks, the gateway and the terminal import requests without waiting for an SDK."""
    code = "import sys, activities.k8s; print('kubernetes' in sys.modules, 'urllib3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False"]


def test_no_call_outlasts_what_the_actions_tell() -> None:
    """Connecting and waiting together take less time than a run waits after a lost answer."""
    defaults = inspect.signature(KubernetesClusters).parameters
    longest = defaults["connect_timeout"].default + defaults["read_timeout"].default
    actions = (RestartDeploymentAction, RollBackDeploymentAction, ScaleDeploymentAction)

    assert longest < min(action.in_flight.total_seconds() for action in actions)


def test_clusters_are_connected_to_when_they_are_needed(fake: FakeKubernetes, tmp_path: Path) -> None:
    """A broken cluster in the catalogue hurts nobody who does not use it."""
    good = Cluster(name="demo", kubeconfig=str(fake.kubeconfig(tmp_path / "good")))
    bad = Cluster(name="bad", kubeconfig=str(tmp_path / "missing"))
    with (
        closing(KubernetesClusters([bad, good])) as api,
        pytest.raises(ActionRefusedError, match="no such deployment"),
    ):
        RolloutStatusProbe(api, now).look(STATUS)


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "a: b", '{"current-context": "x"}', "\x00", "clusters: 7"]
)
def test_a_kubeconfig_that_cannot_be_used_is_refused(tmp_path: Path, text: str | None) -> None:
    """A missing or broken kubeconfig names itself and its cluster."""
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text, encoding="utf-8")

    with pytest.raises(
        ActionRefusedError, match=rf"^cluster demo: its credentials cannot be read from {path}: "
    ):
        look(path)


def test_an_unknown_context_is_refused(fake: FakeKubernetes, tmp_path: Path) -> None:
    """The context that the catalogue names has to be there."""
    cluster = Cluster(name="demo", kubeconfig=str(fake.kubeconfig(tmp_path / "k")), context="prod")

    with (
        closing(KubernetesClusters([cluster])) as api,
        pytest.raises(ActionRefusedError, match=r"^cluster demo: .*prod"),
    ):
        RolloutStatusProbe(api, now).look(STATUS)


def test_outside_a_pod_there_is_no_service_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a kubeconfig the pod's own account is used, and its absence is told."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with (
        closing(KubernetesClusters([Cluster(name="demo")])) as api,
        pytest.raises(ActionRefusedError, match=r"^cluster demo: .* from the pod's service account: "),
    ):
        RolloutStatusProbe(api, now).look(STATUS)


def test_a_refused_credential_is_read_again_next_time(fake: FakeKubernetes, tmp_path: Path) -> None:
    """An unknown token is refused by name; once the kubeconfig has a good one, the same client works."""
    fake.tokens["renewed"] = Access("ada", EVERYTHING)
    kubeconfig = fake.kubeconfig(tmp_path / "k", token="expired")  # noqa: S106  (a test's)
    with ExitStack() as stack:
        probe = RolloutStatusProbe(clusters(kubeconfig, stack), now)
        with pytest.raises(ActionRefusedError, match=r"^cluster demo: the credential was refused "):
            probe.look(STATUS)
        fake.kubeconfig(tmp_path / "k", token="renewed")  # noqa: S106  (a test's)
        with pytest.raises(ActionRefusedError, match="no such deployment"):
            probe.look(STATUS)


def test_a_credential_that_is_over_is_read_again_at_once(shop: Place, tmp_path: Path) -> None:
    """What worked until its time was over was renewed: neither a look nor a change is refused for that."""
    shop.deploy()
    fake = shop.fake
    assert fake is not None
    fake.tokens |= {token: Access("ada", EVERYTHING) for token in ("first", "second", "third")}
    request = shop.restart()

    def renewed(old: str, new: str) -> None:
        fake.kubeconfig(tmp_path / "k", token=new)
        del fake.tokens[old]

    with ExitStack() as stack:
        action = shop.action(request, clusters(fake.kubeconfig(tmp_path / "k", token="first"), stack))  # noqa: S106  (a test's)
        action.observe(request)
        renewed("first", "second")
        observed = action.observe(request)
        renewed("second", "third")
        action.apply(request, observed, action_id="once")
        del fake.tokens["third"]
        with pytest.raises(ActionRefusedError, match="the credential was refused"):
            action.observe(request)

    assert [one["method"] for one in fake.changes] == ["POST", "PATCH"]


def test_many_find_a_credential_over_at_once(shop: Place, tmp_path: Path) -> None:
    """Whoever shares the connection that is no longer taken goes on with the next, and is not refused."""
    shop.deploy()
    fake = shop.fake
    assert fake is not None
    fake.tokens |= {token: Access("ada", EVERYTHING) for token in ("first", "second")}
    with ExitStack() as stack:
        api = clusters(fake.kubeconfig(tmp_path / "k", token="first"), stack)  # noqa: S106  (a test's)
        probe = RolloutStatusProbe(api, now)
        probe.look(STATUS)
        fake.kubeconfig(tmp_path / "k", token="second")  # noqa: S106  (a test's)
        del fake.tokens["first"]
        with ThreadPoolExecutor(8) as pool:
            seen = list(pool.map(lambda _: probe.look(STATUS).reached, range(24)))

    assert seen == [Reached.YES] * 24


def test_a_call_that_was_never_sent_is_known_as_such(shop: Place, tmp_path: Path) -> None:
    """When nobody listens nothing can have been applied."""
    shop.deploy()
    observed = shop.action(shop.restart()).observe(shop.restart())
    with closing(socket.create_server(("127.0.0.1", 0))) as unused:
        port = unused.getsockname()[1]
    with ExitStack() as stack:
        api = clusters(write_kubeconfig(tmp_path / "k", f"http://127.0.0.1:{port}"), stack)
        with pytest.raises(ProviderUnavailableError, match=r"^cluster demo: .*refused") as error:
            RestartDeploymentAction(api, now).apply(shop.restart(), observed, action_id="x")

    assert not error.value.may_have_applied


@pytest.mark.parametrize("server", ["http://no-such-host.invalid", "http://127.0.0.1:1"])
def test_a_cluster_that_cannot_be_reached_is_unavailable(tmp_path: Path, server: str) -> None:
    """No address and nobody there are worth another try."""
    with pytest.raises(ProviderUnavailableError, match=r"^cluster demo: "):
        look(write_kubeconfig(tmp_path / "k", server))


@pytest.mark.parametrize("server", ["", "127.0.0.1", "http://", "http://[::1", "ftp://127.0.0.1/"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, server: str) -> None:
    """A kubeconfig with a broken address is not retried for ever."""
    with pytest.raises(ActionRefusedError, match=r"^cluster demo: "):
        look(write_kubeconfig(tmp_path / "k", server))


def test_a_certificate_that_is_not_trusted_is_refused(serve: Serve, tmp_path: Path) -> None:
    """Somebody in between is not talked to, and a wrong CA is not retried for ever."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "pem").write_bytes(pem + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")

    with pytest.raises(ActionRefusedError, match=r"^cluster demo: .*CERTIFICATE_VERIFY_FAILED"):
        look(serve(say(200, b"{}"), context))


def test_a_plain_server_behind_https_is_unavailable(fake: FakeKubernetes, tmp_path: Path) -> None:
    """A broken handshake may be a proxy that starts; it is tried again."""
    with pytest.raises(ProviderUnavailableError, match=r"^cluster demo: .*SSL"):
        look(write_kubeconfig(tmp_path / "k", fake.url.replace("http:", "https:")))


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"<html>welcome</html>", ProviderUnavailableError),
        (200, b"[1]", ProviderUnavailableError),
        (200, b"{}", ProviderUnavailableError),
        (200, b'{"metadata": 3}', ProviderUnavailableError),
        (200, b"\xff\xfe", ProviderUnavailableError),
        (302, b"", ProviderUnavailableError),
        (404, b"<html>not here</html>", ActionRefusedError),
        (404, b'{"message": 3, "details": 4}', ActionRefusedError),
        (403, b"null", ActionRefusedError),
        (418, b'{"message": "a\\nb\\u001b[31m' + b"x" * 5000 + b'"}', ActionRefusedError),
        (503, b"", ProviderUnavailableError),
    ],
)
def test_what_is_no_kubernetes_api_ends_in_one_sentence(
    serve: Serve, status: int, body: bytes, kind: type[Exception]
) -> None:
    """Whatever answers there, the error is one printable line of a readable length."""
    with pytest.raises(kind) as error:
        look(serve(say(status, body, Location="http://127.0.0.1:1/")))

    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700


def test_a_lost_answer_to_a_change_is_in_doubt_even_if_it_is_ok(serve: Serve, shop: Place) -> None:
    """A 200 that is not what a Kubernetes API says may still have been one."""
    shop.deploy()
    observed = shop.action(shop.restart()).observe(shop.restart())
    with ExitStack() as stack:
        action = RestartDeploymentAction(clusters(serve(say(200, b"<html>")), stack), now)
        with pytest.raises(ProviderUnavailableError) as error:
            action.apply(shop.restart(), observed, action_id="x")

    assert error.value.may_have_applied


@pytest.mark.parametrize("status", [409, 422])
def test_what_a_webhook_denies_is_said_in_its_words(fake: FakeKubernetes, shop: Place, status: int) -> None:
    """A webhook may deny with the status of a failed test; then nothing has changed meanwhile."""
    shop.deploy()
    request = shop.restart()
    action = shop.action(request)
    observed = action.observe(request)
    said = 'admission webhook "freeze.example.com" denied the request: no changes on Friday'
    fake.fail(Fault.REFUSED, said=said, status=status)

    with pytest.raises(ActionRefusedError, match="no changes on Friday") as caught:
        action.apply(request, observed, action_id="x")
    assert type(caught.value) is ActionRefusedError


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirected_change_goes_nowhere_else(
    serve: Serve, fake: FakeKubernetes, shop: Place, status: int
) -> None:
    """A change, and the credential with it, reaches only the server of the kubeconfig."""
    shop.deploy()
    observed = shop.action(shop.restart()).observe(shop.restart())
    before = len(fake.requests)
    with ExitStack() as stack:
        elsewhere = serve(say(status, b"", Location=fake.url + shop.path))
        action = RestartDeploymentAction(clusters(elsewhere, stack), now)
        with pytest.raises(ProviderUnavailableError):
            action.apply(shop.restart(), observed, action_id="x")

    assert len(fake.requests) == before


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("", None), ("nan", None), ("-3", None), ("Wed, 21 Oct 2026", None)]
)
def test_only_seconds_are_waited_for(serve: Serve, header: str, seconds: float | None) -> None:
    """Retry-After is taken when it is a number of seconds."""
    with pytest.raises(ProviderUnavailableError) as error:
        look(serve(say(429, b"{}", Retry_After=header)))

    assert error.value.retry_after == seconds


def test_an_answer_that_drips_is_given_up(serve: Serve) -> None:
    """A socket's timeout is for each packet; an answer as a whole has a time too."""

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        for _ in range(30):
            handler.wfile.write(b" ")
            time.sleep(0.05)

    with pytest.raises(ProviderUnavailableError, match="takes too long"):
        look(serve(drip), connect_timeout=0.3, read_timeout=0.3)


def test_many_threads_share_a_client(shop: Place) -> None:
    """Activities run in threads; each gets its own answer."""
    shop.deploy()
    seen: list[Reached] = []
    threads = [threading.Thread(target=lambda: seen.append(shop.status().reached)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == [Reached.YES] * 12


def test_of_many_equal_calls_one_is_accepted(fake: FakeKubernetes, shop: Place) -> None:
    """Twelve runs that observed the same and apply at once: the cluster accepts one."""
    shop.deploy()
    request = shop.restart()
    action = shop.action(request)
    observed = action.observe(request)
    before = len(fake.changes)
    ends: list[str] = []

    def apply() -> None:
        try:
            action.apply(request, observed, action_id="x")
            ends.append("applied")
        except ActionRefusedError as error:
            ends.append(type(error).__name__)

    threads = [threading.Thread(target=apply) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(ends) == ["PreconditionFailedError"] * 11 + ["applied"]
    assert len(fake.changes) == before + 1
