"""The Compose file, as far as it can be checked without a container engine."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts import names
from runtime.settings import load

FOLDER = Path(__file__).parent.parent.parent / "deploy" / "compose"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"].startswith("stanch:")}


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    """Each image has a version that is not a moving one, and no registry's host."""
    image, _, tag = SERVICES[name]["image"].partition(":")

    assert tag not in {"", "latest"}
    assert "." not in image.split("/")[0]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_on_loopback(name: str) -> None:
    """Nothing is published beyond this machine."""
    assert [port for port in SERVICES[name].get("ports", []) if not port.startswith("127.0.0.1:")] == []


@pytest.mark.parametrize("name", OURS)
def test_our_containers_are_locked_down(name: str) -> None:
    """Our containers run as nobody in particular, on a file system that they cannot write."""
    one = OURS[name]

    assert not re.match(r"(root|0)\b", one["user"].split(":-")[-1])
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert "privileged" not in one


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_gains_rights(name: str) -> None:
    """No new privileges, anywhere."""
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]


def test_the_worker_cannot_sign() -> None:
    """Only the gateway is given the private half of the signing key."""
    holders = [
        name
        for name, one in SERVICES.items()
        for secret in one.get("secrets", [])
        if isinstance(secret, dict) and secret["source"] == "decision_key"
    ]

    assert holders == ["gateway"]


def test_secrets_and_volumes_are_declared() -> None:
    """What a service uses is declared at the end of the file."""
    used = {
        secret if isinstance(secret, str) else secret["source"]
        for one in SERVICES.values()
        for secret in one.get("secrets", [])
    }
    volumes = {
        volume.split(":")[0]
        for one in SERVICES.values()
        for volume in one.get("volumes", [])
        if not volume.startswith(".")
    }

    assert used == set(COMPOSE["secrets"])
    assert volumes == set(COMPOSE["volumes"])


def test_who_waits_waits_for_something() -> None:
    """Each dependency exists, and has a health check where health is waited for."""
    for name, one in SERVICES.items():
        for other, how in one.get("depends_on", {}).items():
            healthy = how["condition"] == "service_healthy"

            assert other in SERVICES, name
            assert not healthy or "healthcheck" in SERVICES[other], other


@pytest.mark.parametrize("name", OURS)
def test_settings_are_known(name: str) -> None:
    """Every variable of ours is a setting that the program accepts."""
    told = {key: value for key, value in OURS[name]["environment"].items() if key.startswith("STANCH_")}

    assert load(told).model_fields_set == {key.removeprefix("STANCH_").lower() for key in told}


def test_the_engine_is_prepared() -> None:
    """Every search attribute is made, and the image's version is the current one."""
    script = OURS["prepare"]["command"][2]

    assert [name for name in names.SEARCH_ATTRIBUTES if f"--name {name} --type Keyword" not in script] == []
    assert f"--build-id {OURS['prepare']['image'].partition(':')[2]} " in script
    assert f"--deployment-name {names.DEPLOYMENT} " in script


def test_secrets_are_not_committed() -> None:
    """The files that a person puts beside it are ignored by Git."""
    ignored = (FOLDER / ".gitignore").read_text(encoding="utf-8").split()

    assert ignored == [".env", "catalogue.yaml", "secrets/"]
