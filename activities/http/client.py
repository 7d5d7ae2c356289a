"""A URL, asked once, and a hook, told once. HTTP exceptions stop here."""

import base64
import binascii
import hmac
import json
import math
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import urllib3
from pydantic import ValidationError
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from activities.http.models import Answer, CallHook, HookStatus
from contracts.catalogue import Hook
from contracts.errors import (
    ActionRefusedError,
    InputError,
    PreconditionFailedError,
    ProviderUnavailableError,
)

PROBLEMS = (  # the first that fits; some are subclasses of others
    (NameResolutionError, "its name cannot be resolved from here"),
    (NewConnectionError, "the connection was refused"),
    (ConnectTimeoutError, "no connection in time"),
    (ReadTimeoutError, "connected, but no status in time"),
    (SSLError, "its certificate or TLS is not accepted"),
    (ProtocolError, "the connection was cut or what came is not HTTP"),
)

LARGEST_ANSWER = 64 * 1024  # a status is a few lines
LARGEST_SAID = 200  # characters of the endpoint's own words that go into our sentence
LONGEST_WAIT = 600.0  # seconds; longer than that no incident waits
SECRET = range(24, 65)  # bytes, as Standard Webhooks has it
OK, REDIRECT, BAD_REQUEST = 200, 300, 400
CONFLICT, PRECONDITION_FAILED, TOO_SLOW, THROTTLED, SERVER_ERROR = 409, 412, 408, 429, 500


class HttpClient:
    """Asks the catalogue's URLs and no others. Used from threads.

    Args:
        allowed: Every URL that may be asked.
    """

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = frozenset(allowed)

    def get(self, url: str, timeout: timedelta) -> Answer:
        """Ask once, on a fresh connection; the body is not read and redirects are not followed.

        Raises:
            ActionRefusedError: The catalogue does not have this URL, or it is not http or https.
        """
        if url not in self._allowed:
            raise ActionRefusedError(f"{url[:300]}: not in the catalogue's checks")
        if not url.lower().startswith(("http://", "https://")):
            raise ActionRefusedError(f"{url[:300]}: only http and https are asked")
        begun = time.monotonic()
        try:
            with urllib3.PoolManager(retries=False) as http:
                response = http.request(
                    "GET",
                    url,
                    headers={"User-Agent": "stanch", "Connection": "close"},
                    timeout=urllib3.Timeout(total=timeout.total_seconds()),
                    redirect=False,
                    preload_content=False,
                )
                response.close()
                return Answer(status=response.status, seconds=time.monotonic() - begun)
        except LocationValueError as error:
            raise ActionRefusedError(f"{url[:300]}: not a URL: {error}") from error
        except HTTPError as error:
            return Answer(
                seconds=time.monotonic() - begun,
                problem=_problem(error),
                known=not isinstance(error, NameResolutionError),
            )


class HookClient:
    """Tells the catalogue's hooks what is wanted, signed as Standard Webhooks has it. Used from threads.

    Nothing is repeated here, and every request has a connection of its own: one that is kept open may be cut
    at the moment it is used.

    Args:
        hooks: The catalogue's hooks.
        secret: Gives the content of the environment variable that the catalogue names.
        clock: The time now, in UTC.
        connect_timeout: Seconds.
        read_timeout: Seconds to wait for the answer to a read.
        change_timeout: The same for a request that changes something.
    """

    def __init__(
        self,
        hooks: Iterable[Hook],
        *,
        secret: Callable[[str], str],
        clock: Callable[[], datetime],
        connect_timeout: float = 2.0,
        read_timeout: float = 4.0,
        change_timeout: float = 10.0,
    ) -> None:
        self._hooks = {hook.name: hook for hook in hooks}
        self._secret = secret
        self._clock = clock
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._change_timeout = change_timeout

    def now(self) -> datetime:
        """Give the time now (UTC)."""
        return self._clock()

    def hook(self, name: str) -> Hook:
        """Find a hook.

        Raises:
            ActionRefusedError: The catalogue has none of this name.
        """
        hook = self._hooks.get(name)
        if hook is None:
            raise ActionRefusedError(f"hook {name}: not in the catalogue")
        return hook

    def status(self, hook: Hook) -> HookStatus | None:
        """Ask how things are.

        Raises:
            ActionRefusedError: The endpoint says no, or the secret is not usable.
            ProviderUnavailableError: No usable answer.
        """
        if hook.status_url is None:
            return None
        status, headers, content = self._ask("GET", hook, hook.status_url, f"look-{time.time_ns()}")
        if status != OK:
            self._raise(hook, status, headers, content, changes=False)
        try:
            return HookStatus.model_validate_json(content)
        except ValidationError as error:
            raise ProviderUnavailableError(
                f"hook {hook.name}: {hook.status_url} answers something else than a status"
            ) from error

    def check(self, hook: Hook) -> None:
        """See that the secret is usable and, where no status tells so, that somebody answers.

        Raises:
            ActionRefusedError: It is not.
            ProviderUnavailableError: Nobody answers.
        """
        self._key(hook)
        if hook.status_url is None:
            # Not signed, so that nobody takes it for an order; any answer will do.
            self._exchange("HEAD", hook, hook.url, {})

    def send(self, hook: Hook, request: CallHook, *, action_id: str) -> None:
        """Send the request once.

        Raises:
            PreconditionFailedError: The endpoint says that things are not as they were.
            ActionRefusedError: The endpoint says no; nothing was changed.
            ProviderUnavailableError: See its ``may_have_applied``.
        """
        asked = {
            "action_id": action_id,
            "incident": action_id.partition("/")[0],
            "name": hook.name,
            "desired": request.desired,
        }
        body = json.dumps(asked, sort_keys=True, separators=(",", ":")).encode()
        status, headers, content = self._ask("POST", hook, hook.url, action_id, body)
        if not OK <= status < REDIRECT:
            self._raise(hook, status, headers, content, changes=True)
        if _field(content, "action_id") != action_id:
            # A login page or a load balancer also answers 200: only the endpoint knows what it was asked.
            raise ProviderUnavailableError(
                f"hook {hook.name}: it answers {status}, but not with our action_id: is that the endpoint?",
                may_have_applied=True,
            )

    def _key(self, hook: Hook) -> bytes:
        try:
            secret = self._secret(hook.secret_env).strip()
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except InputError as error:
            raise ActionRefusedError(f"hook {hook.name}: {error}") from error
        except (binascii.Error, ValueError):
            key = b""
        if len(key) not in SECRET:
            raise ActionRefusedError(
                f"hook {hook.name}: {hook.secret_env} holds no signing secret;"
                " it is whsec_ and the base64 of 24 to 64 bytes"
            )
        return key

    def _ask(
        self, method: str, hook: Hook, url: str, message: str, body: bytes = b""
    ) -> tuple[int, Mapping[str, str], bytes]:
        at = str(int(self._clock().timestamp()))
        signature = hmac.digest(self._key(hook), b".".join([message.encode(), at.encode(), body]), "sha256")
        headers = {
            "webhook-id": message,
            "webhook-timestamp": at,
            "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
        }
        if method == "POST":
            headers |= {"Content-Type": "application/json", "Idempotency-Key": message}
        return self._exchange(method, hook, url, headers, body)

    def _exchange(
        self, method: str, hook: Hook, url: str, headers: Mapping[str, str], body: bytes = b""
    ) -> tuple[int, Mapping[str, str], bytes]:
        patience = self._change_timeout if method == "POST" else self._read_timeout
        timeout = urllib3.Timeout(connect=self._connect_timeout, read=patience)
        deadline = time.monotonic() + self._connect_timeout + patience
        sent = {"User-Agent": "stanch", "Connection": "close", **headers}
        try:
            with urllib3.PoolManager(retries=False) as http:
                response = http.request(
                    method,
                    url,
                    body=body or None,
                    headers=sent,
                    timeout=timeout,
                    redirect=False,
                    preload_content=False,
                )
                try:
                    content = _body(response, deadline)
                finally:
                    response.close()
        except LocationValueError as error:
            raise ActionRefusedError(f"hook {hook.name}: {url} is not a URL: {error}") from error
        except HTTPError as error:
            never_sent = isinstance(error, NewConnectionError | ConnectTimeoutError)
            raise ProviderUnavailableError(
                f"hook {hook.name}: no answer from {url}: {_problem(error)}",
                may_have_applied=method == "POST" and not never_sent,
            ) from error
        return response.status, response.headers, content

    def _raise(
        self, hook: Hook, status: int, headers: Mapping[str, str], content: bytes, *, changes: bool
    ) -> None:
        said = _clean(str(_field(content, "detail") or ""))
        answered = f"hook {hook.name}: it answers {status}{f' (it says: {said})' if said else ''}"
        if status in (TOO_SLOW, THROTTLED) or status >= SERVER_ERROR:
            raise ProviderUnavailableError(
                answered,
                may_have_applied=changes and status != THROTTLED,
                retry_after=_retry_after(headers.get("Retry-After", ""), self._clock()),
            )
        if REDIRECT <= status < BAD_REQUEST:
            raise ActionRefusedError(
                f"{answered}, and redirects are not followed: write its final URL in the catalogue"
            )
        if status in (CONFLICT, PRECONDITION_FAILED) and hook.status_url is not None:
            raise PreconditionFailedError(answered)
        raise ActionRefusedError(answered)


def _problem(error: HTTPError) -> str:
    return next((why for kind, why in PROBLEMS if isinstance(error, kind)), type(error).__name__)


def _body(response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    """Read an answer; one that is too long or trickles ends where it is."""
    content = bytearray()
    while chunk := response.read1(LARGEST_ANSWER):
        content += chunk
        if len(content) > LARGEST_ANSWER or time.monotonic() > deadline:
            break
    return bytes(content)


def _field(content: bytes, name: str) -> object:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return answer.get(name) if isinstance(answer, dict) else None


def _clean(text: str) -> str:
    """Make somebody else's words safe for one line of a log or a terminal."""
    return "".join(one if one.isprintable() else " " for one in text[:LARGEST_SAID]).strip()


def _retry_after(said: str, now: datetime) -> float | None:
    """Read how long to wait, in seconds or until a date."""
    try:
        if re.fullmatch(r"[0-9]{1,9}", said):
            return min(float(said), LONGEST_WAIT)
        wait = (parsedate_to_datetime(said) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return None if math.isnan(wait) else min(max(wait, 0.0), LONGEST_WAIT)
