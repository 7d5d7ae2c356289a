"""The image's recipe, and the wheel that goes into it."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RECIPE = (ROOT / "deploy" / "image" / "Containerfile").read_text(encoding="utf-8")
IGNORE = (ROOT / "deploy" / "image" / "Containerfile.dockerignore").read_text(encoding="utf-8").split("\n")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_bases_are_pinned() -> None:
    """Every stage starts from a Python with a version, by its short name."""
    assert set(re.findall(r"^FROM (\S+)", RECIPE, re.MULTILINE)) == {"python:3.11-slim"}


def test_it_runs_as_nobody_in_particular() -> None:
    """The last user is a number that is not root's."""
    assert re.findall(r"^USER (.+)$", RECIPE, re.MULTILINE) == ["10001:10001"]


def test_everything_is_installed_by_hash() -> None:
    """What comes from a registry is locked; our own wheel asks no registry."""
    installs = re.findall(r"pip install ([^\n\\]+)", RECIPE)

    assert [
        one for one in installs if "--require-hashes" not in one and "--no-index --no-deps" not in one
    ] == []
    assert len(installs) == 3
    assert "--editable" not in RECIPE


def test_the_build_sees_what_the_wheel_needs() -> None:
    """What the wheel is made of is not ignored."""
    seen = {line.removeprefix("!") for line in IGNORE if line.startswith("!")}
    wheel = set(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])

    assert seen == wheel | {"LICENSE", "README.md", "pyproject.toml", "requirements"}


@pytest.mark.parametrize("lock", ["base", "build", "dev"])
def test_locks_pin_everything_by_hash(lock: str) -> None:
    """Each requirement has an exact version and at least one hash."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))

    assert [
        block.split("\n")[0] for block in blocks if "==" not in block or "--hash=sha256:" not in block
    ] == []


def test_the_locks_agree() -> None:
    """A dependency has the same versions in all locks that have it, and each direct one is in them."""
    locked: dict[str, set[frozenset[str]]] = {}
    for lock in ("base", "build", "dev"):
        text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
        versions: dict[str, set[str]] = {}  # more than one where they depend on Python's
        for name, version in re.findall(r"^([a-zA-Z0-9._-]+)(?:\[[^\]]+\])?==(\S+)", text, re.MULTILINE):
            versions.setdefault(name, set()).add(version)
        for name, found in versions.items():
            locked.setdefault(name, set()).add(frozenset(found))
    direct = [re.split(r"[\[>=]", one)[0].lower() for one in PYPROJECT["project"]["dependencies"]]

    assert {name: found for name, found in locked.items() if len(found) > 1} == {}
    assert [name for name in direct if name not in locked] == []


def test_the_wheel_is_whole(tmp_path: Path) -> None:
    """The wheel holds every file of the product, templates and migrations included, and nothing else."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    parts = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *parts],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a Git checkout")

    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert held == {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}
