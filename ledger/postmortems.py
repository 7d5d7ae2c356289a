"""The postmortems, as Markdown."""

import hashlib

from sqlalchemy import insert, select, update

from contracts.errors import NotFoundError
from contracts.evidence import ENGINE, Evidence, EvidenceKind
from ledger import evidence, incidents
from ledger.database import Database
from ledger.schema import postmortem
from ledger.storable import clean


class Postmortems:
    """One for each incident, in its last version; the log holds the digest of each."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, incident: str, markdown: str) -> None:
        """Keep a postmortem; the same text again is no change.

        Raises:
            NotFoundError: There is no such incident.
        """
        markdown = clean(markdown)
        with self._database.write() as connection:
            number = incidents.find(connection, incident).number
            known = connection.execute(
                select(postmortem).where(postmortem.c.incident == number)
            ).one_or_none()
            if known is not None and known.markdown == markdown:
                return
            now = self._database.now()
            revision = 1 if known is None else known.revision + 1
            values = {"markdown": markdown, "revision": revision, "written_at": now}
            if known is None:
                connection.execute(insert(postmortem).values(values | {"incident": number}))
            else:
                connection.execute(update(postmortem).where(postmortem.c.incident == number).values(values))
            evidence.append(
                connection,
                Evidence(
                    key=f"{incident}/postmortem/{revision}",
                    kind=EvidenceKind.POSTMORTEM_WRITTEN,
                    incident=incident,
                    actor=ENGINE,
                    at=now,
                    summary=f"The postmortem of {incident} is written (version {revision})",
                    body={"revision": revision, "sha256": hashlib.sha256(markdown.encode()).hexdigest()},
                ),
            )

    def get(self, incident: str) -> str:
        """Give an incident's postmortem.

        Raises:
            NotFoundError: There is no such incident, or nothing was written yet.
        """
        number = incidents.number_of(incident, "INC")
        query = select(postmortem.c.markdown).where(postmortem.c.incident == number)
        with self._database.read() as connection:
            found = connection.scalar(query)
        if found is None:
            raise NotFoundError(f"{incident} has no postmortem yet")
        return str(found)
