"""Every action meets every answer of its provider and every way to be repeated, through the engine's step.

A cell is one approved plan of one step: sealed, signed, and run by the activity with its journal, in a world
whose provider gives one answer. The claimed end is held against the provider's own log.
``make campaign`` runs all cells, prints the table, and fails when a cell is untrue or missing.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from temporalio.testing import ActivityEnvironment

import worker
from activities.aws.client import AwsClient
from activities.aws.fake import FakeAws
from activities.aws.fake import Fault as CloudFault
from activities.http import CallHook
from activities.http.fake import FakeEndpoint, HookFault
from activities.k8s.fake import Fault as ClusterFault
from activities.launchdarkly import SetFlag, SetFlagAction
from activities.launchdarkly.fake import FakeLaunchDarkly
from activities.launchdarkly.fake import Fault as FlagFault
from activities.registry import Registry
from activities.steps import Steps
from authority.decisions import Signer, Verifier
from authority.policy import Policy
from authority.seals import digest
from contracts.approvals import Verdict
from contracts.catalogue import Catalogue, Service, ServiceEnvironment
from contracts.errors import ProviderUnavailableError
from contracts.incidents import Effect, Role, Severity
from contracts.messages import StepOrder
from contracts.outcomes import Direction, Outcome, StepResult
from contracts.plans import Observation, Plan, Step, Target
from ledger import Answer, Ledger
from runtime.clock import utc_now
from tests.activities.aws import test_faults as aws_faults
from tests.activities.aws.conftest import ENDPOINTS, Sdk, World, accounts_at, moto_server
from tests.activities.http import test_hook_faults as hook_faults
from tests.activities.http.conftest import AFTER, BEFORE
from tests.activities.k8s import test_faults as cluster_faults
from tests.activities.k8s.conftest import clusters, fake_place, hurried
from tests.activities.launchdarkly import test_actions as flag_faults
from tests.activities.launchdarkly.conftest import client_at

ANSWERS = {
    "ok": "the change is made and said to be made",
    "no-op": "it was so already",
    "4xx": "400, nothing is changed",
    "403": "not allowed, nothing is changed",
    "409": "somebody else was there, nothing is changed",
    "429": "too many requests, nothing is changed",
    "5xx before": "a server error, and nothing is changed",
    "5xx after": "a server error, although the change is made",
    "timeout before": "no answer, and nothing is changed",
    "timeout after": "no answer, although the change is made",
    "partial": "a part of the change is made; of one without parts, the answer cannot be read",
    "stale read": "the change is made, its answer is lost, and the next reads show what was before",
    "cut before": "the connection breaks, and nothing is changed",
    "cut after": "the connection breaks, although the change is made",
}
PATIENCE = 0.6  # seconds for which a change waits for an answer that is not to come
SLOW = 20.0  # seconds for which it waits otherwise: a busy machine is not a fault
# How long a call can be on its way, in seconds: longer than its patience, and longer than reads are stale.
IN_FLIGHT = {"timeout before": 1.5, "timeout after": 3.0, "stale read": 4.0}
SOON = 0.2
STALE_LOOKS = 1
RUNS = 8
PROCESSES_PER_CORE = 4
KEYS, POLICY = Ed25519PrivateKey.generate(), Policy()
DONE, NOT_DONE, IN_DOUBT = Outcome.DONE, Outcome.NOT_DONE, Outcome.IN_DOUBT
WORDS = {DONE: "done", NOT_DONE: "not done", IN_DOUBT: "in doubt", None: "no end"}


class Retry(StrEnum):
    """How the activity is run a second time."""

    AGAIN = "run again"
    LOST_BEFORE = "lost before the call"
    LOST_AFTER = "lost after the call"


RETRIES = {
    Retry.AGAIN: "it ended, and its end was not heard: the activity runs again",
    Retry.LOST_BEFORE: "the worker dies between its intent and the call; a new one meets the answer",
    Retry.LOST_AFTER: "the worker dies once the answer is there, before it is kept; a new one takes over",
}


@dataclass(frozen=True)
class Met:
    """One action with something to do, at a provider that gives one answer to it.

    Attributes:
        action: Gives the action as a new worker has it.
        begin: Plans the answer.
        spoil: Makes the next looks stale.
        log: Counts, by the provider's log, the calls that arrived and those of them that changed something.
        is_done: Whether it is so, seen past the answer.
    """

    action: Callable[[], Any]
    request: Any
    begin: Callable[[], object]
    spoil: Callable[[], object]
    log: Callable[[], tuple[int, int]]
    is_done: Callable[[], bool]


Meet = Callable[[str], AbstractContextManager[Met]]


@dataclass(frozen=True)
class Row:
    """One kind of change.

    Attributes:
        action: The action's name.
        case: What it is done to.
        open: Opens the provider, given the URL of a moto server and a folder.
        ends: How each answer ends by the provider's own table.
        blind: Nobody can look at the target.
    """

    action: str
    case: str
    open: Callable[[str, Path], AbstractContextManager[Meet]]
    ends: Callable[[str], Outcome]
    blind: bool = False


@dataclass(frozen=True)
class Cell:
    """What came of one answer.

    Attributes:
        outcome: What was claimed; empty when it never ended.
        calls: How many calls arrived.
        changes: How many of them changed something.
        runs: How often the activity ran, up to the first that ended.
        wrong: Why the claim is not true; empty when it is.
    """

    action: str
    case: str
    retry: str
    answer: str
    outcome: str = ""
    calls: int = 0
    changes: int = 0
    runs: int = 0
    wrong: str = ""


# The providers.


def _long(answer: str) -> str:
    return answer.replace("cut", "connection cut")


def _of_cloud(made: Callable[[World], aws_faults.Case], answer: str) -> aws_faults.Ends:
    if answer == "partial" and made not in aws_faults.WITH_PARTS:
        return aws_faults.ENDS["unreadable answer after"]
    return aws_faults.ENDS[_long(answer)]


def _of_team(answer: str) -> str:
    return "connection cut after" if answer == "stale read" else _long(answer)


@contextmanager
def cluster(kind: str, moto: str, folder: Path) -> Iterator[Meet]:
    """Open clusters, one for each answer."""
    del moto

    @contextmanager
    def meet(answer: str) -> Iterator[Met]:
        ends = cluster_faults.ENDS[_long(answer)]
        with ExitStack() as stack, tempfile.TemporaryDirectory(dir=folder) as home:
            fake = stack.enter_context(hurried())
            shop = fake_place(fake, Path(home), stack)
            request = shop.asked(kind)
            action = shop.action(request)
            before = shop.touched(request)
            if answer == "no-op":
                shop.run(request)
            start = len(fake.requests)
            action.observe(request)
            reads = len(fake.requests) - start
            silent = {one.fault for one in ends.faults} & cluster_faults.SILENT
            waits = {"connect_timeout": SLOW, "read_timeout": PATIENCE if silent else SLOW}

            def begin() -> None:
                for planned in ends.faults:
                    if planned.fault is not ClusterFault.STALE:
                        fake.fail(**vars(replace(planned, retry_after=0)))

            def log() -> tuple[int, int]:
                ours = [one for one in fake.requests[start:] if one["method"] == "PATCH"]
                return len(ours), sum(one["applied"] for one in ours)

            yield Met(
                action=lambda: shop.action(
                    request, clusters(fake.kubeconfig(Path(home) / "ours-too"), stack, **waits)
                ),
                request=request,
                begin=begin,
                spoil=lambda: fake.fail(ClusterFault.STALE, method="GET", times=STALE_LOOKS * reads),
                log=log,
                is_done=lambda: answer == "no-op" or shop.touched(request) != before,
            )

    yield meet


@contextmanager
def cloud(made: Callable[[World], aws_faults.Case], moto: str, folder: Path) -> Iterator[Meet]:
    """Open AWS: our fake of a part of it, and a proxy before a moto server for the rest."""
    with ExitStack() as stack:
        fake = stack.enter_context(FakeAws(utc_now, upstream=moto, hold=PATIENCE + 0.2))
        accounts = accounts_at(fake, folder)
        waits = {False: SLOW, True: PATIENCE}
        clients = {
            silent: stack.enter_context(closing(AwsClient(accounts, clock=utc_now, read_timeout=seconds)))
            for silent, seconds in waits.items()
        }
        sdk = stack.enter_context(closing(Sdk(moto)))

        @contextmanager
        def meet(answer: str) -> Iterator[Met]:
            ends = _of_cloud(made, answer)
            fake.reset()
            for region in ENDPOINTS:
                fake.open_endpoint(region)
            case = made(World(fake, sdk, time.time_ns()))
            action = case.action(clients[False])
            if ends.done:
                aws_faults.carry_out(action, case.request)
            start = len(fake.arrived(case.operation))
            action.observe(case.request)  # what a stale read shows
            fake.partial = case.part or fake.partial
            fault = ends.fault

            def log() -> tuple[int, int]:
                ours = fake.arrived(case.operation)[start:]
                return len(ours), sum(one.changed for one in ours)

            silent = fault in {CloudFault.TIMEOUT_BEFORE, CloudFault.TIMEOUT_AFTER}
            yield Met(
                action=lambda: case.action(clients[silent]),
                request=case.request,
                begin=lambda: fake.fail(fault, case.operation) if fault else None,
                spoil=lambda: fake.fail(CloudFault.STALE_READ, case.read, times=STALE_LOOKS),
                log=log,
                is_done=case.is_done,
            )

        yield meet


@contextmanager
def team(kind: str, moto: str, folder: Path) -> Iterator[Meet]:
    """Open a team's remediation endpoint of this kind."""
    del moto, folder

    @contextmanager
    def meet(answer: str) -> Iterator[Met]:
        fault = hook_faults.FAULTS[_of_team(answer)][0]
        silent = fault in {HookFault.TIMEOUT_BEFORE, HookFault.TIMEOUT_AFTER}
        patience = PATIENCE if silent else SLOW
        with FakeEndpoint(AFTER if answer == "no-op" else BEFORE) as endpoint:

            def log() -> tuple[int, int]:
                return len(endpoint.orders()), sum(one.changed for one in endpoint.orders())

            yield Met(
                action=lambda: hook_faults.action_for(endpoint, kind, patience=patience),
                request=CallHook(hook="shed-load", desired=AFTER),
                begin=lambda: endpoint.fail(fault) if fault else None,
                spoil=lambda: endpoint.fail(HookFault.STALE_READ, times=STALE_LOOKS),
                log=log,
                is_done=lambda: endpoint.state == AFTER,
            )

    yield meet


FLAG_FAULTS = {
    "4xx": FlagFault.BAD_REQUEST,
    "403": FlagFault.FORBIDDEN,
    "409": FlagFault.CONFLICT,
    "429": FlagFault.THROTTLED,
    "5xx before": FlagFault.ERROR_BEFORE,
    "5xx after": FlagFault.ERROR_AFTER,
    "timeout before": FlagFault.TIMEOUT_BEFORE,
    "timeout after": FlagFault.TIMEOUT_AFTER,
    "partial": FlagFault.NONSENSE,
    "stale read": FlagFault.CUT_AFTER,
    "cut before": FlagFault.CUT_BEFORE,
    "cut after": FlagFault.CUT_AFTER,
}
FLAG_ENDS = {case.fault: NOT_DONE if case.end == "refused" else DONE for case in flag_faults.CASES}


@contextmanager
def flags(to: str, moto: str, folder: Path) -> Iterator[Meet]:
    """Open a LaunchDarkly with a flag to be turned ``on`` or ``off``."""
    del moto, folder
    project, environment, key = flag_faults.PLACE
    request = SetFlag(project=project, environment=environment, key=key, on=to == "on")

    @contextmanager
    def meet(answer: str) -> Iterator[Met]:
        fault = FLAG_FAULTS.get(answer)
        silent = fault in {FlagFault.TIMEOUT_BEFORE, FlagFault.TIMEOUT_AFTER}
        with ExitStack() as stack, FakeLaunchDarkly(utc_now, hold=PATIENCE + 0.2) as fake:
            fake.add_flag(*flag_faults.PLACE)
            fake.throttle_headers = {"Retry-After": "0"}
            now_on = request.on if answer == "no-op" else not request.on
            fake.turn(*flag_faults.PLACE, on=now_on)

            def act() -> SetFlagAction:
                client = client_at(fake.url, utc_now, patience=PATIENCE if silent else SLOW)
                return SetFlagAction(stack.enter_context(closing(client)))

            def log() -> tuple[int, int]:
                return len(fake.arrived("PATCH")), sum(one.changed for one in fake.requests)

            yield Met(
                action=act,
                request=request,
                begin=lambda: fake.fail(fault, method="PATCH") if fault else None,
                spoil=lambda: fake.fail(
                    FlagFault.STALE_READ, method="GET", path=f"/flags/{project}/{key}", times=STALE_LOOKS
                ),
                log=log,
                is_done=lambda: fake.config(*flag_faults.PLACE)["on"] is request.on,
            )

    yield meet


def _cluster(action: str, case: str, kind: str) -> Row:
    return Row(
        action, case, partial(cluster, kind), lambda answer: cluster_faults.ENDS[_long(answer)].outcome
    )


def _cloud(action: str, case: str, made: Callable[[World], aws_faults.Case]) -> Row:
    return Row(action, case, partial(cloud, made), lambda answer: _of_cloud(made, answer).outcome)


def _team(kind: str, index: int) -> Row:
    def ends(answer: str) -> Outcome:
        return hook_faults.FAULTS[_of_team(answer)][1][index][0]

    return Row("http.call_hook", kind, partial(team, kind), ends, blind=kind == hook_faults.SILENT)


def _flag(to: str) -> Row:
    def ends(answer: str) -> Outcome:
        return FLAG_ENDS[FLAG_FAULTS[answer]] if answer in FLAG_FAULTS else DONE

    return Row("launchdarkly.set_flag", to, partial(flags, to), ends)


ROWS = (
    _cloud("aws.execute_region_switch", "plan", aws_faults.region_switch),
    _cloud("aws.execute_region_switch", "mode in flight", aws_faults.harder),
    _cloud("aws.roll_back_service", "ECS service", aws_faults.revision),
    _cloud("aws.set_desired_capacity", "desired", aws_faults.capacity),
    _cloud("aws.set_desired_capacity", "desired and limits", aws_faults.capacity_and_limits),
    _cloud("aws.set_record_weights", "two records", aws_faults.weights),
    _cloud("aws.set_routing_controls", "two controls", aws_faults.routing),
    _cloud("aws.set_scalable_target", "ECS service", aws_faults.limits),
    _cloud("aws.set_service_count", "ECS service", aws_faults.count),
    _cloud("aws.switch_global_cluster", "graceful", aws_faults.switchover),
    _cloud("aws.switch_global_cluster", "ungraceful", aws_faults.failover),
    *(_team(kind, index) for index, kind in enumerate(hook_faults.KINDS)),
    _cluster("k8s.restart_deployment", "deployment", "restart"),
    _cluster("k8s.roll_back_deployment", "deployment", "roll_back"),
    _cluster("k8s.roll_back_deployment", "stateful set", "roll_back_stateful_set"),
    _cluster("k8s.roll_back_deployment", "daemon set", "roll_back_daemon_set"),
    _cluster("k8s.scale_deployment", "deployment", "scale"),
    _cluster("k8s.set_autoscaler_limits", "autoscaler", "limits"),
    _cluster("k8s.set_sync", "pause Argo CD", "pause_application"),
    _cluster("k8s.set_sync", "resume Argo CD", "resume_application"),
    _cluster("k8s.set_sync", "pause Flux", "pause_kustomization"),
    _flag("off"),
    _flag("on"),
)
_BLIND = "nobody can look, so that no read can be stale"
# Combinations that there are none of, and why.
NONE = {
    ("http.call_hook", hook_faults.SILENT, "stale read"): _BLIND,
    ("http.call_hook", hook_faults.KEEPS_KEYS, "stale read"): _BLIND,
}
# Ends of two changes that are one all the same, and why.
IN_TWO = {
    (
        "http.call_hook",
        hook_faults.KEEPS_KEYS,
        "partial",
    ): "the repetition under the same key makes the part that was missing"
}


# The engine.


class LostError(BaseException):
    """The worker dies here: nothing of it may catch this."""


class Fickle:
    """An action whose worker may die around the first call, and whose reads are stale after it.

    Args:
        met: Whose action it is.
        dies: When the worker dies; ``AGAIN``: it does not.
        stale: Whether the reads after the call are stale.
    """

    def __init__(self, met: Met, *, dies: Retry, stale: bool, in_flight: float) -> None:
        self.dies, self.stale, self.met = dies, stale, met
        self.in_flight = timedelta(seconds=in_flight)
        self.action = met.action()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.action, name)

    def apply(self, request: Any, observed: Observation, *, action_id: str) -> None:
        """Send the change; or die before it, or die after it."""
        self._die(Retry.LOST_BEFORE)
        try:
            self.action.apply(request, observed, action_id=action_id)
        finally:
            if self.stale:
                self.stale = False
                self.met.spoil()
            self._die(Retry.LOST_AFTER)

    def _die(self, when: Retry) -> None:
        if self.dies is when:
            self.dies = Retry.AGAIN
            self.action = self.met.action()  # the next worker's
            raise LostError


class Anything(Catalogue):
    """A catalogue that gives its service every target: whose they are is tested elsewhere."""

    def owns(self, service: str, environment: str, target: Target) -> bool:
        """Say yes to whatever it is."""
        return bool((service, environment, target))


CATALOGUE = Anything(services=(Service(name="shop", environments={"production": ServiceEnvironment()}),))


class Approved:
    """One plan of one step, approved."""

    def __init__(self, ledger: Ledger, action: Any, request: Any) -> None:
        self.ledger, self.action = ledger, action
        declared = {"title": "t", "service": "shop", "environment": "production", "person": "grace"}
        incident = ledger.incidents.declare(**declared, severity=Severity.SEV2, trace={})
        ledger.incidents.assign(incident.id, Role.INCIDENT_COMMANDER, "ada", by="ada")
        self.plan = _plan(incident.id, action, request)
        asked = ledger.approvals.ask(self.plan, severity=Severity.SEV2)
        self.signed = ledger.approvals.decide(
            asked.id,
            Answer(
                verdict=Verdict.APPROVE,
                plan_digest=asked.plan_digest,
                person="ada",
                authenticated_by="local",
                reason="",
            ),
            policy=POLICY,
            signer=Signer(KEYS),
            trace={},
        )

    def run(self) -> StepResult:
        """Run the activity once, as a new worker does."""
        steps = Steps(
            ledger=self.ledger,
            catalogue=CATALOGUE,
            registry=Registry([self.action], []),
            verifier=Verifier([KEYS.public_key()]),
            clock=utc_now,
        )
        order = StepOrder(
            incident=self.plan.incident,
            mitigation=self.plan.mitigation,
            step=1,
            direction=Direction.APPLY,
            plan_digest=digest(self.plan),
            signed=self.signed,
        )
        result: StepResult = ActivityEnvironment().run(steps.run_step, order)
        return result

    def end(self) -> tuple[StepResult | None, int]:
        """Run it as the engine does, again until it ends; give the result and how many runs there were."""
        for runs in range(1, RUNS + 1):
            try:
                return self.run(), runs
            except (LostError, ProviderUnavailableError):
                continue
        return None, RUNS


def _seen(action: Any, request: Any) -> Observation:
    """Look as planning does, which is done again: on a busy machine one look may outlast its patience."""
    for _ in range(RUNS):
        try:
            return action.observe(request)  # type: ignore[no-any-return]  # of whichever provider
        except ProviderUnavailableError:
            continue
    return action.observe(request)  # type: ignore[no-any-return]  # the same


def _plan(incident: str, action: Any, request: Any) -> Plan:
    observed = _seen(action, request)
    undo, note = action.undo(request, observed)
    now = utc_now()
    step = Step(
        number=1,
        title="Mitigate",
        action=request.call(),
        observed=observed,
        change=action.change(request, observed),
        undo=undo.call() if undo else None,
        undo_note=note,
        risk=action.risk,
        blast_radius=action.blast_radius(request, observed),
        idempotent=action.idempotent,
    )
    return Plan(
        incident=incident,
        mitigation=f"{incident}/1",
        service="shop",
        environment="production",
        playbook="campaign",
        playbook_digest="0" * 64,
        policy_digest=POLICY.digest,
        title="Mitigate",
        rationale="It helps.",
        steps=(step,),
        undo_when=(Effect.WORSE,),
        sealed_at=now,
        expires_at=now + timedelta(minutes=10),
    )


# The campaign.


def expected(row: Row, retry: Retry, answer: str) -> Outcome:
    """Say how it has to end: as the provider's own table says, unless the worker was lost with the answer."""
    if row.blind and retry is not Retry.AGAIN:
        return IN_DOUBT
    end = row.ends(answer)
    if retry is Retry.LOST_AFTER and end is NOT_DONE:
        return DONE  # the answer that said no was lost, and so the call is made once more
    return end


def untruth(cell: Cell, *, is_done: bool) -> str:
    """Hold a claim against the provider's log: say what is not true about it."""
    if cell.changes > 1 and (cell.action, cell.case, cell.answer) not in IN_TWO:
        return f"the log shows {cell.changes} changes"
    if cell.outcome == DONE and not is_done:
        return "it says done, and it is not so"
    if cell.outcome == DONE and not cell.changes and cell.answer != "no-op":
        return "it says done, and the log shows no change"
    if cell.outcome == NOT_DONE and (cell.changes or is_done):
        return "it says not done, and the log shows a change"
    return ""


def try_cell(row: Row, retry: Retry, answer: str, met: Met, ledger: Ledger) -> Cell:
    """Run one approved step that meets one answer, and judge what it claims."""
    cell = Cell(row.action, row.case, retry.value, answer)
    if met.request.action != row.action:
        return replace(cell, wrong=f"the row is {met.request.action}'s")
    flight = IN_FLIGHT.get(answer, SOON)
    action = Fickle(met, dies=retry, stale=answer == "stale read", in_flight=flight)
    approved = Approved(ledger, action, met.request)
    met.begin()
    result, runs = approved.end()
    calls, changes = met.log()
    cell = replace(cell, calls=calls, changes=changes, runs=runs)
    if result is None:
        return replace(cell, wrong=f"it has not ended after {RUNS} runs")
    cell = replace(cell, outcome=result.outcome.value)
    wrong = untruth(cell, is_done=met.is_done())
    end = expected(row, retry, answer)
    if not wrong and result.outcome is not end:
        wrong = f"it should end in {WORDS[end]}: {result.detail or 'no detail'}"
    if not wrong and (approved.run(), met.log()) != (result, (calls, changes)):
        wrong = "one more run gives something else, or calls once more"
    return replace(cell, wrong=wrong)


def try_row(row: Row, retry: Retry, moto: str, *, answers: Sequence[str] = (*ANSWERS,)) -> list[Cell]:
    """Try each answer on one row."""
    cells = []
    with tempfile.TemporaryDirectory() as name, row.open(moto, Path(name)) as meet:
        empty = Path(name) / "empty.db"
        with closing(Ledger.open(f"sqlite:///{empty}", clock=utc_now)) as ledger:
            ledger.migrate()
        for number, answer in enumerate(answers):
            if (row.action, row.case, answer) in NONE:
                continue
            copy = shutil.copy(empty, Path(name) / f"{number}.db")
            with closing(Ledger.open(f"sqlite:///{copy}", clock=utc_now)) as ledger, meet(answer) as met:
                cells.append(try_cell(row, retry, answer, met, ledger))
    return cells


def _try(number: int, retry: Retry, moto: str) -> list[Cell]:
    return try_row(ROWS[number], retry, moto)


def missing(cells: Sequence[Cell], rows: Sequence[Row]) -> list[str]:
    """Name what has not been tried: an action of the worker, or a combination without a stated reason."""
    there = {(cell.action, cell.case, cell.retry, cell.answer) for cell in cells}
    named = {row.action for row in rows}
    registry = worker.registry(Catalogue(), secret=lambda name: name)
    return [f"{name}: no row" for name in sorted(registry.actions.keys() - named)] + [
        f"{row.action} ({row.case}), {retry.value}, {answer}: not tried"
        for row in rows
        for retry in Retry
        for answer in ANSWERS
        if (row.action, row.case, answer) not in NONE
        and (row.action, row.case, retry.value, answer) not in there
    ]


def table(cells: Sequence[Cell], rows: Sequence[Row]) -> list[str]:
    """Give the table: rows are changes and ways to be repeated, columns are answers."""
    width = 12
    heads = [answer.rpartition(" ")[::2] for answer in ANSWERS]
    label = max(len(f"  {row.case}  {retry}") for row in rows for retry in Retry) + 2
    lines = [" " * label + "".join(f"{words[line]:<{width}}" for words in heads).rstrip() for line in (0, 1)]
    found = {(cell.action, cell.case, cell.retry, cell.answer): cell for cell in cells}
    former = ""
    for row in rows:
        lines += [row.action] if row.action != former else []
        former = row.action
        for retry in Retry:
            case = row.case if retry is Retry.AGAIN else ""
            start = f"  {case:<{label - 4 - len(Retry.LOST_BEFORE)}}{retry.value}".ljust(label)
            words = [_word(found.get((row.action, row.case, retry.value, answer))) for answer in ANSWERS]
            lines.append(start + "".join(f"{word:<{width}}" for word in words).rstrip())
    return lines


def _word(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    said = WORDS[Outcome(cell.outcome) if cell.outcome else None]
    return f"{'!' if cell.wrong else ''}{said} {cell.calls}"


def legend() -> list[str]:
    """Say what the table's words mean."""
    words = [*ANSWERS.items(), *((retry.value, text) for retry, text in RETRIES.items())]
    return [
        "Each cell: the claimed end, and how many calls arrived. It is true by the provider's own log:",
        "done is one change (none for a no-op), not done is none, in doubt stops and asks a person.",
        "",
        *(f"  {name:<22}{text}" for name, text in words),
        *(f"  - {action} ({case}), {answer}: {why}" for (action, case, answer), why in NONE.items()),
        *(
            f"  two changes: {action} ({case}), {answer}: {why}"
            for (action, case, answer), why in IN_TWO.items()
        ),
    ]


def report(cells: Sequence[Cell], rows: Sequence[Row], gaps: Sequence[str]) -> list[str]:
    """Give the table, what its words mean, what is wrong, and the sum of it."""
    ends = Counter(cell.outcome for cell in cells)
    untrue = [cell for cell in cells if cell.wrong]
    words = ", ".join(f"{ends[end.value]} {WORDS[end]}" for end in (DONE, NOT_DONE, IN_DOUBT))
    actions = len({row.action for row in rows})
    return [
        *table(cells, rows),
        "",
        *legend(),
        "",
        *(f"UNTRUE {one.action} ({one.case}), {one.retry}, {one.answer}: {one.wrong}" for one in untrue),
        *(f"MISSING {gap}" for gap in gaps),
        f"{actions} actions in {len(rows)} kinds of change x {len(ANSWERS)} answers x {len(Retry)} retries",
        f"{len(cells)} cells: {words}; {len(untrue)} untrue, {len(gaps)} missing",
    ]


def main() -> int:
    """Run it; 1 when a claim is not true, or when something was not tried."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.actions", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the cells, not the table")
    parser.add_argument("--only", default="", help="only the actions whose name has this in it")
    asked = parser.parse_args()
    rows = [row for row in ROWS if asked.only in row.action]
    began = time.monotonic()
    needs_moto = any(row.action.startswith("aws.") for row in rows)
    with (
        moto_server() if needs_moto else nullcontext("") as moto,
        ProcessPoolExecutor(
            PROCESSES_PER_CORE * (os.cpu_count() or 1), mp_context=multiprocessing.get_context("spawn")
        ) as pool,
    ):
        tasks = [
            pool.submit(_try, ROWS.index(row), retry, moto)
            for row in rows
            for retry in sorted(Retry, reverse=True)
        ]
        cells = [cell for task in tasks for cell in task.result()]
    gaps = [] if asked.only else missing(cells, rows)
    said = (
        [json.dumps([asdict(cell) for cell in cells], indent=1)] if asked.json else report(cells, rows, gaps)
    )
    seconds = time.monotonic() - began
    print(*said, *([] if asked.json else [f"in {seconds:.0f} s"]), sep="\n")  # noqa: T201  (a program's word)
    return 1 if gaps or any(cell.wrong for cell in cells) else 0


if __name__ == "__main__":
    sys.exit(main())
