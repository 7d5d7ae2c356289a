"""A plan on the terminal: everything that a person needs to say yes or no to it, wrapped and never cut."""

import json
from datetime import datetime, timedelta

from cli import show
from contracts.approvals import Approval, ApprovalRequest
from contracts.plans import ActionCall, Difference, Plan, Step, Verification


def request_line(request: ApprovalRequest, now: datetime) -> str:
    """Say in one line what a request is and how it stands."""
    line = f"{request.id}  {request.severity}  {request.incident}  {request.state}"
    if request.signed:
        decision = request.signed.decision
        line += f" by {show.clean(decision.person)}, {show.moment(decision.decided_at, now)}"
    elif request.closed_at:
        line += f", {show.moment(request.closed_at, now)}"
    else:
        line += f", expires {show.moment(request.expires_at, now)}"
    return line


def approval_lines(approval: Approval, now: datetime) -> list[str]:
    """Lay out a request and its plan."""
    request = approval.request
    lines = [request_line(request, now)]
    reason = request.signed.decision.reason if request.signed else request.closed_reason
    if reason:
        lines.append(show.field("reason", show.clean(reason)))
    return [*lines, *plan_lines(approval.plan), show.field("digest", request.plan_digest)]


def plan_lines(plan: Plan) -> list[str]:
    """Lay out a plan."""
    lines = [
        show.field("plan", show.clean(plan.title)),
        show.field("playbook", f"{show.clean(plan.playbook)}, mitigation {show.clean(plan.mitigation)}"),
        show.field("service", f"{show.clean(plan.service)} in {show.clean(plan.environment)}"),
        show.field("risk", plan.risk),
        show.field("why", show.clean(plan.rationale)),
    ]
    if plan.differences:
        lines.append("changed since the plan that it replaces:")
        lines += [show.field("", _difference(difference), indent=2) for difference in plan.differences]
    for step in plan.steps:
        lines += ["", *_step_lines(step, len(plan.steps))]
    when = ", ".join(plan.undo_when) or "never by itself"
    return [*lines, "", show.field("undo when", when)]


def _step_lines(step: Step, steps: int) -> list[str]:
    lines = [
        f"Step {step.number} of {steps}: {show.clean(step.title)}",
        _part("action", f"{show.clean(step.action.name)} on {show.clean(step.action.target)}"),
    ]
    lines += [_part("change", _difference(difference)) for difference in step.change]
    if not step.change:
        lines.append(_part("change", "nothing: the target is already as wanted"))
    lines += [
        _part("risk", step.risk),
        _part("touches", show.clean(step.blast_radius)),
        _part("verify", _verification(step.verification)),
        _part("undo", _call(step.undo) if step.undo else f"not possible: {show.clean(step.undo_note)}"),
        _part("repeated", show.clean(step.idempotent)),
    ]
    return [*lines, *(_part("REFUSED", show.clean(reason)) for reason in step.refusals)]


def _part(label: str, text: str) -> str:
    return show.field(label, text, indent=2)


def _value(value: object) -> str:
    return "absent" if value is None else show.clean(json.dumps(value, ensure_ascii=False))


def _difference(difference: Difference) -> str:
    return f"{show.clean(difference.path)}: {_value(difference.before)} → {_value(difference.after)}"


def _call(call: ActionCall) -> str:
    return f"{show.clean(call.name)} on {show.clean(call.target)} {_value(call.arguments)}"


def _duration(duration: timedelta) -> str:
    return show.size(duration.total_seconds())


def _verification(verification: Verification | None) -> str:
    if verification is None:
        return "not by itself: watch the signals"
    word, threshold = ("below", verification.healthy_below)
    if threshold is None:
        word, threshold = ("above", verification.healthy_above)
    text = (
        f"{show.clean(verification.signal)} {word} {threshold:g} {show.clean(verification.unit)}".rstrip()
        + f" for {_duration(verification.hold)}, within {_duration(verification.within)}"
    )
    if verification.baseline is None:
        return text
    value = verification.baseline.value
    return f"{text}; when sealed: {'no data' if value is None else f'{value:g}'}"
