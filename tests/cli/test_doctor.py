"""`stanch doctor` on a machine where little is there."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Said, Terminal
from tests.cli.test_real_gateway import findings
from tests.gateway.issuer import CLIENT, Issuer, issuer


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


@pytest.fixture(scope="module")
def served() -> Iterator[Issuer]:
    """Serve one identity provider for this module."""
    with issuer() as made:
        yield made


@pytest.fixture
def provider(served: Issuer, monkeypatch: pytest.MonkeyPatch, run: Terminal) -> Issuer:  # noqa: ARG001  (it clears the environment)
    """Give the provider, honest again, with settings that fit it."""
    served.tell_the_truth()
    monkeypatch.setenv("STANCH_IDENTITY", "oidc")
    monkeypatch.setenv("STANCH_PUBLIC_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("STANCH_OIDC_ISSUER", served.url)
    monkeypatch.setenv("STANCH_OIDC_CLIENT_ID", CLIENT)
    return served


def told(said: Said, name: str) -> tuple[str, str]:
    """Give how one thing was found, and what was said of it."""
    return next((one["state"], one["found"]) for one in json.loads(said.out) if one["name"] == name)


def test_sign_in_that_works_is_said(run: Terminal, provider: Issuer) -> None:
    """The provider is asked as gateway and browser ask it, and the redirect URI is the gateway's."""
    back = "http://127.0.0.1:1/signin/callback"
    provider.asks_back = "login_required"

    found = told(run("doctor", "--json"), "identity provider")

    assert found == ("ok", f"{provider.url}, which sends people back to {back}")


def test_a_provider_that_shows_a_page_is_not_said_to_send_people_back(
    run: Terminal, provider: Issuer
) -> None:
    """What was not seen is not claimed."""
    state, said = told(run("doctor", "--json"), "identity provider")

    assert state == "ok"
    assert said.endswith("/signin/callback is not known")
    assert said.startswith(provider.url)


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ({"down": 500}, "answers 500: check STANCH_OIDC_ISSUER"),
        ({"down": 302}, "answers 302: check STANCH_OIDC_ISSUER"),
        (
            {"discovery": {"issuer": "https://x.example"}},
            "'https://x.example': set STANCH_OIDC_ISSUER to what",
        ),
        ({"discovery": {"token_endpoint": None}}, "no discovery document (token_endpoint: Input should be"),
        ({"discovery": {"jwks_uri": "nonsense"}}, "nonsense does not answer (MissingSchema)"),
        ({"asks_back": "invalid_scope"}, "says invalid_scope: correct STANCH_OIDC_SCOPES"),
        ({"refuses": 400}, "register the client 'stanch' with the redirect URI http://127.0.0.1:1/signin/"),
    ],
)
def test_a_provider_that_lies_is_a_finding(
    run: Terminal, provider: Issuer, *, lie: dict[str, Any], said: str
) -> None:
    """Each trouble is one sentence with what to do, and nothing else is hidden by it."""
    vars(provider).update(lie)

    answer = run("doctor", "--json")
    state, found = told(answer, "identity provider")

    assert (answer.code, state, findings(answer)["keys"]) == (1, "missing", "ok")
    assert said in found


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("STANCH_OIDC_CLIENT_ID", "", "needs STANCH_OIDC_CLIENT_ID"),
        ("STANCH_PUBLIC_URL", "", "needs STANCH_PUBLIC_URL"),
        ("STANCH_IDENTITY", "local", "set it to oidc"),
    ],
)
def test_settings_that_do_not_belong_together_are_a_finding(
    run: Terminal, provider: Issuer, monkeypatch: pytest.MonkeyPatch, *, name: str, value: str, said: str
) -> None:
    """What the gateway would not start with is said before it is started, and nobody is asked."""
    monkeypatch.setenv(name, value)

    state, found = told(run("doctor", "--json"), "identity")

    assert (state, provider.asked) == ("missing", [])
    assert said in found


def test_local_mode_is_said_to_be_for_evaluation(run: Terminal) -> None:
    """Nothing is missing in local mode, and what it is is said with it."""
    found = told(run("doctor", "--json"), "identity")

    assert found == ("ok", "local: evaluation only, whoever reaches the port can be anybody")


@pytest.mark.parametrize(("name", "value"), [("ISSUER", "http://127.0.0.1:1"), ("CA", "/nowhere/ca.pem")])
def test_a_provider_that_is_not_reached_is_a_finding(
    run: Terminal, provider: Issuer, monkeypatch: pytest.MonkeyPatch, *, name: str, value: str
) -> None:
    """Nobody listens, or the certificates' file is none: both name what to check."""
    monkeypatch.setenv(f"STANCH_OIDC_{name}", value)
    if name == "CA":
        monkeypatch.setenv("STANCH_OIDC_ISSUER", provider.url.replace("http://127", "https://127"))

    state, found = told(run("doctor", "--json"), "identity provider")

    assert state == "missing"
    assert "check STANCH_OIDC_ISSUER, STANCH_OIDC_CA and the network" in found
