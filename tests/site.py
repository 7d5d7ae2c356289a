"""A whole product in one process for tests: real engine, ledger, worker and dispatcher; fake providers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

import worker
from activities.launchdarkly.fake import FakeLaunchDarkly
from activities.prometheus.fake import FakePrometheus
from authority.decisions import Signer, Verifier
from contracts.approvals import Approval, ApprovalState, SignedDecision, Verdict
from contracts.catalogue import (
    Catalogue,
    Flag,
    GuardrailLimits,
    LaunchDarklyProject,
    Person,
    Prometheus,
    Service,
    ServiceEnvironment,
    Signal,
)
from contracts.errors import NotFoundError
from contracts.evidence import EvidenceKind
from contracts.incidents import Alert, AlertStatus, Incident, Phase, Role, Severity
from contracts.messages import Command, CommandKind
from gateway import serve
from gateway.dispatcher import Dispatcher
from ledger import Answer, Ledger, audit
from runtime import engine, settings, temporal
from runtime.clock import utc_now
from runtime.policy import load_policy
from runtime.settings import Settings

ResultT = TypeVar("ResultT")

TOKEN = "api-token"  # noqa: S105  (the fake's)
QUICK = {"every": timedelta(milliseconds=100), "hold": timedelta(milliseconds=300)}


async def until(look: Callable[[], ResultT | None], *, within: float = 20.0, what: str = "") -> ResultT:
    """Wait until ``look`` gives something."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        seen = await asyncio.to_thread(look)
        if seen:
            return seen
        assert asyncio.get_running_loop().time() < deadline, (
            f"did not happen within {within} s: {what or look}"
        )
        await asyncio.sleep(0.03)


@dataclass
class Site:
    """One running product, and what a test does to it."""

    config: Settings
    ledger: Ledger
    client: Client
    catalogue: Catalogue
    signer: Signer
    dispatcher: Dispatcher
    flags: FakeLaunchDarkly
    metrics: FakePrometheus
    stack: AsyncExitStack = field(repr=False)

    def break_service(self, service: str, ratio: float = 0.4) -> None:
        """Let a service's error rate be this."""
        self.metrics.set(query(service), ({}, str(ratio)))

    def firing(
        self,
        service: str,
        *,
        status: AlertStatus = AlertStatus.FIRING,
        fingerprint: str = "f",
        source: str = "test",
    ) -> Alert:
        """Give an alert for a service."""
        return Alert(
            source=source,
            fingerprint=f"{service}-{fingerprint}",
            starts_at=datetime(2026, 11, 21, 14, 32, tzinfo=UTC),
            status=status,
            name="HighErrorRate",
            service=service,
            severity=Severity.SEV2,
            signal="error_rate",
            summary=f"40% of {service} requests fail",
        )

    def alert(
        self,
        service: str,
        *,
        status: AlertStatus = AlertStatus.FIRING,
        fingerprint: str = "f",
        source: str = "test",
    ) -> None:
        """Deliver one alert for a service, as intake does."""
        alert = self.firing(service, status=status, fingerprint=fingerprint, source=source)
        self.ledger.inbox.accept(source, b"{}", [alert], trace={})
        self.dispatcher.wake()

    async def incident(self, service: str) -> Incident:
        """Wait for a service's incident."""

        def look() -> Incident | None:
            found = [one for one in self.ledger.incidents.list() if one.service == service]
            return found[0] if found else None

        return await until(look, what=f"an incident of {service}")

    async def command(self, service: str, person: str = "ada") -> Incident:
        """Wait for a service's incident and take command of it."""
        incident = await self.incident(service)
        return self.ledger.incidents.assign(incident.id, Role.INCIDENT_COMMANDER, person, by=person)

    async def asked(self, incident: str, number: int = 1) -> Approval:
        """Wait for the question about an incident's n-th plan."""

        def look() -> Approval | None:
            return self.ledger.approvals.for_mitigation(f"{incident}/{number}")

        return await until(look, what=f"the plan {incident}/{number}")

    def decide(
        self, approval: Approval, verdict: Verdict = Verdict.APPROVE, *, person: str = "ada", reason: str = ""
    ) -> SignedDecision:
        """Decide as the gateway does."""
        signed = self.ledger.approvals.decide(
            approval.request.id,
            Answer(
                verdict=verdict,
                plan_digest=approval.request.plan_digest,
                person=person,
                authenticated_by="local",
                reason=reason,
            ),
            policy=load_policy(self.config),
            signer=self.signer,
            trace={},
        )
        self.dispatcher.wake()
        return signed

    def order(self, incident: str, kind: str, person: str = "ada", playbook: str = "", **params: str) -> None:
        """Give an order as the gateway does."""
        command = Command(
            id=f"{incident}/{kind}/{utc_now()}",
            kind=CommandKind(kind),
            person=person,
            reason="told",
            playbook=playbook,
            params=dict(params),
        )
        self.ledger.incidents.command(incident, command, trace={})
        self.dispatcher.wake()

    async def phase(self, incident: str, phase: Phase, *, within: float = 20.0) -> Incident:
        """Wait until an incident is in a phase."""

        def look() -> Incident | None:
            seen = self.ledger.incidents.get(incident)
            return seen if seen.phase is phase else None

        try:
            return await until(look, within=within, what=f"{incident} {phase}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.ledger.incidents.get(incident)}") from error

    async def attention(self, incident: str) -> str:
        """Wait until a person is asked for."""
        return await until(
            lambda: self.ledger.incidents.get(incident).attention, what=f"{incident} attention"
        )

    async def closed(self, approval: str) -> ApprovalState:
        """Wait until a request is no longer pending."""

        def look() -> ApprovalState | None:
            state = self.ledger.approvals.get(approval).request.state
            return None if state is ApprovalState.PENDING else state

        return await until(look, what=f"{approval} closed")

    def kinds(self, incident: str) -> list[EvidenceKind]:
        """Give the kinds of an incident's evidence, in order."""
        return [entry.kind for entry in self.ledger.evidence.entries(incident=incident)]

    def changes(self, key: str) -> int:
        """Count how many changes of a flag arrived at LaunchDarkly: its own log is the witness."""
        return len(
            [seen for seen in self.flags.arrived("PATCH") if seen.path.split("?")[0].endswith(f"/{key}")]
        )

    def check_audit(self) -> None:
        """Check that the evidence log is whole and every decision in it verifies."""
        report = audit.verify(self.ledger, Verifier(settings.public_keys(self.config)))
        assert report.problems == ()

    def postmortem(self, incident: str) -> str | None:
        """Give the postmortem, if there is one yet."""
        try:
            return self.ledger.postmortems.get(incident)
        except NotFoundError:
            return None


def query(service: str) -> str:
    """Give the query of a service's error rate."""
    return f'error_rate{{service="{service}"}}'


def catalogue(
    flags: FakeLaunchDarkly, metrics: FakePrometheus, approval: timedelta, services: int
) -> Catalogue:
    """Give a catalogue of small services, each with two flags of its own."""
    return Catalogue(
        people=(Person(id="ada", name="Ada"), Person(id="grace", name="Grace")),
        launchdarkly=(LaunchDarklyProject(project="web", api=flags.url),),
        prometheus=(Prometheus(name="main", url=metrics.url),),
        monitoring=timedelta(milliseconds=500),
        approval=approval,
        # Its incidents are not one after the other: one playbook fails in many of them on purpose.
        guardrails=GuardrailLimits(ineffective_in_a_row=1_000),
        services=tuple(
            Service(
                name=f"s{number}",
                on_call=("ada", "grace"),
                environments={
                    "production": ServiceEnvironment(
                        flags=(
                            Flag(project="web", environment="production", key=f"s{number}-old"),
                            Flag(project="web", environment="production", key=f"s{number}-new"),
                        ),
                        signals={
                            "error_rate": Signal(
                                prometheus="main",
                                query=query(f"s{number}"),
                                healthy_below=0.05,
                                within=timedelta(seconds=1),
                                **QUICK,
                            )
                        },
                    )
                },
            )
            for number in range(services)
        ),
    )


@asynccontextmanager
async def site(
    home: Path,
    *,
    approval: timedelta = timedelta(minutes=15),
    services: int = 20,
    more: Callable[[Catalogue], Catalogue] = lambda book: book,
    secret: Callable[[str], str] = lambda _: TOKEN,
) -> AsyncIterator[Site]:
    """Run a product until the block ends; ``more`` adds to its catalogue."""
    async with AsyncExitStack() as stack:
        config = Settings(home=home)
        environment = await stack.enter_async_context(
            await WorkflowEnvironment.start_local(
                dev_server_existing_path=engine.find_binary(config),
                dev_server_extra_args=[
                    part
                    for key, value in engine.DYNAMIC_CONFIG.items()
                    for part in ("--dynamic-config-value", f"{key}={value}")
                ],
                ui=False,
            )
        )
        address = environment.client.service_client.config.target_host
        config = config.model_copy(update={"temporal_address": address})
        client = await temporal.connect(config)
        await temporal.prepare(client, config)
        signer = Signer(settings.signing_key(config))
        flags = stack.enter_context(FakeLaunchDarkly(utc_now))
        metrics = stack.enter_context(FakePrometheus(utc_now))
        book = more(catalogue(flags, metrics, approval, services))
        for service in book.services:
            for flag in service.environments["production"].flags:
                flags.add_flag(flag.project, flag.environment, flag.key)
            metrics.set(query(service.name), ({}, "0.4"))
        ledger = Ledger.open(config.ledger_url, clock=utc_now)
        ledger.migrate()
        stack.callback(ledger.close)
        verbs = worker.registry(book, secret=secret)
        await stack.enter_async_context(worker.build(config, client, ledger, book, verbs))
        dispatcher = serve.dispatcher(config, ledger=ledger, client=client, catalogue=book, signer=signer)
        delivering = asyncio.create_task(dispatcher.run())

        async def end() -> None:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)

        stack.push_async_callback(end)
        yield Site(config, ledger, client, book, signer, dispatcher, flags, metrics, stack)
