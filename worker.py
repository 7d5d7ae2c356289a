"""Composition root of the worker process: which actions, probes and playbooks it has, and main()."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from temporalio.client import Client
from temporalio.common import VersioningBehavior
from temporalio.worker import Worker, WorkerDeploymentConfig

import playbooks.fail_over
import playbooks.kit
from activities import aws, http, k8s, launchdarkly, prometheus
from activities.aws.client import AwsClient
from activities.http.client import HookClient, HttpClient
from activities.k8s.client import KubernetesClusters
from activities.launchdarkly.client import LaunchDarklyClient
from activities.lookout import Lookout
from activities.planning import Planning
from activities.prometheus.client import PrometheusClient
from activities.records import Records
from activities.registry import Registry
from activities.rehearsal import Rehearsal
from activities.steps import Steps
from activities.undoing import Undoing
from activities.verification import Watching
from authority.decisions import Verifier
from contracts import names
from contracts.catalogue import Catalogue
from ledger import Ledger
from runtime import settings, telemetry, temporal
from runtime.clock import utc_now
from runtime.policy import load_policy
from runtime.settings import Settings
from workflows.incident import IncidentWorkflow
from workflows.mitigation import MitigationWorkflow

# Verifying and monitoring hold a thread each while they wait.
ACTIVITIES = 100


def registry(catalogue: Catalogue, *, secret: Callable[[str], str] = settings.secret) -> Registry:
    """Name every action and probe that this worker has: what is not here cannot be done.

    Args:
        catalogue: Where the providers are.
        secret: Gives the credential in the variable that the catalogue names.
    """
    clusters = KubernetesClusters(catalogue.clusters)
    flags = LaunchDarklyClient(catalogue.launchdarkly, secret=secret, clock=utc_now)
    accounts = AwsClient(catalogue.aws, clock=utc_now)
    return Registry(
        actions=[
            *(kind(accounts) for kind in aws.ACTIONS),
            http.CallHookAction(HookClient(catalogue.hooks(), secret=secret, clock=utc_now)),
            *(kind(clusters, utc_now) for kind in k8s.ACTIONS),
            launchdarkly.SetFlagAction(flags),
        ],
        probes=[
            aws.MetricProbe(accounts),
            aws.ReadinessProbe(accounts),
            aws.ServiceHistoryProbe(accounts),
            k8s.RolloutHistoryProbe(clusters, utc_now),
            k8s.RolloutStatusProbe(clusters, utc_now),
            k8s.WarningEventsProbe(clusters, utc_now),
            launchdarkly.RecentFlagChangesProbe(flags),
            prometheus.PrometheusQueryProbe(PrometheusClient(catalogue.prometheus), utc_now),
            http.HttpCheckProbe(HttpClient(_checked(catalogue)), utc_now),
        ],
    )


def _checked(catalogue: Catalogue) -> set[str]:
    """Give every URL that may be asked: those that the catalogue names as checks."""
    environments = (one for service in catalogue.services for one in service.environments.values())
    return {url for environment in environments for url in environment.checks.values()}


def _planning(config: Settings, ledger: Ledger, catalogue: Catalogue, verbs: Registry) -> Planning:
    return Planning(
        ledger=ledger,
        catalogue=catalogue,
        playbooks=playbooks.kit.catalogue(),
        registry=verbs,
        policy=load_policy(config),
        clock=utc_now,
    )


def lookout(config: Settings, ledger: Ledger, catalogue: Catalogue, verbs: Registry) -> Lookout:
    """Put together what looks at everything that goes on beside the incidents."""
    failing_over = next(one for one in playbooks.kit.catalogue() if one.name == playbooks.fail_over.NAME)
    planning = _planning(config, ledger, catalogue, verbs)
    rehearsal = Rehearsal(registry=verbs, planning=planning, playbook=failing_over, clock=utc_now)
    return Lookout(ledger=ledger, catalogue=catalogue, registry=verbs, rehearsal=rehearsal, clock=utc_now)


def build(config: Settings, client: Client, ledger: Ledger, catalogue: Catalogue, verbs: Registry) -> Worker:
    """Put the worker together."""
    planning = _planning(config, ledger, catalogue, verbs)
    steps = Steps(
        ledger=ledger,
        catalogue=catalogue,
        registry=verbs,
        verifier=Verifier(settings.public_keys(config), reread=lambda: settings.public_keys(config)),
        clock=utc_now,
    )
    watching = Watching(ledger=ledger, catalogue=catalogue, registry=verbs, clock=utc_now)
    undoing = Undoing(ledger=ledger, planning=planning, registry=verbs)
    records = Records(ledger=ledger)
    return Worker(
        client,
        task_queue=names.WORKER_QUEUE,
        workflows=[IncidentWorkflow, MitigationWorkflow],
        activities=[
            planning.plan,
            planning.preview,
            undoing.plan_undo,
            undoing.end_undo,
            steps.run_step,
            watching.verify_step,
            watching.monitor,
            records.record,
            records.check_command,
            records.close_approval,
            records.write_postmortem,
        ],
        activity_executor=ThreadPoolExecutor(ACTIVITIES, thread_name_prefix="activity"),
        max_concurrent_activities=ACTIVITIES,
        max_heartbeat_throttle_interval=timedelta(seconds=1),
        # A killed worker's workflows are taken up by another after this; the default is ten seconds.
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
        graceful_shutdown_timeout=timedelta(seconds=3),
        deployment_config=WorkerDeploymentConfig(
            version=temporal.version(config),
            use_worker_versioning=True,
            default_versioning_behavior=VersioningBehavior.PINNED,
        ),
    )


async def run(config: Settings) -> None:
    """Work until SIGTERM or SIGINT."""
    catalogue = settings.load_catalogue(config.catalogue_path)
    ledger = Ledger.open(config.ledger_url, clock=utc_now)
    ledger.migrate()
    client = await temporal.connect(config, metrics_port=config.worker_metrics_port)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    verbs = registry(catalogue)
    beside = lookout(config, ledger, catalogue, verbs)
    async with build(config, client, ledger, catalogue, verbs), beside.running():
        logging.getLogger("stanch").info("worker ready")
        await stop.wait()
    ledger.close()


def main() -> int:
    """Run the worker alone, for scaling out: ``python worker.py``."""
    return telemetry.run("worker", lambda: asyncio.run(run(settings.load())))


if __name__ == "__main__":
    # The SDK's runtime can abort while the interpreter shuts down (sdk-python issue 300): leave without it.
    os._exit(main())
