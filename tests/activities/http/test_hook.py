"""A hook is told what is wanted: the same against our fake and against the endpoint of the how-to."""

import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from activities.http import CallHook, CallHookAction
from activities.http.fake import SECRET, FakeEndpoint, HookFault
from contracts.catalogue import Hook
from contracts.errors import ActionRefusedError, PreconditionFailedError, ProviderUnavailableError
from contracts.outcomes import Progress, Reached
from contracts.plans import Observation
from tests.activities.http.conftest import client, hook

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "remediation-hooks.md"
OFF = CallHook(hook="shed-load", desired={"recommendations": "off"})
ID = "INC-1/1/1/apply"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of the how-to, as a process of its own."""
    program = tmp_path_factory.mktemp("endpoint") / "endpoint.py"
    page = PAGE.read_text(encoding="utf-8")
    program.write_text(page.partition("```python\n")[2].partition("```")[0], encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = subprocess.Popen(
        [sys.executable, str(program), str(port)],
        env={**os.environ, "SHOP_HOOK_SECRET": SECRET},
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < end, "the endpoint of the how-to did not start"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait()


@pytest.fixture(params=["fake", "process"])
def served(request: pytest.FixtureRequest, endpoint: FakeEndpoint) -> Hook:
    """The hook of an endpoint that serves everything."""
    if request.param == "fake":
        endpoint.once = True
        return hook(endpoint.url, endpoint.status_url)
    url = request.getfixturevalue("process")
    back = CallHookAction(client(hook(url, url)))
    on = CallHook(hook="shed-load", desired={"recommendations": "on"})
    back.apply(on, back.observe(on), action_id=f"INC-0/{time.monotonic_ns()}")
    return hook(url, url)


def progress(action: CallHookAction, request: CallHook = OFF) -> Progress:
    """Look how far it is."""
    return action.is_reached(request, action.observe(request))


def apply(action: CallHookAction, request: CallHook = OFF, key: str = "") -> None:
    """Send it once, on what is there."""
    action.apply(request, action.observe(request), action_id=key or f"INC-1/{time.monotonic_ns()}")


def test_what_is_desired_is_brought_about_and_undone(served: Hook) -> None:
    """It is not so, the difference says so, one request makes it so, and the undo brings it back."""
    action = CallHookAction(client(served))
    before = action.observe(OFF)
    undo, said = action.undo(OFF, before)
    assert [(one.path, one.before, one.after) for one in action.change(OFF, before)] == [
        ("recommendations", "on", "off")
    ]
    assert action.preflight(OFF, before) == ()
    assert progress(action).reached is Reached.NO

    apply(action)
    assert progress(action).reached is Reached.YES
    assert action.change(OFF, action.observe(OFF)) == ()

    assert undo is not None
    assert said == "Asks for recommendations on again."
    apply(action, undo)
    assert action.observe(undo).guard == before.guard


def test_a_second_request_under_the_same_key_changes_nothing(served: Hook) -> None:
    """A key that was carried out is answered as the first time, whatever came in between."""
    action, key = CallHookAction(client(served)), f"INC-1/{time.monotonic_ns()}"
    apply(action, OFF, key)
    back = CallHook(hook="shed-load", desired={"recommendations": "on"})
    apply(action, back)
    apply(action, OFF, key)

    assert progress(action, back).reached is Reached.YES


@pytest.mark.parametrize("method", ["status", "send"])
def test_a_request_with_another_secret_is_refused(served: Hook, method: str) -> None:
    """Who does not have the secret can neither ask nor order."""
    stranger = client(served, secret="whsec_" + base64.b64encode(b"x" * 32).decode())

    calls: dict[str, Callable[..., object]] = {
        "status": partial(stranger.status, served),
        "send": partial(stranger.send, served, OFF),
    }

    with pytest.raises(ActionRefusedError, match=r"hook shed-load: it answers 401 \(it says: not signed\)"):
        calls[method](**({"action_id": ID} if method == "send" else {}))


def test_what_is_sent_is_what_the_page_says(endpoint: FakeEndpoint) -> None:
    """The body has the action, the incident, the hook and what is desired; the key is the action's id."""
    action = CallHookAction(client(hook(endpoint.url, None)))
    apply(action, OFF, ID)
    (order,) = endpoint.orders()

    assert (order.key, order.genuine) == (ID, True)
    assert order.body == {
        "action_id": ID,
        "incident": "INC-1",
        "name": "shed-load",
        "desired": {"recommendations": "off"},
    }
    example = re.search(r'^\{"action_id".*\}$', PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert example is not None
    assert set(order.body) == set(json.loads(example.group()))


def test_work_that_goes_on_settles(endpoint: FakeEndpoint) -> None:
    """202 is taken, not done: the status tells when, or why not; meanwhile nothing more has to be sent."""
    action = CallHookAction(client(hook(endpoint.url, endpoint.status_url)))
    endpoint.slow = True
    apply(action)
    seen = [progress(action).reached]
    assert action.change(OFF, action.observe(OFF)) == ()
    endpoint.problem = "no capacity"
    seen.append(progress(action).reached)
    endpoint.problem = ""
    endpoint.finish()
    seen.append(progress(action).reached)

    assert seen == [Reached.SETTLING, Reached.FAILED, Reached.YES]


def test_work_towards_something_else_is_not_reached(endpoint: FakeEndpoint) -> None:
    """What is so now and about to end is not as desired."""
    endpoint.wanted = {"recommendations": "off"}
    on = CallHook(hook="shed-load", desired={"recommendations": "on"})

    action = CallHookAction(client(hook(endpoint.url, endpoint.status_url)))
    (difference,) = action.change(on, action.observe(on))

    assert progress(action, on).reached is Reached.NO
    assert (difference.before, difference.after) == ("off", "on")


def test_a_part_that_is_so_and_a_part_on_its_way_are_both_there(endpoint: FakeEndpoint) -> None:
    """Nothing is sent again for what is coming, and ``null`` is nothing to work towards."""
    both = CallHook(hook="shed-load", desired={"recommendations": "on", "search": "light"})
    action = CallHookAction(client(hook(endpoint.url, endpoint.status_url)))
    endpoint.wanted = {"search": "light"}
    assert action.change(both, action.observe(both)) == ()
    assert progress(action, both).reached is Reached.SETTLING
    endpoint.raw_status = (
        b'{"state": {"recommendations": "on", "search": "light"}, "wanted": null, "problem": null}'
    )

    assert progress(action, both).reached is Reached.YES


def test_nobody_can_look_without_a_status(endpoint: FakeEndpoint) -> None:
    """Then it is never said to be reached, whether it is or not, and everything desired is a difference."""
    action = CallHookAction(client(hook(endpoint.url, None)))
    before = progress(action)
    apply(action)

    assert [before.reached, progress(action).reached] == [Reached.UNKNOWN, Reached.UNKNOWN]
    assert [one.path for one in action.change(OFF, action.observe(OFF))] == ["recommendations"]
    assert not before.repeatable
    assert action.undo(OFF, action.observe(OFF))[0] is None


@pytest.mark.parametrize(
    "undo", [{"hook": "serve-all", "desired": {"all": True}}, {"desired": {"all": True}}]
)
def test_a_declared_undo_comes_first(endpoint: FakeEndpoint, undo: dict[str, Any]) -> None:
    """What the catalogue declares is the undo, of this hook or another one."""
    action = CallHookAction(client(hook(endpoint.url, endpoint.status_url, undo=undo)))
    back, said = action.undo(OFF, action.observe(OFF))

    assert back == CallHook(hook=undo.get("hook", "shed-load"), desired={"all": True})
    assert said.endswith("as the catalogue says.")


def test_a_status_that_does_not_tell_has_no_undo(endpoint: FakeEndpoint) -> None:
    """A key that was not told before cannot be brought back."""
    action = CallHookAction(client(hook(endpoint.url, endpoint.status_url)))
    request = CallHook(hook="shed-load", desired={"brightness": 3})

    assert action.undo(request, action.observe(request)) == (
        None,
        "The status of hook shed-load does not tell brightness.",
    )


def test_what_somebody_else_changed_is_not_overwritten(endpoint: FakeEndpoint) -> None:
    """Another state than the approved one ends it before anything is sent; other keys may change freely."""
    action = CallHookAction(client(hook(endpoint.url, endpoint.status_url)))
    observed = action.observe(OFF)
    endpoint.state["search"] = "light"
    assert action.observe(OFF).guard == observed.guard
    endpoint.state["recommendations"] = "some"

    with pytest.raises(PreconditionFailedError, match="was changed since it was read"):
        action.apply(OFF, observed, action_id=ID)
    assert endpoint.orders() == []


def test_another_address_voids_an_approval(endpoint: FakeEndpoint) -> None:
    """What was approved for one address is not sent to another one."""
    observed = CallHookAction(client(hook(endpoint.url, None))).observe(OFF)
    moved = CallHookAction(client(hook(endpoint.url + "2", None)))

    with pytest.raises(PreconditionFailedError):
        moved.apply(OFF, observed, action_id=ID)
    assert endpoint.orders() == []


@pytest.mark.parametrize("secret", ["", "hunter2", "whsec_" + base64.b64encode(b"short").decode(), "whsec_ä"])
def test_an_unusable_secret_is_said_before_anybody_approves(endpoint: FakeEndpoint, secret: str) -> None:
    """A secret that is not set, is not base64 or is too short is a refusal that names the variable."""
    action = CallHookAction(client(hook(endpoint.url, None), secret=secret))
    (said,) = action.preflight(OFF, action.observe(OFF))

    assert "HOOK_SECRET" in said
    assert not secret or secret not in said
    assert endpoint.requests == []


def test_an_endpoint_that_is_not_there_is_said_before_anybody_approves() -> None:
    """Without a status the address is tried by a request that nobody can take for an order."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/hook"
    action = CallHookAction(client(hook(url, None)))
    (said,) = action.preflight(OFF, action.observe(OFF))

    assert said == f"hook shed-load: no answer from {url}: the connection was refused"


def test_preflight_orders_nothing(endpoint: FakeEndpoint) -> None:
    """The look at an address without a status is not signed and has no body."""
    action = CallHookAction(client(hook(endpoint.url, None)))

    assert action.preflight(OFF, action.observe(OFF)) == ()
    assert [(one.method, one.genuine, one.changed) for one in endpoint.requests] == [("HEAD", False, False)]


@pytest.mark.parametrize("answer", [b"[1]", b'{"state": 3}', b"<html>", b'{"state": ' + b"[" * 9000])
def test_a_status_that_is_none_is_unavailable(endpoint: FakeEndpoint, answer: bytes) -> None:
    """Whatever is no status changes nothing and claims nothing."""
    endpoint.raw_status = answer

    with pytest.raises(ProviderUnavailableError, match="answers something else than a status") as error:
        client(hook(endpoint.url, endpoint.status_url)).status(hook(endpoint.url, endpoint.status_url))
    assert not error.value.may_have_applied


def test_a_redirect_is_not_followed(endpoint: FakeEndpoint) -> None:
    """A signed order goes to the catalogue's address and to no other."""
    endpoint.fail(HookFault.REDIRECT)

    with pytest.raises(ActionRefusedError, match="redirects are not followed"):
        apply(CallHookAction(client(hook(endpoint.url, None))))
    assert len(endpoint.orders()) == 1


def test_only_the_catalogue_s_hooks_are_called(endpoint: FakeEndpoint) -> None:
    """Another name is refused before anything is sent."""
    action = CallHookAction(client(hook(endpoint.url, None)))

    with pytest.raises(ActionRefusedError, match="hook other: not in the catalogue"):
        action.observe(CallHook(hook="other", desired={"a": 1}))


def test_a_request_desires_something() -> None:
    """Nothing desired is a mistake in the request."""
    with pytest.raises(ValidationError):
        CallHook(hook="shed-load", desired={})


def test_the_blast_radius_is_its_team_s_sentence(endpoint: FakeEndpoint) -> None:
    """The approver reads what the team wrote, and where the request goes."""
    action = CallHookAction(client(hook(endpoint.url, None)))
    observed = Observation(state={}, guard={}, at=client().now())

    assert action.blast_radius(OFF, observed) == f"Everybody; hook shed-load does it, told at {endpoint.url}."
