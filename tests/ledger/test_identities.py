"""Sessions and API tokens as the ledger keeps them."""

from datetime import timedelta

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from contracts.errors import ForbiddenError, NotFoundError
from contracts.evidence import EvidenceKind
from contracts.identities import Scope, TokenOrder
from ledger import Ledger
from ledger.identities import KEPT, is_token
from tests.ledger.samples import NOON, Clock

DAY = timedelta(days=1)


def begin(ledger: Ledger, flow: str = "state", lasts: timedelta = DAY) -> str:
    """Start Ada's session."""
    return ledger.sessions.begin(
        flow=flow,
        person="ada",
        authenticated_by="oidc",
        groups=("sre",),
        signed_in_at=NOON,
        lasts=lasts,
        facts={"sub": "42"},
    )


def order(**changes: object) -> TokenOrder:
    """Give the order of a token for Ada's terminal."""
    facts = {"name": "laptop", "person": "ada", "scopes": ("read", "approve"), "lasts": DAY}
    return TokenOrder.model_validate(facts | changes)


def everything(ledger: Ledger, *tables: str) -> str:
    """Give all that some tables hold, as text."""
    with ledger.database.read() as connection:
        return repr([connection.execute(text(f"SELECT * FROM {table}")).all() for table in tables])  # noqa: S608  (ours)


def test_a_session_is_kept_by_its_digest(ledger: Ledger) -> None:
    """What the browser holds finds the session and is nowhere in the database."""
    secret = begin(ledger)

    found = ledger.sessions.find(secret)

    assert found is not None
    assert (found.person, found.authenticated_by, found.groups) == ("ada", "oidc", ("sre",))
    assert (found.signed_in_at, found.expires_at - found.used_at) == (NOON, DAY)
    assert ledger.sessions.find(secret + "x") is None
    assert secret not in everything(ledger, "session", "evidence")


def test_a_sign_in_is_used_once(ledger: Ledger) -> None:
    """The answer of the identity provider that was used is not taken again, signed out or not."""
    secret = begin(ledger)

    with pytest.raises(ForbiddenError, match="used before"):
        begin(ledger)
    ledger.sessions.end(secret)
    with pytest.raises(ForbiddenError, match="used before"):
        begin(ledger)


def test_signing_out_ends_every_copy(ledger: Ledger) -> None:
    """An ended session is found by nobody, and both ends are in the log once."""
    secret = begin(ledger)
    other = begin(ledger, "another")
    ledger.sessions.end(secret)
    ledger.sessions.end(secret)
    ledger.sessions.end("unknown")

    assert ledger.sessions.find(secret) is None
    assert ledger.sessions.find(other) is not None
    entries = ledger.evidence.entries()
    said = ["ada signs in by oidc", "ada signs in by oidc", "ada signs out"]
    assert [(entry.kind, entry.summary) for entry in entries] == [(EvidenceKind.ACCESS, one) for one in said]
    assert entries[0].body == {"sub": "42"}


def test_old_sessions_go(ledger: Ledger, clock: Clock) -> None:
    """What is long over is forgotten at the next sign-in; what is only over is not."""
    old = begin(ledger, "old")
    clock.forward(DAY + KEPT)
    begin(ledger, "middle")
    clock.forward(timedelta(seconds=1))
    assert ledger.sessions.find(old) is not None

    begin(ledger, "new")

    assert ledger.sessions.find(old) is None
    with ledger.database.read() as connection:
        kept = connection.execute(text("SELECT flow FROM session ORDER BY expires_at")).scalars().all()
    assert len(kept) == 2


def test_using_a_session(ledger: Ledger, clock: Clock) -> None:
    """An order moves the time of the last use."""
    secret = begin(ledger)
    clock.forward(timedelta(minutes=5))
    ledger.sessions.use(secret)

    found = ledger.sessions.find(secret)

    assert found is not None
    assert found.used_at == clock()


def test_a_token_is_shown_once(ledger: Ledger) -> None:
    """The secret finds the token, its digest is all that is kept, and who made it is in the log."""
    token, secret = ledger.tokens.create(order(), by="ada")

    assert ledger.tokens.find(secret) == token
    assert (token.id, token.scopes, token.expires_at) == ("TOK-1", (Scope.APPROVE, Scope.READ), NOON + DAY)
    assert secret not in everything(ledger, "api_token", "evidence")
    assert "ada makes TOK-1 (laptop) for ada: approve, read" in everything(ledger, "evidence")


def test_a_token_has_a_checksum(ledger: Ledger) -> None:
    """A scanner and we can tell a token from a mistyped one without asking the database."""
    _, secret = ledger.tokens.create(order(), by="ada")
    wrong = ["", "stanch_", secret[:-1], secret + "0", secret.upper(), "é" * 55]
    wrong += [secret[:20] + ("0" if secret[20] != "0" else "1") + secret[21:]]

    assert is_token(secret)
    assert [one for one in wrong if is_token(one) or ledger.tokens.find(one)] == []
    assert ledger.tokens.find("stanch_" + "0" * 40 + "c5d4d8c9") is None


def test_revoking(ledger: Ledger, clock: Clock) -> None:
    """A revoked token stays in the list with who ended it and when; ending it again changes nothing."""
    token, secret = ledger.tokens.create(order(), by="ada")
    clock.forward(timedelta(minutes=1))
    ended = ledger.tokens.revoke(token.id, by="ada", of="ada")
    clock.forward(timedelta(minutes=1))

    assert (ended.revoked_at, ended.revoked_by) == (NOON + timedelta(minutes=1), "ada")
    assert ledger.tokens.revoke(token.id, by="grace") == ended
    assert (ledger.tokens.find(secret), ledger.tokens.list()) == (ended, [ended])
    assert ledger.evidence.size() == 2


@pytest.mark.parametrize("token", ["TOK-2", "TOK-0", "APR-1", "TOK-1 OR 1=1"])
def test_revoking_what_is_not_there(ledger: Ledger, token: str) -> None:
    """An unknown id is not found."""
    ledger.tokens.create(order(), by="ada")

    with pytest.raises(NotFoundError):
        ledger.tokens.revoke(token, by="ada")


def test_revoking_anothers(ledger: Ledger) -> None:
    """Who may end only their own does not learn that another's exists."""
    token, _ = ledger.tokens.create(order(), by="ada")
    ledger.tokens.create(order(person=None, scopes=("alerts",), name="am"), by="operator")

    for one in (token.id, "TOK-2"):
        with pytest.raises(NotFoundError, match="not found"):
            ledger.tokens.revoke(one, by="grace", of="grace")
    assert [one.id for one in ledger.tokens.list()] == ["TOK-2", "TOK-1"]
    assert [one.id for one in ledger.tokens.list("ada")] == ["TOK-1"]


def test_when_a_token_was_seen(ledger: Ledger) -> None:
    """The last use is kept for each token apart."""
    token, _ = ledger.tokens.create(order(), by="ada")
    ledger.tokens.create(order(), by="ada")
    ledger.tokens.used({token.id: NOON})

    assert [one.used_at for one in ledger.tokens.list()] == [None, NOON]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lasts": timedelta(days=367)}, "less than or equal"),
        ({"lasts": timedelta(0)}, "greater than"),
        ({"scopes": ()}, "at least 1"),
        ({"scopes": ("everything",)}, "Input should be"),
        ({"person": None}, "approve: an order is given by a person"),
        ({"name": ""}, "at least 1"),
    ],
)
def test_what_no_token_is(changes: dict[str, object], said: str) -> None:
    """A token is for a time, for something, and gives orders only for a person."""
    with pytest.raises(ValidationError, match=said):
        order(**changes)
