"""Who may decide: the holder of the Incident Commander's role, and nobody on their own request."""

from authority.seals import digest
from contracts.base import Strict
from contracts.errors import ForbiddenError
from contracts.incidents import Incident, Role
from contracts.plans import Plan


class Policy(Strict):
    """The rules as data.

    Attributes:
        solo: One person may both declare an incident and approve its plans. Only for teams of one.
    """

    solo: bool = False

    @property
    def digest(self) -> str:
        """What a plan is sealed under and a decision is given under."""
        return digest(self)

    def check_may_break_glass(self, incident: Incident, person: str, *, groups: tuple[str, ...] = ()) -> None:
        """Check that this person may approve outside the rules."""

    def check_may_decide(
        self,
        incident: Incident,
        person: str,
        *,
        plan: Plan | None = None,
        groups: tuple[str, ...] = (),
        given: tuple[str, ...] = (),
    ) -> None:
        """Check that this person may answer this incident's requests now.

        Raises:
            ForbiddenError: Somebody else holds the role, nobody does, or the person asked for it themselves.
        """
        commander = incident.roles.get(Role.INCIDENT_COMMANDER)
        if commander is None:
            raise ForbiddenError(
                f"{incident.id} has no Incident Commander yet: acknowledge it to take the role"
            )
        if commander != person:
            raise ForbiddenError(
                f"{incident.id}: only the Incident Commander ({commander}) decides, not {person}"
            )
        if incident.declared_by == person and not self.solo:
            raise ForbiddenError(
                f"{incident.id} was declared by {person}, who cannot approve its plans: hand the role over"
            )
