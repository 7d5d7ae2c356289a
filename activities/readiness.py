"""Whether a failover would work now: its steps are checked and none is run.

A provider that knows more of a standby than its steps tell has a probe ``<provider>.readiness`` and is asked
for all of its steps at once; another's steps are observed and asked for what stands against them.
"""

from collections.abc import Iterator, Sequence

from activities.registry import Registry
from contracts.errors import ActionRefusedError, ProviderUnavailableError
from contracts.outcomes import Progress, Reached
from contracts.plans import ActionCall, ProbeCall, Reading
from contracts.readiness import CheckState, Readiness, ReadinessCheck

STATES = {Reached.YES: CheckState.OK, Reached.UNKNOWN: CheckState.UNKNOWN}


def readiness(registry: Registry, calls: Sequence[ActionCall], probes: Sequence[ProbeCall] = ()) -> Readiness:
    """Look once at everything.

    Args:
        registry: Whose actions and probes.
        calls: The steps.
        probes: Looks that say more: one that gives a readiness, a progress or a reading, which is good above
            zero.
    """
    checks: list[ReadinessCheck] = []
    for provider in dict.fromkeys(call.target.provider for call in calls):
        mine = [call for call in calls if call.target.provider == provider]
        own = f"{provider}.readiness"
        if own in registry.probes:
            steps = [call.model_dump(mode="json") for call in mine]
            checks += _probe(registry, ProbeCall(name=own, arguments={"steps": steps}))
        else:
            checks += [check for call in mine for check in _step(registry, call)]
    checks += [check for probe in probes for check in _probe(registry, probe)]
    return Readiness(checks=tuple(checks))


def _step(registry: Registry, call: ActionCall) -> Iterator[ReadinessCheck]:
    state, said = CheckState.OK, ["it would run now"]
    try:
        action, request = registry.action(call)
        observed = action.observe(request)
        refusals = action.preflight(request, observed) if action.change(request, observed) else ()
        if refusals:
            state, said = CheckState.NOT_READY, list(refusals)
    except (ActionRefusedError, ProviderUnavailableError) as error:
        state, said = CheckState.after(error), [str(error)]
    for detail in said:
        yield ReadinessCheck(name="step", target=str(call.target), state=state, detail=detail)


def _probe(registry: Registry, call: ProbeCall) -> tuple[ReadinessCheck, ...]:
    try:
        seen = registry.see(call)
    except (ActionRefusedError, ProviderUnavailableError) as error:
        state, detail = CheckState.after(error), str(error)
    else:
        if isinstance(seen, Readiness):
            return seen.checks
        if isinstance(seen, Progress):
            state, detail = STATES.get(seen.reached, CheckState.NOT_READY), seen.detail
        elif isinstance(seen, Reading):
            good = CheckState.OK if (seen.value or 0) > 0 else CheckState.NOT_READY
            state, detail = CheckState.UNKNOWN if seen.value is None else good, seen.detail
        else:
            state, detail = CheckState.NOT_READY, f"{call.name} gives no readiness, progress or reading"
    about = ", ".join(str(value) for value in call.arguments.values())
    return (ReadinessCheck(name=call.name, target=about, state=state, detail=detail),)
