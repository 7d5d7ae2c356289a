"""A letter."""

from datetime import UTC, datetime

from contracts.notices import Notice, NoticeState
from gateway.channels import Letter

NIGHT = datetime(2026, 3, 10, 14, 32, tzinfo=UTC)


def letter(address: str = "ada@example.com", **changes: object) -> Letter:
    """Give a letter about a question."""
    facts: dict[str, object] = {
        "subject": "APR-7",
        "incident": "INC-1",
        "person": "ada",
        "channel": "email",
        "title": "APR-7 SEV1 shop: may this run? Größe 12",
        "text": "APR-7 asks whether INC-1/1 may run.\nPlan digest: 5e5e5e5e5e5e",
        "state": NoticeState.QUEUED,
        "times": 1,
        "attempts": 0,
        "queued_at": NIGHT,
    }
    notice = Notice.model_validate(facts | changes)
    return Letter(notice, address, f"https://stanch.example.com{notice.path}")
