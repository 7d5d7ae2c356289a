"""What the engine knows of a playbook: the authors' kit makes these."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from contracts.actions import Look
from contracts.base import Strict
from contracts.catalogue import ServiceEnvironment
from contracts.incidents import Incident, Severity
from contracts.plans import Proposal, Risk


class PlaybookParams(Strict):
    """Base of every playbook's parameters."""


@dataclass(frozen=True)
class Match:
    """Which alerts a playbook is for: every given condition holds for one firing alert of the incident."""

    signal: str | None = None
    name: str | None = None
    severity: tuple[Severity, ...] = ()


@dataclass(frozen=True)
class Playbook:
    """One playbook of the catalogue.

    Attributes:
        name: The module's name with dashes, ``disable-flag``.
        summary: The first line of the module's docstring.
        digest: SHA-256 of the module's source.
        order: Lower is tried first: cheap and reversible before costly.
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
    plan: "Callable[[Incident, PlaybookParams, ServiceLook], Awaitable[Proposal]]"


class ServiceLook(Look):
    """A look at the service that the incident is about."""

    service: ServiceEnvironment
