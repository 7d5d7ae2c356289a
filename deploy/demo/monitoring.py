"""What watches the shop: Prometheus and Alertmanager where they are installed, else the built-in alerter.

Both read the same files, which are written here: ``prometheus.yml``, ``alertmanager.yml``, ``alerts.yml``.
"""

import shutil
from pathlib import Path

import yaml

from deploy.demo.processes import Processes, free_ports

PROMETHEUS, ALERTMANAGER = "prometheus", "prometheus-alertmanager"  # Debian's names
RULES = Path(__file__).with_name("alerts.yml")


def installed() -> bool:
    """Say whether this machine has both programs."""
    return bool(shutil.which(PROMETHEUS) and shutil.which(ALERTMANAGER))


def write_prometheus(path: Path, *, shop: int, alertmanager: int) -> None:
    """Write Prometheus' configuration; the ports are on loopback."""
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "alerting": {"alertmanagers": [{"static_configs": [_static(alertmanager)]}]},
        "scrape_configs": [{"job_name": "shop", "static_configs": [_static(shop)]}],
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def _static(port: int) -> dict[str, list[str]]:
    return {"targets": [f"127.0.0.1:{port}"]}


def write_alertmanager(path: Path, *, webhook: str, credentials: Path | None = None) -> None:
    """Write Alertmanager's configuration.

    Args:
        path: Where.
        webhook: The URL that alerts are posted to.
        credentials: A file with the bearer token that the receiver wants, if it wants one.
    """
    receiver: dict[str, object] = {"url": webhook, "send_resolved": True}
    if credentials:
        receiver["http_config"] = {"authorization": {"credentials_file": str(credentials)}}
    config = {
        "route": {
            "receiver": "stanch",
            "group_by": ["alertname", "service", "environment"],
            "group_wait": "1s",
            "group_interval": "2s",
            "repeat_interval": "20s",
        },
        "receivers": [{"name": "stanch", "webhook_configs": [receiver]}],
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def start(
    processes: Processes, state: Path, *, shop: int, webhook: str, credentials: Path | None, builtin: bool
) -> tuple[str, dict[str, str]]:
    """Write the files into ``state`` and start what watches the shop.

    Args:
        processes: Where the processes belong.
        state: An existing folder for configuration and data.
        shop: The shop's port.
        webhook: The URL that alerts are posted to.
        credentials: A file with the receiver's bearer token, or None.
        builtin: Use the built-in alerter although the real programs are there.

    Returns:
        The URL of the Prometheus query API, and where each started process says that it is ready.
    """
    prometheus, alertmanager = free_ports(2)
    config, routes = state / "prometheus.yml", state / "alertmanager.yml"
    write_prometheus(config, shop=shop, alertmanager=alertmanager)
    write_alertmanager(routes, webhook=webhook, credentials=credentials)
    url = f"http://127.0.0.1:{prometheus}"
    if builtin or not installed():
        processes.start_module(
            "alerter", "deploy.demo.alerter",
            f"--port={prometheus}", f"--prometheus={config}", f"--alertmanager={routes}",
        )  # fmt: skip
        return url, {"alerter": f"{url}/-/ready"}
    processes.start(
        "alertmanager", ALERTMANAGER,
        f"--config.file={routes}", f"--storage.path={state / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{alertmanager}", "--cluster.listen-address=",
    )  # fmt: skip
    processes.start(
        "prometheus", PROMETHEUS,
        f"--config.file={config}", f"--storage.tsdb.path={state / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{prometheus}", f"--web.external-url={url}",
    )  # fmt: skip
    return url, {"alertmanager": f"http://127.0.0.1:{alertmanager}/-/ready", "prometheus": f"{url}/-/ready"}
