"""What a playbook's author imports: the decorator, the matcher, and steps made from requests."""

import hashlib
import importlib
import inspect
import pkgutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar, get_type_hints

import playbooks
from contracts.actions import ActionRequest
from contracts.catalogue import Deployment, EcsService
from contracts.errors import InputError, NothingToProposeError
from contracts.incidents import Incident, Severity
from contracts.plans import Proposal, ProposedStep, Risk, Verification
from contracts.playbooks import Match, Playbook, PlaybookParams, ServiceLook

HOUR = 60  # minutes
DAY = 24 * HOUR
PlacedT = TypeVar("PlacedT", Deployment, EcsService)
ParamsT = TypeVar("ParamsT", bound=PlaybookParams)
PlanFunction = Callable[[Incident, ParamsT, ServiceLook], Awaitable[Proposal]]


@dataclass(frozen=True)
class Declared(Generic[ParamsT]):
    """A plan function with what it is for; call it as the function that it is."""

    function: PlanFunction[ParamsT]
    matches: tuple[Match, ...]
    risk: Risk
    order: int
    author: str | None

    async def __call__(self, incident: Incident, params: ParamsT, look: ServiceLook) -> Proposal:
        """Plan."""
        return await self.function(incident, params, look)


def alert(*, signal: str | None = None, name: str | None = None, severity: Sequence[str] = ()) -> Match:
    """Describe the alerts that a playbook is for; every given condition must hold.

    Args:
        signal: One of the service's signals in the catalogue, for example ``error_rate``.
        name: The alert rule's name.
        severity: The incident's severity is one of these, for example ``("SEV1", "SEV2")``.
    """
    return Match(signal=signal, name=name, severity=tuple(Severity(one) for one in severity))


def playbook(
    *, matches: Sequence[Match], risk: Risk, order: int = 100, author: str | None = None
) -> Callable[[PlanFunction[ParamsT]], Declared[ParamsT]]:
    """Declare a module's ``plan`` function.

    Args:
        matches: Any of these makes it a candidate for an incident.
        risk: The least risk that its plans are shown with.
        order: Lower is tried first: quick and reversible before slow and costly.
        author: Your id in the catalogue: while the playbook is fresh, somebody else approves its plans.
    """

    def declare(function: PlanFunction[ParamsT]) -> Declared[ParamsT]:
        return Declared(function=function, matches=tuple(matches), risk=risk, order=order, author=author)

    return declare


def step(title: str, request: ActionRequest, *, verify: Verification | None = None) -> ProposedStep:
    """Make one step: an imperative title, the absolute desired state, and how it is known to have helped."""
    return ProposedStep(title=title, action=request.call(), verification=verify)


def steps(titled: Sequence[tuple[str, ActionRequest]], verify: Verification) -> tuple[ProposedStep, ...]:
    """Make steps that help together: whether they have is known after the last one."""
    *first, (title, request) = titled
    return (*(step(*one) for one in first), step(title, request, verify=verify))


def verification(look: ServiceLook, incident: Incident) -> Verification:
    """Give the rule for the signal that the incident's alerts speak of, or else for the service's first one.

    Raises:
        NothingToProposeError: The catalogue has no signal to verify with.
    """
    signals = look.service.signals
    name = next((signal for signal in incident.signals if signal in signals), next(iter(signals), None))
    if name is None:
        raise NothingToProposeError(
            f"{incident.service} has no signals in the catalogue for {incident.environment}: "
            "without one nobody would know whether it helped"
        )
    return look.service.verification(name)


def ago(look: ServiceLook, at: datetime) -> str:
    """Say how long ago something was: ``90 min ago``, ``5 h ago``, ``3 days ago``."""
    minutes = max(0, round((look.now - at).total_seconds() / 60))
    if minutes < 2 * HOUR:
        return f"{minutes} min ago"
    return f"{minutes // HOUR} h ago" if minutes < 2 * DAY else f"{minutes // DAY} days ago"


def named(things: Sequence[PlacedT], name: str | None) -> list[PlacedT]:
    """Give what a person means: all, or those of a name, ``web``; of two of it ``shop/web`` is one.

    Raises:
        NothingToProposeError: There is none; the sentence says which there are.
    """
    places = {"/".join(thing.target().path): thing for thing in things}
    found = [thing for place, thing in places.items() if f"/{place}".endswith(f"/{name or place}")]
    if name and not found:
        raise NothingToProposeError(f"none is called {name}; there is {', '.join(places) or 'none'}")
    return found


def check_one(revision: int | None, places: Sequence[str]) -> None:
    """Check that the number that a person gives is of one revision: each deployment counts its own.

    Raises:
        NothingToProposeError: It is of several; the sentence names them.
    """
    if revision is not None and len(places) > 1:
        several = " and ".join(places)
        raise NothingToProposeError(f"{several} each have a revision {revision}: say which one with `name`")


def catalogue() -> tuple[Playbook, ...]:
    """Find every playbook of this package, in the order in which they are tried.

    Raises:
        InputError: A module has no docstring, no ``Params`` or no declared ``plan``.
    """
    found = [
        _load(module.name)
        for module in pkgutil.iter_modules(playbooks.__path__, prefix="playbooks.")
        if module.name != __name__
    ]
    return tuple(sorted(found, key=lambda one: (one.order, one.name)))


def _load(name: str) -> Playbook:
    module = importlib.import_module(name)
    declared: Any = getattr(module, "plan", None)
    doc = inspect.getdoc(module)
    if not isinstance(declared, Declared) or not doc:
        raise InputError(f"{name}: a playbook has a docstring and a function `plan` declared with @playbook")
    params = get_type_hints(declared.function).get("params")
    if not (isinstance(params, type) and issubclass(params, PlaybookParams)):
        raise InputError(f"{name}: the second argument of `plan` is `params`, a subclass of PlaybookParams")
    summary, _, description = doc.partition("\n")
    return Playbook(
        name=name.rpartition(".")[2].replace("_", "-"),
        summary=summary.strip(),
        description=description.strip(),
        digest=hashlib.sha256(inspect.getsource(module).encode()).hexdigest(),
        matches=declared.matches,
        risk=declared.risk,
        order=declared.order,
        params=params,
        plan=declared.function,
        author=declared.author,
    )
