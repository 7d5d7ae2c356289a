"""Signed notes and checkpoints, against the example of the C2SP specification."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from contracts.errors import ForbiddenError, InputError
from ledger import notes
from ledger.notes import Checkpoint

# The example of Go's golang.org/x/mod/sumdb/note, whose format C2SP signed-note is.
VERIFIER_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NOTE = (
    TEXT + "\n— PeterNeumann"
    " x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


@pytest.fixture
def note(key: Ed25519PrivateKey) -> str:
    """Give a note with one signature."""
    return notes.sign(TEXT, name="stanch", key=key.public_key(), sign_bytes=key.sign)


def open_it(note: str, key: Ed25519PrivateKey, name: str = "stanch") -> str:
    """Open a note with one key."""
    return notes.open_note(note, name=name, keys=[key.public_key()])


def test_the_published_example() -> None:
    """A note of another implementation opens, and its key's id is computed as there."""
    name, key_id, encoded = VERIFIER_KEY.split("+", 2)
    raw = base64.b64decode(encoded)
    key = Ed25519PublicKey.from_public_bytes(raw[1:])

    assert raw[:1] == notes.ED25519
    assert notes.note_key_id(name, key).hex() == key_id
    assert notes.open_note(NOTE, name=name, keys=[key]) == TEXT


def test_round_trip(note: str, key: Ed25519PrivateKey) -> None:
    """What was signed opens."""
    assert open_it(note, key) == TEXT


def test_other_signatures_are_passed_over(note: str, key: Ed25519PrivateKey) -> None:
    """Signatures of unknown keys do no harm beside ours."""
    other = Ed25519PrivateKey.generate()
    cosigned = notes.sign(TEXT, name="witness", key=other.public_key(), sign_bytes=other.sign)
    cosignature = cosigned.rpartition("\n\n")[2]

    assert open_it(note + cosignature, key) == TEXT
    with pytest.raises(ForbiddenError, match="not signed by a known key of stanch"):
        open_it(cosigned, key)


def test_changed_text_is_refused(note: str, key: Ed25519PrivateKey) -> None:
    """A signature of a known key that does not fit refuses the whole note."""
    with pytest.raises(ForbiddenError, match="signature by stanch is not valid"):
        open_it(note.replace("answer", "question"), key)


def test_another_name_is_another_key(note: str, key: Ed25519PrivateKey) -> None:
    """The same key under another name did not sign."""
    with pytest.raises(ForbiddenError, match="known key of other"):
        open_it(note, key, name="other")


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\n- stanch AAAA\n",
        "text\n\n— stanch A\n",
        "text\n\n— stanch AAAA",
        "te\x07xt\n\n— stanch AAAA\n",
        "text\n\n" + "— stanch AAAA\n" * 101,
        "text\n\n— stanch AAAA\n\n",
    ],
)
def test_what_is_no_note(broken: str, key: Ed25519PrivateKey) -> None:
    """Anything else is refused with a sentence."""
    with pytest.raises((InputError, ForbiddenError), match="note"):
        open_it(broken, key)


@pytest.mark.parametrize(
    ("text", "name"), [("no end", "a"), ("\r\n", "a"), ("a\n", ""), ("a\n", "a b"), ("a\n", "a+b")]
)
def test_what_cannot_be_signed(text: str, name: str, key: Ed25519PrivateKey) -> None:
    """A text or a name that would make the note ambiguous is refused."""
    with pytest.raises(InputError):
        notes.sign(text, name=name, key=key.public_key(), sign_bytes=key.sign)


def test_checkpoint_round_trip() -> None:
    """A checkpoint reads as it was written."""
    checkpoint = Checkpoint("stanch", 20852163, b"\x07" * 32)

    assert checkpoint.text == "stanch\n20852163\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n"
    assert Checkpoint.parse(checkpoint.text) == checkpoint


@pytest.mark.parametrize("size", ["", "-1", "01", "1e3", "99999999999999999999", " 1"])
def test_wrong_size(size: str) -> None:
    """A size is a plain decimal number."""
    with pytest.raises(InputError, match="not a checkpoint"):
        Checkpoint.parse(f"stanch\n{size}\n{'A' * 43}=\n")
