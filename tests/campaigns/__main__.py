"""Runs the campaign on approvals, in as many processes as there are cores, and prints what was reached."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from functools import partial

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.campaigns import deciders

HISTORIES, LONG_HISTORIES = 1_000, 10_000
STEPS = 40


def histories(count: int, seeded: int) -> Counter[str]:
    """Run so many histories in this process; a violation raises with the steps that lead to it."""
    many = settings(
        max_examples=count,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    with deciders.template() as source:
        machine = seed(seeded)(type("Seeded", (deciders.Deciders,), {}))
        factory = partial(machine, source)
        run_state_machine_as_test(factory, settings=many)  # type: ignore[arg-type]  # a factory is called alike
    return deciders.REACHED


def main() -> int:
    """Run it; 1 when a history broke a rule, or when a state was never reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns", description=__doc__)
    parser.add_argument("--long", action="store_true", help=f"{LONG_HISTORIES} histories, not {HISTORIES}")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    total = LONG_HISTORIES if asked.long else HISTORIES
    if asked.part:
        print(json.dumps(histories(asked.part, asked.seed)))
        return 0
    jobs = os.cpu_count() or 1
    print(f"{total} histories of up to {STEPS} steps, seed {asked.seed}, in {jobs} processes", flush=True)
    parts = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.campaigns",
                f"--part={total // jobs}",
                f"--seed={asked.seed + job}",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for job in range(jobs)
    ]
    reached: Counter[str] = Counter()
    for part in parts:
        said = part.communicate()[0]
        if part.returncode:
            print(said)
            return 1
        reached.update(json.loads(said))
    for state in deciders.STATES:
        print(f"{reached[state]:>9}  {state}")
    missing = [state for state in deciders.STATES if not reached[state]]
    print(f"never reached: {', '.join(missing)}" if missing else f"no violation in {total} histories")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
