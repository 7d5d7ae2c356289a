"""What pages send: forms, read with care, and where a browser goes afterwards."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, TypeVar
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError
from starlette.responses import RedirectResponse, Response

from contracts.errors import InputError, first_wrong
from gateway.sources.reading import storable

EnumT = TypeVar("EnumT", bound=StrEnum)
ModelT = TypeVar("ModelT", bound=BaseModel)

_MOST_FIELDS: Final = 64
_DIGITS: Final = 6
LONGEST_LINE: Final = 16_000  # a limit may be a whole pod template; what is larger than an order never comes
_OWN_PATH = re.compile(r"/(?!/)[A-Za-z0-9/._-]*")


async def read(request: Request) -> dict[str, str]:
    """Read a form.

    Raises:
        InputError: It is none.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise InputError("send the form as application/x-www-form-urlencoded")
    try:
        text = (await request.body()).decode()
        fields = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise InputError("the form cannot be read: reload the page and send it again") from error
    return dict(fields)


Filled = Annotated[dict[str, str], Depends(read)]
"""What a route takes that reads a form."""


def choice(kind: type[EnumT], text: str) -> EnumT:
    """Read one of several.

    Raises:
        InputError: It is none of them.
    """
    try:
        return kind(text)
    except ValueError as error:
        raise InputError(f"choose one of {', '.join(kind)}") from error


def lines(form: Mapping[str, str], name: str) -> list[str]:
    """Give the lines of a field that are not empty, whole: half a limit would be another one.

    Raises:
        InputError: One of them is too long.
    """
    found = [line.strip() for line in form.get(name, "").split("\n") if line.strip()]  # a string has others
    for line in found:
        if len(line) > LONGEST_LINE:
            raise InputError(f"{name}: {line[:40]!r}... has more than {LONGEST_LINE} characters: shorten it")
    return [storable(line, LONGEST_LINE) for line in found]


def number(form: Mapping[str, str], name: str) -> int:
    """Read a whole number.

    Raises:
        InputError: It is none.
    """
    text = form.get(name, "").strip()
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
        raise InputError(f"{name}: {text[:40]!r} is no whole number")
    return int(text)


def model(kind: type[ModelT], **content: object) -> ModelT:
    """Make a model of what a form says.

    Raises:
        InputError: It cannot be that; the sentence names the field.
    """
    try:
        return kind(**content)
    except ValidationError as error:
        raise InputError(first_wrong(error)) from error


def own_path(path: str) -> str:
    """Give a path of ours to go to; anything that could lead elsewhere becomes the start page."""
    return path if _OWN_PATH.fullmatch(path) else "/"


def see(path: str) -> Response:
    """Send a browser to a page."""
    return RedirectResponse(path, status_code=303)
