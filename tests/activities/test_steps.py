"""Running one step: every answer of the provider, every retry, and whoever may not."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from temporalio.testing import ActivityEnvironment

from activities.launchdarkly import SetFlag, SetFlagAction
from activities.launchdarkly.client import LaunchDarklyClient
from activities.launchdarkly.fake import FakeLaunchDarkly, Fault
from activities.registry import Registry
from activities.steps import Steps
from activities.verification import Watching
from authority.decisions import Signer, Verifier
from authority.guardrails import Guard, Guardrails
from authority.policy import Policy
from authority.seals import digest
from contracts.approvals import Decision, SignedDecision, Verdict
from contracts.catalogue import Catalogue, Flag, LaunchDarklyProject, Service, ServiceEnvironment
from contracts.errors import ActionRefusedError, ProviderUnavailableError
from contracts.evidence import EvidenceKind
from contracts.incidents import Effect, Role, Severity
from contracts.messages import StepOrder, VerifyOrder
from contracts.outcomes import Direction, EffectResult, Outcome, Progress, Reached, StepResult
from contracts.plans import Observation, Plan, Risk, Step
from ledger import Answer, JournalState, Ledger
from runtime.clock import utc_now
from tests.activities.judged import judge

KEY = "new-recommendations"
POLICY = Policy()
KEY_PAIR = Ed25519PrivateKey.generate()


class QuickSetFlag(SetFlagAction):
    """The same action, whose calls cannot be on their way for as long."""

    in_flight: ClassVar[timedelta] = timedelta(seconds=0.6)


class Scene:
    """One approved plan to switch a flag off, and the world that it is run in."""

    def __init__(self, flags: FakeLaunchDarkly, ledger: Ledger) -> None:
        self.flags = flags
        self.ledger = ledger
        self.catalogue = Catalogue(
            launchdarkly=(LaunchDarklyProject(project="web", api=flags.url),),
            services=(
                Service(
                    name="shop",
                    environments={
                        "production": ServiceEnvironment(
                            flags=(Flag(project="web", environment="production", key=KEY),)
                        )
                    },
                ),
            ),
        )
        self.client = LaunchDarklyClient(
            self.catalogue.launchdarkly,
            secret=lambda _: "api-token",
            clock=utc_now,
            connect_timeout=0.3,
            read_timeout=0.3,
            change_timeout=0.3,
        )
        self.action = QuickSetFlag(self.client)
        incident = ledger.incidents.declare(
            title="broken",
            service="shop",
            environment="production",
            severity=Severity.SEV2,
            person="grace",
            trace={},
        )
        ledger.incidents.assign(incident.id, Role.INCIDENT_COMMANDER, "ada", by="ada")
        self.incident = incident.id
        self.plan = self.seal()
        self.signed = self.approve(self.plan)

    def seal(self, mitigation: int = 1, *, expires_in: float = 600) -> Plan:
        """Seal a plan with one step."""
        request = SetFlag(project="web", environment="production", key=KEY, on=False)
        observed = self.action.observe(request)
        undo, note = self.action.undo(request, observed)
        now = utc_now()
        return Plan(
            incident=self.incident,
            mitigation=f"{self.incident}/{mitigation}",
            service="shop",
            environment="production",
            playbook="disable-flag",
            playbook_digest="0" * 64,
            policy_digest=POLICY.digest,
            title="Disable it",
            rationale="It is new.",
            steps=(
                Step(
                    number=1,
                    title="Disable it",
                    action=request.call(),
                    observed=observed,
                    change=self.action.change(request, observed),
                    undo=undo.call() if undo else None,
                    undo_note=note,
                    risk=Risk.LOW,
                    blast_radius="everybody",
                    idempotent="yes",
                ),
            ),
            undo_when=(Effect.WORSE,),
            sealed_at=now,
            expires_at=now + timedelta(seconds=expires_in),
        )

    def force(self) -> SignedDecision:
        """Order to force the step of the approved plan."""
        return self.ledger.approvals.force(
            self.signed.decision.request,
            1,
            person="ada",
            authenticated_by="local",
            reason="it hangs",
            policy=POLICY,
            signer=Signer(KEY_PAIR),
            trace={},
        )

    def approve(self, plan: Plan, overrides: tuple[str, ...] = ()) -> SignedDecision:
        """Ask for a plan and approve it."""
        asked = self.ledger.approvals.ask(plan, severity=Severity.SEV2)
        return self.ledger.approvals.decide(
            asked.id,
            Answer(
                verdict=Verdict.APPROVE,
                plan_digest=asked.plan_digest,
                person="ada",
                authenticated_by="local",
                reason="",
                overrides=overrides,
            ),
            policy=POLICY,
            signer=Signer(KEY_PAIR),
            trace={},
        )

    def steps(self, keys: Sequence[Ed25519PrivateKey] = (KEY_PAIR,)) -> Steps:
        """Give the activity as a fresh worker has it."""
        return Steps(
            ledger=self.ledger,
            catalogue=self.catalogue,
            registry=Registry([self.action], []),
            verifier=Verifier([key.public_key() for key in keys]),
            clock=utc_now,
        )

    def order(
        self, direction: Direction = Direction.APPLY, signed: SignedDecision | None = None
    ) -> StepOrder:
        """Give the order to run the step."""
        return StepOrder(
            incident=self.incident,
            mitigation=self.plan.mitigation,
            step=1,
            direction=direction,
            plan_digest=digest(self.plan),
            signed=signed or self.signed,
        )

    def die_after_intent(self) -> None:
        """Leave the journal as a worker does that was killed between its intent and its outcome."""
        key = f"{self.plan.mitigation}/1/apply"
        entry = self.ledger.journal.begin(
            key,
            incident=self.incident,
            mitigation=self.plan.mitigation,
            step=1,
            direction=Direction.APPLY,
            plan_digest=digest(self.plan),
            approval=self.signed.decision.request,
        )
        before = self.plan.steps[0].observed.model_dump(mode="json")
        self.ledger.journal.intend(entry, before=before, actor="stanch", guard=Guard(Guardrails(), self.plan))

    def run(self, order: StepOrder | None = None) -> StepResult:
        """Run the step once, as one attempt."""
        result: StepResult = ActivityEnvironment().run(self.steps().run_step, order or self.order())
        return result

    def run_with_retries(self) -> StepResult:
        """Run the step as the engine does: again while the provider is unavailable."""
        for _ in range(4):
            try:
                return self.run()
            except ProviderUnavailableError:
                continue
        raise AssertionError("it never ended")

    @property
    def applied(self) -> int:
        """How many requests changed the flag: the provider's own log is the witness."""
        return len([seen for seen in self.flags.arrived("PATCH") if seen.changed])

    @property
    def is_on(self) -> bool:
        """Whether the flag is on, really."""
        on: bool = self.flags.config("web", "production", KEY)["on"]
        return on


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Give an approved plan in a fresh world."""
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}", clock=utc_now)
    ledger.migrate()
    with FakeLaunchDarkly(utc_now, hold=0.5) as flags:
        flags.add_flag("web", "production", KEY)
        scene = Scene(flags, ledger)
        yield scene
        scene.client.close()
    ledger.close()


def test_runs_once_and_gives_the_outcome_back(scene: Scene) -> None:
    """The change is sent once; a second run gives the stored outcome and sends nothing."""
    first, second = scene.run(), scene.run()

    assert first == second
    assert first.outcome is Outcome.DONE
    assert scene.applied == 1
    assert not scene.is_on


# What may happen to the change, and what then is true: outcome, changes that were applied, flag on.
ANSWERS = [
    (Fault.BAD_REQUEST, Outcome.NOT_DONE, 0, True),
    (Fault.UNAUTHORIZED, Outcome.NOT_DONE, 0, True),
    (Fault.FORBIDDEN, Outcome.NOT_DONE, 0, True),
    (Fault.NOT_FOUND, Outcome.NOT_DONE, 0, True),
    (Fault.CONFLICT, Outcome.DONE, 1, False),
    (Fault.THROTTLED, Outcome.DONE, 1, False),
    (Fault.ERROR_BEFORE, Outcome.DONE, 1, False),
    (Fault.ERROR_AFTER, Outcome.DONE, 1, False),
    (Fault.TIMEOUT_BEFORE, Outcome.DONE, 1, False),
    (Fault.TIMEOUT_AFTER, Outcome.DONE, 1, False),
    (Fault.CUT_BEFORE, Outcome.DONE, 1, False),
    (Fault.CUT_AFTER, Outcome.DONE, 1, False),
    (Fault.NONSENSE, Outcome.DONE, 1, False),
]


@pytest.mark.parametrize(("fault", "outcome", "applied", "is_on"), ANSWERS)
def test_every_answer_ends_in_the_truth(
    scene: Scene,
    fault: Fault,
    outcome: Outcome,
    applied: int,
    is_on: bool,  # noqa: FBT001
) -> None:
    """Whatever the provider answers, the outcome is what its own log says, and nothing is applied twice."""
    if fault is Fault.THROTTLED:
        scene.flags.throttle_headers = {"Retry-After": "0"}
    scene.flags.fail(fault, method="PATCH")
    result = scene.run_with_retries()

    assert (result.outcome, scene.applied, scene.is_on) == (outcome, applied, is_on)


def test_killed_after_the_call_finds_the_outcome_by_reading(scene: Scene) -> None:
    """A run that finds an intent, and the target as it should be, sends nothing."""
    scene.die_after_intent()
    request = SetFlag(project="web", environment="production", key=KEY, on=False)
    scene.action.apply(request, scene.plan.steps[0].observed, action_id="killed")
    result = scene.run()

    assert result.outcome is Outcome.DONE
    assert result.observed_only
    assert scene.applied == 1


def test_killed_before_the_call_calls_once_after_waiting(scene: Scene) -> None:
    """A run that finds an intent, and the target untouched, calls once nothing can be on its way any more."""
    scene.die_after_intent()
    began = utc_now()
    result = scene.run()

    assert result.outcome is Outcome.DONE
    assert scene.applied == 1
    assert utc_now() - began > QuickSetFlag.in_flight * 0.8


def test_call_that_shows_itself_after_all_was_done(scene: Scene) -> None:
    """A call that becomes visible only after it can no longer be on its way is found, not taken for drift."""
    scene.die_after_intent()
    request = SetFlag(project="web", environment="production", key=KEY, on=False)
    before = scene.plan.steps[0].observed
    scene.action.apply(request, before, action_id="killed")
    entry = scene.ledger.journal.get("INC-1/1/1/apply")
    assert entry is not None
    assert entry.intent_at is not None
    real, over, late = scene.action.observe, entry.intent_at + QuickSetFlag.in_flight, []

    def behind(request: SetFlag) -> Observation:
        if utc_now() < over:
            return before
        late.append(utc_now())
        return before if len(late) == 1 else real(request)

    scene.action.observe = behind  # type: ignore[method-assign]  # this test's own stale provider
    result = scene.run()

    assert result.outcome is Outcome.DONE
    assert result.observed_only
    assert scene.applied == 1


def test_refused_look_after_a_lost_call_is_in_doubt(scene: Scene) -> None:
    """A call that may have been made is not "not done" because the provider refuses to show its target."""
    scene.die_after_intent()

    def refuses(request: SetFlag) -> Observation:
        raise ActionRefusedError(f"{request.key}: no right to look")

    scene.action.observe = refuses  # type: ignore[method-assign]  # this test's own provider
    result = scene.run()

    assert (result.outcome, result.detail) == (Outcome.IN_DOUBT, f"{KEY}: no right to look")


def test_nothing_is_begun_late(scene: Scene) -> None:
    """A plan that expires while its target is looked at is not begun."""
    real, plan = scene.action.observe, scene.plan

    def slow(request: SetFlag) -> Observation:
        scene.ledger.database.now = lambda: plan.expires_at
        return real(request)

    scene.action.observe = slow  # type: ignore[method-assign]  # this test's own provider
    result = scene.run()

    assert (result.outcome, scene.applied) == (Outcome.NOT_DONE, 0)
    assert "was to begin before" in result.detail


def test_target_that_is_neither_is_in_doubt(scene: Scene) -> None:
    """After a lost answer a target that is neither as before nor as desired stops the step."""
    scene.die_after_intent()
    scene.flags.add_rule("web", "production", KEY)
    result = scene.run()

    assert result.outcome is Outcome.IN_DOUBT
    assert result.before != result.after
    assert scene.applied == 0


def test_drift_is_not_overwritten(scene: Scene) -> None:
    """A target that changed in what matters since the sealing is left alone, and that is evidence."""
    scene.flags.add_rule("web", "production", KEY)
    result = scene.run()

    assert [difference.path for difference in result.drift] == ["version"]
    assert scene.applied == 0
    kinds = [entry.kind for entry in scene.ledger.evidence.entries(incident=scene.incident)]
    assert EvidenceKind.DRIFT in kinds


def test_undo_brings_the_former_state_back(scene: Scene) -> None:
    """The undo under the same decision restores the former state, once."""
    scene.run()
    judge(scene.ledger, f"{scene.plan.mitigation}/1/apply")
    first, second = scene.run(scene.order(Direction.UNDO)), scene.run(scene.order(Direction.UNDO))

    assert first == second
    assert first.outcome is Outcome.DONE
    assert scene.is_on
    assert scene.applied == 2


def test_undo_leaves_alone_what_somebody_else_changed(scene: Scene) -> None:
    """An undo is not run over a state that is no longer the step's own."""
    scene.run()
    judge(scene.ledger, f"{scene.plan.mitigation}/1/apply")
    scene.flags.turn("web", "production", KEY, on=True)
    applied = scene.applied
    result = scene.run(scene.order(Direction.UNDO))

    assert result.drift
    assert scene.applied == applied


def test_undo_takes_back_what_was_forced(scene: Scene) -> None:
    """After the ungraceful variant its own change is the one that has to be in place."""
    (step,) = scene.plan.steps
    other = step.undo  # what a flag has two of; elsewhere it is the same move in another mode
    plan = scene.plan.model_copy(update={"steps": (step.model_copy(update={"forced": other}),)})
    scene.plan = plan.model_copy(update={"mitigation": f"{scene.incident}/2"})
    scene.signed = scene.approve(scene.plan)
    scene.run()
    forced = scene.run(scene.order(Direction.FORCE, scene.force()))
    judge(scene.ledger, f"{scene.plan.mitigation}/1/force")
    result = scene.run(scene.order(Direction.UNDO))

    assert (forced.outcome, scene.applied) == (Outcome.DONE, 2)
    assert (result.outcome, result.detail) == (Outcome.DONE, "nothing had to be done")


def test_what_was_undone_is_not_forced(scene: Scene) -> None:
    """An order to force that is delivered after the undo does not make the change again."""
    (step,) = scene.plan.steps
    plan = scene.plan.model_copy(update={"steps": (step.model_copy(update={"forced": step.action}),)})
    scene.plan = plan.model_copy(update={"mitigation": f"{scene.incident}/2"})
    scene.signed = scene.approve(scene.plan)
    decision = scene.signed.decision.model_copy(update={"forced": (1,)})
    scene.run()
    judge(scene.ledger, f"{scene.plan.mitigation}/1/apply")
    scene.run(scene.order(Direction.UNDO))
    result = scene.run(scene.order(Direction.FORCE, Signer(KEY_PAIR).sign(decision)))

    assert result.forbidden == f"{scene.plan.mitigation}: step 1 was undone"
    assert scene.is_on


def test_its_own_undo_waits_for_no_step(scene: Scene) -> None:
    """What is left alone for a while after a change is not: where the change did harm it is taken back."""

    def waits_for(request: SetFlag, observed: Observation, made: Callable[[], Sequence[object]]) -> str:  # noqa: ARG001  (as the protocol has it)
        return "flapping" if made() else ""

    scene.action.waits_for = waits_for  # type: ignore[method-assign]  # this test's own steady provider
    scene.run()
    judge(scene.ledger, f"{scene.plan.mitigation}/1/apply")

    assert scene.run(scene.order(Direction.UNDO)).outcome is Outcome.DONE
    scene.plan = scene.seal(2)
    scene.signed = scene.approve(scene.plan)
    with pytest.raises(ProviderUnavailableError, match="flapping"):
        scene.run()


def forged(scene: Scene, **changes: object) -> SignedDecision:
    """Give a decision with changes, signed by somebody who is not the gateway."""
    decision = Decision.model_validate(scene.signed.decision.model_dump() | changes)
    return Signer(Ed25519PrivateKey.generate()).sign(decision)


def signed_by_us(scene: Scene, **changes: object) -> SignedDecision:
    """Give a decision with changes under our own key: valid, but for something else."""
    return Signer(KEY_PAIR).sign(Decision.model_validate(scene.signed.decision.model_dump() | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "reject"},
        {"plan_digest": "0" * 64},
        {"incident": "INC-999"},
        {"mitigation": "INC-999/1"},
        {"policy_digest": "0" * 64},
        {"expires_at": "2036-01-01T00:00:00Z"},
    ],
)
def test_decision_for_something_else_runs_nothing(scene: Scene, changes: dict[str, str]) -> None:
    """Our own key's decision on another plan, incident, policy or time does not allow this step."""
    result = scene.run(scene.order(signed=signed_by_us(scene, **changes)))

    assert result.forbidden
    assert scene.applied == 0


def test_forged_decisions_run_nothing_and_are_evidence(scene: Scene) -> None:
    """A decision that our gateway has not signed runs nothing, and each try is in the log."""
    other_key = forged(scene)
    swapped = scene.signed.model_copy(update={"signature": other_key.signature})
    edited = scene.signed.model_copy(
        update={"decision": scene.signed.decision.model_copy(update={"person": "mallory"})}
    )
    garbage = scene.signed.model_copy(update={"signature": "not base64!"})
    for signed in (other_key, swapped, edited, garbage):
        assert scene.run(scene.order(signed=signed)).forbidden
    entries = scene.ledger.evidence.entries(incident=scene.incident)

    assert scene.applied == 0
    assert len([one for one in entries if one.kind is EvidenceKind.DECISION_REFUSED]) == 4


def test_expired_decision_runs_nothing(scene: Scene) -> None:
    """A decision that is acted on after the plan's expiry does not allow the first step."""
    scene.plan = scene.seal(2, expires_in=0.2)
    scene.signed = scene.approve(scene.plan)
    while utc_now() < scene.plan.expires_at:
        pass
    result = scene.run()

    assert "expired" in result.forbidden
    assert scene.applied == 0


def test_order_for_a_plan_or_step_that_is_not_there_is_refused(scene: Scene) -> None:
    """An order that names a plan nobody sealed, or a step that it does not have, runs nothing."""
    for changes, said in (({"plan_digest": "f" * 64}, "not found"), ({"step": 2}, "has no step 2")):
        assert said in scene.run(scene.order().model_copy(update=changes)).forbidden
    assert scene.applied == 0


def test_target_that_the_catalogue_took_away_is_refused(scene: Scene) -> None:
    """Only what the catalogue still gives to the service is changed."""
    scene.catalogue = Catalogue()
    result = scene.run()

    assert "catalogue" in result.forbidden
    assert scene.applied == 0


def turned(scene: Scene) -> None:
    """The lost call has arrived."""
    scene.flags.turn("web", "production", KEY, on=False)


def ruled(scene: Scene) -> None:
    """Somebody else has changed the target."""
    scene.flags.add_rule("web", "production", KEY)


def unreadable(scene: Scene) -> None:
    """Nobody knows any more what was sealed."""
    with scene.ledger.database.write() as connection:
        connection.exec_driver_sql("UPDATE plan SET content = '{}'")


@pytest.mark.parametrize(
    ("meanwhile", "outcome", "said"),
    [
        (turned, Outcome.DONE, "found by reading the target"),
        (None, Outcome.NOT_DONE, "the catalogue no longer gives it to shop"),
        (ruled, Outcome.IN_DOUBT, "the answer was lost"),
        (unreadable, Outcome.IN_DOUBT, "what is stored is not what was sealed"),
    ],
)
def test_what_was_begun_before_it_was_forbidden_is_found_out(
    scene: Scene, meanwhile: Callable[[Scene], None] | None, outcome: Outcome, said: str
) -> None:
    """A call that may be on its way when its order becomes forbidden ends as it did, not as refused."""
    scene.die_after_intent()
    if meanwhile is not None:
        meanwhile(scene)
    applied = scene.applied
    scene.catalogue = Catalogue()
    result = scene.run()
    entry = scene.ledger.journal.get(result.action)

    assert (result.outcome, result.forbidden) == (outcome, "")
    assert said in result.detail
    assert entry is not None
    assert entry.result == result == scene.run()
    assert scene.applied == applied
    kinds = [one.kind for one in scene.ledger.evidence.entries(incident=scene.incident)]
    assert kinds[-2:] == [EvidenceKind.DECISION_REFUSED, EvidenceKind.OUTCOME]


def test_what_was_done_before_it_was_forbidden_stays_done(scene: Scene) -> None:
    """A repeat whose order is forbidden by now gives the outcome that is recorded."""
    done = scene.run()
    scene.catalogue = Catalogue()

    assert scene.run() == done


def test_the_key_that_is_gone_loses_no_call(scene: Scene) -> None:
    """A call whose decision's key was taken away waits for the key, and ends as it did when that is late."""
    scene.die_after_intent()
    turned(scene)
    worker = scene.steps([Ed25519PrivateKey.generate()])
    with pytest.raises(ProviderUnavailableError, match="give this worker the public half"):
        ActivityEnvironment().run(worker.run_step, scene.order())
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, current_attempt_scheduled_time=scene.plan.expires_at)

    assert environment.run(worker.run_step, scene.order()).outcome is Outcome.DONE


def test_forged_orders_settle_nothing(scene: Scene) -> None:
    """An order that the ledger does not know ends no call of another run, whatever it names."""
    scene.die_after_intent()
    turned(scene)
    decision = scene.signed.decision
    mine = Signer(KEY_PAIR).sign(decision.model_copy(update={"reason": "mine"}))
    scene.catalogue = Catalogue()
    for signed in (forged(scene), mine):
        assert scene.run(scene.order(signed=signed)).forbidden
    other = scene.order().model_copy(update={"plan_digest": "f" * 64})
    assert scene.run(other).forbidden
    entry = scene.ledger.journal.get(f"{scene.plan.mitigation}/1/apply")

    assert entry is not None
    assert entry.state is JournalState.INTENT


def test_stale_read_after_the_change_is_not_changed_back(scene: Scene) -> None:
    """A read that is behind for a moment after a good change does not make the step ineffective."""
    scene.run()
    real, reads = scene.action.is_reached, []

    def behind(request: SetFlag, observed: Observation) -> Progress:
        reads.append(observed)
        return Progress(reached=Reached.NO) if len(reads) < 3 else real(request, observed)

    scene.action.is_reached = behind  # type: ignore[method-assign]  # this test's own stale provider
    watching = Watching(
        ledger=scene.ledger,
        catalogue=scene.catalogue,
        registry=Registry([scene.action], []),
        clock=utc_now,
    )
    order = VerifyOrder(**scene.order().model_dump(exclude={"signed"}))
    seen: EffectResult = ActivityEnvironment().run(watching.verify_step, order)

    assert seen.settled is not None
    assert seen.settled.reached is Reached.YES


def test_a_cancelled_step_ends_with_its_outcome(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cancels waits: the call that was begun is not left without an outcome in the journal."""
    environment, apply = ActivityEnvironment(), scene.action.apply

    def cancelled(request: SetFlag, observed: Observation, *, action_id: str) -> None:
        environment.cancel()
        apply(request, observed, action_id=action_id)

    monkeypatch.setattr(scene.action, "apply", cancelled)
    result = environment.run(scene.steps().run_step, scene.order())
    entry = scene.ledger.journal.get(f"{scene.plan.mitigation}/1/apply")

    assert (result.outcome, scene.applied) == (Outcome.DONE, 1)
    assert entry is not None
    assert entry.state is JournalState.OUTCOME


@pytest.mark.parametrize("direction", [Direction.UNDO, Direction.FORCE])
def test_what_was_never_begun_is_neither_undone_nor_forced(scene: Scene, direction: Direction) -> None:
    """A crafted order to undo or force a step that never ran changes nothing, wherever the target stands."""
    scene.flags.turn("web", "production", KEY, on=False)
    applied = scene.applied
    decision = scene.signed.decision.model_copy(update={"forced": (1,)})
    result = scene.run(scene.order(direction, signed=Signer(KEY_PAIR).sign(decision)))

    assert result.forbidden == f"{scene.plan.mitigation}: step 1 was never begun"
    assert scene.applied == applied


def test_a_clock_that_is_behind_stretches_no_expiry(scene: Scene) -> None:
    """The engine's time counts where it is later than this machine's."""
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, current_attempt_scheduled_time=scene.plan.expires_at)
    result = environment.run(scene.steps().run_step, scene.order())

    assert "expired" in result.forbidden
    assert scene.applied == 0


def test_the_ledgers_own_decision_waits_for_the_key(scene: Scene) -> None:
    """A worker that has not got the new public half yet loses no decision, and acts once it has it."""
    known = [Ed25519PrivateKey.generate().public_key()]
    worker = Steps(
        ledger=scene.ledger,
        catalogue=scene.catalogue,
        registry=Registry([scene.action], []),
        verifier=Verifier(known, reread=lambda: known),
        clock=utc_now,
    )
    stranger = Signer(Ed25519PrivateKey.generate()).sign(scene.signed.decision)
    for _ in range(2):
        with pytest.raises(ProviderUnavailableError, match="give this worker the public half"):
            ActivityEnvironment().run(worker.run_step, scene.order())
    forged = ActivityEnvironment().run(worker.run_step, scene.order(signed=stranger))
    entries = scene.ledger.evidence.entries(incident=scene.incident)
    known.append(KEY_PAIR.public_key())

    assert "unknown key" in forged.forbidden
    assert len([one for one in entries if one.kind is EvidenceKind.DECISION_REFUSED]) == 2
    assert ActivityEnvironment().run(worker.run_step, scene.order()).outcome is Outcome.DONE
    assert scene.applied == 1
