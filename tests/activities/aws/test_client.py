"""What AWS's errors mean, and where credentials come from."""

import socket
from contextlib import closing
from pathlib import Path

import pytest

from activities.aws import SetDesiredCapacity
from activities.aws import client as client_module
from activities.aws.actions import SetDesiredCapacityAction
from activities.aws.client import AwsClient
from activities.aws.fake import ERRORS, FakeAws, Fault
from contracts.catalogue import Aws, AwsAccount
from contracts.errors import ActionRefusedError, PreconditionFailedError, ProviderUnavailableError
from runtime.clock import utc_now
from tests.activities.aws.conftest import READ_TIMEOUT, World

ADMIN = ["main", "limited"]


def change(client: AwsClient, world: World) -> None:
    """Send one change."""
    request = SetDesiredCapacity(**world.at_group, desired=5)
    client.change(
        request,
        "autoscaling",
        "set_desired_capacity",
        {"AutoScalingGroupName": world.group, "DesiredCapacity": 5},
        action=request.action,
        action_id="INC-1/1/1/apply",
    )


@pytest.mark.parametrize(
    "meant",
    [
        (403, "AccessDenied", ActionRefusedError, "may not do autoscaling:SetDesiredCapacity"),
        (400, "UnauthorizedOperation", ActionRefusedError, "may not do autoscaling:SetDesiredCapacity"),
        (403, "ExpiredToken", ActionRefusedError, "AWS account main: the credential was refused"),
        (403, "RequestTimeTooSkewed", ActionRefusedError, "this machine's clock"),
        (400, "ValidationError", ActionRefusedError, "The request is not valid."),
        (400, "InvalidGlobalClusterStateFault", PreconditionFailedError, "not valid"),
        (409, "ConflictException", PreconditionFailedError, "not valid"),
        (400, "ScalingActivityInProgress", ProviderUnavailableError, "its cooldown is still under way"),
        (400, "Throttling", ProviderUnavailableError, "not valid"),
        (500, "ResourceContention", ProviderUnavailableError, "another update of it is still pending"),
    ],
)
def test_codes_end_in_refused_or_unavailable(
    aws: FakeAws,
    world: World,
    client: AwsClient,
    monkeypatch: pytest.MonkeyPatch,
    meant: tuple[int, str, type[Exception], str],
) -> None:
    """A code decides, whatever HTTP status the service gives it; none of these has changed anything."""
    status, code, kind, said = meant
    monkeypatch.setitem(ERRORS, Fault.BAD_REQUEST, (status, code, "The request is not valid."))
    aws.fail(Fault.BAD_REQUEST, "SetDesiredCapacity")

    with pytest.raises(kind, match=said) as error:
        change(client, world)
    assert type(error.value) is kind
    assert not getattr(error.value, "may_have_applied", False)


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_after_any_server_error_the_change_may_be_there(
    aws: FakeAws, world: World, client: AwsClient, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """No 5xx of whatever stands between is taken for a promise that nothing happened, and no 408."""
    monkeypatch.setitem(ERRORS, Fault.ERROR_BEFORE, (status, "InternalFailure", "no"))
    aws.fail(Fault.ERROR_BEFORE, "SetDesiredCapacity")

    with pytest.raises(ProviderUnavailableError) as error:
        change(client, world)
    assert error.value.may_have_applied
    assert len(aws.arrived("SetDesiredCapacity")) == 1


def test_a_change_whose_credentials_come_late_is_not_sent(
    aws: FakeAws, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker may have concluded by then that nothing arrives; the next try has the credentials."""
    world.make_group()
    keys = '{"Version": 1, "AccessKeyId": "main", "SecretAccessKey": "x"}'
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\nsleep 0.5\necho '{keys}'\n", encoding="utf-8")
    slow.chmod(0o700)
    config = tmp_path / "config"
    config.write_text(
        f"[profile slow]\ncredential_process = {slow}\nendpoint_url = {aws.url}\n", encoding="utf-8"
    )
    account = AwsAccount(name="main", config=str(config), profile="slow")
    monkeypatch.setattr(client_module, "SIGNED_WITHIN", 0.4)
    with closing(AwsClient(Aws(accounts=(account,)), clock=utc_now, read_timeout=20)) as ours:
        with pytest.raises(ProviderUnavailableError, match="the change was not sent") as error:
            change(ours, world)
        change(ours, world)

    assert not error.value.may_have_applied
    assert len(aws.arrived("SetDesiredCapacity")) == 1


def test_throttling_tells_how_long_to_wait(aws: FakeAws, world: World, client: AwsClient) -> None:
    """A 429 was certainly turned away, is not sent again by the SDK, and its wait is passed on."""
    aws.throttle_headers = {"Retry-After": "11"}
    aws.fail(Fault.THROTTLED, "SetDesiredCapacity", times=9)

    with pytest.raises(ProviderUnavailableError) as error:
        change(client, world)
    assert (error.value.may_have_applied, error.value.retry_after) == (False, 11.0)
    assert len(aws.arrived("SetDesiredCapacity")) == 1


@pytest.mark.parametrize(
    ("asked", "wait"), [("99999999", 600.0), ("9" * 400, None), ("soon", None), ("0.5", 0.5)]
)
def test_nonsense_does_not_hold_an_action_up(
    aws: FakeAws, world: World, client: AwsClient, asked: str, wait: float | None
) -> None:
    """A wait that no throttling means, of a broken proxy perhaps, is cut to ten minutes or not believed."""
    aws.throttle_headers = {"Retry-After": asked}
    aws.fail(Fault.THROTTLED, "SetDesiredCapacity")

    with pytest.raises(ProviderUnavailableError) as error:
        change(client, world)
    assert error.value.retry_after == wait


def test_a_refused_connection_has_sent_nothing(world: World, tmp_path: Path) -> None:
    """Where nobody listens, nothing arrived."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    config = tmp_path / "config"
    config.write_text(
        "[default]\naws_access_key_id = x\naws_secret_access_key = y\n"
        f"endpoint_url = http://127.0.0.1:{port}\n",
        encoding="utf-8",
    )
    aws = Aws(accounts=(AwsAccount(name="main", config=str(config), profile="default"),))

    with (
        closing(AwsClient(aws, clock=utc_now, read_timeout=READ_TIMEOUT)) as client,
        pytest.raises(ProviderUnavailableError) as error,
    ):
        change(client, world)
    assert not error.value.may_have_applied


def test_an_unknown_account_is_named(client: AwsClient) -> None:
    """An account that the catalogue does not have is refused, with those that it has."""
    request = SetDesiredCapacity(account="other", region="eu-west-1", group="web", desired=5)

    with pytest.raises(ActionRefusedError, match="no such AWS account in the catalogue, which has limited, "):
        SetDesiredCapacityAction(client).observe(request)


def test_an_unknown_profile_is_named(tmp_path: Path, world: World) -> None:
    """A profile that the file does not have is refused."""
    (tmp_path / "config").write_text("[profile a]\n", encoding="utf-8")
    account = AwsAccount(name="main", config=str(tmp_path / "config"), profile="b")

    with (
        closing(AwsClient(Aws(accounts=(account,)), clock=utc_now)) as client,
        pytest.raises(ActionRefusedError, match=r"AWS account main: .*\(b\) could not be found"),
    ):
        change(client, world)


def test_an_action_has_its_own_profile(aws: FakeAws, world: World, accounts: Aws, client: AwsClient) -> None:
    """One role for each action: the change has the profile that the catalogue gives to it, reads have not."""
    del client
    world.make_group()
    account = accounts.accounts[0].model_copy(update={"profiles": {SetDesiredCapacity.action: "limited"}})
    with closing(AwsClient(Aws(accounts=(account,)), clock=utc_now, read_timeout=20)) as ours:
        action = SetDesiredCapacityAction(ours)
        request = SetDesiredCapacity(**world.at_group, desired=5)
        action.apply(request, action.observe(request), action_id="INC-1/1/1/apply")

    assert {one.key for one in aws.requests if one.changed} == {"limited"}
    assert {one.key for one in aws.requests if not one.changed} == {"main"}
