"""What the client makes of answers, credentials and hostile content."""

import json
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from pydantic import ValidationError

from activities.launchdarkly import SetFlag
from activities.launchdarkly.client import LaunchDarklyClient
from activities.launchdarkly.fake import ERRORS, FakeLaunchDarkly, Fault
from contracts.errors import ActionRefusedError, ProviderUnavailableError
from tests.activities.launchdarkly.conftest import SECRETS, TURN_OFF, ClientOf, Clock

PLACE = ("shop", "production", "new-search")
NOT_SET, GIVEN = "NOT_SET", "GIVEN"  # environment variables


def test_flag(ld: FakeLaunchDarkly, client: LaunchDarklyClient) -> None:
    """A flag is read with all that a person needs to judge it."""
    ld.add_rule(*PLACE)
    config = ld.config(*PLACE)
    config["contextTargets"] = [{"contextKind": "user", "variation": 0, "values": ["ada", "bob"]}]
    config["prerequisites"] = [{"key": "search", "variation": 0}]
    seen = client.flag(*PLACE)

    assert seen.model_dump(exclude={"modified_at", "targeting"}) == {
        "project": "shop",
        "environment": "production",
        "key": "new-search",
        "name": "New search",
        "on": True,
        "version": 2,
        "archived": False,
        "serves_off": "off (false)",
        "serves_else": "on (true)",
        "rules": 1,
        "targets": 2,
        "prerequisites": ("search",),
    }
    assert seen.modified_at is not None
    assert int(seen.modified_at.timestamp() * 1000) == config["lastModified"]


def test_flag_without_off_variation_and_with_a_rollout(
    ld: FakeLaunchDarkly, client: LaunchDarklyClient
) -> None:
    """What it serves is not made up where LaunchDarkly leaves it to the application or to chance."""
    ld.config(*PLACE)["offVariation"] = None
    ld.config(*PLACE)["fallthrough"] = {"rollout": {"variations": [{"variation": 0, "weight": 100000}]}}
    seen = client.flag(*PLACE)

    assert (seen.serves_off, seen.serves_else) == (None, "a percentage rollout")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (("shop", "production", "nothing"), "shop/production/nothing: not found in LaunchDarkly"),
        (("shop", "moon", "new-search"), "shop/moon/new-search: project shop has no environment moon"),
        (("other", "production", "new-search"), "LaunchDarkly project other: not in the catalogue"),
    ],
)
def test_nothing_there(client: LaunchDarklyClient, place: tuple[str, str, str], words: str) -> None:
    """A wrong project, environment or key is refused by name."""
    with pytest.raises(ActionRefusedError) as refused:
        client.flag(*place)

    assert str(refused.value).startswith(words)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, 2.0),  # the rate window's end, two seconds away
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "Sat, 21 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "Sat, 21 Nov 2020 12:00:30 GMT"}, 0.0),
        ({"Retry-After": "99999999"}, 600.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "1e400"}, None),
    ],
)
def test_throttled(
    ld: FakeLaunchDarkly, client: LaunchDarklyClient, headers: dict[str, str], wait: float | None
) -> None:
    """A 429 says how long to wait, from whichever header there is, and within reason."""
    ld.throttle_headers = headers
    ld.fail(Fault.THROTTLED)
    with pytest.raises(ProviderUnavailableError, match="throttling") as error:
        client.set_flag(TURN_OFF, comment="x")

    assert error.value.may_have_applied is False
    assert error.value.retry_after == (wait if wait is None else pytest.approx(wait, abs=0.1))


def test_token_is_not_set(ld: FakeLaunchDarkly, client_of: ClientOf) -> None:
    """A missing credential is refused with the variable's name, and nothing is sent."""
    with pytest.raises(ActionRefusedError, match="variable NOT_SET is not set"):
        client_of(ld.url, token_env=NOT_SET).flag(*PLACE)

    assert ld.requests == []


def test_token_is_wrong(ld: FakeLaunchDarkly, client: LaunchDarklyClient) -> None:
    """A refused token is named by its variable and never by its content."""
    ld.state.tokens.clear()
    with pytest.raises(ActionRefusedError, match="LaunchDarkly refuses the token in TOKEN") as refused:
        client.flag(*PLACE)

    assert "api-token" not in str(refused.value)


@pytest.mark.parametrize("token", ["api\r\nX-Evil: 1", "töken", "a\x00b"])
def test_token_with_strange_characters(
    ld: FakeLaunchDarkly, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    """A token that would break out of its header is refused before anything is sent."""
    monkeypatch.setitem(SECRETS, GIVEN, token)
    with pytest.raises(ActionRefusedError, match="GIVEN: holds characters"):
        client_of(ld.url, token_env=GIVEN).flag(*PLACE)

    assert ld.requests == []


def test_token_with_a_newline_at_its_end(
    ld: FakeLaunchDarkly, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newline that a file leaves behind a token does no harm."""
    monkeypatch.setitem(SECRETS, GIVEN, "api-token\n")

    assert client_of(ld.url, token_env=GIVEN).flag(*PLACE).on is True


@pytest.mark.parametrize(
    "key", ["a/b", "../../secrets", "ключ", "a?env=x#y", "a b%2F", "*", "a;b:c", "...", "\n"]
)
def test_hostile_key_is_one_segment(ld: FakeLaunchDarkly, client: LaunchDarklyClient, key: str) -> None:
    """Whatever a key holds, it is one segment of the URL: the flag of exactly that name is changed."""
    ld.add_flag("shop", "production", key)
    request = SetFlag(project="shop", environment="production", key=key, on=False)
    seen = client.flag("shop", "production", key)
    client.set_flag(request, comment="x")
    audited, complete = client.audit("shop", "production", [key], seen.modified_at or ld.clock())

    assert (seen.key, seen.on) == (key, True)
    assert ld.config("shop", "production", key)["on"] is False
    assert ld.config(*PLACE)["on"] is True
    assert {request.path.count("/") for request in ld.requests} <= {3, 5, 6}
    assert complete
    assert all(entry.actions for entry in audited) or key in ("a;b:c", "*")


@pytest.mark.parametrize("key", ["", ".", ".."])
def test_key_that_climbs_is_no_key(key: str) -> None:
    """A segment that means another place in a URL is refused as input."""
    with pytest.raises(ValidationError):
        SetFlag(project="shop", environment="production", key=key, on=False)


def test_hostile_answer_stays_on_one_line(ld: FakeLaunchDarkly, client: LaunchDarklyClient) -> None:
    """Names that others chose carry no control characters into logs and terminals."""
    ld.state.flags["shop"]["new-search"]["name"] = "\x1b[2Jnew\nsearch\u202e" + "x" * 10_000
    name = client.flag(*PLACE).name

    assert name.isprintable()
    assert len(name) <= 200


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b'{"key": "new-search", "environments": {"production": {"on": "perhaps", "version": 1}}}',
        b'{"key": "k", "environments": {"production": {"on": true, "version": 1, "lastModified": 1e30}}}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_answer_of_another_shape(client: LaunchDarklyClient, body: bytes) -> None:
    """What is not a flag is not taken for one."""
    with pytest.raises(ProviderUnavailableError, match=r"^shop/production/new-search: LaunchDarkly's answer"):
        client._seen(*PLACE, body)  # noqa: SLF001  (the fake cannot be made to say this)


def test_a_field_that_is_null_is_not_there(client: LaunchDarklyClient) -> None:
    """What says nothing of a flag does not make it unreadable; what it has to say is still demanded."""
    silent = (
        "rules",
        "targets",
        "contextTargets",
        "fallthrough",
        "offVariation",
        "prerequisites",
        "lastModified",
    )
    config = {"on": True, "version": 3, **dict.fromkeys(silent)}
    flag = {"name": None, "archived": None, "variations": None, "environments": {"production": config}}
    seen = client._seen(*PLACE, json.dumps(flag).encode())  # noqa: SLF001  (the fake cannot be made to say this)
    config["version"] = None
    with pytest.raises(ProviderUnavailableError, match="not what its API promises"):
        client._seen(*PLACE, json.dumps(flag).encode())  # noqa: SLF001  (likewise)

    assert (seen.name, seen.on, seen.version, seen.serves_off, seen.modified_at) == (
        "new-search",
        True,
        3,
        None,
        None,
    )


def test_a_change_that_took_too_long_may_be_there(
    ld: FakeLaunchDarkly, client: LaunchDarklyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 408 does not say that nothing arrived, so the flag is read before anything is sent again."""
    monkeypatch.setitem(ERRORS, Fault.ERROR_BEFORE, (408, "timeout", "Request timeout"))
    ld.fail(Fault.ERROR_BEFORE, method="PATCH")
    with pytest.raises(ProviderUnavailableError, match="LaunchDarkly answered 408") as error:
        client.set_flag(TURN_OFF, comment="x")

    assert error.value.may_have_applied


def test_threads(client: LaunchDarklyClient) -> None:
    """Many threads share one client."""
    seen: list[bool] = []
    threads = [threading.Thread(target=lambda: seen.append(client.flag(*PLACE).on)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == [True] * 16


def test_audit_pages(ld: FakeLaunchDarkly, client: LaunchDarklyClient, clock: Clock) -> None:
    """More entries than one page holds are read, each once, newest first."""
    since = clock()
    for number in range(45):
        ld.turn(*PLACE, on=number % 2 == 1)
    entries, complete = client.audit("shop", "production", ["new-search"], since)

    assert (len(entries), complete) == (45, True)
    assert [entry.at for entry in entries] == sorted((entry.at for entry in entries), reverse=True)


def test_audit_of_a_busy_flag(ld: FakeLaunchDarkly, client: LaunchDarklyClient) -> None:
    """Reading ends after five pages, and says that it is not all."""
    since = ld.clock() - timedelta(hours=1)
    for number in range(130):
        ld.turn(*PLACE, on=number % 2 == 1)
    entries, complete = client.audit("shop", "production", ["new-search"], since)

    assert (len(entries), complete) == (96, False)  # each next page begins with the last one's last entry


def test_audit_of_one_millisecond(ld: FakeLaunchDarkly, client: LaunchDarklyClient) -> None:
    """Entries that share a millisecond over a page's border end the reading, and are not said to be all."""
    at = ld.clock()
    ld.clock = lambda: at
    for number in range(30):
        ld.turn(*PLACE, on=number % 2 == 1)
    entries, complete = client.audit("shop", "production", ["new-search"], at - timedelta(seconds=1))

    assert (len(entries), complete) == (20, False)


def test_importing_the_provider_loads_no_sdk() -> None:
    """Playbooks, gateway and terminal import the requests without paying for a vendor's SDK or for HTTP."""
    program = (
        "import sys, activities.launchdarkly as p;"
        "print([name for name in ('ldclient', 'urllib3', 'ld_eventsource') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
