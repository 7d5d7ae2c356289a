"""The only place that knows boto3: connections, and what AWS's errors mean.

The SDK's own retries are off: it would send a change again whose answer was lost. Only reads are sent again.
"""

import re
import threading
import time
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Any

import boto3.session  # type: ignore[import-untyped]  # it has no types
from botocore import exceptions  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]
from botocore.session import Session as CoreSession  # type: ignore[import-untyped]

from activities.aws.models import InPanel, InRegion, Json
from activities.wire import retry_after
from contracts.catalogue import Aws, AwsAccount, RoutingEndpoint, RoutingPanel
from contracts.errors import ActionRefusedError, PreconditionFailedError, ProviderUnavailableError, one_line

ROUTING = "route53-recovery-cluster"
By = tuple[str, str]  # the action that changes something, and its id
LOOK: By = ("", "")
# Seconds from the order to the call. Credentials may be fetched in between, and the `in_flight` of the
# actions counts on it that a change goes out by then or not at all.
SIGNED_WITHIN = 3.0
LIMITED = {"MaxItems", "MaxRecords", "maxResults"}
PAGED = ("describe_", "get_metric_data", "get_plan_e", "list_")

# As codes, whatever the HTTP status: services disagree on it.
DENIED = re.compile("(AccessDenied|Authorization|UnauthorizedOperation|Unauthorized)(Exception|Error)?")
BAD_CREDENTIALS = re.compile(
    "ExpiredToken(Exception)?|IncompleteSignature|InvalidClientTokenId|InvalidSignatureException|"
    "MissingAuthenticationToken|RequestExpired|RequestTimeTooSkewed|SignatureDoesNotMatch|"
    "UnrecognizedClientException"
)
# AWS says that it has turned the request away for now.
BUSY = re.compile(
    "(ConcurrentUpdate|EndpointTemporarilyUnavailable|PriorRequestNotComplete|RequestLimitExceeded|"
    "RequestThrottled|ResourceContention|ScalingActivityInProgress|Throttled|Throttling|TooManyRequests|"
    "UpdateInProgress)(Exception|Fault)?"
)
SLOW = re.compile("RequestTimeout(Exception)?")
# The target is in a state that does not allow it: reading it again tells which.
CONFLICT = re.compile(
    "ConflictException|IllegalStateException|InvalidDBClusterStateFault|InvalidGlobalClusterStateFault|"
    "OperationAborted"
)
MEANT = {
    "ScalingActivityInProgress": "a scaling activity or its cooldown is still under way; it is tried again",
    "ResourceContention": "another update of it is still pending; it is tried again",
    "PriorRequestNotComplete": "a former change of the zone is still being made; it is tried again",
    "RequestTimeTooSkewed": "this machine's clock differs from that of AWS by more than it accepts",
}
IAM_NAMES = {"monitoring": "cloudwatch"}
NEVER_SENT = (
    exceptions.EndpointConnectionError,
    exceptions.ConnectTimeoutError,
    exceptions.ProxyConnectionError,
    exceptions.CredentialRetrievalError,
    exceptions.MetadataRetrievalError,
)
# What the SDK's parsers raise, besides their own error, on an answer that is not from AWS.
STRANGE = (AttributeError, IndexError, KeyError, TypeError, ValueError)
ASSUMED = re.compile(r"(arn:aws[a-z-]*):sts::([0-9]{12}):assumed-role/([^/]+)/.*")


class AwsClient:
    """The catalogue's accounts, connected to when first needed; threads may share this.

    Args:
        aws: Where they are.
        clock: The time now, in UTC.
        connect_timeout: Seconds.
        read_timeout: Seconds between two packets; with the former it stays below the ``in_flight`` of the
            actions.
    """

    def __init__(
        self,
        aws: Aws,
        *,
        clock: Callable[[], datetime],
        connect_timeout: float = 3.0,
        read_timeout: float = 8.0,
    ) -> None:
        self._accounts = {account.name: account for account in aws.accounts}
        self._clock = clock
        self._config = Config(
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            retries={"total_max_attempts": 1, "mode": "standard"},
            parameter_validation=True,
        )
        self._panels = {panel.name: panel for panel in aws.panels}
        # Some of the five endpoints are always away, so these are not waited for as long.
        self._routing_config = self._config.merge(
            Config(connect_timeout=min(connect_timeout, 1.0), read_timeout=min(read_timeout, 3.0))
        )
        self._answered: dict[str, int] = {}
        self._sessions: dict[tuple[str, str | None], Any] = {}
        self._clients: dict[tuple[str, str | None, str, str, str | None], Any] = {}
        self._roles: dict[tuple[str, str | None], str | None] = {}
        self._lock = threading.Lock()
        self._sending = threading.local()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()
            self._sessions.clear()

    def now(self) -> datetime:
        """Give the time now."""
        return self._clock()

    def read(self, at: InRegion, service: str, operation: str, params: Json) -> Json:
        """Ask; every page of the answer, and once more when the answer was lost."""
        try:
            return self._ask(at, service, operation, params)
        except ProviderUnavailableError as error:
            # What was turned away in words would be turned away again at once; a panel has five endpoints.
            if isinstance(at, InPanel) or isinstance(error.__cause__, exceptions.ClientError):
                raise
            return self._ask(at, service, operation, params)

    def change(
        self, at: InRegion, service: str, operation: str, params: Json, *, action: str, action_id: str
    ) -> Json:
        """Send a change, once; the action's id is in the user agent, so that CloudTrail has it."""
        return self._ask(at, service, operation, params, (action, action_id))

    def panel(self, at: InPanel) -> RoutingPanel:
        """Find a control panel of the account in the catalogue."""
        panel = self._panels.get(at.panel)
        if panel is None or panel.account != at.account:
            known = ", ".join(sorted(self._panels)) or "none"
            raise ActionRefusedError(f"{at.where}: no such panel in the catalogue, which has {known}")
        return panel

    def silent(self, at: InPanel, operation: str, params: Json) -> list[str]:
        """Name the regions of a panel's endpoints that do not answer a question."""
        silent = []
        for endpoint in self.panel(at).endpoints:
            try:
                self._ask_endpoint(at, endpoint, operation, params)
            except (ActionRefusedError, ProviderUnavailableError):
                silent.append(endpoint.region)
        return silent

    def _ask(self, at: InRegion, service: str, operation: str, params: Json, by: By = LOOK) -> Json:
        """Send a call once, or to the endpoints of a panel until one takes it.

        The one that answered last comes first, then the others in the catalogue's order. A change goes on to
        the next one only while it has certainly not been taken.
        """
        if not isinstance(at, InPanel):
            return self._send(at, self._client(at, service, action=by[0]), operation, params, by[1])
        endpoints = self.panel(at).endpoints
        first, count, said = self._answered.get(at.panel, 0), len(endpoints), ""
        for number in (number % count for number in range(first, first + count)):
            try:
                answer = self._ask_endpoint(at, endpoints[number], operation, params, by)
            except ProviderUnavailableError as error:
                if error.may_have_applied:
                    raise
                said = f"{endpoints[number].region}: {error}"
            else:
                self._answered[at.panel] = number
                return answer
        raise ProviderUnavailableError(f"{at.where}: none of {count} endpoints answers, the last was {said}")

    def _ask_endpoint(
        self, at: InPanel, endpoint: RoutingEndpoint, operation: str, params: Json, by: By = LOOK
    ) -> Json:
        there = at.model_copy(update={"region": endpoint.region})
        client = self._client(there, ROUTING, action=by[0], url=endpoint.url)
        return self._send(at, client, operation, params, by[1])

    def allows(self, at: InRegion, verb: str, *, action: str = "", resource: str = "*") -> bool | None:
        """Say whether our role may do something; ``None`` when AWS does not tell."""
        try:
            role = self._role(at, action)
            if role is None:
                return None
            asked = {"PolicySourceArn": role, "ActionNames": [verb], "ResourceArns": [resource]}
            answer = self._send(
                at, self._client(at, "iam", action=action), "simulate_principal_policy", asked
            )
        except (ActionRefusedError, ProviderUnavailableError):
            return None
        said = answer.get("EvaluationResults") or ()
        # What depends on a condition of the call itself, the simulation cannot know.
        may = (one.get("EvalDecision") == "allowed" or one.get("MissingContextValues") for one in said)
        return all(may) if said else None

    def _role(self, at: InRegion, action: str) -> str | None:
        """Give the ARN of the user or role that signs, as IAM names it."""
        key = (at.account, self._profile(self._account(at), action))
        if key not in self._roles:
            said = self._send(at, self._client(at, "sts", action=action), "get_caller_identity", {})
            arn = str(said.get("Arn", ""))
            assumed = ASSUMED.fullmatch(arn)
            if assumed:
                # An assumed role's ARN has lost the role's path; who may not read it gets the one without.
                try:
                    iam = self._client(at, "iam", action=action)
                    arn = self._send(at, iam, "get_role", {"RoleName": assumed[3]})["Role"]["Arn"]
                except ActionRefusedError:
                    arn = f"{assumed[1]}:iam::{assumed[2]}:role/{assumed[3]}"
            self._roles[key] = arn if ":iam::" in arn and not arn.endswith(":root") else None
        return self._roles[key]

    def _send(self, at: InRegion, client: Any, operation: str, params: Json, action_id: str = "") -> Json:
        """Send a call, once; with an action's id it is a change, whose answer may be lost."""
        lost = bool(action_id)
        self._sending.action_id = action_id
        call = getattr(client, operation)
        paged = operation.startswith(PAGED) and client.can_paginate(operation)
        try:
            if paged and not LIMITED & params.keys():
                pages = client.get_paginator(operation).paginate(**params).build_full_result()
                # What is not said is None there.
                return {name: said for name, said in pages.items() if said is not None}
            answer: Json = call(**params)
        except exceptions.ClientError as error:
            if BAD_CREDENTIALS.fullmatch(str(error.response.get("Error", {}).get("Code"))):
                self._forget(at.account)
            raise _refusal(at, client, operation, error, lost=lost, now=self.now()) from error
        except (exceptions.BotoCoreError, ResponseParserError, *STRANGE) as error:
            if isinstance(error, exceptions.NoCredentialsError):
                self._forget(at.account)
            raise _unanswered(at, error, lost=lost) from error
        if lost and "RequestId" not in answer.get("ResponseMetadata", {}):
            said = "something else than AWS has answered, as there is no request id"
            raise ProviderUnavailableError(f"{at.where}: {said}", may_have_applied=True)
        return answer

    def _account(self, at: InRegion) -> AwsAccount:
        account = self._accounts.get(at.account)
        if account is None:
            known = ", ".join(sorted(self._accounts)) or "none"
            raise ActionRefusedError(f"{at.where}: no such AWS account in the catalogue, which has {known}")
        return account

    def _profile(self, account: AwsAccount, action: str) -> str | None:
        return account.profiles.get(action, account.profile)

    def _client(self, at: InRegion, service: str, *, action: str = "", url: str | None = None) -> Any:
        self._sending.began = time.monotonic()
        account = self._account(at)
        profile = self._profile(account, action)
        key = (account.name, profile, service, at.region, url)
        # Under the lock: a session is not made for threads.
        with self._lock:
            client = self._clients.get(key)
            if client is None:
                client = self._clients[key] = self._connect(at, account, profile, service, url)
        return client

    def _connect(
        self, at: InRegion, account: AwsAccount, profile: str | None, service: str, url: str | None
    ) -> Any:
        try:
            session = self._sessions.get((account.name, profile))
            if session is None:
                core = CoreSession(profile=profile)
                if account.config is not None:
                    core.set_config_variable("config_file", account.config)
                    core.set_config_variable("credentials_file", account.config)
                session = boto3.session.Session(botocore_session=core)
                self._sessions[account.name, profile] = session
            config = self._routing_config if service == ROUTING else self._config
            client = session.client(service, region_name=at.region, config=config, endpoint_url=url)
        except exceptions.BotoCoreError as error:
            raise ActionRefusedError(f"AWS account {account.name}: {one_line(error)}") from error
        client.meta.events.register("before-send", self._sign_with_action)
        return client

    def _sign_with_action(self, request: Any, **_: Any) -> None:
        """Add to the user agent whose call it is; the signature does not cover it."""
        action_id = getattr(self._sending, "action_id", "")
        if action_id and time.monotonic() - self._sending.began > SIGNED_WITHIN:
            said = "it took too long, so the change was not sent; it is tried again"
            raise exceptions.CredentialRetrievalError(provider="AWS", error_msg=said)
        if action_id:
            agent = request.headers.get("User-Agent", b"")
            said = agent.decode() if isinstance(agent, bytes) else str(agent)
            request.headers["User-Agent"] = f"{said} stanch/{action_id}"

    def _forget(self, account: str) -> None:
        """Read the credentials again next time: they may have been renewed."""
        with self._lock:
            self._sessions = {key: one for key, one in self._sessions.items() if key[0] != account}
            self._clients = {key: one for key, one in self._clients.items() if key[0] != account}


def _refusal(
    at: InRegion, client: Any, operation: str, error: exceptions.ClientError, *, lost: bool, now: datetime
) -> Exception:
    """Say what an error in AWS's words means."""
    said, about = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
    status = int(about.get("HTTPStatusCode", 500))
    code, message = str(said.get("Code", "")), one_line(said.get("Message") or said.get("Code") or status)
    # Credentials may come from another call than ours, and then ours was never sent.
    ours = error.operation_name == client.meta.method_to_api_mapping.get(operation)
    if DENIED.fullmatch(code):
        verb = _iam_name(client, error.operation_name) if ours else f"sts:{error.operation_name}"
        return ActionRefusedError(f"{at.where}: the credential may not do {verb} ({message})")
    if BAD_CREDENTIALS.fullmatch(code):
        return ActionRefusedError(
            f"AWS account {at.account}: the credential was refused ({MEANT.get(code, message)})"
        )
    if CONFLICT.fullmatch(code):
        if "safety" in message.lower():
            return ActionRefusedError(f"{at.where}: a safety rule is against it ({message})")
        return PreconditionFailedError(f"{at.where}: {message}")
    busy = BUSY.fullmatch(code) is not None or status == HTTPStatus.TOO_MANY_REQUESTS
    # A request that took too long may have arrived in full, whatever HTTP calls the client's fault.
    slow = status == HTTPStatus.REQUEST_TIMEOUT or SLOW.fullmatch(code)
    if busy or slow or not 400 <= status < 500:  # noqa: PLR2004  (what HTTP calls the client's fault)
        return ProviderUnavailableError(
            f"{at.where}: {MEANT.get(code, message)}",
            may_have_applied=lost and ours and not busy,
            retry_after=retry_after(str(about.get("HTTPHeaders", {}).get("retry-after", "")), now),
        )
    return ActionRefusedError(f"{at.where}: {message}")


def _unanswered(at: InRegion, error: Exception, *, lost: bool) -> Exception:
    """Say what an exception of the SDK or of the wire means."""
    said = one_line(error)
    if isinstance(error, exceptions.ParamValidationError) or "CERTIFICATE_VERIFY_FAILED" in said:
        return ActionRefusedError(f"{at.where}: {said}")
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        return ActionRefusedError(f"AWS account {at.account}: {said}")
    if isinstance(error, (ResponseParserError, *STRANGE)):
        said = "the answer cannot be read, so it is not from AWS"
    return ProviderUnavailableError(
        f"{at.where}: {said}", may_have_applied=lost and not isinstance(error, NEVER_SENT)
    )


def _iam_name(client: Any, operation: str) -> str:
    """Name an operation as a policy does: ``autoscaling:SetDesiredCapacity``."""
    service = client.meta.service_model.signing_name
    return f"{IAM_NAMES.get(service, service)}:{operation}"
