"""Signed notes and checkpoints in the C2SP formats (signed-note, tlog-checkpoint), with Ed25519."""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contracts.errors import ForbiddenError, InputError

ED25519 = b"\x01"
KEY_ID_LENGTH = 4
MOST_SIGNATURES = 100  # the format asks for at least 16; a bound keeps a hostile note cheap
_SIGNATURE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_CHECKPOINT = re.compile(r"([^\n]+)\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\n")


def note_key_id(name: str, key: Ed25519PublicKey) -> bytes:
    """Give the four bytes that name this key under this name in a note."""
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + raw).digest()[:KEY_ID_LENGTH]


def sign(text: str, *, name: str, key: Ed25519PublicKey, sign_bytes: Callable[[bytes], bytes]) -> str:
    """Sign a text that ends with a newline.

    Raises:
        InputError: The text or the name cannot be in a note.
    """
    if not text.endswith("\n") or not _is_printable(text):
        raise InputError("a note's text ends with a newline and holds no other control character")
    if not name or not re.fullmatch(r"[^\s+]+", name):
        raise InputError(f"{name!r} cannot be a key's name: it is empty, or has a space or a plus sign")
    signature = base64.b64encode(note_key_id(name, key) + sign_bytes(text.encode())).decode()
    return f"{text}\n— {name} {signature}\n"


def open_note(note: str, *, name: str, keys: Iterable[Ed25519PublicKey]) -> str:
    """Give the text of a note that one of the keys has signed under this name.

    Raises:
        InputError: It is not a note.
        ForbiddenError: None of the keys signed it, or a signature of one of them is not valid.
    """
    text, blank, block = note.rpartition("\n\n")
    lines = block.splitlines(keepends=True)
    if not blank or not lines or len(lines) > MOST_SIGNATURES or not _is_printable(note):
        raise InputError("not a signed note: a text, an empty line and signature lines are expected")
    text += "\n"
    known = {note_key_id(name, key): key for key in keys}
    signed = False
    for line in lines:
        match = _SIGNATURE.fullmatch(line.removesuffix("\n")) if line.endswith("\n") else None
        if match is None:
            raise InputError(f"not a signed note: {line.strip()[:80]!r} is not a signature line")
        try:
            raw = base64.b64decode(match[2], validate=True)
        except binascii.Error as error:
            raise InputError("not a signed note: a signature is not base64") from error
        key = known.get(raw[:KEY_ID_LENGTH]) if match[1] == name else None
        if key is None:
            continue
        try:
            key.verify(raw[KEY_ID_LENGTH:], text.encode())
        except InvalidSignature as error:
            raise ForbiddenError(f"the note's signature by {name} is not valid") from error
        signed = True
    if not signed:
        raise ForbiddenError(f"the note is not signed by a known key of {name}")
    return text


@dataclass(frozen=True)
class Checkpoint:
    """What a log says of itself: its origin, its size and the root of its tree."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Read a checkpoint's text; extension lines are not used in this log.

        Raises:
            InputError: It is not one.
        """
        match = _CHECKPOINT.fullmatch(text)
        if match is None:
            raise InputError("not a checkpoint: origin, size and base64 root are expected, one a line")
        return cls(match[1], int(match[2]), base64.b64decode(match[3]))


def _is_printable(text: str) -> bool:
    return all(character >= " " or character == "\n" for character in text)
