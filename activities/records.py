"""The ledger's side of the order of things: phases, closed requests, the postmortem."""

from temporalio import activity

from activities.beating import beating
from activities.postmortem import compose
from contracts import names
from contracts.messages import CloseApproval, ClosedApproval, PostmortemRequest, RecordRequest, Written
from ledger import Ledger


class Records:
    """Writes down what the workflows decide."""

    def __init__(self, *, ledger: Ledger) -> None:
        self._ledger = ledger

    @activity.defn(name=names.RECORD)
    def record(self, request: RecordRequest) -> Written:
        """Bring the ledger's view of an incident up to date.

        Idempotent: by the record's version and each evidence entry's key.
        """
        self._ledger.incidents.record(request)
        if request.hand_back:
            self._ledger.inbox.requeue(request.incident, request.hand_back)
        return Written()

    @activity.defn(name=names.CLOSE_APPROVAL)
    def close_approval(self, request: CloseApproval) -> ClosedApproval:
        """Close a request that nobody answered, or learn the answer that came first.

        Idempotent: a closed request stays as it is.
        """
        if request.state is not None:
            return self._ledger.approvals.close(request.approval, request.state, request.reason)
        asked = self._ledger.approvals.get(request.approval).request
        return ClosedApproval(state=asked.state, signed=asked.signed)

    @activity.defn(name=names.WRITE_POSTMORTEM)
    def write_postmortem(self, request: PostmortemRequest) -> Written:
        """Write the postmortem's draft from the evidence.

        Idempotent: the same evidence gives the same text.
        """
        with beating():
            incident = self._ledger.incidents.get(request.incident)
            entries = self._ledger.evidence.entries(incident=incident.id, limit=10_000)
            in_force = self._ledger.in_force.list(incident=incident.id)
            self._ledger.postmortems.write(incident.id, compose(incident, entries, in_force))
        return Written()
