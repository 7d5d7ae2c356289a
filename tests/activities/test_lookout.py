"""What is looked at beside the incidents: signals while a person thinks, what is in force, failovers."""
# ruff: noqa: ARG002  (the toys give what the protocol asks for and need little of it)

import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from temporalio.testing import ActivityEnvironment

import worker
from activities import lookout as looking
from activities.launchdarkly.fake import FakeLaunchDarkly, Fault
from activities.lookout import IN_FORCE_FIRST, IN_FORCE_LATER, LEASE, SURE, Lookout
from activities.planning import Planning
from activities.registry import Registry
from activities.rehearsal import Rehearsal
from activities.verification import Watching
from authority.guardrails import Guard, Guardrails
from authority.policy import Policy
from contracts.actions import Action, ActionRequest, Probe, ProbeRequest
from contracts.approvals import ApprovalState
from contracts.catalogue import Catalogue
from contracts.errors import ProviderUnavailableError
from contracts.evidence import EvidenceKind
from contracts.in_force import StepInForce
from contracts.incidents import AttemptEnd, Effect, Phase, Severity
from contracts.messages import RecordRequest, VerifyOrder
from contracts.outcomes import (
    Direction,
    EffectResult,
    MitigationResult,
    Outcome,
    Progress,
    Reached,
    StepResult,
)
from contracts.plans import Difference, Observation, Plan, ProbeCall, Reading, Target, Verification
from contracts.readiness import CheckState, ServiceReadiness
from contracts.watches import KEPT, SignalNow
from ledger import Ledger, ladders
from playbooks import fail_over, kit
from tests.activities.judged import do
from tests.ledger.samples import NOON, Clock, open_incident, plan
from tests.site import until

EVERY = timedelta(seconds=5)
HOLD = timedelta(seconds=20)
SHARE = timedelta(hours=1)  # more than a look at a failover is apart from the next one


class Scale(ActionRequest):
    """Have so many replicas."""

    action: ClassVar[str] = "toy.scale"

    name: str
    replicas: int

    @property
    def target(self) -> Target:
        """The deployment."""
        return Target(provider="toy", kind="deployment", path=(self.name,))


class ScaleAction(Action[Scale]):
    """Scales in a dictionary.

    Idempotent: yes.
    Undo: the former count.
    """

    request_type = Scale
    idempotent: ClassVar[str] = "yes"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.replicas: dict[str, int] = {}
        self.manager: object = "argocd-controller"
        self.away = False

    def observe(self, request: Scale) -> Observation:
        """Read the count, and who set it."""
        if self.away:
            raise ProviderUnavailableError("the cluster does not answer")
        count = self.replicas[request.name]
        return Observation(state={"replicas": count, "changed_by": self.manager}, guard={}, at=self.clock())

    def change(self, request: Scale, observed: Observation) -> tuple[Difference, ...]:
        """Give the difference."""
        before = observed.state["replicas"]
        return (
            ()
            if before == request.replicas
            else (Difference(path="replicas", before=before, after=request.replicas),)
        )

    def preflight(self, request: Scale, observed: Observation) -> tuple[str, ...]:
        """Nothing stands against it."""
        return ()

    def apply(self, request: Scale, observed: Observation, *, action_id: str) -> None:
        """Never."""
        raise AssertionError(action_id)

    def is_reached(self, request: Scale, observed: Observation) -> Progress:
        """Compare."""
        is_so = observed.state["replicas"] == request.replicas
        return Progress(reached=Reached.YES if is_so else Reached.NO, detail="compared")

    def undo(self, request: Scale, observed: Observation) -> tuple[Scale | None, str]:
        """Nothing."""
        return None, ""

    def blast_radius(self, request: Scale, observed: Observation) -> str:
        """Say who."""
        return "Everybody."


class Errors(ProbeRequest[Reading]):
    """How many requests fail?"""

    probe: ClassVar[str] = "toy.errors"

    of: str = "shop"


class ErrorsProbe(Probe[Errors, Reading]):
    """Says what it is told to say."""

    request_type = Errors

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.says: float | Exception | None = 0.4

    def look(self, request: Errors) -> Reading:
        """Look once."""
        if isinstance(self.says, Exception):
            raise self.says
        return Reading(value=self.says, at=self.clock())


def rule(**facts: Any) -> Verification:
    """Give the rule by which steps are verified."""
    values: dict[str, Any] = {
        "signal": "error_rate",
        "probe": ProbeCall(name="toy.errors", arguments={}),
        "healthy_below": 0.05,
        "every": timedelta(seconds=1),
        "hold": HOLD,
        "baseline": Reading(value=0.4, at=NOON),
    }
    return Verification.model_validate(values | facts)


class Scene:
    """A ledger, a world of toys, and who looks out."""

    def __init__(self, home: Path) -> None:
        self.clock = Clock()
        self.ledger = Ledger.open(f"sqlite:///{home / 'ledger.db'}", clock=self.clock)
        self.ledger.migrate()
        self.scale, self.errors = ScaleAction(self.clock), ErrorsProbe(self.clock)
        self.registry = Registry([self.scale], [self.errors])
        self.catalogue = Catalogue()
        self.rehearsal: Rehearsal | None = None
        self.lookout = self.another()

    def another(self) -> Lookout:
        """Give the lookout of another worker."""
        return Lookout(
            ledger=self.ledger,
            catalogue=self.catalogue,
            registry=self.registry,
            rehearsal=self.rehearsal,
            clock=self.clock,
        )

    def turn(self, by: timedelta = EVERY) -> int:
        """Look at what is due, and let time pass; give how many looks that were."""
        claimed = self.lookout.claim()
        for one in claimed:
            self.lookout.look(one)
        self.clock.forward(by)
        return len(claimed)

    def ask(self, number: int = 1, **facts: Any) -> Plan:
        """Ask whether a plan of one verified step may run."""
        made = plan(number=number, expires_at=NOON + timedelta(days=1))
        call = Scale(name="web", replicas=12).call()
        back = Scale(name="web", replicas=3).call()
        step = made.steps[0].model_copy(update={"verification": rule(**facts), "action": call, "undo": back})
        made = made.model_copy(update={"steps": (step,)})
        self.ledger.approvals.ask(made, severity=Severity.SEV2)
        return made

    def now(self, approval: str = "APR-1") -> SignalNow:
        """Give how the question's signal is."""
        (seen,) = self.ledger.watches.signals(self.ledger.approvals.get(approval))
        return seen

    def told(self, kind: EvidenceKind) -> list[str]:
        """Give the evidence of a kind."""
        return [entry.summary for entry in self.ledger.evidence.entries() if entry.kind is kind]

    def run(
        self, made: Plan, direction: Direction = Direction.APPLY, outcome: Outcome = Outcome.DONE
    ) -> None:
        """Take down that a plan's step ran."""
        action = f"{made.mitigation}/1/{direction.value}"
        journal = self.ledger.journal
        digest = self.ledger.approvals.for_mitigation(made.mitigation)
        assert digest is not None
        entry = journal.begin(
            action,
            incident=made.incident,
            mitigation=made.mitigation,
            step=1,
            direction=direction,
            plan_digest=digest.request.plan_digest,
            approval=digest.request.id,
        )
        guard = Guard(Guardrails(), made)
        entry = journal.intend(entry, before={}, actor="stanch", guard=guard)
        result = StepResult(action=action, outcome=outcome)
        journal.settle(entry, result=result, actor="stanch")

    def end(self, number: int, how: AttemptEnd) -> None:
        """Take down how a mitigation ended; its question no longer waits."""
        name = f"INC-1/{number}"
        self.ledger.approvals.close(f"APR-{number}", ApprovalState.WITHDRAWN, "")
        ended = MitigationResult(mitigation=name, playbook="p", title="Scale", plan_digest="", end=how)
        record = RecordRequest(
            incident="INC-1", version=number, phase=Phase.MITIGATING, attempts=(ended.attempt(()),)
        )
        self.ledger.incidents.record(record)

    def step(self, mitigation: str = "INC-1/1") -> StepInForce:
        """Give the step that is in force."""
        return self.ledger.in_force.get(mitigation).steps[0]

    @property
    def attention(self) -> str | None:
        """What the incident asks a person for."""
        return self.ledger.incidents.get("INC-1").attention


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Give an incident of the shop that ada commands."""
    made = Scene(tmp_path)
    open_incident(made.ledger, commander="ada")
    made.scale.replicas["web"] = 12
    yield made
    made.ledger.close()


@pytest.fixture
def in_force(scene: Scene) -> Scene:
    """Give a mitigation that was applied a moment ago."""
    scene.run(scene.ask())
    scene.end(1, AttemptEnd.EFFECTIVE)
    scene.turn(IN_FORCE_FIRST)
    return scene


def test_the_signal_goes_on_being_read_while_a_person_thinks(scene: Scene) -> None:
    """A question's signal is read again and again, no more often than every 5 s, until it is decided."""
    scene.ask()
    for value in (0.4, 0.3, None):
        scene.errors.says = value
        assert scene.turn(timedelta(seconds=2)) == 1
        assert scene.turn(timedelta(seconds=3)) == 0
    seen = scene.now()
    scene.ledger.approvals.close("APR-1", ApprovalState.WITHDRAWN, "")

    assert [one.value for one in seen.readings] == [0.4, 0.3, None]
    assert (seen.step, seen.healthy_since, seen.recovered) == (1, None, False)
    assert scene.turn() == 0
    assert len(scene.now().readings) == 3


def test_a_signal_that_has_recovered_while_the_question_waits(scene: Scene) -> None:
    """Healthy for its hold is said once, and again only after it was ill in between."""
    scene.ask()
    for value in [0.4, *[0.01] * 8, 0.4, *[0.02] * 3]:
        scene.errors.says = value
        scene.turn()
    first = scene.told(EvidenceKind.RECOVERED)
    is_recovered_again = scene.now().recovered
    for _ in range(2):
        scene.turn()

    assert first == [
        "error_rate has been healthy for 20 s while APR-1 waits: 0.01, 0.4 when it was sealed",
    ]
    assert not is_recovered_again
    assert scene.now().recovered
    assert len(scene.told(EvidenceKind.RECOVERED)) == 2


def test_a_stretch_in_which_nobody_looked(scene: Scene) -> None:
    """Readings on both sides of a gap make no healthy stretch."""
    scene.ask()
    scene.errors.says = 0.01
    scene.turn(timedelta(seconds=16))
    scene.turn()

    assert scene.told(EvidenceKind.RECOVERED) == []
    assert scene.now().healthy_since == NOON + timedelta(seconds=16)


def test_a_signal_that_was_never_ill(scene: Scene) -> None:
    """What was healthy all the time, as before an undo, has not recovered."""
    scene.ask(baseline=Reading(value=0.01, at=NOON))
    scene.errors.says = 0.01
    for _ in range(8):
        scene.turn()

    assert scene.told(EvidenceKind.RECOVERED) == []


def test_a_mitigation_that_helped_late(scene: Scene) -> None:
    """When the signal recovers after an ineffective mitigation, that one is named."""
    scene.ask()
    scene.end(1, AttemptEnd.INEFFECTIVE)
    scene.ask(2)
    scene.errors.says = 0.01
    for _ in range(6):
        scene.turn()

    (said,) = scene.told(EvidenceKind.RECOVERED)
    assert said.endswith("when it was sealed; INC-1/1 (Scale) may have helped late")


def test_only_the_latest_readings_are_kept(scene: Scene) -> None:
    """However long a person thinks, a question keeps a bounded number of readings."""
    scene.ask()
    for _ in range(KEPT + 5):
        scene.turn()

    assert len(scene.now().readings) == KEPT


def test_trouble_of_one_thing(scene: Scene) -> None:
    """A source that is away is no data, one that breaks is looked at later, and others are looked at."""
    scene.ask()
    scene.ask(2, probe=ProbeCall(name="toy.none", arguments={}))
    scene.errors.says = ProviderUnavailableError("away\nfor long")
    assert scene.turn() == 2
    assert [one.detail for one in scene.now().readings] == ["away for long"]
    assert "no such probe" in scene.now("APR-2").readings[0].detail
    scene.errors.says = ZeroDivisionError("broken")
    assert scene.turn() == 2
    assert scene.turn() == 1  # only the other one: this one is looked at when its lease is over
    scene.errors.says = 0.4
    scene.clock.forward(LEASE)
    scene.turn()

    assert [one.value for one in scene.now().readings] == [None, 0.4]


def test_several_workers_share_what_is_due(scene: Scene) -> None:
    """One worker looks at a thing, another when that one was killed, and a late answer counts nothing."""
    scene.ask()
    (claimed,) = scene.lookout.claim()
    other = scene.another()
    assert other.claim() == []
    scene.clock.forward(LEASE)
    (again,) = other.claim()
    scene.lookout.look(claimed)  # it was only frozen

    assert scene.ledger.watches.signals(scene.ledger.approvals.get("APR-1")) == []
    other.look(again)
    assert len(scene.now().readings) == 1


def test_a_clock_that_jumped(scene: Scene) -> None:
    """What is due only because a clock was wrong does not wait for that time."""
    scene.ask()
    scene.clock.forward(timedelta(days=3))
    scene.turn()
    scene.clock.forward(timedelta(days=-3, seconds=5))

    assert scene.turn() == 1


def test_a_repeated_verification_gives_the_first_judgement(scene: Scene) -> None:
    """When the answer of a verification was lost, its repeat says the same, whatever the signal says now."""
    scene.ask(hold=timedelta())
    watching = Watching(
        ledger=scene.ledger, catalogue=scene.catalogue, registry=scene.registry, clock=scene.clock
    )
    order = VerifyOrder(
        incident="INC-1",
        mitigation="INC-1/1",
        step=1,
        direction=Direction.APPLY,
        plan_digest=scene.ledger.approvals.get("APR-1").request.plan_digest,
    )
    do(scene.ledger, scene.ledger.approvals.get("APR-1").plan, "APR-1", order.plan_digest)
    scene.errors.says = 0.01
    first = ActivityEnvironment().run(watching.verify_step, order)
    scene.errors.says = 0.9

    assert first.effect is Effect.EFFECTIVE
    assert ActivityEnvironment().run(watching.verify_step, order) == first
    assert len(scene.told(EvidenceKind.VERIFICATION)) == 1


@pytest.mark.parametrize(
    ("before", "after", "late", "effect"),
    [
        (0.5, 0.4, 0, Effect.INEFFECTIVE),
        (0.5, 0.8, 0, Effect.WORSE),
        (None, 0.4, 0, Effect.WORSE),
        (0.5, 0.4, 120, Effect.WORSE),
    ],
)
def test_a_step_is_compared_with_what_was_just_before_it(
    scene: Scene, before: float | None, after: float, late: float, effect: Effect
) -> None:
    """What got bad while a person thought is not the step's doing; without late readings the sealed."""
    sealed = Reading(value=0.1, at=NOON)
    plan = scene.ask(hold=timedelta(), within=timedelta(), baseline=sealed)
    for said in (0.1, *[before] * 20, 0.9, before):
        scene.errors.says = said if before else None
        scene.turn(timedelta(seconds=10))
    scene.clock.forward(timedelta(seconds=late))
    scene.run(plan)
    scene.clock.forward(timedelta(seconds=1))
    scene.errors.says = 0.01  # the lookout may look once more before it learns of the decision
    scene.turn()
    scene.errors.says = after
    watching = Watching(
        ledger=scene.ledger, catalogue=scene.catalogue, registry=scene.registry, clock=scene.clock
    )
    digest = scene.ledger.approvals.get("APR-1").request.plan_digest
    about = {"incident": "INC-1", "mitigation": "INC-1/1", "step": 1, "direction": Direction.APPLY}
    order = VerifyOrder(**about, plan_digest=digest)
    seen: EffectResult = ActivityEnvironment().run(watching.verify_step, order)
    median = "median of 12 readings; 0.1 when the plan was sealed"
    is_known = before is not None and not late
    told = median if is_known else f"0.1, read {3.83 + late / 60:.3g} min earlier when the plan was sealed"

    assert seen.effect is effect
    assert seen.baseline is not None
    assert (seen.baseline.value, seen.baseline.detail) == (before if is_known else 0.1, told)
    assert seen.detail.endswith(f"; before it: {told}")


def test_what_is_in_force_is_looked_at(in_force: Scene) -> None:
    """Every half minute while it is fresh, every half hour later, and not when it is over."""
    looks = [in_force.turn(IN_FORCE_FIRST) for _ in range(20)]
    later = [in_force.turn(timedelta(minutes=10)) for _ in range(7)]
    in_force.ledger.in_force.make_permanent("INC-1/1", person="ada", reason="it stays")

    assert looks == [1] * 20
    assert sum(later) == 2
    assert in_force.turn(IN_FORCE_LATER) == 0
    assert in_force.attention is None


def test_somebody_changes_it_back(in_force: Scene) -> None:
    """When two looks find it changed back, it is said by whom, to its owner and on the incident."""
    in_force.scale.replicas["web"] = 3
    in_force.turn(SURE)
    assert in_force.step().changed_by is None
    in_force.turn(IN_FORCE_FIRST)
    said = "INC-1/1 step 1 was changed back by argocd-controller: Scale web"
    assert (in_force.step().changed_by, in_force.attention) == ("argocd-controller", said)
    assert said in in_force.told(EvidenceKind.IN_FORCE)
    outgoing = in_force.ledger.outbox.claim(50, timedelta(minutes=1))
    assert [m.payload["text"] for m in outgoing if m.kind == ladders.TELL][-1] == said
    in_force.turn(IN_FORCE_FIRST)
    in_force.turn(IN_FORCE_FIRST)
    assert in_force.told(EvidenceKind.IN_FORCE).count(said) == 1
    in_force.scale.replicas["web"] = 12
    in_force.turn()

    assert (in_force.step().changed_by, in_force.attention) == (None, None)
    assert in_force.told(EvidenceKind.IN_FORCE)[-1] == "INC-1/1 step 1 is in place again: Scale web"


@pytest.mark.parametrize("manager", [None, {"a": 1}, 7])
def test_a_manager_that_nobody_knows(in_force: Scene, manager: object) -> None:
    """Who changed it back is somebody when the provider does not say it in words."""
    in_force.scale.manager = manager
    in_force.scale.replicas["web"] = 3
    in_force.turn(SURE)
    in_force.turn(SURE)

    assert in_force.attention == "INC-1/1 step 1 was changed back by somebody: Scale web"


def test_a_look_that_was_stale_or_failed(in_force: Scene) -> None:
    """One odd look, or none, says nothing."""
    in_force.scale.replicas["web"] = 3
    in_force.turn(SURE)
    in_force.scale.replicas["web"] = 12
    in_force.turn(IN_FORCE_FIRST)
    in_force.scale.away = True
    in_force.turn(IN_FORCE_FIRST)
    in_force.turn(IN_FORCE_FIRST)

    assert in_force.step().changed_by is None


def test_a_change_of_our_own_is_nobody_elses(in_force: Scene) -> None:
    """An undo that runs, or a later mitigation of the same target, is not told as changed back."""
    in_force.scale.replicas["web"] = 20
    in_force.clock.forward(timedelta(minutes=5))
    in_force.run(in_force.ask(2))
    in_force.end(2, AttemptEnd.EFFECTIVE)
    for _ in range(4):
        in_force.turn(SURE)
    assert in_force.step().changed_by is None
    in_force.ledger.in_force.order_undo("INC-1/2", person="ada", reason="why not")
    in_force.scale.replicas["web"] = 3
    in_force.turn(timedelta(minutes=20))
    in_force.turn(SURE)
    in_force.turn(SURE)

    assert in_force.step("INC-1/2").changed_by is None
    assert in_force.attention is None


def threads() -> list[str]:
    """Name the threads of whoever looks out."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("lookout")]


async def test_it_runs_beside_and_ends_with_the_worker(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The background task looks by itself, survives a turn that fails, and leaves no thread behind."""
    monkeypatch.setattr(looking, "TURN", 0.01)
    scene.ask()
    fine = scene.lookout.claim
    turns: list[int] = []

    def claim(limit: int) -> Any:
        turns.append(limit)
        if len(turns) == 1:
            raise ProviderUnavailableError("the ledger is away")
        return fine(limit)

    monkeypatch.setattr(scene.lookout, "claim", claim)
    async with scene.lookout.running():
        await until(lambda: len(turns) > 4)
        assert threads()

    assert len(scene.now().readings) == 1
    assert not threads()


def flag(key: str, *, on: bool) -> dict[str, Any]:
    """Give a step of the move as the catalogue has it."""
    arguments = {"project": "web", "environment": "production", "key": key, "on": on}
    return {"title": f"Switch {key}", "action": "launchdarkly.set_flag", "arguments": arguments}


class Standby(Scene):
    """The same with a service that can fail over, by two flags."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        super().__init__(home)
        self.flags = stack.enter_context(FakeLaunchDarkly(self.clock))
        for key, on in {"standby": False, "primary": True}.items():
            self.flags.add_flag("web", "production", key, on=on)
        move = {"away_from": "eu", "to": "us", "steps": [flag("standby", on=True), flag("primary", on=False)]}
        production = {
            "regions": ["eu", "us"],
            "flags": [
                {"project": "web", "environment": "production", "key": key} for key in ("standby", "primary")
            ],
            "signals": {"errors": {"prometheus": "main", "query": "q", "healthy_below": 0.05}},
            "failover": {"moves": [move]},
        }
        book = {
            "people": [{"id": "ada", "name": "Ada"}],
            "launchdarkly": [{"project": "web", "api": self.flags.url}],
            "prometheus": [{"name": "main", "url": "http://127.0.0.1:1"}],
            "services": [{"name": "shop", "on_call": ["ada"], "environments": {"production": production}}],
        }
        self.catalogue = Catalogue.model_validate(book)
        self.registry = worker.registry(self.catalogue, secret=lambda _: "api-token")
        planning = Planning(
            ledger=self.ledger,
            catalogue=self.catalogue,
            playbooks=(),
            registry=self.registry,
            policy=Policy(),
            clock=self.clock,
        )
        (failing_over,) = (one for one in kit.catalogue() if one.name == fail_over.NAME)
        self.rehearsal = Rehearsal(
            registry=self.registry, planning=planning, playbook=failing_over, clock=self.clock
        )
        self.lookout = self.another()

    def found(self) -> ServiceReadiness:
        """Give how ready it is."""
        return self.ledger.readiness.get("shop", "production")

    def calls(self) -> list[str]:
        """Give whom has been told what, since the last time."""
        claimed = self.ledger.outbox.claim(50, timedelta(hours=1))
        for message in claimed:
            self.ledger.outbox.done(message.id)
        return [f"{one.payload['whom']} {one.payload['text']}" for one in claimed if one.kind == ladders.TELL]


@pytest.fixture
def standby(tmp_path: Path) -> Iterator[Standby]:
    """Give a service that can fail over, and somebody who has just started to look out."""
    with ExitStack() as stack:
        made = Standby(tmp_path, stack)
        stack.callback(made.ledger.close)
        made.turn(timedelta(seconds=10))
        yield made


def test_a_failover_that_would_work(standby: Standby) -> None:
    """Soon after the start and then by the half hour each move is planned as it would be, and none is run."""
    assert standby.turn(timedelta(minutes=20)) == 1
    found = standby.found()
    assert [(check.name, check.state) for check in found.checks] == [
        ("step", CheckState.OK),
        ("step", CheckState.OK),
        ("plan", CheckState.OK),
    ]
    assert found.checks[-1].detail == "Fail shop over from eu to us: 2 steps would be proposed"
    assert standby.turn(timedelta(minutes=20)) == 0
    assert standby.turn(timedelta(minutes=20)) == 1

    assert (found.state, len(standby.found().history)) == (CheckState.OK, 2)
    assert standby.told(EvidenceKind.READINESS) == ["The failover of shop in production is ready"]
    assert standby.flags.arrived("PATCH") == []
    assert standby.calls() == []


def test_no_look_at_a_failover_is_later_than_asked(standby: Standby, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failovers are spread over the time, and each is looked at every 30 minutes at least."""
    monkeypatch.setattr(zlib, "crc32", lambda _: 2**32 - 1)
    standby.turn(timedelta(minutes=20))
    found = standby.found()

    assert found.at is not None
    assert found.next_at is not None
    assert timedelta(minutes=27) <= found.next_at - found.at <= timedelta(minutes=30)


def test_a_standby_that_is_not_ready(standby: Standby) -> None:
    """Whoever is on call hears once of each change to not ready, also when nobody could look in between."""
    standby.turn(SHARE)
    standby.flags.fail(Fault.FORBIDDEN, method="GET", times=500)
    standby.turn(SHARE)
    bad = standby.found()
    told = standby.calls()
    standby.flags.mend()
    standby.flags.fail(Fault.CUT_BEFORE, method="GET", times=500)
    standby.turn(SHARE)
    assert standby.found().state is CheckState.UNKNOWN
    standby.flags.mend()
    standby.flags.fail(Fault.FORBIDDEN, method="GET", times=500)
    standby.turn(SHARE)
    again = standby.calls()
    standby.flags.mend()
    standby.turn(SHARE)

    assert bad.state is CheckState.NOT_READY
    assert [check.name for check in bad.checks if check.state is CheckState.NOT_READY] == ["step", "step"]
    assert len(told) == 1
    assert told[0].startswith("['person:ada'] The failover of shop in production is not ready: ")
    assert again == []
    assert standby.found().state is CheckState.OK
    assert len(standby.told(EvidenceKind.READINESS)) == 5


def test_a_move_that_is_made_already(standby: Standby) -> None:
    """After the failover nothing is left to do, and that is no trouble."""
    for key, on in {"standby": True, "primary": False}.items():
        standby.flags.turn("web", "production", key, on=on)
    standby.turn()

    assert [check.detail for check in standby.found().checks] == ["nothing to do: it is made already"]


def test_a_freeze_stands_against_a_failover(standby: Standby) -> None:
    """What would hold the plan back is named, guardrails too."""
    standby.ledger.freezes.set(service=None, reason="inventory", person="ada")
    standby.turn()

    plan_check = standby.found().checks[-1]
    assert (plan_check.name, plan_check.state) == ("plan", CheckState.NOT_READY)
    assert "inventory" in plan_check.detail


def test_it_is_looked_at_now_on_demand(standby: Standby) -> None:
    """Who does not want to wait has it looked at now."""
    standby.turn(timedelta(minutes=1))
    standby.ledger.watches.hasten("readiness/shop/production")

    assert standby.turn() == 1


def test_a_rehearsal_that_breaks(standby: Standby) -> None:
    """A mistake of ours or of an author's is not known to be ready, and says so."""
    standby.registry.actions.update({"launchdarkly.set_flag": object()})  # type: ignore[dict-item]
    standby.turn()

    assert standby.found().state is CheckState.UNKNOWN
    assert "could not be looked at: AttributeError" in standby.found().checks[0].detail
