"""A decision that is right, out of turn: it stays right for ever, and does not say when each step is due."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities import steps
from activities.verification import Watching, effect_of
from authority.seals import digest
from contracts.approvals import SignedDecision, Verdict
from contracts.errors import ForbiddenError
from contracts.incidents import Attempt, AttemptEnd, Effect, Phase, Role
from contracts.messages import RecordRequest, VerifyOrder
from contracts.outcomes import Direction, Progress, Reached
from contracts.plans import Needs
from ledger import Answer
from runtime.clock import utc_now
from tests.activities.judged import judge
from tests.campaigns import forging
from tests.campaigns.forging import Genuine, World

NO, YES = (Progress(reached=reached) for reached in (Reached.NO, Reached.YES))


@pytest.fixture
def world() -> Iterator[World]:
    """Give flags, and approved plans of two steps that switch some off."""
    with forging.world(1, many=4) as made:
        yield made


def run(world: World, mine: Genuine, ahead: timedelta = timedelta(), **order: Any) -> str:
    """Run a step under the decision that is right; give why it was refused, empty if it was not."""
    return world.run(forging.Attempt(mine.order(**order), ahead=ahead))


def end(world: World, mine: Genuine) -> None:
    """Take down that a mitigation has ended, as its incident does."""
    facts = mine.plan.model_dump(include={"mitigation", "playbook", "title"})
    attempt = Attempt(**facts, plan_digest="", end=AttemptEnd.INEFFECTIVE)
    world.ledger.incidents.record(
        RecordRequest(incident=mine.plan.incident, version=1, phase=Phase.TRIAGE, attempts=(attempt,))
    )


@pytest.mark.parametrize("settled", [NO, YES])
def test_a_step_waits_for_those_before_it(world: World, settled: Progress) -> None:
    """The second step is done when the first was done and has ended well, and not before."""
    mine = world.one()
    name = mine.plan.mitigation
    late = f"{name}: step 2 is not due, step 1 has not ended well"

    assert run(world, mine, step=2) == late
    assert run(world, mine) == ""
    assert run(world, mine, step=2) == late
    judge(world.ledger, f"{name}/1/apply", Effect.INCONCLUSIVE, settled)
    assert run(world, mine, step=2) == ("" if settled is YES else late)
    assert len(world.flags.arrived("PATCH")) == (2 if settled is YES else 1)


def test_an_approved_step_behind_one_that_is_not(world: World) -> None:
    """Whoever approves the second step alone need not wait for the first."""
    plan = world.one().plan
    mine = Genuine(plan, forging.OURS.sign(world.decision(plan, steps=(2,))))

    assert run(world, mine, step=2) == ""


@pytest.mark.parametrize("effect", [None, Effect.EFFECTIVE, Effect.INEFFECTIVE, Effect.INCONCLUSIVE])
def test_only_what_the_plan_names_is_undone(world: World, effect: Effect | None) -> None:
    """The declared undo needs an effect that was seen and after which the plan takes its steps back."""
    mine = world.one()
    run(world, mine)
    if effect is not None:
        judge(world.ledger, f"{mine.plan.mitigation}/1/apply", effect)
    said = run(world, mine, direction=Direction.UNDO)

    assert said == f"{mine.plan.mitigation}: nothing was measured that calls for its undo"


@pytest.mark.parametrize("settled", [YES, Progress(reached=Reached.SETTLING)])
def test_what_made_it_worse_is_undone(world: World, settled: Progress) -> None:
    """The declared undo runs after an effect that the plan names, also before the step has settled."""
    mine = world.one()
    run(world, mine)
    judge(world.ledger, f"{mine.plan.mitigation}/1/apply", Effect.WORSE, settled)

    assert run(world, mine, direction=Direction.UNDO) == ""


def test_nothing_is_done_after_the_end(world: World) -> None:
    """When a mitigation has ended its decision does nothing more, and no target stays locked."""
    mine = world.one()
    run(world, mine)
    judge(world.ledger, f"{mine.plan.mitigation}/1/apply", Effect.WORSE, YES)
    end(world, mine)
    said = [run(world, mine, step=2), run(world, mine, direction=Direction.UNDO)]

    assert said == [f"{mine.plan.mitigation} has ended"] * 2
    assert len(world.flags.arrived("PATCH")) == 1
    assert world.ledger.guardrails.locks() == []


def test_what_ended_before_its_first_step_is_not_begun(world: World) -> None:
    """A mitigation that was given up before anything ran does not run afterwards."""
    mine = world.one()
    end(world, mine)

    assert run(world, mine) == f"{mine.plan.mitigation} has ended"


def test_what_was_begun_in_time_goes_on_soon_or_not_at_all(world: World) -> None:
    """After its plan's expiry a mitigation goes on, but not when it has stood still for more than an hour."""
    mine = world.one(ends=1)
    run(world, mine)
    judge(world.ledger, f"{mine.plan.mitigation}/1/apply", Effect.EFFECTIVE)
    time.sleep(1.1)

    assert "it expired at" in run(world, mine, timedelta(hours=2), step=2)
    assert run(world, mine, step=2) == ""


def test_what_was_not_done_has_no_effect(world: World) -> None:
    """Nobody gets a judgement on a step before it ran, nor one on another plan's step for it."""
    mine, other = world.one(), world.one()
    run(world, other)
    watching = Watching(
        ledger=world.ledger, catalogue=world.catalogue, registry=world.registry, clock=utc_now
    )
    orders = [mine.order(), mine.order(plan_digest=other.order().plan_digest)]
    early, borrowed = [VerifyOrder(**one.model_dump(exclude={"signed"})) for one in orders]

    with pytest.raises(ForbiddenError, match="was not done: there is nothing to verify"):
        ActivityEnvironment().run(watching.verify_step, early)
    ActivityEnvironment().run(watching.verify_step, borrowed)
    assert effect_of(world.ledger, f"{mine.plan.mitigation}/1/apply") is None
    assert effect_of(world.ledger, f"{other.plan.mitigation}/1/apply") is not None


def test_what_began_with_nothing_to_do_goes_on(world: World) -> None:
    """A first step that was done already began its mitigation in time, as one that had to be done."""
    world.flags.turn("web", "production", "f0", on=False)
    mine = world.one(ends=1)
    run(world, mine)
    judge(world.ledger, f"{mine.plan.mitigation}/1/apply", Effect.EFFECTIVE)
    time.sleep(1.1)

    assert run(world, mine, step=2) == ""


def test_an_undo_that_is_due_is_not_too_late(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured to be worse is taken back, however long the engine was away meanwhile."""
    monkeypatch.setattr(steps, "PAUSE", timedelta(0))
    mine = world.one(ends=1)
    run(world, mine)
    judge(world.ledger, f"{mine.plan.mitigation}/1/apply", Effect.WORSE)
    time.sleep(1.1)

    assert "it expired at" in run(world, mine, step=2)
    assert run(world, mine, direction=Direction.UNDO) == ""


def test_a_clock_that_is_ahead_calls_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker for which each intent is old gives up after a few, and is tried again later."""
    monkeypatch.setattr(steps, "SURE_FAILURES", 2)
    mine = world.one()

    assert "its clock is ahead of the ledger's" in run(world, mine, timedelta(seconds=9))
    assert world.flags.arrived("PATCH") == []
    entry = world.ledger.journal.get(f"{mine.plan.mitigation}/1/apply")
    assert entry is not None
    assert entry.fence == 2


def test_what_was_narrowed_since_is_not_what_runs(world: World) -> None:
    """What the first of two said before they said less stays true, and is not what is recorded."""
    plan, approvals = world.seal(Needs.TWO, Needs.TWO), world.ledger.approvals
    for role, person in ((Role.INCIDENT_COMMANDER, "ada"), (Role.TECHNICAL_LEAD, "erin")):
        world.ledger.incidents.assign(plan.incident, role, person, by=person)

    def approve(person: str, *steps: int) -> SignedDecision:
        asked = approvals.for_mitigation(plan.mitigation)
        assert asked is not None
        return approvals.decide(
            asked.request.id,
            Answer(Verdict.APPROVE, digest(plan), person, "oidc", steps=steps),
            policy=forging.POLICY,
            signer=forging.OURS,
            trace={},
        )

    wide, _, both = approve("ada"), approve("ada", 2), approve("erin")
    assert [one.allows(1) for one in (wide, both)] == [True, False]
    mine = Genuine(plan, both)
    for crafted in (both.model_copy(update={"others": (wide,)}), both.model_copy(update={"others": ()})):
        for step in (1, 2):
            order = mine.order(crafted, step=step)
            assert world.run(forging.Attempt(order, is_written=False)) != ""
    assert world.flags.arrived("PATCH") == []
    assert world.run(forging.Attempt(mine.order(step=2), is_written=False)) == ""
