"""The ledger as everybody uses it: one object with a part for each thing that it remembers."""

from ledger import migration
from ledger.approvals import Approvals
from ledger.database import Clock, Database
from ledger.evidence import EvidenceLog
from ledger.freezes import Freezes
from ledger.grants import Grants
from ledger.guardrails import GuardrailRecords
from ledger.handoffs import Handoffs
from ledger.identities import Sessions, Tokens
from ledger.in_force import MitigationsInForce
from ledger.inbox import Inbox
from ledger.incidents import Incidents
from ledger.journal import Journal
from ledger.notices import Notices
from ledger.outbox import Outbox
from ledger.postmortems import Postmortems
from ledger.readiness import ReadinessRecords
from ledger.reviews import Reviews
from ledger.watches import Watches


class Ledger:
    """All that must not be forgotten, in one database.

    Every method of every part is one transaction, safe among threads and processes. It may raise
    ``ProviderUnavailableError`` when the database does not do it; all else is in its docstring.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.inbox = Inbox(database)
        self.outbox = Outbox(database)
        self.notices = Notices(database)
        self.handoffs = Handoffs(database)
        self.incidents = Incidents(database)
        self.approvals = Approvals(database)
        self.grants = Grants(database)
        self.reviews = Reviews(database)
        self.freezes = Freezes(database)
        self.guardrails = GuardrailRecords(database)
        self.journal = Journal(database)
        self.in_force = MitigationsInForce(database)
        self.evidence = EvidenceLog(database)
        self.postmortems = Postmortems(database)
        self.readiness = ReadinessRecords(database)
        self.watches = Watches(database)
        self.sessions = Sessions(database)
        self.tokens = Tokens(database)

    @classmethod
    def open(cls, url: str, *, clock: Clock) -> "Ledger":
        """Give the ledger at a SQLAlchemy URL; nothing is connected or changed yet.

        Raises:
            InputError: The URL is not one of SQLite or PostgreSQL.
        """
        return cls(Database(url, clock))

    def migrate(self) -> None:
        """Bring the schema to this program's version; several processes may do it at once."""
        migration.upgrade(self.database)

    def check(self) -> None:
        """Check that the database answers and that its schema is this program's.

        Raises:
            ProviderUnavailableError: It does not, or is not.
        """
        migration.check(self.database)

    def close(self) -> None:
        """Close all connections."""
        self.database.close()
