"""Every action meets every fault, and the request log says what truly became of it."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from activities.k8s.client import KubernetesClusters
from activities.k8s.fake import FakeKubernetes, Fault, Planned
from contracts.errors import ActionRefusedError, PreconditionFailedError, ProviderUnavailableError
from contracts.outcomes import Outcome, Reached
from tests.activities.k8s.conftest import IMAGES, KINDS, Place, clusters, until

READ_TIMEOUT = 0.15  # seconds
NOTHING_DONE = {Fault.ERROR_BEFORE, Fault.TIMEOUT_BEFORE, Fault.CUT_BEFORE}
SILENT = {Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.LATE}


@pytest.fixture
def impatient(fake: FakeKubernetes, tmp_path: Path) -> Iterator[KubernetesClusters]:
    """Our client, which does not wait long."""
    with ExitStack() as stack:
        kubeconfig = fake.kubeconfig(tmp_path / "impatient")
        yield clusters(kubeconfig, stack, connect_timeout=READ_TIMEOUT, read_timeout=READ_TIMEOUT)


def carry_out(action: Any, request: Any, *, by: Any = None, in_flight: float = 5.0) -> Outcome:
    """Carry an action out by the journal's rule: after a lost answer, read before anything is sent again.

    Args:
        action: It reads.
        request: What is wanted.
        by: The same action with the client that sends the change, when that is another.
        in_flight: Seconds until it is believed that nothing happened.
    """
    for _ in range(5):
        observed = action.observe(request)
        if not action.change(request, observed):
            return Outcome.DONE
        try:
            (by or action).apply(request, observed, action_id="INC-1/1/1/apply")
        except PreconditionFailedError:
            there = action.is_reached(request, action.observe(request)).reached is not Reached.NO
            return Outcome.DONE if there else Outcome.NOT_DONE
        except ActionRefusedError:
            return Outcome.NOT_DONE
        except ProviderUnavailableError as error:
            if error.may_have_applied and found(action, request, in_flight):
                return Outcome.DONE
        else:
            return Outcome.DONE
    return Outcome.IN_DOUBT


def found(action: Any, request: Any, in_flight: float) -> bool:
    """Read until it is there, or until the call can no longer be under way."""
    end = time.monotonic() + in_flight
    while action.is_reached(request, action.observe(request)).reached is Reached.NO:
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@dataclass(frozen=True)
class Ends:
    """What a fault ends in: the outcome, how many changes arrive, and how many are applied.

    Attributes:
        faults: What happens to the requests of the first try, in order.
    """

    outcome: Outcome
    sent: int
    applied: int
    faults: tuple[Planned, ...] = ()


DONE, NOT_DONE = Outcome.DONE, Outcome.NOT_DONE
# The table of the campaign: every action of KINDS meets each of these.
ENDS = {
    "ok": Ends(DONE, 1, 1),
    "no-op": Ends(DONE, 0, 0),
    "4xx": Ends(NOT_DONE, 1, 0, (Planned(Fault.REFUSED, status=400),)),
    "403": Ends(NOT_DONE, 1, 0, (Planned(Fault.REFUSED, status=403),)),
    "409": Ends(NOT_DONE, 1, 0, (Planned(Fault.CONFLICT),)),
    "429": Ends(DONE, 2, 1, (Planned(Fault.THROTTLED),)),
    "5xx before": Ends(DONE, 2, 1, (Planned(Fault.ERROR_BEFORE),)),
    "5xx after": Ends(DONE, 1, 1, (Planned(Fault.ERROR_AFTER),)),
    "timeout before": Ends(DONE, 2, 1, (Planned(Fault.TIMEOUT_BEFORE),)),
    "timeout after": Ends(DONE, 1, 1, (Planned(Fault.TIMEOUT_AFTER),)),
    "late": Ends(DONE, 1, 1, (Planned(Fault.LATE, delay=READ_TIMEOUT + 0.1),)),
    "partial": Ends(DONE, 1, 1, (Planned(Fault.GARBLED_AFTER),)),
    "stale read": Ends(DONE, 2, 1, (Planned(Fault.CUT_AFTER), Planned(Fault.STALE, method="GET"))),
    "connection cut before": Ends(DONE, 2, 1, (Planned(Fault.CUT_BEFORE),)),
    "connection cut after": Ends(DONE, 1, 1, (Planned(Fault.CUT_AFTER),)),
}


def ended(
    fake: FakeKubernetes, shop: Place, impatient: KubernetesClusters, kind: str, ends: Ends
) -> tuple[Outcome, Outcome, list[bool], Reached]:
    """Let one action meet one fault; give its outcome and that of a repetition, and what the log says."""
    request = shop.asked(kind)
    action = shop.action(request)
    if not ends.sent:
        shop.run(request)
    before = len(fake.requests)
    action.observe(request)
    reads = len(fake.requests) - before
    for planned in ends.faults:
        if planned.fault is Fault.STALE:  # the reads that look for the change whose answer was lost
            with pytest.raises(ProviderUnavailableError):
                action.apply(request, action.observe(request), action_id="x")
        fake.fail(**vars(replace(planned, times=2 * reads if planned.fault is Fault.STALE else 1)))
    if len(ends.faults) > 1:
        assert action.is_reached(request, action.observe(request)).reached is Reached.NO
    silent = bool({one.fault for one in ends.faults} & SILENT)
    by = shop.action(request, impatient if silent else None)
    wait = 0.1 if {one.fault for one in ends.faults} & NOTHING_DONE else 5.0
    outcome = carry_out(action, request, by=by, in_flight=wait)
    patches = [one["applied"] for one in fake.requests[before:] if one["method"] == "PATCH"]
    reached = action.is_reached(request, action.observe(request)).reached
    return outcome, carry_out(action, request), patches, reached


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ENDS)
def test_each_fault_ends_truthfully(
    fake: FakeKubernetes, shop: Place, impatient: KubernetesClusters, kind: str, fault: str
) -> None:
    """Whatever happens to the call, the outcome is what the cluster's log says; nothing is applied twice."""
    ends = ENDS[fault]
    before = len(fake.changes)
    outcome, again, patches, reached = ended(fake, shop, impatient, kind, ends)
    ours = [one for one in fake.changes[before:] if one["user"] != "admin"]

    assert (outcome, len(patches), sum(patches)) == (ends.outcome, ends.sent, ends.applied)
    assert (reached is not Reached.NO) is (outcome is Outcome.DONE)
    assert (again, len(ours)) == (Outcome.DONE, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_arrives_after_its_repetition_is_turned_away(
    fake: FakeKubernetes, shop: Place, impatient: KubernetesClusters, kind: str
) -> None:
    """Even when a call is under way longer than it may be, the cluster accepts only one of the two."""
    request = shop.asked(kind)
    before = len(fake.requests)
    fake.fail(Fault.LATE, delay=30)
    outcome = carry_out(shop.action(request), request, by=shop.action(request, impatient), in_flight=0)
    fake.let_go.set()
    until(lambda: all(one["ended"] for one in fake.requests))
    patches = [one for one in fake.requests[before:] if one["method"] == "PATCH"]

    assert outcome is Outcome.DONE
    assert [one["applied"] for one in patches] == [False, True]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_after_any_server_error_the_change_may_be_there(
    fake: FakeKubernetes, shop: Place, kind: str, status: int
) -> None:
    """No 5xx of whatever stands between is taken for a promise that nothing happened."""
    request = shop.asked(kind)
    fake.fail(Fault.ERROR_AFTER, status=status)
    action = shop.action(request)

    with pytest.raises(ProviderUnavailableError) as error:
        action.apply(request, action.observe(request), action_id="x")
    assert error.value.may_have_applied


def test_a_conflict_is_a_target_that_changed(fake: FakeKubernetes, shop: Place) -> None:
    """A 409 means that somebody else was there meanwhile: the plan is void, and may be made anew."""
    request = shop.asked("scale")
    fake.fail(Fault.CONFLICT)
    action = shop.action(request)

    with pytest.raises(PreconditionFailedError):
        action.apply(request, action.observe(request), action_id="x")


def test_a_throttled_call_tells_how_long_to_wait(fake: FakeKubernetes, shop: Place) -> None:
    """A 429 was certainly turned away, and the asked wait is passed on."""
    request = shop.asked("scale")
    fake.fail(Fault.THROTTLED, retry_after=11)
    action = shop.action(request)

    with pytest.raises(ProviderUnavailableError) as error:
        action.apply(request, action.observe(request), action_id="x")
    assert (error.value.may_have_applied, error.value.retry_after) == (False, 11.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", [Fault.CUT_AFTER, Fault.ERROR_BEFORE, Fault.TIMEOUT_AFTER, Fault.THROTTLED])
def test_a_failing_dry_run_is_unavailable_and_never_in_doubt(
    fake: FakeKubernetes, shop: Place, impatient: KubernetesClusters, kind: str, fault: Fault
) -> None:
    """A dry run changes nothing, so a lost answer to it leaves nothing open."""
    request = shop.asked(kind)
    before = len(fake.changes)
    observed = shop.action(request).observe(request)
    action = shop.action(request, impatient if fault in SILENT else None)
    fake.fail(fault)

    with pytest.raises(ProviderUnavailableError) as error:
        action.preflight(request, observed)
    assert not error.value.may_have_applied
    assert len(fake.changes) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_is_tried_again_once(fake: FakeKubernetes, shop: Place, kind: str) -> None:
    """One broken connection of a read is not worth a failed activity."""
    request = shop.asked(kind)
    fake.fail(Fault.CUT_BEFORE, method="GET")

    assert shop.action(request).observe(request).guard["uid"]


@pytest.mark.parametrize(
    ("fault", "status"), [(Fault.ERROR_BEFORE, 503), (Fault.THROTTLED, 0), (Fault.GARBLED_AFTER, 0)]
)
def test_a_read_that_fails_is_unavailable(
    fake: FakeKubernetes, shop: Place, fault: Fault, status: int
) -> None:
    """A read that is not answered as it should be can be tried again, and leaves nothing in doubt."""
    shop.deploy()
    fake.fail(fault, method="GET", status=status)

    with pytest.raises(ProviderUnavailableError, match="cluster demo: ") as error:
        shop.status()
    assert not error.value.may_have_applied


def test_a_cluster_that_does_not_answer_a_read_is_unavailable(
    fake: FakeKubernetes, shop: Place, impatient: KubernetesClusters
) -> None:
    """Both tries of a read time out, and that is all."""
    request = shop.asked("restart")
    fake.fail(Fault.TIMEOUT_BEFORE, method="GET", times=2)

    with pytest.raises(ProviderUnavailableError, match="timed out"):
        shop.action(request, impatient).observe(request)


def test_a_release_in_between_is_never_overwritten(fake: FakeKubernetes, shop: Place) -> None:
    """When the answer was lost before anything was done and somebody else acts, our repetition is refused."""
    request = shop.asked("restart")
    action = shop.action(request)
    observed = action.observe(request)
    fake.fail(Fault.CUT_BEFORE)
    with pytest.raises(ProviderUnavailableError):
        action.apply(request, observed, action_id="x")
    shop.release(IMAGES[2])

    assert action.is_reached(request, action.observe(request)).reached is Reached.NO
    with pytest.raises(PreconditionFailedError):
        action.apply(request, observed, action_id="x")
