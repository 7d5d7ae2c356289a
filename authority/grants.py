"""What is inside a standing grant's envelope, why something is outside, and its limits as people write."""

import json
import math
import re
from collections.abc import Iterable
from datetime import datetime
from typing import TypeGuard

from pydantic import JsonValue

from contracts.actions import ONLY_TOLD
from contracts.approvals import Bound, Envelope, Grant
from contracts.errors import InputError
from contracts.plans import ActionCall, Needs, Plan, Risk, Step

_RISKS = list(Risk)
_LIMIT = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.]*)\s*(<=|>=|=)\s*(\S.*?)\s*", re.DOTALL)


def outside(grant: Grant, plan: Plan, at: datetime) -> dict[int, str]:
    """Give why steps of a plan are outside a grant at some moment, by step number; all others are inside.

    A grant answers for one person: what the policy asks two people for, or denies, is outside every grant.
    """
    wrong = {
        f"{grant.id} is for {grant.incident}": grant.incident not in (None, plan.incident),
        f"{grant.id} is for {grant.service} in {grant.environment}": (grant.service, grant.environment)
        != (plan.service, plan.environment),
        f"{grant.id} is not valid at {at.isoformat()}": not grant.given_at <= at < grant.expires_at,
    }
    everywhere = next((reason for reason, is_wrong in wrong.items() if is_wrong), None)
    reasons = {step.number: everywhere or _outside(grant, step) for step in plan.steps}
    return {number: reason for number, reason in reasons.items() if reason}


def _outside(grant: Grant, step: Step) -> str:
    envelope, action = grant.envelope, step.action
    if action.name not in envelope.actions:
        return f"{grant.id} does not name {action.name}"
    if not any(fits(pattern, str(action.target)) for pattern in envelope.targets):
        return f"{grant.id} does not name {action.target}"
    if _RISKS.index(step.risk) > _RISKS.index(envelope.max_risk):
        return f"{grant.id} ends at risk {envelope.max_risk.value}, the step has {step.risk.value}"
    if step.needs in (Needs.TWO, Needs.DENIED):
        return f"the policy asks more for it than one person's grant: {step.needs.value}"
    beyond = [
        name
        for name, bound in envelope.limits.items()
        if name.rpartition(".")[0] in ("", action.name) and not _holds(bound, action, name.rpartition(".")[2])
    ]
    return f"{grant.id} bounds {', '.join(sorted(beyond))}" if beyond else ""


def fits(pattern: str, target: str) -> bool:
    """Say whether a grant that names this pattern is about this target."""
    return target.startswith(pattern[:-1]) if pattern.endswith("/*") else target == pattern


def _holds(bound: Bound, action: ActionCall, name: str) -> bool:
    """Say whether an argument is within its bound; an argument that is not there is not."""
    if name not in action.arguments:
        return False
    value = action.arguments[name]
    if bound.one_of is not None and not any(
        type(value) is type(one) and value == one for one in bound.one_of
    ):
        return False
    if bound.at_least is None and bound.at_most is None:
        return True
    if not _is_number(value):
        return False
    return (bound.at_least is None or value >= bound.at_least) and (
        bound.at_most is None or value <= bound.at_most
    )


def around(plan: Plan) -> Envelope:
    """Give an envelope around a plan with steps: its actions and targets, asked for no more than in it.

    No number is larger, and whatever else is asked for is among what the plan asks for: a graceful way is no
    yes to the ungraceful one. Left out is what the target says already, and what asks for nothing
    (``ONLY_TOLD``). Where there are several actions each limit names its own.
    """
    several = len({step.action.name for step in plan.steps}) > 1
    asked: dict[str, list[JsonValue]] = {}
    bound: set[str] = set()
    for action in (step.action for step in plan.steps):
        for name, value in action.arguments.items():
            limited = f"{action.name}.{name}" if several else name
            asked.setdefault(limited, []).append(value)
            if name not in ONLY_TOLD and not _is_of_target(action, name):
                bound.add(limited)
    return Envelope(
        actions=tuple(dict.fromkeys(step.action.name for step in plan.steps)),
        targets=tuple(dict.fromkeys(str(step.action.target) for step in plan.steps)),
        limits={name: _around(values) for name, values in asked.items() if name in bound},
        max_risk=plan.risk,
    )


def _is_of_target(action: ActionCall, name: str) -> bool:
    """Say whether an argument is a part of the target; of two that are alike neither is taken for it."""
    value, given = action.arguments[name], list(action.arguments.values())
    if name == "kind":
        return value == action.target.kind
    return value in action.target.path and given.count(value) == 1


def _around(values: list[JsonValue]) -> Bound:
    numbers = [value for value in values if _is_number(value)]
    return Bound(at_most=max(numbers)) if len(numbers) == len(values) else Bound(one_of=tuple(values))


def read_limits(lines: Iterable[str]) -> dict[str, Bound]:
    """Read limits as people write them: ``replicas <= 10``, ``weight >= 5``, ``on = false``.

    Of ``=`` there may be several for one argument: it is one of these, each as JSON or else as text.

    Raises:
        InputError: One of them cannot be read, or says twice what may be said once.
    """
    limits: dict[str, Bound] = {}
    for line in lines:
        found = _LIMIT.fullmatch(line)
        if found is None:
            raise InputError(f"{line[:80]!r} is no limit: write replicas<=10, weight>=5 or on=false")
        name, sign, text = found.groups()
        bound = limits.get(name, Bound())
        value = _value(text)
        if sign == "=":
            limits[name] = bound.model_copy(update={"one_of": (*(bound.one_of or ()), value)})
            continue
        field = "at_most" if sign == "<=" else "at_least"
        if not _is_number(value) or not math.isfinite(value):
            raise InputError(f"{line[:80]!r}: {text[:40]!r} is no number")
        if getattr(bound, field) is not None:
            raise InputError(f"{name} is limited twice by {sign}: say it once")
        limits[name] = bound.model_copy(update={field: float(value)})
    return limits


def write_limits(envelope: Envelope) -> list[str]:
    """Give the limits of an envelope as ``read_limits`` reads them."""
    lines = []
    for name, bound in envelope.limits.items():
        lines += [f"{name} >= {_number(bound.at_least)}"] if bound.at_least is not None else []
        lines += [f"{name} <= {_number(bound.at_most)}"] if bound.at_most is not None else []
        lines += [f"{name} = {json.dumps(value, ensure_ascii=False)}" for value in bound.one_of or ()]
    return lines


def _is_number(value: JsonValue) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: float) -> str:
    return str(int(value) if value.is_integer() else value)


def _value(text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError) as error:
        if text[0] in '{["':
            raise InputError(f"{text[:40]!r} is no whole JSON: was its end cut off?") from error
        return text
    return text if isinstance(value, float) and not math.isfinite(value) else value
