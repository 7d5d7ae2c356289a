"""A LaunchDarkly to act on: REST, audit log, and the SDK's stream and polling, with faults on demand.

In a test: ``with FakeLaunchDarkly(clock) as ld: ...``. As a program, which keeps its flags in a file:
``python -m activities.launchdarkly.fake --port 8030 --state ld.json --flag shop/production/new-search=on``.
"""

import argparse
import copy
import json
import queue
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

SEMANTIC_PATCH = "domain-model=launchdarkly.semanticpatch"
HEARTBEAT = 5.0  # seconds
FLAG = re.compile(r"/api/v2/flags/([^/]+)/([^/]+)")
DEPENDENTS = re.compile(r"/api/v2/flags/([^/]+)/([^/]+)/([^/]+)/dependent-flags")


class Fault(StrEnum):
    """What can happen to a request instead of the right answer."""

    BAD_REQUEST = "bad_request"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    THROTTLED = "throttled"
    ERROR_BEFORE = "error_before"
    ERROR_AFTER = "error_after"
    TIMEOUT_BEFORE = "timeout_before"
    TIMEOUT_AFTER = "timeout_after"
    CUT_BEFORE = "cut_before"
    CUT_AFTER = "cut_after"
    STALE_READ = "stale_read"
    NONSENSE = "nonsense"


ERRORS = {
    Fault.BAD_REQUEST: (400, "invalid_request", "Invalid request body"),
    Fault.UNAUTHORIZED: (401, "unauthorized", "Invalid access token"),
    Fault.FORBIDDEN: (403, "forbidden", "Forbidden. Access to the requested resource was denied."),
    Fault.NOT_FOUND: (404, "not_found", "Invalid resource identifier"),
    Fault.CONFLICT: (409, "optimistic_locking_error", "Conflict. Optimistic lock error. Try again later."),
    Fault.THROTTLED: (429, "rate_limited", "You've exceeded the API rate limit. Try again later."),
    Fault.ERROR_BEFORE: (503, "service_unavailable", "Service unavailable"),
    Fault.ERROR_AFTER: (500, "internal_service_error", "Internal error"),
}
AFTER = (Fault.ERROR_AFTER, Fault.TIMEOUT_AFTER, Fault.CUT_AFTER, Fault.STALE_READ, Fault.NONSENSE)
Answer = tuple[int, Any]
Place = tuple[str, str, str]  # project, environment, key
SOMEBODY = "Ariel Flores"


class _Refused(Exception):  # noqa: N818  (an answer, not a mistake)
    def __init__(self, fault: Fault, message: str = "") -> None:
        status, code, usual = ERRORS[fault]
        super().__init__(message)
        self.answer: Answer = (status, {"code": code, "message": message or usual})


@dataclass
class Seen:
    """One request as it arrived, and what became of it.

    Attributes:
        status: What was answered; 0 when nothing was.
        changed: Whether it changed a flag: the witness of what arrived once.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    fault: Fault | None = None
    status: int = 0
    changed: bool = False


@dataclass
class _Planned:
    fault: Fault
    method: str
    path: str
    times: int


@dataclass
class State:
    """All that it remembers, as JSON.

    Attributes:
        tokens: API token to the role actions that it may do; ``*`` is all of them.
        names: API token to whom the audit log names; a token without a name is Stanch's.
        sdk_keys: Server SDK key to project and environment.
        flags: Project, then key, to the flag as REST gives it.
        approvals: ``project/environment`` where LaunchDarkly's own approval is required.
        scheduled: ``project/environment/key`` with a scheduled change that another change would break.
        audit: Entries, newest first.
    """

    tokens: dict[str, list[str]] = field(default_factory=lambda: {"api-token": ["*"]})
    names: dict[str, str] = field(default_factory=dict)
    sdk_keys: dict[str, list[str]] = field(default_factory=dict)
    flags: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    approvals: list[str] = field(default_factory=list)
    scheduled: list[str] = field(default_factory=list)
    audit: list[dict[str, Any]] = field(default_factory=list)


class FakeLaunchDarkly:
    """The server. Its attributes may be set at any time.

    Attributes:
        url: For REST, polling and stream alike.
        state: What it remembers.
        requests: Everything that arrived, in order.
        muted: True loses every stream event, while the stream stays connected.
        throttle_headers: What a 429 says besides the rate window's end.

    Args:
        clock: The time now, in UTC.
        port: 0 takes a free one.
        state: A file that is read at the start, if it exists, and written after every change.
        hold: Seconds for which a time-out keeps a connection open.
    """

    def __init__(
        self, clock: Callable[[], datetime], *, port: int = 0, state: Path | None = None, hold: float = 30.0
    ) -> None:
        self.clock = clock
        self.hold = hold
        self.closing = threading.Event()
        self.requests: list[Seen] = []
        self.muted = False
        self.throttle_headers: dict[str, str] = {}
        self._file = state
        self.state = State()
        if state is not None and state.exists():
            self.state = State(**json.loads(state.read_text(encoding="utf-8")))
        self._lock = threading.RLock()
        self._planned: list[_Planned] = []
        self._before: dict[tuple[str, str], dict[str, Any]] = {}
        self._streams: list[tuple[list[str], queue.Queue[str | None]]] = []
        self._server = _Server(("127.0.0.1", port), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="fake-launchdarkly"
        )
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self.drop_streams()
        self._server.shutdown()
        self._thread.join()
        self._server.cut_all()
        self._server.server_close()

    # What a test or a demo does to it.

    def add_flag(
        self,
        project: str,
        environment: str,
        key: str,
        *,
        on: bool = True,
        prerequisites: tuple[str, ...] = (),
    ) -> None:
        """Create a boolean flag that serves true while it is on, in one more environment."""
        with self._lock:
            flag = self.state.flags.setdefault(project, {}).setdefault(key, self._new_flag(key))
            flag["environments"][environment] = self._new_config(on=on, prerequisites=prerequisites)
            self._record((project, environment, key), "createFlag", "created the flag")
            self._publish((project, environment, key))

    def add_rule(self, project: str, environment: str, key: str) -> None:
        """Change the targeting as somebody else would."""
        self._patch((project, environment, key), [{"kind": "addRule"}])

    def turn(self, project: str, environment: str, key: str, *, on: bool, by: str = SOMEBODY) -> None:
        """Turn a flag on or off as somebody else would."""
        kind = "turnFlagOn" if on else "turnFlagOff"
        self._patch((project, environment, key), [{"kind": kind}], by=by)

    def fail(self, fault: Fault, *, method: str = "", path: str = "", times: int = 1) -> None:
        """Let this happen to the next requests with this method whose path contains this."""
        with self._lock:
            self._planned.append(_Planned(fault, method, path, times))

    def mend(self) -> None:
        """Forget the faults that have not happened yet."""
        with self._lock:
            self._planned.clear()

    def drop_streams(self) -> None:
        """Close every stream; SDKs connect again."""
        with self._lock:
            for _, events in self._streams:
                events.put(None)

    def config(self, project: str, environment: str, key: str) -> dict[str, Any]:
        """Give a flag's configuration as it really is."""
        config: dict[str, Any] = self.state.flags[project][key]["environments"][environment]
        return config

    def arrived(self, method: str) -> list[Seen]:
        """Give the requests with this method, dry runs left out."""
        with self._lock:
            return [seen for seen in self.requests if seen.method == method and "dryRun" not in seen.query]

    # How it answers.

    def planned(self, method: str, path: str) -> Fault | None:
        """Take the next fault that is meant for such a request."""
        with self._lock:
            for plan in self._planned:
                if plan.method in ("", method) and plan.path in path and not path.startswith("/_fake/"):
                    plan.times -= 1
                    if plan.times == 0:
                        self._planned.remove(plan)
                    return plan.fault
        return None

    def answer(self, seen: Seen) -> Answer:
        """Give status and JSON for everything but the stream."""
        try:
            with self._lock:
                return self._route(seen)
        except _Refused as refused:
            return refused.answer

    def served(self, sdk_key: str) -> tuple[list[str], dict[str, Any]] | None:
        """Give an SDK key's project and environment and its flags as SDKs get them."""
        with self._lock:
            place = self.state.sdk_keys.get(sdk_key)
            if place is None:
                return None
            project, environment = place
            flags = {
                key: _for_sdk(flag, environment)
                for key, flag in self.state.flags.get(project, {}).items()
                if environment in flag["environments"] and not flag["archived"]
            }
            return place, {"flags": flags, "segments": {}}

    def subscribe(self, sdk_key: str) -> "queue.Queue[str | None] | None":
        """Open a stream: its first event holds everything."""
        with self._lock:
            served = self.served(sdk_key)
            if served is None:
                return None
            place, data = served
            events: queue.Queue[str | None] = queue.Queue()
            events.put(_event("put", {"path": "/", "data": data}))
            self._streams.append((place, events))
            return events

    def unsubscribe(self, events: "queue.Queue[str | None]") -> None:
        """Forget a stream."""
        with self._lock:
            self._streams = [stream for stream in self._streams if stream[1] is not events]

    def milliseconds(self) -> int:
        """Give the time as the API does."""
        return int(self.clock().timestamp() * 1000)

    def _route(self, seen: Seen) -> Answer:
        if seen.path.startswith("/_fake/"):
            return self._control(seen)
        if seen.path in ("/bulk", "/diagnostic"):
            return 202, None
        if seen.path == "/sdk/latest-all":
            served = self.served(seen.headers.get("authorization", ""))
            return (401, None) if served is None else (200, served[1])
        allowed = self.state.tokens.get(seen.headers.get("authorization", ""))
        if allowed is None:
            raise _Refused(Fault.UNAUTHORIZED)
        return self._rest(seen, allowed)

    def _rest(self, seen: Seen, allowed: list[str]) -> Answer:
        if seen.path == "/api/v2/auditlog" and seen.method in ("GET", "POST"):
            _need(allowed, "viewAuditLog")
            return 200, self._audit_log(seen)
        _need(allowed, "viewProject")
        if match := DEPENDENTS.fullmatch(seen.path):
            return 200, self._dependents(seen, *map(unquote, match.groups()))
        if match := FLAG.fullmatch(seen.path):
            project, key = map(unquote, match.groups())
            flag = self.state.flags.get(project, {}).get(key)
            if flag is not None and seen.method == "GET":
                stale = self._before.get((project, key)) if seen.fault is Fault.STALE_READ else None
                return 200, _in(stale or flag, seen.query.get("env"))
            if flag is not None and seen.method == "PATCH":
                return self._patched(seen, allowed, project, key)
        raise _Refused(Fault.NOT_FOUND)

    def _patched(self, seen: Seen, allowed: list[str], project: str, key: str) -> Answer:
        patch = seen.body
        if SEMANTIC_PATCH not in seen.headers.get("content-type", "") or not isinstance(patch, dict):
            raise _Refused(Fault.BAD_REQUEST, "the body is not a semantic patch")
        environment = patch.get("environmentKey", "")
        if environment not in self.state.flags[project][key]["environments"]:
            raise _Refused(Fault.BAD_REQUEST, f"unknown environment {environment}")
        for instruction in patch["instructions"]:
            _need(allowed, "updateRules" if instruction["kind"] == "addRule" else "updateOn")
        if f"{project}/{environment}" in self.state.approvals:
            message = "Flag configuration updates require approval: action 'updateOn' not allowed"
            return 405, {"code": "method_not_allowed", "message": message}
        if (
            f"{project}/{environment}/{key}" in self.state.scheduled
            and seen.query.get("ignoreConflicts") != "true"
        ):
            raise _Refused(Fault.BAD_REQUEST, "this change would cause a pending scheduled change to fail")
        dry_run = seen.query.get("dryRun") == "true"
        comment, by = patch.get("comment", ""), self.state.names.get(seen.headers["authorization"], "Stanch")
        place, asked = (project, environment, key), patch["instructions"]
        flag, seen.changed = self._patch(place, asked, comment=comment, by=by, dry_run=dry_run)
        return 200, flag

    def _patch(
        self,
        place: Place,
        instructions: list[dict[str, Any]],
        *,
        comment: str = "",
        by: str = SOMEBODY,
        dry_run: bool = False,
    ) -> tuple[dict[str, Any], bool]:
        """Apply instructions; a version and an event only when they change something."""
        project, environment, key = place
        with self._lock:
            before = self.state.flags[project][key]
            flag = copy.deepcopy(before)
            config = flag["environments"][environment]
            kind = instructions[0]["kind"]
            for instruction in instructions:
                if instruction["kind"] in ("turnFlagOn", "turnFlagOff"):
                    config["on"] = instruction["kind"] == "turnFlagOn"
                elif instruction["kind"] == "addRule":
                    config["rules"].append(
                        {"_id": f"rule-{len(config['rules'])}", "variation": 0, "clauses": []}
                    )
                else:
                    raise _Refused(Fault.BAD_REQUEST, f"unknown instruction {instruction['kind']}")
            if dry_run or flag == before:
                return flag, False
            config["version"] += 1
            config["lastModified"] = self.milliseconds()
            self._before[project, key] = before
            self.state.flags[project][key] = flag
            verbs = {"turnFlagOn": "turned on the flag", "turnFlagOff": "turned off the flag"}
            action = "updateOn" if kind in verbs else "updateRules"
            verb = verbs.get(kind, "updated the flag")
            self._record(place, action, verb, comment=comment, by=by)
            self._publish(place)
            return flag, True

    def _record(self, place: Place, action: str, verb: str, *, comment: str = "", by: str = SOMEBODY) -> None:
        (project, environment, key), (first, _, last) = place, by.partition(" ")
        entry = {
            "_id": f"{len(self.state.audit):024x}",
            "date": self.milliseconds(),
            "accesses": [{"action": action, "resource": f"proj/{project}:env/{environment}:flag/{key}"}],
            "kind": "flag",
            "name": key,
            "description": f"* {verb.capitalize()}\n",
            "comment": comment,
            "member": {"email": "a@example.com", "firstName": first, "lastName": last},
            "titleVerb": verb,
            "title": f"[{by}](mailto:a@example.com) {verb} [{key}](https://app.example) in `{environment}`",
        }
        self.state.audit.insert(0, entry)
        if self._file is not None:
            fresh = self._file.with_name(f".{self._file.name}.new")
            fresh.write_text(json.dumps(asdict(self.state), indent=1), encoding="utf-8")
            fresh.replace(self._file)

    def _publish(self, changed: Place) -> None:
        if self.muted:
            return
        project, environment, key = changed
        data = _for_sdk(self.state.flags[project][key], environment)
        event = _event("patch", {"path": f"/flags/{key}", "data": data})
        for place, events in self._streams:
            if place == [project, environment]:
                events.put(event)

    def _audit_log(self, seen: Seen) -> dict[str, Any]:
        limit = int(seen.query.get("limit", "10"))
        if not 1 <= limit <= 20:  # noqa: PLR2004  (the vendor's)
            raise _Refused(Fault.BAD_REQUEST, "limit must be between 1 and 20")
        specs = [seen.query["spec"]] if "spec" in seen.query else ["*"]
        if seen.method == "POST":
            specs = [spec for statement in seen.body for spec in statement["resources"]]
        after, before = int(seen.query.get("after", "0")), int(seen.query.get("before", str(2**62)))
        found = [
            entry
            for entry in self.state.audit
            if after < entry["date"] < before
            and any(fnmatchcase(access["resource"], spec) for access in entry["accesses"] for spec in specs)
        ]
        return {"items": found[:limit], "_links": {"self": {"href": seen.path, "type": "application/json"}}}

    def _dependents(self, seen: Seen, project: str, environment: str, key: str) -> dict[str, Any]:
        if seen.headers.get("ld-api-version") != "beta":
            raise _Refused(Fault.FORBIDDEN, "this is a beta resource")
        items = [
            {"name": other["name"], "key": other_key, "_links": {}, "_site": {}}
            for other_key, other in self.state.flags.get(project, {}).items()
            if any(
                one["key"] == key
                for one in other["environments"].get(environment, {}).get("prerequisites", ())
            )
        ]
        return {"items": items, "_links": {}, "_site": {}}

    def _control(self, seen: Seen) -> Answer:
        """Let another process look at the log and order faults."""
        if seen.path == "/_fake/requests":
            return 200, [asdict(one) for one in self.requests]
        if seen.path == "/_fake/faults":
            self.fail(Fault(seen.body.pop("fault")), **seen.body)
        elif seen.path == "/_fake/muted":
            self.muted = bool(seen.body)
        else:
            raise _Refused(Fault.NOT_FOUND)
        return 202, None

    def _new_flag(self, key: str) -> dict[str, Any]:
        variations = [{"_id": "0", "value": True, "name": "on"}, {"_id": "1", "value": False, "name": "off"}]
        return {
            "key": key,
            "name": key.replace("-", " ").capitalize(),
            "kind": "boolean",
            "creationDate": self.milliseconds(),
            "variations": variations,
            "archived": False,
            "environments": {},
        }

    def _new_config(self, *, on: bool, prerequisites: tuple[str, ...]) -> dict[str, Any]:
        return {
            "on": on,
            "archived": False,
            "salt": "00000000000000000000000000000000",
            "lastModified": self.milliseconds(),
            "version": 1,
            "targets": [],
            "contextTargets": [],
            "rules": [],
            "fallthrough": {"variation": 0},
            "offVariation": 1,
            "prerequisites": [{"key": key, "variation": 0} for key in prerequisites],
        }


def _need(allowed: list[str], action: str) -> None:
    if "*" not in allowed and action not in allowed:
        raise _Refused(Fault.FORBIDDEN)


def _in(flag: dict[str, Any], environment: str | None) -> dict[str, Any]:
    kept = {name: one for name, one in flag["environments"].items() if environment in (None, name)}
    return {**flag, "environments": kept}


def _for_sdk(flag: dict[str, Any], environment: str) -> dict[str, Any]:
    config = flag["environments"][environment]
    same = ("on", "version", "salt", "targets", "rules", "fallthrough", "offVariation", "prerequisites")
    return {
        "key": flag["key"],
        **{name: config[name] for name in same},
        "variations": [variation["value"] for variation in flag["variations"]],
        "deleted": False,
    }


def _event(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them
    block_on_close = True

    def __init__(self, address: tuple[str, int], fake: FakeLaunchDarkly) -> None:
        self.fake = fake
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def cut_all(self) -> None:
        """End the connections that clients keep open, or their threads would wait for ever."""
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a kept connection waits 40 ms for every answer
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PATCH = do_GET  # noqa: N815  (the library's names)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the library's name)
        """Keep quiet: the fake has its own log."""

    def _serve(self) -> None:
        fake = self.server.fake
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        seen = Seen(
            method=self.command,
            path=url.path,
            query={name: values[0] for name, values in parse_qs(url.query).items()},
            headers={name.lower(): value for name, value in self.headers.items()},
            body=json.loads(body) if body and "json" in self.headers.get("Content-Type", "") else None,
        )
        seen.fault = fake.planned(seen.method, seen.path)
        if not seen.path.startswith("/_fake/"):
            fake.requests.append(seen)
        if seen.fault is None or seen.fault in AFTER:
            if seen.path == "/all":
                self._stream(seen)
                return
            status, answer = fake.answer(seen)
        if seen.fault in ERRORS:
            status, code, message = ERRORS[seen.fault]
            answer = {"code": code, "message": message}
        if seen.fault in (Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER):
            fake.closing.wait(fake.hold)
        if seen.fault in (Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.CUT_BEFORE, Fault.CUT_AFTER):
            self.close_connection = True
            return
        seen.status = status
        content = b"" if answer is None else json.dumps(answer).encode()
        self._head(status, "application/json", len(content))
        self.wfile.write(
            b"<html>"[: len(content)].ljust(len(content)) if seen.fault is Fault.NONSENSE else content
        )

    def _head(self, status: int, content_type: str, length: int | None) -> None:
        fake = self.server.fake
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("X-Ratelimit-Global-Remaining", "0" if status == 429 else "99")  # noqa: PLR2004  (HTTP's)
        self.send_header("X-Ratelimit-Reset", str(fake.milliseconds() + 2000))
        if status == 429:  # noqa: PLR2004  (HTTP's)
            for name, value in fake.throttle_headers.items():
                self.send_header(name, value)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _stream(self, seen: Seen) -> None:
        fake = self.server.fake
        self.close_connection = True
        events = fake.subscribe(seen.headers.get("authorization", ""))
        if events is None:
            seen.status = 401
            self._head(401, "application/json", 0)
            return
        seen.status = 200
        self._head(200, "text/event-stream", None)
        try:
            while not fake.closing.is_set():
                try:
                    event = events.get(timeout=HEARTBEAT)
                except queue.Empty:
                    event = ":\n"
                if event is None:
                    return
                chunk = event.encode()
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        finally:
            fake.unsubscribe(events)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--token", default="api-token")
    parser.add_argument("--sdk-key", metavar="KEY=PROJECT/ENVIRONMENT", action="append", default=[])
    parser.add_argument("--flag", metavar="PROJECT/ENVIRONMENT/KEY=on|off", action="append", default=[])
    options = parser.parse_args()
    clock = lambda: datetime.now(UTC)  # noqa: E731, TID251  (a program of its own)
    with FakeLaunchDarkly(clock, port=options.port, state=options.state) as fake:
        fake.state.tokens.setdefault(options.token, ["*"])
        for given in options.sdk_key:
            key, _, place = given.partition("=")
            fake.state.sdk_keys[key] = place.split("/")
        for given in options.flag:
            name, _, on = given.partition("=")
            project, environment, key = name.split("/")
            if key not in fake.state.flags.get(project, {}):
                fake.add_flag(project, environment, key, on=on == "on")
        print(fake.url, flush=True)  # noqa: T201  (a program says where it is)
        with suppress(KeyboardInterrupt):
            fake.closing.wait()


if __name__ == "__main__":
    main()
