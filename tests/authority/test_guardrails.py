"""The guardrails: each holds at its limit, and only an override that names it sets it aside."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from authority.guardrails import Facts, Guard, Guardrails, Touch, check_names
from contracts.catalogue import Catalogue, ChangeFreeze, GuardrailLimits, Limits
from contracts.errors import GuardrailError, InputError
from contracts.guardrails import Freeze, Guardrail
from contracts.incidents import AttemptEnd
from contracts.outcomes import Direction
from contracts.plans import ActionCall, Difference, Plan, Reach, Step, Target
from tests.authority.plans import NOW, plan

MINUTE = timedelta(minutes=1)
HELD = Touch(target="k8s:deployment/main/shop/web", mitigation="INC-9/1", at=NOW - MINUTE, held=True)
CHANGED = Touch(target=HELD.target, mitigation="INC-9/1", at=NOW - timedelta(seconds=59), held=False)
FREEZE = Freeze(id="FRZ-1", reason="checkout is odd", person="ada", at=NOW - MINUTE)
HELPLESS = (AttemptEnd.INEFFECTIVE, AttemptEnd.WORSE, AttemptEnd.INEFFECTIVE)


def step(number: int, target: Target, change: bool = True, **reach: object) -> Step:  # noqa: FBT001, FBT002  (short cases)
    """Give a step that changes something and reaches so far."""
    model = plan().steps[0]
    return model.model_copy(
        update={
            "number": number,
            "action": ActionCall(name="x.y", target=target, arguments={}),
            "change": (Difference(path="x", before=1, after=2),) * change,
            "reach": Reach.model_validate(reach),
        }
    )


def of(*steps: Step, **facts: object) -> Plan:
    """Give a plan of these steps."""
    return plan().model_copy(update={"undoes": None, "steps": steps or plan().steps, **facts})


def broken(
    judged: Plan, facts: Facts | None = None, limits: GuardrailLimits | None = None, **how: object
) -> list[Guardrail]:
    """Give the rules that stand against a plan."""
    rules = Guardrails(limits or GuardrailLimits())
    return [one.rule for one in rules.violations(judged, facts or Facts(now=NOW), **how)]  # type: ignore[arg-type]


def deployment(cluster: str = "main", name: str = "web") -> Target:
    """Give a deployment."""
    return Target(provider="k8s", kind="deployment", path=(cluster, "shop", name))


def flag(key: str) -> Target:
    """Give a flag."""
    return Target(provider="launchdarkly", kind="flag", path=("shop", "production", key))


PANEL = Target(provider="aws", kind="routing_panel", path=("shop",))
RECORD = Target(provider="aws", kind="record", path=("main", "Z1", "shop.example.com", "A"))
GROUP = Target(provider="aws", kind="auto_scaling_group", path=("main", "eu-west-1", "web"))


def test_nothing_stands_against_an_ordinary_plan() -> None:
    """A plan of one flag breaks nothing."""
    assert broken(of()) == []


@pytest.mark.parametrize(
    ("facts", "rule", "said"),
    [
        (
            Facts(now=NOW, touches=(HELD,)),
            "target-lock",
            "INC-9/1 has k8s:deployment/main/shop/web to itself since 2026-11-21T14:49:00.00:00 and has not",
        ),
        (Facts(now=NOW, touches=(CHANGED,)), "cooldown", "INC-9/1 changed k8s:deployment/main/shop/web"),
        (Facts(now=NOW, actions=30), "actions-per-hour", "shop had 30 actions within the hour"),
        (
            Facts(now=NOW, ends={"playbook disable-flag": HELPLESS}),
            "ineffective-breaker",
            "the last 3 mitigations of playbook disable-flag did not help",
        ),
        (
            Facts(now=NOW, freezes=(FREEZE,)),
            "freeze",
            "ada stopped all changes at .* .FRZ-1.: checkout is odd",
        ),
    ],
)
def test_what_the_ledger_knows(facts: Facts, rule: str, said: str) -> None:
    """Each rule refuses by its name with a sentence, and an override sets it aside only by that name."""
    rules = Guardrails(GuardrailLimits())
    guard = Guard(rules, of(violations=rules.violations(of(), facts)))

    with pytest.raises(GuardrailError, match=f"guardrail {rule}: {said}"):
        guard.check(Direction.APPLY, facts)
    for name in Guardrail:
        named = Guard(guard.rules, guard.plan, overrides=(name.value,), given_at=NOW)
        if name == rule:
            assert [one.rule for one in named.check(Direction.APPLY, facts)] == [rule]
        else:
            with pytest.raises(GuardrailError, match=rule):
                named.check(Direction.APPLY, facts)


@pytest.mark.parametrize(
    "facts",
    [
        Facts(now=NOW, touches=(CHANGED,), actions=29),
        Facts(now=NOW, actions=29),
        Facts(now=NOW, ends={"service shop": (AttemptEnd.EFFECTIVE, *HELPLESS)}),
        Facts(now=NOW, ends={"service shop": HELPLESS[:2]}),
    ],
)
def test_just_below_the_limits(facts: Facts) -> None:
    """What is at its limit but not over it stands against nothing."""
    assert broken(of(), facts, GuardrailLimits(cooldown=timedelta(seconds=59))) == []


def test_undo_of_our_own_change() -> None:
    """An undo goes on in spite of everything but a freeze and the lock of another mitigation."""
    weekend = ChangeFreeze(name="weekend", starts=NOW - MINUTE, ends=NOW + MINUTE)
    limits = GuardrailLimits(change_freezes=(weekend,))
    shrinks = step(1, deployment(), replicas=(12, 3))
    facts = Facts(now=NOW, touches=(CHANGED,), actions=99, ends={"service shop": HELPLESS})

    for judged, direction in (
        (of(shrinks), Direction.UNDO),
        (of(shrinks, undoes="INC-1/0"), Direction.APPLY),
    ):
        assert broken(judged, facts, limits, direction=direction) == []
        assert broken(judged, Facts(now=NOW, freezes=(FREEZE,)), direction=direction) == ["freeze"]
        assert broken(judged, Facts(now=NOW, touches=(HELD,)), direction=direction) == ["target-lock"]
    assert broken(of(shrinks), facts, limits) == [
        "cooldown",
        "actions-per-hour",
        "ineffective-breaker",
        "blast-radius",
        "change-freeze",
    ]


def test_budget_of_a_whole_plan_and_of_one_action() -> None:
    """While a plan is sealed all its steps count; when one is about to begin, that one."""
    judged = of(step(1, flag("a")), step(2, flag("b")))
    facts = Facts(now=NOW, actions=29)

    assert broken(judged, facts) == ["actions-per-hour"]
    assert broken(judged, facts, due=1) == []
    assert broken(judged, facts, steps=(2,)) == []


@pytest.mark.parametrize(
    ("steps", "rule"),
    [
        ([step(1, deployment(), replicas=(4, 2))], None),
        ([step(1, deployment(), replicas=(4, 1))], "blast-radius"),
        ([step(1, deployment(), replicas=(4, 40))], None),
        ([step(1, deployment(), replicas=(1, 0))], "blast-radius"),
        ([step(1, deployment(), replicas=(0, 0))], None),
        ([step(1, GROUP, replicas=(10, 4))], "blast-radius"),
        ([step(1, GROUP, change=False, replicas=(10, 4))], None),
        ([step(1, deployment(), replicas=(8, 4)), step(2, deployment(), replicas=(4, 2))], "blast-radius"),
        ([step(n, deployment(), region=f"c{n}") for n in (1, 2)], None),
        ([step(n, deployment(), region=f"c{n}") for n in (1, 2, 3)], "blast-radius"),
        ([step(n, deployment(name=f"w{n}"), region="c1") for n in (1, 2, 3)], None),
        ([step(n, flag(f"f{n}")) for n in (1, 2, 3)], None),
        ([step(n, flag(f"f{n}")) for n in (1, 2, 3, 4)], "blast-radius"),
        ([step(n, flag(f"f{n}"), change=n < 4) for n in (1, 2, 3, 4)], None),
        ([step(1, PANEL, places={"a": (True, False), "b": (True, True)})], None),
        ([step(1, PANEL, places={"a": (True, False), "b": (False, False)})], "regions-on"),
        ([step(1, PANEL, places={"a": (True, False), "b": (False, True)})], None),
        (
            [
                step(1, PANEL, places={"a": (True, False), "b": (True, True)}),
                step(2, PANEL, places={"a": (True, True), "b": (True, False)}),
            ],
            "regions-on",
        ),
        ([step(1, RECORD, places={"a": (True, False)})], "regions-on"),
        ([step(1, PANEL)], None),
    ],
)  # fmt: skip
def test_what_the_plan_itself_says(steps: list[Step], rule: str | None) -> None:
    """Shares of replicas, regions, flags and places that stay on are counted from the sealed steps."""
    assert broken(of(*steps)) == ([rule] if rule else [])


def test_fewer_steps_reach_less_far() -> None:
    """Whoever approves only some steps is measured by those."""
    judged = of(*(step(n, flag(f"f{n}")) for n in (1, 2, 3, 4)))

    assert broken(judged, steps=(1, 2, 3)) == []


def test_turning_on_is_no_loss() -> None:
    """Going from none to one is allowed where two are to be on: it is on the way there."""
    turns_on = step(1, PANEL, places={"a": (False, True), "b": (False, False)})

    assert broken(of(turns_on), limits=GuardrailLimits(regions_on=2)) == []


def test_limits_of_one_service() -> None:
    """A service's own limit counts for it, and what it does not name is as for all."""
    limits = GuardrailLimits(flags=1, actions_per_hour=5, services={"shop": Limits(flags=4)})

    assert (limits.of("shop").flags, limits.of("shop").actions_per_hour) == (4, 5)
    assert limits.of("other").flags == 1


@pytest.mark.parametrize(
    ("now", "is_closed"),
    [
        ("2026-11-20T16:59:59Z", False),
        ("2026-11-20T17:00:00Z", True),
        ("2026-11-23T07:59:59Z", True),
        ("2026-11-23T08:00:00Z", False),
        ("2026-11-27T16:59:59Z", False),
        ("2026-11-27T17:00:00Z", True),
        ("2027-03-05T18:00:00Z", True),
        ("2026-11-13T18:00:00Z", False),
    ],
)
def test_a_window_of_each_week(now: str, is_closed: bool) -> None:  # noqa: FBT001  (a table of expectations)
    """A window holds from its start until just before its end, and comes again."""
    weekend = ChangeFreeze.model_validate(
        {"name": "weekend", "starts": "2026-11-20T17:00:00Z", "ends": "2026-11-23T08:00:00Z", "every": "P7D"}
    )
    facts = Facts(now=datetime.fromisoformat(now))
    other = weekend.model_copy(update={"services": ("other",)})

    expected = ["change-freeze"] if is_closed else []
    assert broken(of(), facts, GuardrailLimits(change_freezes=(weekend,))) == expected
    assert broken(of(), facts, GuardrailLimits(change_freezes=(other,))) == []


@pytest.mark.parametrize(
    ("zone", "ends"),
    [
        # From Friday at five to Monday at six in Berlin, first in summer time; it ends on 25 October.
        ("Europe/Berlin", ["2026-10-26T05:00", None, "2026-11-02T05:00", "2026-11-02T05:00", None]),
        (None, ["2026-10-26T04:00", "2026-11-02T04:00", "2026-11-02T04:00", None, None]),
    ],
)
def test_a_window_by_the_clocks_of_a_place(zone: str | None, ends: list[str | None]) -> None:
    """What comes again by the clocks of a place is not moved by its summer time; by UTC it is."""
    weekend = ChangeFreeze.model_validate(
        {"name": "w", "starts": "2026-10-16T15:00:00Z", "ends": "2026-10-19T04:00:00Z", "every": "P7D"}
        | {"zone": zone}
    )
    asked = ("10-24T12:00", "10-30T15:30", "10-30T16:00", "11-02T04:30", "11-02T05:00")
    found = [weekend.until(datetime.fromisoformat(f"2026-{at}:00+00:00")) for at in asked]

    assert found == [end and datetime.fromisoformat(f"{end}:00+00:00") for end in ends]


@pytest.mark.parametrize(
    ("starts", "ends", "frozen"),
    [
        ("2026-10-04T02:30", "2026-10-04T06:00", ["00:45", "01:15", "04:45"]),
        ("2026-10-04T01:00", "2026-10-04T02:30", ["00:15"]),
    ],
)
def test_an_hour_that_comes_twice(starts: str, ends: str, frozen: list[str]) -> None:
    """A window that begins or ends while clocks are set back does so once, and has no gap."""
    written = {"starts": f"{starts}:00+02:00", "ends": f"{ends}:00+02:00", "every": "P7D"}
    night = ChangeFreeze.model_validate({"name": "w", "zone": "Europe/Berlin"} | written)
    asked = ("00:15", "00:45", "01:15", "04:45", "05:15")
    ended = {at: night.until(datetime.fromisoformat(f"2026-10-25T{at}:00+00:00")) for at in asked}

    assert [at for at in asked if ended[at]] == frozen


def test_windows_that_are_none() -> None:
    """A window that ends before it starts, or comes again too early, is named."""
    day = datetime(2026, 12, 24, tzinfo=UTC)
    for facts, said in (
        ({"ends": day}, "it ends before it starts"),
        ({"ends": day + timedelta(days=2), "every": timedelta(days=1)}, "it comes again before it has ended"),
    ):
        with pytest.raises(ValidationError, match=said):
            ChangeFreeze.model_validate({"name": "holidays", "starts": day, **facts})


def test_services_that_are_none() -> None:
    """Limits and windows name services of the catalogue."""
    day = datetime(2026, 12, 24, tzinfo=UTC)
    window = {"name": "holidays", "starts": day, "ends": day + MINUTE, "services": ["sohp"]}
    for section, said in (
        ({"services": {"sohp": {}}}, "guardrails: services names sohp"),
        ({"change_freezes": [window]}, "guardrails: change freeze holidays names sohp"),
    ):
        with pytest.raises(ValidationError, match=said):
            Catalogue.model_validate({"guardrails": section})


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        (Facts(now=NOW, freezes=(FREEZE,)), Guardrail.FREEZE),
        (Facts(now=NOW, touches=(HELD,)), Guardrail.TARGET_LOCK),
        (Facts(now=NOW, touches=(CHANGED,)), Guardrail.COOLDOWN),
    ],
)
def test_an_override_sets_aside_what_stood_when_it_was_given(facts: Facts, rule: Guardrail) -> None:
    """A freeze or another mitigation's change that comes after the decision holds, though it is named."""
    began = min([freeze.at for freeze in facts.freezes] + [touch.at for touch in facts.touches])
    rules = Guardrails(GuardrailLimits(cooldown=timedelta(hours=1)))
    named = Guard(rules, of(), overrides=(rule.value,), given_at=began)
    before = replace(named, given_at=began - timedelta(microseconds=1))

    assert [one.rule for one in named.check(Direction.APPLY, facts)] == [rule]
    for guard in (before, Guard(rules, of(), overrides=(rule.value,))):
        with pytest.raises(GuardrailError, match=rule):
            guard.check(Direction.APPLY, facts)


def test_a_target_that_was_taken_over_is_not_left_alone_first() -> None:
    """Who names the lock need not name the cooldown that it turns into; a later change still holds."""
    rules = Guardrails(GuardrailLimits(cooldown=timedelta(hours=1)))
    named = Guard(rules, of(), overrides=("target-lock",), given_at=NOW)

    assert [one.rule for one in named.check(Direction.APPLY, Facts(now=NOW, touches=(CHANGED,)))] == [
        "cooldown"
    ]
    later = replace(CHANGED, at=NOW + MINUTE)
    with pytest.raises(GuardrailError, match="cooldown"):
        named.check(Direction.APPLY, Facts(now=NOW + MINUTE, touches=(later,)))


def test_overrides_that_name_no_guardrail() -> None:
    """An unknown name is refused, when it is given and again when it is acted on."""
    with pytest.raises(
        InputError, match="there is no guardrail 'everything'; there are target-lock, cooldown"
    ):
        check_names(["cooldown", "everything"])
    with pytest.raises(GuardrailError, match="there is no guardrail 'everything'"):
        Guard(Guardrails(GuardrailLimits()), of(), overrides=("everything",)).check(
            Direction.APPLY, Facts(now=NOW)
        )
