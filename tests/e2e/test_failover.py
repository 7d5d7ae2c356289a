"""A service leaves an unhealthy region and comes back: alert, plan, approval, steps, failback.

With AWS: capacity, an Aurora global database and ARC routing controls. And the same without: two Kubernetes
clusters, and DNS behind a team's own endpoint. The users fare well only where traffic and writer are in the
region that is healthy and has the capacity.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from activities.aws.fake import FakeAws, Fault
from activities.http.fake import SECRET, FakeEndpoint, FakeWeb
from activities.k8s.fake import FakeKubernetes, manifest
from contracts.approvals import Approval
from contracts.catalogue import Aws, Catalogue, Service
from contracts.in_force import ForceState
from contracts.incidents import AttemptEnd, Incident, Phase, Role, Severity
from contracts.outcomes import Direction
from contracts.plans import Needs, Risk
from runtime.policy import load_policy
from tests import site as sites
from tests.activities.aws import conftest as aws_world
from tests.activities.aws.conftest import REGION, STANDBY, World
from tests.site import QUICK, Site, until

# The fixtures of the AWS tests, by their names.
accounts, aws, moto, proxy = aws_world.accounts, aws_world.aws, aws_world.moto, aws_world.proxy
sdk, world = aws_world.sdk, aws_world.world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
QUERY = "availability_errors"
LOSES = "about the last 2 seconds of writes are lost"
SIGNAL = {"prometheus": "main", "query": QUERY, "healthy_below": 0.05, "within": 20, **QUICK}


def with_shop(environment: dict[str, Any], **more: Any) -> Callable[[Catalogue], Catalogue]:
    """Add the shop to a catalogue, in two regions."""
    whole = {"regions": [REGION, STANDBY], "signals": {"availability": SIGNAL}, **environment}

    def add(book: Catalogue) -> Catalogue:
        shop = {"name": "shop", "on_call": ("ada", "grace"), "environments": {"production": whole}}
        services = (*book.services, Service.model_validate(shop))
        checked = {name: getattr(book, name) for name in Catalogue.model_fields} | {"services": services}
        return Catalogue.model_validate(checked | more)

    return add


@asynccontextmanager
async def users(site: Site, fare_well: Callable[[], bool]) -> AsyncIterator[None]:
    """Let the error rate be what users see."""

    async def look() -> None:
        while True:
            well = await asyncio.to_thread(fare_well)
            site.metrics.set(QUERY, ({}, "0.001" if well else "0.4"))
            await asyncio.sleep(0.1)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def begin(site: Site) -> Incident:
    """Let the alert of the region fire, and give out the roles of those who approve."""
    about = {"region": REGION, "signal": "availability", "severity": Severity.SEV1}
    alert = site.firing("shop").model_copy(update=about)
    site.ledger.inbox.accept("test", b"{}", [alert], trace={})
    site.dispatcher.wake()
    incident = await site.command("shop")
    site.ledger.incidents.assign(incident.id, Role.TECHNICAL_LEAD, "grace", by="ada")
    return incident


def approve(site: Site, asked: Approval) -> None:
    """Approve by as many people as the policy asks."""
    site.decide(asked)
    if asked.request.needs is Needs.TWO:
        site.decide(asked, person="grace")


async def fail_back(site: Site, mitigation: str) -> Approval:
    """Undo the mitigation, and wait until nothing of it is in force."""
    order = site.ledger.in_force.order_undo(mitigation, person="ada", reason="the region is healthy again")
    site.dispatcher.wake()

    def question() -> Approval | None:
        return site.ledger.approvals.for_mitigation(order.mitigation)

    asked = await until(question, what=order.mitigation)
    approve(site, asked)

    def undone() -> bool:
        return site.ledger.in_force.get(mitigation).state is ForceState.UNDONE

    await until(undone, within=40, what=f"{mitigation} undone")
    return asked


# With AWS.

CHANGES = (
    "SetDesiredCapacity",
    "SwitchoverGlobalCluster",
    "FailoverGlobalCluster",
    "UpdateRoutingControlStates",
)


class Shop:
    """The shop in AWS, as its catalogue has it and as it really is."""

    def __init__(self, aws: FakeAws, world: World, accounts: Aws) -> None:
        self.aws, self.world, self.accounts = aws, world, accounts
        scaling = world.sdk("autoscaling", STANDBY)
        image = {"ImageId": "ami-12c6146b", "InstanceType": "t3.micro"}
        scaling.create_launch_configuration(LaunchConfigurationName=world.group, **image)
        scaling.create_auto_scaling_group(
            AutoScalingGroupName=world.group,
            LaunchConfigurationName=world.group,
            MinSize=1,
            MaxSize=6,
            DesiredCapacity=1,
            AvailabilityZones=[f"{STANDBY}a"],
        )
        self.database = world.make_global()
        world.make_lag(2.0)
        world.make_panel()
        self.broken = True

    def catalogue(self) -> Callable[[Catalogue], Catalogue]:
        """Give what the catalogue says of it."""
        group = {"account": "main", "region": STANDBY, "group": self.world.group}
        writer = {"account": "main", "region": STANDBY, "cluster": self.database}
        traffic = {"account": "main", "panel": "shop", "states": {"ireland": False, "virginia": True}}
        steps = [
            {
                "title": "Scale out Virginia",
                "action": "aws.set_desired_capacity",
                "arguments": {**group, "desired": 4},
            },
            {
                "title": "Write in Virginia",
                "action": "aws.switch_global_cluster",
                "arguments": {**writer, "writer": self.world.standby_db},
                "forced": {"mode": "ungraceful"},
                "undo_first": True,
            },
            {
                "title": "Send the traffic to Virginia",
                "action": "aws.set_routing_controls",
                "arguments": traffic,
            },
        ]
        resources = {
            "auto_scaling_groups": [{"account": "main", "region": STANDBY, "name": self.world.group}],
            "global_clusters": [{"account": "main", "name": self.database}],
            "panels": ["shop"],
        }
        moves = [{"away_from": REGION, "to": STANDBY, "steps": steps}]
        return with_shop({"aws": resources, "failover": {"moves": moves}}, aws=self.accounts)

    def where(self) -> tuple[int, str, list[bool]]:
        """Give capacity of the standby, writer and which controls are on, as they really are."""
        scaling = self.world.sdk("autoscaling", STANDBY)
        found = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[self.world.group])
        capacity = found["AutoScalingGroups"][0]["DesiredCapacity"]
        return capacity, self.aws.globals[self.database].writer, [*self.aws.routing.values()]

    def fares_well(self) -> bool:
        """Say whether its users are served."""
        capacity, writer, (ireland, virginia) = self.where()
        if virginia and not ireland:
            return capacity >= 4 and writer == self.world.standby_db
        return not self.broken and writer == self.world.primary_db

    @property
    def away(self) -> tuple[int, str, list[bool]]:
        """Where everything is after a failover."""
        return 4, self.world.standby_db, [False, True]

    @property
    def home(self) -> tuple[int, str, list[bool]]:
        """Where everything was before."""
        return 1, self.world.primary_db, [True, False]

    def changes(self) -> list[str]:
        """Give which calls have changed something, in order: AWS's own log is the witness."""
        return [one.operation for one in self.aws.changes if one.operation in CHANGES]


@pytest.fixture
def shop(aws: FakeAws, world: World, accounts: Aws) -> Shop:
    """A shop that serves from Ireland, where nothing works."""
    return Shop(aws, world, accounts)


async def test_with_aws_and_back(shop: Shop, tmp_path: Path) -> None:
    """The standby is scaled out, the writer moves without loss, then the traffic; back it is writer first."""
    async with (
        sites.site(tmp_path, services=0, more=shop.catalogue()) as site,
        users(site, shop.fares_well),
    ):
        incident = await begin(site)
        asked = await site.asked(incident.id)
        assert asked.plan.playbook == "fail-over"
        assert (asked.plan.risk, asked.plan.refusals) == (Risk.HIGH, ())
        loss = asked.plan.steps[1].blast_radius
        assert "nothing is lost" in loss
        assert LOSES in loss.partition(" Forced: ")[2]
        approve(site, asked)
        await site.phase(incident.id, Phase.MONITORING, within=60)
        assert shop.where() == shop.away
        assert shop.changes() == [
            "SetDesiredCapacity",
            "SwitchoverGlobalCluster",
            "UpdateRoutingControlStates",
        ]

        shop.broken = False
        back = await fail_back(site, asked.plan.mitigation)
        assert [step.title for step in back.plan.steps] == [
            "Undo: Write in Virginia",
            "Undo: Send the traffic to Virginia",
            "Undo: Scale out Virginia",
        ]
        assert shop.where() == shop.home
        assert shop.changes()[3:] == [
            "SwitchoverGlobalCluster",
            "UpdateRoutingControlStates",
            "SetDesiredCapacity",
        ]
        site.check_audit()


async def test_with_aws_ungracefully_after_a_refusal(shop: Shop, tmp_path: Path) -> None:
    """What AWS refuses gracefully is proposed ungracefully, with what that loses, and approved anew."""
    shop.aws.fail(Fault.BAD_REQUEST, "SwitchoverGlobalCluster")
    async with (
        sites.site(tmp_path, services=0, more=shop.catalogue()) as site,
        users(site, shop.fares_well),
    ):
        incident = await begin(site)
        approve(site, await site.asked(incident.id))
        asked = await until(lambda: site.ledger.approvals.for_mitigation(f"{incident.id}/2"), within=40)
        assert asked.plan.title.endswith(", ungracefully")
        assert f"gracefully it was refused in {incident.id}/1" in asked.plan.rationale
        assert LOSES in asked.plan.steps[1].blast_radius
        assert shop.where()[1:] == shop.home[1:]
        approve(site, asked)
        seen = await site.phase(incident.id, Phase.MONITORING, within=60)

        assert [one.end for one in seen.attempts] == [AttemptEnd.REFUSED, AttemptEnd.EFFECTIVE]
        assert shop.where() == shop.away
        assert shop.changes() == ["SetDesiredCapacity", "FailoverGlobalCluster", "UpdateRoutingControlStates"]


async def test_with_aws_while_the_region_is_gone_and_back(shop: Shop, tmp_path: Path) -> None:
    """Where nobody answers there, the ungraceful way is proposed at once; the failback is graceful."""
    shop.aws.away = {REGION}
    async with (
        sites.site(tmp_path, services=0, more=shop.catalogue()) as site,
        users(site, shop.fares_well),
    ):
        incident = await begin(site)
        asked = await site.asked(incident.id)
        assert asked.plan.title.endswith(", ungracefully")
        assert "gracefully it would be refused (a switchover needs the region of" in asked.plan.rationale
        assert LOSES in asked.plan.steps[1].blast_radius
        approve(site, asked)
        await site.phase(incident.id, Phase.MONITORING, within=60)
        assert shop.where() == shop.away
        assert shop.changes() == ["SetDesiredCapacity", "FailoverGlobalCluster", "UpdateRoutingControlStates"]

        shop.aws.away, shop.broken = set(), False
        await fail_back(site, asked.plan.mitigation)
        assert shop.where() == shop.home
        assert shop.changes()[3] == "SwitchoverGlobalCluster"
        site.check_audit()


# Without AWS.


class Clusters:
    """The shop in two Kubernetes clusters, with DNS behind its team's own endpoint."""

    def __init__(self, home: Path, eu: FakeKubernetes, us: FakeKubernetes) -> None:
        self.clusters = {"eu": eu, "us": us}
        self.configs = {name: str(one.kubeconfig(home / name)) for name, one in self.clusters.items()}
        eu.create("deployments", manifest("web", "shop:v1", replicas=3))
        us.create("deployments", manifest("web", "shop:v1", replicas=1))

    def catalogue(self, dns: FakeEndpoint, standby: FakeWeb) -> Callable[[Catalogue], Catalogue]:
        """Give what the catalogue says of it."""
        at = {"cluster": "us", "namespace": "shop", "name": "web"}
        ready = [{"name": "k8s.rollout_status", "arguments": at}]
        ready.append({"name": "http.check", "arguments": {"url": standby.url}})
        steps = [
            {"title": "Scale out us", "action": "k8s.scale_deployment", "arguments": {**at, "replicas": 3}},
            {
                "title": "Send the traffic to us",
                "action": "http.call_hook",
                "arguments": {"hook": "dns", "desired": {"serves": "us", "way": "drained"}},
                "forced": {"desired": {"serves": "us", "way": "cut"}},
            },
        ]
        hook = {
            "name": "dns",
            "url": dns.url,
            "status_url": dns.status_url,
            "secret_env": "DNS_SECRET",
            "blast_radius": "Everybody who resolves shop.example.",
        }
        environment = {
            "deployments": [{**at, "cluster": name} for name in self.clusters],
            "hooks": [hook],
            "checks": {"us": standby.url},
            "failover": {"moves": [{"away_from": REGION, "to": STANDBY, "steps": steps, "ready": ready}]},
        }
        clusters = [{"name": name, "kubeconfig": path} for name, path in self.configs.items()]
        return with_shop(environment, clusters=clusters)

    def replicas(self, cluster: str) -> int:
        """Give how many replicas are wanted, as it really is."""
        (found,) = self.clusters[cluster].objects("deployments")
        replicas: int = found["spec"]["replicas"]
        return replicas


async def test_without_aws_forced_in_flight_and_back(tmp_path: Path) -> None:
    """The traffic drains too slowly, so the Incident Commander forces that in flight; then all goes back."""
    with (
        FakeKubernetes() as eu,
        FakeKubernetes() as us,
        FakeWeb() as standby,
        FakeEndpoint({"serves": "eu", "way": "open"}) as dns,
    ):
        world = Clusters(tmp_path, eu, us)
        broken = True

        def fares_well() -> bool:
            serves: str = dns.state["serves"]
            return world.replicas("us") >= 3 if serves == "us" else not broken

        more = world.catalogue(dns, standby)
        async with (
            sites.site(tmp_path, services=0, more=more, secret=lambda _: SECRET) as site,
            users(site, fares_well),
        ):
            incident = await begin(site)
            asked = await site.asked(incident.id)
            assert [step.action.name for step in asked.plan.steps] == [
                "k8s.scale_deployment",
                "http.call_hook",
            ]
            assert [step.forced is not None for step in asked.plan.steps] == [False, True]
            dns.slow = True
            approve(site, asked)
            await until(lambda: bool(dns.wanted), within=30, what="the traffic drains")
            dns.slow = False
            site.ledger.approvals.force(
                asked.request.id,
                2,
                person="ada",
                authenticated_by="local",
                reason="it drains too slowly",
                policy=load_policy(site.config),
                signer=site.signer,
                trace={},
            )
            site.dispatcher.wake()
            await site.phase(incident.id, Phase.MONITORING, within=60)
            assert (dns.state, world.replicas("us")) == ({"serves": "us", "way": "cut"}, 3)
            assert [one.key.rpartition("/")[2] for one in dns.orders()] == [Direction.APPLY, Direction.FORCE]

            broken = False
            back = await fail_back(site, asked.plan.mitigation)
            assert [step.action.name for step in back.plan.steps] == [
                "http.call_hook",
                "k8s.scale_deployment",
            ]
            assert (dns.state, world.replicas("us")) == ({"serves": "eu", "way": "open"}, 1)
            assert [one.changed for one in dns.orders()] == [True, True, True]
            site.check_audit()
