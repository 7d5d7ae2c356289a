"""Who asks, as routes take it: a reader or a person of the API, who looks at a page, who sent its form."""

from typing import Annotated, Final

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from gateway.forms import Filled
from gateway.identity import Identity, Principal, Session


def _identity(connection: HTTPConnection) -> Identity:
    identity: Identity = connection.app.state.identity
    return identity


Knows = Annotated[Identity, Depends(_identity)]


def _reader(connection: HTTPConnection, identity: Knows) -> None:
    identity.reader(connection)


def _principal(connection: HTTPConnection, identity: Knows) -> Principal:
    return identity.principal(connection)


def _session(connection: HTTPConnection, identity: Knows) -> Session:
    return identity.session(connection)


By = Annotated[Principal, Depends(_principal)]
Looks = Annotated[Session, Depends(_session)]
READS: Final = [Depends(_reader)]


def _sender(request: Request, session: Looks, form: Filled, identity: Knows) -> Session:
    identity.check_form(request, session, form.get("token", ""))
    return session


Sent = Annotated[Session, Depends(_sender)]
"""Who sent a form, from a page of their own session."""
