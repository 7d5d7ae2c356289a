"""What stays on this machine."""

import pytest

from runtime.loopback import is_loopback, is_safe_url


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example", False),
        ("", False),
    ],
)
def test_what_loopback_is(host: str, *, expected: bool) -> None:
    """Only this machine's own names are loopback."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://stanch.example.com", True),
        ("http://127.0.0.1:8420", True),
        ("http://[::1]:8420", True),
        ("http://localhost", True),
        ("http://stanch.example.com", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://127.0.0.1@evil.example", False),
        ("ftp://127.0.0.1", False),
        ("", False),
    ],
)
def test_what_may_leave(url: str, *, expected: bool) -> None:
    """A secret is sent by https, or not beyond this machine."""
    assert is_safe_url(url) is expected
