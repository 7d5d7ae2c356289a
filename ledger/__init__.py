"""The memory: inbox, incidents, approvals, journal, evidence, one database. Knows no provider, no engine.

What must not be forgotten is written here before anybody says that it happened.
"""

from ledger.approvals import Answer
from ledger.inbox import PendingAlert, Receipt
from ledger.journal import JournalEntry, JournalState
from ledger.ledger import Ledger
from ledger.outbox import OutboxMessage

__all__ = ["Answer", "JournalEntry", "JournalState", "Ledger", "OutboxMessage", "PendingAlert", "Receipt"]
