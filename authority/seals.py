"""Canonical JSON (RFC 8785) and the digests made of it: what is shown is what is signed is what runs."""

import hashlib

import rfc8785
from pydantic import BaseModel, JsonValue


def canonical(value: BaseModel | JsonValue) -> bytes:
    """Give the canonical JSON of a model or a JSON value.

    Raises:
        ValueError: The value has no canonical form (NaN, an integer beyond 2**53, a lone surrogate).
    """
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return rfc8785.dumps(plain)


def digest(value: BaseModel | JsonValue) -> str:
    """Give the SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()
