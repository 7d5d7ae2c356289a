"""Turning a flag on and off: what is shown, what is sent, and every fault against the fake's own log."""

import socket
from typing import NamedTuple

import pytest

from activities.launchdarkly import SetFlag, SetFlagAction
from activities.launchdarkly.client import LaunchDarklyClient
from activities.launchdarkly.fake import FakeLaunchDarkly, Fault
from contracts.actions import Action
from contracts.errors import ActionRefusedError, PreconditionFailedError, ProviderUnavailableError
from contracts.outcomes import Reached
from contracts.plans import Difference, Risk
from tests.activities.launchdarkly.conftest import TURN_OFF, ClientOf

ACTION_ID = "INC-1/1/1/apply"
PLACE = ("shop", "production", "new-search")


@pytest.fixture
def action(client: LaunchDarklyClient) -> SetFlagAction:
    """The action on the fake."""
    return SetFlagAction(client)


def changes(ld: FakeLaunchDarkly) -> int:
    """Count the requests that changed a flag, in the fake's own log."""
    return sum(seen.changed for seen in ld.requests)


def acting(ld: FakeLaunchDarkly, client_of: ClientOf, fault: Fault) -> SetFlagAction:
    """Give the action with a client that is impatient where the fault is to say nothing."""
    silent = fault in (Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER)
    return SetFlagAction(client_of(ld.url, patience=0.4 if silent else 20.0))


def carry_out(action: Action[SetFlag], request: SetFlag, *, attempts: int = 8) -> str:
    """Carry a request out as the engine does: after a lost answer it reads before it calls again."""
    unsure = False
    for _ in range(attempts):
        try:
            observed = action.observe(request)
            if unsure and action.is_reached(request, observed).reached is not Reached.NO:
                return "found"
            if not action.change(request, observed):
                return "nothing to do"
            unsure = False
            action.apply(request, observed, action_id=ACTION_ID)
        except ActionRefusedError:
            return "refused"
        except ProviderUnavailableError as error:
            unsure = unsure or error.may_have_applied
        else:
            return "done"
    return "gave up"


def test_turning_off(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """Observe, change, apply and is_reached tell one story, and LaunchDarkly's audit log has our id."""
    observed = action.observe(TURN_OFF)
    change = action.change(TURN_OFF, observed)
    before = action.is_reached(TURN_OFF, observed)
    action.apply(TURN_OFF, observed, action_id=ACTION_ID)
    after = action.is_reached(TURN_OFF, action.observe(TURN_OFF))

    assert observed.guard == {"on": True, "version": 1}
    assert change == (Difference(path="on", before=True, after=False),)
    assert (before.reached, after.reached) == (Reached.NO, Reached.YES)
    assert (ld.config(*PLACE)["on"], ld.config(*PLACE)["version"]) == (False, 2)
    assert ld.state.audit[0]["comment"] == ACTION_ID


def test_what_is_sent(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """The change is one semantic patch with a raw token and a pinned version, and ignores no conflict."""
    action.apply(TURN_OFF, action.observe(TURN_OFF), action_id=ACTION_ID)

    (sent,) = ld.arrived("PATCH")
    assert (sent.path, sent.query) == ("/api/v2/flags/shop/new-search", {})
    assert sent.headers["content-type"] == "application/json; domain-model=launchdarkly.semanticpatch"
    assert (sent.headers["authorization"], sent.headers["ld-api-version"]) == ("api-token", "20240415")
    assert sent.body == {
        "environmentKey": "production",
        "comment": ACTION_ID,
        "instructions": [{"kind": "turnFlagOff"}],
    }


def test_already_there(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """A flag that is as it should be needs no change, has nothing to undo, and a call keeps its version."""
    ld.turn(*PLACE, on=False)
    observed = action.observe(TURN_OFF)
    action.apply(TURN_OFF, observed, action_id=ACTION_ID)

    assert action.change(TURN_OFF, observed) == ()
    assert action.undo(TURN_OFF, observed) == (
        None,
        "new-search was off already, so there is nothing to bring back",
    )
    assert (changes(ld), ld.config(*PLACE)["version"]) == (0, 2)


def test_undo_is_absolute(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """The undo asks for the former state, and brings it back."""
    observed = action.observe(TURN_OFF)
    action.apply(TURN_OFF, observed, action_id=ACTION_ID)
    undo, note = action.undo(TURN_OFF, observed)

    assert undo is not None
    assert (undo, note) == (TURN_OFF.model_copy(update={"on": True, "targeting": undo.targeting}), "")
    assert carry_out(action, undo) == "done"
    assert ld.config(*PLACE)["on"] is True


def test_what_the_approver_reads(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """The blast radius names who gets what, which rules no longer count, and which flags follow."""
    ld.add_rule(*PLACE)
    ld.add_flag("shop", "production", "ranking", prerequisites=("new-search",))
    observed = action.observe(TURN_OFF)
    turn_on = TURN_OFF.model_copy(update={"on": True})

    assert (action.risk, bool(action.idempotent)) == (Risk.LOW, True)
    assert action.blast_radius(TURN_OFF, observed) == (
        "Everybody in shop/production gets off (false), whatever its 1 rule and 0 targets say; "
        "1 flag with it as prerequisite may change too: ranking."
    )
    assert action.blast_radius(turn_on, observed) == (
        "Everybody in shop/production gets what its 1 rule and 0 targets say, and on (true) where they say "
        "nothing; 1 flag with it as prerequisite may change too: ranking."
    )


def test_what_the_flag_itself_depends_on_is_named(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """The blast radius has its prerequisites beside the flags that follow it."""
    ld.add_flag("shop", "production", "ranking", prerequisites=("new-search", "new-cart"))
    request = TURN_OFF.model_copy(update={"key": "ranking"})

    assert action.blast_radius(request, action.observe(request)).endswith(
        "; it has 2 flags as prerequisite: new-search, new-cart; no flag depends on it."
    )


def test_dependents_are_not_known(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """An account without that feature is told so, and the observation is whole otherwise."""
    ld.fail(Fault.FORBIDDEN, path="dependent-flags")
    observed = action.observe(TURN_OFF)

    assert observed.state["dependents"] is None
    assert "which flags depend on it is not known" in action.blast_radius(TURN_OFF, observed)


@pytest.mark.parametrize("other", ["rule", "off and on again"])
def test_a_change_by_somebody_else_voids(ld: FakeLaunchDarkly, action: SetFlagAction, other: str) -> None:
    """Whatever changes in the flag's environment between approval and call stops the call."""
    approved = action.observe(TURN_OFF)
    if other == "rule":
        ld.add_rule(*PLACE)
    else:
        ld.turn(*PLACE, on=False)
        ld.turn(*PLACE, on=True)
    with pytest.raises(PreconditionFailedError, match=r"new-search: was changed .* on in version"):
        action.apply(TURN_OFF, approved, action_id=ACTION_ID)

    assert ld.arrived("PATCH") == []


def test_a_change_in_another_environment_does_not(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """What happens to the flag in staging is no reason to ask again about production."""
    approved = action.observe(TURN_OFF)
    ld.add_flag("shop", "staging", "new-search")
    ld.turn("shop", "staging", "new-search", on=False)
    action.apply(TURN_OFF, approved, action_id=ACTION_ID)

    assert ld.config(*PLACE)["on"] is False


def test_preflight_is_a_dry_run(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """A dry run that LaunchDarkly accepts changes nothing and finds nothing."""
    assert action.preflight(TURN_OFF, action.observe(TURN_OFF)) == ()
    assert (ld.requests[-1].query, changes(ld)) == ({"dryRun": "true"}, 0)
    assert ld.config(*PLACE)["on"] is True


def test_preflight_finds_a_missing_permission(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """A token that may only look is found before anybody is asked; the sentence says what it lacks."""
    ld.state.tokens["api-token"] = ["viewProject"]
    (reason,) = action.preflight(TURN_OFF, action.observe(TURN_OFF))

    assert reason == (
        "shop/production/new-search: the token in TOKEN lacks updateOn on "
        "proj/shop:env/production:flag/new-search "
        "(it says: Forbidden. Access to the requested resource was denied.)"
    )


def test_preflight_finds_a_required_approval(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """LaunchDarkly's own approvals are explained."""
    ld.state.approvals.append("shop/production")
    (reason,) = action.preflight(TURN_OFF, action.observe(TURN_OFF))

    assert "wants its own approval" in reason
    assert "action 'updateOn' not allowed" in reason


def test_preflight_finds_a_scheduled_change(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """A scheduled change that ours would break is explained, and not overridden."""
    ld.state.scheduled.append("shop/production/new-search")
    (reason,) = action.preflight(TURN_OFF, action.observe(TURN_OFF))

    assert "pending scheduled change to fail" in reason
    assert "settle that one in LaunchDarkly first" in reason
    assert carry_out(action, TURN_OFF) == "refused"
    assert ld.config(*PLACE)["on"] is True


def test_preflight_finds_an_archived_flag(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """An archived flag is served to nobody, so switching it helps nobody."""
    ld.state.flags["shop"]["new-search"]["archived"] = True

    assert "is archived" in action.preflight(TURN_OFF, action.observe(TURN_OFF))[0]


class Case(NamedTuple):
    """A fault of the change, and the truth after it.

    Attributes:
        unsure: What the error says of whether it may have applied; ``None`` when it is refused.
        end: How carrying it out ends when the fault happens once.
        sent: How many patches the fake logs then.
        changed: How many of them changed the flag.
    """

    fault: Fault
    unsure: bool | None
    end: str
    sent: int
    changed: int


CASES = (
    Case(Fault.BAD_REQUEST, unsure=None, end="refused", sent=1, changed=0),
    Case(Fault.UNAUTHORIZED, unsure=None, end="refused", sent=1, changed=0),
    Case(Fault.FORBIDDEN, unsure=None, end="refused", sent=1, changed=0),
    Case(Fault.NOT_FOUND, unsure=None, end="refused", sent=1, changed=0),
    Case(Fault.CONFLICT, unsure=False, end="done", sent=2, changed=1),
    Case(Fault.THROTTLED, unsure=False, end="done", sent=2, changed=1),
    Case(Fault.ERROR_BEFORE, unsure=True, end="done", sent=2, changed=1),
    Case(Fault.ERROR_AFTER, unsure=True, end="found", sent=1, changed=1),
    Case(Fault.TIMEOUT_BEFORE, unsure=True, end="done", sent=2, changed=1),
    Case(Fault.TIMEOUT_AFTER, unsure=True, end="found", sent=1, changed=1),
    Case(Fault.CUT_BEFORE, unsure=True, end="done", sent=2, changed=1),
    Case(Fault.CUT_AFTER, unsure=True, end="found", sent=1, changed=1),
    Case(Fault.NONSENSE, unsure=True, end="done", sent=1, changed=1),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault.value)
def test_fault_of_the_change(ld: FakeLaunchDarkly, client_of: ClientOf, case: Case) -> None:
    """A lost answer is read before anything is sent again: the flag is changed once, or not if refused."""
    action = acting(ld, client_of, case.fault)
    ld.fail(case.fault, method="PATCH")
    end = carry_out(action, TURN_OFF)

    assert (end, len(ld.arrived("PATCH")), changes(ld)) == (case.end, case.sent, case.changed)
    assert ld.config(*PLACE)["on"] is (case.end == "refused")
    assert ld.config(*PLACE)["version"] == 1 + case.changed


@pytest.mark.parametrize("case", CASES[:-1], ids=lambda case: case.fault.value)
def test_what_the_error_says(ld: FakeLaunchDarkly, client_of: ClientOf, case: Case) -> None:
    """`may_have_applied` is never False when the fake applied it, and True only where nobody can know."""
    action = acting(ld, client_of, case.fault)
    observed = action.observe(TURN_OFF)
    ld.fail(case.fault, method="PATCH")
    with pytest.raises((ProviderUnavailableError, ActionRefusedError)) as raised:
        action.apply(TURN_OFF, observed, action_id=ACTION_ID)
    error = raised.value
    unsure = error.may_have_applied if isinstance(error, ProviderUnavailableError) else None

    assert unsure is case.unsure
    assert unsure or changes(ld) == 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault.value)
def test_fault_that_stays_for_a_while(ld: FakeLaunchDarkly, client_of: ClientOf, case: Case) -> None:
    """Three times the same fault changes the flag at most once."""
    action = acting(ld, client_of, case.fault)
    ld.fail(case.fault, method="PATCH", times=3)
    end = carry_out(action, TURN_OFF)

    assert (end, changes(ld)) == (case.end, case.changed)
    assert ld.config(*PLACE)["on"] is (case.end == "refused")


@pytest.mark.parametrize(
    ("fault", "end"),
    [
        (Fault.BAD_REQUEST, "refused"),
        (Fault.UNAUTHORIZED, "refused"),
        (Fault.FORBIDDEN, "refused"),
        (Fault.NOT_FOUND, "refused"),
        (Fault.CONFLICT, "done"),
        (Fault.THROTTLED, "done"),
        (Fault.ERROR_BEFORE, "done"),
        (Fault.ERROR_AFTER, "done"),
        (Fault.TIMEOUT_BEFORE, "done"),
        (Fault.TIMEOUT_AFTER, "done"),
        (Fault.CUT_BEFORE, "done"),
        (Fault.CUT_AFTER, "done"),
        (Fault.NONSENSE, "done"),
    ],
)
def test_fault_of_a_read(ld: FakeLaunchDarkly, client_of: ClientOf, fault: Fault, end: str) -> None:
    """A read that fails sends nothing: it is read again, or refused."""
    action = acting(ld, client_of, fault)
    ld.fail(fault, method="GET", path="/api/v2/flags/shop/new-search")

    assert carry_out(action, TURN_OFF) == end
    assert (len(ld.arrived("PATCH")), changes(ld)) == ((0, 0) if end == "refused" else (1, 1))


@pytest.mark.parametrize("fault", [Fault.ERROR_BEFORE, Fault.CUT_AFTER, Fault.FORBIDDEN])
def test_fault_of_the_read_before_the_call(ld: FakeLaunchDarkly, action: SetFlagAction, fault: Fault) -> None:
    """When the guard cannot be compared just before the call, the call is not made."""
    observed = action.observe(TURN_OFF)
    ld.fail(fault, method="GET")
    with pytest.raises((ProviderUnavailableError, ActionRefusedError)) as raised:
        action.apply(TURN_OFF, observed, action_id=ACTION_ID)

    assert getattr(raised.value, "may_have_applied", False) is False
    assert ld.arrived("PATCH") == []


def test_stale_reads_after_a_lost_answer(ld: FakeLaunchDarkly, client_of: ClientOf) -> None:
    """A stale read that nobody can know as such costs a second call, which LaunchDarkly takes as a no-op."""
    ld.fail(Fault.CUT_AFTER, method="PATCH")
    before = SetFlagAction(client_of(ld.url))
    with pytest.raises(ProviderUnavailableError):
        before.apply(TURN_OFF, before.observe(TURN_OFF), action_id=ACTION_ID)
    ld.fail(Fault.STALE_READ, method="GET", path="/flags/shop/new-search", times=2)

    # Another process goes on: it has not seen the first version.
    assert carry_out(SetFlagAction(client_of(ld.url)), TURN_OFF) == "done"
    assert (len(ld.arrived("PATCH")), changes(ld)) == (2, 1)
    assert ld.config(*PLACE)["version"] == 2


def test_stale_read_after_our_own_change(ld: FakeLaunchDarkly, action: SetFlagAction) -> None:
    """After an answered change, an older state is known as such and is not reported as the truth."""
    action.apply(TURN_OFF, action.observe(TURN_OFF), action_id=ACTION_ID)
    ld.fail(Fault.STALE_READ, method="GET")
    with pytest.raises(ProviderUnavailableError, match="answered with version 1, but 2 was seen before"):
        action.observe(TURN_OFF)

    assert action.is_reached(TURN_OFF, action.observe(TURN_OFF)).reached is Reached.YES


def test_nobody_there(client_of: ClientOf) -> None:
    """A refused connection certainly changed nothing."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ProviderUnavailableError, match="connection was refused") as error:
        client_of(url).set_flag(TURN_OFF, comment=ACTION_ID)

    assert error.value.may_have_applied is False
