"""A plan on the terminal: everything that a person needs to say yes or no to it, wrapped and never cut."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from cli import show
from contracts.approvals import Approval, ApprovalRequest, ApprovalState, Decision
from contracts.plans import ASKED, ActionCall, Difference, Plan, Step, Verification
from contracts.watches import SignalNow

_BARS = "▁▂▃▄▅▆▇█"


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
    said = (*request.signed.others, request.signed) if request.signed else request.given
    return [
        request_line(request, now),
        *show.fields(
            *((one.decision.verdict, _authority(one.decision, now)) for one in said),
            ("reason", request.closed_reason),
            ("asks", asked(request) if request.state is ApprovalState.PENDING else ""),
        ),
        *plan_lines(approval.plan),
        show.field("digest", request.plan_digest),
    ]


def asked(request: ApprovalRequest) -> str:
    """Say whom the policy asks, and who has approved already."""
    names = ", ".join(one.decision.person for one in request.given)
    return f"{ASKED[request.needs]}; {names} approved, one more is asked" if names else ASKED[request.needs]


def _authority(decision: Decision, now: datetime) -> str:
    """Say who decided when, how they are known, and what they left out or set aside."""
    how = f"by {decision.authenticated_by}" + (f" {decision.grant.id}" if decision.grant else "")
    said = [f"{decision.person} ({how}), {show.moment(decision.decided_at, now)}"]
    said += [f"only steps {', '.join(map(str, decision.steps))}"] if decision.steps else []
    said += ["BROKE THE GLASS"] if decision.break_glass else []
    said += [f"set aside {', '.join(decision.overrides)}"] if decision.overrides else []
    return "; ".join(said) + (f": {decision.reason}" if decision.reason else "")


def reading_line(signal: SignalNow, now: datetime) -> str:
    """Say how a signal is now, and how it was since its plan was sealed."""
    rule, last = signal.verification, signal.readings[-1]
    said = f"{rule.signal} {_measured(rule, last.value)} ({show.ago(last.at, now)})"
    if rule.baseline is not None:
        said += f", when sealed {_measured(rule, rule.baseline.value)}"
    if last.value is not None:
        said += ", healthy" if rule.is_healthy(last.value) else ", unhealthy"
    if signal.recovered and signal.healthy_since is not None:
        said += f" since {show.moment(signal.healthy_since, now)}: the problem may be over"
    return show.field("now", f"{said}  {_spark([reading.value for reading in signal.readings])}")


def _measured(rule: Verification, value: float | None) -> str:
    return "no data" if value is None else f"{value:.4g} {rule.unit}".rstrip()


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
    lines = show.fields(
        ("plan", plan.title),
        ("playbook", f"{plan.playbook}, mitigation {plan.mitigation}"),
        ("service", f"{plan.service} in {plan.environment}"),
        ("risk", plan.risk),
        ("why", plan.rationale),
    )
    lines += ["REPLACES the plan whose target had changed since it was shown:"] if plan.supersedes else []
    lines += [show.field("", _difference(difference), indent=2) for difference in plan.differences]
    lines += show.fields(*(("GUARDRAIL", f"{one.rule}: {one.sentence}") for one in plan.violations))
    for step in plan.steps:
        lines += ["", *_step_lines(step, len(plan.steps))]
    when = ", ".join(plan.undo_when) or "never by itself"
    return [*lines, "", show.field("undo when", when)]


def _step_lines(step: Step, steps: int) -> list[str]:
    changes = [_difference(difference) for difference in step.change]
    by = f", by {', '.join(step.rules)}" if step.rules else ""
    return [
        f"Step {step.number} of {steps}: {show.clean(step.title)}",
        *show.fields(
            ("action", f"{step.action.name} on {step.action.target}"),
            *(("change", one) for one in changes or ["nothing: the target is already as wanted"]),
            ("asks", f"{ASKED[step.needs]}{by}"),
            ("risk", step.risk),
            ("touches", step.blast_radius),
            ("verify", _verification(step.verification)),
            ("undo", _call(step.undo) if step.undo else f"not possible: {step.undo_note}"),
            ("repeated", step.idempotent),
            ("forced", step.forced and _call(step.forced)),
            *(("REFUSED", reason) for reason in step.refusals),
            indent=2,
        ),
    ]


def forced_lines(step: Step) -> list[str]:
    """Lay out what forcing a step means: the call that was approved, and the one instead of it."""
    return [
        f"Step {step.number}: {show.clean(step.title)}",
        *show.fields(
            ("graceful", _call(step.action)),
            ("FORCED", _call(step.forced or step.action)),
            ("touches", step.blast_radius),
            indent=2,
        ),
    ]


def _value(value: object) -> str:
    return "absent" if value is None else json.dumps(value, ensure_ascii=False)


def _difference(difference: Difference) -> str:
    return f"{difference.path}: {_value(difference.before)} → {_value(difference.after)}"


def _call(call: ActionCall) -> str:
    return f"{call.name} on {call.target} {_value(call.arguments)}"


def _duration(duration: timedelta) -> str:
    return show.size(duration.total_seconds())


def _verification(verification: Verification | None) -> str:
    if verification is None:
        return "not by itself: watch the signals"
    word, bound = verification.bound
    text = f"{verification.signal} {word} {bound:g} {verification.unit}".rstrip()
    text += f" for {_duration(verification.hold)}, within {_duration(verification.within)}"
    if verification.baseline is None:
        return text
    value = verification.baseline.value
    return f"{text}; when sealed: {'no data' if value is None else f'{value:g}'}"
