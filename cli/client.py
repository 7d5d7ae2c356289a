"""The terminal's way to the gateway: HTTP with a token, and every failure as one sentence."""

import argparse
import json
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

import urllib3
from pydantic import JsonValue, TypeAdapter, ValidationError

from cli import show
from contracts import errors
from contracts.base import JsonObject
from runtime import settings as configuration
from runtime.settings import Settings

ModelT = TypeVar("ModelT")

_ERRORS: dict[int, type[errors.StanchError]] = {
    401: errors.ForbiddenError,
    403: errors.ForbiddenError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    503: errors.ProviderUnavailableError,
}
_FAILED = 400
EXAMPLES = {
    "approval": "APR-7",
    "grant": "GRT-3",
    "incident": "INC-42",
    "mitigation": "INC-42/1",
    "token": "TOK-3",
}
_TIMEOUT = urllib3.Timeout(connect=5, read=180)  # planning looks at slow worlds


def add_options(
    parser: argparse.ArgumentParser, *, about: str = "", orders: bool = False, reason: bool = False
) -> None:
    """Add what verbs have in common; all of them have ``--json``.

    Args:
        parser: Where they are added.
        about: The name of the thing that it is about, one of ``EXAMPLES``.
        orders: A person gives an order with it, and says who they are.
        reason: The order needs a reason.
    """
    if about:
        parser.add_argument(about, metavar="ID", help=f"for example {EXAMPLES[about]}")
    if reason:
        parser.add_argument("--reason", required=True, help="kept with the evidence")
    if orders:
        who = "who you are, from the catalogue; else STANCH_PERSON"
        parser.add_argument("--as", dest="person", metavar="PERSON", help=who)
    show.add_json(parser)


def add_verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    call: Callable[[argparse.Namespace], int],
    *,
    about: str = "",
    orders: bool = False,
    reason: bool = False,
    **defaults: object,
) -> argparse.ArgumentParser:
    """Add a parser for one thing that a verb can do.

    Args:
        verbs: Where it is added.
        name: What a person types.
        text: What it does.
        call: Does it.
        about: As in ``add_options``.
        orders: The same.
        reason: The same.
        defaults: What ``call`` finds in its arguments besides.
    """
    parser = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    add_options(parser, about=about, orders=orders, reason=reason)
    parser.set_defaults(call=call, **defaults)
    return parser


class Gateway:
    """The gateway's HTTP interface, as one person.

    Args:
        settings: Where the gateway and the local token are.
        person: Who speaks; empty for looking only.
    """

    def __init__(self, settings: Settings, person: str = "") -> None:
        self._settings = settings
        self.url = _address(settings)
        self.person = person
        self._pool = urllib3.PoolManager(retries=False, timeout=_TIMEOUT)

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Gateway":
        """Make one for a command line; ``--as`` wins over STANCH_PERSON."""
        settings = configuration.load()
        return cls(settings, getattr(args, "person", None) or settings.person)

    def get(self, path: str, query: dict[str, str] | None = None, *, or_status: int = 0) -> JsonValue:
        """Read something.

        Args:
            path: Its path.
            query: The query's parameters.
            or_status: A status that is an answer here, not an error.

        Raises:
            StanchError: What the gateway said, or that it does not answer.
        """
        return self._json(self._request("GET", path, query=query, or_status=or_status))

    def text(self, path: str) -> str:
        """Read a text."""
        return self._request("GET", path).data.decode("utf-8", errors="replace")

    def post(self, path: str, body: JsonObject) -> JsonValue:
        """Tell it something; a person is needed.

        Raises:
            InputError: Nobody speaks.
            StanchError: What the gateway said, or that it does not answer.
        """
        self.check_person()
        return self._json(self._request("POST", path, body=body))

    def check_person(self) -> None:
        """Check that somebody speaks.

        Raises:
            InputError: Nobody does.
        """
        if not self.person and not self._settings.token:
            raise errors.InputError(
                "who are you? say --as PERSON or set STANCH_PERSON to an id of the catalogue"
            )

    def _token(self) -> str:
        if self._settings.token:
            return self._settings.token
        path = self._settings.local_token_path
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise errors.InputError(
                f"local token {path}: {error.strerror}; start the gateway with `stanch up`, "
                "set STANCH_HOME to its state folder, or STANCH_TOKEN to an API token"
            ) from error

    def _json(self, response: urllib3.BaseHTTPResponse) -> JsonValue:
        try:
            value: JsonValue = response.json()
        except ValueError as error:
            raise errors.InputError(f"{self.url} answers, but not as a Stanch gateway") from error
        return value

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: JsonObject | None = None,
        or_status: int = 0,
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Authorization": f"Bearer {self._token()}"}
        if self.person:
            headers["X-Stanch-Person"] = quote(self.person)
        try:
            response = self._pool.request(
                method, self.url + path, fields=query or None, json=body, headers=headers, redirect=False
            )
        except urllib3.exceptions.NewConnectionError as error:
            raise errors.ProviderUnavailableError(
                f"the gateway at {self.url} does not answer: start it with `stanch up`"
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise errors.ProviderUnavailableError(
                f"the gateway at {self.url} did not finish its answer: look at what it recorded, then repeat"
            ) from error
        if response.status >= _FAILED and response.status != or_status:
            raise _ERRORS.get(response.status, errors.InputError)(_sentence(response, self.url))
        return response


def _address(settings: Settings) -> str:
    """Give the gateway's URL; with port 0, `stanch up` has noted which one it was given."""
    if settings.public_url:
        return settings.public_url
    if settings.http_port:
        return settings.url
    try:
        noted: str = json.loads((settings.home / "run.json").read_text(encoding="utf-8"))["gateway"]
    except (OSError, ValueError, KeyError, TypeError):
        return settings.url
    return noted


def _sentence(response: urllib3.BaseHTTPResponse, url: str) -> str:
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return f"{url} answers {response.status}, and not as a Stanch gateway does"
    return show.clean(error)


def parse(kind: type[ModelT], value: JsonValue) -> ModelT:
    """Read an answer as a model.

    Raises:
        InputError: It is none.
    """
    try:
        return TypeAdapter(kind).validate_python(value, strict=False)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise errors.InputError(
            f"the gateway's answer is not understood ({where}): is it of another version than this stanch?"
        ) from error


def segment(name: str) -> str:
    """Give a name that a person typed as one segment of a path."""
    return quote(name, safe="")
