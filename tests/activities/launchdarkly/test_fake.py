"""The fake against the real server SDK, and as a program of its own."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ldclient
import pytest
import urllib3

from activities.launchdarkly.fake import FakeLaunchDarkly, Fault
from tests.activities.launchdarkly.conftest import Clock

PLACE = ("shop", "production", "new-search")
ADA = ldclient.Context.create("ada")


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until it holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


@pytest.fixture
def sdk(ld: FakeLaunchDarkly) -> Iterator[ldclient.LDClient]:
    """The real SDK, events included."""
    config = ldclient.Config(
        "sdk-key",
        base_uri=ld.url,
        stream_uri=ld.url,
        events_uri=ld.url,
        initial_reconnect_delay=0.05,
        diagnostic_opt_out=True,
    )
    client = ldclient.LDClient(config, start_wait=5)
    yield client
    client.close()  # type: ignore[no-untyped-call]


def test_sdk_evaluates(sdk: ldclient.LDClient) -> None:
    """The SDK starts from the stream and serves what the flag says."""
    assert sdk.is_initialized()
    assert sdk.variation("new-search", ADA, None) is True


def test_sdk_hears_of_changes(ld: FakeLaunchDarkly, sdk: ldclient.LDClient) -> None:
    """The SDK's flag listener hears of every change, in both directions."""
    heard = threading.Event()
    sdk.flag_tracker.add_listener(lambda change: heard.set() if change.key == "new-search" else None)
    ld.turn(*PLACE, on=False)

    assert heard.wait(10)
    wait_for(lambda: sdk.variation_detail("new-search", ADA, None).reason == {"kind": "OFF"})
    ld.turn(*PLACE, on=True)
    wait_for(lambda: sdk.variation("new-search", ADA, None) is True)


def test_no_op_has_no_version_and_no_event(ld: FakeLaunchDarkly) -> None:
    """Turning on what is on changes nothing that anybody could wait for."""
    events = ld.subscribe("sdk-key")
    before = json.dumps(ld.state.flags)
    ld.turn(*PLACE, on=True)

    assert json.dumps(ld.state.flags) == before
    assert events is not None
    assert events.qsize() == 1  # everything, at the beginning


def test_sdk_comes_back_after_a_drop(ld: FakeLaunchDarkly, sdk: ldclient.LDClient) -> None:
    """A dropped stream is connected again, with everything that happened meanwhile."""
    ld.muted = True
    ld.turn(*PLACE, on=False)
    ld.muted = False
    ld.drop_streams()

    wait_for(lambda: sdk.variation("new-search", ADA, None) is False)


def test_sdk_events_are_taken(ld: FakeLaunchDarkly, sdk: ldclient.LDClient) -> None:
    """The SDK's analytics arrive and are accepted."""
    sdk.identify(ADA)
    sdk.flush()  # type: ignore[no-untyped-call]
    wait_for(lambda: any(seen.path == "/bulk" and seen.status == 202 for seen in ld.requests))


def test_polling_has_the_same(ld: FakeLaunchDarkly) -> None:
    """`latest-all` and the stream give the same flags."""
    status, polled = call("GET", f"{ld.url}/sdk/latest-all", key="sdk-key")
    served = ld.served("sdk-key")

    assert status == 200
    assert served is not None
    assert polled == served[1]


def test_archived_flags_are_not_served(ld: FakeLaunchDarkly) -> None:
    """SDKs do not get a flag that is archived."""
    ld.state.flags["shop"]["new-search"]["archived"] = True
    served = ld.served("sdk-key")

    assert served is not None
    assert served[1]["flags"] == {}


def test_wrong_sdk_key(ld: FakeLaunchDarkly) -> None:
    """A wrong key gets nothing from stream or polling."""
    assert call("GET", f"{ld.url}/sdk/latest-all", key="wrong") == (401, None)
    assert call("GET", f"{ld.url}/all", key="wrong") == (401, None)


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/api/v2/flags/shop/nothing", None, (404, "not_found")),
        ("/api/v2/auditlog?limit=21", None, (400, "invalid_request")),
        ("/api/v2/flags/shop/production/new-search/dependent-flags", None, (403, "forbidden")),
        ("/api/v2/flags/shop/new-search", {"patch": []}, (400, "invalid_request")),
    ],
)
def test_refusals(ld: FakeLaunchDarkly, path: str, body: Any, expected: tuple[int, str]) -> None:
    """The vendor's own limits hold: unknown flags, page size, beta header, content type."""
    status, said = call("PATCH" if body else "GET", ld.url + path, body)

    assert (status, said["code"]) == expected


def test_audit_log_by_specifier(ld: FakeLaunchDarkly) -> None:
    """The GET form takes one resource specifier with wildcards, the newest entry first."""
    ld.add_flag("shop", "staging", "new-search")
    ld.turn(*PLACE, on=False)
    _, said = call("GET", ld.url + "/api/v2/auditlog?spec=proj/shop:env/production:flag/*&limit=2")

    assert [item["titleVerb"] for item in said["items"]] == ["turned off the flag", "created the flag"]


def test_state_survives(clock: Clock, tmp_path: Path) -> None:
    """A fake with a state file goes on where it was."""
    path = tmp_path / "ld.json"
    with FakeLaunchDarkly(clock, state=path) as ld:
        ld.add_flag(*PLACE)
        ld.turn(*PLACE, on=False)
    with FakeLaunchDarkly(clock, state=path) as ld:
        assert ld.config(*PLACE)["on"] is False
        assert ld.config(*PLACE)["version"] == 2


def test_as_a_program(tmp_path: Path) -> None:
    """It runs as a process, takes orders for faults, shows its log, and stops on a signal without a trace."""
    program = [sys.executable, "-m", "activities.launchdarkly.fake", "--state", str(tmp_path / "ld.json")]
    program += ["--flag", "shop/production/new-search=on", "--sdk-key", "sdk-key=shop/production"]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        url = process.stdout.readline().strip()
        flag = f"{url}/api/v2/flags/shop/new-search"
        order = {"fault": "conflict", "method": "GET", "path": "/flags/", "times": 1}
        ordered = call("POST", f"{url}/_fake/faults", order)
        answers = [call("GET", flag)[0], call("GET", flag)[0]]
        _, log = call("GET", f"{url}/_fake/requests")
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=10)

    assert (ordered, answers, errors) == ((202, None), [409, 200], "")
    assert [(seen["path"], seen["fault"], seen["status"]) for seen in log] == [
        ("/api/v2/flags/shop/new-search", Fault.CONFLICT.value, 409),
        ("/api/v2/flags/shop/new-search", None, 200),
    ]


def call(method: str, url: str, body: Any = None, *, key: str = "api-token") -> tuple[int, Any]:
    """Ask once; give status and JSON."""
    with urllib3.PoolManager(retries=False) as http:
        content = None if body is None else json.dumps(body)
        headers = {"Authorization": key, "Content-Type": "application/json"}
        response = http.request(method, url, body=content, headers=headers)
        return response.status, response.json() if response.data else None
