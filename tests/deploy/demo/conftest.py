"""What several tests of the demo world need."""

from collections.abc import Iterator

import pytest

from tests.deploy.demo.peer import Peer, serving


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A server to scrape and to tell."""
    with serving() as one:
        yield one
