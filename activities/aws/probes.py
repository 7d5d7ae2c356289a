"""What can be seen in AWS."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, cast

from activities.aws import models
from activities.aws.actions import ACTIONS, family, look_at_service, noting, series
from activities.registry import Registry
from contracts.actions import Probe
from contracts.errors import ActionRefusedError, ProviderUnavailableError
from contracts.plans import ActionCall, Reading
from contracts.readiness import CheckState, Readiness, ReadinessCheck

# So many deployments are looked back at: what one call describes.
DEPLOYMENTS = 20
PAGES = 10
REVISIONS = 100


class MetricProbe(Probe[models.Metric, Reading]):
    """Takes the newest value of a CloudWatch metric.

    No value is no data: ``None``, never zero. The reading's time is ours, so that readings of several sources
    can be compared; the value's own time is in the detail.
    """

    request_type = models.Metric

    def __init__(self, service: models.AwsService) -> None:
        self._service = service

    def look(self, request: models.Metric) -> Reading:
        """Look once."""
        values = self._series(request, request.metric)
        if request.per is not None:
            whole = self._series(request, request.per)
            values = {at: values.get(at, 0.0) / one for at, one in whole.items() if one}
        now = self._service.now()
        if not values:
            return Reading(value=None, at=now, detail="no data")
        at, value = next(iter(values.items()))
        return Reading(value=value, at=now, detail=f"of {at.isoformat()}")

    def _series(self, request: models.Metric, name: str) -> dict[datetime, float]:
        about = (request.namespace, name, request.dimensions)
        how = request.model_dump(include={"period", "within"})
        return series(self._service, request, about, request.statistic, **how)


class ServiceHistoryProbe(Probe[models.ServiceHistory, models.ServiceRevisions]):
    """Finds which revisions an ECS service has run and for how long, and which others still live.

    ECS keeps the deployments of 90 days. A revision counts as deployed when ECS calls a deployment of it
    successful, and as serving from then until the next such deployment of another one.
    """

    request_type = models.ServiceHistory

    def __init__(self, service: models.AwsService) -> None:
        self._service = service

    def look(self, request: models.ServiceHistory) -> models.ServiceRevisions:
        """Look once."""
        state = look_at_service(self._service, request)
        present = models.ServiceRevision(task_definition=state.task_definition)
        if state.controller != "ECS":
            note = f"{request.where}: {state.controller} deploys it, so there is its history"
            return models.ServiceRevisions(present=present, notes=(note,))
        notes: list[str] = []
        known: dict[str, models.ServiceRevision] = {}
        with noting(notes, "former deployments cannot be seen"):
            known = self._deployed(request)
        mine = family(state.task_definition)
        asked: dict[str, Any] = {"familyPrefix": mine.rpartition("/")[2], "status": "ACTIVE"}
        asked |= {"sort": "DESC", "maxResults": REVISIONS}
        answer = self._service.read(request, "ecs", "list_task_definitions", asked)
        with models.reading(request.where, "task definitions"):
            living = [str(arn) for arn in answer["taskDefinitionArns"] if family(arn) == mine]
        older = [arn for arn in living if _number(arn) < _number(state.task_definition)]
        older.sort(key=_number, reverse=True)
        present = known.pop(state.task_definition, present)
        if present.released_at is None and state.primary is not None:
            present = present.model_copy(update={"released_at": state.primary.created_at})
        deployed = [known[arn] for arn in reversed(known) if arn in older]
        never = [models.ServiceRevision(task_definition=arn) for arn in older if arn not in known]
        return models.ServiceRevisions(present=present, former=(*deployed, *never), notes=tuple(notes))

    def _deployed(self, request: models.ServiceHistory) -> dict[str, models.ServiceRevision]:
        """Give what was deployed successfully by its ARN, the latest last."""
        at = {"cluster": request.cluster, "service": request.service}
        ended: list[models.Json] = []
        asked: dict[str, Any] = {**at, "status": ["SUCCESSFUL"]}
        with models.reading(request.where, "deployments of a service"):
            for _ in range(PAGES):
                page = self._service.read(request, "ecs", "list_service_deployments", asked)
                ended += page["serviceDeployments"]
                if not page.get("nextToken"):
                    break
                asked["nextToken"] = page["nextToken"]
            ended = sorted(ended, key=lambda one: one["finishedAt"])[-DEPLOYMENTS:]
            arns = [one["targetServiceRevisionArn"] for one in ended]
        if not arns:
            return {}
        ask = {"serviceRevisionArns": list(dict.fromkeys(arns))}
        described = self._service.read(request, "ecs", "describe_service_revisions", ask)
        with models.reading(request.where, "revisions of a service"):
            revisions: dict[str, models.Json] = {
                one["serviceRevisionArn"]: one for one in described["serviceRevisions"]
            }
            runs = [(one, revisions[arn]) for one, arn in zip(ended, arns, strict=True) if arn in revisions]
            return self._runs(runs)

    def _runs(self, runs: list[tuple[models.Json, models.Json]]) -> dict[str, models.ServiceRevision]:
        found: dict[str, models.ServiceRevision] = {}
        ends = [later[0]["finishedAt"] for _, later in pairwise(runs)] + [self._service.now()]
        latest = ""
        for (deployment, revision), end in zip(runs, ends, strict=True):
            arn = str(revision["taskDefinition"])
            before = found.pop(arn, models.ServiceRevision(task_definition=arn))
            began = deployment.get("startedAt") or deployment["createdAt"]
            found[arn] = models.ServiceRevision(
                task_definition=arn,
                images=tuple(str(one.get("image", "")) for one in revision.get("containerImages") or ()),
                released_at=before.released_at if arn == latest else began,
                served=before.served + max(end - deployment["finishedAt"], timedelta(0)),
            )
            latest = arn
        return found


def _number(task_definition: str) -> int:
    return int(task_definition.rpartition(":")[2])


class ReadinessProbe(Probe[models.CheckReadiness, Readiness]):
    """Checks the steps of a failover without running any: permissions, capacity, lag, health of the standby.

    Each step is observed and asked for what stands against it, as for a plan. What AWS promises nothing
    about, capacity above all, stays unpromised.
    """

    request_type = models.CheckReadiness

    def __init__(self, service: models.AwsService) -> None:
        self._registry = Registry([kind(service) for kind in ACTIONS], [])

    def look(self, request: models.CheckReadiness) -> Readiness:
        """Look once at every step."""
        checks = (check for step in request.steps for check in self._step(step, request.longest_lag))
        return Readiness(checks=tuple(checks))

    def _step(self, step: ActionCall, longest_lag: timedelta) -> Iterator[ReadinessCheck]:
        so, detail = CheckState.OK, "it can be read"
        try:
            action, request = self._registry.action(step)
            yield from cast(Any, action).check(request, action.observe(request), longest_lag)
        except (ActionRefusedError, ProviderUnavailableError) as error:
            so, detail = CheckState.after(error), str(error)
        yield ReadinessCheck(name="readable", target=str(step.target), state=so, detail=detail)
