"""Webhooks, by a real receiver on loopback that refuses, hangs and cuts off; and addresses that are none."""

import hashlib
import hmac
import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import urllib3

from contracts.errors import ActionRefusedError, InputError, ProviderUnavailableError
from gateway.channels import hook
from gateway.channels.hook import Hook
from tests.gateway.channels.receivers import Hooks, certificate, hook_server
from tests.gateway.channels.samples import NIGHT, letter


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    """Give a receiver."""
    with hook_server() as made:
        yield made


def channel(*, signs: bool = True) -> Hook:
    """Give the channel."""
    return Hook("s3cret" if signs else "", clock=lambda: NIGHT)


def test_a_post(hooks: Hooks) -> None:
    """A POST is JSON that a chat shows, signed over time and body, with an id that stays the same."""
    for times in (1, 1, 2):
        channel().send(letter(f"http://127.0.0.1:{hooks.port}/hook?room=1", times=times))

    first, again, reminder = hooks.posts
    body = json.loads(first.body)
    at, _, mark = first.headers["stanch-signature"].partition(",v1=")
    expected = hmac.new(b"s3cret", f"{at.removeprefix('t=')}.".encode() + first.body, hashlib.sha256)
    assert mark == expected.hexdigest()
    assert at == f"t={int(NIGHT.timestamp())}"
    assert first.path == "/hook?room=1"
    assert first.headers["host"] == f"127.0.0.1:{hooks.port}"
    assert body["link"] == "https://stanch.example.com/approvals/APR-7"
    assert body["text"].startswith("APR-7 SEV1 shop: may this run? Größe 12\n")
    keys = [one.headers["idempotency-key"] for one in (first, again, reminder)]
    assert keys == ["APR-7/ada/email/1", "APR-7/ada/email/1", "APR-7/ada/email/2"]


def test_a_post_by_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A POST by HTTPS arrives where the certificate is of the name in the address."""
    pem = certificate(tmp_path, of="localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with hook_server(pem) as hooks:
        channel().send(letter(f"https://localhost:{hooks.port}/hook?room=1"))

    assert [(one.path, one.headers["host"]) for one in hooks.posts] == [
        ("/hook?room=1", f"localhost:{hooks.port}")
    ]


@pytest.mark.parametrize(
    ("of", "until", "trusted", "why"),
    [
        ("localhost", 2100, False, "self-signed certificate"),
        ("hooks.example.com", 2100, True, "certificate is not valid for 'localhost'"),
        ("localhost", 2021, True, "certificate has expired"),
    ],
)
def test_a_certificate_that_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, of: str, until: int, trusted: bool, why: str
) -> None:
    """A receiver that cannot prove who it is gets nothing, and the sentence says why and hides the path."""
    pem = certificate(tmp_path, of=of, until=datetime(until, 1, 1, tzinfo=UTC))
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with hook_server(pem) as hooks, pytest.raises(ActionRefusedError, match=why) as caught:
        channel().send(letter(f"https://localhost:{hooks.port}/s3cret-path"))

    assert hooks.posts == []
    assert "s3cret-path" not in str(caught.value)


def test_without_a_secret(hooks: Hooks) -> None:
    """Without a secret a POST has no signature, not one by an empty key."""
    channel(signs=False).send(letter(f"http://localhost:{hooks.port}/"))

    assert "stanch-signature" not in hooks.posts[0].headers


@pytest.mark.parametrize(
    ("fate", "error"),
    [
        (400, ActionRefusedError),
        (404, ActionRefusedError),
        (302, ActionRefusedError),
        (429, ProviderUnavailableError),
        (500, ProviderUnavailableError),
        ("cut", ProviderUnavailableError),
        ("hang", ProviderUnavailableError),
    ],
)
def test_a_receiver_that_fails(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch, fate: str | int, error: type[Exception]
) -> None:
    """What cannot become better is final; the rest may be tried again; no redirect is followed."""
    monkeypatch.setattr(hook, "_TIMEOUT", urllib3.Timeout(connect=1, read=0.2))
    hooks.plan = [fate]

    with pytest.raises(error) as caught:
        channel().send(letter(f"http://127.0.0.1:{hooks.port}/s3cret-path"))
    assert hooks.tries == 1
    assert "s3cret-path" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "ftp://example.com/",
        "//example.com/hook",
        "example.com",
        "",
        "https://",
        "https://user:word@example.com/",
        "http://169.254.169.254/latest/meta-data/",
        "https://169.254.169.254/",
        "http://[fe80::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://[fd00:ec2::254]/",
        "https://100.100.100.200/",
        "http://0.0.0.0/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://224.0.0.1/",
        "http://10.0.0.1/",
        "http://93.184.216.34/",
    ],
)
def test_addresses_that_are_refused(address: str) -> None:
    """No file, no metadata service in any spelling, and no other machine without encryption."""
    with pytest.raises(ActionRefusedError, match="refused"):
        channel().send(letter(address))


def test_a_name_that_means_a_forbidden_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is refused when any of the addresses that it has now is forbidden."""

    def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(None, None, None, "", (one, 443)) for one in ("93.184.216.34", "169.254.169.254")]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    with pytest.raises(ActionRefusedError, match="254 is no place for messages"):
        channel().send(letter("https://rebind.example.com/hook"))


def test_an_address_from_the_environment(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address of a chat hook is a secret, and may be in a variable that the catalogue names."""
    monkeypatch.setenv("CHAT_OF_ADA", f"http://127.0.0.1:{hooks.port}/abc")
    channel().send(letter("env:CHAT_OF_ADA"))

    assert [one.path for one in hooks.posts] == ["/abc"]
    with pytest.raises(InputError, match="CHAT_OF_NOBODY is not set"):
        channel().send(letter("env:CHAT_OF_NOBODY"))


def test_nobody_listens() -> None:
    """A receiver that is not there is unavailable."""
    with pytest.raises(ProviderUnavailableError, match="no answer"):
        channel().send(letter("http://127.0.0.1:1/"))
