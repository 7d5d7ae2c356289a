"""Who is asked and what they said, as the whole product acts on it, on the real engine."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker, WorkerDeploymentConfig

from authority.policy import DEFAULT
from contracts import names
from contracts.approvals import Approval, ApprovalState, Decision, Envelope, SignedDecision, Verdict
from contracts.evidence import EvidenceKind
from contracts.incidents import AttemptEnd, Effect, Incident, Phase, Role
from contracts.messages import MitigationOrder, PlanAnswer, StepBrief, StepOrder, VerifyOrder
from contracts.outcomes import Direction, EffectResult, MitigationResult, Outcome, StepResult
from ledger import Answer
from runtime import temporal
from runtime.clock import utc_now
from runtime.policy import load_policy
from tests import site as sites
from tests.site import Site, until
from workflows.mitigation import MitigationWorkflow

TWO, NOBODY, GRANTED, SIGNALLED, BROKEN, OUTSIDE = (f"s{number}" for number in range(6))
POLICY = DEFAULT.replace('@id("one-person")\npermit (principal, action == Action::"run", resource)\nwhen {',
    f'@id("two-for-one")\nforbid (principal, action == Action::"run", resource)\n'
    f'when {{ ["{TWO}", "{BROKEN}"].contains(context.service) && context.approvals < 2 }};\n'
    f'@id("nobody-for-one")\npermit (principal, action == Action::"run", resource)\n'
    f'when {{ context.service == "{NOBODY}" }};\n'
    '@id("one-person")\npermit (principal, action == Action::"run", resource)\nwhen {',
)  # fmt: skip


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Give one product with a policy of its own; each test uses a service of its own."""
    home = tmp_path_factory.mktemp("site")
    (home / "policy.cedar").write_text(POLICY, encoding="utf-8")
    async with sites.site(home) as site:
        yield site


async def asked(site: Site, service: str) -> tuple[Incident, Approval]:
    """Open an incident that ada commands and grace leads technically, with its first question."""
    site.alert(service)
    incident = await site.command(service)
    site.ledger.incidents.assign(incident.id, Role.TECHNICAL_LEAD, "grace", by="ada")
    return incident, await site.asked(incident.id)


async def settled(site: Site, question: Approval) -> ApprovalState:
    """Say where a request is when everything that might have answered it by itself has had its time."""
    await asyncio.sleep(1)
    return site.ledger.approvals.get(question.request.id).request.state


def changes(site: Site, service: str) -> int:
    """Count how many changes of a service's flags arrived at LaunchDarkly."""
    return sum(site.changes(f"{service}-{flag}") for flag in ("old", "new"))


async def first_end(site: Site, incident: str) -> AttemptEnd:
    """Wait until the first mitigation has ended."""
    return await until(
        lambda: next((one.end for one in site.ledger.incidents.get(incident).attempts), None), what="an end"
    )


async def test_two_people(running: Site) -> None:
    """Nothing runs on the first yes; on the second it does."""
    incident, question = await asked(running, TWO)
    running.decide(question)

    assert "two-for-one" in question.plan.steps[0].rules
    assert await settled(running, question) is ApprovalState.PENDING
    running.decide(question, person="grace")
    assert await first_end(running, incident.id) is AttemptEnd.INEFFECTIVE
    assert changes(running, TWO) == 1


async def test_nobody_is_asked(running: Site) -> None:
    """What the policy asks nobody for runs by itself, and the log says under which authority."""
    running.alert(NOBODY)
    incident = await running.command(NOBODY)

    assert await first_end(running, incident.id) is AttemptEnd.INEFFECTIVE
    signed = (await running.asked(incident.id)).request.signed
    assert signed is not None
    assert signed.decision.authenticated_by == "policy"


@pytest.mark.parametrize(("service", "covers"), [(GRANTED, True), (OUTSIDE, False)])
async def test_grant(running: Site, service: str, covers: bool) -> None:  # noqa: FBT001  (a table's column)
    """A standing grant runs what is inside its envelope unasked; what is outside waits for a person."""
    target = f"launchdarkly:flag/web/production/{'*' if covers else 'another'}"
    running.ledger.grants.give(
        Envelope(actions=("launchdarkly.set_flag",), targets=(target,)),
        service=service,
        environment="production",
        incident=None,
        person="ada",
        authenticated_by="local",
        reason="flags are safe",
        expires_at=utc_now() + timedelta(hours=1),
        uses=1,
        after=timedelta(),
        signer=running.signer,
    )
    incident, question = await asked(running, service)
    if not covers:
        assert await settled(running, question) is ApprovalState.PENDING
        return

    assert await first_end(running, incident.id) is AttemptEnd.INEFFECTIVE
    signed = running.ledger.approvals.get(question.request.id).request.signed
    assert signed is not None
    assert signed.decision.grant is not None
    # It was good for one plan: the next one asks.
    second = await running.asked(incident.id, 2)
    assert await settled(running, second) is ApprovalState.PENDING


async def test_signalled_decision(running: Site) -> None:
    """A script may give the signed object by a plain signal; what is not the recorded one does nothing."""
    incident, question = await asked(running, SIGNALLED)
    request, plan = question.request, question.plan
    decision = Decision(
        request=request.id,
        incident=incident.id,
        mitigation=plan.mitigation,
        plan_digest=request.plan_digest,
        policy_digest=plan.policy_digest,
        verdict=Verdict.APPROVE,
        person="ada",
        authenticated_by="token",
        decided_at=utc_now(),
        expires_at=plan.expires_at,
    )
    unrecorded = running.signer.sign(decision)
    handle = running.client.get_workflow_handle(names.mitigation_workflow_id(plan.mitigation))
    await running.phase(incident.id, Phase.MITIGATING)
    none_of_ours: list[Any] = [None, b"x", {}]
    for nothing in none_of_ours:
        await handle.signal(names.SIGNAL_DECISION, nothing)
        await handle.signal(names.SIGNAL_WITHDRAW, nothing)
    for number, wrong in enumerate((unrecorded.model_copy(update={"signature": "AAAA"}), unrecorded), 1):
        await handle.signal(names.SIGNAL_DECISION, wrong)
        await until(
            lambda: running.kinds(incident.id).count(EvidenceKind.DECISION_REFUSED) == number,  # noqa: B023  (awaited)
            what="the refusal",
        )

    assert changes(running, SIGNALLED) == 0
    signed = running.ledger.approvals.decide(
        request.id,
        Answer(Verdict.APPROVE, request.plan_digest, "ada", "token"),
        policy=load_policy(running.config),
        signer=running.signer,
        trace={},
    )
    running.ledger.outbox.claim(100, timedelta(minutes=1))  # it is not to arrive by itself
    await handle.signal(names.SIGNAL_DECISION, signed)
    assert await first_end(running, incident.id) is AttemptEnd.INEFFECTIVE
    assert changes(running, SIGNALLED) == 1


async def test_broken_glass(running: Site) -> None:
    """One person runs what asks two, and two others have to say something about it."""
    incident, question = await asked(running, BROKEN)
    signed: SignedDecision = running.ledger.approvals.decide(
        question.request.id,
        Answer(
            verdict=Verdict.APPROVE,
            plan_digest=question.request.plan_digest,
            person="ada",
            authenticated_by="local",
            reason="nobody else is awake",
            break_glass=True,
        ),
        policy=load_policy(running.config),
        signer=running.signer,
        trace={},
    )
    running.dispatcher.wake()

    assert signed.decision.break_glass
    assert await first_end(running, incident.id) is AttemptEnd.INEFFECTIVE
    assert question.request.id in [one.request.id for one in running.ledger.reviews.list(open_only=True)]


def approval() -> Decision:
    """Give the decision that allows a mitigation of no incident."""
    now = utc_now()
    return Decision(
        request="APR-1",
        incident="INC-1",
        mitigation="INC-1/1",
        plan_digest="d" * 64,
        policy_digest="0" * 64,
        verdict=Verdict.APPROVE,
        person="ada",
        authenticated_by="local",
        reason="go",
        decided_at=now,
        expires_at=now + timedelta(minutes=1),
    )


@asynccontextmanager
async def mitigating(
    site: Site, answer: PlanAnswer, *activities: Callable[..., Any]
) -> AsyncIterator[WorkflowHandle[Any, MitigationResult]]:
    """Run a mitigation of no incident, whose steps are carried out by these activities."""
    queue, order = f"queue-{uuid4()}", MitigationOrder(incident="INC-1", answer=answer)
    async with Worker(
        site.client,
        task_queue=queue,
        workflows=[MitigationWorkflow],
        activities=activities,
        deployment_config=WorkerDeploymentConfig(
            version=temporal.version(site.config), use_worker_versioning=True
        ),
    ):
        yield await site.client.start_workflow(
            MitigationWorkflow.run, order, id=f"alone-{queue}", task_queue=queue
        )


DONE, REFUSED, DOUBT = Outcome.DONE, Outcome.NOT_DONE, Outcome.IN_DOUBT
UNDO = ": stanch mitigation undo INC-1/1"
MIDWAY = {
    "refused": ((DONE, DONE, REFUSED), (), (1, 2, 3), f"step 3: why; steps 1, 2 in force{UNDO}"),
    "in doubt": ((DONE, DOUBT), (), (1, 2, 3), f"step 2: why; step 1 in force{UNDO}"),
    "nothing done": ((DONE, REFUSED), (1,), (1, 2, 3), "step 2: why"),
    "no way back": ((DONE, REFUSED), (), (2, 3), "step 2: why; step 1 done, without an undo"),
    "partly": (
        (DONE, DONE, REFUSED),
        (),
        (2, 3),
        f"step 3: why; step 1 done, without an undo; step 2 in force{UNDO}",
    ),
    "worse": (
        (DONE, DONE, DONE),
        (),
        (1, 3),
        (
            "it hurts; undo of step 3: done; step 2 has no undo; undo of step 1: done;"
            " step 2 done, without an undo"
        ),
    ),
    "unseen": (
        (DONE, DONE, DONE),
        (),
        (1, 2, 3),
        (
            "it hurts; undo of step 3: done; undo of step 2: done; undo of step 2 went wrong: not seen;"
            " undo of step 1: done"
        ),
    ),
}


@pytest.mark.parametrize("midway", MIDWAY.values(), ids=MIDWAY)
async def test_a_plan_that_stops_midway(
    running: Site, midway: tuple[Sequence[Outcome], Collection[int], Collection[int], str]
) -> None:
    """Which of its steps are in force is said where it is said why it ended, with what undoes them."""
    outcomes, no_ops, undoable, said = midway

    @activity.defn(name=names.RUN_STEP)
    async def run(order: StepOrder) -> StepResult:
        if order.direction is Direction.UNDO:
            return StepResult(action="a", outcome=Outcome.DONE)
        outcome = outcomes[order.step - 1]
        return StepResult(action="a", outcome=outcome, detail="why", no_op=order.step in no_ops)

    @activity.defn(name=names.VERIFY_STEP)
    async def verify(order: VerifyOrder) -> EffectResult:
        if (order.step, order.direction) == (2, Direction.UNDO):
            raise ApplicationError("not seen", non_retryable=True)
        effect = Effect.WORSE if order.step == len(MIDWAY["worse"][0]) else Effect.EFFECTIVE
        return EffectResult(effect=effect, detail="it hurts", ended_at=utc_now())

    decision = approval()
    briefs = [
        StepBrief(number=number, title="Move", verified=number == len(outcomes), undoable=number in undoable)
        for number in range(1, 4)
    ]
    facts = {"mitigation": "INC-1/1", "approval": "APR-1", "undo_when": (Effect.WORSE,)}
    answer = PlanAnswer(**facts, expires_at=decision.expires_at, steps=tuple(briefs))
    async with mitigating(running, answer, run, verify) as handle:
        await handle.execute_update(names.UPDATE_DECIDE, running.signer.sign(decision))
        result = await handle.result()

    assert result.detail == said


async def test_a_step_that_is_forced_early(running: Site) -> None:
    """An order to force that comes before its step verifies is kept, and used once the step has run."""
    went: list[tuple[str, Direction, str]] = []
    is_forced = asyncio.Event()

    @activity.defn(name=names.RUN_STEP)
    async def run(order: StepOrder) -> StepResult:
        went.append(("run", order.direction, order.signed.decision.reason))
        await is_forced.wait()
        return StepResult(action="INC-1/1/1", outcome=Outcome.DONE)

    @activity.defn(name=names.VERIFY_STEP)
    async def verify(order: VerifyOrder) -> EffectResult:
        went.append(("verify", order.direction, ""))
        return EffectResult(effect=Effect.EFFECTIVE, detail="it helps", ended_at=utc_now())

    decision = approval()
    force = decision.model_copy(update={"forced": (1,), "reason": "at once"})
    step = StepBrief(number=1, title="Move", verified=True, undoable=False)
    answer = PlanAnswer(mitigation="INC-1/1", approval="APR-1", expires_at=decision.expires_at, steps=(step,))
    async with mitigating(running, answer, run, verify) as handle:
        for one in (decision, force):
            await handle.execute_update(names.UPDATE_DECIDE, running.signer.sign(one))
        is_forced.set()
        result = await handle.result()

    assert result.end is AttemptEnd.EFFECTIVE
    assert went == [
        ("run", Direction.APPLY, "go"),
        ("run", Direction.FORCE, "at once"),
        ("verify", Direction.FORCE, ""),
    ]
