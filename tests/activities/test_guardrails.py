"""The guardrails around a step: a refused one reaches no provider, and a freeze stops all that follow."""

import threading
import time
from datetime import timedelta

from activities.launchdarkly import SetFlag
from activities.launchdarkly.fake import Fault
from contracts.catalogue import GuardrailLimits
from contracts.evidence import EvidenceKind
from contracts.incidents import Attempt, AttemptEnd, Phase
from contracts.messages import RecordRequest
from contracts.outcomes import Direction, Outcome
from contracts.plans import Observation
from tests.activities.judged import judge
from tests.activities.test_steps import KEY, QuickSetFlag, Scene
from tests.activities.test_steps import scene as scene  # noqa: PLC0414  (a fixture)


class TimedSetFlag(QuickSetFlag):
    """The same action, which notes when it calls."""

    calls: list[float]

    def apply(self, request: SetFlag, observed: Observation, *, action_id: str) -> None:
        """Note the time, and call."""
        self.calls.append(time.monotonic())
        super().apply(request, observed, action_id=action_id)


def freeze(scene: Scene) -> None:
    """Stop all changes."""
    scene.ledger.freezes.set(service=None, reason="odd", person="grace")


def test_a_frozen_step_reaches_no_provider(scene: Scene) -> None:
    """An approved step ends not done under a freeze, with the sentence that says who froze."""
    freeze(scene)
    result = scene.run()

    assert (result.outcome, scene.applied, scene.is_on) == (Outcome.NOT_DONE, 0, True)
    assert result.held
    assert result.detail.startswith("guardrail freeze: grace stopped all changes at ")
    kinds = [entry.kind for entry in scene.ledger.evidence.entries(incident=scene.incident)]
    assert kinds[-2:] == [EvidenceKind.GUARDRAIL, EvidenceKind.OUTCOME]


def test_an_override_of_a_freeze_is_for_that_freeze(scene: Scene) -> None:
    """Who approves against a freeze goes on against it, and not against another one that begins later."""
    freeze(scene)
    for number in (2, 3):
        scene.plan = scene.seal(number)
        scene.signed = scene.approve(scene.plan, overrides=("freeze",))
        if number == 2:
            scene.ledger.freezes.set(service="shop", reason="worse", person="linus")
            result = scene.run()

            assert (result.held, scene.applied) == (True, 0)
            assert "linus stopped changes of shop" in result.detail
    assert (scene.run().outcome, scene.applied) == (Outcome.DONE, 1)


def test_forcing_renews_no_override(scene: Scene) -> None:
    """An order to force sets aside only what the approval has, and that only as it stood then."""
    freeze(scene)
    scene.plan = scene.seal(2)
    forced = scene.plan.steps[0].model_copy(update={"forced": scene.plan.steps[0].action})
    scene.plan = scene.plan.model_copy(update={"steps": (forced,)})
    scene.signed = scene.approve(scene.plan, overrides=("freeze",))
    assert scene.run().outcome is Outcome.DONE
    scene.flags.turn("web", "production", KEY, on=True)
    scene.ledger.freezes.set(service="shop", reason="worse", person="linus")
    result = scene.run(scene.order(Direction.FORCE, signed=scene.force()))

    assert (result.held, scene.applied) == (True, 1)
    assert "linus stopped changes of shop" in result.detail


def test_a_freeze_between_two_tries(scene: Scene) -> None:
    """A step that waits to try again sees the freeze and does not."""
    scene.flags.throttle_headers = {"Retry-After": "1"}
    scene.flags.fail(Fault.THROTTLED, method="PATCH")
    timer = threading.Timer(0.4, freeze, [scene])
    timer.start()
    result = scene.run()
    timer.join()

    assert (result.outcome, scene.applied) == (Outcome.NOT_DONE, 0)
    assert "guardrail freeze" in result.detail


def test_an_undo_waits_for_the_end_of_a_freeze(scene: Scene) -> None:
    """Our own undo is stopped by a freeze too."""
    scene.run()
    freeze(scene)
    result = scene.run(scene.order(Direction.UNDO))

    assert (result.outcome, scene.applied, scene.is_on) == (Outcome.NOT_DONE, 1, False)


def test_the_last_call_after_a_freeze(scene: Scene) -> None:
    """In a loop of mitigations no call begins a second after a freeze was answered."""
    limits = GuardrailLimits(cooldown=timedelta(), actions_per_hour=1_000)
    scene.catalogue = scene.catalogue.model_copy(update={"guardrails": limits})
    timed = TimedSetFlag(scene.client)
    timed.calls = []
    scene.action = timed
    stopped = threading.Event()

    def work() -> None:
        attempts: tuple[Attempt, ...] = ()
        for number in range(2, 500):
            scene.plan = scene.seal(number)
            scene.signed = scene.approve(scene.plan)
            for direction in (Direction.APPLY, Direction.UNDO):
                if "guardrail freeze" in scene.run(scene.order(direction)).detail:
                    stopped.set()
                    return
                judge(scene.ledger, f"{scene.plan.mitigation}/1/apply")
            facts = scene.plan.model_dump(include={"mitigation", "playbook", "title"})
            attempts += (Attempt(**facts, plan_digest="d" * 64, end=AttemptEnd.EFFECTIVE),)
            scene.ledger.incidents.record(
                RecordRequest(incident=scene.incident, version=number, phase=Phase.TRIAGE, attempts=attempts)
            )

    worker = threading.Thread(target=work)
    worker.start()
    while len(timed.calls) < 6 and worker.is_alive():
        time.sleep(0.005)
    freeze(scene)
    answered = time.monotonic()
    worker.join(20)

    assert stopped.is_set()
    assert timed.calls[-1] - answered < 1
