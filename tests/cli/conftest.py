"""A terminal beside a gateway."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cli import main
from tests.cli import answers


class Said(NamedTuple):
    """What one run said."""

    code: int
    out: str
    err: str


Terminal = Callable[..., Said]


@pytest.fixture
def gateway() -> Iterator[answers.Answers]:
    """Give a server that answers as the gateway does."""
    with answers.serve() as served:
        yield served


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Give a state folder with a token."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "local.token").write_text("secret-token", encoding="utf-8")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path) -> Terminal:
    """Give the program ``stanch`` in an environment without anything of ours."""
    for name in [name for name in os.environ if name.startswith("STANCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STANCH_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "80")

    def stanch(*argv: str) -> Said:
        try:
            code = main.main(argv)
        except SystemExit as exited:
            code = exited.code if isinstance(exited.code, int) else 0
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return stanch


@pytest.fixture
def stanch(run: Terminal, gateway: answers.Answers, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Give the program ``stanch`` beside the gateway, used by ada."""
    monkeypatch.setenv("STANCH_HTTP_PORT", str(gateway.port))
    monkeypatch.setenv("STANCH_PERSON", "ada")
    return run
