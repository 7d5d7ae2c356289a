"""The one wall clock of our processes."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Give the time now, in UTC."""
    return datetime.now(UTC)  # noqa: TID251  (this is the one place)
