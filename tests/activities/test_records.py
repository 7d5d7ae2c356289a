"""What the incident's workflow may write down: whoever may write to the engine may ask for the same."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.records import Records
from activities.undoing import Undoing
from contracts.errors import ForbiddenError
from contracts.evidence import ENGINE, Evidence, EvidenceKind
from contracts.incidents import Attempt, AttemptEnd, Effect, Phase
from contracts.messages import Command, CommandCheck, CommandKind, MitigationEnded, PlanAnswer, RecordRequest
from ledger import Ledger
from tests.activities.judged import do, judge
from tests.ledger.samples import NOON, open_incident, plan

RESOLVE = Command(id="c", kind=CommandKind.RESOLVE, person="grace", reason="all good")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give a ledger with an incident."""
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}", clock=lambda: NOON)
    ledger.migrate()
    open_incident(ledger)
    yield ledger
    ledger.close()


def record(ledger: Ledger, version: int = 1, command: Command | None = None, **entry: Any) -> None:
    """Record a change of phase as a workflow does."""
    facts = {"key": f"INC-1/phase_changed/v{version}", "kind": EvidenceKind.PHASE_CHANGED, "actor": ENGINE}
    told = Evidence(**{**facts, "incident": "INC-1", "at": NOON, "summary": "resolved: all good", **entry})
    request = RecordRequest(
        incident="INC-1", version=version, phase=Phase.RESOLVED, evidence=(told,), command=command
    )
    ActivityEnvironment().run(Records(ledger=ledger).record, request)


def check(ledger: Ledger, command: Command) -> bool:
    """Ask whether an order was given."""
    request = CommandCheck(incident="INC-1", command=command)
    given: bool = ActivityEnvironment().run(Records(ledger=ledger).check_command, request).is_given
    return given


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": EvidenceKind.DECISION},
        {"kind": EvidenceKind.MITIGATION_ENDED, "key": "INC-1/1/ended"},
        {"incident": "INC-2"},
        {"actor": "grace"},
        {"actor": "grace", "command": RESOLVE},
        {
            "actor": "grace",
            "command": RESOLVE.model_copy(update={"id": "replan", "kind": CommandKind.REPLAN}),
        },
        {"actor": "ada", "command": RESOLVE.model_copy(update={"id": "true"})},
    ],
    ids=str,
)
def test_what_a_workflow_does_not_write(ledger: Ledger, entry: dict[str, Any]) -> None:
    """Evidence of other kinds, of another incident, or in the name of who did not order it is refused."""
    for name, kind in (("true", CommandKind.RESOLVE), ("replan", CommandKind.REPLAN)):
        given = RESOLVE.model_copy(update={"id": name, "kind": kind})
        ledger.incidents.command("INC-1", given, trace={})
    size = ledger.evidence.size()

    with pytest.raises(ForbiddenError, match="is nothing that its workflow writes"):
        record(ledger, **entry)
    assert (ledger.evidence.size(), ledger.incidents.get("INC-1").phase) == (size, Phase.DETECTED)


def test_who_has_ordered_it_has_resolved_it(ledger: Ledger) -> None:
    """The end of an incident is in the name of the person who ordered it, once."""
    ledger.incidents.command("INC-1", RESOLVE, trace={})
    for _ in range(2):
        record(ledger, actor="grace", command=RESOLVE)
    told = [one for one in ledger.evidence.entries() if one.kind is EvidenceKind.PHASE_CHANGED]

    assert [(one.actor, one.summary) for one in told] == [("grace", "resolved: all good")]


def test_what_is_written_first_does_not_stand_for_the_truth(ledger: Ledger) -> None:
    """Another entry under the key of one to come does not keep that out."""
    record(ledger, summary="closed: never happened")
    record(ledger)
    told = [one.summary for one in ledger.evidence.entries() if one.kind is EvidenceKind.PHASE_CHANGED]

    assert told == ["closed: never happened", "resolved: all good"]


def test_an_order_that_nobody_gave(ledger: Ledger) -> None:
    """An order counts as the ledger has it, word for word; every other one is evidence, once."""
    ledger.incidents.command("INC-1", RESOLVE, trace={})
    others = [RESOLVE.model_copy(update=one) for one in ({"id": "x"}, {"person": "ada"}, {"reason": "no"})]

    assert check(ledger, RESOLVE)
    assert [check(ledger, one) for one in [*others, *others]] == [False] * 6
    refused = [one for one in ledger.evidence.entries() if one.kind is EvidenceKind.REFUSED]
    assert [one.actor for one in refused] == [ENGINE] * 3
    assert refused[0].summary == "an order to resolve was delivered that grace has not given"


def test_effective_is_what_was_measured(ledger: Ledger) -> None:
    """Who says that a mitigation helped has to have the measurement; without it nobody can tell."""
    of = plan()
    asked = ledger.approvals.ask(of, severity=ledger.incidents.get("INC-1").severity)
    do(ledger, of, asked.id, asked.plan_digest)
    attempt = Attempt(mitigation="INC-1/1", playbook="p", title="t", plan_digest="", end=AttemptEnd.EFFECTIVE)
    ends = []
    for version in (1, 2):
        request = RecordRequest(incident="INC-1", version=version, phase=Phase.TRIAGE, attempts=(attempt,))
        ActivityEnvironment().run(Records(ledger=ledger).record, request)
        ends.append(ledger.incidents.get("INC-1").attempts[0].end)
        judge(ledger, "INC-1/1/1/apply", Effect.EFFECTIVE)

    assert ends == [AttemptEnd.INCONCLUSIVE, AttemptEnd.EFFECTIVE]


def test_the_end_of_something_else(ledger: Ledger) -> None:
    """An incident does not end another's mitigation, and who ends an undo ends nothing else."""
    answer = PlanAnswer(mitigation="INC-2/1")
    attempt = answer.ended(AttemptEnd.WORSE, "").attempt(())
    request = RecordRequest(incident="INC-1", version=1, phase=Phase.TRIAGE, attempts=(attempt,))
    undoing = Undoing(ledger=ledger, planning=None, registry=None)  # type: ignore[arg-type]  # neither is asked

    with pytest.raises(ForbiddenError, match="INC-2/1 is not a mitigation of INC-1"):
        ActivityEnvironment().run(Records(ledger=ledger).record, request)
    with pytest.raises(ForbiddenError, match="INC-2/1 is no undo"):
        ActivityEnvironment().run(
            undoing.end_undo, MitigationEnded(result=answer.ended(AttemptEnd.WORSE, ""))
        )
    assert not ledger.evidence.has("INC-2/1/ended")
