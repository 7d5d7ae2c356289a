"""The files for Prometheus and Alertmanager are what the real programs want."""

import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.demo import alerter
from deploy.demo.monitoring import write_alertmanager, write_prometheus

needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool (Debian: prometheus) is not installed"
)
needs_amtool = pytest.mark.skipif(
    not shutil.which("amtool"), reason="amtool (Debian: prometheus-alertmanager) is not installed"
)


def run(*argv: str | Path) -> tuple[int, str]:
    """Run a program; give its exit code and all it said."""
    told = subprocess.run(argv, capture_output=True, text=True, check=False)
    return told.returncode, told.stdout + told.stderr


@needs_promtool
def test_prometheus_accepts_its_file_and_the_rules(tmp_path: Path) -> None:
    """Promtool finds one rule and no complaint."""
    write_prometheus(tmp_path / "prometheus.yml", shop=8000, alertmanager=9093)

    code, said = run("promtool", "check", "config", tmp_path / "prometheus.yml")

    assert code == 0, said
    assert "1 rules found" in said


@needs_amtool
@pytest.mark.parametrize("with_token", ["", "token"])
def test_alertmanager_accepts_its_file(tmp_path: Path, with_token: str) -> None:
    """Amtool has no complaint, with and without a bearer token."""
    path, token = tmp_path / "alertmanager.yml", tmp_path / "token"
    token.write_text("s3cret")
    write_alertmanager(path, webhook="http://127.0.0.1:1/hook", credentials=token if with_token else None)

    code, said = run("amtool", "check-config", path)

    assert code == 0, said


def test_the_built_in_alerter_reads_the_same_route(tmp_path: Path) -> None:
    """Group, times and address are as written for Alertmanager."""
    path = tmp_path / "alertmanager.yml"
    write_alertmanager(path, webhook="http://127.0.0.1:1/hook")

    assert alerter.read_route(path) == alerter.Route(
        receiver="stanch",
        url="http://127.0.0.1:1/hook",
        group_by=("alertname", "environment", "service"),
        group_wait=1.0,
        group_interval=2.0,
        repeat_interval=20.0,
    )
