"""What workflows and activities say to each other: one object in, one object out."""

import json
from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum

from contracts.approvals import ApprovalState, SignedDecision
from contracts.base import Frozen, JsonObject
from contracts.evidence import Evidence
from contracts.incidents import Alert, Attempt, AttemptEnd, Effect, Incident, Phase, Role, Severity
from contracts.outcomes import Direction, MitigationResult
from contracts.plans import Plan, Undoable


class CommandKind(StrEnum):
    """What a person may tell an incident to do."""

    RESOLVE = "resolve"
    REPLAN = "replan"
    SEVERITY = "severity"


class Command(Frozen):
    """One order of a person to an incident; the ledger has recorded who gave it.

    Attributes:
        playbook: Plan again with this one, whether or not it fits or was tried; the person is the requester.
        params: That playbook's parameters.
    """

    id: str
    kind: CommandKind
    person: str
    reason: str = ""
    severity: Severity | None = None
    playbook: str = ""
    params: JsonObject = {}

    @property
    def wish(self) -> str:
        """What is asked for by name, for people: ``fail-over (accept ["ready"])``; empty when nothing is."""
        said = ", ".join(f"{name} {json.dumps(value)}" for name, value in self.params.items())
        return f"{self.playbook} ({said})" if said else self.playbook


class AlertBatch(Frozen):
    """Alerts that the dispatcher attaches to an incident."""

    alerts: tuple[Alert, ...]


class PlanRequest(Frozen):
    """Ask for the next plan.

    Attributes:
        number: Of the mitigation within the incident, from 1: makes a repeated planning the same request.
        order: A person's, who names the playbook; else those that fit are asked, in their order.
    """

    incident: Incident
    number: int
    order: Command | None = None


class StepBrief(Undoable):
    """What the order of things depends on, of one step."""

    number: int
    title: str
    verified: bool
    undoable: bool


class PlanAnswer(Frozen):
    """The sealed plan's address, or why there is none.

    Attributes:
        order: The person's who asked for its playbook by name.
    """

    mitigation: str
    order: Command | None = None
    playbook: str = ""
    title: str = ""
    plan_digest: str = ""
    approval: str = ""
    expires_at: datetime | None = None
    steps: tuple[StepBrief, ...] = ()
    actions: tuple[str, ...] = ()
    undo_when: tuple[Effect, ...] = ()
    notes: tuple[str, ...] = ()

    def in_force(self, left: Collection[int]) -> str:
        """Say at the end of a sentence which steps are in force, and what undoes them, if any is."""
        said = ""
        for undoable in (False, True):
            numbers = [str(one) for one in sorted(left) if self.steps[one - 1].undoable is undoable]
            how = (
                f"in force: stanch mitigation undo {self.mitigation}" if undoable else "done, without an undo"
            )
            said += f"; step{'s' * (len(numbers) > 1)} {', '.join(numbers)} {how}" if numbers else ""
        return said

    def ended(
        self, end: AttemptEnd, detail: str, *, undone: bool = False, applied: bool = False
    ) -> MitigationResult:
        """Give the last word on this plan."""
        about = self.model_dump(include={"mitigation", "playbook", "title", "plan_digest"})
        return MitigationResult(**about, end=end, detail=detail, undone=undone, applied=applied)


class PreviewRequest(Frozen):
    """Ask what a playbook would propose now; nothing is sealed and nobody is asked."""

    playbook: str
    incident: Incident
    params: JsonObject = {}


class PreviewAnswer(Frozen):
    """What it would propose, or why nothing."""

    plan: Plan | None = None
    note: str = ""


class RecordRequest(Frozen):
    """Bring the ledger's projection of an incident up to date, with evidence, in one transaction.

    Attributes:
        version: Rises with each record of this incident; an older one never overwrites a newer.
        hand_back: Alerts that came when the incident was already over: they open a new one.
        command: The order of the person in whose name an entry is written; else the engine writes them.
    """

    incident: str
    version: int
    phase: Phase
    attention: str | None = None
    attempts: tuple[Attempt, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    hand_back: tuple[Alert, ...] = ()
    command: Command | None = None


class CommandCheck(Frozen):
    """Ask whether an order that was delivered is one that the ledger has recorded."""

    incident: str
    command: Command


class CheckedCommand(Frozen):
    """Whether somebody has given the order."""

    is_given: bool


class IncidentInput(Frozen):
    """How an incident starts, or goes on after continue-as-new.

    Attributes:
        monitoring: How long all signals stay healthy before it is resolved.
        version: How many records its run has written.
        running: The mitigation that is being decided or run.
        commands: Ids of the commands that were already obeyed.
        order: The playbook that a person has asked for and that is still to be planned.
    """

    incident: Incident
    monitoring: timedelta
    mitigations: int = 0
    version: int = 0
    running: PlanAnswer | None = None
    commands: tuple[str, ...] = ()
    order: Command | None = None


class UndoRequest(Frozen):
    """Ask for a plan that takes a mitigation in force back.

    Attributes:
        mitigation: Its own id, ``INC-42/1-undo``.
        undoes: The mitigation in force.
        steps: Which of its steps; empty means all that are in force.
        person: Who asks for it; ``stanch`` when its time is over.
    """

    incident: str
    mitigation: str
    undoes: str
    steps: tuple[int, ...] = ()
    person: str
    reason: str


class MitigationOrder(Frozen):
    """One sealed plan, to be decided and run; or what it is to be made of first."""

    incident: str
    answer: PlanAnswer
    undo: UndoRequest | None = None


class VerifyOrder(Frozen):
    """See whether a step settled and what it did for the users."""

    incident: str
    mitigation: str
    step: int
    direction: Direction
    plan_digest: str


class StepOrder(VerifyOrder):
    """Run one step of a sealed plan, or its undo, under a signed decision."""

    signed: SignedDecision


class CloseApproval(Frozen):
    """Close a request that nobody answered, or that is no longer needed; without a state only read it."""

    approval: str
    state: ApprovalState | None = None
    reason: str = ""


class ClosedApproval(Frozen):
    """How the request stands now: a decision may have come first, and then it counts."""

    state: ApprovalState
    signed: SignedDecision | None = None


class MonitorOrder(Frozen):
    """Watch all of a service's signals for a while."""

    incident: str
    service: str
    environment: str
    signals: tuple[str, ...]
    hold: timedelta


class MonitorResult(Frozen):
    """Whether everything stayed healthy; not stable and not regressed means that nobody can tell."""

    stable: bool
    regressed: bool = False
    detail: str
    ended_at: datetime


class PostmortemRequest(Frozen):
    """Write the postmortem of a resolved incident."""

    incident: str


class Written(Frozen):
    """The ledger has it."""


class Withdrawal(Frozen):
    """Why a mitigation that nobody has approved yet is no longer needed."""

    reason: str


class RoleAssignment(Frozen):
    """Who takes which role."""

    role: Role
    person: str


class MitigationEnded(Frozen):
    """A mitigation's last word to its incident."""

    result: MitigationResult
