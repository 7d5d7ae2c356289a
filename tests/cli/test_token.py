"""`stanch token`, and speaking with one."""

import json
from pathlib import Path

import pytest

from contracts.identities import Scope
from ledger import Ledger
from ledger.identities import is_token
from runtime.clock import utc_now
from tests.cli import answers
from tests.cli.conftest import Terminal


@pytest.fixture
def house(home: Path) -> Path:
    """Give a home with a catalogue and a ledger."""
    (home / "catalogue.yaml").write_text("people: [{id: ada, name: Ada}]\n", encoding="utf-8")
    ledger = Ledger.open(f"sqlite:///{home / 'ledger.db'}", clock=utc_now)
    ledger.migrate()
    ledger.close()
    return home


@pytest.mark.usefixtures("house")
def test_making_listing_and_revoking(run: Terminal) -> None:
    """A token is printed once, listed without its secret, and ended."""
    none = run("token", "list").out
    made = run("token", "create", "--person", "ada", "--scopes", "read,approve", "--expires", "30d")
    machine = run("token", "create", "--machine", "am", "--scopes", "alerts", "--expires", "12h", "--json")
    listed = json.loads(run("token", "list", "--json").out)
    ended = run("token", "revoke", "TOK-1")
    table = run("token", "list").out

    secret, said = made.out.splitlines()
    assert none == "No API token.\n"
    assert (made.code, is_token(secret)) == (0, True)
    assert said.startswith("TOK-1 is valid until ")
    assert "in 29 d" in said
    assert is_token(json.loads(machine.out)["secret"])
    assert [(one["id"], one["person"], one["scopes"]) for one in listed] == [
        ("TOK-2", None, ["alerts"]),
        ("TOK-1", "ada", ["approve", "read"]),
    ]
    assert "TOK-1 (terminal) is revoked by operator:" in ended.out
    assert "TOK-2  a machine  am" in table
    assert "expires in 11 h" in table
    assert secret not in table + json.dumps(listed)
    assert [len(json.loads(run("token", "list", "--person", who, "--json").out)) for who in ("ada", "x")] == [
        1,
        0,
    ]


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--person", "eve", "--scopes", "read"), "eve is not in the service catalogue's people"),
        (("--person", "ada", "--scopes", "all"), f"--scopes all: write some of {','.join(Scope)}"),
        (("--person", "ada", "--scopes", "read", "--expires", "400d"), "lasts: Input should be less than or"),
        (("--machine", "am", "--scopes", "approve"), "approve: an order is given by a person, so name one"),
    ],
)
def test_what_is_not_made(run: Terminal, argv: tuple[str, ...], said: str) -> None:
    """What cannot be is one sentence, and nothing is made."""
    refused = run("token", "create", *argv)

    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith(f"stanch: {said}")
    assert run("token", "list", "--json").out == "[]\n"


@pytest.mark.usefixtures("house")
def test_a_span_that_cannot_be_read(run: Terminal) -> None:
    """A wrong span is a wrong command line, as in every other verb."""
    refused = run("token", "create", "--machine", "am", "--scopes", "alerts", "--expires", "forever")

    assert (refused.code, refused.out) == (2, "")
    assert "--expires: 'forever' is no span: write 30m, 4h or 3d" in refused.err


def test_without_a_ledger(run: Terminal) -> None:
    """Away from the ledger it says so."""
    said = run("token", "list")

    assert (said.code, "its schema is at nothing" in said.err) == (1, True)


def test_speaking_with_a_token(
    run: Terminal, gateway: answers.Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal speaks with STANCH_TOKEN to the public address, and names nobody."""
    monkeypatch.setenv("STANCH_PUBLIC_URL", f"http://127.0.0.1:{gateway.port}")
    monkeypatch.setenv("STANCH_TOKEN", "stanch_x")
    gateway.give("POST /v1/incidents/INC-1/ack", answers.INCIDENT)

    said = run("incident", "ack", "INC-1")

    assert said.code == 0, said.err
    assert gateway.orders[0].headers["authorization"] == "Bearer stanch_x"
    assert "x-stanch-person" not in gateway.orders[0].headers
