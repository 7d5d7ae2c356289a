"""``stanch incident``: see incidents, and command them."""

import argparse
import itertools
from datetime import UTC

from pydantic import TypeAdapter

from cli import show
from cli.client import Gateway, add_person, parse, segment
from contracts.base import JsonObject
from contracts.evidence import EvidenceEntry
from contracts.incidents import OPEN_PHASES, Incident, Role, Severity
from contracts.notices import Handoff
from runtime.clock import utc_now

_TIMELINE = 30  # entries that fit a screen
_PAGE = 1000  # the most that the gateway gives at once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one parser for each thing that can be done."""
    verbs = parser.add_subparsers(metavar="WHAT", required=True)

    listing = verbs.add_parser("list", help="list incidents, the newest first")
    listing.add_argument("--open", action="store_true", help="only those that are not over")
    show.add_json(listing)
    listing.set_defaults(call=_list)

    one = _incident(verbs, "show", "show one incident with its timeline")
    one.add_argument("--all", action="store_true", help=f"the whole timeline, not the last {_TIMELINE}")
    one.set_defaults(call=_show)

    declare = verbs.add_parser("declare", help="declare an incident that no alert has opened")
    declare.add_argument("title", help="what users suffer from, in one line")
    declare.add_argument("--service", required=True, help="a service of the catalogue")
    declare.add_argument("--environment", default="production")
    declare.add_argument("--severity", required=True, type=_severity, choices=list(Severity))
    add_person(declare)
    show.add_json(declare)
    declare.set_defaults(call=_declare)

    acknowledge = _incident(verbs, "ack", "acknowledge: take the Incident Commander's role", person=True)
    acknowledge.set_defaults(call=_command, body=lambda _: {})

    take = _incident(verbs, "take-over", "take command from who cannot be reached", person=True)
    take.add_argument("--from", dest="holder", required=True, metavar="PERSON", help="who commands it now")
    take.set_defaults(call=_command, body=lambda a: {"holder": a.holder, "reason": a.reason})

    handoff = _incident(verbs, "handoff", "offer a role to somebody, who accepts it", person=True)
    handoff.add_argument("--role", choices=list(Role), default=Role.INCIDENT_COMMANDER, type=Role)
    what = handoff.add_mutually_exclusive_group(required=True)
    what.add_argument("--to", metavar="PERSON", help="an id from the catalogue")
    what.add_argument("--withdraw", action="store_true", help="take the offer back")
    handoff.set_defaults(call=_handoff)

    accept = _incident(verbs, "accept", "accept the role that is offered to you", person=True)
    accept.add_argument("--role", choices=list(Role), type=Role, help="which one, when several are offered")
    accept.set_defaults(call=_handoff, to=None, withdraw=False)

    assign = _incident(verbs, "assign", "give a role other than command to somebody", person=True)
    assign.set_defaults(command="roles", call=_command, body=lambda a: {"role": a.role, "person": a.to})
    assign.add_argument("--to", required=True, metavar="PERSON", help="an id from the catalogue")
    assign.add_argument("--role", choices=list(Role), required=True, type=Role)

    severity = _incident(verbs, "severity", "change the severity", person=True)
    severity.add_argument("severity", type=_severity, choices=list(Severity))
    severity.set_defaults(call=_command, body=lambda a: {"severity": a.severity, "reason": a.reason})

    replan = _incident(verbs, "replan", "ask for another plan", person=True)
    replan.set_defaults(call=_command, body=lambda a: {"reason": a.reason})

    resolve = _incident(verbs, "resolve", "say that it is over", person=True)
    resolve.set_defaults(call=_command, body=lambda a: {"reason": a.reason})
    for parser_with_reason in (take, severity, replan, resolve):
        parser_with_reason.add_argument("--reason", required=True, help="kept with the evidence")


def run(args: argparse.Namespace) -> int:
    """Run the chosen one."""
    code: int = args.call(args)
    return code


def _severity(text: str) -> Severity:
    return Severity(text.upper())


def _incident(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    *,
    person: bool = False,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("incident", metavar="ID", help="for example INC-42")
    if person:
        add_person(parser)
    show.add_json(parser)
    parser.set_defaults(command=name)
    return parser


def _list(args: argparse.Namespace) -> int:
    query = {"open": "true"} if args.open else {}
    incidents = parse(list[Incident], Gateway.of(args).get("/v1/incidents", query))
    if args.json:
        print(show.as_json(TypeAdapter(list[Incident]).dump_python(incidents, mode="json")))
        return 0
    if not incidents:
        print("No incident is open." if args.open else "No incident yet.")
        return 0
    now = utc_now()
    rows = [
        (
            incident.id,
            incident.severity,
            incident.phase,
            incident.service,
            show.short_moment(incident.opened_at, now),
            incident.title,
        )
        for incident in incidents
    ]
    print("\n".join(show.table(("ID", "SEV", "PHASE", "SERVICE", "OPENED", "TITLE"), rows)))
    for incident in incidents:
        if incident.attention and incident.phase in OPEN_PHASES:
            print(show.field("", f"{incident.id} needs a person: {show.clean(incident.attention)}"))
    return 0


def _show(args: argparse.Namespace) -> int:
    gateway = Gateway.of(args)
    path = f"/v1/incidents/{segment(args.incident)}"
    incident = parse(Incident, gateway.get(path))
    entries = _timeline(gateway, path)
    if args.json:
        timeline = TypeAdapter(list[EvidenceEntry]).dump_python(entries, mode="json")
        print(show.as_json({"incident": incident.model_dump(mode="json"), "timeline": timeline}))
        return 0
    print("\n".join(_incident_lines(incident)))
    shown = entries if args.all else entries[-_TIMELINE:]
    if len(shown) < len(entries):
        print(f"\n{len(entries) - len(shown)} earlier entries are not shown; --all shows them.")
    for day, of_day in itertools.groupby(shown, key=lambda entry: entry.at.astimezone(UTC).date()):
        print(f"\n{day} (UTC)")
        for entry in of_day:
            what = f"{show.clean(entry.summary)} [{show.clean(entry.actor)}]"
            print(show.field(f"{entry.at.astimezone(UTC):%H:%M:%S}", what))
    return 0


def _timeline(gateway: Gateway, path: str) -> list[EvidenceEntry]:
    entries: list[EvidenceEntry] = []
    while True:
        after = str(entries[-1].index) if entries else "-1"
        page = parse(list[EvidenceEntry], gateway.get(f"{path}/evidence", {"after": after}))
        entries += page
        if len(page) < _PAGE:
            return entries


def _incident_lines(incident: Incident) -> list[str]:
    now = utc_now()
    place = f"{show.clean(incident.service)} in {show.clean(incident.environment)}"
    if incident.region:
        place += f", {show.clean(incident.region)}"
    lines = [
        f"{incident.id}  {incident.severity}  {incident.phase}  {show.clean(incident.title)}",
        show.field("service", place),
        show.field("opened", show.moment(incident.opened_at, now)),
    ]
    lines += [
        show.field("role", f"{role.replace('_', ' ')}: {show.clean(person)}")
        for role, person in incident.roles.items()
    ]
    lines += [show.field("alert", f"{show.clean(a.name)}, {a.status}") for a in incident.alerts]
    for attempt in incident.attempts:
        ended = attempt.end + (", undone" if attempt.undone else "")
        detail = f" ({show.clean(attempt.detail)})" if attempt.detail else ""
        lines.append(show.field("tried", f"{show.clean(attempt.title)}: {ended}{detail}"))
    if incident.attention:
        lines.append(show.field("attention", show.clean(incident.attention)))
    return lines


def _declare(args: argparse.Namespace) -> int:
    body: JsonObject = {
        "title": args.title,
        "service": args.service,
        "environment": args.environment,
        "severity": args.severity,
    }
    incident = parse(Incident, Gateway.of(args).post("/v1/incidents", body))
    if args.json:
        print(show.as_json(incident.model_dump(mode="json")))
    else:
        print(f"{incident.id} declared. Take the lead with `stanch incident ack {incident.id}`.")
    return 0


def _handoff(args: argparse.Namespace) -> int:
    path = f"/v1/incidents/{segment(args.incident)}/handoff"
    gateway = Gateway.of(args)
    if args.to:
        answer = gateway.post(path, {"role": args.role, "person": args.to})
    else:
        answer = gateway.post(f"{path}/{'withdraw' if args.withdraw else 'accept'}", {"role": args.role})
    if args.json:
        print(show.as_json(answer))
        return 0
    for handoff in parse(list[Handoff], answer if isinstance(answer, list) else [answer]):
        role = handoff.role.replace("_", " ")
        print(f"{handoff.id}: {role} from {handoff.giver} to {handoff.person}, {handoff.state}.")
        if not args.withdraw:
            print("\n".join(_packet_lines(handoff)))
    return 0


def _packet_lines(handoff: Handoff) -> list[str]:
    packet, now = handoff.packet, utc_now()
    lines = [show.field("state", f"{packet.severity}, {packet.phase}: {show.clean(packet.title)}")]
    if packet.attention:
        lines.append(show.field("attention", show.clean(packet.attention)))
    lines += [show.field("firing", show.clean(name)) for name in packet.firing]
    lines += [show.field("waits", f"{one.id} {show.clean(one.title)} ({one.risk})") for one in packet.pending]
    lines += [show.field("in force", show.clean(one)) for one in packet.in_force]
    lines += [show.field("tried", f"{show.clean(one.title)}: {one.end}") for one in packet.tried]
    lines += [
        show.field("next", f"{show.moment(timer.at, now)} {show.clean(timer.what)}")
        for timer in packet.timers
    ]
    return lines


def _command(args: argparse.Namespace) -> int:
    path = f"/v1/incidents/{segment(args.incident)}/{args.command}"
    answer = Gateway.of(args).post(path, args.body(args))
    if args.json:
        print(show.as_json(answer))
    else:
        incident = parse(Incident, answer)
        print("\n".join(_incident_lines(incident)))
    return 0
