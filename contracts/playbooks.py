"""What the engine knows of a playbook: the authors' kit makes these."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Protocol, get_origin

from pydantic import Field, ValidationError, model_validator

from contracts.actions import ActionRequest, Look
from contracts.base import JsonObject, Strict
from contracts.catalogue import ServiceEnvironment
from contracts.errors import InputError, NotFoundError, first_wrong, one_line
from contracts.in_force import InForce
from contracts.incidents import Alert, AlertStatus, Incident, Severity
from contracts.plans import ActionCall, ProbeCall, Proposal, Risk
from contracts.readiness import Readiness

# What a person may type: how far back is looked, and the number of a revision.
Within = Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=30))]
RevisionNumber = Annotated[int, Field(ge=1, le=1_000_000_000)]


class PlaybookParams(Strict):
    """Base of every playbook's parameters."""

    @model_validator(mode="before")
    @classmethod
    def _several(cls, said: Any) -> Any:
        """Read what a person has typed where several are meant: they are separated by commas."""
        fields = cls.model_fields
        return {
            name: [part.strip() for part in value.split(",")]
            if isinstance(value, str) and name in fields and get_origin(fields[name].annotation) is tuple
            else value
            for name, value in dict(said).items()
        }


class ServiceLook(Look, Protocol):
    """A look at the service that the incident is about.

    Attributes:
        service: What the catalogue gives to the service in the incident's environment.
        now: When the planning began (UTC).
    """

    service: ServiceEnvironment
    now: datetime

    def request(self, action: str, arguments: JsonObject) -> ActionRequest:
        """Make an action's request of what the catalogue has written.

        Raises:
            ActionRefusedError: There is no such action, or its arguments are wrong.
        """

    async def in_force(self) -> Sequence[InForce]:
        """Give what the service's mitigations have left behind, newest first, also what is over."""

    async def readiness(self, calls: Sequence[ActionCall], probes: Sequence[ProbeCall] = ()) -> Readiness:
        """Say whether these calls would work now, and what these probes say of it."""


@dataclass(frozen=True)
class Match:
    """Which alerts a playbook is for: every given condition holds for one firing alert of the incident."""

    signal: str | None = None
    name: str | None = None
    severity: tuple[Severity, ...] = ()

    def fits(self, alert: Alert, severity: Severity) -> bool:
        """Say whether an alert of an incident of this severity is one of them."""
        return (
            alert.status is AlertStatus.FIRING
            and self.signal in (None, alert.signal)
            and self.name in (None, alert.name)
            and (not self.severity or severity in self.severity)
        )


@dataclass(frozen=True)
class Playbook:
    """One playbook of the catalogue.

    Attributes:
        name: The module's name with dashes, ``disable-flag``.
        summary: The first line of the module's docstring.
        digest: SHA-256 of the module's source.
        order: Lower is tried first: cheap and reversible before costly.
        author: The person of the catalogue who wrote it, where it says so: until this version of it has
            helped somebody, somebody else approves what it proposes.
        plan: ``plan(incident, params, look)``; raises ``NothingToProposeError`` with the reason.
    """

    name: str
    summary: str
    description: str
    digest: str
    matches: tuple[Match, ...]
    risk: Risk
    order: int
    params: type[PlaybookParams]
    plan: Callable[[Incident, Any, ServiceLook], Awaitable[Proposal]]
    author: str | None = None

    def read(self, params: JsonObject) -> PlaybookParams:
        """Read what a person has given as its parameters.

        Raises:
            InputError: There is no such parameter, or its value cannot be that; the sentence names it.
        """
        try:
            return self.params.model_validate(params)
        except ValidationError as error:
            known = ", ".join(self.params.model_fields) or "none"
            said = one_line(first_wrong(error))
            raise InputError(f"parameters of {self.name}: {said}; there are {known}") from error

    def fits(self, incident: Incident) -> bool:
        """Say whether it is for this incident.

        A declared incident has no alerts: then only the severity counts, as a generic mitigation must be
        usable before anybody understands the outage.
        """
        if not incident.alerts:
            return any(not match.severity or incident.severity in match.severity for match in self.matches)
        return any(
            match.fits(alert, incident.severity) for match in self.matches for alert in incident.alerts
        )


def find(playbooks: Sequence[Playbook], name: str) -> Playbook:
    """Find a playbook by its name.

    Raises:
        NotFoundError: There is none; the sentence says which there are.
    """
    found = next((one for one in playbooks if one.name == name), None)
    if found is None:
        known = ", ".join(one.name for one in playbooks) or "none"
        raise NotFoundError(f"no playbook is called {one_line(name, 64)!r}; there is {known}")
    return found
