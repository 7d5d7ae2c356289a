"""The way back from a mitigation in force: last step first, seen anew, and asked about like any plan."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from temporalio.testing import ActivityEnvironment

import worker
from activities.k8s import ScaleDeployment
from activities.k8s.fake import FakeKubernetes, manifest
from activities.launchdarkly import SetFlag
from activities.launchdarkly.fake import FakeLaunchDarkly, Fault
from activities.planning import Planning, answer_of
from activities.prometheus.fake import FakePrometheus
from activities.steps import Steps
from activities.undoing import Undoing
from authority.decisions import Signer, Verifier
from authority.policy import Policy
from contracts.approvals import Verdict
from contracts.catalogue import (
    Catalogue,
    Cluster,
    Deployment,
    Flag,
    LaunchDarklyProject,
    Prometheus,
    Service,
    ServiceEnvironment,
    Signal,
)
from contracts.errors import ProviderUnavailableError
from contracts.evidence import ENGINE
from contracts.in_force import ForceState, InForce
from contracts.incidents import AttemptEnd, Effect, Incident, Phase, Role, Severity
from contracts.messages import MitigationEnded, PlanAnswer, RecordRequest, StepOrder, UndoRequest
from contracts.outcomes import Direction, MitigationResult, Outcome, StepResult
from contracts.plans import Plan, Proposal, ProposedStep, Risk
from contracts.playbooks import Playbook, PlaybookParams, ServiceLook
from ledger import Answer, Ledger, ladders
from runtime.clock import utc_now
from tests.activities.judged import judge

KEY = Ed25519PrivateKey.generate()
# A failover of two steps: the standby takes the load before it gets the traffic.
STEPS = {"standby": True, "primary": False}
Plans = Callable[[Incident, Any, ServiceLook], Awaitable[Proposal]]


async def fail_over(_: Incident, __: PlaybookParams, look: ServiceLook) -> Proposal:
    """Move the traffic to the standby."""
    verification = look.service.verification("error_rate")
    return Proposal(
        title="Fail over",
        rationale="The primary is away.",
        steps=tuple(
            ProposedStep(
                title=f"Switch {key}",
                action=SetFlag(project="web", environment="production", key=key, on=on).call(),
                verification=verification,
            )
            for key, on in STEPS.items()
        ),
        in_force_for=timedelta(hours=2),
    )


async def scale_out(_: Incident, __: PlaybookParams, ___: ServiceLook) -> Proposal:
    """Double the pods."""
    action = ScaleDeployment(cluster="demo", namespace="shop", name="web", replicas=4).call()
    return Proposal(
        title="Scale out", rationale="It is full.", steps=(ProposedStep(title="Scale web", action=action),)
    )


class Scene:
    """A service that was mitigated, by a failover if nothing else, and whatever happens to it then."""

    def __init__(self, stack: ExitStack, home: Path, *, by: Plans = fail_over) -> None:
        self.cluster = stack.enter_context(FakeKubernetes())
        self.cluster.create("deployments", manifest("web", "shop:v1", replicas=2))
        self.flags = stack.enter_context(FakeLaunchDarkly(utc_now))
        self.metrics = stack.enter_context(FakePrometheus(utc_now))
        self.metrics.set("q", ({}, "0.01"))
        for key, on in STEPS.items():
            self.flags.add_flag("web", "production", key, on=not on)
        self.ledger = Ledger.open(f"sqlite:///{home / 'ledger.db'}", clock=utc_now)
        self.ledger.migrate()
        stack.callback(self.ledger.close)
        self.web = Deployment(cluster="demo", namespace="shop", name="web")
        self.catalogue = Catalogue(
            clusters=(Cluster(name="demo", kubeconfig=str(self.cluster.kubeconfig(home / "kubeconfig"))),),
            launchdarkly=(LaunchDarklyProject(project="web", api=self.flags.url),),
            prometheus=(Prometheus(name="main", url=self.metrics.url),),
            services=(
                Service(
                    name="shop",
                    environments={
                        "production": ServiceEnvironment(
                            deployments=(self.web,),
                            flags=tuple(
                                Flag(project="web", environment="production", key=key) for key in STEPS
                            ),
                            signals={"error_rate": Signal(prometheus="main", query="q", healthy_below=0.05)},
                        )
                    },
                ),
            ),
        )
        self.registry = worker.registry(self.catalogue, secret=lambda _: "api-token")
        self.planning = Planning(
            ledger=self.ledger,
            catalogue=self.catalogue,
            playbooks=(),
            registry=self.registry,
            policy=Policy(),
            clock=utc_now,
        )
        self.undoing = Undoing(ledger=self.ledger, planning=self.planning, registry=self.registry)
        declared = self.ledger.incidents.declare(
            title="down",
            service="shop",
            environment="production",
            severity=Severity.SEV2,
            person="grace",
            trace={},
        )
        role = Role.INCIDENT_COMMANDER
        self.incident = self.ledger.incidents.assign(declared.id, role, "ada", by="ada")
        playbook = Playbook(
            name="fail-over",
            summary="",
            description="",
            digest="0" * 64,
            matches=(),
            risk=Risk.LOW,
            order=1,
            params=PlaybookParams,
            plan=by,
        )
        self.plan = self.planning.propose(playbook, self.incident, "INC-1/1")
        approval = self.ledger.approvals.ask(self.plan, severity=Severity.SEV2)
        answer = answer_of(self.plan, approval.id, self.registry)
        self.run(answer)
        ended = answer.ended(AttemptEnd.EFFECTIVE, "", applied=True).attempt(answer.actions)
        record = RecordRequest(incident="INC-1", version=1, phase=Phase.MONITORING, attempts=(ended,))
        self.ledger.incidents.record(record)

    def run(
        self,
        answer: PlanAnswer,
        direction: Direction = Direction.APPLY,
        *,
        last: Effect = Effect.EFFECTIVE,
    ) -> list[StepResult]:
        """Approve a plan and carry it out; each step helps, and what is taken back made things worse."""
        plan = self.ledger.approvals.plan(answer.plan_digest)
        signed = self.ledger.approvals.decide(
            answer.approval,
            Answer(
                verdict=Verdict.APPROVE,
                plan_digest=answer.plan_digest,
                person="ada",
                authenticated_by="local",
                reason="",
            ),
            policy=Policy(),
            signer=Signer(KEY),
            trace={},
        )
        steps = Steps(
            ledger=self.ledger,
            catalogue=self.catalogue,
            registry=self.registry,
            verifier=Verifier([KEY.public_key()]),
            clock=utc_now,
        )
        results = []
        for step in plan.steps:
            order = StepOrder(
                incident=plan.incident,
                mitigation=plan.mitigation,
                step=step.number,
                direction=direction,
                plan_digest=answer.plan_digest,
                signed=signed,
            )
            results.append(ActivityEnvironment().run(steps.run_step, order))
            if direction is Direction.APPLY:
                effect = last if step == plan.steps[-1] else Effect.EFFECTIVE
                judge(self.ledger, f"{plan.mitigation}/{step.number}/apply", effect)
        return results

    def ask(self, *steps: int) -> PlanAnswer:
        """Ask for the undo, and have it planned."""
        order = self.ledger.in_force.order_undo("INC-1/1", steps=steps, person="ada", reason="it is fixed")
        return self.plan_undo(order)

    def plan_undo(self, order: UndoRequest) -> PlanAnswer:
        """Have an undo planned."""
        answer: PlanAnswer = ActivityEnvironment().run(self.undoing.plan_undo, order)
        return answer

    def sealed(self, answer: PlanAnswer) -> Plan:
        """Give the sealed plan of an answer."""
        return self.ledger.approvals.plan(answer.plan_digest)

    def states(self) -> dict[str, bool]:
        """Say which flags are on, as the provider has it."""
        return {key: bool(self.flags.config("web", "production", key)["on"]) for key in STEPS}

    def in_force(self) -> InForce:
        """Give how the failover stands."""
        return self.ledger.in_force.get("INC-1/1")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Give a service that has failed over."""
    with ExitStack() as stack:
        yield Scene(stack, tmp_path)


def test_the_failback_of_a_failover(scene: Scene) -> None:
    """The way back is a sealed plan of its own: last step first, with verification and an undo of its own."""
    assert scene.states() == STEPS
    assert [step.step for step in scene.in_force().left] == [1, 2]
    answer = scene.ask()
    plan = scene.sealed(answer)
    assert (plan.mitigation, plan.undoes, plan.title) == ("INC-1/1-undo", "INC-1/1", "Undo Fail over")
    assert [step.title for step in plan.steps] == ["Undo: Switch primary", "Undo: Switch standby"]
    ways = [(step.undo.target, step.undo.arguments["on"]) for step in plan.steps if step.undo]
    assert ways == [(step.action.target, step.action.arguments["on"]) for step in reversed(scene.plan.steps)]
    assert all(step.verification and step.verification.baseline for step in plan.steps)
    assert "ada asks to undo it: it is fixed." in plan.rationale
    assert [result.outcome for result in scene.run(answer)] == [Outcome.DONE] * 2

    assert scene.states() == {key: not on for key, on in STEPS.items()}
    assert scene.in_force().state is ForceState.UNDONE


def test_planning_it_again_gives_what_was_asked(scene: Scene) -> None:
    """A repeated planning, as after a killed worker, asks no second question."""
    first = scene.ask()

    assert scene.ask() == first
    assert len(scene.ledger.approvals.list()) == 2


def test_its_time_is_over(scene: Scene) -> None:
    """An undo that nobody asked for waits for half a day, and calls nobody out of bed: one person is told."""
    order = scene.ledger.in_force.order_undo("INC-1/1", person=ENGINE, reason="its time is over")
    before = {message.kind for message in scene.ledger.outbox.claim(20, timedelta(minutes=1))}
    plan = scene.sealed(scene.plan_undo(order))
    (told,) = (
        message
        for message in scene.ledger.outbox.claim(20, timedelta(minutes=1))
        if message.kind in (ladders.TELL, ladders.LADDER)
    )

    assert ladders.LADDER in before  # as the plan that was hurried did
    assert plan.expires_at - plan.sealed_at == timedelta(hours=12)
    assert told.payload == {"whom": ["incident_commander"], "text": "APR-2 asks whether INC-1/1-undo may run"}


@pytest.mark.parametrize(
    "crafted", [{"person": "grace"}, {"steps": (1,)}, {"reason": "x"}, {"mitigation": "INC-1/1-undo-2"}, {}]
)
def test_an_undo_that_nobody_has_asked_for(scene: Scene, crafted: dict[str, Any]) -> None:
    """Whoever may start workflows cannot have the way back planned: perhaps nobody has to approve it."""
    order = {"incident": "INC-1", "mitigation": "INC-1/1-undo", "undoes": "INC-1/1", "person": "ada"}
    if crafted:
        scene.ledger.in_force.order_undo("INC-1/1", person="ada", reason="it is fixed")
    answer = scene.plan_undo(UndoRequest.model_validate(order | {"reason": "it is fixed"} | crafted))

    assert answer.approval == ""
    assert answer.notes == (f"{crafted.get('person', 'ada')} has not asked to undo INC-1/1 like this",)
    assert len(scene.ledger.approvals.list()) == 1


def test_some_of_its_steps(scene: Scene) -> None:
    """One step may go back alone; the others stay in force."""
    scene.run(scene.ask(2))

    assert scene.states() == {"standby": True, "primary": True}
    assert [step.step for step in scene.in_force().left] == [1]


def test_what_is_gone_already(scene: Scene) -> None:
    """What somebody has switched back by hand is taken down as undone, and there is nothing to ask."""
    scene.flags.turn("web", "production", "primary", on=True)
    answer = scene.ask()
    assert [step.title for step in answer.steps] == ["Undo: Switch standby"]
    assert [step.step for step in scene.in_force().left] == [1]
    scene.flags.turn("web", "production", "standby", on=False)
    scene.ledger.in_force.has_ended(answer.ended(AttemptEnd.EXPIRED, ""))
    answer = scene.ask()

    assert answer.approval == ""
    assert answer.notes == ("INC-1/1: nothing of it is in force any more",)
    assert scene.in_force().state is ForceState.UNDONE


def test_what_somebody_has_changed_further(tmp_path: Path) -> None:
    """Where a target is neither as before nor as the mitigation left it, the plan says so and risks more."""
    with ExitStack() as stack:
        scene = Scene(stack, tmp_path, by=scale_out)
        untouched = scene.sealed(scene.ask())
        scene.ledger.in_force.has_ended(
            answer_of(untouched, "", scene.registry).ended(AttemptEnd.REJECTED, "")
        )
        request = ScaleDeployment(cluster="demo", namespace="shop", name="web", replicas=9)
        action, _ = scene.registry.action(request.call())
        action.apply(request, action.observe(request), action_id="somebody")
        plan = scene.sealed(scene.ask())

        assert "no longer" not in untouched.rationale
        assert f"{scene.web.target()} is no longer as INC-1/1 left it" in plan.rationale
        assert (untouched.risk, plan.risk) == (Risk.MEDIUM, Risk.HIGH)
        assert [(one.before, one.after) for one in plan.steps[0].change] == [(9, 2)]


def test_rules_that_were_changed_while_a_flag_was_off(scene: Scene) -> None:
    """What an undo would switch on is not what was switched off: the plan says so, and asks about more."""
    scene.flags.add_rule("web", "production", "primary")
    plan = scene.sealed(scene.ask())
    said = "launchdarkly:flag/web/production/primary is no longer as INC-1/1 left it: its rules, targets or"

    assert f"{said} prerequisites were changed since." in plan.rationale
    assert [step.risk for step in plan.steps] == [Risk.HIGH, Risk.LOW]


def test_what_is_no_longer_ours(scene: Scene) -> None:
    """What the catalogue gives to somebody else meanwhile is not touched, and the answer says why."""
    service = scene.catalogue.services[0]
    empty = service.model_copy(update={"environments": {"production": ServiceEnvironment()}})
    planning = Planning(
        ledger=scene.ledger,
        catalogue=scene.catalogue.model_copy(update={"services": (empty,)}),
        playbooks=(),
        registry=scene.registry,
        policy=Policy(),
        clock=utc_now,
    )
    scene.undoing = Undoing(ledger=scene.ledger, planning=planning, registry=scene.registry)
    answer = scene.ask()

    assert answer.approval == ""
    assert "the catalogue does not give it to shop" in answer.notes[0]


def test_a_provider_that_is_away(scene: Scene) -> None:
    """While nobody can look, nothing is proposed: the activity is tried again."""
    scene.flags.fail(Fault.CUT_BEFORE, method="GET", times=50)

    with pytest.raises(ProviderUnavailableError):
        scene.ask()


def test_the_end_of_an_undo(scene: Scene) -> None:
    """The end is taken down once, and leaves room for the next."""
    answer = scene.ask()
    ended = MitigationEnded(result=answer.ended(AttemptEnd.REJECTED, "not now"))
    for _ in range(2):
        ActivityEnvironment().run(scene.undoing.end_undo, ended)

    assert isinstance(ended.result, MitigationResult)
    assert scene.in_force().undo is None
    assert scene.ask().mitigation == "INC-1/1-undo-2"


def test_an_undo_that_makes_things_worse(scene: Scene) -> None:
    """The undo of an undo is the mitigation again, and that is in force again."""
    answer = scene.ask()
    scene.run(answer, last=Effect.WORSE)
    results = scene.run(answer, Direction.UNDO)

    assert [result.outcome for result in results] == [Outcome.DONE] * 2
    assert scene.states() == STEPS
    assert [step.step for step in scene.in_force().left] == [1, 2]
