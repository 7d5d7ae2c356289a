"""What pages send: forms, read with care, and where a browser goes afterwards."""

import re
from collections.abc import Callable
from typing import Annotated, Final
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from starlette.responses import RedirectResponse, Response

from contracts.errors import InputError
from gateway.identity import Identity, Session

_LARGEST: Final = 64 * 1024
_MOST_FIELDS: Final = 64
_OWN_PATH = re.compile(r"/(?!/)[A-Za-z0-9/._-]*")


async def read(request: Request) -> dict[str, str]:
    """Read a form.

    Raises:
        InputError: It is none, or too large.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise InputError("send the form as application/x-www-form-urlencoded")
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > _LARGEST:
            raise InputError(f"the form is larger than {_LARGEST} bytes")
    try:
        fields = parse_qsl(
            content.decode("utf-8"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"
        )
    except ValueError as error:
        raise InputError("the form cannot be read: reload the page and send it again") from error
    return dict(fields)


Filled = Annotated[dict[str, str], Depends(read)]
"""What a route takes that reads a form."""


def sender(identity: Identity) -> Callable[..., Session]:
    """Give what a route depends on to know who sent its form, from a page of their own session."""

    def sent(
        request: Request, session: Annotated[Session, Depends(identity.session)], form: Filled
    ) -> Session:
        identity.check_form(request, session, form.get("token", ""))
        return session

    return sent


def own_path(path: str) -> str:
    """Give a path of ours to go to; anything that could lead elsewhere becomes the start page."""
    return path if _OWN_PATH.fullmatch(path) else "/"


def see(path: str) -> Response:
    """Send a browser to a page."""
    return RedirectResponse(path, status_code=303)
