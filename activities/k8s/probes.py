"""What can be asked about a deployment."""

from collections.abc import Callable
from datetime import datetime

from activities.k8s.actions import KubernetesApi, read_deployment, read_history
from activities.k8s.models import History, Rollout, RolloutHistory, RolloutStatus, WarningEvents, Warnings
from contracts.actions import Probe
from contracts.outcomes import Reached


class _Looks:
    """What the probes share: the clusters, and the time."""

    def __init__(self, api: KubernetesApi, clock: Callable[[], datetime]) -> None:
        self._api = api
        self._clock = clock


class RolloutHistoryProbe(_Looks, Probe[RolloutHistory, History]):
    """Read the revisions that a deployment can be rolled back to."""

    request_type = RolloutHistory

    def look(self, request: RolloutHistory) -> History:
        """Look once: the deployment and its former revisions."""
        return read_history(self._api, request)[2]


class RolloutStatusProbe(_Looks, Probe[RolloutStatus, Rollout]):
    """Read whether a deployment's last rollout is done; it measures how much of it is."""

    request_type = RolloutStatus
    steady = False

    def look(self, request: RolloutStatus) -> Rollout:
        """Look once; a rollout that is not complete is never 1, also while former pods serve."""
        state = read_deployment(self._api, request)[1]
        progress = state.progress(request.where)
        share = min(state.updated, state.available) / max(state.replicas - state.held, 1)
        value = 1.0 if progress.reached is Reached.YES else min(share, 0.99)
        return Rollout(**dict(progress), value=value, at=self._clock())


class WarningEventsProbe(_Looks, Probe[WarningEvents, Warnings]):
    """Read the warnings about a deployment, its ReplicaSets and its pods; it measures how many there are."""

    request_type = WarningEvents
    steady = False

    def look(self, request: WarningEvents) -> Warnings:
        """Look once."""
        found = self._api.items(request, "event", fields="type=Warning")
        return Warnings.read(request, found, now=self._clock())
