"""A URL, asked once, and a hook, told once. HTTP exceptions stop here."""

import base64
import binascii
import hmac
import json
import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from http import HTTPStatus

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, NameResolutionError

from activities import wire
from activities.http.models import Answer, CallHook, HookStatus
from contracts import errors
from contracts.catalogue import Hook

LARGEST_ANSWER = 64 * 1024  # a status is a few lines
LARGEST_SAID = 200  # characters of the endpoint's own words that go into our sentence
SECRET = range(24, 65)  # bytes, as Standard Webhooks has it


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
            raise errors.ActionRefusedError(f"{url[:300]}: not in the catalogue's checks")
        if not url.lower().startswith(("http://", "https://")):
            raise errors.ActionRefusedError(f"{url[:300]}: only http and https are asked")
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
            raise errors.ActionRefusedError(f"{url[:300]}: not a URL: {error}") from error
        except HTTPError as error:
            return Answer(
                seconds=time.monotonic() - begun,
                problem=wire.problem(error),
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
            raise errors.ActionRefusedError(f"hook {name}: not in the catalogue")
        return hook

    def status(self, hook: Hook) -> HookStatus | None:
        """Ask how things are.

        Raises:
            ActionRefusedError: The endpoint says no, or the secret is not usable.
            ProviderUnavailableError: No usable answer.
        """
        if hook.status_url is None:
            return None
        answer = self._ask("GET", hook, hook.status_url, f"look-{time.time_ns()}")
        if answer.status != HTTPStatus.OK:
            raise self._no(hook, answer, changes=False)
        otherwise = f"hook {hook.name}: {hook.status_url} answers something else than a status"
        with wire.reading(answer.content, otherwise) as said:
            return HookStatus.model_validate(said)

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
        answer = self._ask("POST", hook, hook.url, action_id, body)
        if not answer.ok:
            raise self._no(hook, answer, changes=True)
        if answer.field("action_id") != action_id:
            # A login page or a load balancer also answers 200: only the endpoint knows what it was asked.
            raise errors.ProviderUnavailableError(
                f"hook {hook.name}: it answers {answer.status}, but not with our action_id:"
                " is that the endpoint?",
                may_have_applied=True,
            )

    def _key(self, hook: Hook) -> bytes:
        try:
            secret = self._secret(hook.secret_env).strip()
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except errors.InputError as error:
            raise errors.ActionRefusedError(f"hook {hook.name}: {error}") from error
        except (binascii.Error, ValueError):
            key = b""
        if len(key) not in SECRET:
            raise errors.ActionRefusedError(
                f"hook {hook.name}: {hook.secret_env} holds no signing secret;"
                " it is whsec_ and the base64 of 24 to 64 bytes"
            )
        return key

    def _ask(self, method: str, hook: Hook, url: str, message: str, body: bytes = b"") -> wire.Answer:
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
        self, method: str, hook: Hook, url: str, headers: dict[str, str], body: bytes = b""
    ) -> wire.Answer:
        changes = method == "POST"
        with urllib3.PoolManager(retries=False) as http:
            return wire.exchange(
                http,
                method,
                url,
                what=f"hook {hook.name}",
                headers={"User-Agent": "stanch", "Connection": "close", **headers},
                body=body or None,
                connect=self._connect_timeout,
                read=self._change_timeout if changes else self._read_timeout,
                largest=LARGEST_ANSWER,
                changes=changes,
                cut=True,
            )

    def _no(self, hook: Hook, answer: wire.Answer, *, changes: bool) -> Exception:
        """Say what another answer than 2xx means."""
        status, detail = answer.status, errors.one_line(answer.field("detail") or "", LARGEST_SAID)
        answered = f"hook {hook.name}: it answers {status}{f' (it says: {detail})' if detail else ''}"
        if (
            status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
            or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        ):
            return errors.ProviderUnavailableError(
                answered,
                may_have_applied=changes and status != HTTPStatus.TOO_MANY_REQUESTS,
                retry_after=wire.retry_after(answer.headers.get("Retry-After", ""), self._clock()),
            )
        if answer.redirects:
            return errors.ActionRefusedError(
                f"{answered}, and redirects are not followed: write its final URL in the catalogue"
            )
        if status in (HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED) and hook.status_url is not None:
            return errors.PreconditionFailedError(answered)
        return errors.ActionRefusedError(answered)
