"""Add capacity in AWS: instances to Auto Scaling groups, tasks to ECS services.

Every group and ECS service that the catalogue gives to the failing service, in the incident's region if it
has one, grows by half, by at most twenty. Limits that stand against that are raised in the same step, and its
undo gives them back. Where Application Auto Scaling moves the number of tasks and the catalogue has its
scalable target, its minimum is raised, so that it does not take the tasks away again.
"""

import math
from collections.abc import AsyncIterator

from pydantic import Field

from activities import aws
from contracts.actions import ActionRequest
from contracts.errors import NothingToProposeError
from contracts.incidents import Incident
from contracts.plans import Proposal, Risk
from contracts.playbooks import PlaybookParams, ServiceLook
from playbooks.kit import alert, playbook, steps, verification


class Params(PlaybookParams):
    """How much is added."""

    factor: float = Field(1.5, gt=1, le=4, description="By what the present number is multiplied.")
    at_most: int = Field(20, ge=1, le=1000, description="How many are added at most, to each.")


@playbook(matches=[alert(signal="saturation"), alert(signal="latency")], risk=Risk.MEDIUM, order=40)
async def plan(incident: Incident, params: Params, look: ServiceLook) -> Proposal:
    """Propose more instances and tasks."""
    found = [
        (title, request)
        async for title, request in _requests(incident, params, look)
        if not incident.has_tried(request.attempt)
    ]
    if not found:
        raise NothingToProposeError(
            f"{incident.service} has nothing in AWS in {incident.environment} that serves and could grow"
        )
    return Proposal(
        title=found[0][0] if len(found) == 1 else f"Add capacity to {incident.service}",
        rationale="More of the same needs no diagnosis; it helps if capacity is what lacks.",
        steps=steps(found, verification(look, incident)),
    )


async def _requests(
    incident: Incident, params: Params, look: ServiceLook
) -> AsyncIterator[tuple[str, ActionRequest]]:
    """Give what would grow, each with its title."""
    mine = look.service.aws
    for group in mine.auto_scaling_groups:
        if incident.region not in (None, group.region):
            continue
        at = {"account": group.account, "region": group.region, "group": group.name}
        seen = await look.observe(aws.SetDesiredCapacity.model_validate({**at, "desired": 0}))
        state = aws.GroupState.model_validate(seen.state)
        desired = _more(state.desired_capacity, params)
        if desired > state.desired_capacity > 0:
            # Named only where it has to be raised: a limit that is named is changed, and given back.
            maximum = desired if desired > state.max_size else None
            title = f"Grow {group.name} from {state.desired_capacity} to {desired} instances"
            title += f", its maximum from {state.max_size} with it" if maximum else ""
            request = aws.SetDesiredCapacity.model_validate({**at, "desired": desired, "maximum": maximum})
            yield title, request
    scalable = {target.target() for target in mine.scalable_targets}
    for service in mine.ecs_services:
        if incident.region not in (None, service.region):
            continue
        at = service.model_dump(include={"account", "region", "cluster"}) | {"service": service.name}
        count = aws.SetServiceCount.model_validate({**at, "count": 0})
        tasks = aws.ServiceState.model_validate((await look.observe(count)).state)
        desired, limits = _more(tasks.desired_count, params), tasks.limits
        if limits is not None:
            target = aws.SetScalableTarget(
                account=service.account,
                region=service.region,
                resource=count.resource,
                minimum=desired,
                maximum=max(desired, limits.max_capacity),
            )
            if target.target in scalable and desired > tasks.desired_count > 0:
                yield f"Keep {service.cluster}/{service.name} at {desired} tasks or more", target
                continue
            desired = min(desired, limits.max_capacity)
        if desired > tasks.desired_count > 0:
            title = f"Grow {service.cluster}/{service.name} from {tasks.desired_count} to {desired} tasks"
            yield title, count.model_copy(update={"count": desired})


def _more(present: int, params: Params) -> int:
    return min(math.ceil(present * params.factor), present + params.at_most)
