"""What each action sees, refuses and waits for."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from activities.aws import (
    Answers,
    GroupState,
    RollBackService,
    ServiceState,
    SetDesiredCapacity,
    SetRecordWeights,
    SetRoutingControls,
    SetScalableTarget,
    SetServiceCount,
    actions,
)
from activities.aws.actions import (
    RollBackServiceAction,
    SetDesiredCapacityAction,
    SetRecordWeightsAction,
    SetRoutingControlsAction,
    SetScalableTargetAction,
    SetServiceCountAction,
)
from activities.aws.client import AwsClient
from activities.aws.fake import FakeAws, Fault
from activities.aws.models import RecordsState, RoutingState
from contracts.errors import ActionRefusedError, ProviderUnavailableError
from contracts.outcomes import Progress, Reached
from contracts.plans import Difference, Observation, Reach
from tests.activities.aws.conftest import AT, World, progress
from tests.activities.aws.test_faults import UNHURRIED


def apply(action: Any, request: Any) -> Any:
    """Observe and apply; give what was observed."""
    observed = action.observe(request)
    action.apply(request, observed, action_id="INC-1/1/1/apply")
    return observed


# Capacity.


def test_capacity_beyond_the_limits_is_refused_before_the_call(
    aws: FakeAws, world: World, client: AwsClient
) -> None:
    """A number outside the group's limits is refused with the limits and with what to do."""
    world.make_group(high=6)
    action, request = SetDesiredCapacityAction(client), SetDesiredCapacity(**world.at_group, desired=9)
    (refusal,) = action.preflight(request, action.observe(request))

    assert "9 instances are not within the limits, 1 to 6" in refusal
    with pytest.raises(ActionRefusedError, match="within the limits"):
        apply(action, request)
    assert aws.changes == []


def test_capacity_with_limits_is_one_call_and_its_undo_gives_them_back(
    aws: FakeAws, world: World, client: AwsClient
) -> None:
    """Limits and number change together, and so do they in the undo."""
    world.make_group()
    action = SetDesiredCapacityAction(client)
    request = SetDesiredCapacity(**world.at_group, desired=9, minimum=4, maximum=12)
    observed = apply(action, request)
    undo, _ = action.undo(request, observed)

    assert world.capacity() == (4, 9, 12)
    assert undo == SetDesiredCapacity(**world.at_group, desired=2, minimum=1, maximum=6)
    assert [one.operation for one in aws.changes] == ["UpdateAutoScalingGroup"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"desired": 3, "minimum": 4}, "not within minimum 4"),
        ({"desired": 3, "maximum": 2}, "and maximum 2"),
        ({"desired": -1}, "greater than or equal to 0"),
        ({"desired": 3, "region": "eu-west-1.attacker.example/"}, "String should match"),
    ],
)
def test_a_capacity_that_cannot_be_is_no_request(wrong: dict[str, Any], said: str) -> None:
    """A request that contradicts itself, or whose region is none, is not made."""
    with pytest.raises(ValidationError, match=said):
        SetDesiredCapacity(**{**AT, "group": "web", **wrong})


def test_capacity_is_reached_when_instances_serve(aws: FakeAws, world: World, client: AwsClient) -> None:
    """Accepted is not enough: the instances are in service, and healthy in every target group."""
    world.make_group()
    world.balance_group()
    action, request = SetDesiredCapacityAction(client), SetDesiredCapacity(**world.at_group, desired=4)
    apply(action, request)
    aws.in_service = 3
    launching = progress(action, request)
    aws.in_service, aws.healthy = None, 1
    registering = progress(action, request)
    aws.healthy = None

    assert (launching.reached, registering.reached) == (Reached.SETTLING, Reached.SETTLING)
    assert "3 of 4 instances are in service" in launching.detail
    assert "1 of 4 instances are healthy in target group" in registering.detail
    assert progress(action, request).reached is Reached.YES


def test_the_quota_is_shown_before_a_scale_out(aws: FakeAws, world: World, client: AwsClient) -> None:
    """Who approves sees how much of the quota is used; where that is not permitted, this is said."""
    world.make_group()
    world.make_quota(32, used=30)
    action, request = SetDesiredCapacityAction(client), SetDesiredCapacity(**world.at_group, desired=4)
    seen = action.observe(request)
    aws.quota = None
    unseen = action.observe(request)

    assert "30 of 32 used of quota vCPUs" in action.blast_radius(request, seen)
    assert "the quota's headroom is not known" in action.blast_radius(request, unseen)
    assert "the quota cannot be seen" in GroupState.model_validate(unseen.state).notes[0]


def test_a_suspended_process_is_a_refusal(world: World, client: AwsClient) -> None:
    """A group that may not launch would never reach the number."""
    world.make_group()
    world.sdk("autoscaling").suspend_processes(AutoScalingGroupName=world.group, ScalingProcesses=["Launch"])
    action, request = SetDesiredCapacityAction(client), SetDesiredCapacity(**world.at_group, desired=4)
    fewer = SetDesiredCapacity(**world.at_group, desired=1)

    assert "its process Launch is suspended" in action.preflight(request, action.observe(request))[0]
    assert action.preflight(fewer, action.observe(fewer)) == ()


def test_instances_that_get_no_traffic_are_no_capacity(world: World, client: AwsClient) -> None:
    """A group that does not register new instances with its load balancer would never reach the number."""
    world.make_group()
    stop = {"AutoScalingGroupName": world.group, "ScalingProcesses": ["AddToLoadBalancer"]}
    world.sdk("autoscaling").suspend_processes(**stop)
    action, request = SetDesiredCapacityAction(client), SetDesiredCapacity(**world.at_group, desired=4)
    alone = action.preflight(request, action.observe(request))
    world.balance_group()
    fewer = SetDesiredCapacity(**world.at_group, desired=1)

    assert alone == action.preflight(fewer, action.observe(fewer)) == ()
    assert "AddToLoadBalancer is suspended" in action.preflight(request, action.observe(request))[0]


def test_an_unknown_group_is_refused(client: AwsClient, world: World) -> None:
    """A group that is not there is named."""
    action = SetDesiredCapacityAction(client)

    with pytest.raises(ActionRefusedError, match=f"{world.group} .*no such Auto Scaling group"):
        action.observe(SetDesiredCapacity(**world.at_group, desired=4))


def test_what_the_guardrails_count_of_capacity(world: World, client: AwsClient) -> None:
    """Instances and tasks are replicas in a region; limits are in a region too, and take nothing away."""
    world.make_group()
    world.make_service()
    world.make_limits(1, 4)
    region = AT["region"]
    asks: list[tuple[Any, Any, Any]] = [
        (SetDesiredCapacityAction, SetDesiredCapacity(**world.at_group, desired=4), (2, 4)),
        (SetServiceCountAction, SetServiceCount(**world.at_service, count=1), (2, 1)),
        (
            SetScalableTargetAction,
            SetScalableTarget(**AT, resource=world.resource, minimum=1, maximum=3),
            None,
        ),
    ]

    for kind, request, replicas in asks:
        action = kind(client)
        assert action.reach(request, action.observe(request)) == Reach(region=region, replicas=replicas)


def test_what_the_guardrails_count_of_a_failover(client: AwsClient) -> None:
    """Weighted records and routing controls are places that are on or off, in no region of their own."""
    records: Any = {"blue": {"Weight": 9}, "green": {"Weight": 0}, "alone": {}}
    weighed = SetRecordWeights(account="main", zone="Z1", name="shop.", weights={"blue": 0, "green": 1})
    turned = SetRoutingControls(account="main", panel="shop", states={"ireland": False})
    seen = Observation(
        state=RecordsState(records=records).model_dump(mode="json"), guard={}, at=datetime.now(UTC)
    )
    on = Observation(
        state=RoutingState(on={"ireland": True, "ohio": True}).model_dump(mode="json"),
        guard={},
        at=datetime.now(UTC),
    )

    assert SetRecordWeightsAction(client).reach(weighed, seen) == Reach(
        places={"blue": (True, False), "green": (False, True)}
    )
    assert SetRoutingControlsAction(client).reach(turned, on) == Reach(
        places={"ireland": (True, False), "ohio": (True, True)}
    )


# ECS.


def test_a_count_outside_the_limits_of_auto_scaling_is_refused(world: World, client: AwsClient) -> None:
    """Application Auto Scaling would move it back, so its limits are to be changed instead."""
    world.make_service()
    world.make_limits(1, 4)
    action = SetServiceCountAction(client)
    over, within = (SetServiceCount(**world.at_service, count=number) for number in (5, 4))

    assert "keeps it within 1 to 4" in action.preflight(over, action.observe(over))[0]
    assert action.preflight(within, action.observe(within)) == ()
    assert "may move the number again" in action.blast_radius(within, action.observe(within))


def test_limits_that_came_after_the_approval_are_respected(
    aws: FakeAws, world: World, client: AwsClient
) -> None:
    """What stands against a change is looked at again just before the call."""
    world.make_service()
    action, request = SetServiceCountAction(client), SetServiceCount(**world.at_service, count=5)
    observed = action.observe(request)
    world.make_limits(1, 4)
    with pytest.raises(ActionRefusedError, match="keeps it within 1 to 4"):
        action.apply(request, observed, action_id="INC-1/1/1/apply")

    assert aws.changes == []


def test_an_unknown_service_is_refused(client: AwsClient, world: World) -> None:
    """A service that is not there is named, and so is its cluster."""
    action, request = SetServiceCountAction(client), SetServiceCount(**world.at_service, count=5)
    with pytest.raises(ActionRefusedError, match=f"{world.cluster}/web .*Cluster not found"):
        action.observe(request)
    world.sdk("ecs").create_cluster(clusterName=world.cluster)

    with pytest.raises(ActionRefusedError, match="no such service"):
        action.observe(request)


@pytest.mark.parametrize(
    "ends",
    [
        ("IN_PROGRESS", Reached.SETTLING, "0 of 2 tasks run"),
        ("FAILED", Reached.FAILED, "its deployment failed"),
        ("COMPLETED", Reached.YES, "2 of 2 tasks run"),
    ],
)
def test_a_rollback_is_done_when_its_deployment_is(
    aws: FakeAws, world: World, client: AwsClient, ends: tuple[str, Reached, str]
) -> None:
    """The circuit breaker's word counts; until it ends, the deployment settles."""
    rollout, reached, said = ends
    former, _ = world.make_service()
    action = RollBackServiceAction(client)
    request = RollBackService(**world.at_service, task_definition=former)
    observed = action.observe(request)
    aws.rollout = rollout
    action.apply(request, observed, action_id="INC-1/1/1/apply")
    now = progress(action, request)

    assert now.reached is reached
    assert said in now.detail
    assert "forceNewDeployment" not in aws.changes[0].params


def test_a_rollback_is_healthy_in_whichever_target_group_its_turn_is(
    aws: FakeAws, world: World, client: AwsClient
) -> None:
    """Blue/green deployments of ECS register the tasks in two target groups by turns: both are looked at."""
    blue, green = world.make_target_group("blue"), world.make_target_group("green")
    former, _ = world.make_service(loadBalancers=[{"targetGroupArn": blue, "containerName": "web"}])
    mine = f'"targetGroupArn": "{blue}"'
    both = f'{mine}, "advancedConfiguration": {{"alternateTargetGroupArn": "{green}"}}'
    aws.rewrites["DescribeServices"] = lambda said: said.replace(mine, both)
    action = RollBackServiceAction(client)
    request = RollBackService(**world.at_service, task_definition=former)
    apply(action, request)
    before = progress(action, request)
    for number in range(2):
        world.sdk("elbv2").register_targets(TargetGroupArn=green, Targets=[{"Id": f"192.0.2.{number}"}])

    assert (before.reached, progress(action, request).reached) == (Reached.SETTLING, Reached.YES)
    assert f"0 of 2 tasks are healthy in target group {world.group}-blue" in before.detail


def test_a_rollback_that_goes_on_has_not_failed(
    aws: FakeAws, world: World, client: AwsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes, only ECS says that it has failed; more failed tasks are no news."""
    former, _ = world.make_service()
    action = RollBackServiceAction(client)
    request = RollBackService(**world.at_service, task_definition=former)
    observed = action.observe(request)
    aws.rollout = "IN_PROGRESS"
    action.apply(request, observed, action_id="INC-1/1/1/apply")
    real = actions.look_at_service

    def later(failed: int) -> Progress:
        def look(*about: Any) -> ServiceState:
            state = real(*about)
            ago = {"failed_tasks": failed, "created_at": datetime(2020, 1, 1, tzinfo=UTC)}
            newest = state.deployments[0].model_copy(update=ago)
            return state.model_copy(update={"deployments": (newest, *state.deployments[1:])})

        monkeypatch.setattr(actions, "look_at_service", look)
        return progress(action, request)

    assert later(3) == later(30)
    assert later(3).reached is Reached.SETTLING
    assert later(3).detail.endswith("0 of 2 tasks run, some have failed")


def test_a_rollback_only_goes_to_a_living_revision_of_the_same_family(
    world: World, client: AwsClient
) -> None:
    """Another family, or a revision that was deregistered, is refused beforehand."""
    former, _ = world.make_service()
    other = world.make_revision("shop/db:1", family=f"{world.cluster}-db")
    action = RollBackServiceAction(client)
    wrong = RollBackService(**world.at_service, task_definition=other)
    assert "is no revision of" in action.preflight(wrong, action.observe(wrong))[0]

    world.sdk("ecs").deregister_task_definition(taskDefinition=former)
    gone = RollBackService(**world.at_service, task_definition=former)
    assert "is INACTIVE" in action.preflight(gone, action.observe(gone))[0]
    with pytest.raises(ActionRefusedError, match="INACTIVE"):
        apply(action, gone)


def test_a_rollback_shows_images_and_a_deployment_under_way(
    aws: FakeAws, world: World, client: AwsClient
) -> None:
    """The approver sees what will run, and that somebody is deploying."""
    former, _ = world.make_service()
    action = RollBackServiceAction(client)
    request = RollBackService(**world.at_service, task_definition=former)
    action.observe(request)
    aws.rollout = "IN_PROGRESS"
    third = world.make_revision("shop/web:3")
    world.sdk("ecs").update_service(cluster=world.cluster, service="web", taskDefinition=third)
    observed = action.observe(request)
    said = action.blast_radius(request, observed)

    assert "(shop/web:1)" in said
    assert "a deployment is under way there" in said
    assert len(ServiceState.model_validate(observed.state).deployments) == 2


@pytest.mark.parametrize("name", ["web", "web:3", "arn:aws:ecs:eu-west-1:123456789012:task-definition/web"])
def test_a_rollback_names_a_whole_revision(name: str) -> None:
    """A family alone would be its newest revision, and that may be another by then."""
    with pytest.raises(ValidationError, match="String should match"):
        RollBackService(**AT, cluster="shop", service="web", task_definition=name)


def test_limits_are_only_changed_where_they_are_registered(world: World, client: AwsClient) -> None:
    """Registering would hand a service to Application Auto Scaling that nobody has handed to it."""
    world.make_service()
    request = SetScalableTarget(**AT, resource=world.resource, minimum=2, maximum=8)

    with pytest.raises(ActionRefusedError, match="no such scalable target"):
        SetScalableTargetAction(client).observe(request)


def test_limits_are_not_reached_while_nobody_can_look(aws: FakeAws, world: World, client: AwsClient) -> None:
    """A service that does not answer may have no task; one that may not be seen is said to be unseen."""
    world.make_service(count=4)
    world.make_limits()
    action = SetScalableTargetAction(client)
    request = SetScalableTarget(**AT, resource=world.resource, minimum=4, maximum=8)
    apply(action, request)
    aws.fail(Fault.ERROR_BEFORE, "DescribeServices")
    with pytest.raises(ProviderUnavailableError):
        progress(action, request)
    aws.fail(Fault.FORBIDDEN, "DescribeServices")

    assert "its service cannot be seen" in progress(action, request).detail


def test_limits_are_reached_when_the_minimum_runs(world: World, client: AwsClient) -> None:
    """A higher minimum says nothing until as many tasks run."""
    world.make_service(count=2)
    world.make_limits()
    action = SetScalableTargetAction(client)
    request = SetScalableTarget(**AT, resource=world.resource, minimum=4, maximum=8)
    apply(action, request)
    before = progress(action, request)
    world.sdk("ecs").update_service(cluster=world.cluster, service="web", desiredCount=4)

    assert (before.reached, progress(action, request).reached) == (Reached.SETTLING, Reached.YES)


def test_limits_are_reached_when_the_minimum_is_healthy(
    aws: FakeAws, world: World, client: AwsClient
) -> None:
    """Tasks that run and do not answer the load balancer are not the capacity that was asked for."""
    group = world.make_target_group("web")
    world.make_service(count=4, loadBalancers=[{"targetGroupArn": group, "containerName": "web"}])
    world.make_limits(1, 4)
    for number in range(4):
        world.sdk("elbv2").register_targets(TargetGroupArn=group, Targets=[{"Id": f"192.0.2.{number}"}])
    action, request = (
        SetScalableTargetAction(client),
        SetScalableTarget(**AT, resource=world.resource, minimum=4, maximum=8),
    )
    apply(action, request)
    aws.healthy = 1
    before = progress(action, request)
    aws.healthy = None

    assert (before.reached, progress(action, request).reached) == (Reached.SETTLING, Reached.YES)
    assert "1 tasks run and are healthy" in before.detail


def test_the_quota_of_fargate_is_shown(aws: FakeAws, world: World, client: AwsClient) -> None:
    """Tasks on Fargate run into its quota; of others it is said that the headroom is not known."""
    world.make_service(launchType="FARGATE")
    world.make_limits()
    world.make_quota(32, used=8)
    request = SetServiceCount(**world.at_service, count=5)
    limits = SetScalableTarget(**AT, resource=world.resource, minimum=5, maximum=10)
    asks: list[tuple[Any, Any]] = [
        (SetServiceCountAction(client), request),
        (SetScalableTargetAction(client), limits),
    ]
    said = [action.blast_radius(asked, action.observe(asked)) for action, asked in asks]
    aws.quota = None
    unseen = SetServiceCountAction(client)

    assert [("8 of 32 used of quota vCPUs" in one) for one in said] == [True, True]
    assert [one.params["QuotaCode"] for one in aws.arrived("GetServiceQuota")] == ["L-3032A538"] * 2
    assert "headroom is not known" in unseen.blast_radius(request, unseen.observe(request))


# Route 53.


def test_weights_keep_the_rest_of_the_records(world: World, client: AwsClient) -> None:
    """An UPSERT replaces a whole record, so the whole record is sent."""
    zone = world.make_zone(blue={"Weight": 100, "TTL": 17}, green={"Weight": 0})
    before = world.records(zone)
    request = SetRecordWeights(
        account="main", zone=zone, name=f"www.{world.domain}.", weights={"blue": 0, "green": 100}
    )
    action = SetRecordWeightsAction(client)
    assert "green 100 %" in action.blast_radius(request, action.observe(request))
    apply(action, request)

    assert world.records(zone) == {
        "blue": before["blue"] | {"Weight": 0},
        "green": before["green"] | {"Weight": 100},
    }


def test_failover_records_swap_their_answers(world: World, client: AwsClient) -> None:
    """The answers of a failover pair change places in one batch, and back."""
    zone = world.make_zone(
        one={"Failover": "PRIMARY", "ResourceRecords": [{"Value": "192.0.2.1"}]},
        two={"Failover": "SECONDARY", "ResourceRecords": [{"Value": "192.0.2.2"}]},
    )
    action = UNHURRIED(client)
    at = {"account": "main", "zone": zone, "name": f"www.{world.domain}"}
    kept = Answers(ttl=30, values=("192.0.2.1",))
    seen = RecordsState.model_validate(action.observe(SetRecordWeights(**at, answers={"one": kept})).state)
    request = SetRecordWeights(**at, answers={"one": seen.answers_of("two"), "two": seen.answers_of("one")})
    undo, _ = action.undo(request, apply(action, request))
    swapped = world.records(zone)["one"]
    apply(action, undo)

    assert swapped["ResourceRecords"] == [{"Value": "192.0.2.2"}]
    assert swapped["Failover"] == "PRIMARY"
    assert world.records(zone)["one"]["ResourceRecords"] == [{"Value": "192.0.2.1"}]


def test_weights_wait_for_all_servers(aws: FakeAws, world: World, client: AwsClient) -> None:
    """A change that Route 53 is still telling its servers is not yet reached."""
    zone = world.make_zone(blue={"Weight": 100}, green={"Weight": 0})
    action = SetRecordWeightsAction(client)
    request = SetRecordWeights(account="main", zone=zone, name=f"www.{world.domain}", weights={"green": 100})
    apply(action, request)
    aws.zone_status = "PENDING"
    telling = progress(action, request)
    aws.zone_status = "INSYNC"

    assert telling.reached is Reached.SETTLING
    assert "all servers of Route 53 have it" in progress(action, request).detail
    assert "Route 53 has it" in progress(SetRecordWeightsAction(client), request).detail


def test_only_its_own_change_is_known_to_be_everywhere(world: World, client: AwsClient) -> None:
    """What another worker has changed since is not said to have arrived because an older change has."""
    zone = world.make_zone(blue={"Weight": 100}, green={"Weight": 0})
    one, another = UNHURRIED(client), UNHURRIED(client)
    request = SetRecordWeights(account="main", zone=zone, name=f"www.{world.domain}", weights={"green": 100})
    undo: Any = one.undo(request, apply(one, request))[0]
    apply(another, undo)

    assert "all servers of Route 53 have it" in progress(another, undo).detail
    assert progress(one, undo).detail.startswith(f"{undo.where}: Route 53 has it")


def test_at_least_one_weight_stays_above_zero(aws: FakeAws, world: World, client: AwsClient) -> None:
    """All zero means all alike in Route 53: the opposite of what somebody meant."""
    zone = world.make_zone(blue={"Weight": 100}, green={"Weight": 0})
    action = SetRecordWeightsAction(client)
    request = SetRecordWeights(account="main", zone=zone, name=f"www.{world.domain}", weights={"blue": 0})

    assert "every weight would be zero" in action.preflight(request, action.observe(request))[0]
    with pytest.raises(ActionRefusedError, match="every weight would be zero"):
        apply(action, request)
    assert aws.changes == []


def regions(world: World) -> tuple[str, str]:
    """Make two regions, all of the traffic in the first; give the zone and the second one's health check."""
    main, other = world.make_health_check(), world.make_health_check()
    blue, green = {"Weight": 100, "HealthCheckId": main}, {"Weight": 0, "HealthCheckId": other}
    return world.make_zone(blue=blue, green=green), other


def test_a_region_that_is_healthy_keeps_answering(aws: FakeAws, world: World, client: AwsClient) -> None:
    """After the change one record with weight is healthy, or the override names the rule, and shows it."""
    zone, check = regions(world)
    aws.unhealthy = {check}
    action = SetRecordWeightsAction(client)
    at = {"account": "main", "zone": zone, "name": f"www.{world.domain}"}
    away, part = ({"blue": 0, "green": 100}, {"green": 100})
    request = SetRecordWeights(**at, weights=away)
    (refusal,) = action.preflight(request, action.observe(request))
    with pytest.raises(ActionRefusedError, match="no health check succeeds"):
        apply(action, request)
    assert aws.changes == []
    shared = SetRecordWeights(**at, weights=part)
    assert action.preflight(shared, action.observe(shared)) == ()
    forced = SetRecordWeights(**at, weights=away, override_rules=("at-least-on",))
    observed = apply(action, forced)
    undo, _ = action.undo(forced, observed)

    assert "of green, which alone would answer, no health check succeeds" in refusal
    assert Difference(path="overridden rules", after="at-least-on") in action.change(forced, observed)
    assert "It overrides at-least-on" in action.blast_radius(forced, observed)
    assert undo == SetRecordWeights(**at, weights={"blue": 100, "green": 0})
    assert action.change(forced, action.observe(forced)) == ()


@pytest.mark.parametrize(
    ("how", "fails", "healthy"),
    [
        ({}, False, True),
        ({"Inverted": True}, False, False),
        ({"Inverted": True}, True, True),
        ({"Disabled": True}, True, True),
        ({"Disabled": True, "Inverted": True}, False, False),
    ],
)
def test_a_check_counts_as_route_53_counts_it(
    aws: FakeAws, world: World, client: AwsClient, how: dict[str, bool], *, fails: bool, healthy: bool
) -> None:
    """People move traffic by hand with checks that are inverted or disabled, whatever the checkers see."""
    zone, check = regions(world)
    aws.unhealthy = {check} if fails else set()
    world.sdk("route53").update_health_check(HealthCheckId=check, **how)
    action = SetRecordWeightsAction(client)
    at = {"account": "main", "zone": zone, "name": f"www.{world.domain}"}
    request = SetRecordWeights(**at, weights={"blue": 0, "green": 100})

    assert (action.preflight(request, action.observe(request)) == ()) is healthy


def test_a_health_check_that_cannot_be_seen_is_said(aws: FakeAws, world: World, client: AwsClient) -> None:
    """Not knowing does not stop a failover, and who approves it reads that it is not known."""
    zone, _ = regions(world)
    aws.fail(Fault.FORBIDDEN, "GetHealthCheckStatus")
    action = SetRecordWeightsAction(client)
    at = {"account": "main", "zone": zone, "name": f"www.{world.domain}"}
    request = SetRecordWeights(**at, weights={"blue": 0, "green": 100})
    observed = action.observe(request)

    assert action.preflight(request, observed) == ()
    assert "may not do route53:GetHealthCheckStatus" in RecordsState.model_validate(observed.state).notes[0]


def test_health_checks_are_not_asked_while_it_settles(aws: FakeAws, world: World, client: AwsClient) -> None:
    """Route 53 answers five questions a second to an account: a change that is made needs no more of them."""
    zone, _ = regions(world)
    action = SetRecordWeightsAction(client)
    request = SetRecordWeights(account="main", zone=zone, name=f"www.{world.domain}", weights={"green": 100})
    apply(action, request)
    before = len(aws.arrived("GetHealthCheckStatus"))
    progress(action, request)

    assert 0 < before == len(aws.arrived("GetHealthCheckStatus"))


def test_a_record_is_left_alone_after_a_change(world: World, client: AwsClient) -> None:
    """Traffic does not flap: a record that was changed a moment ago is changed again after a minute."""
    zone, _ = regions(world)
    action = SetRecordWeightsAction(client)
    request = SetRecordWeights(account="main", zone=zone, name=f"www.{world.domain}", weights={"green": 100})
    undo, _ = action.undo(request, apply(action, request))
    assert undo is not None
    observed = action.observe(undo)
    lately = [[(request.call(), timedelta(seconds=ago))] for ago in (1, 61)]
    said = [action.waits_for(undo, observed, lambda: made) for made in lately]  # noqa: B023  (called at once)

    assert "green was changed less than 0:01:00 ago" in said[0]
    assert said[1] == ""


def test_a_wildcard_is_found_as_route_53_writes_it(world: World, client: AwsClient) -> None:
    """Route 53 says for the star; the record is found, and its name is sent as it was read."""
    zone = world.make_zone()
    for name, weight in (("blue", 100), ("green", 0)):
        world.make_record(zone, name, {"Name": f"*.{world.domain}", "Weight": weight})
    request = SetRecordWeights(account="main", zone=zone, name=f"*.{world.domain}", weights={"green": 50})
    action = SetRecordWeightsAction(client)
    seen: Any = apply(action, request).state["records"]

    assert seen["blue"]["Name"].startswith("\\052.")
    assert world.shares(zone) == {"blue": 100, "green": 50}


def test_a_check_that_no_checker_watches_is_not_known(aws: FakeAws, world: World, client: AwsClient) -> None:
    """A check of other checks has no observations of its own: that is not knowing, and not failing."""
    zone, _ = regions(world)
    aws.rewrites["GetHealthCheckStatus"] = lambda said: re.sub(
        r"<HealthCheckObservation>.*</HealthCheckObservation>", "", said, flags=re.DOTALL
    )
    action = SetRecordWeightsAction(client)
    at = {"account": "main", "zone": zone, "name": f"www.{world.domain}"}
    request = SetRecordWeights(**at, weights={"blue": 0, "green": 100})

    assert action.preflight(request, action.observe(request)) == ()


def test_nothing_is_sent_after_a_long_look(
    aws: FakeAws, world: World, client: AwsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that comes late could arrive after another worker has concluded that none will."""
    world.make_group()
    monkeypatch.setattr(actions, "LOOK_WITHIN", timedelta(0))
    with pytest.raises(ProviderUnavailableError, match="reading it took too long") as error:
        apply(SetDesiredCapacityAction(client), SetDesiredCapacity(**world.at_group, desired=4))

    assert (error.value.may_have_applied, aws.changes) == (False, [])


def test_an_unknown_record_is_refused(world: World, client: AwsClient) -> None:
    """A set identifier that is not there is named, with those that are."""
    zone = world.make_zone(blue={"Weight": 100})
    request = SetRecordWeights(account="main", zone=zone, name=f"www.{world.domain}", weights={"red": 1})

    with pytest.raises(ActionRefusedError, match="no record red, there are blue"):
        SetRecordWeightsAction(client).observe(request)
