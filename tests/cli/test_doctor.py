"""`stanch doctor` on a machine where little is there."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Terminal
from tests.cli.test_real_gateway import findings


def test_an_empty_machine_is_told_what_to_do(run: Terminal, home: Path) -> None:
    """Each missing thing has a reason and a way to get it, and looking creates nothing."""
    (home / "local.token").unlink()

    said = run("doctor", "--json")
    missing = [one for one in json.loads(said.out) if one["state"] == "missing"]

    assert said.code == 1
    assert [one["name"] for one in missing] == ["catalogue"]
    assert [one for one in missing if not one["why"] or not one["get"]] == []
    assert list(home.iterdir()) == []


def test_the_report_is_for_people(run: Terminal) -> None:
    """Lines fit the terminal, what is missing stands out, and the last line counts it."""
    said = run("doctor")

    assert max(map(len, said.out.splitlines())) <= 80
    assert "MISSING   catalogue: " in said.out
    assert said.out.splitlines()[-1] == "1 missing."


def test_a_wrong_setting_hides_nothing_else_by_a_crash(
    run: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown variable of ours is named, with where to look."""
    monkeypatch.setenv("STANCH_HTTP_PROT", "1")

    said = run("doctor", "--json")

    assert (said.code, findings(said)["settings"]) == (1, "missing")


@pytest.mark.parametrize("url", ["nonsense", "mysql://localhost/x", "sqlite://"])
def test_a_ledger_that_cannot_be_is_a_finding(
    run: Terminal, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """A database URL that the ledger does not take is reported, not raised."""
    monkeypatch.setenv("STANCH_DATABASE_URL", url)

    assert findings(run("doctor", "--json"))["ledger"] == "missing"


def test_a_password_is_never_shown(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable PostgreSQL is reported without its password."""
    monkeypatch.setenv("STANCH_DATABASE_URL", "postgresql://stanch:hunter2@127.0.0.1:1/stanch")

    said = run("doctor")

    assert "MISSING   ledger" in said.out
    assert "hunter2" not in said.out + said.err


def test_a_damaged_key_is_a_finding(run: Terminal, home: Path) -> None:
    """A file that is no key is named as such."""
    (home / "keys").mkdir()
    (home / "keys" / "decision-1.pub").write_bytes(b"nonsense")

    assert findings(run("doctor", "--json"))["keys"] == "missing"


def test_a_missing_engine_is_a_finding(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that names no program is said; with a cluster's address no engine is needed."""
    monkeypatch.setenv("STANCH_TEMPORAL_BINARY", "/nowhere/temporal")
    assert findings(run("doctor", "--json"))["engine"] == "missing"

    monkeypatch.setenv("STANCH_TEMPORAL_ADDRESS", "temporal.example:7233")
    assert findings(run("doctor", "--json"))["engine"] == "ok"


@pytest.mark.parametrize(
    ("person", "smtp", "warned"),
    [
        ("{id: ada, name: Ada}", "", True),
        ("{id: ada, name: Ada, email: ada@example.com}", "", True),
        ("{id: ada, name: Ada, email: ada@example.com}", "mail.example.com", False),
        ('{id: ada, name: Ada, contacts: {webhook: "env:HOOK"}}', "", False),
        ("{id: ada, name: Ada, contacts: {pigeon: home}}", "", True),
    ],
)
def test_nobody_who_can_be_told(
    run: Terminal, home: Path, monkeypatch: pytest.MonkeyPatch, *, person: str, smtp: str, warned: bool
) -> None:
    """One line warns when no notice would leave the console; it is no reason to fail."""
    (home / "catalogue.yaml").write_text(f"people: [{person}]\n", encoding="utf-8")
    monkeypatch.setenv("STANCH_SMTP_HOST", smtp)

    found = [line for line in run("doctor").out.splitlines() if "contacts: " in line]

    assert [line.split()[0] for line in found] == ["optional"] * warned
    assert run("doctor").code == 0
