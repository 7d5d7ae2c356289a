"""Only the right person decides."""

import pytest

from authority.policy import Policy
from contracts.errors import ForbiddenError
from contracts.incidents import Incident, Role, Severity
from tests.authority.plans import NOW

INCIDENT = Incident(
    id="INC-1",
    title="broken",
    service="shop",
    environment="production",
    severity=Severity.SEV2,
    opened_at=NOW,
)


def commanded(by: str, *, declared_by: str | None = None) -> Incident:
    """Give an incident with a commander."""
    roles = {Role.INCIDENT_COMMANDER: by, Role.TECHNICAL_LEAD: "grace"}
    return INCIDENT.model_copy(update={"roles": roles, "declared_by": declared_by})


def test_the_commander_decides() -> None:
    """The holder of the Incident Commander's role may decide."""
    Policy().check_may_decide(commanded("ada"), "ada")


@pytest.mark.parametrize(
    ("incident", "person", "why"),
    [
        (INCIDENT, "ada", "no Incident Commander yet"),
        (commanded("ada"), "grace", "only the Incident Commander"),
        (commanded("ada"), "Ada", "only the Incident Commander"),
        (commanded("ada"), "", "only the Incident Commander"),
        (commanded("ada", declared_by="ada"), "ada", "hand the role over"),
    ],
)
def test_nobody_else_decides(incident: Incident, person: str, why: str) -> None:
    """Nobody without the role, and nobody on what they asked for themselves."""
    with pytest.raises(ForbiddenError, match=why):
        Policy().check_may_decide(incident, person)


def test_solo_mode_is_explicit_and_another_policy() -> None:
    """One person may do both only in solo mode, whose digest is another."""
    Policy(solo=True).check_may_decide(commanded("ada", declared_by="ada"), "ada")

    assert Policy(solo=True).digest != Policy().digest
