"""An AWS to act on: what moto lacks, and a fault proxy in front of a moto server for the rest.

In a test: ``with FakeAws(clock, upstream="http://127.0.0.1:5000") as aws: ...``. It takes what boto3 sends,
and its log is the witness of what truly changed. It enforces IAM policies for the access keys that have some.
"""

import json
import re
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

ACCOUNT = "123456789012"
REFUSED = 300  # this HTTP status and all above
READS = ("Describe", "Get", "List", "Simulate")
SCOPE = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/aws4_request")
IAM_NAMES = {"monitoring": "cloudwatch"}
ROUTE53 = [
    ("GET", re.compile(r"/2013-04-01/hostedzone/[^/]+/rrset/?"), "ListResourceRecordSets"),
    ("POST", re.compile(r"/2013-04-01/hostedzone/[^/]+/rrset/?"), "ChangeResourceRecordSets"),
    ("GET", re.compile(r"/2013-04-01/change/.*"), "GetChange"),
    ("GET", re.compile(r"/2013-04-01/healthcheck/[^/]+/status"), "GetHealthCheckStatus"),
    ("GET", re.compile(r"/2013-04-01/healthcheck/[^/]+"), "GetHealthCheck"),
]
RECORD_KEYS = {"Action": "Actions", "Name": "NormalizedRecordNames", "Type": "RecordTypes"}
JSON_SERVICES = {
    "application-autoscaling",
    "arc-region-switch",
    "ecs",
    "monitoring",
    "route53-recovery-cluster",
    "servicequotas",
}


class Fault(StrEnum):
    """What can happen to a request instead of the right answer."""

    BAD_REQUEST = "4xx"
    FORBIDDEN = "403"
    CONFLICT = "409"
    THROTTLED = "429"
    ERROR_BEFORE = "5xx before"
    ERROR_AFTER = "5xx after"
    TIMEOUT_BEFORE = "timeout before"
    TIMEOUT_AFTER = "timeout after"
    PARTIAL = "partial"
    STALE_READ = "stale read"
    CUT_BEFORE = "connection cut before"
    CUT_AFTER = "connection cut after"
    NONSENSE = "nonsense after"
    ANOTHER = "200 of something else"


ERRORS = {
    Fault.BAD_REQUEST: (400, "ValidationError", "The request is not valid."),
    Fault.FORBIDDEN: (403, "AccessDenied", "Not authorized."),
    Fault.CONFLICT: (409, "ConflictException", "There was a conflict with this request."),
    Fault.THROTTLED: (429, "ThrottlingException", "Rate exceeded"),
    Fault.ERROR_BEFORE: (503, "ServiceUnavailable", "Service unavailable"),
    Fault.ERROR_AFTER: (500, "InternalFailure", "Internal error"),
}
AFTER = {Fault.ERROR_AFTER, Fault.TIMEOUT_AFTER, Fault.CUT_AFTER, Fault.NONSENSE, Fault.PARTIAL}


@dataclass
class Seen:
    """One request as it arrived, and what became of it.

    Attributes:
        params: The parameters: JSON, the form's fields, or for REST the body as text under ``body``.
        status: What was answered; 0 when nothing was.
        changed: Whether it changed something: the witness.
        agent: What called itself the caller.
    """

    service: str
    operation: str
    params: dict[str, Any]
    key: str
    region: str
    agent: str
    fault: Fault | None = None
    status: int = 0
    changed: bool = False


@dataclass
class Answer:
    """What is answered."""

    status: int
    body: bytes
    kind: str = "application/x-amz-json-1.1"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class _Planned:
    fault: Fault
    operation: str
    times: int
    region: str


@dataclass
class SafetyRule:
    """An assertion rule over routing controls: at least so many on after a change.

    Attributes:
        wait: Seconds between changes; earlier ones are turned away.
    """

    arn: str
    controls: list[str]
    at_least: int = 1
    wait: float = 0.0
    changed_at: float = 0.0


@dataclass
class GlobalDatabase:
    """An Aurora global database: its clusters' ARNs and who of them writes.

    Attributes:
        moving_to: Whom a move is under way to.
        gives_up: It is given up, and ends as it began.
        instances: How many the cluster that is asked for has.
    """

    name: str
    members: list[str]
    writer: str
    status: str = "available"
    moving_to: str = ""
    gives_up: bool = False
    loses: bool = False
    instances: int = 1

    def xml(self) -> str:
        """Give it as AWS does."""
        members = "".join(
            f"<GlobalClusterMember><DBClusterArn>{arn}</DBClusterArn>"
            f"<IsWriter>{str(arn == self.writer).lower()}</IsWriter>"
            "<SynchronizationStatus>connected</SynchronizationStatus></GlobalClusterMember>"
            for arn in self.members
        )
        status = "failing-over" if self.loses else "switching-over"
        status = "cancelling" if self.gives_up else status
        move = (
            f"<FailoverState><Status>{status}</Status><FromDbClusterArn>{self.writer}</FromDbClusterArn>"
            f"<ToDbClusterArn>{self.moving_to}</ToDbClusterArn>"
            f"<IsDataLossAllowed>{str(self.loses).lower()}</IsDataLossAllowed></FailoverState>"
            if self.moving_to
            else "<FailoverState/>"
        )
        return (
            f"<GlobalClusterIdentifier>{self.name}</GlobalClusterIdentifier>"
            f"<GlobalClusterArn>arn:aws:rds::{ACCOUNT}:global-cluster:{self.name}</GlobalClusterArn>"
            f"<Status>{status if self.moving_to else self.status}</Status>"
            f"<GlobalClusterMembers>{members}</GlobalClusterMembers>{move}"
        )


class FakeAws:
    """The server. Its attributes may be set at any time.

    Attributes:
        url: For all services.
        requests: Everything that arrived, in order.
        away: Regions where nobody answers.
        policies: Access key to the policy documents under which it works; a key without one may do all.
        partial: Gives the body of which only a part is applied, for ``Fault.PARTIAL``.
        throttle_headers: What a 429 says besides.
        in_service: How many instances of a group are in service at most; the others are pending.
        healthy: Likewise in every target group.
        quota: Name and value of the quota; ``None``: nobody may see it. Its usage is the metric of that name.
        rollout: What a new ECS deployment is, ``COMPLETED``, ``IN_PROGRESS`` or ``FAILED``.
        deployed: ARN of each task definition that an ECS service has run, and when its deployment ended.
        zone_status: What Route 53 says of a change.
        unhealthy: Ids of the health checks that fail.
        routing: Whether each routing control is on, by ARN; a panel's ARN is the beginning of its controls'.
        rules: Safety rules of routing controls.
        plans: Region switch plans by ARN, as AWS gives them.
        evaluation: What AWS says of every plan without executing it.
        switch_state: The state that a new execution of a plan has.
        tells_all: Whether each region tells all executions of a plan, and not only those that it holds.
        globals: Aurora global databases by name, as AWS gives them.
        moving: Whether a switchover or failover stays under way.
        rewrites: By operation, what is made of its answer: for what AWS says seldom.

    Args:
        clock: The time now, in UTC.
        upstream: A moto server for everything that is not faked here.
        hold: Seconds for which a time-out keeps a connection open.
    """

    def __init__(self, clock: Callable[[], datetime], *, upstream: str = "", hold: float = 30.0) -> None:
        self.clock = clock
        self.hold = hold
        self.closing = threading.Event()
        self._upstream = urlsplit(upstream)
        self._lock = threading.RLock()
        self._endpoints: dict[str, _Server] = {}
        self.reset()
        self._server = _Server(("127.0.0.1", 0), self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        for server in (self._server, *self._endpoints.values()):
            server.stop()

    # What a test does to it.

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self.requests: list[Seen] = []
            self.away: set[str] = set()
            self.policies: dict[str, list[dict[str, Any]]] = {}
            self.partial: Callable[[str], str] = lambda body: body
            self.throttle_headers: dict[str, str] = {}
            self.in_service: int | None = None
            self.healthy: int | None = None
            self.quota: tuple[str, float] | None = ("vCPUs", 32)
            self.rollout = "COMPLETED"
            self.deployed: list[tuple[str, datetime]] = []
            self.zone_status = "INSYNC"
            self.unhealthy: set[str] = set()
            self.routing: dict[str, bool] = {}
            self.rules: list[SafetyRule] = []
            self.plans: dict[str, dict[str, Any]] = {}
            self.executions: dict[str, list[dict[str, Any]]] = {}
            self.evaluation: dict[str, Any] = {"evaluationState": "passed", "warnings": []}
            self.switch_state = "completed"
            self.tells_all = False
            self.globals: dict[str, GlobalDatabase] = {}
            self.moving = False
            self.rewrites: dict[str, Callable[[str], str]] = {}
            self._planned: list[_Planned] = []
            self._before: dict[tuple[str, str], Answer] = {}
            self._rollouts: dict[str, list[dict[str, Any]]] = {}

    def fail(self, fault: Fault, operation: str, *, times: int = 1, region: str = "") -> None:
        """Let this happen to the next calls of an operation, to any region or to this one."""
        with self._lock:
            self._planned.append(_Planned(fault, operation, times, region))

    def open_endpoint(self, region: str) -> str:
        """Open a regional endpoint of a routing control cluster, or open it again; give its URL."""
        former = self._endpoints.get(region)
        if former is None or former.stopped:
            port = former.server_address[1] if former else 0
            self._endpoints[region] = _Server(("127.0.0.1", port), self)
            self._endpoints[region].start()
        return f"http://127.0.0.1:{self._endpoints[region].server_address[1]}"

    def close_endpoint(self, region: str) -> None:
        """Let nobody listen at a regional endpoint."""
        self._endpoints[region].stop()

    def arrived(self, operation: str) -> list[Seen]:
        """Give the calls of an operation."""
        with self._lock:
            return [seen for seen in self.requests if seen.operation == operation]

    @property
    def changes(self) -> list[Seen]:
        """Give the calls that changed something."""
        with self._lock:
            return [seen for seen in self.requests if seen.changed]

    # How it answers.

    def take(self, seen: Seen) -> None:
        """Put a request into the log, and choose what happens to it."""
        with self._lock:
            self.requests.append(seen)
            for plan in self._planned:
                if plan.operation == seen.operation and plan.region in {"", seen.region}:
                    plan.times -= 1
                    if plan.times == 0:
                        self._planned.remove(plan)
                    seen.fault = plan.fault
                    return

    def answer(self, seen: Seen, request: "_Request") -> Answer | None:
        """Answer a request; ``None`` cuts the connection."""
        if seen.region in self.away:
            return None
        instead = self._denied(seen) or self._instead(seen)
        if instead is not None:
            return instead
        if seen.fault in {Fault.TIMEOUT_BEFORE, Fault.CUT_BEFORE}:
            self.closing.wait(self.hold if seen.fault is Fault.TIMEOUT_BEFORE else 0)
            return None
        asked = (seen.operation, request.path + request.body)
        if seen.fault is Fault.STALE_READ and asked in self._before:
            return self._before[asked]
        if seen.fault is Fault.PARTIAL:
            request = _Request(request.method, request.path, request.headers, self.partial(request.body))
        with self._lock:
            found = self._own(seen, request) or self._moto(request)
            found = self._mended(seen, found)
            rewrite = self.rewrites.get(seen.operation)
            if rewrite is not None:
                found = Answer(found.status, rewrite(found.body.decode()).encode(), found.kind)
            seen.changed = found.status < REFUSED and not seen.operation.startswith(READS)
            if seen.operation.startswith(READS):
                self._before.setdefault(asked, found)
        return self._after(seen, found)

    def _instead(self, seen: Seen) -> Answer | None:
        """Give the answer of a fault that comes before anything is changed."""
        if seen.fault is Fault.ANOTHER:
            return Answer(200, b"<html><body>Welcome! Please log in.</body></html>", "text/html")
        if seen.fault not in ERRORS or seen.fault in AFTER:
            return None
        headers = self.throttle_headers if seen.fault is Fault.THROTTLED else {}
        return error(seen.service, *ERRORS[seen.fault], headers)

    def _after(self, seen: Seen, found: Answer) -> Answer | None:
        if seen.fault is Fault.TIMEOUT_AFTER:
            self.closing.wait(self.hold)
            return None
        if seen.fault is Fault.CUT_AFTER:
            return None
        if seen.fault is Fault.NONSENSE:
            return Answer(500, b"<html><body>Bad gateway</body></html>", "text/html")
        if seen.fault in {Fault.ERROR_AFTER, Fault.PARTIAL}:
            return error(seen.service, *ERRORS[Fault.ERROR_AFTER])
        return found

    def _own(self, seen: Seen, request: "_Request") -> Answer | None:
        """Answer what moto does not have."""
        params = request.seen().params
        whole = {
            "arc-region-switch": self._switched,
            "rds": self._aurora,
            "route53-recovery-cluster": self._routed,
        }
        if seen.service in whole:
            return whole[seen.service](seen, params)
        single = {
            "DescribeServiceRevisions": self._revisions,
            "GetCallerIdentity": self._caller,
            "GetServiceQuota": self._quota,
            "ListServiceDeployments": self._deployments,
            "SimulatePrincipalPolicy": self._simulated,
        }
        return single[seen.operation](seen) if seen.operation in single else None

    def _caller(self, seen: Seen) -> Answer:
        arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/stanch-{seen.key}/stanch"
        return query(seen.operation, f"<Arn>{arn}</Arn><Account>{ACCOUNT}</Account>")

    def _quota(self, seen: Seen) -> Answer:
        if self.quota is None:
            return error(seen.service, 400, "AccessDeniedException", "not authorized")
        usage = {
            "MetricNamespace": "AWS/Usage",
            "MetricName": "ResourceCount",
            "MetricDimensions": {"Resource": self.quota[0]},
            "MetricStatisticRecommendation": "Maximum",
        }
        said = {"QuotaName": self.quota[0], "Value": self.quota[1], "UsageMetric": usage}
        return Answer(200, json.dumps({"Quota": said}).encode())

    def _deployments(self, seen: Seen) -> Answer:
        """Give one deployment a page."""
        number = int(seen.params.get("nextToken", 0))
        said: dict[str, Any] = {"serviceDeployments": []}
        for _, ended in self.deployed[number : number + 1]:
            arn = (
                f"arn:aws:ecs:{seen.region}:{ACCOUNT}:service-revision/{seen.params['cluster']}/web/{number}"
            )
            deployment = {"targetServiceRevisionArn": arn, "status": "SUCCESSFUL"}
            times = dict.fromkeys(("createdAt", "startedAt", "finishedAt"), ended.timestamp())
            said["serviceDeployments"].append(deployment | times)
        if number + 1 < len(self.deployed):
            said["nextToken"] = str(number + 1)
        return Answer(200, json.dumps(said).encode())

    def _revisions(self, seen: Seen) -> Answer:
        rows = []
        for arn in seen.params["serviceRevisionArns"]:
            definition, _ = self.deployed[int(arn.rpartition("/")[2])]
            images = [{"image": f"shop/{definition.rpartition(':')[2]}"}]
            rows.append({"serviceRevisionArn": arn, "taskDefinition": definition, "containerImages": images})
        return Answer(200, json.dumps({"serviceRevisions": rows}).encode())

    def _moto(self, request: "_Request") -> Answer:
        if not self._upstream.hostname:
            return Answer(501, b"no upstream", "text/plain")
        connection = HTTPConnection(self._upstream.hostname, self._upstream.port, timeout=30)
        try:
            body = request.body.replace("<Name>\\052.", "<Name>*.")
            connection.request(request.method, request.path, body.encode(), dict(request.headers))
            said = connection.getresponse()
            found = said.read().replace(
                b"<Name>*.", b"<Name>\\052."
            )  # as Route 53 writes it, and moto does not
            return Answer(said.status, found, said.headers.get("Content-Type", "text/plain"))
        except (OSError, HTTPException) as problem:
            return Answer(502, str(problem).encode(), "text/plain")
        finally:
            connection.close()

    def _routed(self, seen: Seen, params: dict[str, Any]) -> Answer:
        service, operation = seen.service, seen.operation
        if operation == "ListRoutingControls":
            panel = params["ControlPanelArn"]
            controls = [
                {"RoutingControlArn": arn, "RoutingControlState": "On" if on else "Off"}
                for arn, on in self.routing.items()
                if arn.startswith(panel)
            ]
            return Answer(200, json.dumps({"RoutingControls": controls}).encode())
        if operation != "UpdateRoutingControlStates":
            return error(service, 400, "ValidationException", operation)
        entries = params["UpdateRoutingControlStateEntries"]
        after = self.routing | {
            one["RoutingControlArn"]: one["RoutingControlState"] == "On" for one in entries
        }
        now = self.clock().timestamp()
        rules = [rule for rule in self.rules if rule.arn not in params.get("SafetyRulesToOverride", [])]
        for rule in rules:
            if sum(after[arn] for arn in rule.controls) < rule.at_least:
                return error(service, 409, "ConflictException", f"Safety rule {rule.arn} would be violated")
            if now - rule.changed_at < rule.wait:
                return error(service, 409, "ConflictException", f"Wait period of {rule.arn} is not over")
        for rule in self.rules:
            rule.changed_at = now
        self.routing = after
        return Answer(200, b"{}")

    def _switched(self, seen: Seen, params: dict[str, Any]) -> Answer:
        service, operation, arn = seen.service, seen.operation, params.get("planArn") or params["arn"]
        if arn not in self.plans:
            return error(service, 404, "ResourceNotFoundException", f"no plan {arn}")
        executions = self.executions.setdefault(arn, [])
        if operation == "StartPlanExecution":
            return self._started(seen.region, params, executions)
        held = [one for one in executions if self.tells_all or one["heldIn"] == seen.region]
        plan = {
            "GetPlanInRegion": {"plan": self.plans[arn]},
            "GetPlanEvaluationStatus": {"planArn": arn, **self.evaluation},
            "ListPlanExecutions": {"items": held},
        }
        if operation in plan:
            return Answer(200, json.dumps(plan[operation]).encode())
        found = next((one for one in held if one["executionId"] == params["executionId"]), None)
        if found is None:
            return error(service, 404, "ResourceNotFoundException", "no such execution")
        if operation == "UpdatePlanExecution":
            if found["executionState"] in {"completed", "failed"}:
                said = f"the execution is {found['executionState']}"
                return error(service, 400, "IllegalStateException", said)
            found["mode"] = params["action"].removeprefix("switchTo").lower()
        number = int(params.get("nextToken", 0))  # one step a page
        page = found | {"stepStates": found["stepStates"][number : number + 1]}
        if number + 1 < len(found["stepStates"]):
            page["nextToken"] = str(number + 1)
        return Answer(200, json.dumps(page).encode())

    def _started(self, region: str, params: dict[str, Any], executions: list[dict[str, Any]]) -> Answer:
        service, plan = "arc-region-switch", self.plans[params["planArn"]]
        same = [one for one in executions if one["clientToken"] == params["clientToken"]]
        if same:
            return Answer(200, json.dumps({"executionId": same[0]["executionId"]}).encode())
        if params.get("latestVersion", plan["version"]) != plan["version"]:
            return error(service, 400, "IllegalArgumentException", "the version is not the latest")
        if any(one["executionState"] == "inProgress" for one in executions):
            return error(service, 409, "ConflictException", "an execution is in progress")
        ended = "completed" if self.switch_state == "completed" else "running"
        steps = [step["name"] for workflow in plan["workflows"] for step in workflow["steps"]]
        execution = {
            "planArn": plan["arn"],
            "executionId": f"execution-{len(executions) + 1}",
            "version": plan["version"],
            "startTime": self.clock().timestamp(),
            "mode": params["mode"],
            "comment": params["comment"],
            "executionState": self.switch_state,
            "executionAction": params["action"],
            "executionRegion": params["targetRegion"],
            "heldIn": region,
            "clientToken": params["clientToken"],
            "stepStates": [{"name": step, "status": ended} for step in steps],
        }
        executions.insert(0, execution)
        return Answer(200, json.dumps({"executionId": execution["executionId"]}).encode())

    def _aurora(self, seen: Seen, params: dict[str, Any]) -> Answer:
        operation = seen.operation
        if operation == "DescribeDBClusters":
            return self._cluster(params["DBClusterIdentifier"])
        found = self.globals.get(params.get("GlobalClusterIdentifier", ""))
        if found is None:
            return error("rds", 404, "GlobalClusterNotFoundFault", "no such global cluster")
        if operation == "DescribeGlobalClusters":
            row = f"<GlobalClusters><GlobalClusterMember>{found.xml()}</GlobalClusterMember></GlobalClusters>"
            return query(operation, row)
        target = params["TargetDbClusterIdentifier"]
        loses = operation == "FailoverGlobalCluster" and params.get("AllowDataLoss") == "true"
        if found.moving_to or target == found.writer or (found.status != "available" and not loses):
            # Whichever of the two calls it is: a move that is under way is neither sped up nor ended.
            said = f"Global cluster {found.name} is in a state that does not allow this operation"
            return error("rds", 400, "InvalidGlobalClusterStateFault", said)
        # A switchover is ordered where the writer is, a failover where it is to be.
        ordered = found.writer if operation == "SwitchoverGlobalCluster" else target
        if target not in found.members or ordered.split(":")[3] != seen.region:
            return error("rds", 404, "DBClusterNotFoundFault", f"no such cluster in {seen.region}")
        found.moving_to, found.loses = target, loses
        if not self.moving:
            self.end_move(found.name)
        return query(operation, f"<GlobalCluster>{found.xml()}</GlobalCluster>")

    def _cluster(self, arn: str) -> Answer:
        found = next((one for one in self.globals.values() if arn in one.members), None)
        if found is None:
            return error("rds", 404, "DBClusterNotFoundFault", "no such cluster")
        members = (
            "<DBClusterMember><IsClusterWriter>false</IsClusterWriter></DBClusterMember>" * found.instances
        )
        row = f"<DBClusterArn>{arn}</DBClusterArn><Status>available</Status>"
        row += f"<DBClusterMembers>{members}</DBClusterMembers>"
        return query("DescribeDBClusters", f"<DBClusters><DBCluster>{row}</DBCluster></DBClusters>")

    def end_move(self, name: str) -> None:
        """Let a switchover or failover come to its end."""
        database = self.globals[name]
        database.writer = database.writer if database.gives_up else database.moving_to
        database.moving_to, database.gives_up, database.status = "", False, "available"

    # Where moto differs from AWS.

    def _mended(self, seen: Seen, found: Answer) -> Answer:
        if found.status >= REFUSED:
            return found
        if seen.operation == "DescribeAutoScalingGroups" and self.in_service is not None:
            return _only(self.in_service, found, "<LifecycleState>InService", "<LifecycleState>Pending")
        if seen.operation == "DescribeTargetHealth" and self.healthy is not None:
            return _only(self.healthy, found, "<State>healthy", "<State>initial")
        if seen.operation in {"GetChange", "GetHealthCheckStatus"}:
            fails = any(one in seen.params["path"] for one in self.unhealthy)
            body = found.body.replace(b"INSYNC", self.zone_status.encode())
            return Answer(found.status, body.replace(b"Success", b"Failure") if fails else body, found.kind)
        if seen.service == "ecs" and seen.operation in {"DescribeServices", "UpdateService"}:
            said = json.loads(found.body)
            for service in said.get("services", [said.get("service")]):
                self._put_rollouts(service)
            return Answer(found.status, json.dumps(said).encode(), found.kind)
        return found

    def _put_rollouts(self, service: dict[str, Any]) -> None:
        """Give a service the deployments that ECS would have for it: moto never ends one."""
        known = self._rollouts.setdefault(service["serviceArn"], [])
        if not known or known[0]["taskDefinition"] != service["taskDefinition"]:
            deployment = {
                "id": f"ecs-svc/{len(known) + 1}",
                "taskDefinition": service["taskDefinition"],
                "createdAt": self.clock().timestamp(),
            }
            known.insert(0, deployment)
        desired, ended = service["desiredCount"], self.rollout == "COMPLETED" or len(known) == 1
        primary = {
            **known[0],
            "status": "PRIMARY",
            "desiredCount": desired,
            "runningCount": desired if ended else 0,
            "failedTasks": 3 if self.rollout == "FAILED" and not ended else 0,
            "rolloutState": "COMPLETED" if ended else self.rollout,
            "rolloutStateReason": f"ECS deployment {known[0]['id']}: {self.rollout.lower()}",
        }
        former = [
            {**one, "status": "ACTIVE", "desiredCount": desired, "runningCount": desired}
            for one in known[1:2]
            if not ended
        ]
        service |= {"deployments": [primary, *former], "runningCount": desired, "pendingCount": 0}

    # IAM.

    def _denied(self, seen: Seen) -> Answer | None:
        statements = self.policies.get(seen.key)
        verb = f"{IAM_NAMES.get(seen.service, seen.service)}:{seen.operation}"
        if statements is None or verb == "sts:GetCallerIdentity":
            return None
        resources, context = _resources(seen)
        resource = next((one for one in resources if not allowed(statements, verb, one, context)), None)
        if resource is None:
            return None
        user = f"arn:aws:iam::{ACCOUNT}:user/{seen.key}"
        message = f"User: {user} is not authorized to perform: {verb} on resource: {resource}"
        code = "AccessDeniedException" if seen.service in JSON_SERVICES else "AccessDenied"
        return error(seen.service, 400 if seen.service in JSON_SERVICES else 403, code, message)

    def _simulated(self, seen: Seen) -> Answer:
        statements = self.policies.get(seen.key)
        names = [seen.params[key] for key in sorted(seen.params) if key.startswith("ActionNames.member.")]
        resource = seen.params.get("ResourceArns.member.1", "*")
        rows = []
        for name in names:
            may = statements is None or allowed(statements, name, resource, {})
            about = [one for one in statements or () if _names(one, name, resource)]
            missing = "".join(f"<member>{key}</member>" for one in about for key in _unmet(one, {}))
            rows.append(
                f"<member><EvalActionName>{name}</EvalActionName>"
                f"<EvalResourceName>{escape(resource)}</EvalResourceName>"
                f"<EvalDecision>{'allowed' if may else 'implicitDeny'}</EvalDecision>"
                f"<MissingContextValues>{missing}</MissingContextValues></member>"
            )
        return query("SimulatePrincipalPolicy", f"<EvaluationResults>{''.join(rows)}</EvaluationResults>")


def allowed(
    statements: list[dict[str, Any]], verb: str, resource: str, context: Mapping[str, list[str]]
) -> bool:
    """Evaluate IAM statements, as far as ours go: actions, resources, and words in context keys."""
    fitting = [one for one in statements if _names(one, verb, resource) and not _unmet(one, context)]
    effects = {one["Effect"] for one in fitting}
    return "Allow" in effects and "Deny" not in effects


def _names(statement: dict[str, Any], verb: str, resource: str) -> bool:
    """Say whether a statement is about a verb on a resource."""
    return any(fnmatchcase(verb.lower(), one.lower()) for one in _list(statement["Action"])) and any(
        fnmatchcase(resource, one) for one in _list(statement["Resource"])
    )


def _unmet(statement: dict[str, Any], context: Mapping[str, list[str]]) -> list[str]:
    """Give the context keys that do not fit a condition; `ForAllValues` is met by an absent key."""
    return [
        key
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
        if (key not in context and not operator.startswith("ForAllValues:"))
        or not all(any(fnmatchcase(one, value) for value in _list(values)) for one in context.get(key, ()))
    ]


def error(
    service: str, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Answer:
    """Say no as that service would."""
    more = dict(headers or {})
    if service in JSON_SERVICES:
        body = json.dumps({"__type": code, "message": message}).encode()
        return Answer(status, body, headers={**more, "x-amzn-ErrorType": code, "x-amzn-query-error": ""})
    text = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    text = f"<ErrorResponse>{text}<RequestId>fake</RequestId></ErrorResponse>"
    return Answer(status, text.encode(), "text/xml", more)


def _only(count: int, found: Answer, word: str, other: str) -> Answer:
    """Replace a word in an answer after it has come so many times."""
    words = iter([word] * count)
    text = re.sub(re.escape(word), lambda _: next(words, other), found.body.decode())
    return Answer(found.status, text.encode(), found.kind)


def query(operation: str, result: str) -> Answer:
    """Answer in the query protocol."""
    text = f"<{operation}Result>{result}</{operation}Result>"
    text += "<ResponseMetadata><RequestId>fake</RequestId></ResponseMetadata>"
    text = f"<{operation}Response>{text}</{operation}Response>"
    return Answer(200, text.encode(), "text/xml")


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _resources(seen: Seen) -> tuple[list[str], dict[str, list[str]]]:
    """Give the ARNs that a call is on, and the condition keys that come with it; ``*`` when it has none."""
    params, context = seen.params, {"aws:RequestedRegion": [seen.region]}
    here = f"{seen.region}:{ACCOUNT}"
    if seen.operation == "ChangeResourceRecordSets":
        for key, name in RECORD_KEYS.items():
            values = re.findall(rf"<{key}>([^<]*?)\.?</{key}>", params["body"])
            context[f"route53:ChangeResourceRecordSets{name}"] = values
    if seen.operation == "UpdateRoutingControlStates":
        overrides = str("SafetyRulesToOverride" in params).lower()
        context["route53-recovery-cluster:AllowSafetyRulesOverrides"] = [overrides]
        return [one["RoutingControlArn"] for one in params["UpdateRoutingControlStateEntries"]], context
    if seen.operation in {"SetDesiredCapacity", "UpdateAutoScalingGroup"}:
        name = params["AutoScalingGroupName"]
        found = [f"arn:aws:autoscaling:{here}:autoScalingGroup:id:autoScalingGroupName/{name}"]
    elif seen.operation in {"UpdateService", "DescribeServices", "ListServiceDeployments"}:
        service = params.get("service") or params["services"][0]
        found = [f"arn:aws:ecs:{here}:service/{params['cluster']}/{service}"]
    elif seen.operation == "RegisterScalableTarget":
        found = [f"arn:aws:application-autoscaling:{here}:scalable-target/id"]
    elif seen.service == "route53":
        kind, name = params["path"].split("/")[2:4]
        found = [f"arn:aws:route53:::{kind}/{name}"]
    elif "GlobalClusterIdentifier" in params:
        found = [f"arn:aws:rds::{ACCOUNT}:global-cluster:{params['GlobalClusterIdentifier']}"]
        found += [params[key] for key in ("TargetDbClusterIdentifier",) if key in params]
    else:
        # These calls carry the ARN themselves.
        carried = ("ControlPanelArn", "planArn", "arn", "PolicySourceArn", "DBClusterIdentifier")
        found = [params[key] for key in carried if key in params] or params.get("serviceRevisionArns", ["*"])
    return found, context


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: str

    def seen(self) -> Seen:
        """Find out which call of which service it is."""
        scope = SCOPE.search(self.headers.get("Authorization", ""))
        key, region, service = scope.groups() if scope else ("", "", "")
        target = self.headers.get("X-Amz-Target", "")
        params: dict[str, Any] = {}
        if target:
            operation = target.rsplit(".", 1)[-1]
            params = json.loads(self.body or "{}")
        elif service == "route53":
            path = urlsplit(self.path).path
            operation = next(
                (name for method, route, name in ROUTE53 if method == self.method and route.fullmatch(path)),
                f"{self.method}{path}",
            )
            params = {"path": path, "body": self.body}
        else:
            params = {name: values[0] for name, values in parse_qs(self.body).items()}
            operation = params.get("Action", f"{self.method} {self.path}")
        return Seen(service, operation, params, key, region, self.headers.get("User-Agent", ""))


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # joined when it is closed
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], fake: FakeAws) -> None:
        self.fake = fake
        self.stopped = False
        super().__init__(address, _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="fake-aws")

    def start(self) -> None:
        """Answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no longer; nobody listens then."""
        if not self.stopped:
            self.stopped = True
            self.shutdown()
            self._thread.join()
            self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that time out go away, and that is what they are to do here."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (its base class calls it so)
        """Log nothing."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode()
        headers = {name: value for name, value in self.headers.items() if name.lower() != "content-length"}
        request = _Request(self.command, self.path, headers, body)
        seen = request.seen()
        self.server.fake.take(seen)
        answer = self.server.fake.answer(seen, request)
        if answer is None:
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        seen.status = answer.status
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.kind != "text/html":
            self.send_header("x-amzn-RequestId", "fake")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)
