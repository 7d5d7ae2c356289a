"""Installs the provider from npm once, outside the repository, and runs it."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime import tether
from runtime.engine import free_port

HERE = Path(__file__).parent
FILES = ("package.json", "package-lock.json", "provider.mjs")
LEAST = (20, 19)
CLIENT, SECRET = "stanch", "a-secret-of-the-tests"


def folder() -> Path:
    """Give where it is installed: one folder for each content of its files."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    content = b"".join((HERE / name).read_bytes() for name in FILES)
    return Path(cache) / "stanch" / "identity-provider" / hashlib.sha256(content).hexdigest()[:16]


def why_not() -> str | None:
    """Say why no real provider can be run here, if so."""
    node = shutil.which("node")
    if node is None:
        return "a real identity provider runs on Node.js, and there is no node on the PATH"
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    if tuple(int(part) for part in re.findall(r"\d+", told)[:2]) < LEAST:
        return (
            f"a real identity provider needs Node.js {LEAST[0]}.{LEAST[1]} or newer; {node} is {told.strip()}"
        )
    if not folder().exists() and shutil.which("npm") is None:
        return "a real identity provider is installed by npm, and there is no npm on the PATH"
    return None


def install() -> Path:
    """Install it if it is not there, and give its folder; of several processes one does it."""
    into = folder()
    into.parent.mkdir(parents=True, exist_ok=True)
    with (into.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not into.exists():
            fresh = Path(tempfile.mkdtemp(dir=into.parent, prefix=".new-"))
            for name in FILES:
                shutil.copy(HERE / name, fresh)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            ran = subprocess.run(command, cwd=fresh, capture_output=True, text=True, check=False)
            assert ran.returncode == 0, f"npm ci failed:\n{ran.stderr[-4000:]}"
            fresh.rename(into)
    return into


@contextmanager
def provider(redirect: str) -> Iterator[str]:
    """Run it for a client with this redirect URI, and give its issuer URL."""
    port = free_port()
    argv = ["node", "provider.mjs", str(port), redirect]
    tied = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *argv]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(tied, cwd=install(), stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                process.wait(10)
                said.seek(0)
                raise AssertionError(f"the identity provider does not start:\n{said.read()[-4000:]}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
