"""What a mitigation leaves behind, on the real engine: after its incident is over, until it is undone."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.client import WorkflowExecutionStatus

from authority.policy import DEFAULT
from contracts import names
from contracts.approvals import Approval, ApprovalState, Verdict
from contracts.evidence import EvidenceKind
from contracts.in_force import ForceState, InForce
from contracts.incidents import AlertStatus, Phase
from contracts.plans import Needs
from ledger import OutboxMessage
from ledger.in_force import UNDO
from runtime.clock import utc_now
from tests import site as sites
from tests.site import Site, until

# One service's undos ask nobody.
POLICY = (
    DEFAULT
    + """
@id("undo-by-itself")
permit (principal, action == Action::"run", resource)
when { context.undoes && context.service == "s1" };
"""
)


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Give one product for all tests of this module; each uses a service of its own."""
    home = tmp_path_factory.mktemp("site")
    (home / "policy.cedar").write_text(POLICY, encoding="utf-8")
    async with sites.site(home, services=6) as site:
        yield site


async def mitigated(site: Site, service: str) -> str:
    """Let an incident be mitigated and end, and give the mitigation."""
    site.alert(service)
    incident = await site.command(service)
    asked = await site.asked(incident.id)
    site.break_service(service, 0.001)
    site.decide(asked)
    await site.phase(incident.id, Phase.MONITORING)
    site.alert(service, status=AlertStatus.RESOLVED)
    await site.phase(incident.id, Phase.LEARNING)
    return asked.plan.mitigation


def end(site: Site, mitigation: str) -> None:
    """Let the time of a mitigation be over in a moment."""
    soon = utc_now() + timedelta(seconds=0.5)
    site.ledger.in_force.extend(mitigation, until=soon, person="ada", reason="the fix is out")


async def question(site: Site, undo: str) -> Approval:
    """Wait for the question about an undo."""
    return await until(lambda: site.ledger.approvals.for_mitigation(undo), what=f"the plan {undo}")


async def undone(site: Site, mitigation: str) -> InForce:
    """Wait until a mitigation is undone and its undo has ended."""

    def look() -> InForce | None:
        found = site.ledger.in_force.get(mitigation)
        return found if found.state is ForceState.UNDONE and found.undo is None else None

    return await until(look, what=f"{mitigation} undone")


def flag_of(site: Site, mitigation: str) -> str:
    """Give the flag that a mitigation has switched off."""
    return site.ledger.in_force.get(mitigation).steps[0].action.target.path[-1]


def is_on(site: Site, mitigation: str) -> bool:
    """Say whether the flag that a mitigation has switched off is on, as the provider has it."""
    return bool(site.flags.config("web", "production", flag_of(site, mitigation))["on"])


async def test_its_time_is_over_after_the_incident(running: Site) -> None:
    """When its time is over its undo is planned, asked about, run and verified, after its incident."""
    mitigation = await mitigated(running, "s0")
    incident = mitigation.partition("/")[0]
    (found,) = running.ledger.in_force.list(incident=incident)
    assert (found.mitigation, found.owner, is_on(running, mitigation)) == (mitigation, "ada", False)
    assert f"{found.title} ({mitigation}), until" in (running.postmortem(incident) or "")
    end(running, mitigation)
    asked = await question(running, f"{mitigation}-undo")
    assert (asked.request.state, asked.plan.undoes) == (ApprovalState.PENDING, mitigation)
    assert running.changes(flag_of(running, mitigation)) == 1
    running.decide(asked)
    await undone(running, mitigation)

    assert is_on(running, mitigation)
    assert running.changes(flag_of(running, mitigation)) == 2
    assert running.kinds(incident)[-1] is EvidenceKind.MITIGATION_ENDED
    assert running.ledger.incidents.get(incident).phase is Phase.LEARNING
    running.check_audit()


async def test_the_policy_asks_nobody(running: Site) -> None:
    """Where the policy lets it, the undo runs by itself; it is a plan and a decision like any other."""
    mitigation = await mitigated(running, "s1")
    end(running, mitigation)
    await undone(running, mitigation)
    asked = await question(running, f"{mitigation}-undo")

    assert is_on(running, mitigation)
    assert asked.request.needs is Needs.NOBODY
    assert asked.request.signed is not None
    assert asked.request.signed.decision.authenticated_by == "policy"


async def test_rejected_and_asked_again(running: Site) -> None:
    """An undo that was turned down leaves everything as it is, and may be asked for again."""
    mitigation = await mitigated(running, "s2")
    for number in range(2):  # asked twice is asked once
        order = running.ledger.in_force.order_undo(mitigation, person="ada", reason=f"reason {number}")
        running.dispatcher.wake()
    assert order.mitigation == f"{mitigation}-undo"
    running.decide(await question(running, order.mitigation), Verdict.REJECT, reason="not yet")
    await until(lambda: running.ledger.in_force.get(mitigation).undo is None, what="the end")
    assert not is_on(running, mitigation)
    again = running.ledger.in_force.order_undo(mitigation, person="ada", reason="now")
    running.dispatcher.wake()
    running.decide(await question(running, again.mitigation))
    await undone(running, mitigation)

    assert again.mitigation == f"{mitigation}-undo-2"
    assert is_on(running, mitigation)


async def test_more_time_withdraws_the_question(running: Site) -> None:
    """Who extends a mitigation need not reject its undo too: the question is gone, and may come again."""
    mitigation = await mitigated(running, "s4")
    end(running, mitigation)
    asked = await question(running, f"{mitigation}-undo")
    later = utc_now() + timedelta(hours=1)
    running.ledger.in_force.extend(mitigation, until=later, person="ada", reason="not today")
    running.dispatcher.wake()
    state = await running.closed(asked.request.id)
    await until(lambda: running.ledger.in_force.get(mitigation).undo is None, what="the end")

    assert state is ApprovalState.WITHDRAWN
    assert "not today" in running.ledger.approvals.get(asked.request.id).request.closed_reason
    assert not is_on(running, mitigation)


async def test_an_undo_whose_target_has_changed_is_asked_about_again(running: Site) -> None:
    """What was approved is not run on something else; the next question says what has changed."""
    mitigation = await mitigated(running, "s5")
    running.ledger.in_force.order_undo(mitigation, person="ada", reason="it is fixed")
    running.dispatcher.wake()
    asked = await question(running, f"{mitigation}-undo")
    running.flags.add_rule("web", "production", asked.plan.steps[0].action.target.path[-1])
    running.decide(asked)
    again = await question(running, f"{mitigation}-undo-2")

    assert not is_on(running, mitigation)
    assert "stopped at step 1: changed since the plan was sealed: version" in again.plan.rationale
    running.decide(again)
    await undone(running, mitigation)
    assert is_on(running, mitigation)
    running.check_audit()


async def test_a_message_that_is_delivered_again(running: Site) -> None:
    """An order whose delivery is repeated, before and after its workflow has ended, starts one workflow."""
    mitigation = await mitigated(running, "s3")
    incident = mitigation.partition("/")[0]
    order = running.ledger.in_force.order_undo(mitigation, person="ada", reason="r")
    message = OutboxMessage(
        id=0,
        kind=UNDO,
        key="k",
        incident=incident,
        payload=order.model_dump(mode="json"),
        trace={},
        attempts=1,
    )
    start = running.dispatcher.handlers[UNDO]
    await start(message)
    await start(message)
    handle = running.client.get_workflow_handle(names.mitigation_workflow_id(order.mitigation))
    running.decide(await question(running, order.mitigation), Verdict.REJECT, reason="no")
    await handle.result()
    await start(message)

    described = await handle.describe()
    assert described.status is WorkflowExecutionStatus.COMPLETED
    assert len([one for one in running.ledger.approvals.list() if one.mitigation == order.mitigation]) == 1
