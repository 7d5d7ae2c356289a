"""Which flag was changed last, and how?"""

from datetime import timedelta

import pytest

from activities.launchdarkly import (
    RecentChanges,
    RecentFlagChanges,
    RecentFlagChangesProbe,
)
from activities.launchdarkly.client import LaunchDarklyClient
from activities.launchdarkly.fake import FakeLaunchDarkly, Fault
from contracts.errors import ActionRefusedError, ProviderUnavailableError
from tests.activities.launchdarkly.conftest import TURN_OFF, Clock


@pytest.fixture
def quiet(ld: FakeLaunchDarkly, clock: Clock) -> FakeLaunchDarkly:
    """Two flags, `new-search` and `ranking`, and nothing happened for a day."""
    ld.add_flag("shop", "production", "ranking")
    clock.at += timedelta(days=1)
    return ld


def look(client: LaunchDarklyClient, *keys: str, hours: float = 6) -> RecentChanges:
    """Ask for the changes of these flags, or of both."""
    keys = keys or ("new-search", "ranking")
    request = RecentFlagChanges(
        project="shop", environment="production", keys=keys, within=timedelta(hours=hours)
    )
    return RecentFlagChangesProbe(client).look(request)


@pytest.mark.usefixtures("quiet")
def test_nothing_happened(client: LaunchDarklyClient) -> None:
    """Changes from before the window are none."""
    assert look(client) == RecentChanges()


def test_most_recent_first(quiet: FakeLaunchDarkly, client: LaunchDarklyClient, clock: Clock) -> None:
    """Each change is there in words, with who made it and whether the flag is on now, the latest first."""
    quiet.turn("shop", "production", "new-search", on=False)
    quiet.turn("shop", "production", "new-search", on=True, by="Grace Hopper")
    clock.at += timedelta(hours=1)
    quiet.add_rule("shop", "production", "ranking")
    quiet.add_flag("shop", "production", "fresh", on=False)
    seen = look(client, "new-search", "ranking", "fresh")

    assert [(change.key, change.title, change.on) for change in seen.changes] == [
        ("fresh", "Ariel Flores created the flag Fresh", False),
        ("ranking", "Ariel Flores updated the flag Ranking", True),
        ("new-search", "Grace Hopper turned on the flag New search", True),
        ("new-search", "Ariel Flores turned off the flag New search", True),
    ]
    assert seen.changes[2].by == "Grace Hopper"
    assert seen.changes[2].changed_at - clock.at < timedelta(hours=2)
    assert seen.notes == ()


@pytest.mark.usefixtures("quiet")
def test_our_own_change_is_known_by_its_comment(client: LaunchDarklyClient) -> None:
    """What a mitigation did is seen as such."""
    client.set_flag(TURN_OFF, comment="INC-1/1/1/apply")
    (change,) = look(client).changes

    assert change.comment == "INC-1/1/1/apply"


def test_other_flags_and_environments_are_left_out(
    quiet: FakeLaunchDarkly, client: LaunchDarklyClient
) -> None:
    """Only what was asked about is a suspect."""
    quiet.add_flag("shop", "staging", "new-search")
    quiet.turn("shop", "production", "ranking", on=False)
    quiet.add_flag("other", "production", "new-search")

    assert look(client, "new-search").changes == ()


def test_audit_log_is_asked_for_these_flags(quiet: FakeLaunchDarkly, client: LaunchDarklyClient) -> None:
    """One search of the audit log covers all flags: a policy over their resources, since the window began."""
    look(client)
    (sent,) = quiet.arrived("POST")

    assert sent.path == "/api/v2/auditlog"
    assert sent.body == [
        {
            "effect": "allow",
            "resources": [
                "proj/shop:env/production:flag/new-search",
                "proj/shop:env/production:flag/ranking",
            ],
            "actions": ["*"],
        }
    ]
    assert sent.query["limit"] == "20"


@pytest.mark.parametrize("action", ["updateName", "updateTags", "createApprovalRequest", "updateFlagLink"])
def test_what_changes_nothing_for_users_is_no_suspect(
    quiet: FakeLaunchDarkly, client: LaunchDarklyClient, action: str
) -> None:
    """Names, tags, links and requests are left out."""
    quiet.turn("shop", "production", "new-search", on=False)
    quiet.state.audit[0]["accesses"][0]["action"] = action

    assert look(client).changes == ()


def test_several_actions_in_one_entry(quiet: FakeLaunchDarkly, client: LaunchDarklyClient) -> None:
    """An entry that changed also something else than a name is a suspect."""
    quiet.add_rule("shop", "production", "new-search")
    entry = quiet.state.audit[0]
    entry["accesses"].insert(
        0, {"action": "updateName", "resource": "proj/shop:env/production:flag/new-search;tag"}
    )
    (change,) = look(client).changes

    assert change.key == "new-search"


def test_without_permission_for_the_audit_log(quiet: FakeLaunchDarkly, client: LaunchDarklyClient) -> None:
    """The time of the last change is what is left, and a note says what is missing."""
    quiet.state.tokens["api-token"] = ["viewProject"]
    quiet.turn("shop", "production", "ranking", on=False)
    seen = look(client)

    assert [(change.title, change.on) for change in seen.changes] == [
        ("Ranking was changed; the audit log does not say how", False)
    ]
    assert "lacks viewProject and the audit log" in seen.notes[0]


def test_missing_flag_is_a_note(quiet: FakeLaunchDarkly, client: LaunchDarklyClient) -> None:
    """A catalogue entry without a flag does not hide the others."""
    quiet.turn("shop", "production", "ranking", on=False)
    seen = look(client, "gone", "ranking")

    assert [change.key for change in seen.changes] == ["ranking"]
    assert seen.notes[0].startswith("shop/production/gone: not found in LaunchDarkly")


def test_no_flag_at_all(quiet: FakeLaunchDarkly, client: LaunchDarklyClient) -> None:
    """With nothing to look at, the audit log is not asked."""
    seen = look(client, "gone")

    assert (seen.changes, len(seen.notes), quiet.arrived("POST")) == ((), 1, [])


def test_unavailable(quiet: FakeLaunchDarkly, client: LaunchDarklyClient) -> None:
    """Not being able to see is not the same as nothing having happened."""
    quiet.fail(Fault.ERROR_BEFORE, path="auditlog")
    with pytest.raises(ProviderUnavailableError):
        look(client)


def test_unknown_project(client: LaunchDarklyClient) -> None:
    """A project that the catalogue does not have is refused."""
    with pytest.raises(ActionRefusedError, match="project nope: not in the catalogue"):
        client.flag("nope", "production", "x")
