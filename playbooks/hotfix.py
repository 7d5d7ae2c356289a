"""Apply a temporary hotfix through the service's own remediation endpoint.

The catalogue names such endpoints as hooks of the service, with the signals that each is a hotfix for. The
first that fits and is not in place already is proposed. A hotfix is a debt: it stays for the time that the
hook says, then its owner is asked to undo it.
"""

from pydantic import Field

from activities import http
from contracts.errors import NothingToProposeError
from contracts.incidents import Incident
from contracts.plans import Proposal, Risk
from contracts.playbooks import PlaybookParams, ServiceLook
from playbooks.kit import alert, playbook, step, verification


class Params(PlaybookParams):
    """Which one."""

    hook: str | None = Field(None, description="Name of the hook, whatever signals it is for.")


@playbook(matches=[alert()], risk=Risk.MEDIUM, order=35)
async def plan(incident: Incident, params: Params, look: ServiceLook) -> Proposal:
    """Propose the hook for what is wrong."""
    for hook in look.service.hooks:
        # A declared incident has no alerts, and somebody who names a hook needs none.
        fits = not incident.signals or set(hook.signals) & set(incident.signals)
        if not hook.signals or not (hook.name == params.hook or (params.hook is None and fits)):
            continue
        request = http.CallHook(hook=hook.name, desired=hook.desired)
        if incident.has_tried(request.attempt):
            continue
        observed = await look.observe(request)
        if observed.state and http.HookStatus.model_validate(observed.state).has(hook.desired):
            continue
        wanted = ", ".join(f"{key} {value}" for key, value in hook.desired.items())
        proposed = step(f"Ask hook {hook.name} for {wanted}", request, verify=verification(look, incident))
        return Proposal(
            title=f"Apply the temporary hotfix {hook.name}",
            rationale=f"{incident.service}'s team has it ready for {', '.join(hook.signals)}. "
            f"It is temporary: after {hook.in_force_for} its owner is asked to undo it.",
            steps=(proposed.model_copy(update={"risk": hook.risk}),),
            in_force_for=hook.in_force_for,
        )
    signals = ", ".join(incident.signals) or "it"
    raise NothingToProposeError(
        f"no hook of {incident.service} is a hotfix for {signals} that is left to try"
    )
