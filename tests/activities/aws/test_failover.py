"""Moving traffic, plans and databases between two regions, and back."""

from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from activities.aws import (
    ExecuteRegionSwitch,
    Mode,
    SetDesiredCapacity,
    SetRecordWeights,
    SetRoutingControls,
    SwitchGlobalCluster,
)
from activities.aws.actions import (
    ExecuteRegionSwitchAction,
    SetDesiredCapacityAction,
    SetRoutingControlsAction,
    SwitchGlobalClusterAction,
)
from activities.aws.client import AwsClient
from activities.aws.fake import ERRORS, FakeAws, Fault
from activities.aws.models import GlobalState
from activities.planning import changed
from contracts.catalogue import Aws, RoutingPanel
from contracts.errors import ActionRefusedError, PreconditionFailedError, ProviderUnavailableError
from contracts.outcomes import Reached
from contracts.plans import Difference
from runtime.clock import utc_now
from tests.activities.aws.conftest import (
    CONTROLS,
    ENDPOINTS,
    PLAN,
    REGION,
    RULE,
    STANDBY,
    World,
    progress,
)
from tests.activities.aws.test_faults import UNHURRIED

MOVE = {"ireland": False, "virginia": True}
SWITCH = {"account": "main", "region": STANDBY, "plan": PLAN, "target_region": STANDBY, "version": "7"}


def apply(action: Any, request: Any, action_id: str = "INC-1/1/1/apply") -> Any:
    """Observe and apply; give what was observed."""
    observed = action.observe(request)
    action.apply(request, observed, action_id=action_id)
    return observed


def routed(panel: str = "shop", **more: Any) -> SetRoutingControls:
    """Ask for the traffic to go to the standby."""
    return SetRoutingControls.model_validate({"account": "main", "panel": panel, "states": MOVE, **more})


# Routing controls.


@pytest.mark.parametrize("away", [1, 2, 3, 4])
def test_routing_works_while_one_endpoint_answers(
    aws: FakeAws, world: World, client: AwsClient, away: int
) -> None:
    """Endpoints are tried one after the other; one of the five is enough to read and to change."""
    world.make_panel()
    for region in ENDPOINTS[:away]:
        aws.close_endpoint(region)
    action = SetRoutingControlsAction(client)
    apply(action, routed())

    assert progress(action, routed()).reached is Reached.YES
    (sent,) = aws.arrived("UpdateRoutingControlStates")
    assert len(sent.params["UpdateRoutingControlStateEntries"]) == 2
    assert sent.region not in ENDPOINTS[:away]


def test_other_controls_under_the_same_names_void_an_approval(
    aws: FakeAws, world: World, client: AwsClient, accounts: Aws
) -> None:
    """The catalogue's names are what is approved; which controls they are may not change since."""
    world.make_panel()
    controls = {name: f"{arn}-eu" for name, arn in CONTROLS.items()}
    aws.routing |= {controls[name]: aws.routing[arn] for name, arn in CONTROLS.items()}
    observed = SetRoutingControlsAction(client).observe(routed())
    panels = tuple(one.model_copy(update={"controls": controls}) for one in accounts.panels)
    elsewhere = accounts.model_copy(update={"panels": panels})
    with closing(AwsClient(elsewhere, clock=utc_now, read_timeout=20)) as other:
        action = SetRoutingControlsAction(other)

        assert {one.path for one in changed(observed, action.observe(routed()))} == {"ireland", "virginia"}
        with pytest.raises(PreconditionFailedError, match="changed since it was read: ireland, virginia"):
            action.apply(routed(), observed, action_id="INC-1/1/1/apply")
    assert aws.arrived("UpdateRoutingControlStates") == []


def test_no_endpoint_is_unavailable(aws: FakeAws, world: World, client: AwsClient) -> None:
    """When nobody answers, nothing was changed, and the number of endpoints is told."""
    world.make_panel()
    for region in ENDPOINTS:
        aws.close_endpoint(region)

    with pytest.raises(ProviderUnavailableError, match="none of 5 endpoints answers") as error:
        SetRoutingControlsAction(client).observe(routed())
    assert not error.value.may_have_applied


def test_an_endpoint_in_maintenance_is_passed_over(
    aws: FakeAws, world: World, client: AwsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint that says it is away for now has certainly not taken the change."""
    world.make_panel()
    answer = (503, "EndpointTemporarilyUnavailableException", "maintenance")
    monkeypatch.setitem(ERRORS, Fault.ERROR_BEFORE, answer)
    aws.fail(Fault.ERROR_BEFORE, "UpdateRoutingControlStates", times=3)
    apply(SetRoutingControlsAction(client), routed())

    assert [one.changed for one in aws.arrived("UpdateRoutingControlStates")] == [False, False, False, True]
    assert len({one.region for one in aws.arrived("UpdateRoutingControlStates")}) == 4


def test_a_lost_answer_is_not_sent_to_the_next_endpoint(
    aws: FakeAws, world: World, impatient: AwsClient
) -> None:
    """After a time-out the change may be there, so it is read before anything else is sent."""
    world.make_panel()
    aws.fail(Fault.TIMEOUT_AFTER, "UpdateRoutingControlStates")
    action = SetRoutingControlsAction(impatient)

    with pytest.raises(ProviderUnavailableError) as error:
        apply(action, routed())
    assert error.value.may_have_applied
    assert len(aws.arrived("UpdateRoutingControlStates")) == 1
    assert progress(action, routed()).reached is Reached.YES


def test_at_least_one_region_stays_on(aws: FakeAws, world: World, client: AwsClient) -> None:
    """The state after the change is computed before the call; to go against it the rule is named."""
    world.make_panel()
    aws.rules = []
    action = SetRoutingControlsAction(client)
    off = routed(states={"ireland": False})
    (refusal,) = action.preflight(off, action.observe(off))
    with pytest.raises(ActionRefusedError, match="at least 1 are to be"):
        apply(action, off)
    assert aws.changes == []

    apply(action, routed(states={"ireland": False}, override_rules=["at-least-on"]))

    assert "0 of 2 controls would be on, at least 1 are to be" in refusal
    assert aws.routing[CONTROLS["ireland"]] is False


@pytest.mark.parametrize("name", CONTROLS)
def test_iam_is_asked_about_every_control(aws: FakeAws, world: World, client: AwsClient, name: str) -> None:
    """A credential that may turn all of them but one is refused beforehand."""
    world.make_panel()
    verb = "route53-recovery-cluster:UpdateRoutingControlStates"
    aws.policies = {
        "main": [
            {"Effect": "Allow", "Action": ["*"], "Resource": ["*"]},
            {"Effect": "Deny", "Action": [verb], "Resource": [CONTROLS[name]]},
        ]
    }
    action = SetRoutingControlsAction(client)

    assert action.preflight(routed(), action.observe(routed())) == (
        f"control panel shop, account main: the credential may not do {verb}",
    )


def test_a_safety_rule_is_only_overridden_by_its_arn(aws: FakeAws, world: World, client: AwsClient) -> None:
    """AWS's refusal names the rule; the override names it too, and is shown to who approves."""
    world.make_panel()
    aws.rules[0].at_least = 2
    action = SetRoutingControlsAction(client)
    with pytest.raises(ActionRefusedError, match=r"a safety rule is against it .*safetyrule/one-on"):
        apply(action, routed())
    named = routed(override_rules=[RULE])
    observed = apply(action, named)
    said = action.blast_radius(named, observed)

    assert f"overrides {RULE}" in said
    assert action.undo(named, observed)[0] == routed(states={"ireland": True, "virginia": False})
    assert Difference(path="overridden rules", after=RULE) in action.change(named, observed)
    assert aws.changes[0].params["SafetyRulesToOverride"] == [RULE]


@pytest.mark.parametrize("rule", ["all", "*", "", "arn:aws:iam::123456789012:role/x"])
def test_an_override_names_a_rule(rule: str) -> None:
    """There is no override of everything."""
    with pytest.raises(ValidationError, match="String should match"):
        routed(override_rules=[rule])


@pytest.mark.parametrize("ago", [0, 59, 60])
def test_a_control_is_left_alone_after_a_change(world: World, client: AwsClient, ago: int) -> None:
    """Going back at once is held up by the panel's wait; a control that was not named then is not held."""
    world.make_panel()
    action = SetRoutingControlsAction(client)
    undo, _ = action.undo(routed("steady"), apply(action, routed("steady")))
    assert undo is not None
    first = routed("steady", states={"ireland": False}).call()
    waits = action.waits_for(undo, action.observe(undo), lambda: [(first, timedelta(seconds=ago))])
    other = undo.model_copy(update={"states": {"virginia": False}})

    assert ("ireland was changed less than 0:01:00 ago, so it is left alone" in waits) is (ago < 60)
    assert action.waits_for(other, action.observe(other), lambda: [(first, timedelta(0))]) == ""


def test_a_panel_belongs_to_its_account(client: AwsClient, world: World) -> None:
    """A panel that the account does not have is refused, and so is an unknown control."""
    world.make_panel()
    action = SetRoutingControlsAction(client)

    with pytest.raises(ActionRefusedError, match="no such panel"):
        action.observe(routed("theirs"))
    with pytest.raises(ActionRefusedError, match="has no control paris, it has ireland, virginia"):
        action.observe(routed(states={"paris": True}))


# Region switch.


def planned(**more: Any) -> ExecuteRegionSwitch:
    """Ask for the standby to be activated."""
    return ExecuteRegionSwitch.model_validate({**SWITCH, "after": "execution-0", **more})


def test_a_plan_is_started_with_its_version_and_our_token(
    aws: FakeAws, world: World, client: AwsClient
) -> None:
    """The reviewed version is pinned, the token comes from the action's id, and the standby is called."""
    world.make_plan()
    action = ExecuteRegionSwitchAction(client)
    observed = action.observe(planned())
    action.apply(planned(), observed, action_id="INC-1/1/1/apply")
    (started,) = aws.arrived("StartPlanExecution")

    assert started.params["latestVersion"] == "7"
    assert started.params["clientToken"] == "0d55eafa-de82-54f9-b55c-058e849e0270"
    assert started.region == STANDBY
    assert started.params["comment"] == "stanch INC-1/1/1/apply"


@pytest.mark.parametrize(
    ("state", "reached"),
    [
        ("pending", Reached.SETTLING),
        ("inProgress", Reached.SETTLING),
        ("pausedByOperator", Reached.SETTLING),
        ("pendingManualApproval", Reached.SETTLING),
        ("completed", Reached.YES),
        ("completedWithExceptions", Reached.YES),
        ("completedMonitoringApplicationHealth", Reached.YES),
        ("pausedByFailedStep", Reached.FAILED),
        ("planExecutionTimedOut", Reached.FAILED),
        ("failed", Reached.FAILED),
        ("canceled", Reached.FAILED),
    ],
)
def test_each_state_of_an_execution_has_its_meaning(
    aws: FakeAws, world: World, client: AwsClient, state: str, reached: Reached
) -> None:
    """All eleven states that AWS knows are told apart, in its own word."""
    world.make_plan()
    action = ExecuteRegionSwitchAction(client)
    apply(action, planned())
    aws.executions[PLAN][0]["executionState"] = state
    now = progress(action, planned())

    assert now.reached is reached
    assert state in now.detail


def test_another_version_of_the_plan_is_refused(aws: FakeAws, world: World, client: AwsClient) -> None:
    """What was reviewed is what runs, or nothing."""
    world.make_plan()
    action = ExecuteRegionSwitchAction(client)
    aws.plans[PLAN]["version"] = "8"

    assert (
        "it is in version 8, what was reviewed is 7"
        in action.preflight(planned(), action.observe(planned()))[0]
    )
    with pytest.raises(ActionRefusedError, match="what was reviewed is 7"):
        apply(action, planned())


def test_an_execution_under_way_is_not_crossed(aws: FakeAws, world: World, client: AwsClient) -> None:
    """While the plan is executing something else, nothing is started."""
    world.make_plan()
    aws.executions[PLAN][0] |= {"executionState": "inProgress", "heldIn": STANDBY}
    action = ExecuteRegionSwitchAction(client)

    assert "another execution is under way" in action.preflight(planned(), action.observe(planned()))[0]


def test_the_mode_is_switched_in_flight(aws: FakeAws, world: World, client: AwsClient) -> None:
    """The same request with the other mode switches the execution that runs, and starts none."""
    world.make_plan()
    aws.switch_state = "inProgress"
    action = ExecuteRegionSwitchAction(client)
    apply(action, planned())
    harder = planned(mode=Mode.UNGRACEFUL)
    before = progress(action, harder)
    apply(action, harder, "INC-1/2/1/apply")

    assert before.reached is Reached.NO
    assert progress(action, harder).reached is Reached.SETTLING
    assert [one.operation for one in aws.changes] == ["StartPlanExecution", "UpdatePlanExecution"]
    assert aws.executions[PLAN][0]["mode"] == "ungraceful"


@pytest.mark.parametrize("tells_all", [False, True])
def test_the_failback_goes_to_the_other_region(
    aws: FakeAws, world: World, client: AwsClient, *, tells_all: bool
) -> None:
    """The undo is an execution of its own, graceful, through the region that is to serve again.

    That region has been activated before, and may know nothing of what the other one has executed since.
    """
    world.make_plan()
    aws.tells_all = tells_all
    action = ExecuteRegionSwitchAction(client)
    request = planned(mode=Mode.UNGRACEFUL).as_of(action.observe(planned()))
    undo, said = action.undo(request, apply(action, request))
    assert undo is not None
    assert "2 steps (scale out, both at once)" in action.blast_radius(request, action.observe(request))
    before = progress(action, undo).reached
    apply(action, undo, "INC-1/1/1/undo")

    assert said == f"Executes the plan again, to activate {REGION}, gracefully."
    assert (undo.region, undo.target_region, undo.mode) == (REGION, REGION, Mode.GRACEFUL)
    assert (before, progress(action, undo).reached) == (Reached.NO, Reached.YES)
    assert [one.region for one in aws.arrived("StartPlanExecution")] == [STANDBY, REGION]


@pytest.mark.parametrize("tells_all", [False, True])
def test_a_second_failover_has_its_failback_too(
    aws: FakeAws, world: World, client: AwsClient, *, tells_all: bool
) -> None:
    """There and back, and there again: each time the other region is the way back, and each is executed."""
    world.make_plan()
    aws.tells_all = tells_all
    action = ExecuteRegionSwitchAction(client)
    for number in (1, 2):
        request = planned().as_of(action.observe(planned()))
        undo, _ = action.undo(request, apply(action, request, f"INC-{number}/1/1/apply"))
        assert progress(action, request).reached is Reached.YES
        apply(action, undo, f"INC-{number}/1/1/undo")
        for execution in aws.executions[PLAN]:  # the next one is an hour later
            execution["startTime"] -= 3600

    assert [one.region for one in aws.arrived("StartPlanExecution")] == [STANDBY, REGION] * 2


@pytest.mark.parametrize("verb", ["activate", "deactivate"])
def test_of_two_active_regions_one_is_taken_out_and_back(
    aws: FakeAws, world: World, client: AwsClient, verb: str
) -> None:
    """Where both serve, the way back is the other verb for the same region, through one that serves."""
    world.make_plan()
    aws.plans[PLAN]["recoveryApproach"] = "activeActive"
    through = {"activate": STANDBY, "deactivate": REGION}
    (back,) = through.keys() - {verb}
    request, action = planned(verb=verb, region=through[verb]), ExecuteRegionSwitchAction(client)
    undo, said = action.undo(request, action.observe(request))

    assert undo is not None
    assert (undo.verb, undo.target_region, undo.region) == (back, STANDBY, through[back])
    assert said == f"Executes the plan again, to {back} {STANDBY}, gracefully."


def test_tidying_up_afterwards_has_moved_nothing(aws: FakeAws, world: World, client: AwsClient) -> None:
    """A post-recovery execution is the newest then, and what was asked for is still so."""
    world.make_plan()
    action = ExecuteRegionSwitchAction(client)
    apply(action, planned())
    tidied = {"executionId": "tidied", "executionAction": "postRecovery"}
    aws.executions[PLAN].insert(0, {**aws.executions[PLAN][0], **tidied, "startTime": 4_000_000_000.0})

    assert progress(action, planned()).reached is Reached.YES


def test_every_step_of_an_execution_is_counted(aws: FakeAws, world: World, client: AwsClient) -> None:
    """Its steps come in pages, and the one that is stuck may be on the last."""
    world.make_plan()
    aws.switch_state = "inProgress"
    action = ExecuteRegionSwitchAction(client)
    apply(action, planned())
    aws.executions[PLAN][0]["stepStates"] = [
        {"name": "scale out", "status": "completed"},
        {"name": "ask", "status": "pendingApproval"},
    ]

    assert progress(action, planned()).detail.endswith("inProgress, 1 of 2 steps: ask pendingApproval")


LOSES = "about the last 3 seconds of writes are lost"


@pytest.mark.parametrize(
    ("behavior", "harder", "mode", "loses"),
    [
        ("switchoverOnly", None, "graceful", False),
        ("switchoverOnly", "failover", "graceful", False),
        ("switchoverOnly", "failover", "ungraceful", True),
        ("switchoverOnly", None, "ungraceful", False),
        ("failover", None, "graceful", True),
        ("failover", None, "ungraceful", True),
    ],
)
def test_a_plan_says_what_its_databases_lose(
    world: World, client: AwsClient, behavior: str, harder: str | None, mode: str, *, loses: bool
) -> None:
    """Who approves it sees the lag of each database whose block gives up data in that mode, as it is set."""
    world.make_plan()
    world.make_lag(3)
    block = world.database_block()
    block["behavior"] = behavior
    if harder:
        block["ungraceful"] = {"ungraceful": harder}
    action, request = ExecuteRegionSwitchAction(client), planned(mode=mode)
    said = action.blast_radius(request, action.observe(request))
    name = world.standby_db.rpartition(":")[2]

    assert (f"of {name} {LOSES}" in said) is loses
    assert ("lost" in said) is (loses or mode == "ungraceful")


def test_what_a_plan_loses_may_be_unknown(aws: FakeAws, world: World, client: AwsClient) -> None:
    """A lag that nobody can see is not zero."""
    world.make_plan()
    world.make_lag(3)
    aws.fail(Fault.FORBIDDEN, "GetMetricData")
    action = ExecuteRegionSwitchAction(client)
    said = action.blast_radius(planned(), action.observe(planned()))

    assert f"of {world.standby_db.rpartition(':')[2]} an unknown amount of writes are lost" in said


# Aurora.


def written(world: World, mode: Mode = Mode.GRACEFUL) -> SwitchGlobalCluster:
    """Ask for the standby to write."""
    name = world.make_global()
    return SwitchGlobalCluster(
        account="main", region=STANDBY, cluster=name, writer=world.standby_db, mode=mode
    )


def test_lag_is_an_estimate_of_what_is_lost(world: World, client: AwsClient) -> None:
    """Who approves a failover sees how much it loses, by the lag just then; a switchover loses nothing."""
    world.make_lag(4.5)
    action = SwitchGlobalClusterAction(client)
    forced, graceful = written(world, Mode.UNGRACEFUL), written(world)
    observed = action.observe(forced)

    assert GlobalState.model_validate(observed.state).lag == 4.5
    assert GlobalState.model_validate(observed.state).estimated_loss.startswith("about the last 4.5 seconds")
    assert "about the last 4.5 seconds of writes are lost" in action.blast_radius(forced, observed)
    assert "nothing is lost" in action.blast_radius(graceful, action.observe(graceful))


def test_an_old_engine_tells_its_lag_by_another_name(world: World, client: AwsClient) -> None:
    """What would be lost is the lag behind the objective; old engines have the replication lag alone."""
    action, forced = SwitchGlobalClusterAction(client), written(world, Mode.UNGRACEFUL)
    lags = []
    for metric, seconds in (("AuroraGlobalDBReplicationLag", 1), ("AuroraGlobalDBRPOLag", 30)):
        world.make_lag(seconds, metric)
        lags.append(GlobalState.model_validate(action.observe(forced).state).lag)

    assert lags == [1, 30]


def test_a_cluster_without_an_instance_is_no_writer(world: World, client: AwsClient) -> None:
    """A standby that is kept without instances, to be cheap, has nobody who could write."""
    request = written(world)
    world.aws.globals[request.cluster].instances = 0
    action = SwitchGlobalClusterAction(client)

    assert "has no instance, so nobody could write" in action.preflight(request, action.observe(request))[0]


def test_a_lag_that_cannot_be_seen_is_said(aws: FakeAws, world: World, client: AwsClient) -> None:
    """An estimate that is not there is not zero."""
    forced = written(world, Mode.UNGRACEFUL)
    aws.fail(Fault.FORBIDDEN, "GetMetricData")
    action = SwitchGlobalClusterAction(client)
    observed = action.observe(forced)

    assert "an unknown amount of writes are lost" in action.blast_radius(forced, observed)
    assert "the lag cannot be seen" in GlobalState.model_validate(observed.state).notes[0]


def test_a_failover_allows_data_loss_and_a_switchover_never(
    aws: FakeAws, world: World, client: AwsClient
) -> None:
    """Without the flag a failover would be a switchover, and that needs the region that is gone."""
    action = SwitchGlobalClusterAction(client)
    graceful = written(world)
    undo, _ = action.undo(graceful, apply(action, graceful))
    assert undo == graceful.model_copy(update={"region": REGION, "writer": world.primary_db})
    apply(action, undo)
    apply(action, graceful.model_copy(update={"mode": Mode.UNGRACEFUL}))

    assert [(one.operation, one.params.get("AllowDataLoss")) for one in aws.changes] == [
        ("SwitchoverGlobalCluster", None),
        ("SwitchoverGlobalCluster", None),
        ("FailoverGlobalCluster", "true"),
    ]


def test_each_way_is_ordered_where_aws_takes_it(aws: FakeAws, world: World, client: AwsClient) -> None:
    """A switchover in the region of the present writer, a failover in that of the one to be."""
    action = SwitchGlobalClusterAction(client)
    graceful = written(world)
    undo, _ = action.undo(graceful, apply(action, graceful))
    apply(action, undo, "INC-1/1/1/undo")
    apply(action, graceful.model_copy(update={"mode": Mode.UNGRACEFUL}), "INC-2/1/1/apply")

    assert [one.region for one in aws.changes] == [REGION, STANDBY, STANDBY]


def test_a_switchover_needs_both_regions(aws: FakeAws, world: World, client: AwsClient) -> None:
    """Where nobody answers in the region of the writer it is refused, and a failover is not."""
    graceful = written(world)
    forced = graceful.model_copy(update={"mode": Mode.UNGRACEFUL})
    aws.away = {REGION}
    action = SwitchGlobalClusterAction(client)
    (refusal,) = action.preflight(graceful, action.observe(graceful))
    with pytest.raises(ActionRefusedError, match="nobody answers"):
        apply(action, graceful)
    sent = len(aws.changes)
    apply(action, forced)

    assert f"needs the region of {world.primary_db.rpartition(':')[2]} in {REGION}" in refusal
    assert (sent, aws.globals[graceful.cluster].writer) == (0, world.standby_db)


def test_a_failover_is_reached_before_the_others_are_rebuilt(
    aws: FakeAws, world: World, client: AwsClient
) -> None:
    """AWS rebuilds the former writer for hours, or once its region is back; the new one writes meanwhile."""
    forced = written(world, Mode.UNGRACEFUL)
    action = SwitchGlobalClusterAction(client)
    apply(action, forced)
    aws.globals[forced.cluster].status = "failing-over"
    done = progress(action, forced)
    waiting = progress(action, forced.model_copy(update={"mode": Mode.GRACEFUL}))
    aws.fail(Fault.FORBIDDEN, "DescribeDBClusters")
    unseen = progress(action, forced)

    assert [one.reached for one in (done, waiting, unseen)] == [
        Reached.YES,
        Reached.SETTLING,
        Reached.SETTLING,
    ]
    assert "writes, and it is failing-over" in done.detail


def test_a_move_under_way_is_found_and_not_sent_again(aws: FakeAws, world: World, client: AwsClient) -> None:
    """A second run finds the move; a move elsewhere is waited for."""
    request = written(world)
    aws.moving = True
    action = SwitchGlobalClusterAction(client)
    apply(action, request)
    moving = progress(action, request)
    apply(action, request)
    back = request.model_copy(update={"region": REGION, "writer": world.primary_db})
    refusals = action.preflight(back, action.observe(back))
    elsewhere = progress(action, back)
    aws.end_move(request.cluster)

    assert moving.reached is Reached.SETTLING
    assert elsewhere.reached is Reached.NO
    assert "let that end" in refusals[0]
    assert progress(action, request).reached is Reached.YES
    assert len(aws.changes) == 1


def test_a_failover_waits_for_a_switchover_that_hangs(aws: FakeAws, world: World, client: AwsClient) -> None:
    """AWS takes no failover while a switchover is under way: it is said, and nothing is sent meanwhile."""
    graceful = written(world)
    forced = graceful.model_copy(update={"mode": Mode.UNGRACEFUL})
    aws.moving = True
    action = SwitchGlobalClusterAction(client)
    apply(action, graceful)
    hung = action.observe(forced)
    waits = action.waits_for(forced, hung, list)
    at_aws = {"GlobalClusterIdentifier": forced.cluster, "TargetDbClusterIdentifier": forced.writer}
    failover = ("rds", "failover_global_cluster", at_aws | {"AllowDataLoss": True})
    with pytest.raises(PreconditionFailedError, match="does not allow this operation"):
        client.change(forced, *failover, action=forced.action, action_id="INC-1/1/1/force")

    assert "AWS is switching-over to" in waits
    assert "takes nothing else before that has ended" in waits
    assert action.is_reached(forced, hung).reached is Reached.NO
    assert "let that end" in action.preflight(forced, hung)[0]
    assert action.waits_for(graceful, action.observe(graceful), list)  # the same move again waits as well
    assert len(aws.changes) == 1


def test_a_move_that_is_given_up_goes_nowhere(aws: FakeAws, world: World, client: AwsClient) -> None:
    """While AWS cancels a switchover nobody is about to write there, and afterwards the failover is sent."""
    graceful = written(world)
    forced = graceful.model_copy(update={"mode": Mode.UNGRACEFUL})
    aws.moving = True
    action = SwitchGlobalClusterAction(client)
    apply(action, graceful)
    aws.globals[graceful.cluster].gives_up = True
    gone = progress(action, graceful)
    waits = action.waits_for(forced, action.observe(forced), list)
    aws.end_move(graceful.cluster)
    free = action.waits_for(forced, action.observe(forced), list)
    aws.moving = False
    apply(action, forced, "INC-1/1/1/force")

    assert (gone.reached, "cancelling" in gone.detail, "AWS is cancelling" in waits) == (
        Reached.NO,
        True,
        True,
    )
    assert (free, progress(action, forced).reached) == ("", Reached.YES)
    assert [one.operation for one in aws.changes] == ["SwitchoverGlobalCluster", "FailoverGlobalCluster"]


def test_a_failover_under_way_is_not_waited_for(aws: FakeAws, world: World, client: AwsClient) -> None:
    """What is asked for is on its way: there is nothing to send and nothing to wait for."""
    forced = written(world, Mode.UNGRACEFUL)
    aws.moving = True
    action = SwitchGlobalClusterAction(client)
    apply(action, forced)
    observed = action.observe(forced)

    assert action.change(forced, observed) == ()
    assert action.is_reached(forced, observed).reached is Reached.SETTLING


def test_a_stranger_is_not_made_the_writer(world: World, client: AwsClient) -> None:
    """Only a cluster of the global database can write, and its own region is called."""
    stranger = world.standby_db + "-2"
    request = written(world).model_copy(update={"writer": stranger})
    action = SwitchGlobalClusterAction(client)

    assert "is none of its clusters" in action.preflight(request, action.observe(request))[0]
    with pytest.raises(ValidationError, match="whose endpoint is to be called"):
        SwitchGlobalCluster(account="main", region=REGION, cluster="x", writer=world.standby_db)


def test_a_whole_failover_and_its_failback(aws: FakeAws, world: World, client: AwsClient) -> None:
    """The standby is scaled out, then the writer and the traffic move: gracefully, forced, and back."""
    world.make_group(desired=2, high=10)
    zone = world.make_zone(ireland={"Weight": 100}, virginia={"Weight": 0})
    database = written(world)
    steps: list[tuple[Any, Any]] = [
        (SetDesiredCapacityAction(client), SetDesiredCapacity(**world.at_group, desired=8)),
        (SwitchGlobalClusterAction(client), database),
        (
            UNHURRIED(client),
            SetRecordWeights(
                account="main",
                zone=zone,
                name=f"www.{world.domain}",
                weights={"ireland": 0, "virginia": 100},
            ),
        ),
    ]
    forced = [(action, request) for action, request in steps if request is not database]
    forced.insert(1, (steps[1][0], database.model_copy(update={"mode": Mode.UNGRACEFUL})))

    for way in (steps, forced):
        undos = []
        for action, request in way:
            undo, _ = action.undo(request, apply(action, request))
            assert progress(action, request).reached is Reached.YES
            undos.append((action, undo))
        there = (world.capacity()[1], aws.globals[database.cluster].writer, world.shares(zone))
        for action, undo in reversed(undos):
            apply(action, undo, "INC-1/1/1/undo")
            assert progress(action, undo).reached is Reached.YES
        back = (world.capacity()[1], aws.globals[database.cluster].writer, world.shares(zone))

        assert there == (8, world.standby_db, {"ireland": 0, "virginia": 100})
        assert back == (2, world.primary_db, {"ireland": 100, "virginia": 0})


def test_a_control_is_not_left_alone_for_longer_than_a_step_is_tried() -> None:
    """A panel's wait fits into the time that a step has."""
    panel = {"name": "shop", "account": "main", "arn": "a", "endpoints": [{"region": "r", "url": "u"}]}
    with pytest.raises(ValidationError, match="less than or equal to 15 minutes"):
        RoutingPanel.model_validate(panel | {"controls": {}, "wait": timedelta(minutes=16)})
