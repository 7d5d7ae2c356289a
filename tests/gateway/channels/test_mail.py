"""Mail, by a real server on loopback that refuses, hangs and cuts off."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest

from contracts.errors import ActionRefusedError, InputError, ProviderUnavailableError
from gateway.channels import Letter, mail
from gateway.channels.mail import Mail
from runtime.settings import Settings
from tests.gateway.channels.receivers import ACCOUNT, Mailbox, certificate, mail_server
from tests.gateway.channels.samples import letter

Way = Literal["starttls", "implicit"]


@pytest.fixture
def box() -> Iterator[Mailbox]:
    """Give a mail server."""
    with mail_server() as made:
        yield made


def secure(port: int, way: Way, password: str = ACCOUNT[1]) -> Mail:
    """Give the channel to a server on this machine, with TLS and an account."""
    account = {"smtp_user": ACCOUNT[0], "smtp_password": password}
    return Mail(Settings(smtp_host="127.0.0.1", smtp_port=port, smtp_tls=way, **account))


def by(port: int) -> Mail:
    """Give the channel to a server on this machine."""
    return Mail(
        Settings(smtp_host="127.0.0.1", smtp_port=port, smtp_tls="none", smtp_from="stanch@example.com")
    )


def test_a_mail(box: Mailbox) -> None:
    """A mail says what it is about, with the link, and has the message's id however often it is sent."""
    channel = by(box.port)
    channel.send(letter())
    channel.send(letter())
    channel.send(letter(times=2))

    first, again, reminder = box.mails
    assert (first["To"], first["From"]) == ("ada@example.com", "stanch@example.com")
    assert first["Subject"] == "APR-7 SEV1 shop: may this run? Größe 12"
    assert "https://stanch.example.com/approvals/APR-7" in first.get_content()
    assert first["Message-ID"] == again["Message-ID"] != reminder["Message-ID"]
    assert first["References"] == reminder["References"]


@pytest.mark.parametrize(
    ("fate", "error"),
    [
        (550, ActionRefusedError),
        (451, ProviderUnavailableError),
        ("cut", ProviderUnavailableError),
        ("hang", ProviderUnavailableError),
    ],
)
def test_a_server_that_fails(
    box: Mailbox, monkeypatch: pytest.MonkeyPatch, fate: str | int, error: type[Exception]
) -> None:
    """A refusal is final; what may pass is tried again; a server that hangs is not waited for."""
    monkeypatch.setattr(mail, "_PATIENCE", 0.2)
    box.plan = [fate]

    with pytest.raises(error, match=f"mail server 127.0.0.1:{box.port}"):
        by(box.port).send(letter())
    assert len(box.mails) == (fate == "cut")


def test_nobody_listens() -> None:
    """A server that is not there is unavailable."""
    with pytest.raises(ProviderUnavailableError, match="refused"):
        by(1).send(letter())


def test_no_encryption_no_mail(box: Mailbox) -> None:
    """Where encryption is asked for and the server has none, nothing is sent."""
    channel = Mail(Settings(smtp_host="127.0.0.1", smtp_port=box.port))

    with pytest.raises(ActionRefusedError, match="STARTTLS"):
        channel.send(letter())
    assert box.mails == []


@pytest.mark.parametrize("way", ["starttls", "implicit"])
def test_encrypted_and_signed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Way) -> None:
    """Mail goes in TLS to a server whose certificate is trusted, after signing in there."""
    pem = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with mail_server(pem, implicit=way == "implicit") as box:
        secure(box.port, way).send(letter())

    assert ([one["To"] for one in box.mails], box.signed_in) == (["ada@example.com"], 1)


@pytest.mark.parametrize("way", ["starttls", "implicit"])
@pytest.mark.parametrize(
    ("of", "until", "trusted", "why"),
    [
        ("127.0.0.1", 2100, False, "self-signed certificate"),
        ("mail.example.com", 2100, True, "IP address mismatch"),
        ("127.0.0.1", 2021, True, "certificate has expired"),
    ],
)
def test_a_certificate_that_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, way: Way, of: str, until: int, trusted: bool, why: str
) -> None:
    """A server that cannot prove who it is gets neither the password nor the mail, and that is said."""
    pem = certificate(tmp_path, of=of, until=datetime(until, 1, 1, tzinfo=UTC))
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with (
        mail_server(pem, implicit=way == "implicit") as box,
        pytest.raises(ActionRefusedError, match=f"mail server 127.0.0.1:{box.port}: its certificate .*{why}"),
    ):
        secure(box.port, way).send(letter())

    assert (box.mails, box.signed_in) == ([], 0)


def test_a_wrong_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that the server does not take is final, and the sentence does not repeat it."""
    pem, wrong = certificate(tmp_path), "guess"
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with (
        mail_server(pem) as box,
        pytest.raises(ActionRefusedError, match=r"535 5[.]7[.]8 that is not your password") as caught,
    ):
        secure(box.port, "starttls", password=wrong).send(letter())

    assert wrong not in str(caught.value)
    assert box.mails == []


def test_no_password_in_the_clear() -> None:
    """A password for another machine is never sent without encryption."""
    with pytest.raises(InputError, match="STANCH_SMTP_TLS=none"):
        Mail(Settings(smtp_host="mail.example.com", smtp_user="u", smtp_tls="none"))


@pytest.mark.parametrize(
    "address", ["a@x.example\r\nBcc: eve@x.example", "\n", "a@x.example, eve@x.example", "a@x.ex\x00", "a"]
)
def test_hostile_addresses(box: Mailbox, address: str) -> None:
    """An address cannot add a header or another recipient."""
    told = letter()

    with pytest.raises(ActionRefusedError):
        by(box.port).send(Letter(told.notice, address, told.link))
    assert box.mails == []


def test_a_hostile_title(box: Mailbox) -> None:
    """A title that the world has chosen is text and no header."""
    by(box.port).send(letter(title="x\u202e<script> =?utf-8?q?y?= Bcc: eve@example.com"))

    assert [(one["To"], one["Bcc"]) for one in box.mails] == [("ada@example.com", None)]
