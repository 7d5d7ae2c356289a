"""The benchmarks run and write every figure; how good the figures are is not tested."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.figures import Latency, Times, table

ROOT = Path(__file__).parent.parent.parent


def test_shares_are_by_nearest_rank() -> None:
    """The median and the 99th percentile are times that were measured."""
    times = Times([float(number) for number in range(100, 0, -1)])

    assert (times.at(0.5), times.at(0.99)) == (51.0, 100.0)
    assert times.plain() == {"p50_ms": 51_000.0, "p99_ms": 100_000.0, "n": 100}


@pytest.mark.parametrize(("aim", "is_over"), [(3.0, False), (1.9, True), (None, False)])
def test_the_aim_is_held_against_the_medians(aim: float | None, is_over: bool) -> None:  # noqa: FBT001  (a case)
    """A latency is over its aim when our median is more than so many times the bare one."""
    latency = Latency("ours", Times([0.2, 0.2, 9.0]), "bare", Times([0.1, 0.1, 0.1]), aim)

    assert latency.ratio == pytest.approx(2.0)
    assert latency.is_over is is_over
    assert ("OVER" in table(["a"] * 8, [latency.row()])) is is_over


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_every_figure_is_written(tmp_path: Path) -> None:
    """A run with one incident of each kind ends with 0 and writes all figures."""
    output = tmp_path / "bench.json"
    words = ["--rounds", "1", "--crowd", "1", "--output", str(output)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text(encoding="utf-8"))

    assert len(found["latencies"]) == 5
    assert all(latency["ours"]["p50_ms"] > 0 for latency in found["latencies"].values())
    assert found["history_events"]["mitigation"] > 20
    assert found["incidents_per_second"]["ours"] > 0
    assert found["worker_memory"]["after_mib"] > found["worker_memory"]["idle_mib"] / 2
    assert set(found["plan_us"]) == {
        "seal",
        "sign the decision",
        "verify one signature",
        "verify both and the plan",
        "rule a step",
        "check who decides",
    }
    assert str(output) in done.stdout
    assert list(tmp_path.iterdir()) == [output]
