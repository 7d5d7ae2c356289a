"""The actions under the engine itself: approved, journalled, run once, undone."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from temporalio.testing import ActivityEnvironment

from activities.aws import Mode
from activities.aws.actions import SetRoutingControlsAction
from activities.aws.client import AwsClient
from activities.aws.fake import FakeAws, Fault
from activities.registry import Registry
from activities.steps import Steps
from authority.decisions import Signer, Verifier
from authority.guardrails import Guard, Guardrails
from authority.policy import Policy
from authority.seals import digest
from contracts.approvals import Verdict
from contracts.catalogue import Aws, AwsResources, Catalogue, Service, ServiceEnvironment
from contracts.errors import ProviderUnavailableError
from contracts.evidence import EvidenceKind
from contracts.incidents import Effect, Role, Severity
from contracts.messages import StepOrder
from contracts.outcomes import Direction, Outcome, StepResult
from contracts.plans import Plan, Step
from ledger import Answer, Ledger
from runtime.clock import utc_now
from tests.activities.aws.conftest import World
from tests.activities.aws.test_faults import CASES, Case, routing, switchover
from tests.activities.judged import judge

KEYS = Ed25519PrivateKey.generate()
POLICY = Policy()
# How the catalogue writes a target of each kind.
ENTRIES: dict[str, Callable[[tuple[str, ...]], dict[str, Any]]] = {
    "auto_scaling_group": lambda path: {
        "auto_scaling_groups": [dict(zip(("account", "region", "name"), path, strict=True))]
    },
    "ecs_service": lambda path: {
        "ecs_services": [dict(zip(("account", "region", "cluster", "name"), path, strict=True))]
    },
    "scalable_target": lambda path: {
        "scalable_targets": [dict(zip(("account", "region", "namespace", "resource"), path, strict=False))]
    },
    "record": lambda path: {"records": [dict(zip(("account", "zone", "name"), path, strict=False))]},
    "routing_panel": lambda path: {"panels": path},
    "region_switch_plan": lambda path: {
        "region_switch_plans": [dict(zip(("account", "arn"), path, strict=True))]
    },
    "global_cluster": lambda path: {"global_clusters": [dict(zip(("account", "name"), path, strict=True))]},
}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger: in a shared one a mitigation that never ends would lock its target for the others."""
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}", clock=utc_now)
    ledger.migrate()
    yield ledger
    ledger.close()


class Approved:
    """One approved step."""

    def __init__(
        self, case: Case, client: AwsClient, accounts: Aws, ledger: Ledger, forced: Any = None
    ) -> None:
        self.ledger = ledger
        self.clock = utc_now
        self.forced = forced
        self.action = case.action(client)
        self.action.in_flight = timedelta(seconds=0.6)
        target = case.request.target
        resources = AwsResources.model_validate(ENTRIES[target.kind](target.path))
        environments = {"production": ServiceEnvironment(aws=resources)}
        shop = Service(name="shop", environments=environments)
        self.catalogue = Catalogue(aws=accounts, services=(shop,))
        incident = ledger.incidents.declare(
            title="broken",
            service="shop",
            environment="production",
            severity=Severity.SEV2,
            person="grace",
            trace={},
        )
        ledger.incidents.assign(incident.id, Role.INCIDENT_COMMANDER, "ada", by="ada")
        self.plan = self._seal(incident.id, case.request)
        asked = ledger.approvals.ask(self.plan, severity=Severity.SEV2)
        self.signed = ledger.approvals.decide(
            asked.id,
            Answer(
                verdict=Verdict.APPROVE,
                plan_digest=asked.plan_digest,
                person="ada",
                authenticated_by="local",
                reason="",
            ),
            policy=POLICY,
            signer=Signer(KEYS),
            trace={},
        )

    def _seal(self, incident: str, request: Any) -> Plan:
        observed = self.action.observe(request)
        undo, note = self.action.undo(request, observed)
        now = utc_now()
        step = Step(
            number=1,
            title="Mitigate",
            action=request.call(),
            forced=self.forced.call() if self.forced else None,
            observed=observed,
            change=self.action.change(request, observed),
            undo=undo.call(),
            undo_note=note,
            risk=self.action.risk,
            blast_radius=self.action.blast_radius(request, observed),
            idempotent=self.action.idempotent,
            refusals=self.action.preflight(request, observed),
        )
        return Plan(
            incident=incident,
            mitigation=f"{incident}/1",
            service="shop",
            environment="production",
            playbook="mitigate",
            playbook_digest="0" * 64,
            policy_digest=POLICY.digest,
            title="Mitigate",
            rationale="It is broken.",
            steps=(step,),
            undo_when=(Effect.WORSE,),
            sealed_at=now,
            expires_at=now + timedelta(minutes=10),
        )

    def run(self, direction: Direction = Direction.APPLY) -> StepResult:
        """Run the step as a fresh worker does; its undo, as if it had made things worse."""
        if direction is Direction.UNDO:
            judge(self.ledger, f"{self.plan.mitigation}/1/apply")
        steps = Steps(
            ledger=self.ledger,
            catalogue=self.catalogue,
            registry=Registry([self.action], []),
            verifier=Verifier([KEYS.public_key()]),
            clock=self.clock,
        )
        order = StepOrder(
            incident=self.plan.incident,
            mitigation=self.plan.mitigation,
            step=1,
            direction=direction,
            plan_digest=digest(self.plan),
            signed=self.signed,
        )
        result: StepResult = ActivityEnvironment().run(steps.run_step, order)
        return result

    def force(self) -> None:
        """Order the ungraceful variant."""
        self.signed = self.ledger.approvals.force(
            self.signed.decision.request,
            1,
            person="ada",
            authenticated_by="local",
            reason="it hangs",
            policy=POLICY,
            signer=Signer(KEYS),
            trace={},
        )

    def die_after_intent(self) -> str:
        """Leave the journal as a worker does that was killed around its call; give the action's id."""
        key = f"{self.plan.mitigation}/1/apply"
        entry = self.ledger.journal.begin(
            key,
            incident=self.plan.incident,
            mitigation=self.plan.mitigation,
            step=1,
            direction=Direction.APPLY,
            plan_digest=digest(self.plan),
            approval=self.signed.decision.request,
        )
        before = self.plan.steps[0].observed.model_dump(mode="json")
        self.ledger.journal.intend(entry, before=before, actor="stanch", guard=Guard(Guardrails(), self.plan))
        return key


Made = Callable[[World], Case]
Approve = Callable[[Made], tuple[Case, Approved]]


@pytest.fixture
def approve(world: World, client: AwsClient, accounts: Aws, ledger: Ledger) -> Approve:
    """Make a case and approve it."""

    def approved(made: Made) -> tuple[Case, Approved]:
        case = made(world)
        return case, Approved(case, client, accounts, ledger)

    return approved


@pytest.mark.parametrize("made", CASES)
def test_an_approved_step_runs_once_and_is_undone_once(aws: FakeAws, approve: Approve, made: Made) -> None:
    """What the catalogue gives to the service is changed once, and brought back once."""
    case, approved = approve(made)
    assert approved.plan.refusals == ()
    first, second = approved.run(), approved.run()
    assert (first.outcome, first, case.is_done()) == (Outcome.DONE, second, True)
    undone, again = approved.run(Direction.UNDO), approved.run(Direction.UNDO)

    assert (undone.outcome, undone, case.is_done()) == (Outcome.DONE, again, False)
    assert len(aws.changes) == 2


@pytest.mark.parametrize("made", CASES)
def test_a_worker_killed_after_the_call_is_found_out_by_reading(
    aws: FakeAws, approve: Approve, made: Made
) -> None:
    """The next worker finds the intent, reads the target, and sends nothing."""
    case, approved = approve(made)
    key = approved.die_after_intent()
    approved.action.apply(case.request, approved.plan.steps[0].observed, action_id=key)
    result = approved.run()

    assert (result.outcome, result.observed_only) == (Outcome.DONE, True)
    assert len(aws.changes) == 1


@pytest.mark.parametrize("made", [case for case in CASES if case.__name__ in {"capacity", "routing"}])
def test_a_part_of_a_change_is_in_doubt(aws: FakeAws, approve: Approve, made: Made) -> None:
    """A target that is neither as it was nor as it should be stops the step, with both states."""
    case, approved = approve(made)
    aws.partial = case.part or aws.partial
    aws.fail(Fault.PARTIAL, case.operation)
    result = approved.run()

    assert result.outcome is Outcome.IN_DOUBT
    assert result.before != result.after
    assert approved.run() == result
    assert len(aws.arrived(case.operation)) == 1


def told_to_wait(ledger: Ledger) -> list[str]:
    """Give what people are told that a step waits for."""
    return [one.summary for one in ledger.evidence.entries() if one.kind is EvidenceKind.ATTENTION_NEEDED]


def test_traffic_is_left_alone_whichever_worker_changed_it(
    aws: FakeAws, world: World, client: AwsClient, accounts: Aws, ledger: Ledger
) -> None:
    """Another worker, or the same one after a restart, has from the journal that it was changed just now."""
    case = routing(world)
    steady = replace(case, request=case.request.model_copy(update={"panel": "steady"}))
    back = steady.request.model_copy(update={"states": {"ireland": True, "virginia": False}})
    approved = Approved(steady, client, accounts, ledger, back)
    assert approved.run().outcome is Outcome.DONE
    approved.force()
    approved.action = SetRoutingControlsAction(client)
    for _ in range(2):
        with pytest.raises(ProviderUnavailableError, match="ireland, virginia was changed less than 0:01:00"):
            approved.run(Direction.FORCE)
    held = len(aws.changes)
    approved.clock = lambda: utc_now() - timedelta(seconds=61)  # a clock that is set back holds nothing up
    forced = approved.run(Direction.FORCE)

    assert (forced.outcome, held, len(aws.changes)) == (Outcome.DONE, 1, 2)
    assert [one.partition(" waits: ")[0] for one in told_to_wait(ledger)] == ["INC-1/1 step 1"]


@pytest.mark.parametrize("gives_up", [True, False])
def test_a_failover_that_is_forced_waits_for_the_switchover(
    aws: FakeAws, world: World, client: AwsClient, accounts: Aws, ledger: Ledger, *, gives_up: bool
) -> None:
    """It is sent once AWS has given the switchover up, and need not be when that has ended well."""
    case = switchover(world)
    forced = case.request.model_copy(update={"mode": Mode.UNGRACEFUL})
    aws.moving = True
    approved = Approved(case, client, accounts, ledger, forced)
    assert approved.run().outcome is Outcome.DONE
    approved.force()
    for _ in range(2):
        with pytest.raises(ProviderUnavailableError, match="takes nothing else before that has ended"):
            approved.run(Direction.FORCE)
        aws.globals[forced.cluster].gives_up = gives_up
    (told,) = told_to_wait(ledger)
    aws.end_move(forced.cluster)
    aws.moving = False
    result = approved.run(Direction.FORCE)
    failovers = len(aws.arrived("FailoverGlobalCluster"))

    assert (result.outcome, result.no_op, failovers) == (Outcome.DONE, not gives_up, int(gives_up))
    assert "step 1 waits: Aurora global database" in told
    assert case.is_done()
