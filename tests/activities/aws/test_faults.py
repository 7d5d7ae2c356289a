"""Every action meets every answer of AWS, and the log before it says what truly became of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from activities.aws import (
    ExecuteRegionSwitch,
    Mode,
    RollBackService,
    SetDesiredCapacity,
    SetRecordWeights,
    SetRoutingControls,
    SetScalableTarget,
    SetServiceCount,
    SwitchGlobalCluster,
)
from activities.aws.actions import (
    ExecuteRegionSwitchAction,
    RollBackServiceAction,
    SetDesiredCapacityAction,
    SetRecordWeightsAction,
    SetRoutingControlsAction,
    SetScalableTargetAction,
    SetServiceCountAction,
    SwitchGlobalClusterAction,
)
from activities.aws.client import AwsClient
from activities.aws.fake import FakeAws, Fault
from activities.planning import changed
from contracts.errors import ActionRefusedError, PreconditionFailedError, ProviderUnavailableError
from contracts.outcomes import Outcome, Reached
from contracts.plans import Observation
from runtime.clock import utc_now
from tests.activities.aws.conftest import CONTROLS, PLAN, STANDBY, World, progress

# Without the wait against flapping: these tests go back at once.
UNHURRIED = partial(SetRecordWeightsAction, wait=timedelta(0))
LOOKS = 4  # at least, more than reads are stale: on a busy machine few fit into the time
IN_FLIGHT = 0.1  # seconds; a late call is the fake's time-out after applying


@dataclass(frozen=True)
class Case:
    """One action with something to do.

    Attributes:
        operation: The call that changes.
        read: The call that a stale read is of.
        is_done: Whether it is so, seen past the proxy.
        part: Makes the body of the change one of which a part is left out; ``None`` where it has no parts.
        tries: How often a read is tried.
    """

    action: Callable[[AwsClient], Any]
    request: Any
    operation: str
    read: str
    is_done: Callable[[], bool]
    part: Callable[[str], str] | None = None
    tries: int = 2


def capacity(world: World) -> Case:
    """Scale out within the limits."""
    world.make_group()
    request = SetDesiredCapacity(**world.at_group, desired=5)
    return Case(
        SetDesiredCapacityAction,
        request,
        "SetDesiredCapacity",
        "DescribeAutoScalingGroups",
        lambda: world.capacity()[1] == 5,
        lambda body: body.replace("DesiredCapacity=5", "DesiredCapacity=3"),
    )


def capacity_and_limits(world: World) -> Case:
    """Scale out beyond the former limits."""
    world.make_group()
    request = SetDesiredCapacity(**world.at_group, desired=8, maximum=10)
    return Case(
        SetDesiredCapacityAction,
        request,
        "UpdateAutoScalingGroup",
        "DescribeAutoScalingGroups",
        lambda: world.capacity() == (1, 8, 10),
        lambda body: body.replace("&DesiredCapacity=8", ""),
    )


def count(world: World) -> Case:
    """Run more tasks."""
    world.make_service()
    request = SetServiceCount(**world.at_service, count=5)
    return Case(
        SetServiceCountAction,
        request,
        "UpdateService",
        "DescribeServices",
        lambda: world.runs()[0] == 5,
        lambda body: body.replace('"desiredCount": 5', '"desiredCount": 3'),
    )


def limits(world: World) -> Case:
    """Widen the limits of Application Auto Scaling."""
    world.make_service()
    world.make_limits(1, 4)
    request = SetScalableTarget(
        account="main", region="eu-west-1", resource=world.resource, minimum=2, maximum=8
    )
    return Case(
        SetScalableTargetAction,
        request,
        "RegisterScalableTarget",
        "DescribeScalableTargets",
        lambda: world.limits() == (2, 8),
        lambda body: body.replace('"MaxCapacity": 8', '"MaxCapacity": 4'),
    )


def revision(world: World) -> Case:
    """Run the former revision."""
    former, present = world.make_service()
    request = RollBackService(**world.at_service, task_definition=former)
    third = world.make_revision("shop/web:3")
    return Case(
        RollBackServiceAction,
        request,
        "UpdateService",
        "DescribeServices",
        lambda: world.runs()[1] == former != present,
        lambda body: body.replace(former, third),
    )


def weights(world: World) -> Case:
    """Move the traffic."""
    check = world.make_health_check()
    zone = world.make_zone(blue={"Weight": 100}, green={"Weight": 0, "HealthCheckId": check})
    request = SetRecordWeights(
        account="main", zone=zone, name=f"www.{world.domain}", weights={"blue": 1, "green": 99}
    )
    return Case(
        UNHURRIED,
        request,
        "ChangeResourceRecordSets",
        "ListResourceRecordSets",
        lambda: {name: one["Weight"] for name, one in world.records(zone).items()} == request.weights,
        lambda body: body.replace("<Weight>99</Weight>", "<Weight>0</Weight>"),
    )


def routing(world: World) -> Case:
    """Turn the traffic to the standby, both controls at once."""
    world.make_panel()
    request = SetRoutingControls(account="main", panel="shop", states={"ireland": False, "virginia": True})
    return Case(
        SetRoutingControlsAction,
        request,
        "UpdateRoutingControlStates",
        "ListRoutingControls",
        lambda: world.aws.routing == {CONTROLS["ireland"]: False, CONTROLS["virginia"]: True},
        lambda body: body.replace(
            f'{CONTROLS["ireland"]}", "RoutingControlState": "Off"',
            f'{CONTROLS["ireland"]}", "RoutingControlState": "On"',
        ),
        tries=5,
    )


def region_switch(world: World) -> Case:
    """Execute a plan."""
    world.make_plan()
    request = ExecuteRegionSwitch(
        account="main",
        region=STANDBY,
        plan=PLAN,
        target_region=STANDBY,
        version="7",
        after="execution-0",
        since=utc_now() - timedelta(minutes=5),
    )
    return Case(
        ExecuteRegionSwitchAction,
        request,
        "StartPlanExecution",
        "ListPlanExecutions",
        lambda: world.aws.executions[PLAN][0]["executionRegion"] == STANDBY,
    )


def harder(world: World) -> Case:
    """Switch the mode of an execution that is under way."""
    case = region_switch(world)
    under_way = {"executionId": "execution-1", "executionState": "inProgress", "executionRegion": STANDBY}
    executions = world.aws.executions[PLAN]
    executions.insert(0, executions[0] | under_way | {"heldIn": STANDBY, "startTime": time.time()})
    return replace(
        case,
        request=case.request.model_copy(update={"mode": Mode.UNGRACEFUL}),
        operation="UpdatePlanExecution",
        read="GetPlanExecution",
        is_done=lambda: executions[0]["mode"] == "ungraceful",
    )


def switchover(world: World) -> Case:
    """Move the writer without loss."""
    return writer(world, Mode.GRACEFUL, "SwitchoverGlobalCluster")


def failover(world: World) -> Case:
    """Move the writer whatever is lost."""
    return writer(world, Mode.UNGRACEFUL, "FailoverGlobalCluster")


def writer(world: World, mode: Mode, operation: str) -> Case:
    """Move the writer."""
    name = world.make_global()
    request = SwitchGlobalCluster(
        account="main", region=STANDBY, cluster=name, writer=world.standby_db, mode=mode
    )
    return Case(
        SwitchGlobalClusterAction,
        request,
        operation,
        "DescribeGlobalClusters",
        lambda: world.aws.globals[name].writer == world.standby_db,
    )


WITH_PARTS = [capacity, capacity_and_limits, count, limits, revision, weights, routing]
CASES = [*WITH_PARTS, region_switch, switchover, failover]


@dataclass(frozen=True)
class Ends:
    """What an answer ends in: the outcome, how many calls arrive, and how many of them change something.

    Attributes:
        fault: What happens to the first call.
        stale: How many reads after it show what was before.
        done: It is so already.
    """

    outcome: Outcome
    arrived: int
    changed: int
    fault: Fault | None = None
    stale: int = 0
    done: bool = False


DONE, NOT_DONE = Outcome.DONE, Outcome.NOT_DONE
# The table of the campaign: every action of CASES meets each of these.
ENDS = {
    "ok": Ends(DONE, 1, 1),
    "no-op": Ends(DONE, 0, 0, done=True),
    "4xx": Ends(NOT_DONE, 1, 0, Fault.BAD_REQUEST),
    "403": Ends(NOT_DONE, 1, 0, Fault.FORBIDDEN),
    "409": Ends(NOT_DONE, 1, 0, Fault.CONFLICT),
    "429": Ends(DONE, 2, 1, Fault.THROTTLED),
    "5xx before": Ends(DONE, 2, 1, Fault.ERROR_BEFORE),
    "5xx after": Ends(DONE, 1, 1, Fault.ERROR_AFTER),
    "timeout before": Ends(DONE, 2, 1, Fault.TIMEOUT_BEFORE),
    "timeout after": Ends(DONE, 1, 1, Fault.TIMEOUT_AFTER),
    "partial": Ends(Outcome.IN_DOUBT, 1, 1, Fault.PARTIAL),
    "stale read": Ends(DONE, 1, 1, Fault.CUT_AFTER, stale=2),
    "connection cut before": Ends(DONE, 2, 1, Fault.CUT_BEFORE),
    "connection cut after": Ends(DONE, 1, 1, Fault.CUT_AFTER),
    "200 of something else": Ends(DONE, 2, 1, Fault.ANOTHER),
    "unreadable answer after": Ends(DONE, 1, 1, Fault.NONSENSE),
}
# A change of a single thing has no part that could be missing.
TABLE = [
    (made, name) for made in [*CASES, harder] for name in ENDS if made in WITH_PARTS or name != "partial"
]


def ended(aws: FakeAws, client: AwsClient, case: Case, ends: Ends) -> Ends:
    """Let an action meet an answer; give what it ended in by its word and by the log of AWS."""
    action = case.action(client)
    if ends.done:
        carry_out(action, case.request)
    before = len(aws.arrived(case.operation))
    action.observe(case.request)  # what a stale read shows
    aws.partial = case.part or aws.partial
    if ends.fault is not None:
        aws.fail(ends.fault, case.operation)
    if ends.stale:
        action = _Stale(action, lambda: aws.fail(Fault.STALE_READ, case.read, times=ends.stale))
    outcome = carry_out(action, case.request)
    arrived = aws.arrived(case.operation)[before:]
    return replace(ends, outcome=outcome, arrived=len(arrived), changed=sum(one.changed for one in arrived))


class _Stale:
    """An action whose reads are stale once its change was sent."""

    def __init__(self, action: Any, spoil: Callable[[], None]) -> None:
        self._action, self._spoil = action, spoil

    def __getattr__(self, name: str) -> Any:
        return getattr(self._action, name)

    def apply(self, request: Any, observed: Observation, *, action_id: str) -> None:
        """Send the change; then the reads are stale."""
        try:
            self._action.apply(request, observed, action_id=action_id)
        finally:
            self._spoil()


def carry_out(action: Any, request: Any, action_id: str = "INC-1/1/1/apply") -> Outcome:
    """Carry an action out by the engine's rule: after a lost answer, read before anything is sent again."""
    for _ in range(4):
        before = action.observe(request)
        if not action.change(request, before):
            return Outcome.DONE
        try:
            action.apply(request, before, action_id=action_id)
        except PreconditionFailedError:
            return Outcome.DONE if is_taken(action, request) else Outcome.NOT_DONE
        except ActionRefusedError:
            return Outcome.NOT_DONE
        except ProviderUnavailableError as error:
            found = reconcile(action, request, before) if error.may_have_applied else None
            if found is not None:
                return found
        else:
            return Outcome.DONE
    raise AssertionError("it never ended")


def reconcile(action: Any, request: Any, before: Observation) -> Outcome | None:
    """Find out what became of a call whose answer was lost; ``None``: it certainly did nothing."""
    end, looks = time.monotonic() + IN_FLIGHT, 0
    while looks < LOOKS or time.monotonic() < end:
        if is_taken(action, request):
            return Outcome.DONE
        looks += 1
    return Outcome.IN_DOUBT if changed(before, action.observe(request)) else None


def is_taken(action: Any, request: Any) -> bool:
    """Say whether the target shows that the change was taken."""
    return progress(action, request).reached is not Reached.NO


@pytest.mark.parametrize(("made", "name"), TABLE)
def test_every_answer_ends_in_the_truth(
    aws: FakeAws, world: World, impatient: AwsClient, made: Callable[[World], Case], name: str
) -> None:
    """Whatever AWS answers, the outcome is what its own log says, and nothing is changed twice."""
    case, ends = made(world), ENDS[name]

    assert ended(aws, impatient, case, ends) == ends
    assert case.is_done() is (ends.outcome is DONE)


@pytest.mark.parametrize("made", CASES)
def test_a_second_run_changes_nothing(
    aws: FakeAws, world: World, client: AwsClient, made: Callable[[World], Case]
) -> None:
    """What is already as it should be has no difference, no refusal, and is not called again."""
    case = made(world)
    action = case.action(client)
    carry_out(action, case.request)
    observed = action.observe(case.request)
    action.apply(case.request, observed, action_id="INC-1/1/1/apply")

    assert action.change(case.request, observed) == ()
    assert action.preflight(case.request, observed) == ()
    assert action.undo(case.request, observed)[0] is None
    assert len(aws.arrived(case.operation)) == 1


@pytest.mark.parametrize("made", CASES)
def test_undo_brings_the_former_state_back(
    world: World, client: AwsClient, made: Callable[[World], Case]
) -> None:
    """The undo that was planned beforehand restores what was observed, field by field."""
    world.aws.tells_all = True  # else the region that is left does not tell of it
    case = made(world)
    action = case.action(client)
    before = action.observe(case.request)
    undo, said = action.undo(case.request, before)
    carry_out(action, case.request)
    assert case.is_done()
    assert carry_out(action, undo, "INC-1/1/1/undo") is Outcome.DONE

    assert said
    assert not case.is_done()
    assert action.change(case.request, action.observe(case.request)) == action.change(case.request, before)


@pytest.mark.parametrize("made", CASES)
def test_a_stale_read_after_a_lost_answer_ends_in_the_same_state(
    aws: FakeAws, world: World, impatient: AwsClient, made: Callable[[World], Case]
) -> None:
    """When AWS still shows the former state after a lost answer, the repeated call asks for the same."""
    case = made(world)
    action = case.action(impatient)
    observed = action.observe(case.request)
    aws.fail(Fault.CUT_AFTER, case.operation)
    with pytest.raises(ProviderUnavailableError) as lost:
        action.apply(case.request, observed, action_id="INC-1/1/1/apply")
    aws.fail(Fault.STALE_READ, case.read, times=2)

    assert lost.value.may_have_applied
    assert not is_taken(action, case.request)
    assert carry_out(action, case.request) is Outcome.DONE
    assert case.is_done()


@pytest.mark.parametrize("made", CASES)
def test_what_somebody_else_changed_is_not_overwritten(
    aws: FakeAws, world: World, client: AwsClient, made: Callable[[World], Case]
) -> None:
    """Another state than the approved one, at the moment of the call, ends it before anything is sent."""
    case = made(world)
    action = case.action(client)
    observed = action.observe(case.request)
    guard = dict.fromkeys(observed.guard, "another")
    other = observed.model_copy(update={"guard": guard})

    with pytest.raises(PreconditionFailedError, match="changed since it was read"):
        action.apply(case.request, other, action_id="INC-1/1/1/apply")
    assert aws.arrived(case.operation) == []


@pytest.mark.parametrize("made", CASES)
def test_an_approval_is_of_one_target_and_not_of_its_name(
    world: World, client: AwsClient, made: Callable[[World], Case]
) -> None:
    """Which one it is, AWS says by an id: under the same name in another account it is another target."""
    case = made(world)
    guard = case.action(client).observe(case.request).guard
    zone = getattr(case.request, "zone", "")  # the id of a hosted zone is AWS's own

    assert zone or "arn:aws:" in f"{guard} {case.request.call().arguments}"


@pytest.mark.parametrize("made", CASES)
def test_a_read_is_tried_again_once(
    aws: FakeAws, world: World, client: AwsClient, made: Callable[[World], Case]
) -> None:
    """One broken connection of a read is not worth a failed activity; all of its tries are."""
    case = made(world)
    action = case.action(client)
    aws.fail(Fault.CUT_BEFORE, case.read)
    assert action.observe(case.request).guard

    aws.fail(Fault.CUT_BEFORE, case.read, times=case.tries)
    with pytest.raises(ProviderUnavailableError) as error:
        action.observe(case.request)
    assert not error.value.may_have_applied


@pytest.mark.parametrize("made", CASES)
def test_the_action_id_is_in_the_user_agent_of_the_change(
    aws: FakeAws, world: World, client: AwsClient, made: Callable[[World], Case]
) -> None:
    """CloudTrail shows whose call it was."""
    case = made(world)
    carry_out(case.action(client), case.request)

    assert {one.agent.rsplit(" ", 1)[-1] for one in aws.changes} == {"stanch/INC-1/1/1/apply"}
    assert all("stanch/" not in one.agent for one in aws.requests if not one.changed)
