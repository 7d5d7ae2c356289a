"""What can be asked about a Deployment."""

from activities.k8s.actions import KubernetesApi
from activities.k8s.models import DeploymentState, History, RolloutHistory, RolloutStatus
from contracts.actions import Probe
from contracts.outcomes import Progress


class RolloutHistoryProbe(Probe[RolloutHistory, History]):
    """Read the revisions that a Deployment can be rolled back to."""

    request_type = RolloutHistory

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    def look(self, request: RolloutHistory) -> History:
        """Look once: the Deployment and its ReplicaSets."""
        deployment = self._api.deployment(request)
        state = DeploymentState.read(request.where, deployment)
        return History.read(request, state, self._api.replica_sets(request, deployment))


class RolloutStatusProbe(Probe[RolloutStatus, Progress]):
    """Read whether a Deployment's last rollout is done."""

    request_type = RolloutStatus

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    def look(self, request: RolloutStatus) -> Progress:
        """Look once."""
        return DeploymentState.read(request.where, self._api.deployment(request)).progress(request.where)
