"""A namespace of a real cluster, and approved plans that are run in it."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ledger import Ledger
from runtime.clock import utc_now
from tests.activities.k8s.conftest import REAL, Place, real_place
from tests.control_plane import build
from tests.control_plane.scene import Scene


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give a fresh namespace."""
    if not REAL:
        pytest.skip(
            build.why_not() or "no real control plane: KUBECONFIG_TEST is not set; see `make test-cluster`"
        )
    with ExitStack() as stack:
        yield real_place(Path(REAL), tmp_path, stack)


@pytest.fixture
def scene(place: Place, tmp_path: Path) -> Iterator[Scene]:
    """Give the same with a ledger, an incident and its commander."""
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}", clock=utc_now)
    ledger.migrate()
    yield Scene(place, ledger)
    ledger.close()
