"""Seeing a change arrive in the real server SDK."""

import gc
import threading
import time
import warnings
from collections.abc import Iterator

import pytest

from activities.launchdarkly import SetFlagAction
from activities.launchdarkly.client import LaunchDarklyClient
from activities.launchdarkly.fake import FakeLaunchDarkly, Fault
from contracts.outcomes import Progress, Reached
from tests.activities.launchdarkly.conftest import SECRETS, TURN_OFF, ClientOf

PLACE = ("shop", "production", "new-search")
DEADLINE = 30.0  # seconds; what is waited for takes milliseconds


@pytest.fixture
def observing(ld: FakeLaunchDarkly, client_of: ClientOf) -> LaunchDarklyClient:
    """A client with an SDK key."""
    return client_of(ld.url, sdk_key_env="SDK_KEY")


@pytest.fixture
def action(observing: LaunchDarklyClient) -> SetFlagAction:
    """The action, with its SDK connected."""
    action = SetFlagAction(observing)
    assert action.observe(TURN_OFF).state["sdk"] == {"stream": True, "polled": None, "problem": ""}
    return action


def progress(action: SetFlagAction) -> Progress:
    """Look once."""
    return action.is_reached(TURN_OFF, action.observe(TURN_OFF))


def until(action: SetFlagAction, reached: Reached) -> Iterator[Progress]:
    """Look until it stands like this; give every look."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        looked = progress(action)
        yield looked
        if looked.reached is reached:
            return
        time.sleep(0.02)
    raise AssertionError(f"not {reached.value} within {DEADLINE} s: {looked.detail}")


def test_connected_sdk_has_it(action: SetFlagAction) -> None:
    """A change is reached once a connected SDK has it."""
    action.apply(TURN_OFF, action.observe(TURN_OFF), action_id="x")
    *_, last = until(action, Reached.YES)

    assert last.detail == "new-search is off, and a connected SDK has it"


def test_muted_stream_is_settling(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """Applied but lost on the stream is settling, and says that polling SDKs have it."""
    ld.muted = True
    action.apply(TURN_OFF, action.observe(TURN_OFF), action_id="x")
    looked = progress(action)

    assert looked.reached is Reached.SETTLING
    assert looked.detail == "new-search is off for SDKs that poll, but the stream has not delivered it yet"


def test_stuck_stream_is_connected_anew(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """A stream that stays behind polling is connected anew: our own hanging connection blocks nothing."""
    ld.muted = True
    action.apply(TURN_OFF, action.observe(TURN_OFF), action_id="x")
    looks = list(until(action, Reached.YES))

    assert looks[0].reached is Reached.SETTLING
    assert sum(seen.path == "/all" for seen in ld.requests) == 2


def test_nothing_delivered_is_settling(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """When neither stream nor polling has it, that is said, and it never counts as reached."""
    ld.muted = True
    ld.fail(Fault.ERROR_BEFORE, path="/sdk/latest-all", times=50)
    action.apply(TURN_OFF, action.observe(TURN_OFF), action_id="x")
    looked = progress(action)

    assert looked.reached is Reached.SETTLING
    assert looked.detail == "new-search is off in LaunchDarkly, but no SDK has it yet"


def test_dropped_stream_heals(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """A stream that breaks is connected again by the SDK itself, and then it has the change."""
    ld.drop_streams()
    action.apply(TURN_OFF, action.observe(TURN_OFF), action_id="x")
    *_, last = until(action, Reached.YES)

    assert last.detail == "new-search is off, and a connected SDK has it"


def test_refused_sdk_key_is_said(
    ld: FakeLaunchDarkly, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a wrong SDK key the API's word counts, and it is said that SDKs are not observed."""
    monkeypatch.setitem(SECRETS, "OLD_KEY", "revoked")
    client = client_of(ld.url, sdk_wait=0.5, sdk_key_env="OLD_KEY")
    action = SetFlagAction(client)
    action.apply(TURN_OFF, action.observe(TURN_OFF), action_id="x")
    looked = progress(action)
    client.close()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        # The SDK leaves the socket of a refused stream to the garbage collector: not in another test.
        for thread in threading.enumerate():
            if thread.name.startswith("ldclient."):
                thread.join(DEADLINE)
        gc.collect()

    assert looked.reached is Reached.YES
    assert looked.detail == (
        "new-search is off; whether SDKs have it is not known: LaunchDarkly refuses the SDK key in OLD_KEY"
    )


def test_missing_sdk_key_is_said(ld: FakeLaunchDarkly, client_of: ClientOf) -> None:
    """A variable that is not set does not stop a mitigation."""
    action = SetFlagAction(client_of(ld.url, sdk_key_env="NOT_SET"))
    action.apply(TURN_OFF, action.observe(TURN_OFF), action_id="x")
    looked = progress(action)

    assert looked.reached is Reached.YES
    assert "NOT_SET is not set" in looked.detail


def test_sdk_key_of_another_environment(ld: FakeLaunchDarkly, client_of: ClientOf) -> None:
    """A flag in an environment that the SDK key is not for is not looked for with it."""
    action = SetFlagAction(client_of(ld.url, sdk_key_env="SDK_KEY", sdk_environment="staging"))
    action.apply(TURN_OFF, action.observe(TURN_OFF), action_id="x")

    assert progress(action).detail == "new-search is off; SDKs are not observed"
    assert [seen.path for seen in ld.requests if seen.path == "/all"] == []


def test_vendors_word_comes_first(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """An SDK that still has the desired state of yesterday does not make an unapplied change look done."""
    ld.turn(*PLACE, on=False)
    list(until(action, Reached.YES))
    ld.muted = True
    ld.turn(*PLACE, on=True)

    assert progress(action).reached is Reached.NO
