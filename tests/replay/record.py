"""Records the histories that the replay tests run again: ``python -m tests.replay.record``.

Run it when a workflow's order has changed on purpose and no incident of the former order is open anywhere;
until then the change goes behind ``workflow.patched()`` and the recorded histories stay as they are.
"""

import asyncio
import json
import os
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from temporalio.client import WorkflowHistory

from activities.launchdarkly.fake import Fault
from authority.decisions import Signer
from contracts import names
from contracts.approvals import Decision, Verdict
from contracts.incidents import AlertStatus, Incident, Phase, Severity
from contracts.messages import Command, CommandKind
from runtime import engine
from tests import site as sites
from tests.site import Site

HISTORIES = Path(__file__).parent
RECORDED_BY = "recorded"
# An incident that is suggested to continue as new after so many events does so in a history of a few pages.
FEW_EVENTS = "20"

Scenario = Callable[[Site, str], Awaitable[None]]


async def effective(site: Site, service: str) -> None:
    """The first mitigation helps; monitoring sees it stay so."""
    incident = await _begin(site, service)
    asked = await site.asked(incident.id)
    site.break_service(service, 0.001)
    site.decide(asked)
    await _heal(site, incident, service)


async def ineffective_then_effective(site: Site, service: str) -> None:
    """The first does not help, the second does."""
    incident = await _begin(site, service)
    site.decide(await site.asked(incident.id))
    second = await site.asked(incident.id, 2)
    site.break_service(service, 0.001)
    site.decide(second)
    await _heal(site, incident, service)


async def rejected(site: Site, service: str) -> None:
    """Every plan is turned down, until there is none left and a person resolves it."""
    incident = await _begin(site, service)
    site.decide(await site.asked(incident.id), Verdict.REJECT, reason="not that one")
    site.decide(await site.asked(incident.id, 2), Verdict.REJECT, reason="nor that one")
    await site.attention(incident.id)
    site.order(incident.id, "resolve")


async def withdrawn(site: Site, service: str) -> None:
    """The alert ends before anybody decided."""
    incident = await _begin(site, service)
    await site.asked(incident.id)
    await site.phase(incident.id, Phase.MITIGATING)
    site.break_service(service, 0.001)
    site.alert(service, status=AlertStatus.RESOLVED)


async def replanned(site: Site, service: str) -> None:
    """A person wants another plan, and resolves the incident while that one is open."""
    incident = await _begin(site, service)
    await site.asked(incident.id)
    await site.phase(incident.id, Phase.MITIGATING)
    site.order(incident.id, "replan")
    await site.asked(incident.id, 2)
    await site.phase(incident.id, Phase.MITIGATING)
    site.order(incident.id, "resolve")


async def drifted(site: Site, service: str) -> None:
    """Somebody else changes the target after the plan was sealed."""
    incident = await _begin(site, service)
    asked = await site.asked(incident.id)
    site.flags.add_rule("web", "production", asked.plan.steps[0].action.target.path[-1])
    site.break_service(service, 0.001)
    site.decide(asked)
    site.decide(await site.asked(incident.id, 2))
    await _heal(site, incident, service)


async def worse(site: Site, service: str) -> None:
    """The mitigation makes it worse and is undone."""
    incident = await _begin(site, service)
    asked = await site.asked(incident.id)
    flag = asked.plan.steps[0].action.target.path[-1]
    site.decide(asked)
    await sites.until(lambda: site.changes(flag) == 1)
    site.break_service(service, 0.9)
    await site.asked(incident.id, 2)
    site.order(incident.id, "resolve")


async def refused(site: Site, service: str) -> None:
    """The provider says no."""
    incident = await _begin(site, service)
    asked = await site.asked(incident.id)
    site.flags.fail(Fault.FORBIDDEN, method="PATCH", path=asked.plan.steps[0].action.target.path[-1])
    site.decide(asked)
    await site.asked(incident.id, 2)
    site.order(incident.id, "resolve")


async def regressed(site: Site, service: str) -> None:
    """It breaks again while it is watched, and a new alert joins."""
    incident = await _begin(site, service)
    asked = await site.asked(incident.id)
    site.break_service(service, 0.001)
    site.decide(asked)
    await site.phase(incident.id, Phase.MONITORING)
    site.break_service(service)
    await site.asked(incident.id, 2)
    site.alert(service, source="another")
    more = Command(
        id="severity", kind=CommandKind.SEVERITY, person="ada", reason="all users", severity=Severity.SEV1
    )
    site.ledger.incidents.command(incident.id, more, trace={})
    site.order(incident.id, "resolve")


async def forged(site: Site, service: str) -> None:
    """Decisions that our gateway never signed are delivered before the true one."""
    incident = await _begin(site, service)
    asked = await site.asked(incident.id)
    await site.phase(incident.id, Phase.MITIGATING)
    decision = Decision(
        request=asked.request.id,
        incident=incident.id,
        mitigation=asked.plan.mitigation,
        plan_digest=asked.request.plan_digest,
        policy_digest=asked.plan.policy_digest,
        verdict=Verdict.APPROVE,
        person="ada",
        authenticated_by="local",
        decided_at=asked.request.asked_at,
        expires_at=asked.plan.expires_at,
    )
    mallory = Signer(Ed25519PrivateKey.generate())
    handle = site.client.get_workflow_handle(names.mitigation_workflow_id(asked.plan.mitigation))
    for verdict in Verdict:
        signed = mallory.sign(decision.model_copy(update={"verdict": verdict}))
        await handle.execute_update(names.UPDATE_DECIDE, signed, id=f"forged-{verdict}")
        await asyncio.sleep(0.5)
    site.break_service(service, 0.001)
    site.decide(asked)
    await _heal(site, incident, service)


async def unknown(site: Site, service: str) -> None:
    """The catalogue does not have the service."""
    incident = await _begin(site, service)
    await site.attention(incident.id)
    site.order(incident.id, "resolve")


async def expired(site: Site, service: str) -> None:
    """Nobody answers; another plan is asked for and withdrawn."""
    incident = await _begin(site, service)
    await site.attention(incident.id)
    site.order(incident.id, "replan")
    await site.asked(incident.id, 2)
    site.order(incident.id, "resolve")


async def continued(site: Site, service: str) -> None:
    """The incident grows long and goes on as a new run, while a mitigation waits."""
    incident = await _begin(site, service)
    site.decide(await site.asked(incident.id), Verdict.REJECT, reason="not that one")
    asked = await site.asked(incident.id, 2)
    await site.phase(incident.id, Phase.MITIGATING)
    for number in range(5):
        site.alert(service, source=f"source-{number}")
        await asyncio.sleep(0.3)
    site.break_service(service, 0.001)
    site.decide(asked)
    await site.phase(incident.id, Phase.MONITORING)
    for alert in site.ledger.incidents.get(incident.id).alerts:
        site.alert(service, status=AlertStatus.RESOLVED, source=alert.source)


USUAL: tuple[Scenario, ...] = (
    effective,
    ineffective_then_effective,
    rejected,
    withdrawn,
    replanned,
    drifted,
    worse,
    refused,
    regressed,
    forged,
)


async def _begin(site: Site, service: str) -> Incident:
    site.alert(service)
    return await site.command(service)


async def _heal(site: Site, incident: Incident, service: str) -> None:
    await site.phase(incident.id, Phase.MONITORING)
    site.alert(service, status=AlertStatus.RESOLVED)


async def _record(site: Site, scenario: Scenario, service: str) -> None:
    await scenario(site, service)
    incident = await site.incident(service)
    await site.phase(incident.id, Phase.LEARNING)
    last = await _write(site, names.incident_workflow_id(incident.id), f"{scenario.__name__}.incident")
    assert last > 0
    number = 1
    while site.ledger.approvals.for_mitigation(f"{incident.id}/{number}"):
        workflow = names.mitigation_workflow_id(f"{incident.id}/{number}")
        await _write(site, workflow, f"{scenario.__name__}.mitigation-{number}")
        number += 1


async def _write(site: Site, workflow: str, name: str) -> int:
    """Write the history of every run of a workflow, and give how many there are."""
    handle = site.client.get_workflow_handle(workflow)
    await handle.result()
    described = await handle.describe()
    first = described.raw_description.workflow_execution_info.first_run_id
    run, number = first, 0
    while run:
        number += 1
        history = await site.client.get_workflow_handle(workflow, run_id=run).fetch_history()
        tail = f"-{number}" if number > 1 else ""
        (HISTORIES / f"{name}{tail}.json").write_text(scrubbed(history), encoding="utf-8")
        last = history.events[-1].workflow_execution_continued_as_new_event_attributes
        run = last.new_execution_run_id
    return number


def scrubbed(history: WorkflowHistory) -> str:
    """Give a history as JSON, one event a line, without the names of the machine that recorded it."""
    events = [json.dumps(_clean(event), separators=(",", ":")) for event in history.to_json_dict()["events"]]
    return '{"events":[\n' + ",\n".join(events) + "\n]}\n"


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _clean(inner) for name, inner in value.items() if name != "stackTrace"}
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    # An identity or the name of a sticky queue: it begins with the process's number and the machine's name.
    return RECORDED_BY if isinstance(value, str) and re.match(r"\d+@", value) else value


async def main() -> None:
    """Record all."""
    for path in HISTORIES.glob("*.json"):
        path.unlink()
    with tempfile.TemporaryDirectory() as folder:
        async with sites.site(Path(folder) / "usual") as site:
            services = [service.name for service in site.catalogue.services]
            jobs = [_record(site, *pair) for pair in zip(USUAL, services, strict=False)]
            await asyncio.gather(*jobs, _record(site, unknown, "nobody-knows"))
        async with sites.site(Path(folder) / "hasty", approval=timedelta(seconds=1), services=1) as site:
            await _record(site, expired, "s0")
        engine.DYNAMIC_CONFIG["limit.historyCount.suggestContinueAsNew"] = FEW_EVENTS
        async with sites.site(Path(folder) / "short", services=1) as site:
            await _record(site, continued, "s0")


if __name__ == "__main__":
    asyncio.run(main())
    sys.stdout.flush()
    # The SDK's runtime can abort while the interpreter shuts down (sdk-python issue 300): leave without it.
    os._exit(0)
