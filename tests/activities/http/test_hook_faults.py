"""A hook meets every answer of an endpoint, and the endpoint's own log says what truly became of it."""

import time
from typing import Any

import pytest

from activities.http import CallHook, CallHookAction
from activities.http.fake import FakeEndpoint, HookFault
from activities.planning import changed
from contracts.errors import ActionRefusedError, PreconditionFailedError, ProviderUnavailableError
from contracts.outcomes import Outcome, Reached
from contracts.plans import Observation
from tests.activities.http.conftest import AFTER, BEFORE, client, hook

IN_FLIGHT = 0.1  # seconds
PATIENCE = 0.3  # seconds
REQUEST = CallHook(hook="shed-load", desired=AFTER)
DONE, NOT_DONE, IN_DOUBT = Outcome.DONE, Outcome.NOT_DONE, Outcome.IN_DOUBT

# Which of the three kinds of endpoint: one that can be asked, one that cannot, and one that keeps its keys.
ASKED, SILENT, KEEPS_KEYS = "with a status", "without a status", "once per key"
KINDS = (ASKED, SILENT, KEEPS_KEYS)

End = tuple[Outcome, int, int]
NEVER_CAME: tuple[End, End, End] = (DONE, 2, 1), (IN_DOUBT, 1, 0), (DONE, 2, 1)
ANSWER_LOST: tuple[End, End, End] = (DONE, 1, 1), (IN_DOUBT, 1, 1), (DONE, 2, 1)
REFUSED: tuple[End, End, End] = (NOT_DONE, 1, 0), (NOT_DONE, 1, 0), (NOT_DONE, 1, 0)
TWICE: tuple[End, End, End] = (DONE, 2, 1), (DONE, 2, 1), (DONE, 2, 1)
# What happens, and for each kind: the outcome, how many requests arrive, how many of them change something.
FAULTS: dict[str, tuple[HookFault | None, tuple[End, End, End]]] = {
    "ok": (None, ((DONE, 1, 1), (DONE, 1, 1), (DONE, 1, 1))),
    "no-op": (None, ((DONE, 0, 0), (DONE, 1, 0), (DONE, 1, 0))),
    "4xx": (HookFault.BAD_REQUEST, REFUSED),
    "403": (HookFault.FORBIDDEN, REFUSED),
    "redirect": (HookFault.REDIRECT, REFUSED),
    "409": (HookFault.CONFLICT, REFUSED),
    "429": (HookFault.THROTTLED, TWICE),
    "5xx before": (HookFault.ERROR_BEFORE, NEVER_CAME),
    "5xx after": (HookFault.ERROR_AFTER, ANSWER_LOST),
    "timeout before": (HookFault.TIMEOUT_BEFORE, NEVER_CAME),
    "timeout after": (HookFault.TIMEOUT_AFTER, ANSWER_LOST),
    "partial": (HookFault.PARTIAL, ((IN_DOUBT, 1, 1), (IN_DOUBT, 1, 1), (DONE, 2, 2))),
    "connection cut before": (HookFault.CUT_BEFORE, NEVER_CAME),
    "connection cut after": (HookFault.CUT_AFTER, ANSWER_LOST),
    "200 of something else": (HookFault.ANOTHER, NEVER_CAME),
    "unreadable answer after": (HookFault.NONSENSE, ANSWER_LOST),
}


def action_for(endpoint: FakeEndpoint, kind: str, *, patience: float = PATIENCE) -> CallHookAction:
    """Give the action for an endpoint of this kind."""
    endpoint.once = kind == KEEPS_KEYS
    status_url = endpoint.status_url if kind == ASKED else None
    return CallHookAction(
        client(hook(endpoint.url, status_url, once_per_key=endpoint.once), patience=patience)
    )


def carry_out(action: Any, request: Any, action_id: str = "INC-1/1/1/apply") -> Outcome:
    """Carry an action out by the engine's rule: after a lost answer, look before anything is sent again."""
    for _ in range(4):
        before = action.observe(request)
        if not action.change(request, before):
            return DONE
        try:
            action.apply(request, before, action_id=action_id)
        except PreconditionFailedError:
            reached = action.is_reached(request, action.observe(request)).reached
            return NOT_DONE if reached in (Reached.NO, Reached.UNKNOWN) else DONE
        except ActionRefusedError:
            return NOT_DONE
        except ProviderUnavailableError as error:
            found = reconcile(action, request, before) if error.may_have_applied else None
            if found is not None:
                return found
        else:
            return DONE
    raise AssertionError("it never ended")


def reconcile(action: Any, request: Any, before: Observation) -> Outcome | None:
    """Find out what became of a request whose answer was lost; ``None``: it may be sent again."""
    end = time.monotonic() + IN_FLIGHT
    while True:
        now = action.observe(request)
        progress = action.is_reached(request, now)
        if progress.reached not in (Reached.NO, Reached.UNKNOWN):
            return DONE
        if progress.reached is Reached.UNKNOWN and not progress.repeatable:
            return IN_DOUBT
        if time.monotonic() > end:
            return IN_DOUBT if changed(before, now) else None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_answer_ends_in_the_truth(endpoint: FakeEndpoint, kind: str, fault: str) -> None:
    """Whatever an endpoint answers, the outcome is what its own log says, and nothing is changed twice."""
    what, ends = FAULTS[fault]
    if fault == "no-op":
        endpoint.state = dict(AFTER)
    if what is not None:
        endpoint.fail(what)
    outcome = carry_out(action_for(endpoint, kind), REQUEST)
    arrived = endpoint.orders()

    assert (outcome, len(arrived), sum(one.changed for one in arrived)) == ends[KINDS.index(kind)]
    assert len({one.key for one in arrived}) <= 1
    if outcome is not IN_DOUBT:
        assert (endpoint.state == AFTER) is (outcome is DONE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_nobody_that_listens_is_tried_again(endpoint: FakeEndpoint, kind: str) -> None:
    """A connection that was refused has certainly changed nothing."""
    action = action_for(endpoint, kind)
    dead = client(hook(endpoint.url, None).model_copy(update={"url": "http://127.0.0.1:9/hook"}))
    before = dead.hook("shed-load")

    with pytest.raises(ProviderUnavailableError, match="the connection was refused") as error:
        dead.send(before, REQUEST, action_id="x")
    assert not error.value.may_have_applied
    assert carry_out(action, REQUEST) is DONE


def test_a_stale_read_after_a_lost_answer_ends_in_the_same_state(endpoint: FakeEndpoint) -> None:
    """When the status still shows the former state after a lost answer, the repetition asks for the same."""
    action = action_for(endpoint, ASKED)
    observed = action.observe(REQUEST)
    endpoint.fail(HookFault.CUT_AFTER)
    with pytest.raises(ProviderUnavailableError) as lost:
        action.apply(REQUEST, observed, action_id="x")
    endpoint.former = dict(BEFORE)
    endpoint.fail(HookFault.STALE_READ, times=3)

    assert lost.value.may_have_applied
    assert action.is_reached(REQUEST, action.observe(REQUEST)).reached is Reached.NO
    assert carry_out(action, REQUEST) is DONE
    assert endpoint.state == AFTER


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_after_any_server_error_the_change_may_be_there(endpoint: FakeEndpoint, status: int) -> None:
    """No 5xx of whatever stands between is taken for a promise that nothing happened."""
    endpoint.statuses[HookFault.ERROR_AFTER] = status
    endpoint.fail(HookFault.ERROR_AFTER)
    action = action_for(endpoint, ASKED)

    with pytest.raises(ProviderUnavailableError) as error:
        action.apply(REQUEST, action.observe(REQUEST), action_id="x")
    assert error.value.may_have_applied


def test_a_throttled_request_tells_how_long_to_wait(endpoint: FakeEndpoint) -> None:
    """A 429 was certainly turned away, and the asked wait is passed on."""
    endpoint.fail(HookFault.THROTTLED)
    action = action_for(endpoint, SILENT)

    with pytest.raises(ProviderUnavailableError) as error:
        action.apply(REQUEST, action.observe(REQUEST), action_id="x")
    assert (error.value.may_have_applied, error.value.retry_after) == (False, 1.0)
