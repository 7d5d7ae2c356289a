"""``stanch key``: a new signing key, and what the old one signed."""

import errno
import json
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authority.decisions import Signer, Verifier, key_id
from contracts.approvals import Envelope, Verdict
from contracts.errors import InputError, UnknownKeyError
from contracts.evidence import EvidenceKind
from contracts.incidents import Severity
from ledger import Answer, Ledger, audit
from runtime import settings as configuration
from runtime.settings import Settings
from tests.cli.conftest import Terminal
from tests.ledger.samples import NOON, POLICY, TRACE, Clock, open_incident, plan


class DiedError(Exception):
    """The process is gone."""


def ids(home: Path) -> tuple[str, set[str]]:
    """Give the key that signs, and those that verify."""
    config = Settings(home=home)
    signs = key_id(configuration.signing_key(config).public_key())
    return signs, {key_id(key) for key in configuration.public_keys(config)}


def test_rotating_and_listing(run: Terminal, home: Path) -> None:
    """The new key signs, the old one still verifies, and the list says which is which."""
    before = run("key", "list")
    old, _ = ids(home)
    rotated = run("key", "rotate")
    new = json.loads(run("key", "rotate", "--json").out)["id"]
    listed = json.loads(run("key", "list", "--json").out)

    assert before.out == "no keys yet: the gateway makes them\n"
    assert (rotated.code, rotated.out.split()[0]) == (0, listed[1]["id"])
    assert [(one["id"], one["signs"]) for one in listed] == [
        (old, False),
        (listed[1]["id"], False),
        (new, True),
    ]
    assert [Path(one["file"]).name for one in listed] == [f"decision-{n}.pub" for n in (1, 2, 3)]
    assert f"{new}  signs     " in run("key", "list").out
    assert (home / "keys" / "decision.pem").stat().st_mode & 0o777 == 0o600


def test_a_verifier_lists_without_a_private_key(run: Terminal, home: Path) -> None:
    """On a worker's machine, where no private key is, listing makes none."""
    ids(home)
    (home / "keys" / "decision.pem").unlink()

    assert [one["signs"] for one in json.loads(run("key", "list", "--json").out)] == [False]
    assert not (home / "keys" / "decision.pem").exists()


@pytest.mark.parametrize("calls", range(12))
def test_killed_while_rotating(home: Path, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Whenever it dies there is a signing key whose public half is known, and another run finishes it."""
    old, _ = ids(home)
    left = [calls]

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise DiedError
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patched:
        for name in ("link", "replace", "fsync", "unlink", "open"):
            patched.setattr(os, name, dying(getattr(os, name)))
        with suppress(DiedError):
            configuration.rotate_key(Settings(home=home))
    signs, verify = ids(home)
    again = key_id(configuration.rotate_key(Settings(home=home)).public_key())

    assert {signs, old} <= verify
    assert again not in {old} | ({signs} - {old})
    assert {again, signs, old} <= ids(home)[1]
    assert not (home / "keys" / "decision.next").exists()


def test_a_key_whose_public_half_cannot_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway whose decisions nobody could verify does not start, and says why."""
    ids(home)
    (home / "keys" / "decision-1.pub").unlink()

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "link", read_only)

    with pytest.raises(InputError, match=r"cannot be written: Read-only file system; put it there"):
        configuration.signing_key(Settings(home=home))


def test_what_the_old_key_signed(home: Path) -> None:
    """What waits is decided; decisions, grants and checkpoints of both keys verify; the audit is whole."""
    config, clock = Settings(home=home), Clock()
    first = Signer(configuration.signing_key(config))
    running = Verifier(configuration.public_keys(config), reread=lambda: configuration.public_keys(config))
    ledger = Ledger.open(f"sqlite:///{home / 'ledger.db'}", clock=clock)
    ledger.migrate()
    incident = open_incident(ledger, commander="ada")

    def decide(number: int, signer: Signer) -> None:
        ledger.approvals.decide(
            f"APR-{number}",
            Answer(
                verdict=Verdict.APPROVE,
                plan_digest=ledger.approvals.get(f"APR-{number}").request.plan_digest,
                person="ada",
                authenticated_by="local",
                reason="",
            ),
            policy=POLICY,
            signer=signer,
            trace=TRACE,
        )

    for number in (1, 2, 3):
        ledger.approvals.ask(plan(incident, number, replicas=number + 10), severity=Severity.SEV2)
    envelope = Envelope(actions=("k8s.scale",), targets=("k8s:deployment/demo/shop/web",))
    ledger.grants.give(
        envelope,
        service="shop",
        environment="production",
        incident=None,
        person="ada",
        authenticated_by="local",
        reason="safe",
        expires_at=NOON + timedelta(hours=1),
        uses=None,
        after=timedelta(),
        signer=first,
    )
    decide(1, first)
    ledger.evidence.checkpoint(first)
    second = Signer(configuration.rotate_key(config))
    clock.forward(timedelta(minutes=1))
    for starts in (first, second, second, first):
        ledger.evidence.signs(starts)
    decide(2, second)
    ledger.evidence.checkpoint(second)
    ledger.approvals.consider("APR-3", policy=POLICY, signer=second, verifier=running)
    signed = [ledger.approvals.get(f"APR-{number}").request.signed for number in (1, 2, 3)]
    stranger = Verifier([Ed25519PrivateKey.generate().public_key()])
    report = audit.verify(ledger, Verifier(configuration.public_keys(config)))

    assert [one.key_id for one in signed if one] == [first.key_id, second.key_id, second.key_id]
    for one in signed:
        assert one is not None
        running.check_approves(one, ledger.approvals.plan(one.decision.plan_digest), now=NOON)
        with pytest.raises(UnknownKeyError, match=r"signed by the unknown key [0-9a-f]{16}$"):
            stranger.check_signature(one)
    assert (report.problems, report.checkpoints, report.decisions) == ((), 2, 3)
    told = [one for one in ledger.evidence.entries() if one.kind is EvidenceKind.SIGNING_KEY]
    assert [(one.key, one.at) for one in told] == [
        (f"signing-key/{signer.key_id}", NOON + timedelta(minutes=1)) for signer in (first, second)
    ]
    ledger.close()
