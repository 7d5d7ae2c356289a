"""Move a service's traffic from an unhealthy region to a healthy one.

The catalogue has the moves of the service, each a list of steps: any action on any target of it, so that it
is the same with AWS and without. A move is proposed when exactly one region is unhealthy, by the alerts'
label `region` or by the incident's own; when the region that takes over is ready; when enough healthy regions
serve afterwards; and when there was no other move within the time that the catalogue sets against flapping.

Steps that have an ungraceful variant are proposed gracefully, and the Incident Commander can force one in
flight. After a graceful attempt that failed, or when the provider would refuse the graceful way, the
ungraceful one is proposed, and the plan says so. Failing back is undoing the mitigation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from contracts.catalogue import Failover, FailoverStep, Move
from contracts.errors import NothingToProposeError
from contracts.incidents import AlertStatus, AttemptEnd, Incident
from contracts.plans import ActionCall, Proposal, ProposedStep, Risk
from contracts.playbooks import PlaybookParams, ServiceLook
from contracts.readiness import CheckState, Readiness, ReadinessCheck
from playbooks.kit import alert, playbook, verification

NAME = "fail-over"
UNGRACEFULLY = ", ungracefully"
# Ends of a graceful attempt after which the ungraceful one may do what it could not.
FAILED = (AttemptEnd.REFUSED, AttemptEnd.INEFFECTIVE, AttemptEnd.IN_DOUBT)
# Nobody decided, or what was shown had changed: the same may be asked again.
UNTRIED = (AttemptEnd.DRIFTED, AttemptEnd.EXPIRED, AttemptEnd.HELD, AttemptEnd.WITHDRAWN)


class Params(PlaybookParams):
    """Which way, and what is known and accepted."""

    away_from: str | None = Field(None, description="The unhealthy region, when the alerts do not tell.")
    to: str | None = Field(None, description="Which region takes over; else the first move that can be made.")
    accept: tuple[Literal["ready", "regions-on", "wait"], ...] = Field(
        (),
        description="What does not stand against it: ready, regions-on, wait; several with commas.",
    )


@dataclass(frozen=True)
class Chosen:
    """One step as it is proposed, and what was seen of it."""

    step: FailoverStep
    action: ActionCall
    forced: ActionCall | None
    seen: Readiness
    ungraceful: str = ""


@playbook(matches=[alert(severity=("SEV1", "SEV2"))], risk=Risk.HIGH, order=90)
async def plan(incident: Incident, params: Params, look: ServiceLook) -> Proposal:
    """Propose the first move away from the unhealthy region that can be made."""
    failover = look.service.failover
    if failover is None:
        raise NothingToProposeError(f"{incident.service} has no failover in {incident.environment}")
    unhealthy = _unhealthy(incident, look.service.regions)
    away_from = params.away_from or (unhealthy[0] if len(unhealthy) == 1 else None)
    moves = [
        move
        for move in failover.moves
        if move.away_from == away_from and params.to in (None, move.to) and move.to not in unhealthy
    ]
    if not moves:
        raise NothingToProposeError(_no_move(incident, away_from, unhealthy))
    reasons: list[str] = []
    for move in moves:
        try:
            return await _propose(incident, params, look, failover, move)
        except NothingToProposeError as error:
            reasons.append(str(error))
    raise NothingToProposeError("; ".join(reasons))


async def _propose(
    incident: Incident, params: Params, look: ServiceLook, failover: Failover, move: Move
) -> Proposal:
    title = _title(incident, move)
    push = _push(incident, title)
    serving = await _serving(move, failover, look, _unhealthy(incident, look.service.regions))
    if len(serving) < failover.regions_on and "regions-on" not in params.accept:
        raise NothingToProposeError(
            f"{title}: only {', '.join(serving)} would serve then, at least {failover.regions_on} are to"
            " (accept regions-on to go on)"
        )
    if "wait" not in params.accept:
        await _check_wait(failover, move, incident, look)
    chosen = [await _choose(step, look, push=push) for step in move.steps]
    if push and not any(one.ungraceful for one in chosen):
        raise NothingToProposeError(f"{title}: {push}, and no step of it has an ungraceful variant")
    standby = (await look.readiness((), move.ready)).checks
    checks = [*standby, *(check for one in chosen for check in one.seen.checks)]
    # A step may go on with something unseen, which the plan says; the region itself has to be seen.
    against = [check for check in standby if check.state is not CheckState.OK]
    against += [check for check in checks if check.state is CheckState.NOT_READY and check not in against]
    if against and "ready" not in params.accept:
        why = "; ".join(map(_words, against))
        raise NothingToProposeError(f"{title}: {move.to} is not ready: {why} (accept ready to go on)")
    ungraceful = [f"{one.step.title}: {one.ungraceful}" for one in chosen if one.ungraceful]
    unseen = [check for check in checks if check.state is not CheckState.OK]
    lost = f"Ungraceful, and what that loses is in the blast radius: {'; '.join(ungraceful)}."
    said = [f"{move.away_from} is unhealthy; {', '.join(serving)} would serve afterwards."]
    said += [lost] if ungraceful else []
    said += [f"Not known to be ready: {'; '.join(map(_words, unseen))}."] if unseen else []
    verify = verification(look, incident)
    return Proposal(
        title=_titles(title)[bool(ungraceful)],
        rationale=" ".join([*said, "Undoing it fails back."]),
        steps=tuple(
            ProposedStep(
                title=_titles(one.step.title)[bool(one.ungraceful)],
                action=one.action,
                forced=one.forced,
                undo_first=one.step.undo_first,
                verification=verify if one is chosen[-1] else None,
            )
            for one in chosen
        ),
        # Whatever it does to the users, nothing moves back to an unhealthy region by itself.
        undo_when=(),
        in_force_for=failover.in_force_for,
        repeats=True,
    )


def _title(incident: Incident, move: Move) -> str:
    return f"Fail {incident.service} over from {move.away_from} to {move.to}"


def _unhealthy(incident: Incident, regions: Sequence[str]) -> list[str]:
    """Give the regions that are said to be unhealthy; other labels say nothing."""
    firing = {alert.region for alert in incident.alerts if alert.status is AlertStatus.FIRING}
    named = {region for region in firing if region in regions} or {incident.region}
    return [region for region in regions if region in named]


def _no_move(incident: Incident, away_from: str | None, unhealthy: Sequence[str]) -> str:
    if away_from is not None:
        return f"{incident.service} has no move away from {away_from} to a healthy region in the catalogue"
    said = (
        f"{', '.join(unhealthy)} are unhealthy" if unhealthy else "no alert tells which region is unhealthy"
    )
    return f"{said}; name one of {incident.service}'s as away_from"


def _push(incident: Incident, title: str) -> str:
    """Say why the ungraceful way is due; empty: it is not.

    Raises:
        NothingToProposeError: The move was tried, and the ungraceful way would not do more.
    """
    for attempt in reversed(incident.attempts):
        if attempt.playbook != NAME or (attempt.title in _titles(title) and attempt.end in UNTRIED):
            continue
        if attempt.title not in _titles(title):  # before it, the world was another one
            return ""
        if attempt.title != title or attempt.end not in FAILED:
            raise NothingToProposeError(f"{attempt.title}: was tried in {attempt.mitigation}, {attempt.end}")
        return f"gracefully it was {attempt.end} in {attempt.mitigation}"
    return ""


def _titles(title: str) -> tuple[str, str]:
    """Give what a move is called, gracefully and not."""
    return title, title + UNGRACEFULLY


async def _serving(move: Move, failover: Failover, look: ServiceLook, unhealthy: Sequence[str]) -> list[str]:
    """Give the healthy regions that serve after the move."""
    serving = [move.to]
    for region in look.service.regions:
        if region not in (move.to, move.away_from, *unhealthy):
            probe = failover.serving.get(region)
            seen = await look.readiness((), (probe,) if probe else ())
            if probe is None or seen.state is CheckState.OK:
                serving.append(region)
    return serving


async def _check_wait(failover: Failover, move: Move, incident: Incident, look: ServiceLook) -> None:
    """Check that no other move was made lately: by any incident, forth or back."""
    mine = _titles(_title(incident, move))
    moves = tuple(_title(incident, one) for one in failover.moves)
    for made in await look.in_force():
        if not made.title.startswith(moves):
            continue
        times = [made.since] if made.title not in mine else []
        times += [step.undone_at for step in made.steps if step.undone_at is not None]
        over = max(times, default=look.now - failover.wait) + failover.wait
        if over > look.now:
            raise NothingToProposeError(
                f"{mine[0]}: {made.mitigation} ({made.title}) moved it less than {failover.wait} ago; wait"
                f" until {over:%H:%M:%S} UTC, against flapping (accept wait to go on)"
            )


async def _choose(step: FailoverStep, look: ServiceLook, *, push: str) -> Chosen:
    """Take a step's graceful way, or the ungraceful one when that is due or the only one that would run."""
    graceful = await _call(step, look, forced=False)
    forced = await _call(step, look, forced=True) if step.forced is not None else None
    seen = await look.readiness((graceful,))
    refused = [check.detail for check in seen.checks if check.state is CheckState.NOT_READY]
    if forced is None or not (push or refused):
        return Chosen(step, graceful, forced, seen)
    instead = await look.readiness((forced,))
    if not push and instead.state is CheckState.NOT_READY:
        return Chosen(step, graceful, forced, seen)
    why = push or f"gracefully it would be refused ({'; '.join(refused)})"
    return Chosen(step, forced, None, instead, why)


async def _call(step: FailoverStep, look: ServiceLook, *, forced: bool) -> ActionCall:
    arguments = {**step.arguments, **(step.forced or {})} if forced else step.arguments
    request = look.request(step.action, arguments)
    return request.as_of(await look.observe(request)).call()


def _words(check: ReadinessCheck) -> str:
    return f"{check.name} of {check.target}: {check.detail}"
