"""The way of one incident, on the real engine."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from temporalio import activity
from temporalio.worker import Worker, WorkerDeploymentConfig

from activities.launchdarkly.fake import Fault
from authority.decisions import Signer
from contracts import messages, names
from contracts.approvals import ApprovalState, Decision, Verdict
from contracts.catalogue import Catalogue
from contracts.evidence import EvidenceKind
from contracts.incidents import AlertStatus, AttemptEnd, Effect, Phase
from contracts.outcomes import EffectResult, MitigationResult, Outcome, StepResult
from runtime import engine, temporal
from runtime.clock import utc_now
from tests import site as sites
from tests.site import TOKEN, Site, query, until
from workflows.mitigation import MitigationWorkflow


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Give one product for all tests of this module; each uses a service of its own."""
    async with sites.site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    """Count the services that were given away."""
    return count()


@pytest.fixture
def service(running: Site, numbers: Iterator[int]) -> str:
    """Give a service that no other test uses."""
    return running.catalogue.services[next(numbers)].name


async def test_ineffective_then_effective(running: Site, service: str) -> None:
    """A mitigation that does not help is followed by the next, and one that helps leads to the postmortem."""
    running.alert(service)
    incident = await running.command(service)
    first = await running.asked(incident.id)
    running.decide(first)
    second = await running.asked(incident.id, 2)
    running.break_service(service, 0.001)
    running.decide(second)
    await running.phase(incident.id, Phase.MONITORING)
    running.alert(service, status=AlertStatus.RESOLVED)
    seen = await running.phase(incident.id, Phase.LEARNING)

    assert [attempt.end for attempt in seen.attempts] == [AttemptEnd.INEFFECTIVE, AttemptEnd.EFFECTIVE]
    assert first.plan.steps[0].action.target != second.plan.steps[0].action.target
    assert running.changes(f"{service}-new") == 1
    assert running.changes(f"{service}-old") == 1
    text = running.postmortem(incident.id) or ""
    assert "## Root Cause" in text
    assert "ineffective" in text
    running.check_audit()


async def test_same_alert_twice_is_one_incident(running: Site, service: str) -> None:
    """The same delivery from two Alertmanagers is one incident with one plan."""
    running.alert(service)
    running.alert(service)
    incident = await running.incident(service)
    await running.asked(incident.id)
    running.alert(service)

    assert len([one for one in running.ledger.incidents.list() if one.service == service]) == 1
    assert running.ledger.approvals.for_mitigation(f"{incident.id}/2") is None


async def test_rejected_plan_is_not_proposed_again(running: Site, service: str) -> None:
    """After a rejection nothing ran, and the next plan is another one."""
    running.alert(service)
    incident = await running.command(service)
    first = await running.asked(incident.id)
    running.decide(first, Verdict.REJECT, reason="not that one")
    second = await running.asked(incident.id, 2)

    assert second.plan.steps[0].action != first.plan.steps[0].action
    assert running.flags.config("web", "production", f"{service}-new")["on"]
    assert running.changes(f"{service}-new") == running.changes(f"{service}-old") == 0


async def test_signal_that_clears_withdraws_the_question(running: Site, service: str) -> None:
    """When the alert resolves before anybody decided, nothing runs and the incident is resolved."""
    running.alert(service)
    incident = await running.command(service)
    asked = await running.asked(incident.id)
    running.break_service(service, 0.0)
    running.alert(service, status=AlertStatus.RESOLVED)
    seen = await running.phase(incident.id, Phase.LEARNING)

    assert [attempt.end for attempt in seen.attempts] == [AttemptEnd.WITHDRAWN]
    assert await running.closed(asked.request.id) is ApprovalState.WITHDRAWN
    assert running.changes(f"{service}-new") == 0


async def test_drift_voids_the_approval_and_asks_again(running: Site, service: str) -> None:
    """A target that changed since the plan is not touched; the next plan shows the difference."""
    running.alert(service)
    incident = await running.command(service)
    asked = await running.asked(incident.id)
    flag = asked.plan.steps[0].action.target.path[-1]
    running.flags.add_rule("web", "production", flag)
    running.decide(asked)
    again = await running.asked(incident.id, 2)

    assert running.changes(flag) == 0
    assert again.plan.supersedes == asked.request.plan_digest
    assert again.plan.differences
    assert EvidenceKind.DRIFT in running.kinds(incident.id)


async def test_resolved_by_a_person_while_waiting(running: Site, service: str) -> None:
    """A person's order to resolve withdraws the open question and ends with the postmortem."""
    running.alert(service)
    incident = await running.command(service)
    asked = await running.asked(incident.id)
    running.order(incident.id, "resolve")
    await running.phase(incident.id, Phase.LEARNING)

    assert await running.closed(asked.request.id) is ApprovalState.WITHDRAWN
    assert running.postmortem(incident.id)


async def test_nothing_left_asks_a_person(running: Site, service: str) -> None:
    """When every playbook has been turned down the incident says why it needs a person."""
    running.alert(service)
    incident = await running.command(service)
    running.decide(await running.asked(incident.id), Verdict.REJECT, reason="no")
    running.decide(await running.asked(incident.id, 2), Verdict.REJECT, reason="no")
    attention = await running.attention(incident.id)

    assert "no mitigation to propose" in attention
    assert "no flag of" in attention


async def test_worse_is_undone(running: Site, service: str) -> None:
    """A mitigation that makes it worse is undone under the same approval, and the next one is proposed."""
    running.alert(service)
    incident = await running.command(service)
    asked = await running.asked(incident.id)
    flag = asked.plan.steps[0].action.target.path[-1]
    running.decide(asked)
    await until(lambda: running.changes(flag) == 1, what="the change, which makes it worse")
    running.break_service(service, 0.9)
    await running.asked(incident.id, 2)
    attempt = running.ledger.incidents.get(incident.id).attempts[0]

    assert (attempt.end, attempt.undone) == (AttemptEnd.WORSE, True)
    assert running.flags.config("web", "production", flag)["on"]
    assert running.changes(flag) == 2


async def test_worse_is_told_and_may_be_undone_before_it_has_settled(tmp_path: Path) -> None:
    """Who undoes it need not wait until its provider has carried it out: here no SDK has it yet."""

    def observed(book: Catalogue) -> Catalogue:
        (project,) = book.launchdarkly
        seen = {"sdk_key_env": "SDK_KEY", "stream": project.api, "sdk_environment": "production"}
        return book.model_copy(update={"launchdarkly": (project.model_copy(update=seen),)})

    def secret(name: str) -> str:
        return "sdk-key" if name == "SDK_KEY" else TOKEN

    async with sites.site(tmp_path, services=1, more=observed, secret=secret) as site:
        site.flags.state.sdk_keys["sdk-key"] = ["web", "production"]
        site.flags.muted = True
        site.alert("s0")
        incident = await site.command("s0")
        asked = await site.asked(incident.id)
        flag = asked.plan.steps[0].action.target.path[-1]
        site.decide(asked)
        await until(lambda: site.changes(flag) == 1, what="the change, which makes it worse")
        site.break_service("s0", 0.9)
        said = await site.attention(incident.id)
        before = site.changes(flag)
        order = site.ledger.in_force.order_undo(asked.plan.mitigation, person="ada", reason="it is worse")
        undo = await until(lambda: site.ledger.approvals.for_mitigation(order.mitigation), what="its undo")
        site.decide(undo)
        await until(lambda: site.flags.config("web", "production", flag)["on"], what="the way back")
        attempt = await until(lambda: site.ledger.incidents.get(incident.id).attempts, what="its end")
        site.check_audit()

        assert "worse (healthy is below 0.05) while it is under way: s0-old is off for SDKs that poll" in said
        assert (before, site.changes(flag)) == (1, 2)
        assert (undo.plan.violations, attempt[0].end) == ((), AttemptEnd.INEFFECTIVE)


async def test_provider_that_refuses_leads_to_the_next_plan(running: Site, service: str) -> None:
    """A change that the provider refuses ends as refused, with its reason, and is not tried for ever."""
    running.alert(service)
    incident = await running.command(service)
    asked = await running.asked(incident.id)
    running.flags.fail(Fault.FORBIDDEN, method="PATCH", path=asked.plan.steps[0].action.target.path[-1])
    running.decide(asked)
    await running.asked(incident.id, 2)
    attempt = running.ledger.incidents.get(incident.id).attempts[0]

    assert attempt.end is AttemptEnd.REFUSED
    assert attempt.detail
    assert running.changes(asked.plan.steps[0].action.target.path[-1]) == 1


async def test_forged_updates_run_nothing(running: Site, service: str) -> None:
    """A raw client that delivers a decision of its own achieves evidence; the real one still runs."""
    running.alert(service)
    incident = await running.command(service)
    asked = await running.asked(incident.id)
    await running.phase(incident.id, Phase.MITIGATING)
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
    handle = running.client.get_workflow_handle(names.mitigation_workflow_id(asked.plan.mitigation))
    for verdict in Verdict:
        forged = mallory.sign(decision.model_copy(update={"verdict": verdict}))
        await handle.execute_update(names.UPDATE_DECIDE, forged, id=f"forged-{verdict}")
        await asyncio.sleep(0.5)
    flag = asked.plan.steps[0].action.target.path[-1]

    assert running.changes(flag) == 0
    assert EvidenceKind.DECISION_REFUSED in running.kinds(incident.id)
    running.decide(asked)
    await until(lambda: running.changes(flag) == 1)
    running.check_audit()


async def test_unknown_service_asks_a_person(running: Site) -> None:
    """An alert for a service that the catalogue does not have opens an incident that says so."""
    running.alert("nobody-knows")
    incident = await running.incident("nobody-knows")

    def said() -> bool | None:
        attention = running.ledger.incidents.get(incident.id).attention or ""
        return "the catalogue has no service nobody-knows" in attention or None

    assert await until(said, what="a person is asked for")


async def test_unanswered_question_expires(tmp_path: Path) -> None:
    """A question that nobody answers expires, nothing runs, a person is asked; a late answer is refused."""
    async with sites.site(tmp_path, approval=timedelta(seconds=1), services=1) as site:
        site.alert("s0")
        incident = await site.command("s0")
        asked = await site.asked(incident.id)

        assert await site.closed(asked.request.id) is ApprovalState.EXPIRED
        assert "expired" in await site.attention(incident.id)
        with pytest.raises(Exception, match="expired"):
            site.decide(asked)
        assert site.changes("s0-new") == 0
        site.order(incident.id, "replan")
        await site.asked(incident.id, 2)


async def test_alert_after_the_order_to_resolve_opens_the_next_incident(running: Site, service: str) -> None:
    """What fires anew while an incident is being ended is not lost with it."""
    running.alert(service)
    incident = await running.command(service)
    running.decide(await running.asked(incident.id))
    await until(lambda: running.changes(f"{service}-new") + running.changes(f"{service}-old") == 1)
    running.order(incident.id, "resolve")
    await until(lambda: running.ledger.outbox.backlog() == 0)
    running.alert(service, fingerprint="another")
    await running.phase(incident.id, Phase.LEARNING)

    def next_one() -> str | None:
        found = [one.id for one in running.ledger.incidents.list() if one.service == service]
        return found[0] if found[0] != incident.id else None

    following = await until(next_one, what="the next incident")
    await running.asked(following)


async def test_no_data_after_the_alerts_ended_asks_a_person_and_waits(running: Site, service: str) -> None:
    """An incident that cannot tell whether it is healthy says so, and waits for an order."""
    running.alert(service)
    incident = await running.command(service)
    await running.asked(incident.id)
    running.metrics.set(query(service))
    running.alert(service, status=AlertStatus.RESOLVED)
    await running.phase(incident.id, Phase.MONITORING)
    attention = await running.attention(incident.id)
    entries = len(running.kinds(incident.id))
    await asyncio.sleep(2.5)

    assert "no data" in attention
    assert len(running.kinds(incident.id)) == entries
    running.break_service(service, 0.0)
    running.order(incident.id, "replan")
    await running.phase(incident.id, Phase.LEARNING)


async def test_a_person_asks_for_a_playbook_by_name(running: Site, service: str) -> None:
    """What waits is withdrawn for it; it comes as it was asked for, and again as such after a drift."""
    running.alert(service)
    incident = await running.command(service)
    first = await running.asked(incident.id)
    await running.phase(incident.id, Phase.MITIGATING)
    running.order(incident.id, "replan", "bo", "disable-flag", flag=f"{service}-old")
    second = await running.asked(incident.id, 2)

    assert await running.closed(first.request.id) is ApprovalState.WITHDRAWN
    assert (second.plan.requester, second.plan.title) == ("bo", f"Disable flag {service}-old")
    running.flags.add_rule("web", "production", f"{service}-old")
    running.decide(second)
    third = await running.asked(incident.id, 3)
    assert (third.plan.requester, third.plan.title) == ("bo", f"Disable flag {service}-old")
    running.decide(third, Verdict.REJECT, reason="not that one")
    assert (await running.asked(incident.id, 4)).plan.requester is None


@pytest.mark.slow
async def test_an_order_for_a_playbook_interrupts_the_watch(tmp_path: Path) -> None:
    """In the middle of a long watch a named playbook is planned at once; one without a plan is said."""
    long = {"monitoring": timedelta(minutes=5)}
    async with sites.site(tmp_path, services=1, more=lambda book: book.model_copy(update=long)) as site:
        site.alert("s0")
        incident = await site.command("s0")
        await site.asked(incident.id)
        site.break_service("s0", 0.001)
        site.alert("s0", status=AlertStatus.RESOLVED)
        await site.phase(incident.id, Phase.MONITORING)
        site.order(incident.id, "replan", "bo", "disable-flag", flag="nope")
        await until(lambda: EvidenceKind.ATTENTION_NEEDED in site.kinds(incident.id), what="it is said")
        watched = await site.phase(incident.id, Phase.MONITORING)
        site.order(incident.id, "replan", "bo", "disable-flag", flag="s0-old")
        asked = await site.asked(incident.id, 2)
        await asyncio.sleep(0.5)

        assert (watched.attention, site.kinds(incident.id).count(EvidenceKind.ATTENTION_NEEDED)) == (None, 1)
        assert asked.plan.requester == "bo"
        assert site.ledger.approvals.get(asked.request.id).request.state is ApprovalState.PENDING
        site.decide(asked, Verdict.REJECT, reason="no longer")
        await site.phase(incident.id, Phase.MONITORING)


async def test_a_named_playbook_with_nothing_to_propose_loses_nothing(running: Site, service: str) -> None:
    """What waited is asked about again, the person reads why, and the end of all alerts still resolves it."""
    running.alert(service)
    incident = await running.command(service)
    first = await running.asked(incident.id)
    await running.phase(incident.id, Phase.MITIGATING)
    running.order(incident.id, "replan", "bo", "disable-flag", flag="nope")
    second = await running.asked(incident.id, 2)
    said = [
        entry.summary
        for entry in running.ledger.evidence.entries(incident=incident.id)
        if entry.kind is EvidenceKind.ATTENTION_NEEDED
    ]

    assert (second.plan.requester, second.plan.title) == (None, first.plan.title)
    nothing = f"disable-flag: {service} has no flag nope; it has {service}-old, {service}-new"
    assert said == [f'bo asks for disable-flag (flag "nope"), which has nothing to propose: {nothing}']
    running.break_service(service, 0.0)
    running.alert(service, status=AlertStatus.RESOLVED)
    await running.phase(incident.id, Phase.LEARNING)


async def test_a_named_plan_that_expires_after_the_alerts_ended_is_over(tmp_path: Path) -> None:
    """Nobody is needed for a question that nobody answered when all is well: it is watched and resolved."""
    async with sites.site(tmp_path, approval=timedelta(seconds=2), services=1) as site:
        site.alert("s0")
        incident = await site.command("s0")
        await site.asked(incident.id)
        site.order(incident.id, "replan", "bo", "disable-flag", flag="s0-old")
        named = await site.asked(incident.id, 2)
        site.break_service("s0", 0.0)
        site.alert("s0", status=AlertStatus.RESOLVED)
        seen = await site.phase(incident.id, Phase.LEARNING)

        assert await site.closed(named.request.id) is ApprovalState.EXPIRED
        assert seen.attempts[-1].end is AttemptEnd.EXPIRED


@pytest.mark.slow
async def test_thousands_of_alerts_do_not_stop_an_incident(running: Site, service: str) -> None:
    """A delivery with thousands of alerts is one incident that still can be planned for and resolved."""
    alerts = [running.firing(service, fingerprint=f"{number}") for number in range(3000)]
    running.ledger.inbox.accept("test", b"{}", alerts, trace={})
    running.dispatcher.wake()
    incident = await running.command(service)
    asked = await running.asked(incident.id)
    ledger = running.ledger
    await until(lambda: len(ledger.incidents.get(incident.id).alerts) == len(alerts), within=40)
    await until(lambda: ledger.outbox.backlog() == 0, within=40)
    running.order(incident.id, "resolve")
    await running.phase(incident.id, Phase.LEARNING, within=40)

    assert await running.closed(asked.request.id) is ApprovalState.WITHDRAWN
    assert len([one for one in running.ledger.incidents.list() if one.service == service]) == 1


async def test_a_frozen_mitigation_can_be_planned_again(running: Site, service: str) -> None:
    """What a freeze held back is not planned again by itself, and is when a person asks for it afterwards."""
    frozen = running.ledger.freezes.set(service=service, reason="odd", person="ada")
    running.alert(service)
    incident = await running.command(service)
    first = await running.asked(incident.id)
    running.decide(first)
    await until(lambda: running.ledger.incidents.get(incident.id).attempts or None, what="the attempt")
    (attempt,) = running.ledger.incidents.get(incident.id).attempts
    running.ledger.freezes.lift(frozen.id, reason="over", person="ada")
    running.order(incident.id, "replan")
    again = await running.asked(incident.id, 2)

    assert [one.rule for one in first.plan.violations] == ["freeze"]
    assert attempt.end is AttemptEnd.HELD
    assert "guardrail freeze: ada stopped changes of" in attempt.detail
    assert (again.plan.title, again.plan.violations) == (first.plan.title, ())


async def test_a_decision_that_comes_while_the_ledger_is_read_counts(running: Site) -> None:
    """After a forged decision the true one is not lost, even when it arrives while the ledger is slow."""
    decision = Decision(
        request="APR-1",
        incident="INC-1",
        mitigation="INC-1/1",
        plan_digest="d",
        policy_digest="p",
        verdict=Verdict.APPROVE,
        person="ada",
        authenticated_by="local",
        decided_at=utc_now(),
        expires_at=utc_now() + timedelta(minutes=1),
    )
    forged, true = Signer(Ed25519PrivateKey.generate()).sign(decision), running.signer.sign(decision)
    is_read, is_delivered = asyncio.Event(), asyncio.Event()

    @activity.defn(name=names.RUN_STEP)
    async def run_step(order: messages.StepOrder) -> StepResult:
        wrong = "" if order.signed == true else "forged"
        return StepResult(action="a", outcome=Outcome.NOT_DONE if wrong else Outcome.DONE, forbidden=wrong)

    @activity.defn(name=names.VERIFY_STEP)
    async def verify_step(_: messages.VerifyOrder) -> EffectResult:
        return EffectResult(effect=Effect.EFFECTIVE, detail="it helped", ended_at=utc_now())

    @activity.defn(name=names.CLOSE_APPROVAL)
    async def close_approval(_: messages.CloseApproval) -> messages.ClosedApproval:
        is_read.set()  # nobody has decided yet, and the answer takes its time
        await is_delivered.wait()
        return messages.ClosedApproval(state=ApprovalState.PENDING)

    answer = messages.PlanAnswer(
        mitigation="INC-1/1",
        approval="APR-1",
        plan_digest="d",
        expires_at=decision.expires_at,
        steps=(messages.StepBrief(number=1, title="x", verified=True, undoable=False),),
    )
    version = temporal.version(running.config)
    async with Worker(
        running.client,
        task_queue="slow",
        workflows=[MitigationWorkflow],
        activities=[run_step, verify_step, close_approval],
        deployment_config=WorkerDeploymentConfig(version=version, use_worker_versioning=True),
    ):
        handle = await running.client.start_workflow(
            names.MITIGATION_WORKFLOW,
            messages.MitigationOrder(incident="INC-1", answer=answer),
            id="slow",
            task_queue="slow",
            task_timeout=timedelta(seconds=1),
            result_type=MitigationResult,
        )
        await handle.signal(names.SIGNAL_DECISION, forged)
        await is_read.wait()
        await handle.signal(names.SIGNAL_DECISION, true)
        await asyncio.sleep(
            2
        )  # longer than the workflow's task waits for the ledger before it looks at what came
        is_delivered.set()
        async with asyncio.timeout(10):
            result = await handle.result()

    assert result.end is AttemptEnd.EFFECTIVE


async def test_an_order_to_resolve_outlives_a_long_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An incident that grows too long for one run while it is being ended does end, and asks nothing more."""
    monkeypatch.setitem(engine.DYNAMIC_CONFIG, "limit.historyCount.suggestContinueAsNew", "25")
    async with sites.site(tmp_path, services=1) as site:
        site.alert("s0")
        incident = await site.command("s0")
        await site.asked(incident.id)
        await site.phase(incident.id, Phase.MITIGATING)
        site.order(incident.id, "resolve")
        await site.phase(incident.id, Phase.LEARNING)

        assert site.ledger.approvals.for_mitigation(f"{incident.id}/2") is None


async def test_an_order_for_a_playbook_outlives_a_long_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An incident that goes on as a new run right after it withdrew a plan for a named one plans that one."""
    monkeypatch.setitem(engine.DYNAMIC_CONFIG, "limit.historyCount.suggestContinueAsNew", "25")
    async with sites.site(tmp_path, services=1) as site:
        site.alert("s0")
        incident = await site.command("s0")
        await site.asked(incident.id)
        await site.phase(incident.id, Phase.MITIGATING)
        site.order(incident.id, "replan", "bo", "disable-flag", flag="s0-old")
        asked = await site.asked(incident.id, 2)
        described = await site.client.get_workflow_handle(names.incident_workflow_id(incident.id)).describe()
        first = described.raw_description.workflow_execution_info.first_run_id

        assert asked.plan.requester == "bo"
        assert described.run_id != first
