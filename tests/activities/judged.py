"""What the ledger knows of a step that was verified, for tests that are about what comes after."""

from contracts.evidence import ENGINE, Evidence, EvidenceKind
from contracts.incidents import Effect
from contracts.outcomes import Direction, EffectResult, Outcome, Progress, StepResult
from contracts.plans import Plan
from ledger import Ledger


def judge(
    ledger: Ledger, action: str, effect: Effect = Effect.WORSE, settled: Progress | None = None
) -> None:
    """Keep what a verification of an action would have found."""
    result = EffectResult(effect=effect, detail="", settled=settled, ended_at=ledger.database.now())
    ledger.evidence.append(
        Evidence(
            key=f"{action}/verification",
            kind=EvidenceKind.VERIFICATION,
            incident=action.split("/", maxsplit=1)[0],
            actor=ENGINE,
            at=result.ended_at,
            summary=effect.value,
            body=result.model_dump(mode="json"),
        )
    )


def do(ledger: Ledger, plan: Plan, approval: str, digest: str) -> None:
    """Enter a plan's first step as done, without a call."""
    entry = ledger.journal.begin(
        f"{plan.mitigation}/1/apply",
        incident=plan.incident,
        mitigation=plan.mitigation,
        step=1,
        direction=Direction.APPLY,
        plan_digest=digest,
        approval=approval,
    )
    done = StepResult(action=entry.action, outcome=Outcome.DONE, no_op=True)
    ledger.journal.settle(entry, result=done, actor="stanch")
