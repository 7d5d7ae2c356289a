"""Prometheus and Alertmanager in small: for machines without them, from the same three files.

It scrapes each target, evaluates the alerting rules, groups the alerts, posts Alertmanager's webhook (version
4) and answers ``/api/v1/query``. What it does not know in a file is an error, never a guess.
"""

import argparse
import contextlib
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import urllib3
import yaml
from prometheus_client.parser import text_string_to_metric_families

from deploy.demo.promql import (
    Expression,
    Labels,
    PromQLError,
    Samples,
    Value,
    Vector,
    labels_of,
    parse,
    seconds,
)

EPOCH = time.time() - time.monotonic()
NEVER = "0001-01-01T00:00:00Z"  # Go's zero time: an alert that still fires has this end
MAX_FORM = 64 * 1024  # bytes of a query
FINAL = range(
    400, 500
)  # statuses after which Alertmanager does not send the same again before the next flush


def now() -> float:
    """Give the time in epoch seconds; free of jumps of the machine's clock, which would spoil rates."""
    return EPOCH + time.monotonic()


class ConfigError(ValueError):
    """A configuration file says something that is not in the demo's part."""


@dataclass(frozen=True)
class Alert:
    """One alert: times are epoch seconds, ``ends_at`` is None while it fires."""

    labels: Labels
    annotations: Mapping[str, str]
    starts_at: float
    generator: str
    ends_at: float | None = None

    @property
    def fingerprint(self) -> str:
        """FNV-1a over the sorted labels, as Prometheus computes it."""
        digest = 0xCBF29CE484222325
        for pair in self.labels:
            for text in pair:
                for byte in text.encode() + b"\xff":
                    digest = (digest ^ byte) * 0x100000001B3 % 2**64
        return f"{digest:016x}"

    def payload(self) -> dict[str, Any]:
        """Give it as the webhook has it."""
        return {
            "status": "firing" if self.ends_at is None else "resolved",
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "startsAt": timestamp(self.starts_at),
            "endsAt": NEVER if self.ends_at is None else timestamp(self.ends_at),
            "generatorURL": self.generator,
            "fingerprint": self.fingerprint,
        }


def timestamp(at: float) -> str:
    """Give a time as Prometheus does: UTC, milliseconds, no trailing zeros."""
    whole, _, part = datetime.fromtimestamp(round(at, 3), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").partition(".")
    part = part[:3].rstrip("0")
    return f"{whole}.{part}Z" if part else f"{whole}Z"


@dataclass
class Rule:
    """One alerting rule and which of its alerts are pending or firing.

    Attributes:
        hold: Seconds that the expression must hold before the alert fires (``for``).
        since: When each pending or firing alert's expression began to hold.
        firing: What fires now.
    """

    expression: Expression
    hold: float
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    generator: str
    since: dict[Labels, float] = field(default_factory=dict)
    firing: dict[Labels, Alert] = field(default_factory=dict)

    def evaluate(self, at: float) -> list[Alert]:
        """Evaluate once; give what fires, and what stopped just now with its end."""
        value = self.expression(at)
        if isinstance(value, float):
            raise ConfigError("an alerting rule's expr gives series, not a number")
        labelled = {self._labelled(labels) for labels in value}
        self.since = {labels: self.since.get(labels, at) for labels in labelled}
        resolved = [
            replace(alert, ends_at=at) for labels, alert in self.firing.items() if labels not in self.since
        ]
        firing = {
            labels: self.firing.get(labels, Alert(labels, self.annotations, at, self.generator))
            for labels, since in self.since.items()
            if at - since >= self.hold
        }
        self.firing = firing
        return [*firing.values(), *resolved]

    def _labelled(self, labels: Labels) -> Labels:
        own = {name: value for name, value in labels if name != "__name__"}
        return labels_of({**own, **self.labels})


def read_rules(path: Path, samples: Samples, url: str) -> list[Rule]:
    """Read a Prometheus rules file; ``url`` is where the alerts say that they come from.

    Raises:
        ConfigError: The file uses something that is not here; the message names it.
    """
    rules = []
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            unknown = rule.keys() - {"alert", "expr", "for", "labels", "annotations"}
            if unknown:
                raise ConfigError(f"{path}: {', '.join(sorted(unknown))}: not known here")
            annotations = rule.get("annotations", {})
            if "{{" in str((annotations, rule.get("labels"))):
                raise ConfigError(f"{path}: {rule['alert']}: templates are not known here")
            try:
                expression = parse(rule["expr"], samples)
            except PromQLError as error:
                raise ConfigError(f"{path}: {rule['alert']}: {error}") from error
            labels = {**rule.get("labels", {}), "alertname": rule["alert"]}
            graph = f"{url}/graph?{urlencode({'g0.expr': rule['expr'], 'g0.tab': 1})}"
            rules.append(Rule(expression, seconds(rule.get("for", "0s")), labels, annotations, graph))
    return rules


@dataclass(frozen=True)
class Route:
    """How alerts are grouped and where they go; times in seconds."""

    receiver: str
    url: str
    group_by: tuple[str, ...]
    group_wait: float
    group_interval: float
    repeat_interval: float
    credentials: Path | None = None


def read_route(path: Path) -> Route:
    """Read the root route and its one webhook from an Alertmanager configuration."""
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    route, receivers = config["route"], config["receivers"]
    if "routes" in route or len(receivers) != 1 or receivers[0].keys() != {"name", "webhook_configs"}:
        raise ConfigError(f"{path}: only one route with one webhook receiver is known here")
    webhook = receivers[0]["webhook_configs"][0]
    credentials = webhook.get("http_config", {}).get("authorization", {}).get("credentials_file")
    return Route(
        receiver=route["receiver"],
        url=webhook["url"],
        group_by=tuple(sorted(route["group_by"])),
        group_wait=seconds(route["group_wait"]),
        group_interval=seconds(route["group_interval"]),
        repeat_interval=seconds(route["repeat_interval"]),
        credentials=Path(credentials) if credentials else None,
    )


@dataclass
class Group:
    """Alerts that are sent together.

    Attributes:
        alerts: By labels; a resolved one stays until it has been sent.
        due: When it is looked at next.
        told: Which fingerprints the receiver knows as firing, which as resolved, since when; None at first.
    """

    labels: Labels
    due: float
    alerts: dict[Labels, Alert] = field(default_factory=dict)
    told: tuple[frozenset[str], frozenset[str], float] | None = None

    def must_tell(self, at: float, repeat: float) -> bool:
        """Say whether the receiver has to hear of it, by Alertmanager's own rules."""
        firing, resolved = self.fingerprints()
        if self.told is None:
            return bool(firing)
        told_firing, told_resolved, since = self.told
        if not firing <= told_firing:
            return True
        if not firing:
            return bool(told_firing)
        return not resolved <= told_resolved or at - since >= repeat

    def fingerprints(self) -> tuple[frozenset[str], frozenset[str]]:
        """Give what fires and what has resolved."""
        firing = frozenset(alert.fingerprint for alert in self.alerts.values() if alert.ends_at is None)
        return firing, frozenset(alert.fingerprint for alert in self.alerts.values()) - firing

    def payload(self, route: Route, url: str) -> dict[str, Any]:
        """Give the webhook's body, version 4."""
        alerts = [alert.payload() for _, alert in sorted(self.alerts.items())]
        by = ", ".join(f"{name}={json.dumps(value)}" for name, value in self.labels)
        return {
            "receiver": route.receiver,
            "status": "firing" if self.fingerprints()[0] else "resolved",
            "alerts": alerts,
            "groupLabels": dict(self.labels),
            "commonLabels": _common(alert["labels"] for alert in alerts),
            "commonAnnotations": _common(alert["annotations"] for alert in alerts),
            "externalURL": url,
            "version": "4",
            "groupKey": f"{{}}:{{{by}}}",
            "truncatedAlerts": 0,
        }


def _common(each: Iterable[dict[str, str]]) -> dict[str, str]:
    first, *others = each
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


class Notifier:
    """Groups alerts and tells the receiver, in a thread of its own so that a slow receiver stops no rule.

    Args:
        route: How and where.
        url: Our own address, which the receiver sees as ``externalURL``.
        first_pause: Seconds before a failed delivery is repeated the first time; then 1.5 times as long each.
    """

    def __init__(self, route: Route, url: str, *, first_pause: float = 0.5) -> None:
        self._route = route
        self._url = url
        self._first_pause = first_pause
        self._groups: dict[Labels, Group] = {}
        self._lock = threading.Lock()
        self._http = urllib3.PoolManager(retries=False, timeout=5.0)

    def update(self, alerts: Iterable[Alert], at: float) -> None:
        """Take the alerts of one evaluation."""
        with self._lock:
            for alert in alerts:
                labels = tuple(pair for pair in alert.labels if pair[0] in self._route.group_by)
                group = self._groups.get(labels)
                if group is None:
                    if alert.ends_at is not None:
                        continue  # nobody heard of it
                    group = self._groups[labels] = Group(labels, at + self._route.group_wait)
                group.alerts[alert.labels] = alert

    def run(self, stop: threading.Event) -> None:
        """Send until told to stop."""
        while not stop.wait(0.1):
            at = now()
            with self._lock:
                due = [group for group in self._groups.values() if group.due <= at]
            for group in due:
                self.flush(group, at, stop)

    def flush(self, group: Group, at: float, stop: threading.Event) -> None:
        """Send what the receiver does not know yet; drop what it knows as resolved."""
        with self._lock:
            group.due = at + self._route.group_interval
            body = json.dumps(group.payload(self._route, self._url)).encode()
            wanted = group.must_tell(at, self._route.repeat_interval)
            sent = dict(group.alerts)
            told = (*group.fingerprints(), at)
        if wanted:
            if not self._deliver(body, stop):
                return
            group.told = told
        with self._lock:
            for labels, alert in sent.items():
                if alert.ends_at is not None and group.alerts[labels] is alert:
                    del group.alerts[labels]
            if not group.alerts:
                del self._groups[group.labels]

    def _deliver(self, body: bytes, stop: threading.Event) -> bool:
        """Post until it is taken, refused for good, or too old."""
        headers = {"Content-Type": "application/json", "User-Agent": "Alertmanager/0.25.0"}
        if self._route.credentials:
            token = self._route.credentials.read_text(encoding="utf-8").strip()
            headers["Authorization"] = f"Bearer {token}"
        give_up = time.monotonic() + max(10.0, self._route.group_interval)  # Alertmanager's own limit
        pause = self._first_pause
        while True:
            outcome = ""
            try:
                answer = self._http.request("POST", self._route.url, body=body, headers=headers)
            except urllib3.exceptions.HTTPError as error:
                outcome = type(error).__name__
            else:
                if answer.status < FINAL.start:
                    return True
                outcome = f"HTTP {answer.status}"
                if answer.status in FINAL:
                    _log(f"the receiver refused the notification until the next flush: {outcome}")
                    return False
            _log(f"the notification was not delivered: {outcome}")
            if time.monotonic() + pause > give_up or stop.wait(pause):
                return False
            pause *= 1.5


class Watcher:
    """Scrapes, evaluates, and answers queries.

    Args:
        targets: Job name and address (``127.0.0.1:8000``) of each scrape target.
        rules: Path of the rules file.
        route: Where alerts go.
        url: Our own address.
    """

    def __init__(self, targets: Iterable[tuple[str, str]], rules: Path, route: Route, url: str) -> None:
        self.notifier = Notifier(route, url)
        self._targets = tuple(targets)
        self._samples = Samples()
        self._rules = read_rules(rules, self._samples, url)
        self._lock = threading.Lock()
        self._http = urllib3.PoolManager(retries=False, timeout=1.0)

    def watch(self, interval: float, stop: threading.Event) -> None:
        """Scrape and evaluate each ``interval`` seconds until told to stop."""
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + interval, time.monotonic())
            self.look(now())

    def look(self, at: float) -> list[Alert]:
        """Scrape every target and evaluate every rule once; give what fires or ended just now."""
        scraped: Vector = {}
        for job, address in self._targets:
            scraped |= self._scrape(job, address)
        alerts: list[Alert] = []
        with self._lock:
            self._samples.add(at, scraped)
            for rule in self._rules:
                alerts += rule.evaluate(at)
        self.notifier.update(alerts, at)
        return alerts

    def query(self, text: str, at: float) -> Value:
        """Answer one query.

        Raises:
            PromQLError: It cannot be evaluated here.
        """
        with self._lock:
            return parse(text, self._samples)(at)

    def _metrics(self, address: str) -> str:
        answer = self._http.request("GET", f"http://{address}/metrics")
        if answer.status != 200:  # noqa: PLR2004  (OK)
            raise ValueError(f"HTTP {answer.status}")
        return answer.data.decode()

    def _scrape(self, job: str, address: str) -> Vector:
        of_target = {"job": job, "instance": address}
        try:
            families = text_string_to_metric_families(self._metrics(address))
            scraped = {
                labels_of({**sample.labels, **of_target, "__name__": sample.name}): float(sample.value)
                for family in families
                for sample in family.samples
            }
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            _log(f"{address} has no metrics to scrape: {error}")
            return {labels_of({**of_target, "__name__": "up"}): 0.0}
        return {**scraped, labels_of({**of_target, "__name__": "up"}): 1.0}


def query_answer(value: Value, at: float) -> dict[str, Any]:
    """Give a value as Prometheus' query API does."""
    if isinstance(value, float):
        result: Any = [at, _number(value)]
    else:
        result = [{"metric": dict(labels), "value": [at, _number(each)]} for labels, each in value.items()]
    kind = "scalar" if isinstance(value, float) else "vector"
    return {"status": "success", "data": {"resultType": kind, "result": result}}


def _number(value: float) -> str:
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if value != value else f"{Decimal(repr(value)):f}".removesuffix(".0")  # noqa: PLR0124  (NaN)


def _log(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201  (the log of a program of its own)


class Handler(BaseHTTPRequestHandler):
    """The query API."""

    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds that an idle connection stays open
    watcher: Watcher

    def do_GET(self) -> None:
        """Answer a query in the URL, or that we are ready."""
        split = urlsplit(self.path)
        if split.path in ("/-/ready", "/-/healthy"):
            self._answer(200, b"ready\n", "text/plain")
        else:
            self._query(split.path, split.query)

    def do_POST(self) -> None:
        """Answer a query in a form."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_FORM:
            self.close_connection = True
            self._refuse(413, f"a query has a Content-Length of at most {MAX_FORM} bytes")
            return
        form = self.rfile.read(int(length)).decode(errors="replace")
        split = urlsplit(self.path)
        self._query(split.path, "&".join(filter(None, (split.query, form))))

    def _query(self, path: str, fields: str) -> None:
        if path != "/api/v1/query":
            self._refuse(404, f"{path} is not here; /api/v1/query is")
            return
        form = parse_qs(fields)
        try:
            at = _time(form["time"][0]) if "time" in form else now()
            answer = query_answer(self.watcher.query(form.get("query", [""])[0], at), at)
        except ValueError as error:
            self._refuse(400, str(error))
            return
        self._answer(200, json.dumps(answer).encode())

    def _refuse(self, status: int, reason: str) -> None:
        self._answer(
            status, json.dumps({"status": "error", "errorType": "bad_data", "error": reason}).encode()
        )

    def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name is the base class's)
        """Write no line per request."""


def _time(text: str) -> float:
    with contextlib.suppress(ValueError):
        at = float(text)
        if math.isfinite(at):
            return at
    return datetime.fromisoformat(text).timestamp()


def main(argv: list[str] | None = None) -> None:
    """Watch until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.alerter", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--prometheus", type=Path, required=True, help="prometheus.yml")
    parser.add_argument("--alertmanager", type=Path, required=True, help="alertmanager.yml")
    options = parser.parse_args(argv)

    config = yaml.safe_load(options.prometheus.read_text(encoding="utf-8"))
    targets = [
        (job["job_name"], address)
        for job in config["scrape_configs"]
        for static in job["static_configs"]
        for address in static["targets"]
    ]
    url = f"http://127.0.0.1:{options.port}"
    try:
        route = read_route(options.alertmanager)
        watcher = Watcher(targets, Path(config["rule_files"][0]), route, url)
    except ConfigError as error:
        sys.exit(str(error))
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    Handler.watcher = watcher
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    notifying = threading.Thread(target=watcher.notifier.run, args=(stop,), daemon=True)
    notifying.start()
    watcher.watch(seconds(config["global"]["scrape_interval"]), stop)
    server.shutdown()
    notifying.join()


if __name__ == "__main__":
    main()
