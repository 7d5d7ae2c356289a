"""Which ECS service is rolled back, and to which revision."""

from datetime import timedelta

import pytest

from activities.aws import RollBackService
from activities.aws.client import AwsClient
from activities.aws.fake import FakeAws, Fault
from contracts.errors import NothingToProposeError
from contracts.incidents import Incident
from contracts.plans import Proposal
from playbooks.roll_back_ecs_service import Params, plan
from runtime.clock import utc_now
from tests.activities.aws import conftest
from tests.activities.aws.conftest import World
from tests.playbooks.on_aws import incident, look

moto, proxy, aws, accounts = conftest.moto, conftest.proxy, conftest.aws, conftest.accounts
sdk, world, client = conftest.sdk, conftest.world, conftest.client


def deployed(aws: FakeAws, *hours_ago: tuple[str, float]) -> None:
    """Let deployments of these revisions have ended so long ago."""
    aws.deployed = [(arn, utc_now() - timedelta(hours=ago)) for arn, ago in hours_ago]


async def proposed(
    client: AwsClient, world: World, incident: Incident, **params: int
) -> tuple[Proposal, str]:
    """Give the proposal and the revision that it goes back to."""
    proposal = await plan(incident, Params.model_validate(params), look(client, world, "service"))
    (step,) = proposal.steps
    assert step.verification is not None
    return proposal, RollBackService.model_validate(step.action.arguments).task_definition


async def test_the_last_one_that_proved_itself(aws: FakeAws, world: World, client: AwsClient) -> None:
    """A revision that ran for minutes before the bad one is passed over for one that served for days."""
    good, brief, bad = world.make_service(revisions=3)
    deployed(aws, (good, 60), (brief, 0.5), (bad, 0.2))
    proposal, revision = await proposed(client, world, incident())

    assert revision == good
    assert f"{world.cluster}:3 was released 12 min ago" in proposal.rationale
    assert f"{world.cluster}:1 (shop/1) served for 59.5 h before" in proposal.rationale


async def test_while_the_bad_one_still_rolls_out(aws: FakeAws, world: World, client: AwsClient) -> None:
    """A deployment that has not succeeded is a suspect, and what succeeded before it is good."""
    good, _ = world.make_service()
    deployed(aws, (good, 60))
    proposal, revision = await proposed(client, world, incident())

    assert revision == good
    assert "was released 0 min ago" in proposal.rationale


async def test_what_is_not_known_is_said(aws: FakeAws, world: World, client: AwsClient) -> None:
    """Without a record the newest former revision is proposed, and the approver reads that it is a guess."""
    _, former, _ = world.make_service(revisions=3)
    aws.fail(Fault.FORBIDDEN, "ListServiceDeployments")
    proposal, revision = await proposed(client, world, incident())

    assert revision == former
    assert "it is not known that it ever served" in proposal.rationale
    assert "may not do ecs:ListServiceDeployments" in proposal.rationale


async def test_nothing_to_go_back_to(aws: FakeAws, world: World, client: AwsClient) -> None:
    """An old release, another region, and what was tried already are no suspects."""
    good, present = world.make_service()
    deployed(aws, (good, 900), (present, 50))
    with pytest.raises(NothingToProposeError, match="released within 1 day"):
        await proposed(client, world, incident())

    deployed(aws, (good, 900), (present, 5))
    with pytest.raises(NothingToProposeError):
        await proposed(client, world, incident(region="us-east-1"))
    tried = RollBackService(**world.at_service, task_definition=good)
    with pytest.raises(NothingToProposeError):
        await proposed(client, world, incident(tried))
    assert (await proposed(client, world, incident(region="eu-west-1")))[1] == good


async def test_the_next_one_follows(aws: FakeAws, world: World, client: AwsClient) -> None:
    """After the best revision did not help the next is proposed; a person may name any."""
    good, brief, bad = world.make_service(revisions=3)
    deployed(aws, (good, 60), (brief, 0.5), (bad, 0.2))
    first = RollBackService(**world.at_service, task_definition=good)

    assert (await proposed(client, world, incident(first)))[1] == brief
    assert (await proposed(client, world, incident(), revision=2))[1] == brief
    with pytest.raises(NothingToProposeError, match="revision 9"):
        await proposed(client, world, incident(), revision=9)


async def test_a_revision_of_two_services(aws: FakeAws, world: World, client: AwsClient) -> None:
    """Each ECS service counts its own revisions: one that two have is asked about, and a name says which."""
    good, bad = world.make_service(revisions=2)
    deployed(aws, (good, 60), (bad, 0.2))
    names = {"cluster": world.cluster, "serviceName": "twin"}
    world.sdk("ecs").create_service(**names, taskDefinition=bad, desiredCount=1)
    seen = look(client, world, "service")
    (service,) = seen.service.aws.ecs_services
    twin = service.model_copy(update={"name": "twin"})
    both = seen.service.aws.model_copy(update={"ecs_services": (service, twin)})
    seen.service = seen.service.model_copy(update={"aws": both})
    with pytest.raises(NothingToProposeError) as refused:
        await plan(incident(), Params(revision=1), seen)
    (step,) = (await plan(incident(), Params(revision=1, name="twin"), seen)).steps

    place = f"{service.account}/{service.region}/{world.cluster}"
    assert str(refused.value) == (
        f"{place}/{world.service} and {place}/twin each have a revision 1: say which one with `name`"
    )
    assert step.action.arguments["service"] == "twin"
