"""The demo as a person runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.demo import monitoring

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


def play(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run ``stanch demo`` in an empty folder."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "demo", *options],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )


def test_with_the_built_in_alerter(tmp_path: Path) -> None:
    """Without Prometheus the demo plays to its end, verifies the log and leaves the postmortem."""
    done = play(tmp_path, "--builtin")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "the evidence log verifies" in done.stdout
    assert len(list(tmp_path.glob(".stanch/demo/postmortem-INC-*.md"))) == 1


@pytest.mark.skipif(not monitoring.installed(), reason="prometheus or alertmanager is missing")
def test_with_real_prometheus_and_alertmanager(tmp_path: Path) -> None:
    """A rule in a real Prometheus, through a real Alertmanager, starts the incident that ends as told."""
    done = play(tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "each provider saw each change once" in done.stdout
