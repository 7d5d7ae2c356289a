"""Building the control plane's programs, with a Go that only pretends; no network, no compiler."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.control_plane import build
from tests.control_plane.build import PROGRAMS, BuildError

ROOT = Path(__file__).parents[2]

GO = """\
#!/bin/sh
if [ "$1" = env ]; then echo {version}; exit; fi
echo "$@" >> {calls}
for argument; do
  if [ "$before" = -o ]; then output="$argument"; fi
  before="$argument"
done
echo "go: downloading something" >&2
sleep {takes}
{ends}
echo built > "$output"
"""

Install = Callable[..., Path]


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """Give a module that requires a release."""
    path = tmp_path / "module"
    path.mkdir()
    (path / "go.mod").write_text("go 1.26.0\nrequire (\n\tk8s.io/kubernetes v1.36.3\n)\n", encoding="utf-8")
    (path / "go.sum").write_text("", encoding="utf-8")
    return path


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Give a function that puts a Go on the PATH and gives the file that its builds are written to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def install(version: str = "go1.26.8", takes: float = 0, ends: str = "") -> Path:
        calls, program = tmp_path / "calls", tmp_path / "bin" / "go"
        program.parent.mkdir(exist_ok=True)
        text = GO.format(version=version, calls=calls, takes=takes, ends=ends)
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        return calls

    return install


def lines(path: Path) -> list[str]:
    """Give the lines of a file, which may be missing."""
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def test_everything_is_built_once(module: Path, go: Install) -> None:
    """The first time each program is built with its version in it, the second time none."""
    calls = go()
    first, second = build.build(module), build.build(module)
    built = lines(calls)

    assert first == second == build.folder(module)
    assert sorted(path.name for path in first.iterdir() if path.name[0] != ".") == sorted(PROGRAMS)
    assert [line.split()[-1] for line in built] == list(PROGRAMS.values())
    assert all("-trimpath" in line for line in built)
    assert all("version.gitVersion=v1.36.3 " in line for line in built)
    assert all("version.gitMinor=36 " in line for line in built)


def test_another_content_is_another_folder(module: Path, go: Install) -> None:
    """A changed go.mod or go.sum is built anew, and the former programs stay for who runs them."""
    go()
    before = build.build(module)
    (module / "go.sum").write_text("other", encoding="utf-8")

    assert build.missing(module) == list(PROGRAMS)
    assert build.build(module) != before
    assert (before / "etcd").exists()


def test_two_builders_do_the_work_once(module: Path, go: Install) -> None:
    """Who comes while another builds waits, and builds nothing."""
    calls = go(takes=0.05)
    builders = [threading.Thread(target=build.build, args=(module,)) for _ in range(3)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()

    assert len(lines(calls)) == len(PROGRAMS)
    assert build.missing(module) == []


def test_a_failure_is_tried_again_and_then_told(
    module: Path, go: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    """A build that fails twice is told with what Go said, and leaves no half of a program."""
    calls = go(ends="echo partly > $output; echo no such module >&2; exit 3")

    with pytest.raises(BuildError) as caught:
        build.build(module)
    assert str(caught.value) == "etcd could not be built (go build ended with code 3):\nno such module"
    assert len(lines(calls)) == 2
    assert build.missing(module) == list(PROGRAMS)
    assert "building etcd (1 of 5), Kubernetes v1.36.3" in capsys.readouterr().err


def test_what_was_built_before_an_interruption_is_kept(module: Path, go: Install) -> None:
    """After a failure at the fourth program the next build begins there."""
    go(ends='[ "$(wc -l < $(dirname $0)/../calls)" -gt 3 ] && exit 1')
    with pytest.raises(BuildError):
        build.build(module)
    left = build.missing(module)
    go()
    build.build(module)

    assert left == ["kube-scheduler", "kwok"]
    assert build.missing(module) == []


@pytest.mark.parametrize("version", ["go1.25.9", "go1.9", ""])
def test_an_old_go_is_named(module: Path, go: Install, version: str) -> None:
    """A Go that is too old is told with both versions, and builds nothing."""
    calls = go(version)
    reason = build.why_not(module)

    assert reason is not None
    assert "built with Go 1.26.0 or newer" in reason
    assert reason.endswith(f"/go is {version or 'broken'}")
    with pytest.raises(BuildError, match="or newer"):
        build.build(module)
    assert lines(calls) == []


def test_what_is_built_needs_no_go(module: Path, go: Install) -> None:
    """Where the programs are there already, the absence of Go is no reason."""
    go()
    build.build(module)
    go("go1.1")

    assert build.why_not(module) is None


def test_a_command_runs_without_a_control_plane_where_none_can_be(go: Install, tmp_path: Path) -> None:
    """Without Go the command still runs, with its exit code, and finds no kubeconfig; the reason is told."""
    go("go1.1")
    shown = "import os, sys; print(os.environ.get('KUBECONFIG_TEST')); sys.exit(7)"
    environ = {key: value for key, value in os.environ.items() if key != "KUBECONFIG_TEST"}
    ran = run(shown, environ)

    assert (ran.returncode, ran.stdout) == (7, "None\n")
    assert "Go 1.26.0 or newer" in ran.stderr
    assert list(tmp_path.glob("cache/*")) == []


def test_a_cluster_of_ones_own_is_used_instead() -> None:
    """Where KUBECONFIG_TEST is set the command gets it as it is, and nothing is started."""
    ran = run("import os; print(os.environ['KUBECONFIG_TEST'])", os.environ | {"KUBECONFIG_TEST": "mine"})

    assert (ran.returncode, ran.stdout) == (0, "mine\n")


def run(code: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run Python with a control plane where there can be one."""
    command = [sys.executable, "-m", "tests.control_plane", sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)


def test_the_module_has_one_release_of_kubernetes() -> None:
    """Every part of Kubernetes is replaced by its published module of the same release."""
    text = (build.HERE / "go.mod").read_text(encoding="utf-8")
    replaced = [line.split() for line in text.splitlines() if "=>" in line]
    number = build.required("k8s.io/kubernetes").removeprefix("v1.")

    assert len(replaced) > 30
    assert {(one[0] == one[2], one[3]) for one in replaced} == {(True, f"v0.{number}")}
