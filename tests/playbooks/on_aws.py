"""What the playbooks for AWS look at: a shop in moto, through the real client and the real registry."""

from collections.abc import Sequence
from typing import Any

from activities.aws import ServiceHistoryProbe, actions
from activities.aws.client import AwsClient
from activities.planning import RegistryLook
from activities.registry import Registry
from contracts.actions import ActionRequest
from contracts.catalogue import AwsResources, ServiceEnvironment, Signal
from contracts.incidents import Attempt, AttemptEnd, Incident, Severity
from runtime.clock import utc_now
from tests.activities.aws.conftest import AT, World

ACTIONS = (actions.SetDesiredCapacityAction, actions.SetServiceCountAction, actions.SetScalableTargetAction)


def look(client: AwsClient, world: World, *has: str) -> RegistryLook:
    """Give a look at a service that has these in AWS: ``group``, ``service``, ``scalable``."""
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "group": ("auto_scaling_groups", {**AT, "name": world.group}),
        "service": ("ecs_services", {**AT, "cluster": world.cluster, "name": world.service}),
        "scalable": ("scalable_targets", {**AT, "resource": world.resource}),
    }
    resources = AwsResources.model_validate({kinds[one][0]: [kinds[one][1]] for one in has})
    signal = Signal(prometheus="main", query="q", healthy_below=1)
    registry = Registry([action(client) for action in ACTIONS], [ServiceHistoryProbe(client)])
    return RegistryLook(registry, ServiceEnvironment(aws=resources, signals={"latency": signal}), utc_now())


def incident(*tried: ActionRequest, region: str | None = None) -> Incident:
    """Give an incident in which these did not help."""
    return Incident(
        id="INC-1",
        title="slow",
        service="shop",
        environment="production",
        region=region,
        severity=Severity.SEV2,
        opened_at=utc_now(),
        attempts=(_attempt(tried),),
    )


def _attempt(tried: Sequence[ActionRequest]) -> Attempt:
    return Attempt(
        mitigation="INC-1/1",
        playbook="another",
        title="t",
        plan_digest="0" * 64,
        end=AttemptEnd.INEFFECTIVE,
        actions=tuple(one.attempt for one in tried),
    )
