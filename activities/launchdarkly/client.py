"""LaunchDarkly over its REST API, observed through its own server SDK. SDK exceptions stop here."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from pydantic import JsonValue

from activities import wire
from activities.launchdarkly.models import AuditEntry, FlagSeen, SdkSight, SetFlag
from contracts.base import JsonObject
from contracts.catalogue import LaunchDarklyProject
from contracts.errors import ActionRefusedError, InputError, ProviderUnavailableError, one_line

API_VERSION = "20240415"
SEMANTIC_PATCH = "application/json; domain-model=launchdarkly.semanticpatch"
SDK_BASE = "https://sdk.launchdarkly.com"
SDK_STREAM = "https://stream.launchdarkly.com"
LARGEST_ANSWER = 32 * 1024 * 1024  # a whole environment's flags come in one answer
LONGEST_SAID = 200  # characters of the provider's own words that go into our sentence
AUDIT_PAGE = 20  # the vendor's maximum
AUDIT_PAGES = 5
TARGETING = ("rules", "targets", "contextTargets", "fallthrough", "offVariation", "prerequisites")
FOLLOWERS_FRESH = 60.0  # seconds; they are for people to read, and a verification reads every few seconds
Json = Mapping[str, Any]
TURNED_AWAY: dict[int, str] = {
    HTTPStatus.CONFLICT: "somebody else is changing it right now",
    HTTPStatus.TOO_MANY_REQUESTS: "LaunchDarkly is throttling this account",
}


class _Observer:
    """One connected server SDK, and since when it has disagreed with what polling SDKs are given."""

    def __init__(self, sdk_key: str, base: str, stream: str, start_wait: float) -> None:
        # Only a project with an SDK key pays for the SDK.
        from ldclient import Config, Context, LDClient  # noqa: PLC0415  (see the comment above)

        self.stale_since: float | None = None
        self._context = Context.create("stanch-observer")
        self._sdk = LDClient(
            Config(sdk_key, base_uri=base, stream_uri=stream, send_events=False, diagnostic_opt_out=True),
            start_wait=start_wait,
        )

    def on(self, key: str) -> bool | None:
        """Say whether the SDK has the flag on; ``None`` when it has no such flag or no data yet."""
        if not self._sdk.is_initialized():
            return None
        kind = (self._sdk.variation_detail(key, self._context, None).reason or {}).get("kind")
        return None if kind == "ERROR" else kind != "OFF"

    def close(self) -> None:
        self._sdk.close()  # type: ignore[no-untyped-call]


class LaunchDarklyClient:
    """What the catalogue's LaunchDarkly projects say and do. Used from threads.

    Changes are sent once: nothing is repeated here. A semantic patch has no precondition of its own, but it
    touches nothing except what it names, and turning off a flag that is off is a no-op for the vendor.

    Args:
        projects: The catalogue's projects.
        secret: Gives the content of the environment variable that the catalogue names.
        clock: The time now, in UTC.
        connect_timeout: Seconds.
        read_timeout: Seconds to wait for the next bytes of an answer to a read.
        change_timeout: The same for a change.
        sdk_wait: Seconds to wait for the SDK's first data.
        stale_after: Seconds after which a stream that lags behind polling is connected anew.
    """

    def __init__(
        self,
        projects: Iterable[LaunchDarklyProject],
        *,
        secret: Callable[[str], str],
        clock: Callable[[], datetime],
        connect_timeout: float = 2.0,
        read_timeout: float = 4.0,
        change_timeout: float = 10.0,
        sdk_wait: float = 3.0,
        stale_after: float = 10.0,
    ) -> None:
        self._projects = {project.project: project for project in projects}
        self._secret = secret
        self._clock = clock
        self._read_timeout = read_timeout
        self._change_timeout = change_timeout
        self._sdk_wait = sdk_wait
        self._stale_after = stale_after
        self._http = urllib3.PoolManager(retries=False, maxsize=8)
        self._exchange = partial(wire.exchange, self._http, connect=connect_timeout, largest=LARGEST_ANSWER)
        self._observers: dict[str, _Observer] = {}
        self._observing = threading.Lock()
        self._newest: dict[tuple[str, str, str, str], int] = {}
        self._followers: dict[tuple[str, str, str], tuple[float, tuple[str, ...] | None]] = {}

    def close(self) -> None:
        """Let go of every connection and of the SDK's threads."""
        with self._observing:
            for observer in self._observers.values():
                observer.close()
            self._observers.clear()
        self._http.clear()

    def now(self) -> datetime:
        """Give the time now (UTC)."""
        return self._clock()

    def flag(self, project: str, environment: str, key: str) -> FlagSeen:
        """Read a flag.

        Raises:
            ActionRefusedError: There is no such flag or environment, or the token may not read it.
            ProviderUnavailableError: No usable answer.
        """
        what, needs = f"{project}/{environment}/{key}", f"viewProject on proj/{project}"
        body = self._rest(project, "GET", _path(project, key), what, {"env": environment}, needs=needs)
        return self._seen(project, environment, key, body)

    def dependents(self, project: str, environment: str, key: str) -> tuple[str, ...] | None:
        """Name the flags that have this one as prerequisite.

        Returns:
            ``None`` when that cannot be known: the vendor sells it with some plans only, and as beta.
        """
        place = (project, environment, key)
        known = self._followers.get(place)
        if known is not None and time.monotonic() - known[0] < FOLLOWERS_FRESH:
            return known[1]
        path = _path(*place, "dependent-flags")
        followers: tuple[str, ...] | None = None
        with suppress(ActionRefusedError, ProviderUnavailableError):
            body = self._rest(project, "GET", path, key, headers={"LD-API-Version": "beta"})
            with _read(body, key) as said:
                followers = tuple(str(item["key"]) for item in said["items"])
        self._followers[place] = time.monotonic(), followers
        return followers

    def set_flag(self, request: SetFlag, *, comment: str, dry_run: bool = False) -> None:
        """Send the change once, as a semantic patch.

        Args:
            request: The desired state.
            comment: What stands in LaunchDarkly's own audit log.
            dry_run: Only ask whether it would be accepted.

        Raises:
            ActionRefusedError: LaunchDarkly said no; nothing was changed.
            ProviderUnavailableError: See its ``may_have_applied``.
        """
        project, environment, key = request.project, request.environment, request.key
        instructions: JsonValue = [{"kind": "turnFlagOn" if request.on else "turnFlagOff"}]
        patch: JsonObject = {"environmentKey": environment, "comment": comment, "instructions": instructions}
        what, query = f"{project}/{environment}/{key}", {"dryRun": "true"} if dry_run else {}
        sent = {"Content-Type": SEMANTIC_PATCH}
        needs = f"updateOn on {_resource(project, environment, key)}"
        ask = partial(self._rest, project, "PATCH", _path(project, key), what, query, needs=needs)
        body = ask(body=patch, headers=sent, changes=not dry_run)
        if not dry_run:
            # What it says is for later reads only: by now the change is made.
            with suppress(ActionRefusedError, ProviderUnavailableError):
                self._seen(project, environment, key, body)

    def audit(
        self, project: str, environment: str, keys: Sequence[str], since: datetime
    ) -> tuple[tuple[AuditEntry, ...], bool]:
        """Give the flags' entries of the audit log since then, newest first.

        Returns:
            The entries, and whether that is all of them: only the newest hundred are read.

        Raises:
            ActionRefusedError: The token may not read the audit log.
            ProviderUnavailableError: No usable answer.
        """
        what = f"audit log of {project}/{environment}"
        resources: JsonValue = [_resource(project, environment, key) for key in keys]
        policy: JsonValue = [{"effect": "allow", "resources": resources, "actions": ["*"]}]
        needs = "viewProject and the audit log"
        found: dict[str, AuditEntry] = {}
        query = {"after": str(int(since.timestamp() * 1000)), "limit": str(AUDIT_PAGE)}
        for _ in range(AUDIT_PAGES):
            body = self._rest(project, "POST", "/api/v2/auditlog", what, query, body=policy, needs=needs)
            before = len(found)
            with _read(body, what) as said:
                items: Sequence[Json] = said.get("items") or ()
                entries = [_audit_entry(item, project, environment) for item in items]
                found |= {entry.id: entry for entry in entries if entry.id not in found}
                if len(items) < AUDIT_PAGE:
                    return tuple(found.values()), True
                # The bound is exclusive: without one more, entries of the same millisecond would be lost.
                query["before"] = str(items[-1]["date"] + 1)
            if len(found) == before:
                break
        return tuple(found.values()), False

    def sight(self, seen: FlagSeen) -> SdkSight | None:
        """Say what SDKs have of a flag that was just read through the API.

        Returns:
            ``None`` when the catalogue configures no observation for this environment.
        """
        project = self._project(seen.project)
        if project.sdk_key_env is None or project.sdk_environment not in (None, seen.environment):
            return None
        try:
            sdk_key = self._credential(project.sdk_key_env)
        except ActionRefusedError as error:
            return SdkSight(problem=str(error))
        base = (project.sdk or project.stream or SDK_BASE).rstrip("/")
        stream = (project.stream or SDK_STREAM).rstrip("/")
        connect = partial(_Observer, sdk_key, base, stream, self._sdk_wait)
        with self._observing:
            observer = self._observers.get(seen.project)
            if observer is None:
                observer = self._observers[seen.project] = connect()
            on = observer.on(seen.key)
            if on == seen.on:
                observer.stale_since = None
                return SdkSight(stream=on)
            try:
                polled = self._polled(base, sdk_key, seen.key)
            except ActionRefusedError:
                return SdkSight(problem=f"LaunchDarkly refuses the SDK key in {project.sdk_key_env}")
            except ProviderUnavailableError:
                return SdkSight(stream=on)
            if polled == seen.on and self._is_stale(observer):
                # Our own connection may be the one that hangs; a new one begins with all flags as they are.
                observer.close()
                observer = self._observers[seen.project] = connect()
                on = observer.on(seen.key)
            return SdkSight(stream=on, polled=polled)

    def _seen(self, project: str, environment: str, key: str, body: bytes) -> FlagSeen:
        """Read a flag out of an answer; an older version than one already seen is no answer."""
        what = f"{project}/{environment}/{key}"
        with _read(body, what) as flag:
            config = (flag.get("environments") or {}).get(environment)
            if config is None:
                raise ActionRefusedError(f"{what}: project {project} has no environment {environment}")
            targets = [*(config.get("targets") or ()), *(config.get("contextTargets") or ())]
            modified = config.get("lastModified")
            targeting = json.dumps([config.get(name) for name in TARGETING], sort_keys=True)
            seen = FlagSeen(
                project=project,
                environment=environment,
                key=key,
                name=one_line(flag.get("name") or "", LONGEST_SAID) or key,
                on=config["on"],
                version=config["version"],
                archived=flag.get("archived") or config.get("archived") or False,
                serves_off=_variation(flag, config.get("offVariation")),
                serves_else=_serves(flag, config.get("fallthrough") or {}),
                rules=len(config.get("rules") or ()),
                targets=sum(len(one.get("values") or ()) for one in targets),
                prerequisites=tuple(one["key"] for one in config.get("prerequisites") or ()),
                targeting=hashlib.sha256(targeting.encode()).hexdigest()[:16],
                modified_at=_time(modified) if modified else None,
            )
            # A flag that was deleted and made again counts anew, hence its time of creation.
            place = (project, environment, key, str(flag.get("creationDate")))
        newest = self._newest[place] = max(self._newest.get(place, 0), seen.version)
        if seen.version < newest:
            raise ProviderUnavailableError(
                f"{what}: LaunchDarkly answered with version {seen.version}, but {newest} was seen before"
            )
        return seen

    def _is_stale(self, observer: _Observer) -> bool:
        now = time.monotonic()
        if observer.stale_since is None:
            observer.stale_since = now
        return now - observer.stale_since >= self._stale_after

    def _polled(self, base: str, sdk_key: str, key: str) -> bool | None:
        url, what = f"{base}/sdk/latest-all", "flags for SDKs"
        key_of_sdk = {"Authorization": sdk_key}
        answer = self._exchange("GET", url, what=what, headers=key_of_sdk, read=self._read_timeout)
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise ActionRefusedError(f"{what}: LaunchDarkly answered {answer.status}")
        if answer.status != HTTPStatus.OK:
            return None
        with _read(answer.content, what) as said:
            served = (said.get("flags") or {}).get(key)
            return None if served is None else served["on"] is True

    def _project(self, name: str) -> LaunchDarklyProject:
        project = self._projects.get(name)
        if project is None:
            raise ActionRefusedError(f"LaunchDarkly project {name}: not in the catalogue")
        return project

    def _credential(self, variable: str) -> str:
        try:
            value = self._secret(variable).strip()
        except InputError as error:
            raise ActionRefusedError(str(error)) from error
        if not (value.isascii() and value.isprintable()):
            raise ActionRefusedError(f"{variable}: holds characters that no LaunchDarkly credential has")
        return value

    def _rest(
        self,
        project: str,
        method: str,
        path: str,
        what: str,
        query: Mapping[str, str] | None = None,
        *,
        body: JsonValue = None,
        headers: Mapping[str, str] | None = None,
        needs: str = "",
        changes: bool = False,
    ) -> bytes:
        """Ask the REST API once; give the body of a 2xx, or say what another answer means."""
        entry = self._project(project)
        url = entry.api.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
        sent = {
            "Authorization": self._credential(entry.token_env),
            "LD-API-Version": API_VERSION,
            "Content-Type": "application/json",
            **(headers or {}),
        }
        answer = self._exchange(
            method,
            url,
            what=what,
            headers=sent,
            body=None if body is None else json.dumps(body).encode(),
            read=self._change_timeout if changes else self._read_timeout,
            changes=changes,
        )
        if answer.ok:
            return answer.content
        status, words = answer.status, answer.field("message")
        said = f" (it says: {one_line(words, LONGEST_SAID)})" if isinstance(words, str) and words else ""
        slow = status == HTTPStatus.REQUEST_TIMEOUT  # it may have arrived in full
        if status in TURNED_AWAY or slow or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ProviderUnavailableError(
                f"{what}: {TURNED_AWAY.get(status, f'LaunchDarkly answered {status}')}{said}",
                may_have_applied=changes and status not in TURNED_AWAY,
                retry_after=self._retry_after(answer.headers),
            )
        no: dict[int, str] = {
            HTTPStatus.UNAUTHORIZED: f"LaunchDarkly refuses the token in {entry.token_env}{said}",
            HTTPStatus.FORBIDDEN: f"the token in {entry.token_env} lacks {needs}{said}",
            HTTPStatus.NOT_FOUND: f"not found in LaunchDarkly{said}",
        }
        if method == "PATCH":
            no[HTTPStatus.METHOD_NOT_ALLOWED] = (
                f"LaunchDarkly wants its own approval for changes in this environment{said}; "
                "approve it there, or give the token's role bypassRequiredApproval"
            )
            no[HTTPStatus.BAD_REQUEST] = (
                "LaunchDarkly turned it down, as it does when a scheduled change or a pending approval "
                f"request of the flag would fail{said}; settle that one in LaunchDarkly first"
            )
        raise ActionRefusedError(f"{what}: {no.get(status, f'LaunchDarkly answered {status}{said}')}")

    def _retry_after(self, headers: Mapping[str, str]) -> float | None:
        """Read how long to wait: from ``Retry-After``, or else until the end of the rate window."""
        now, reset = self._clock(), headers.get("X-Ratelimit-Reset", "")
        left = int(reset) / 1000 - now.timestamp() if re.fullmatch("[0-9]{1,15}", reset) else None
        after = headers.get("Retry-After") or ("" if left is None else f"{max(left, 0):.3f}")
        return wire.retry_after(after, now)


def _resource(project: str, environment: str, key: str) -> str:
    return f"proj/{project}:env/{environment}:flag/{key}"


def _path(*segments: str) -> str:
    return "/".join(("/api/v2/flags", *(quote(segment, safe="") for segment in segments)))


def _read(body: bytes, what: str) -> AbstractContextManager[Any]:
    """Give an answer, to be read within this; a field that is ``null`` is one that is not there."""
    return wire.reading(body, f"{what}: LaunchDarkly's answer is not what its API promises")


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _variation(flag: Json, index: int | None) -> str | None:
    variations = flag.get("variations") or ()
    if index is None or not 0 <= index < len(variations):
        return None
    variation = variations[index]
    value = one_line(json.dumps(variation.get("value"), ensure_ascii=False), LONGEST_SAID)
    name = variation.get("name")
    return f"{one_line(name, LONGEST_SAID)} ({value})" if name else value


def _serves(flag: Json, serve: Json) -> str | None:
    return "a percentage rollout" if serve.get("rollout") else _variation(flag, serve.get("variation"))


def _audit_entry(entry: Json, project: str, environment: str) -> AuditEntry:
    actors = (_actor(entry.get(kind) or {}) for kind in ("member", "token", "app"))
    accesses = entry.get("accesses") or ()
    flags = [_flag_key(access.get("resource") or "", project, environment) for access in accesses]
    return AuditEntry(
        id=entry["_id"],
        at=_time(entry["date"]),
        actions=tuple(
            (access.get("action") or "", key)
            for access, key in zip(accesses, flags, strict=True)
            if key is not None
        ),
        by=one_line(next(filter(None, actors), "somebody"), LONGEST_SAID),
        verb=one_line(entry.get("titleVerb") or "", LONGEST_SAID),
        description=(entry.get("description") or "")[:2000],
        comment=one_line(entry.get("comment") or "", LONGEST_SAID),
    )


def _actor(actor: Json) -> str:
    names = " ".join(filter(None, (actor.get("firstName"), actor.get("lastName"))))
    return names or actor.get("name") or actor.get("email") or ""


def _flag_key(resource: str, project: str, environment: str) -> str | None:
    """Read the flag out of ``proj/shop:env/production:flag/new-search;tag``; ``*`` stands for every one."""
    parts = [part.partition(";")[0].partition("/") for part in resource.split(":")]
    named = {kind: name for kind, _, name in parts}
    if named.get("proj") not in (project, "*") or named.get("env") not in (environment, "*"):
        return None
    return named.get("flag")
