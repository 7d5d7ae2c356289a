"""What Prometheus may know of the gateway, in a registry of its own."""

import logging
from collections.abc import Callable, Iterable
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from contracts.approvals import ApprovalState
from contracts.errors import ProviderUnavailableError
from contracts.incidents import Severity
from ledger import Ledger

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MOST = 1_000  # more open incidents or requests than a person can look at; the gauge then stays there
_WAITS = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)

log = logging.getLogger(__name__)


class Metrics:
    """Counts what comes in, and asks the ledger for the rest when it is scraped."""

    def __init__(self, ledger: Ledger, *, clock: Callable[[], datetime]) -> None:
        self._registry = CollectorRegistry()
        self.deliveries = Counter(
            "stanch_deliveries",
            "Alert deliveries by source and result.",
            ["source", "result"],
            registry=self._registry,
        )
        self.alerts = Counter(
            "stanch_alerts",
            "Alerts within deliveries by source and result.",
            ["source", "result"],
            registry=self._registry,
        )
        self.latency = Histogram(
            "stanch_http_request_seconds",
            "Time to answer a request, event streams left out.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._registry.register(_FromLedger(ledger, clock))

    def exposition(self) -> bytes:
        """Give the text that Prometheus reads."""
        return generate_latest(self._registry)


class _FromLedger(Collector):
    """Gauges that are read from the ledger at each scrape; without the ledger, one that says so."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._clock = clock

    def describe(self) -> Iterable[Metric]:
        """Name nothing in advance: registering must not read the ledger."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Read the ledger once."""
        up = GaugeMetricFamily("stanch_ledger_up", "1 when the ledger answers.")
        try:
            families = self._families()
        except ProviderUnavailableError as error:
            log.warning("metrics without the ledger: %s", error)
            families = []
        up.add_metric([], float(bool(families)))
        return [up, *families]

    def _families(self) -> list[Metric]:
        pending = self._ledger.approvals.list(ApprovalState.PENDING, limit=_MOST)
        oldest = min((request.asked_at for request in pending), default=None)
        waited = (self._clock() - oldest).total_seconds() if oldest else 0.0
        incidents = GaugeMetricFamily(
            "stanch_incidents_open", "Open incidents by severity.", labels=["severity"]
        )
        listed = self._ledger.incidents.list(open_only=True, limit=_MOST)
        for severity in Severity:
            count = sum(incident.severity is severity for incident in listed)
            incidents.add_metric([severity.value], count)
        frozen = GaugeMetricFamily(
            "stanch_frozen", "1 while changes of a service are stopped; * is every one.", labels=["service"]
        )
        stopped = {freeze.service for freeze in self._ledger.freezes.list()}
        for service in sorted({"*", *(name or "*" for name in stopped)}):
            frozen.add_metric([service], float((None if service == "*" else service) in stopped))
        backlog = self._ledger.outbox.backlog()
        plain = [
            ("stanch_approvals_pending", "Plans that wait for a decision.", float(len(pending))),
            ("stanch_approval_oldest_seconds", "How long the oldest of them has waited.", max(waited, 0.0)),
            ("stanch_outbox_backlog", "Messages not yet delivered to the engine.", float(backlog)),
            ("stanch_evidence_entries", "Entries of the evidence log.", float(self._ledger.evidence.size())),
        ]
        gauges = [GaugeMetricFamily(name, text, value=value) for name, text, value in plain]
        return [incidents, frozen, *self._waits(), *gauges]

    def _waits(self) -> list[Metric]:
        waits = HistogramMetricFamily(
            "stanch_approval_wait_seconds",
            "How long questions waited until people answered or they expired, over all gateways.",
            labels=["severity"],
        )
        said = "How long after it was asked each person answered; of two people both count."
        answers = SummaryMetricFamily("stanch_approval_answer_seconds", said, labels=["person"])
        waited = self._ledger.approvals.waited()
        for severity in Severity:
            ended = [one for one in waited if one.severity is severity]
            seconds = [((one.closed_at or one.expires_at) - one.asked_at).total_seconds() for one in ended]
            counts = [(f"{edge:g}", float(sum(one <= edge for one in seconds))) for edge in _WAITS]
            waits.add_metric([severity.value], [*counts, ("+Inf", float(len(seconds)))], sum(seconds))
        people: dict[str, list[float]] = {}
        for person, wait in (answer for request in waited for answer in request.answers.items()):
            people.setdefault(person, []).append(wait.total_seconds())
        for person, each in sorted(people.items()):
            answers.add_metric([person], len(each), sum(each))
        return [waits, answers]
