"""What playbook authors import."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from playbooks.kit import ago


@dataclass
class Now:
    """A look that has only the time."""

    now: datetime


@pytest.mark.parametrize(
    ("minutes", "said"),
    [
        (-3, "0 min ago"),
        (0, "0 min ago"),
        (119, "119 min ago"),
        (120, "2 h ago"),
        (301, "5 h ago"),
        (2879, "47 h ago"),
        (2880, "2 days ago"),
    ],
)
def test_ago(minutes: int, said: str) -> None:
    """A person reads minutes while they count, then hours, then days; a clock that is ahead is no future."""
    now = datetime(2026, 3, 1, tzinfo=UTC)

    assert ago(cast("Any", Now(now)), now - timedelta(minutes=minutes)) == said
