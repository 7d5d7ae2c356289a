"""The ledger's side of the order of things: phases, closed requests, the postmortem."""

from temporalio import activity

from activities.beating import beating
from activities.postmortem import compose
from activities.verification import effect_of
from authority.seals import digest
from contracts import messages, names
from contracts.errors import ForbiddenError
from contracts.evidence import ENGINE, Evidence, EvidenceKind
from contracts.incidents import Attempt, AttemptEnd, Effect
from ledger import Ledger
from ledger.storable import one_line

# What an incident's workflow writes; of the rest its own doer does.
TOLD = (EvidenceKind.ATTENTION_NEEDED, EvidenceKind.PHASE_CHANGED)


class Records:
    """Writes down what the workflows decide."""

    def __init__(self, *, ledger: Ledger) -> None:
        self._ledger = ledger

    @activity.defn(name=names.RECORD)
    def record(self, request: messages.RecordRequest) -> messages.Written:
        """Bring the ledger's view of an incident up to date.

        Whoever may write to the engine may call this too: it takes what the incident's workflow tells of it.

        Idempotent: by the record's version and each evidence entry's key.
        """
        told = {
            "evidence": tuple(self._told(request, entry) for entry in request.evidence),
            "attempts": tuple(self._ended(request, attempt) for attempt in request.attempts),
        }
        self._ledger.incidents.record(request.model_copy(update=told))
        if request.hand_back:
            self._ledger.inbox.requeue(request.incident, request.hand_back)
        return messages.Written()

    def _told(self, request: messages.RecordRequest, entry: Evidence) -> Evidence:
        """Give an entry under a key that another one cannot take before it.

        Raises:
            ForbiddenError: It is of a kind that others write, or in the name of who has not ordered it.
        """
        by, who = request.command, entry.actor
        is_theirs = by is not None and (by.kind, by.person) == (messages.CommandKind.RESOLVE, who)
        is_theirs = is_theirs and by is not None and self._ledger.incidents.has_ordered(request.incident, by)
        if entry.kind not in TOLD or entry.incident != request.incident or not (who == ENGINE or is_theirs):
            said = f"{request.incident}: {entry.kind} by {who} is nothing that its workflow writes"
            raise ForbiddenError(said)
        key = f"{request.incident}/{entry.kind}/v{request.version}/{digest(f'{who}: {entry.summary}')[:16]}"
        return entry.model_copy(update={"key": key, "summary": one_line(entry.summary), "body": {}})

    def _ended(self, request: messages.RecordRequest, attempt: Attempt) -> Attempt:
        """Give an attempt; it was effective when that was measured, whatever is said of it.

        Raises:
            ForbiddenError: It is another incident's.
        """
        if attempt.mitigation.partition("/")[0] != request.incident:
            raise ForbiddenError(f"{attempt.mitigation} is not a mitigation of {request.incident}")
        if attempt.end is AttemptEnd.EFFECTIVE:
            journal = self._ledger.journal.for_incident(request.incident)
            actions = [one.action for one in journal if one.mitigation == attempt.mitigation]
            seen = [effect_of(self._ledger, action) for action in actions]
            if not any(one and one.effect is Effect.EFFECTIVE for one in seen):
                return attempt.model_copy(update={"end": AttemptEnd.INCONCLUSIVE})
        return attempt

    @activity.defn(name=names.CHECK_COMMAND)
    def check_command(self, request: messages.CommandCheck) -> messages.CheckedCommand:
        """Say whether a person has given an order; one that nobody gave is kept in the log.

        Idempotent: the same order once.
        """
        incident, command = request.incident, request.command
        is_given = self._ledger.incidents.has_ordered(incident, command)
        if not is_given:
            said = f"an order to {command.kind.value} was delivered that {command.person} has not given"
            key, body = (
                f"{incident}/refused/{digest(command)[:32]}",
                {"command": command.model_dump(mode="json")},
            )
            self._ledger.evidence.note(EvidenceKind.REFUSED, key, said, incident=incident, body=body)
        return messages.CheckedCommand(is_given=is_given)

    @activity.defn(name=names.CLOSE_APPROVAL)
    def close_approval(self, request: messages.CloseApproval) -> messages.ClosedApproval:
        """Close a request that nobody answered, or learn the answer that came first.

        Idempotent: a closed request stays as it is.
        """
        if request.state is not None:
            return self._ledger.approvals.close(request.approval, request.state, request.reason)
        asked = self._ledger.approvals.get(request.approval).request
        return messages.ClosedApproval(state=asked.state, signed=asked.signed)

    @activity.defn(name=names.WRITE_POSTMORTEM)
    def write_postmortem(self, request: messages.PostmortemRequest) -> messages.Written:
        """Write the postmortem's draft from the evidence.

        Idempotent: the same evidence gives the same text.
        """
        with beating():
            incident = self._ledger.incidents.get(request.incident)
            entries = self._ledger.evidence.entries(incident=incident.id, limit=10_000)
            in_force = self._ledger.in_force.list(incident=incident.id)
            self._ledger.postmortems.write(incident.id, compose(incident, entries, in_force))
        return messages.Written()
