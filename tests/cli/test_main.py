"""The program's frame: help, errors, exit codes, what it loads."""

import json
import os
import pty
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cli import main
from tests.cli.answers import INCIDENT, Answers
from tests.cli.conftest import Terminal

ROOT = Path(__file__).parent.parent.parent
STANCH = [sys.executable, "-c", "import sys; from cli.main import main; sys.exit(main())"]


def test_help_names_every_verb(run: Terminal) -> None:
    """`stanch --help` lists all verbs and succeeds."""
    said = run("--help")

    assert said.code == 0
    assert [verb for verb in main.VERBS if verb not in said.out] == []


def test_help_loads_no_library() -> None:
    """`stanch --help` imports neither an SDK nor pydantic nor Temporal nor an HTTP client."""
    program = (
        "import sys; from cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if '.' not in name], file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    heavy = {"pydantic", "temporalio", "kubernetes", "ldclient", "urllib3", "sqlalchemy", "fastapi", "yaml"}

    assert {name for name in heavy if f"'{name}'" in ended.stderr} == set()


def test_help_is_instant() -> None:
    """The best of three `stanch --help` takes less than 0.3 s of processor time."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    def once() -> float:
        before = spent()  # not by the clock on the wall: other tests run beside this one
        subprocess.run([*STANCH, "--help"], cwd=ROOT, capture_output=True, check=True)
        return spent() - before

    assert min(once() for _ in range(3)) < 0.3


@pytest.mark.parametrize("verb", main.VERBS)
def test_every_verb_has_help(run: Terminal, verb: str) -> None:
    """Each verb's module loads and explains itself."""
    said = run(verb, "--help")

    assert (said.code, said.err) == (0, "")
    assert f"stanch {verb}" in said.out


@pytest.mark.parametrize(
    "argv", [(), ("nonsense",), ("incident",), ("reject", "APR-1"), ("incident", "show")]
)
def test_a_wrong_command_line_exits_with_2(run: Terminal, argv: tuple[str, ...]) -> None:
    """A usage error is told apart from a refusal."""
    said = run(*argv)

    assert (said.code, said.out) == (2, "")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("approval", "list", "--state", "x"), "'pending', 'approved', 'rejected'"),
        (("incident", "severity", "INC-1", "sev9", "--reason", "x"), "'SEV1', 'SEV2', 'SEV3', 'SEV4'"),
        (
            ("incident", "assign", "INC-1", "--to", "ada", "--role", "x"),
            "'incident_commander', 'technical_lead'",
        ),
        (("policy", "explain", "--risk", "x"), "'none', 'low', 'medium', 'high'"),
        (("approve", "APR-1", "--override", "x"), "'cooldown'"),
    ],
)
def test_a_wrong_choice_names_the_right_ones(run: Terminal, argv: tuple[str, ...], words: str) -> None:
    """What may be written is said as it is written, not as the program calls it."""
    said = run(*argv)

    assert (said.code, words in said.err) == (2, True), said.err


def test_version(run: Terminal) -> None:
    """`stanch --version` names the version of the distribution."""
    assert run("--version").out == "stanch 0.1.0\n"


def test_a_stopped_gateway_is_one_sentence(stanch: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a gateway a verb says so, and how to start one."""
    monkeypatch.setenv("STANCH_HTTP_PORT", "1")

    said = stanch("incident", "list")

    assert said.code == 1
    assert said.err == (
        "stanch: the gateway at http://127.0.0.1:1 does not answer: start it with `stanch up`\n"
    )


def test_a_missing_token_is_one_sentence(stanch: Terminal, home: Path) -> None:
    """Without the local token a verb says where it looked."""
    (home / "local.token").unlink()

    said = stanch("incident", "list")

    assert said.code == 1
    assert said.err.startswith(f"stanch: local token {home / 'local.token'}: No such file or directory;")
    assert said.err.count("\n") == 1


def test_an_unknown_setting_is_one_sentence(stanch: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable is named."""
    monkeypatch.setenv("STANCH_HTTP_PROT", "1")

    said = stanch("incident", "list")

    assert (said.code, said.err.split(":")[1]) == (1, " STANCH_HTTP_PROT")


@pytest.mark.parametrize("content", [b"<html>hello</html>", b'"text"', b"[1]", b"\xff\xfe"])
@pytest.mark.parametrize("status", [200, 418, 500])
def test_another_server_is_one_sentence(
    stanch: Terminal, gateway: Answers, content: bytes, status: int
) -> None:
    """A program that is no gateway, on the gateway's port, is called that."""
    gateway.give("GET /v1/incidents", content, status=status)

    said = stanch("incident", "list")

    assert (said.code, said.out) == (1, "")
    assert said.err.count("\n") == 1


def test_the_gateways_sentence_is_passed_on_cleaned(stanch: Terminal, gateway: Answers) -> None:
    """What the gateway says reaches the person, and cannot drive the terminal."""
    gateway.give("GET /v1/incidents", {"error": "no \x1b[31m\u202eentry"}, status=403)

    said = stanch("incident", "list")

    assert (said.code, said.err) == (1, "stanch: no \ufffd[31m\ufffdentry\n")


def test_the_token_and_the_person_are_sent(stanch: Terminal, gateway: Answers) -> None:
    """The gateway learns who speaks; --as wins over the environment."""
    gateway.give("POST /v1/incidents/INC-1/ack", INCIDENT)

    stanch("incident", "ack", "INC-1", "--as", "grace")

    asked = gateway.asked[0]
    assert asked.headers["authorization"] == "Bearer secret-token"
    assert asked.headers["x-stanch-person"] == "grace"


def test_nobody_gives_no_order(stanch: Terminal, gateway: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a person nothing is sent."""
    monkeypatch.delenv("STANCH_PERSON")

    said = stanch("incident", "ack", "INC-1")

    assert (said.code, gateway.asked) == (1, [])
    assert said.err == "stanch: who are you? say --as PERSON or set STANCH_PERSON to an id of the catalogue\n"


def test_a_path_cannot_be_typed_into_an_id(stanch: Terminal, gateway: Answers) -> None:
    """An id with slashes stays one segment of the path."""
    stanch("incident", "resolve", "../../x?y", "--reason", "r")

    assert [asked.path for asked in gateway.asked] == ["/v1/incidents/..%2F..%2Fx%3Fy/resolve"]


def test_a_reader_that_leaves_is_no_error(gateway: Answers, home: Path) -> None:
    """`stanch incident list | head -0` ends quietly."""
    gateway.give("GET /v1/incidents", [INCIDENT.model_copy(update={"title": "x" * 200_000})])
    env = os.environ | {"STANCH_HOME": str(home), "STANCH_HTTP_PORT": str(gateway.port)}
    reading, writing = os.pipe()
    os.close(reading)

    ended = subprocess.run(
        [*STANCH, "incident", "list"], cwd=ROOT, env=env, stdout=writing, stderr=subprocess.PIPE, check=False
    )

    os.close(writing)
    assert (ended.returncode, ended.stderr) == (main.BROKEN_PIPE, b"")


def test_a_narrow_locale_is_no_error(gateway: Answers, home: Path) -> None:
    """A title that the terminal's encoding does not have is escaped, not a crash."""
    gateway.give("GET /v1/incidents", [INCIDENT.model_copy(update={"title": "größer → schlimmer"})])
    env = os.environ | {"STANCH_HOME": str(home), "STANCH_HTTP_PORT": str(gateway.port)}
    env |= {"PYTHONIOENCODING": "latin-1"}

    ended = subprocess.run([*STANCH, "incident", "list"], cwd=ROOT, env=env, capture_output=True, check=True)

    assert b"gr\xf6\xdfer \\u2192 schlimmer" in ended.stdout


def test_lists_fit_a_terminal_of_80_columns(gateway: Answers, home: Path) -> None:
    """On a terminal the last column is cut, and no line is longer than the terminal is wide."""
    gateway.give("GET /v1/incidents", [INCIDENT.model_copy(update={"title": "x" * 300, "attention": None})])
    env = os.environ | {"STANCH_HOME": str(home), "STANCH_HTTP_PORT": str(gateway.port), "COLUMNS": "80"}
    master, slave = pty.openpty()

    subprocess.run([*STANCH, "incident", "list"], cwd=ROOT, env=env, stdout=slave, check=True)

    os.close(slave)
    lines = os.read(master, 65536).decode().splitlines()
    os.close(master)
    assert len(lines) == 2
    assert max(map(len, lines)) == 80
    assert lines[1].endswith("…")


def test_json_is_for_programs(stanch: Terminal, gateway: Answers) -> None:
    """A listing with --json gives what the gateway's models hold."""
    gateway.give("GET /v1/incidents", [INCIDENT])

    said = stanch("incident", "list", "--json")

    assert json.loads(said.out) == [INCIDENT.model_dump(mode="json")]
