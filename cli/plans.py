"""A plan on the terminal: everything that a person needs to say yes or no to it, wrapped and never cut."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from cli import show
from contracts.approvals import Approval, ApprovalRequest, ApprovalState, Decision
from contracts.plans import ActionCall, Difference, Needs, Plan, Step, Verification
from contracts.watches import SignalNow

_BARS = "▁▂▃▄▅▆▇█"

NEEDS = {
    Needs.NOBODY: "nobody",
    Needs.ONE: "one person",
    Needs.TWO: "two people",
    Needs.DENIED: "in vain: the policy denies it",
}


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
    said = (*request.signed.others, request.signed) if request.signed else request.given
    lines += [show.field(one.decision.verdict, _authority(one.decision, now)) for one in said]
    if request.closed_reason:
        lines.append(show.field("reason", show.clean(request.closed_reason)))
    if request.state is ApprovalState.PENDING:
        lines.append(show.field("asks", asked(request)))
    return [*lines, *plan_lines(approval.plan), show.field("digest", request.plan_digest)]


def asked(request: ApprovalRequest) -> str:
    """Say whom the policy asks, and who has approved already."""
    names = ", ".join(show.clean(one.decision.person) for one in request.given)
    return f"{NEEDS[request.needs]}; {names} approved, one more is asked" if names else NEEDS[request.needs]


def _authority(decision: Decision, now: datetime) -> str:
    """Say who decided when, how they are known, and what they left out or set aside."""
    how = f"by {decision.authenticated_by}" + (f" {decision.grant.id}" if decision.grant else "")
    said = [f"{show.clean(decision.person)} ({how}), {show.moment(decision.decided_at, now)}"]
    said += [f"only steps {', '.join(map(str, decision.steps))}"] if decision.steps else []
    said += ["BROKE THE GLASS"] if decision.break_glass else []
    said += [f"set aside {', '.join(decision.overrides)}"] if decision.overrides else []
    return "; ".join(said) + (f": {show.clean(decision.reason)}" if decision.reason else "")


def reading_line(signal: SignalNow, now: datetime) -> str:
    """Say how a signal is now, and how it was since its plan was sealed."""
    rule, last = signal.verification, signal.readings[-1]
    said = f"{show.clean(rule.signal)} {_measured(rule, last.value)} ({show.ago(last.at, now)})"
    if rule.baseline is not None:
        said += f", when sealed {_measured(rule, rule.baseline.value)}"
    if last.value is not None:
        said += ", healthy" if rule.is_healthy(last.value) else ", unhealthy"
    if signal.recovered and signal.healthy_since is not None:
        said += f" since {show.moment(signal.healthy_since, now)}: the problem may be over"
    return show.field("now", f"{said}  {_spark([reading.value for reading in signal.readings])}")


def _measured(rule: Verification, value: float | None) -> str:
    return "no data" if value is None else f"{value:.4g} {show.clean(rule.unit)}".rstrip()


def _spark(values: Sequence[float | None]) -> str:
    """Draw numbers as a row of bars, with a blank where there was no data."""
    known = [value for value in values if value is not None]
    low, span = min(known, default=0.0), max(known, default=0.0) - min(known, default=0.0)
    top = len(_BARS) - 1
    return "".join(
        "·" if value is None else _BARS[round((value - low) / span * top) if span else 0] for value in values
    )


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
    lines += [
        show.field("GUARDRAIL", f"{violation.rule}: {show.clean(violation.sentence)}")
        for violation in plan.violations
    ]
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
        _part(
            "asks", NEEDS[step.needs] + (f", by {show.clean(', '.join(step.rules))}" if step.rules else "")
        ),
        _part("risk", step.risk),
        _part("touches", show.clean(step.blast_radius)),
        _part("verify", _verification(step.verification)),
        _part("undo", _call(step.undo) if step.undo else f"not possible: {show.clean(step.undo_note)}"),
        _part("repeated", show.clean(step.idempotent)),
    ]
    lines += [_part("forced", _call(step.forced))] if step.forced else []
    return [*lines, *(_part("REFUSED", show.clean(reason)) for reason in step.refusals)]


def forced_lines(step: Step) -> list[str]:
    """Lay out what forcing a step means: the call that was approved, and the one instead of it."""
    return [
        f"Step {step.number}: {show.clean(step.title)}",
        _part("graceful", _call(step.action)),
        _part("FORCED", _call(step.forced or step.action)),
        _part("touches", show.clean(step.blast_radius)),
    ]


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
