"""A moto server behind our fault proxy, and real boto3 on both sides of the proxy."""

import itertools
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3.session  # type: ignore[import-untyped]
import pytest

from activities.aws.client import AwsClient
from activities.aws.fake import FakeAws, GlobalDatabase, SafetyRule
from contracts.catalogue import Aws
from contracts.outcomes import Progress, Reached
from runtime.clock import utc_now

REGION = "eu-west-1"
AT = {"account": "main", "region": REGION}
READ_TIMEOUT = 0.6  # seconds: a busy moto answers in less
NUMBERS = itertools.count(1)
STANDBY = "us-east-1"
ENDPOINTS = ("us-east-1", "ap-southeast-2", "us-west-2", "ap-northeast-1", "eu-west-1")
PANEL = "arn:aws:route53-recovery-control::123456789012:controlpanel/0123456789abcdef0123456789abcdef"
CONTROLS = {name: f"{PANEL}/routingcontrol/{name}" for name in ("ireland", "virginia")}
RULE = f"{PANEL}/safetyrule/one-on"
PLAN = "arn:aws:arc-region-switch::123456789012:plan/shop:0abc12"


@contextmanager
def moto_server() -> Iterator[str]:
    """Start a moto server of our own; give its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: is_up(url), within=40)
        yield url
    finally:
        server.kill()  # it keeps nothing, and would wait for connections
        server.wait()


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """A moto server for the whole session."""
    with moto_server() as url:
        yield url


def is_up(url: str) -> bool:
    """Say whether a server answers."""
    try:
        with urllib.request.urlopen(f"{url}/moto-api/data.json", timeout=5):  # noqa: S310  (our own)
            return True
    except OSError:
        return False


def until(so: Callable[[], bool], *, within: float = 10) -> None:
    """Wait until something is so."""
    end = time.monotonic() + within
    while not so():
        assert time.monotonic() < end, "it never became so"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def proxy(moto: str) -> Iterator[FakeAws]:
    """The fault proxy, for the whole session: a client is made once for each service."""
    with FakeAws(utc_now, upstream=moto, hold=READ_TIMEOUT + 0.2) as fake:
        yield fake


@pytest.fixture
def aws(proxy: FakeAws) -> FakeAws:
    """The same without faults."""
    proxy.reset()
    for region in ENDPOINTS:
        proxy.open_endpoint(region)
    return proxy


@pytest.fixture(scope="session")
def accounts(proxy: FakeAws, tmp_path_factory: pytest.TempPathFactory) -> Aws:
    """The accounts, for the whole session."""
    return accounts_at(proxy, tmp_path_factory.mktemp("aws"))


def accounts_at(proxy: FakeAws, folder: Path) -> Aws:
    """Give a catalogue's accounts: one whose key may do all, one whose changes have a key of their own."""
    lines = []
    for profile in ("main", "limited"):
        lines += [
            f"[profile {profile}]",
            f"aws_access_key_id = {profile}",
            "aws_secret_access_key = not-a-secret",
            f"endpoint_url = {proxy.url}",
        ]
    config = folder / "config"
    config.write_text("\n".join(lines), encoding="utf-8")
    endpoints = [{"region": region, "url": proxy.open_endpoint(region)} for region in ENDPOINTS]
    panel = {"account": "main", "arn": PANEL, "endpoints": endpoints, "controls": CONTROLS}
    return Aws.model_validate(
        {
            "accounts": [
                {"name": name, "config": str(config), "profile": name} for name in ("main", "limited")
            ],
            "panels": [
                {**panel, "name": "shop", "wait": 0},
                {**panel, "name": "steady", "wait": 60},
                {**panel, "name": "theirs", "account": "limited", "wait": 0},
            ],
        }
    )


@pytest.fixture(scope="session")
def client(accounts: Aws) -> Iterator[AwsClient]:
    """Our client."""
    with closing(AwsClient(accounts, clock=utc_now, read_timeout=20)) as ours:
        yield ours


@pytest.fixture(scope="session")
def impatient(accounts: Aws) -> Iterator[AwsClient]:
    """Our client, which does not wait long."""
    with closing(AwsClient(accounts, clock=utc_now, connect_timeout=1, read_timeout=READ_TIMEOUT)) as ours:
        yield ours


class Sdk:
    """The SDK's own clients, past the proxy; made once, as that takes long."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = boto3.session.Session(
            aws_access_key_id="admin",
            aws_secret_access_key="not-a-secret",  # noqa: S106  (moto takes any)
            region_name=REGION,
        )
        self._clients: dict[tuple[str, str], Any] = {}

    def __call__(self, service: str, region: str = REGION) -> Any:
        """Give the client of a service."""
        key = (service, region)
        if key not in self._clients:
            self._clients[key] = self._session.client(service, region, endpoint_url=self._url)
        return self._clients[key]

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()


class World:
    """What a shop has in AWS; each test has names of its own, as a reset of moto takes long.

    Attributes:
        group: Name of its Auto Scaling group.
        cluster: Name of its ECS cluster.
        domain: Of its hosted zone.
    """

    def __init__(self, aws: FakeAws, sdk: Sdk, number: int) -> None:
        self.aws = aws
        self.sdk = sdk
        self.group, self.cluster = f"shop-web-{number}", f"shop-{number}"
        self.service, self.domain = "web", f"shop-{number}.example"
        self.primary_db = f"arn:aws:rds:{REGION}:123456789012:cluster:shop-ireland-{number}"
        self.standby_db = f"arn:aws:rds:{STANDBY}:123456789012:cluster:shop-virginia-{number}"
        self.resource = f"service/{self.cluster}/{self.service}"
        self.health_check = ""

    @property
    def at_group(self) -> dict[str, str]:
        """Where the group is."""
        return {**AT, "group": self.group}

    @property
    def at_service(self) -> dict[str, str]:
        """Where the service is."""
        return {**AT, "cluster": self.cluster, "service": self.service}

    def make_group(self, *, desired: int = 2, low: int = 1, high: int = 6) -> None:
        """Make the Auto Scaling group."""
        scaling = self.sdk("autoscaling")
        scaling.create_launch_configuration(
            LaunchConfigurationName=self.group, ImageId="ami-12c6146b", InstanceType="t3.micro"
        )
        scaling.create_auto_scaling_group(
            AutoScalingGroupName=self.group,
            LaunchConfigurationName=self.group,
            MinSize=low,
            MaxSize=high,
            DesiredCapacity=desired,
            AvailabilityZones=[f"{REGION}a"],
        )

    def make_target_group(self, kind: str) -> str:
        """Make a target group of instances or, for ECS, of addresses; give its ARN."""
        vpc = self.sdk("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
        made = self.sdk("elbv2").create_target_group(
            Name=f"{self.group}-{kind}",
            Protocol="HTTP",
            Port=80,
            VpcId=vpc,
            TargetType="instance" if kind == "group" else "ip",
        )
        arn: str = made["TargetGroups"][0]["TargetGroupArn"]
        return arn

    def balance_group(self) -> None:
        """Put a target group in front of the group."""
        self.sdk("autoscaling").attach_load_balancer_target_groups(
            AutoScalingGroupName=self.group, TargetGroupARNs=[self.make_target_group("group")]
        )

    def make_quota(self, limit: float, used: float) -> None:
        """Let the account have a quota, of which so much is used."""
        self.aws.quota = (f"vCPUs for {self.group}", limit)
        data = {
            "MetricName": "ResourceCount",
            "Dimensions": [{"Name": "Resource", "Value": self.aws.quota[0]}],
            "Value": used,
            "Timestamp": utc_now() - timedelta(minutes=1),
        }
        self.sdk("cloudwatch").put_metric_data(Namespace="AWS/Usage", MetricData=[data])

    def capacity(self) -> tuple[int, int, int]:
        """Give minimum, desired and maximum as they really are."""
        found = self.sdk("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[self.group])
        group = found["AutoScalingGroups"][0]
        return group["MinSize"], group["DesiredCapacity"], group["MaxSize"]

    def make_service(self, *, count: int = 2, revisions: int = 2, **more: Any) -> list[str]:
        """Make the ECS service, which runs the last of some revisions; give their ARNs."""
        ecs = self.sdk("ecs")
        ecs.create_cluster(clusterName=self.cluster)
        arns = [self.make_revision(f"shop/web:{number}") for number in range(1, revisions + 1)]
        names = {"cluster": self.cluster, "serviceName": self.service}
        ecs.create_service(**names, taskDefinition=arns[-1], desiredCount=count, **more)
        return arns

    def make_revision(self, image: str, family: str = "") -> str:
        """Register one more revision of a task definition; give its ARN."""
        made = self.sdk("ecs").register_task_definition(
            family=family or self.cluster,
            containerDefinitions=[{"name": "web", "image": image, "memory": 64}],
        )
        arn: str = made["taskDefinition"]["taskDefinitionArn"]
        return arn

    def runs(self) -> tuple[int, str]:
        """Give the service's count and task definition as they really are."""
        found = self.sdk("ecs").describe_services(cluster=self.cluster, services=[self.service])
        return found["services"][0]["desiredCount"], found["services"][0]["taskDefinition"]

    def make_limits(self, low: int = 1, high: int = 10) -> None:
        """Let Application Auto Scaling move the service's count."""
        self.sdk("application-autoscaling").register_scalable_target(
            ServiceNamespace="ecs",
            ResourceId=self.resource,
            ScalableDimension="ecs:service:DesiredCount",
            MinCapacity=low,
            MaxCapacity=high,
        )

    def limits(self) -> tuple[int, int]:
        """Give those limits as they really are."""
        found = self.sdk("application-autoscaling").describe_scalable_targets(
            ServiceNamespace="ecs", ResourceIds=[self.resource]
        )
        return found["ScalableTargets"][0]["MinCapacity"], found["ScalableTargets"][0]["MaxCapacity"]

    def make_zone(self, **records: dict[str, Any]) -> str:
        """Make the hosted zone with records of one name, ``www``; give its id."""
        made = self.sdk("route53").create_hosted_zone(Name=self.domain, CallerReference=self.domain)
        zone: str = made["HostedZone"]["Id"].rpartition("/")[2]
        for name, record in records.items():
            self.make_record(zone, name, record)
        return zone

    def make_record(self, zone: str, name: str, record: dict[str, Any]) -> None:
        """Make or change one record."""
        values = {
            "Name": f"www.{self.domain}",
            "Type": "A",
            "SetIdentifier": name,
            "TTL": 30,
            "ResourceRecords": [{"Value": "192.0.2.1"}],
        }
        change = {"Action": "UPSERT", "ResourceRecordSet": values | record}
        batch = {"Changes": [change]}
        self.sdk("route53").change_resource_record_sets(HostedZoneId=zone, ChangeBatch=batch)

    def make_health_check(self) -> str:
        """Make a health check; give its id."""
        config = {"Type": "HTTP", "FullyQualifiedDomainName": self.domain, "Port": 80}
        made = self.sdk("route53").create_health_check(
            CallerReference=f"{self.domain}{self.health_check}", HealthCheckConfig=config
        )
        self.health_check = made["HealthCheck"]["Id"]
        return self.health_check

    def records(self, zone: str) -> dict[str, Any]:
        """Give the records as they really are."""
        found = self.sdk("route53").list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
        return {one["SetIdentifier"]: one for one in found if "SetIdentifier" in one}

    def shares(self, zone: str) -> dict[str, int]:
        """Give the weights as they really are."""
        return {name: one["Weight"] for name, one in self.records(zone).items()}

    def make_panel(self) -> None:
        """Make two routing controls, one of them on, and the rule that one is on."""
        self.aws.routing = {CONTROLS["ireland"]: True, CONTROLS["virginia"]: False}
        self.aws.rules = [SafetyRule(RULE, [*CONTROLS.values()])]

    def make_plan(self) -> None:
        """Make a Region switch plan that has made Ireland active once."""
        steps = [
            {"name": "scale out", "executionBlockType": "EC2AutoScaling"},
            {
                "name": "both at once",
                "executionBlockType": "Parallel",
                "executionBlockConfiguration": {
                    "parallelConfig": {
                        "steps": [
                            {
                                "name": "move the writer",
                                "executionBlockType": "AuroraGlobalDatabase",
                                "executionBlockConfiguration": {
                                    "globalAuroraConfig": {
                                        "behavior": "failover",
                                        "globalClusterIdentifier": "shop",
                                        "databaseClusterArns": [self.primary_db, self.standby_db],
                                    }
                                },
                            }
                        ]
                    }
                },
            },
        ]
        workflow = {"workflowTargetAction": "activate", "workflowTargetRegion": STANDBY, "steps": steps}
        self.aws.plans[PLAN] = {
            "arn": PLAN,
            "name": "shop",
            "version": "7",
            "owner": "123456789012",
            "regions": [REGION, STANDBY],
            "recoveryApproach": "activePassive",
            "primaryRegion": REGION,
            "workflows": [workflow],
        }
        self.aws.executions[PLAN] = [
            {
                "planArn": PLAN,
                "executionId": "execution-0",
                "version": "6",
                "startTime": 1_700_000_000.0,
                "mode": "graceful",
                "executionState": "completed",
                "executionAction": "activate",
                "executionRegion": REGION,
                "heldIn": REGION,
                "clientToken": "former",
                "stepStates": [],
            }
        ]

    def database_block(self) -> Any:
        """Give how that plan moves the writer, to be changed."""
        parallel = self.aws.plans[PLAN]["workflows"][0]["steps"][1]["executionBlockConfiguration"]
        (step,) = parallel["parallelConfig"]["steps"]
        return step["executionBlockConfiguration"]["globalAuroraConfig"]

    def make_global(self) -> str:
        """Make a global database that is written in Ireland; give its name."""
        name = f"{self.cluster}-db"
        self.aws.globals[name] = GlobalDatabase(name, [self.primary_db, self.standby_db], self.primary_db)
        return name

    def make_lag(self, seconds: float, metric: str = "AuroraGlobalDBRPOLag") -> None:
        """Let the standby's database lag behind."""
        data = {
            "MetricName": metric,
            "Dimensions": [{"Name": "DBClusterIdentifier", "Value": self.standby_db.rpartition(":")[2]}],
            "Value": seconds * 1000,
            "Timestamp": utc_now() - timedelta(seconds=60),
        }
        watch = self.sdk("cloudwatch", STANDBY)
        watch.put_metric_data(Namespace="AWS/RDS", MetricData=[data])


@pytest.fixture(scope="session")
def sdk(moto: str) -> Iterator[Sdk]:
    """The SDK's own clients."""
    with closing(Sdk(moto)) as clients:
        yield clients


@pytest.fixture
def world(aws: FakeAws, sdk: Sdk) -> World:
    """An AWS to build a shop in."""
    return World(aws, sdk, next(NUMBERS))


def progress(action: Any, request: Any) -> Progress:
    """Look how far it is."""
    seen: Progress = action.is_reached(request, action.observe(request))
    return seen


def reached(action: Any, request: Any) -> Reached:
    """Look whether it is reached."""
    return progress(action, request).reached
