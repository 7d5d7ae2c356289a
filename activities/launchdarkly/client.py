"""LaunchDarkly over its REST API, observed through its own server SDK. SDK exceptions stop here."""

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote, urlencode

import urllib3
from pydantic import ConfigDict, Field, JsonValue, ValidationError
from pydantic.alias_generators import to_camel

from activities import wire
from activities.launchdarkly.models import AuditEntry, FlagSeen, SdkSight, SetFlag
from contracts.base import Frozen, JsonObject
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
FOLLOWERS_FRESH = 60.0  # seconds; they are for people to read, and a verification reads every few seconds
TURNED_AWAY: dict[int, str] = {
    HTTPStatus.CONFLICT: "somebody else is changing it right now",
    HTTPStatus.TOO_MANY_REQUESTS: "LaunchDarkly is throttling this account",
}
ModelT = TypeVar("ModelT", bound=Frozen)


class _Said(Frozen):
    """What the vendor says, by the vendor's names."""

    model_config = ConfigDict(alias_generator=to_camel)


class _Variation(_Said):
    value: JsonValue = None
    name: str | None = None


class _Serve(_Said):
    variation: int | None = None
    rollout: JsonObject | None = None


class _Targets(_Said):
    values: tuple[str, ...] = ()


class _Key(_Said):
    key: str


class _Config(_Said):
    on: bool
    version: int
    archived: bool = False
    last_modified: int = 0
    rules: tuple[JsonObject, ...] = ()
    targets: tuple[_Targets, ...] = ()
    context_targets: tuple[_Targets, ...] = ()
    fallthrough: _Serve | None = None
    off_variation: int | None = None
    prerequisites: tuple[_Key, ...] = ()


class _Flag(_Said):
    key: str
    name: str = ""
    creation_date: int = 0
    archived: bool = False
    variations: tuple[_Variation, ...] = ()
    environments: dict[str, _Config] = {}


class _Dependents(_Said):
    items: tuple[_Key, ...]


class _Access(_Said):
    action: str = ""
    resource: str = ""


class _Actor(_Said):
    first_name: str = ""
    last_name: str = ""
    name: str = ""
    email: str = ""

    @property
    def words(self) -> str:
        return f"{self.first_name} {self.last_name}".strip() or self.name or self.email


class _Entry(_Said):
    id: str = Field(alias="_id")
    date: int
    accesses: tuple[_Access, ...] = ()
    comment: str = ""
    title_verb: str = ""
    description: str = ""
    member: _Actor | None = None
    token: _Actor | None = None
    app: _Actor | None = None


class _Entries(_Said):
    items: tuple[_Entry, ...] = ()


class _Served(_Said):
    on: bool


class _AllServed(_Said):
    flags: dict[str, _Served] = {}


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
        self._newest: dict[tuple[str, str, str, int], int] = {}
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
        with contextlib.suppress(ActionRefusedError, ProviderUnavailableError):
            body = self._rest(project, "GET", path, key, headers={"LD-API-Version": "beta"})
            followers = tuple(item.key for item in _parsed(_Dependents, body, key).items)
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
        path = _path(request.project, request.key)
        what = f"{request.project}/{request.environment}/{request.key}"
        patch: JsonObject = {
            "environmentKey": request.environment,
            "comment": comment,
            "instructions": [{"kind": "turnFlagOn" if request.on else "turnFlagOff"}],
        }
        body = self._rest(
            request.project,
            "PATCH",
            path,
            what,
            {"dryRun": "true"} if dry_run else {},
            body=patch,
            headers={"Content-Type": SEMANTIC_PATCH},
            needs=f"updateOn on proj/{request.project}:env/{request.environment}:flag/{request.key}",
            changes=not dry_run,
        )
        if not dry_run:
            # What it says is for later reads only: by now the change is made.
            with contextlib.suppress(ActionRefusedError, ProviderUnavailableError):
                self._seen(request.project, request.environment, request.key, body)

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
        resources = [f"proj/{project}:env/{environment}:flag/{key}" for key in keys]
        policy: JsonValue = [{"effect": "allow", "resources": [*resources], "actions": ["*"]}]
        found: dict[str, AuditEntry] = {}
        query = {"after": str(int(since.timestamp() * 1000)), "limit": str(AUDIT_PAGE)}
        for _ in range(AUDIT_PAGES):
            body = self._rest(
                project,
                "POST",
                "/api/v2/auditlog",
                what,
                query,
                body=policy,
                needs="viewProject and the audit log",
            )
            items = _parsed(_Entries, body, what).items
            fresh = [item for item in items if item.id not in found]
            for item in fresh:
                found[item.id] = _audit_entry(item, project, environment, what)
            if len(items) < AUDIT_PAGE:
                return tuple(found.values()), True
            if not fresh:
                break
            # The bound is exclusive: without one more, entries of the same millisecond would be lost.
            query["before"] = str(items[-1].date + 1)
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
        flag = _parsed(_Flag, body, what)
        config = flag.environments.get(environment)
        if config is None:
            raise ActionRefusedError(f"{what}: project {project} has no environment {environment}")
        # A flag that was deleted and made again counts anew, hence its time of creation.
        place = (project, environment, key, flag.creation_date)
        newest = self._newest[place] = max(self._newest.get(place, 0), config.version)
        if config.version < newest:
            raise ProviderUnavailableError(
                f"{what}: LaunchDarkly answered with version {config.version}, but {newest} was seen before"
            )
        return FlagSeen(
            project=project,
            environment=environment,
            key=key,
            name=one_line(flag.name, LONGEST_SAID) or key,
            on=config.on,
            version=config.version,
            archived=flag.archived or config.archived,
            serves_off=_variation(flag, config.off_variation),
            serves_else=_serves(flag, config.fallthrough),
            rules=len(config.rules),
            targets=sum(len(targets.values) for targets in (*config.targets, *config.context_targets)),
            prerequisites=tuple(prerequisite.key for prerequisite in config.prerequisites),
            modified_at=_time(config.last_modified, what) if config.last_modified else None,
        )

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
        served = _parsed(_AllServed, answer.content, what).flags.get(key)
        return None if served is None else served.on

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
        if status in TURNED_AWAY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
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


def _path(*segments: str) -> str:
    return "/".join(("/api/v2/flags", *(quote(segment, safe="") for segment in segments)))


def _parsed(model: type[ModelT], body: bytes, what: str) -> ModelT:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise ProviderUnavailableError(
            f"{what}: LaunchDarkly's answer is not what its API promises"
        ) from error


def _time(milliseconds: int, what: str) -> datetime:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ProviderUnavailableError(f"{what}: LaunchDarkly's answer has an impossible time") from error


def _variation(flag: _Flag, index: int | None) -> str | None:
    if index is None or not 0 <= index < len(flag.variations):
        return None
    variation = flag.variations[index]
    value = one_line(json.dumps(variation.value, ensure_ascii=False), LONGEST_SAID)
    return f"{one_line(variation.name, LONGEST_SAID)} ({value})" if variation.name else value


def _serves(flag: _Flag, serve: _Serve | None) -> str | None:
    if serve is not None and serve.rollout is not None:
        return "a percentage rollout"
    return _variation(flag, serve.variation if serve else None)


def _audit_entry(entry: _Entry, project: str, environment: str, what: str) -> AuditEntry:
    actor = next(
        (one.words for one in (entry.member, entry.token, entry.app) if one and one.words), "somebody"
    )
    return AuditEntry(
        id=entry.id,
        at=_time(entry.date, what),
        actions=tuple(
            (access.action, key)
            for access in entry.accesses
            if (key := _flag_key(access.resource, project, environment)) is not None
        ),
        by=one_line(actor, LONGEST_SAID),
        verb=one_line(entry.title_verb, LONGEST_SAID),
        description=entry.description[:2000],
        comment=one_line(entry.comment, LONGEST_SAID),
    )


def _flag_key(resource: str, project: str, environment: str) -> str | None:
    """Read the flag out of ``proj/shop:env/production:flag/new-search;tag``; ``*`` stands for every one."""
    parts = [part.partition(";")[0].partition("/") for part in resource.split(":")]
    named = {kind: name for kind, _, name in parts}
    if named.get("proj") not in (project, "*") or named.get("env") not in (environment, "*"):
        return None
    return named.get("flag")
