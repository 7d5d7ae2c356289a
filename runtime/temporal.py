"""The connection to Temporal: one plugin gives client, worker and replayer the same ways."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import temporalio.api.workflowservice.v1 as service
from google.protobuf.duration_pb2 import Duration
from pydantic import BaseModel
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, WorkerDeploymentVersion
from temporalio.contrib.pydantic import PydanticPayloadConverter, pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.plugin import SimplePlugin
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Interceptor

from contracts import names
from runtime import sandbox, settings
from runtime.failures import FailureMapping
from runtime.settings import Settings

# The dev server keeps closed workflows for a day by default; the ledger is the record, this is for looking.
RETENTION = timedelta(days=30)
SERVICE = SearchAttributeKey.for_keyword("StanchService")
ENVIRONMENT = SearchAttributeKey.for_keyword("StanchEnvironment")
SEVERITY = SearchAttributeKey.for_keyword("StanchSeverity")


class _Typed(PydanticPayloadConverter):
    """Gives what is expected or nothing: only JSON is read by its type, a null or bytes come as they are."""

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[Any] | None = None) -> list[Any]:
        """Decode; raises ``TypeError`` for anything else in the place of a model."""
        values = super().from_payloads(payloads, type_hints)
        for value, wanted in zip(values, type_hints or (), strict=False):
            if isinstance(wanted, type) and issubclass(wanted, BaseModel) and not isinstance(value, wanted):
                raise TypeError(f"a {wanted.__name__} is expected, not a {type(value).__name__}")
        return values


def plugins() -> Sequence[SimplePlugin]:
    """Give what every client, worker and replayer of ours is made with."""
    interceptors: list[Interceptor] = [FailureMapping()]
    more: list[SimplePlugin] = []
    if settings.exports_traces() or settings.exports_metrics():
        from runtime import otlp  # noqa: PLC0415  (0.2 s and 15 MB that only those pay who export)

        interceptors += [otlp.Measuring()] if settings.exports_metrics() else []
        more += [otlp.tracing_plugin()] if settings.exports_traces() else []
    ours = SimplePlugin(
        "stanch",
        data_converter=replace(pydantic_data_converter, payload_converter_class=_Typed),
        interceptors=interceptors,
        workflow_runner=sandbox.runner(),
    )
    return [ours, *more]


async def connect(config: Settings, *, lazy: bool = False, metrics_port: int = 0) -> Client:
    """Connect to the cluster that the settings, or Temporal's own client configuration, name.

    Args:
        config: Where it is.
        lazy: Connect on the first call, so that a process starts while the engine is down.
        metrics_port: Serve the SDK's metrics on this loopback port; 0 serves none.

    Raises:
        RuntimeError: The cluster does not answer.
    """
    arguments = ClientConfig.load_client_connect_config()
    if config.temporal_address:
        arguments["target_host"] = config.temporal_address
        arguments["namespace"] = config.temporal_namespace
    arguments.setdefault("target_host", "127.0.0.1:7233")
    return await Client.connect(**arguments, plugins=plugins(), lazy=lazy, runtime=_runtime(metrics_port))


@functools.cache
def _runtime(metrics_port: int) -> Runtime:
    """Give the SDK's runtime, one per process: each has a thread pool of its own.

    It sends no worker heartbeats: with them, stopping a worker hung in SDK 1.35 about one time in four.
    """
    metrics = PrometheusConfig(bind_address=f"127.0.0.1:{metrics_port}") if metrics_port else None
    return Runtime(telemetry=TelemetryConfig(metrics=metrics), worker_heartbeat_interval=None)


def version(config: Settings) -> WorkerDeploymentVersion:
    """Give the version that this worker polls for."""
    return WorkerDeploymentVersion(deployment_name=names.DEPLOYMENT, build_id=config.build_id or "0.1.0")


async def prepare(client: Client, config: Settings) -> None:
    """Make a namespace ready: search attributes, retention, and this worker's version current.

    Without a current version nothing makes progress, silently: so the embedded engine is always prepared.
    On a cluster of your own an operator does this (docs/how-to/run-with-a-temporal-cluster.md).
    """
    operator, workflows = client.operator_service, client.workflow_service
    known = await operator.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
    missing = [name for name in names.SEARCH_ATTRIBUTES if name not in known.custom_attributes]
    if missing:
        keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
        await operator.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=client.namespace, search_attributes=dict.fromkeys(missing, keyword)
            )
        )
    update = service.UpdateNamespaceRequest(namespace=client.namespace)
    update.config.workflow_execution_retention_ttl.CopyFrom(Duration(seconds=int(RETENTION.total_seconds())))
    await workflows.update_namespace(update)
    current = version(config)
    try:
        await workflows.set_worker_deployment_current_version(
            service.SetWorkerDeploymentCurrentVersionRequest(
                namespace=client.namespace,
                deployment_name=current.deployment_name,
                build_id=current.build_id,
                ignore_missing_task_queues=True,
                allow_no_pollers=True,
            )
        )
    except RPCError as error:
        # It is the current one already.
        if error.status is not RPCStatusCode.FAILED_PRECONDITION:
            raise
