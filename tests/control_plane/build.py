"""Build etcd, the control plane of Kubernetes and KWOK from Go modules, once, outside the repository.

``python -m tests.control_plane.build`` builds what is missing and prints the folder that it is in.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok",
}
JOBS = 2  # a compiler takes up to 1 GB
TRIES = 2  # a download may fail once
TELL_EVERY = 60.0  # seconds
VERSION = "k8s.io/component-base/version"


class BuildError(Exception):
    """The programs cannot be built; the message says why."""


def folder(module: Path = HERE) -> Path:
    """Give the folder for a module's programs: one for each content of go.mod and go.sum."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    content = (module / "go.mod").read_bytes() + (module / "go.sum").read_bytes()
    return Path(cache) / "stanch" / "control-plane" / hashlib.sha256(content).hexdigest()[:16]


def required(name: str, module: Path = HERE) -> str:
    """Give the version of a module that go.mod requires, or of Go itself: ``required("go")``."""
    text = (module / "go.mod").read_text(encoding="utf-8")
    found = re.search(rf"^\s*{re.escape(name)} (\S+)", text, re.MULTILINE)
    if found is None:
        raise BuildError(f"{module / 'go.mod'} does not name {name}")
    return found.group(1)


def missing(module: Path = HERE) -> list[str]:
    """Give the programs that are not built yet."""
    return [name for name in PROGRAMS if not (folder(module) / name).exists()]


def why_not(module: Path = HERE) -> str | None:
    """Say why there are no programs and none can be built here, if so."""
    if not missing(module):
        return None
    least, go = required("go", module), _go()
    if go is None:
        return f"a real control plane is built with Go {least} or newer, and there is no go on the PATH"
    asked = [go, "env", "GOVERSION"]
    told = subprocess.run(asked, env=_environ(), capture_output=True, text=True, check=False).stdout.strip()
    if _numbers(told) < _numbers(least):
        return f"a real control plane is built with Go {least} or newer, and {go} is {told or 'broken'}"
    return None


def build(module: Path = HERE) -> Path:
    """Build what is missing, and give the folder of the programs.

    Several processes may do this at once: one builds, the others wait for it. What was built before an
    interruption is kept.

    Raises:
        BuildError: There is no Go that can, or it failed.
    """
    into = folder(module)
    if not missing(module):
        return into
    reason = why_not(module)
    if reason:
        raise BuildError(reason)
    into.mkdir(parents=True, exist_ok=True)
    with _locked(into / ".lock"):
        names = missing(module)
        for number, name in enumerate(names, 1):
            _say(f"building {name} ({number} of {len(names)}), Kubernetes {_release(module)}")
            began = time.monotonic()
            _compile(name, into, module)
            _say(f"built {name} in {time.monotonic() - began:.0f} s")
    return into


def _compile(name: str, into: Path, module: Path) -> None:
    release = _release(module)
    major, minor, _ = release.removeprefix("v").split(".")
    known = {"gitVersion": release, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    flags = " ".join(["-s", "-w", *(f"-X {VERSION}.{key}={value}" for key, value in known.items())])
    made = into / f".{name}.new"
    command = ["nice", "-n", "19", str(_go()), "build", "-mod=readonly", "-trimpath", "-p", str(JOBS)]
    command += ["-ldflags", flags, "-o", str(made), PROGRAMS[name]]
    for left in reversed(range(TRIES)):
        with tempfile.TemporaryFile("w+") as said:
            code = _run(command, module, said.fileno())
            if code == 0:
                break
            said.seek(0)
            told = "\n".join(line for line in said.read().splitlines() if not line.startswith("go: downl"))
        if not left:
            raise BuildError(f"{name} could not be built (go build ended with code {code}):\n{told[-4000:]}")
    made.replace(into / name)


def _run(command: list[str], module: Path, said: int) -> int:
    with subprocess.Popen(
        command, cwd=module, env=_environ(), stdin=subprocess.DEVNULL, stdout=said, stderr=said
    ) as process:
        began = time.monotonic()
        try:
            while True:
                try:
                    return process.wait(TELL_EVERY)
                except subprocess.TimeoutExpired:
                    _say(f"still building ({time.monotonic() - began:.0f} s)")
        finally:
            process.terminate()  # when we are interrupted; a no-op when it has ended


def _environ() -> dict[str, str]:
    # No other toolchain is downloaded, and no workspace around us has a say.
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOMAXPROCS": str(JOBS),
    }


def _go() -> str | None:
    return shutil.which("go", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/go/bin")))


def _release(module: Path) -> str:
    return required("k8s.io/kubernetes", module)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another process is building; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(f"control plane: {text}", file=sys.stderr, flush=True)  # noqa: T201  (a program of its own)


def main() -> int:
    """Build, and print where."""
    try:
        print(build())  # noqa: T201  (a program of its own)
    except BuildError as error:
        _say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
