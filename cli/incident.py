"""``stanch incident``: see incidents, and command them."""

import argparse
import itertools
from collections.abc import Sequence
from datetime import UTC
from functools import partial

from cli import show
from cli.client import Gateway, add_verb, parse, segment
from cli.playbook import add_params, params_of
from contracts.approvals import ApprovalRequest, ApprovalState
from contracts.base import JsonObject
from contracts.evidence import EvidenceEntry
from contracts.incidents import OPEN_PHASES, Attempt, Incident, Role, Severity
from contracts.notices import Handoff
from runtime.clock import utc_now

_TIMELINE = 30  # entries that fit a screen
_PAGE = 1000  # the most that the gateway gives at once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one parser for each thing that can be done."""
    verbs = parser.add_subparsers(dest="command", metavar="WHAT", required=True)
    listing = add_verb(verbs, "list", "list incidents, the newest first", _list)
    listing.add_argument("--open", action="store_true", help="only those that are not over")

    one = add_verb(verbs, "show", "show one incident with its timeline", _show, about="incident")
    one.add_argument("--all", action="store_true", help=f"the whole timeline, not the last {_TIMELINE}")

    declare = add_verb(
        verbs, "declare", "declare an incident that no alert has opened", _declare, orders=True
    )
    declare.add_argument("title", help="what users suffer from, in one line")
    declare.add_argument("--service", required=True, help="a service of the catalogue")
    declare.add_argument("--environment", default="production")
    declare.add_argument("--region", help="where, if it is one region of the service alone")
    declare.add_argument("--severity", required=True, type=str.upper, choices=[*map(str, Severity)])

    order = partial(add_verb, verbs, call=_command, about="incident", orders=True, body=lambda _: {})
    order("ack", "acknowledge: take the Incident Commander's role")
    take = order(
        "take-over",
        "take command from who cannot be reached",
        reason=True,
        body=lambda a: {"holder": a.holder},
    )
    take.add_argument("--from", dest="holder", required=True, metavar="PERSON", help="who commands it now")

    handoff = order("handoff", "offer a role to somebody, who accepts it", call=_handoff)
    handoff.add_argument("--role", choices=[*map(str, Role)], default=Role.INCIDENT_COMMANDER)
    what = handoff.add_mutually_exclusive_group(required=True)
    what.add_argument("--to", metavar="PERSON", help="an id from the catalogue")
    what.add_argument("--withdraw", action="store_true", help="take the offer back")

    accept = order("accept", "accept the role that is offered to you", call=_handoff, to=None, withdraw=False)
    accept.add_argument("--role", choices=[*map(str, Role)], help="which one, when several are offered")

    assign = order(
        "assign",
        "give a role other than command to somebody",
        command="roles",
        body=lambda a: {"role": a.role, "person": a.to},
    )
    assign.add_argument("--to", required=True, metavar="PERSON", help="an id from the catalogue")
    assign.add_argument("--role", choices=[*map(str, Role)], required=True)

    severity = order("severity", "change the severity", reason=True, body=lambda a: {"severity": a.severity})
    severity.add_argument("severity", type=str.upper, choices=[*map(str, Severity)])
    replan = order("replan", "ask for another plan", reason=True, body=_wish)
    replan.add_argument("--playbook", metavar="NAME", help="of this playbook, also if it was tried before")
    add_params(replan)
    order("resolve", "say that it is over", reason=True)


def _list(args: argparse.Namespace) -> int:
    query = {"open": "true"} if args.open else {}
    incidents = parse(list[Incident], Gateway.of(args).get("/v1/incidents", query))
    now = utc_now()
    rows = [
        (one.id, one.severity, one.phase, one.service, show.short_moment(one.opened_at, now), one.title)
        for one in incidents
    ]
    notes = [
        show.field("", f"{one.id} needs a person: {one.attention}")
        for one in incidents
        if one.attention and one.phase in OPEN_PHASES
    ]
    head = ("ID", "SEV", "PHASE", "SERVICE", "OPENED", "TITLE")
    none = "No incident is open." if args.open else "No incident yet."
    return show.listing(args, incidents, head, rows, none=none, notes=notes)


def _show(args: argparse.Namespace) -> int:
    gateway = Gateway.of(args)
    path = f"/v1/incidents/{segment(args.incident)}"
    incident = parse(Incident, gateway.get(path))
    entries = _timeline(gateway, path)
    pending = {"incident": incident.id, "state": str(ApprovalState.PENDING)}
    waiting = parse(list[ApprovalRequest], gateway.get("/v1/approvals", pending))
    lines = _incident_lines(incident, waiting)
    shown = entries if args.all else entries[-_TIMELINE:]
    if len(shown) < len(entries):
        lines.append(f"\n{len(entries) - len(shown)} earlier entries are not shown; --all shows them.")
    for day, of_day in itertools.groupby(shown, key=lambda entry: entry.at.astimezone(UTC).date()):
        lines.append(f"\n{day} (UTC)")
        for entry in of_day:
            what = f"{entry.summary} [{entry.actor}]"
            lines.append(show.field(f"{entry.at.astimezone(UTC):%H:%M:%S}", what))
    return show.answer(args, {"incident": incident, "waiting": waiting, "timeline": entries}, lines)


def _timeline(gateway: Gateway, path: str) -> list[EvidenceEntry]:
    entries: list[EvidenceEntry] = []
    while True:
        after = str(entries[-1].index) if entries else "-1"
        page = parse(list[EvidenceEntry], gateway.get(f"{path}/evidence", {"after": after}))
        entries += page
        if len(page) < _PAGE:
            return entries


def _incident_lines(incident: Incident, waiting: Sequence[ApprovalRequest] = ()) -> list[str]:
    now = utc_now()
    where = f", {incident.region}" if incident.region else ""
    return [
        f"{incident.id}  {incident.severity}  {incident.phase}  {show.clean(incident.title)}",
        *show.fields(
            ("service", f"{incident.service} in {incident.environment}{where}"),
            ("opened", show.moment(incident.opened_at, now)),
            *(("role", f"{role.replace('_', ' ')}: {person}") for role, person in incident.roles.items()),
            *(("alert", f"{alert.name}, {alert.status}") for alert in incident.alerts),
            *(("tried", _tried(attempt)) for attempt in incident.attempts),
            *(("waits", f"{one.id} {one.title} ({one.risk})") for one in waiting),
            ("attention", incident.attention),
        ),
    ]


def _tried(attempt: Attempt) -> str:
    detail = f" ({attempt.detail})" if attempt.detail else ""
    return f"{attempt.title}: {attempt.end}{', undone' if attempt.undone else ''}{detail}"


def _declare(args: argparse.Namespace) -> int:
    given = ("title", "service", "environment", "region", "severity")
    body: JsonObject = {name: getattr(args, name) for name in given if getattr(args, name) is not None}
    incident = parse(Incident, Gateway.of(args).post("/v1/incidents", body))
    said = f"{incident.id} declared. Take the lead with `stanch incident ack {incident.id}`."
    return show.answer(args, incident, [said])


def _handoff(args: argparse.Namespace) -> int:
    path = f"/v1/incidents/{segment(args.incident)}/handoff"
    gateway = Gateway.of(args)
    if args.to:
        answer = gateway.post(path, {"role": args.role, "person": args.to})
    else:
        answer = gateway.post(f"{path}/{'withdraw' if args.withdraw else 'accept'}", {"role": args.role})
    lines = []
    for handoff in parse(list[Handoff], answer if isinstance(answer, list) else [answer]):
        role = handoff.role.replace("_", " ")
        lines.append(f"{handoff.id}: {role} from {handoff.giver} to {handoff.person}, {handoff.state}.")
        lines += [] if args.withdraw else _packet_lines(handoff)
    return show.answer(args, answer, lines)


def _packet_lines(handoff: Handoff) -> list[str]:
    packet, now = handoff.packet, utc_now()
    return show.fields(
        ("state", f"{packet.severity}, {packet.phase}: {packet.title}"),
        ("attention", packet.attention),
        *(("firing", name) for name in packet.firing),
        *(("waits", f"{one.id} {one.title} ({one.risk})") for one in packet.pending),
        *(("in force", one) for one in packet.in_force),
        *(("tried", f"{one.title}: {one.end}") for one in packet.tried),
        *(("next", f"{show.moment(timer.at, now)} {timer.what}") for timer in packet.timers),
    )


def _wish(args: argparse.Namespace) -> JsonObject:
    wish: JsonObject = {"playbook": args.playbook, "params": params_of(args)}
    return {name: value for name, value in wish.items() if value}


def _command(args: argparse.Namespace) -> int:
    body: JsonObject = args.body(args) | ({"reason": args.reason} if "reason" in args else {})
    answer = Gateway.of(args).post(f"/v1/incidents/{segment(args.incident)}/{args.command}", body)
    lines = _incident_lines(parse(Incident, answer))
    if body.get("playbook"):
        asked = f"You asked for {body['playbook']} by name"
        lines.append(f"{asked}: somebody else approves its plan, unless STANCH_SOLO is set.")
    return show.answer(args, answer, lines)
