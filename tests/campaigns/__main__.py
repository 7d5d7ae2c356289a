"""Runs the campaign on approvals, in as many processes as there are cores, and prints what was reached."""

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.campaigns import asking, deciders, forging, raw
from tests.campaigns.forging import Count, Table

# How many of each there are, and in the long campaign.
SIZES = {
    "histories": (1_000, 10_000),
    "acting": (20_000, 100_000),
    "asking": (1_200, 12_000),
    "engine": (100, 1_000),
}
STEPS = 40
# The short campaign is a gate: what fails in it is about the change. The long one looks where none has.
SEED = 20_260_301


def so_many(count: int) -> settings:
    """Give what Hypothesis runs histories with; with ``CI`` set it would pass the seed over by itself."""
    return settings(
        max_examples=count,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )


def histories(count: int, seeded: int) -> Counter[str]:
    """Run so many histories in this process; a violation raises with the steps that lead to it."""
    with deciders.template() as source:
        machine = seed(seeded)(type("Seeded", (deciders.Deciders,), {}))
        factory = partial(machine, source)
        run_state_machine_as_test(factory, settings=so_many(count))  # type: ignore[arg-type]  # a factory is called alike
    return deciders.REACHED


def forged(forge: Callable[[int, int], Table], count: int, seeded: int) -> dict[str, Any]:
    """Try so many wrong approvals in this process."""
    return {kind: asdict(one) for kind, one in forge(seeded, count).items()}


def engine(seeded: int, count: int) -> Table:
    """Write straight to a real engine."""
    logging.getLogger("temporalio").setLevel(logging.CRITICAL)  # crafted input fails, as it should
    return asyncio.run(raw.forge(seeded, count))


PARTS: dict[str, Callable[[int, int], Any]] = {
    "histories": histories,
    "acting": partial(forged, forging.forge),
    "asking": partial(forged, asking.forge),
    "engine": partial(forged, engine),
}


def run(part: str, total: int, seeded: int) -> list[Any]:
    """Run a part in processes, and give what each says; exits when one has failed."""
    jobs = 1 if part == "engine" else os.cpu_count() or 1
    began = time.monotonic()
    print(f"{part}: {total}, seed {seeded}, in {jobs} processes", flush=True)
    running = []
    for job in range(jobs):
        words = [f"--part={part}", f"--count={-(-total // jobs)}", f"--seed={seeded + job}"]
        command = [sys.executable, "-m", "tests.campaigns", *words]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    said = [one.communicate()[0] for one in running]
    for one, words_said in zip(running, said, strict=True):
        if one.returncode:
            print(words_said)
            sys.exit(1)
    print(f"{part}: {time.monotonic() - began:.0f} s", flush=True)
    return [json.loads(one.splitlines()[-1]) for one in said]  # the engine prints before it


def total(tables: list[dict[str, Any]]) -> Table:
    """Add up what the processes counted."""
    added: Table = {}
    for table in tables:
        for kind, facts in table.items():
            one = added.setdefault(kind, Count(is_silent=facts["is_silent"]))
            for name in ("tried", "acted", "logged", "entries", "notes"):
                setattr(one, name, getattr(one, name) + facts[name])
    return added


def show(table: Table) -> bool:
    """Print the table of forgeries; say whether any acted, was not refused, or is not in the evidence."""
    print(f"\n{'tried':>9} {'acted':>6} {'in evidence':>12} {'entries':>9}  kind of forgery")
    wrong = []
    for kind, one in table.items():
        logged = "not kept" if one.is_silent else str(one.logged)
        print(f"{one.tried:>9} {one.acted:>6} {logged:>12} {one.entries:>9}  {kind}")
        if one.acted or one.notes or not (one.is_silent or one.tried == one.logged > 0):
            wrong += [f"{kind}: {note}" for note in one.notes[:3] or [str(one)]]
    print(
        f"{sum(one.tried for one in table.values()):>9} {sum(one.acted for one in table.values()):>6}  in all"
    )
    for sentence in wrong:
        print(f"WRONG  {sentence}")
    return bool(wrong)


def main() -> int:
    """Run it; 1 when a rule was broken, a state never reached, or a forgery not refused or not kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns", description=__doc__)
    parser.add_argument("--long", action="store_true", help="the long campaign")
    parser.add_argument("--seed", type=int, help="to repeat a run; the short one has a fixed one by itself")
    parser.add_argument("--only", choices=SIZES, help="only this part")
    parser.add_argument("--part", choices=SIZES, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        print(json.dumps(PARTS[asked.part](asked.count, asked.seed)))
        return 0
    seeded = asked.seed or (int(time.time()) if asked.long else SEED)
    parts = {
        part: run(part, sizes[asked.long], seeded)
        for part, sizes in SIZES.items()
        if asked.only in (None, part)
    }
    failed = False
    if "histories" in parts:
        reached = sum((Counter(one) for one in parts.pop("histories")), Counter[str]())
        print(f"\nstates that were reached, in histories of up to {STEPS} steps:")
        for state in deciders.STATES:
            print(f"{reached[state]:>9}  {state}")
        missing = [state for state in deciders.STATES if not reached[state]]
        print(f"never reached: {', '.join(missing)}" if missing else "no violation")
        failed = bool(missing)
    if parts:
        failed |= show(total([table for tables in parts.values() for table in tables]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
