"""Incidents led through the product's HTTP interface as a person would, with the times that matter."""

import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from activities.launchdarkly.fake import FakeLaunchDarkly, Seen
from authority.policy import DEFAULT
from contracts.approvals import ApprovalRequest
from contracts.incidents import Incident, Phase, Role
from tests.runtime.product import COMMANDER, Product, until

# A person would wait minutes here; what is measured is what Stanch adds to that.
SOON = "PT0.05S"
AT_ONCE = "PT0S"
# Seconds between two looks: where one moment is measured, and where many are led at once.
FINE = 0.003
COARSE = 0.1
SECOND = "grace"
PENDING = TypeAdapter(list[ApprovalRequest])


class Witness(list[Seen]):
    """The fake LaunchDarkly's request log, which notes when each request came."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: dict[str, list[tuple[float, str]]] = defaultdict(list)

    def append(self, seen: Seen) -> None:
        """Keep a request with its time."""
        flag = seen.path.rpartition("/")[2]
        word = f"dry {seen.method}" if "dryRun" in seen.query else seen.method
        self.arrivals[flag.partition("-")[0]].append((time.time(), word))
        super().append(seen)

    def since(self, service: str, begin: float) -> list[tuple[float, str]]:
        """Give the time and method of a service's requests from a moment on."""
        return [one for one in self.arrivals[service] if one[0] >= begin]


def witness(flags: FakeLaunchDarkly) -> Witness:
    """Let a fake note when its requests come."""
    noting = Witness()
    flags.requests = noting
    return noting


def ask_two(policy: Path, services: list[str]) -> None:
    """Let the policy ask two people for every step of some services."""
    rule = (
        '@id("two-here") forbid (principal, action == Action::"run", resource)\n'
        f"when {{ context.approvals < 2 && {json.dumps(services)}.contains(context.service) }};\n"
    )
    policy.write_text(DEFAULT + rule, encoding="utf-8")


def hasten(catalogue: Path) -> None:
    """Take the waiting for people's comfort out of a catalogue: no reading is held, monitoring is short."""
    book = yaml.safe_load(catalogue.read_text(encoding="utf-8"))
    book["monitoring"] = SOON
    for service in book["services"]:
        for environment in service["environments"].values():
            for signal in environment["signals"].values():
                signal |= {"hold": AT_ONCE, "every": SOON}
    catalogue.write_text(yaml.safe_dump(book), encoding="utf-8")


@dataclass(frozen=True)
class Led:
    """One incident's moments, in seconds of the wall clock, which server and fakes share.

    Attributes:
        posted: The alert was sent.
        stored: Its 2xx came.
        asked: The approval request could be seen.
        decided: The decision was sent; of two, the second.
        accepted: Its 2xx came.
        arrived: The first request of the step that it allows came to the provider, and each after it.
        changed: The provider's change came.
    """

    incident: str
    mitigation: str
    posted: float
    stored: float
    asked: float
    decided: float
    accepted: float
    arrived: tuple[tuple[float, str], ...]
    changed: float


def lead(product: Product, seen: Witness, service: str, *, every: float = FINE, two: bool = False) -> Led:
    """Lead one incident from its alert to its postmortem, looking at it every so many seconds.

    With ``two`` its service has to be one for which the policy asks two people.
    """
    posted = time.time()
    product.alert(service)
    stored = time.time()
    request = until(lambda: _question(product, service), every=every, what=f"the question about {service}")
    asked = time.time()
    product.acknowledge(request.incident)
    product.break_service(service, 0.001)
    # The question can be seen a moment before its workflow waits; no person answers so fast.
    _wait_for(product, request.incident, Phase.MITIGATING, every)
    if two:
        lead_by = {"role": Role.TECHNICAL_LEAD, "person": SECOND}
        product.request("POST", f"/v1/incidents/{request.incident}/roles", lead_by)
        product.approve(request)
    decided = time.time()
    product.approve(request, SECOND if two else COMMANDER)
    accepted = time.time()
    changed = until(lambda: _change(seen, service, decided), every=every, what=f"the change of {service}")
    product.alert(service, "resolved")
    _wait_for(product, request.incident, Phase.LEARNING, every)
    arrived = tuple(seen.since(service, decided))
    return Led(
        request.incident, request.mitigation, posted, stored, asked, decided, accepted, arrived, changed
    )


def _question(product: Product, service: str) -> ApprovalRequest | None:
    pending = PENDING.validate_python(product.request("GET", "/v1/approvals?state=pending"))
    return next((one for one in pending if f" {service}-" in one.title), None)


def _change(seen: Witness, service: str, decided: float) -> float | None:
    return next((at for at, method in seen.since(service, decided) if method == "PATCH"), None)


def _wait_for(product: Product, incident: str, phase: Phase, every: float) -> None:
    def look() -> bool:
        seen = product.request("GET", f"/v1/incidents/{incident}")
        return Incident.model_validate(seen).phase is phase

    until(look, within=60, every=every, what=f"{incident} {phase}")
