"""Postmortems: the last version is kept, and the log knows of each."""

import pytest

from contracts.errors import NotFoundError
from contracts.evidence import EvidenceKind
from ledger import Ledger
from tests.ledger.samples import open_incident


def test_write(ledger: Ledger) -> None:
    """A text that is new is a version with evidence; the same again is none."""
    open_incident(ledger)
    for markdown in ("# One\n", "# One\n", "# Two ä\x00\n", "# One\n"):
        ledger.postmortems.write("INC-1", markdown)

    assert ledger.postmortems.get("INC-1") == "# One\n"
    written = [entry for entry in ledger.evidence.entries() if entry.kind is EvidenceKind.POSTMORTEM_WRITTEN]
    assert [entry.body["revision"] for entry in written] == [1, 2, 3]


def test_nothing_there(ledger: Ledger) -> None:
    """Without an incident or a text there is nothing to get."""
    with pytest.raises(NotFoundError, match="not found"):
        ledger.postmortems.write("INC-1", "# One")
    open_incident(ledger)
    with pytest.raises(NotFoundError, match="INC-1 has no postmortem yet"):
        ledger.postmortems.get("INC-1")
