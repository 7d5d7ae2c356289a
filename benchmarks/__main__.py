"""Runs all benchmarks: ``python -m benchmarks``; prints tables and writes JSON."""

import argparse
import asyncio
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory

from authority.decisions import Signer, Verifier
from authority.policy import Policy
from authority.seals import digest
from benchmarks import bare, incidents
from benchmarks.figures import MILLISECONDS, Latency, Times, table
from benchmarks.incidents import Led, Witness
from contracts import names
from contracts.approvals import Approval
from contracts.incidents import Incident
from contracts.policy import Question
from runtime import temporal
from runtime.settings import Settings
from tests.runtime.product import Product, product

# Of an incident whose first mitigation helps: plan, step, verification, monitoring and postmortem.
ACTIVITIES = 5
AIM = 3.0
HELP_WITHIN = 0.3
WARM_UP = 3


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=40, help="incidents led one after another (%(default)s)"
    )
    parser.add_argument("--crowd", type=int, default=20, help="incidents led at once (%(default)s)")
    parser.add_argument("--seconds", type=float, default=90, help="end the rounds after this (%(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path(".stanch/bench.json"), help="the JSON (%(default)s)"
    )
    options = parser.parse_args()
    found = asyncio.run(measure(options.rounds, options.crowd, options.seconds))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {options.output}")
    return 0


async def measure(rounds: int, crowd: int, seconds: float) -> dict[str, Any]:
    """Measure everything, and give it as JSON."""
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} processors, load {load:.1f}; {rounds} rounds, a crowd of {crowd}\n", flush=True)
    found: dict[str, Any] = {"processors": os.cpu_count(), "load": round(load, 1)}
    found["help"] = await asyncio.to_thread(time_help)
    first_of_two = WARM_UP + rounds + crowd
    services = first_of_two + WARM_UP + rounds
    with tempfile.TemporaryDirectory() as folder, product(Path(folder), services=services) as running:
        incidents.hasten(running.home / "catalogue.yaml")
        incidents.ask_two(running.home / "policy.cedar", [f"s{n}" for n in range(first_of_two, services)])
        seen = incidents.witness(running.flags)
        running.start()  # in this thread: the processes die with the thread that starts them
        client = await temporal.connect(Settings(temporal_address=running.engine))
        with bare_worker(running.engine):
            found |= await both(running, seen, client, rounds=rounds, crowd=crowd, seconds=seconds)
        running.stop()
    return found


async def both(
    running: Product, seen: Witness, client: Client, *, rounds: int, crowd: int, seconds: float
) -> dict[str, Any]:
    """Measure ours and the bare ones by turns, so that both meet the same load."""
    worker = running.children()["worker"]
    memory = {"idle_mib": resident(worker)}
    first_of_two = WARM_UP + rounds + crowd
    ours: list[Led] = []
    twos: list[Led] = []
    begun: list[Bare] = []
    until = time.monotonic() + seconds
    for number in range(WARM_UP + rounds):
        begun.append(await one_bare(client, f"{number}"))
        ours.append(await asyncio.to_thread(incidents.lead, running, seen, f"s{number}"))
        twos.append(
            await asyncio.to_thread(incidents.lead, running, seen, f"s{first_of_two + number}", two=True)
        )
        if time.monotonic() > until:
            break
    ours, twos, begun = ours[WARM_UP:], twos[WARM_UP:], begun[WARM_UP:]
    latencies = compare(ours, twos, begun)
    head = ["latency, ms", "p50", "p99", "bare p50", "bare p99", "ratio", "aim", "against a bare workflow's"]
    print(table(head, [latency.row() for latency in latencies]), flush=True)

    histories = await fetch(client, ours[-1])
    stages = await breakdown(client, ours)
    print("\nfrom the decision to the provider, median ms:")
    print(table(["until", "at", ""], [[name, f"{at:.0f}", ""] for name, at in stages.items()]), flush=True)

    counts = await events(client, histories)
    print("\nhistory events: " + ", ".join(f"{name} {count}" for name, count in counts.items()))

    whole = await crowds(running, seen, client, [f"s{WARM_UP + rounds + n}" for n in range(crowd)])
    told = ", ".join(f"{name} {value:.2f}" for name, value in whole["per_second"].items())
    print(f"whole incidents per second, {crowd} at once: {told}")
    told = ", ".join(f"{name} {value:.0f} ms" for name, value in whole["processor_ms"].items())
    print(f"processor time for each of them: {told}")

    memory["after_mib"] = resident(worker)
    memory["incidents"] = 2 * (WARM_UP + len(ours)) + crowd
    print("worker, resident MiB: " + ", ".join(f"{name} {value}" for name, value in memory.items()))
    sealing = await asyncio.to_thread(seal, running, twos[-1])
    print(
        "one plan for two people, µs: " + ", ".join(f"{name} {value:.0f}" for name, value in sealing.items())
    )
    over = [latency.name for latency in latencies if latency.is_over]
    print(f"\nover the aim: {', '.join(over) or 'nothing'}")
    return {
        "latencies": {latency.name: latency.plain() for latency in latencies},
        "decision_to_provider_ms": {name: round(at, 1) for name, at in stages.items()},
        "history_events": counts,
        "incidents_per_second": {name: round(value, 3) for name, value in whole["per_second"].items()},
        "processor_ms_per_incident": {name: round(ms, 1) for name, ms in whole["processor_ms"].items()},
        "worker_memory": memory,
        "plan_us": {name: round(value, 1) for name, value in sealing.items()},
        "over_the_aim": over,
    }


def time_help(times: int = 5) -> dict[str, Any]:
    """Measure ``stanch --help``: what a person waits, and the processor's time, which no other load moves."""
    wall, processor = [], []
    for _ in range(times):
        before, began = os.times(), time.monotonic()
        subprocess.run([sys.executable, "-m", "cli.main", "--help"], check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        wall.append(time.monotonic() - began)
        processor.append(
            after.children_user - before.children_user + after.children_system - before.children_system
        )
    told = {"wall_s": round(median(wall), 3), "processor_s": round(median(processor), 3)}
    verdict = "ok" if told["processor_s"] < HELP_WITHIN else "OVER"
    print(
        f"stanch --help: {told['wall_s']} s, of the processor {told['processor_s']} s; "
        f"aim {HELP_WITHIN} s {verdict}\n",
        flush=True,
    )
    return told


@contextmanager
def bare_worker(address: str) -> Iterator[None]:
    """Run the bare workflows' worker until the block ends."""
    words = [sys.executable, "-m", "benchmarks.bare_worker", address]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            if process.stdout is None or not process.stdout.readline():
                raise RuntimeError("the bare worker does not start")
            yield
        finally:
            process.kill()


class Bare:
    """The moments of one bare workflow of each kind, in seconds of the monotonic clock."""

    def __init__(self, started: float, first: float, updated: float, answered: float, touched: float) -> None:
        self.start = started
        self.first_activity = first
        self.update = updated
        self.update_and_activity = touched
        self.answered = answered


async def one_bare(client: Client, name: str) -> Bare:
    """Run one bare workflow of each kind."""
    began = time.monotonic()
    handle = await client.start_workflow(
        bare.BareSteps.run, 1, id=f"bare/start/{name}", task_queue=bare.QUEUE
    )
    started = time.monotonic() - began
    first = await handle.result() - began
    waiting = await client.start_workflow(
        bare.BareDecision.run, id=f"bare/update/{name}", task_queue=bare.QUEUE
    )
    await asyncio.sleep(0.1)  # ours has waited for a person, too
    began = time.monotonic()
    await waiting.execute_update(bare.BareDecision.decide)
    updated = time.monotonic() - began
    touched = await waiting.result() - began
    return Bare(started, first, updated, updated, touched)


def compare(ours: list[Led], twos: list[Led], begun: list[Bare]) -> list[Latency]:
    """Put each latency beside the bare one."""
    start = Times([one.start for one in begun])
    first = Times([one.first_activity for one in begun])
    update = Times([one.update for one in begun])
    touched = Times([one.update_and_activity for one in begun])
    return [
        Latency("alert POST to 2xx", Times([one.stored - one.posted for one in ours]), "start", start),
        Latency(
            "alert POST to approval request visible",
            Times([one.asked - one.posted for one in ours]),
            "start to first activity",
            first,
        ),
        Latency(
            "decision POST to 2xx", Times([one.accepted - one.decided for one in ours]), "update", update
        ),
        Latency(
            "decision POST to provider's change",
            Times([one.changed - one.decided for one in ours]),
            "update to one activity",
            touched,
            AIM,
        ),
        Latency(
            "second person's decision POST to provider's change",
            Times([one.changed - one.decided for one in twos]),
            "update to one activity",
            touched,
            AIM,
        ),
    ]


async def fetch(client: Client, led: Led) -> dict[str, WorkflowHistory]:
    """Fetch the histories of one incident."""
    ids = {
        "incident": names.incident_workflow_id(led.incident),
        "mitigation": names.mitigation_workflow_id(led.mitigation),
    }
    return {name: await client.get_workflow_handle(one).fetch_history() for name, one in ids.items()}


async def events(client: Client, histories: dict[str, WorkflowHistory]) -> dict[str, int]:
    """Count events: of an incident with one mitigation, and of a bare workflow with as many activities."""
    handle = await client.start_workflow(
        bare.BareSteps.run, ACTIVITIES, id="bare/events", task_queue=bare.QUEUE
    )
    await handle.result()
    counts = {name: len(history.events) for name, history in histories.items()}
    return counts | {f"bare with {ACTIVITIES} activities": len((await handle.fetch_history()).events)}


async def breakdown(client: Client, ours: list[Led]) -> dict[str, float]:
    """Say where the time from the decision to the provider goes: the median moment of each stage, in ms."""
    stages: dict[str, list[float]] = {}
    for led in ours:
        history = await client.get_workflow_handle(
            names.mitigation_workflow_id(led.mitigation)
        ).fetch_history()
        at: dict[str, float] = {"2xx to the person": led.accepted}
        for event in history.events:
            moment = event.event_time.ToNanoseconds() / 1e9
            match event.event_type:
                case EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED if moment > led.decided:
                    at.setdefault("update with the worker", moment)
                case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
                    at["step scheduled"] = moment
                case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                    at.setdefault("step started", moment)
        methods: Counter[str] = Counter()
        for moment, method in led.arrived:
            if moment <= led.changed:
                methods[method] += 1
                at[f"provider hears {method} {methods[method]}"] = moment
        for name, moment in at.items():
            stages.setdefault(name, []).append((moment - led.decided) * MILLISECONDS)
    return dict(sorted(((name, median(each)) for name, each in stages.items()), key=lambda pair: pair[1]))


async def crowds(running: Product, seen: Witness, client: Client, services: list[str]) -> dict[str, Any]:
    """Measure many incidents at once, and as many bare workflows with as many activities."""
    began = time.monotonic()
    start = functools.partial(client.execute_workflow, bare.BareSteps.run, ACTIVITIES, task_queue=bare.QUEUE)
    await asyncio.gather(*(start(id=f"bare/crowd/{service}") for service in services))
    middle = time.monotonic()
    before = {name: processor(pid) for name, pid in running.children().items()}
    with ThreadPoolExecutor(len(services)) as threads:
        leading = [
            threads.submit(incidents.lead, running, seen, service, every=incidents.COARSE)
            for service in services
        ]
        for one in leading:
            await asyncio.wrap_future(one)
    ended = time.monotonic()
    used = {name: processor(pid) - before[name] for name, pid in running.children().items()}
    plain, whole = len(services) / (middle - began), len(services) / (ended - middle)
    return {
        "per_second": {"ours": whole, f"bare with {ACTIVITIES} activities": plain, "ratio": plain / whole},
        "processor_ms": {name: spent / len(services) * MILLISECONDS for name, spent in used.items()},
    }


def processor(pid: int) -> float:
    """Give how many seconds of a processor a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Give a process's resident memory in MiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(kib) // 1024


def seal(running: Product, led: Led, times: int = 200) -> dict[str, float]:
    """Measure what the law costs, on a real plan and its decision, in microseconds each."""
    listed = running.request("GET", f"/v1/approvals?incident={led.incident}")
    approval = Approval.model_validate(running.request("GET", f"/v1/approvals/{listed[0]['id']}"))
    key = Ed25519PrivateKey.generate()
    signer, verifier = Signer(key), Verifier([key.public_key()])
    if approval.request.signed is None:
        raise RuntimeError(f"{approval.request.id} is not decided")
    (first,), decision = approval.request.signed.others, approval.request.signed.decision
    one = signer.sign(first.decision)
    both = signer.sign(decision).model_copy(update={"others": (one,)})
    incident = Incident.model_validate(running.request("GET", f"/v1/incidents/{led.incident}"))
    policy, step = Policy(), approval.plan.steps[0]
    question = Question(
        severity=incident.severity,
        environment=incident.environment,
        service=incident.service,
        action=step.action.name,
        target=str(step.action.target),
        risk=step.risk,
        playbook=approval.plan.playbook,
        at=approval.plan.sealed_at,
    )
    given = (first.decision.person,)

    def each(what: Any) -> float:
        began = time.perf_counter()
        for _ in range(times):
            what()
        return (time.perf_counter() - began) / times * 1e6

    return {
        "seal": each(lambda: digest(approval.plan)),
        "sign the decision": each(lambda: signer.sign(decision)),
        "verify one signature": each(lambda: verifier.check_signature(one)),
        "verify both and the plan": each(
            lambda: verifier.check_approves(both, approval.plan, now=decision.decided_at)
        ),
        "rule a step": each(lambda: policy.rule(question)),
        "check who decides": each(
            lambda: policy.check_may_decide(incident, decision.person, plan=approval.plan, given=given)
        ),
    }


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # The SDK's runtime can abort while the interpreter shuts down (sdk-python issue 300): leave without it.
    os._exit(code)
