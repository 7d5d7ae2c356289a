"""What grows, by how much, and within which limits."""

import pytest

from activities.aws import SetDesiredCapacity, SetScalableTarget, SetServiceCount
from activities.aws.client import AwsClient
from contracts.actions import ActionRequest
from contracts.errors import NothingToProposeError
from contracts.incidents import Incident
from playbooks.add_capacity import Params, plan
from tests.activities.aws import conftest
from tests.activities.aws.conftest import AT, World
from tests.playbooks.on_aws import incident, look

moto, proxy, aws, accounts = conftest.moto, conftest.proxy, conftest.aws, conftest.accounts
sdk, world, client = conftest.sdk, conftest.world, conftest.client
INCIDENT, PARAMS = incident(), Params()


async def proposed(
    client: AwsClient, world: World, *has: str, incident: Incident = INCIDENT, params: Params = PARAMS
) -> dict[str, ActionRequest]:
    """Give the title and the request of every step; the last one alone is verified."""
    proposal = await plan(incident, params, look(client, world, *has))
    requests = {one.action: one for one in (SetDesiredCapacity, SetScalableTarget, SetServiceCount)}
    assert [one.verification is not None for one in reversed(proposal.steps)] == [
        number == 0 for number in range(len(proposal.steps))
    ]
    return {
        one.title: requests[one.action.name].model_validate(one.action.arguments) for one in proposal.steps
    }


async def test_a_group_grows_within_its_limits(world: World, client: AwsClient) -> None:
    """Half as many more, rounded up; its limits stay as they are."""
    world.make_group(desired=3, high=6)

    assert await proposed(client, world, "group") == {
        f"Grow {world.group} from 3 to 5 instances": SetDesiredCapacity(**world.at_group, desired=5)
    }


async def test_a_limit_in_the_way_is_raised_and_said(world: World, client: AwsClient) -> None:
    """A group at its maximum grows with it, and the title says so."""
    world.make_group(desired=4, high=4)

    assert await proposed(client, world, "group") == {
        f"Grow {world.group} from 4 to 6 instances, its maximum from 4 with it": SetDesiredCapacity(
            **world.at_group, desired=6, maximum=6
        )
    }


async def test_growth_has_a_cap(world: World, client: AwsClient) -> None:
    """However large the factor, no more than so many are added."""
    world.make_group(desired=4, high=40)
    (request,) = (await proposed(client, world, "group", params=Params(factor=4, at_most=3))).values()

    assert request == SetDesiredCapacity(**world.at_group, desired=7)


async def test_an_ecs_service_grows_by_its_count_or_by_its_minimum(world: World, client: AwsClient) -> None:
    """Where Application Auto Scaling moves the count, its minimum is raised, if the catalogue has that."""
    world.make_service(count=4)
    alone = await proposed(client, world, "service")
    world.make_limits(1, 5)
    moved = await proposed(client, world, "service", "scalable")
    within = await proposed(client, world, "service")

    assert alone == {
        f"Grow {world.cluster}/web from 4 to 6 tasks": SetServiceCount(**world.at_service, count=6)
    }
    assert moved == {
        f"Keep {world.cluster}/web at 6 tasks or more": SetScalableTarget(
            **AT, resource=world.resource, minimum=6, maximum=6
        )
    }
    assert within == {
        f"Grow {world.cluster}/web from 4 to 5 tasks": SetServiceCount(**world.at_service, count=5)
    }


async def test_all_of_it_in_one_plan_but_what_was_tried(world: World, client: AwsClient) -> None:
    """A group and a service are steps of one plan; what did not help is left out of the next one."""
    world.make_group(desired=2)
    world.make_service(count=2)
    both = await proposed(client, world, "group", "service")
    tried = incident(SetDesiredCapacity(**world.at_group, desired=3))
    rest = await proposed(client, world, "group", "service", incident=tried)

    assert [type(one) for one in both.values()] == [SetDesiredCapacity, SetServiceCount]
    assert [type(one) for one in rest.values()] == [SetServiceCount]


async def test_nothing_grows_where_nothing_serves(world: World, client: AwsClient) -> None:
    """An empty standby is not started by this, nor is anything in a region that is not concerned."""
    world.make_group(desired=0, low=0)
    with pytest.raises(NothingToProposeError, match="nothing in AWS"):
        await proposed(client, world, "group")
    world.make_service(count=2)
    with pytest.raises(NothingToProposeError, match="nothing in AWS"):
        await proposed(client, world, "service", incident=incident(region="us-east-1"))
