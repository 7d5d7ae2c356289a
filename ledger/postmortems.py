"""The postmortems, as Markdown."""

import hashlib

from contracts.errors import NotFoundError
from contracts.evidence import EvidenceKind
from ledger import evidence, incidents, rows
from ledger.database import Stored, moment_of
from ledger.schema import incident as incidents_table
from ledger.schema import postmortem
from ledger.storable import clean


class Postmortems(Stored):
    """One for each incident, in its last version; the log holds the digest of each."""

    def write(self, incident: str, markdown: str) -> None:
        """Keep a postmortem; the same text again is no change.

        Raises:
            NotFoundError: There is no such incident.
        """
        markdown = clean(markdown)
        with self._database.write() as connection:
            number = incidents.find(connection, incident).number
            known = rows.one(connection, postmortem, incident=number)
            if known is not None and known.markdown == markdown:
                return
            revision = 1 if known is None else known.revision + 1
            values = {"markdown": markdown, "revision": revision, "written_at": moment_of(connection)}
            if known is None:
                rows.add(connection, postmortem, incident=number, **values)
            else:
                rows.change(connection, postmortem, known, **values)
            said = f"The postmortem of {incident} is written (version {revision})"
            body = {"revision": revision, "sha256": hashlib.sha256(markdown.encode()).hexdigest()}
            kind, key = EvidenceKind.POSTMORTEM_WRITTEN, f"{incident}/postmortem/{revision}"
            evidence.note(connection, kind, key, said, incident=incident, body=body)

    def get(self, incident: str) -> str:
        """Give an incident's postmortem.

        Raises:
            NotFoundError: There is no such incident, or nothing was written yet.
        """
        with self._database.read() as connection:
            found = rows.one(connection, postmortem, incident=rows.number_of(incidents_table, incident))
        if found is None:
            raise NotFoundError(f"{incident} has no postmortem yet")
        return str(found.markdown)
