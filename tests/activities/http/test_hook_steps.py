"""A hook that nobody can look at, under the engine itself: approved, journalled, and never called blindly."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from temporalio.testing import ActivityEnvironment

from activities.http import CallHook, CallHookAction
from activities.http.fake import FakeEndpoint, HookFault
from activities.registry import Registry
from activities.steps import Steps
from activities.verification import Watching
from authority.decisions import Signer, Verifier
from authority.policy import Policy
from authority.seals import digest
from contracts.approvals import Verdict
from contracts.catalogue import Catalogue, Hook, Service, ServiceEnvironment
from contracts.incidents import Effect, Role, Severity
from contracts.messages import StepOrder, VerifyOrder
from contracts.outcomes import Direction, Outcome, StepResult
from contracts.plans import Plan, Step
from ledger import Answer, Ledger
from runtime.clock import utc_now
from tests.activities.http.conftest import client, hook
from tests.activities.judged import judge

KEYS = Ed25519PrivateKey.generate()
POLICY = Policy()
REQUEST = CallHook(hook="shed-load", desired={"recommendations": "off"})


class Approved:
    """One approved step that calls a hook, and its undo."""

    def __init__(self, spec: Hook, ledger: Ledger, *others: Hook) -> None:
        self.ledger = ledger
        self.action = CallHookAction(client(spec, *others))
        # Of this one alone: its calls cannot be on their way for long.
        self.action.in_flight = timedelta(seconds=0.3)  # type: ignore[misc]
        environment = ServiceEnvironment(hooks=(spec, *others))
        self.catalogue = Catalogue(services=(Service(name="shop", environments={"production": environment}),))
        declared = {"title": "t", "service": "shop", "environment": "production", "person": "grace"}
        incident = ledger.incidents.declare(**declared, severity=Severity.SEV2, trace={})
        ledger.incidents.assign(incident.id, Role.INCIDENT_COMMANDER, "ada", by="ada")
        self.plan = self._seal(incident.id)
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

    def _seal(self, incident: str) -> Plan:
        observed = self.action.observe(REQUEST)
        undo, note = self.action.undo(REQUEST, observed)
        now = utc_now()
        step = Step(
            number=1,
            title="Shed load",
            action=REQUEST.call(),
            observed=observed,
            change=self.action.change(REQUEST, observed),
            undo=undo.call() if undo else None,
            undo_note=note,
            risk=self.action.risk,
            blast_radius="everybody",
            idempotent="yes",
        )
        return Plan(
            incident=incident,
            mitigation=f"{incident}/1",
            service="shop",
            environment="production",
            playbook="hotfix",
            playbook_digest="0" * 64,
            policy_digest=POLICY.digest,
            title="Shed load",
            rationale="It helps.",
            steps=(step,),
            undo_when=(Effect.WORSE, Effect.INCONCLUSIVE),
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
            clock=utc_now,
        )
        order = StepOrder(**self._about(direction), signed=self.signed)
        result: StepResult = ActivityEnvironment().run(steps.run_step, order)
        return result

    def verify(self) -> Any:
        """See whether the step settled."""
        registry = Registry([self.action], [])
        watching = Watching(ledger=self.ledger, catalogue=self.catalogue, registry=registry, clock=utc_now)
        return ActivityEnvironment().run(watching.verify_step, VerifyOrder(**self._about(Direction.APPLY)))

    def _about(self, direction: Direction) -> dict[str, Any]:
        about = {"incident": self.plan.incident, "mitigation": self.plan.mitigation, "step": 1}
        return {**about, "direction": direction, "plan_digest": digest(self.plan)}


@pytest.fixture
def approved(endpoint: FakeEndpoint, tmp_path: Path) -> Iterator[Callable[..., Approved]]:
    """Give an approved step for a hook without a status."""
    with ExitStack() as stack:

        def approve(*others: Hook, status_url: str | None = None, **more: Any) -> Approved:
            ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}", clock=utc_now)
            stack.callback(ledger.close)
            ledger.migrate()
            endpoint.once = more.get("once_per_key", False)
            return Approved(hook(endpoint.url, status_url, **more), ledger, *others)

        yield approve


@pytest.mark.parametrize("fault", [HookFault.CUT_BEFORE, HookFault.CUT_AFTER, HookFault.ERROR_AFTER])
def test_a_lost_answer_is_in_doubt(
    endpoint: FakeEndpoint, approved: Callable[..., Approved], fault: HookFault
) -> None:
    """Nobody can look: the step ends in doubt, nothing is repeated, and a second run says the same."""
    endpoint.fail(fault)
    step = approved()
    results = [step.run(), step.run()]

    assert [one.outcome for one in results] == [Outcome.IN_DOUBT, Outcome.IN_DOUBT]
    assert "nobody can look" in results[0].detail
    assert len(endpoint.orders()) == 1


@pytest.mark.parametrize("fault", [HookFault.CUT_BEFORE, HookFault.CUT_AFTER, HookFault.ERROR_AFTER])
def test_an_endpoint_that_keeps_its_keys_is_told_again(
    endpoint: FakeEndpoint, approved: Callable[..., Approved], fault: HookFault
) -> None:
    """The same request under the same key is carried out once, and then the answer is known."""
    endpoint.fail(fault)
    result = approved(once_per_key=True).run()

    assert result.outcome is Outcome.DONE
    assert [one.key for one in endpoint.orders()] == [result.action] * 2
    assert sum(one.changed for one in endpoint.orders()) == 1


def test_what_nobody_can_look_at_settles_by_its_answer_and_is_undone(
    endpoint: FakeEndpoint, approved: Callable[..., Approved]
) -> None:
    """An answer that came is enough to go on, and the declared undo runs although nobody can look."""
    step = approved(undo={"desired": {"recommendations": "on"}})
    done = step.run()
    seen = step.verify()
    assert (done.outcome, endpoint.state["recommendations"]) == (Outcome.DONE, "off")
    assert (seen.settled, seen.effect) == (None, Effect.INCONCLUSIVE)
    assert "no status_url" in seen.detail

    assert step.run(Direction.UNDO).outcome is Outcome.DONE
    assert endpoint.state["recommendations"] == "on"


def test_another_hook_takes_back(endpoint: FakeEndpoint, approved: Callable[..., Approved]) -> None:
    """The declared undo runs while the step's own change is in place, whatever its own hook tells."""
    with FakeEndpoint({"load": "shed"}) as other:
        back = hook(other.url, other.status_url, name="give-back")
        undo = {"hook": "give-back", "desired": {"load": "full"}}
        step = approved(back, status_url=endpoint.status_url, undo=undo)
        step.run()
        result = step.run(Direction.UNDO)

        assert (result.outcome, result.detail) == (Outcome.DONE, "")
        assert other.state == {"load": "full"}


def test_another_hook_takes_nothing_back_of_somebody_else(
    endpoint: FakeEndpoint, approved: Callable[..., Approved]
) -> None:
    """What was changed since by somebody else is left alone, though the undo's own hook does not tell it."""
    with FakeEndpoint({"load": "shed"}) as other:
        back = hook(other.url, other.status_url, name="give-back")
        undo = {"hook": "give-back", "desired": {"load": "full"}}
        step = approved(back, status_url=endpoint.status_url, undo=undo)
        step.run()
        endpoint.state["recommendations"] = "half"
        result = step.run(Direction.UNDO)

        assert result.outcome is Outcome.NOT_DONE
        assert [one.path for one in result.drift] == ["what the step had done"]
        assert other.orders() == []
