"""The policy asks whom it says, lets only the right person decide, and refuses what it cannot read."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from authority.policy import DEFAULT, Policy, Verb
from contracts.approvals import Envelope
from contracts.errors import ForbiddenError, InputError
from contracts.incidents import Incident, Role, Severity
from contracts.plans import Needs, Risk
from contracts.policy import Asked, Question, Ruling
from tests.authority.plans import NOW, plan

INCIDENT = Incident(
    id="INC-1",
    title="broken",
    service="shop",
    environment="production",
    severity=Severity.SEV2,
    opened_at=NOW,
)
SHIPPED = Policy()
SOLO = Policy(solo=True)
TWO = Asked(needs=Needs.TWO)
GROUP = ("incident-commanders",)
FAILOVER = "aws.switch_global_cluster"


def commanded(by: str, *, declared_by: str | None = None) -> Incident:
    """Give an incident with a commander."""
    roles = {Role.INCIDENT_COMMANDER: by, Role.TECHNICAL_LEAD: "grace"}
    return INCIDENT.model_copy(update={"roles": roles, "declared_by": declared_by})


def question(**changes: Any) -> Question:
    """Give a question about a medium step in production."""
    return Question.model_validate(
        {
            "severity": "SEV2",
            "environment": "production",
            "service": "shop",
            "action": "k8s.roll_back_deployment",
            "target": "k8s:deployment/main/shop/web",
            "risk": "medium",
            "playbook": "roll-back-deployment",
            "at": NOW,
        }
        | changes
    )


def allows(policy: Policy, verb: Verb, incident: Incident, person: str, *args: Any, **kwargs: Any) -> bool:
    """Say whether the policy lets somebody."""
    try:
        policy.check(verb, incident, person, *args, **kwargs)
    except ForbiddenError:
        return False
    return True


@pytest.mark.parametrize(
    ("changes", "needs", "rules"),
    [
        ({}, Needs.ONE, ("one-person",)),
        ({"risk": "none"}, Needs.ONE, ("one-person",)),
        ({"severity": "SEV4"}, Needs.ONE, ("one-person",)),
        ({"environment": "staging"}, Needs.NOBODY, ("not-production",)),
        ({"environment": "Staging"}, Needs.ONE, ("one-person",)),
        ({"environment": ""}, Needs.ONE, ("one-person",)),
        ({"environment": "staging", "risk": "high"}, Needs.ONE, ("not-production",)),
        ({"risk": "high"}, Needs.TWO, ("two-people",)),
        ({"risk": "high", "severity": "SEV3"}, Needs.TWO, ("two-people",)),
        ({"risk": "high", "severity": "SEV4"}, Needs.DENIED, ()),
        ({"risk": "high", "severity": "SEV4", "undoes": True}, Needs.ONE, ("one-person",)),
        ({"risk": "high", "severity": "SEV1"}, Needs.ONE, ("one-person-in-sev1",)),
        ({"risk": "high", "severity": "SEV1", "action": FAILOVER}, Needs.TWO, ("two-people",)),
        ({"risk": "high", "action": FAILOVER, "undoes": True}, Needs.ONE, ("one-person",)),
    ],
)
def test_whom_the_shipped_policy_asks(changes: dict[str, Any], needs: Needs, rules: tuple[str, ...]) -> None:
    """The shipped policy asks nobody for a test environment, two for what is risky, and one else."""
    assert SHIPPED.rule(question(**changes)) == Ruling(needs=needs, rules=rules)


def test_every_combination_has_a_ruling() -> None:
    """Whatever is asked is answered: by a named rule, or denied; and an undo asks one person at most."""
    order = list(Needs)
    actions = ("k8s.scale_deployment", "launchdarkly.turn_flag_off", FAILOVER, "unheard.of", "")
    places = ("production", "staging", "dev", "prod-eu", "stAging", "", "\x00", 'a"}]')
    for severity, place, action, risk, fresh, undoes, policy in itertools.product(
        Severity, places, actions, Risk, (False, True), (False, True), (SHIPPED, SOLO)
    ):
        asked = question(
            severity=severity, environment=place, action=action, risk=risk, fresh=fresh, undoes=undoes
        )
        ruling = policy.rule(asked)

        assert ruling.rules or ruling.needs is Needs.DENIED
        assert not undoes or order.index(ruling.needs) <= order.index(Needs.ONE)
        assert ruling.needs is not Needs.NOBODY or place in ("staging", "dev")
        assert policy is SHIPPED or ruling.needs is not Needs.TWO


def test_nobody_approves_their_own() -> None:
    """Over all roles, groups and histories: nobody approves what they requested, wrote anew, or approved."""
    people = (None, "ada", "bo")
    for commander, lead, requester, asker, author, fresh, needs, given, groups in itertools.product(
        people,
        people,
        people,
        ("", "ada", "bo"),
        ("", "ada"),
        (False, True),
        Needs,
        ((), ("bo",)),
        ((), GROUP),
    ):
        holders = {Role.INCIDENT_COMMANDER: commander, Role.TECHNICAL_LEAD: lead}
        roles = {role: holder for role, holder in holders.items() if holder}
        incident = INCIDENT.model_copy(update={"roles": roles, "declared_by": requester})
        asked = Asked(needs=needs, author=author, fresh=fresh, asked_by=asker)
        if allows(SHIPPED, Verb.APPROVE, incident, "ada", asked, groups=groups, given=given):
            assert "ada" not in (requester, asker)
            assert not (fresh and author == "ada")
            assert needs is not Needs.DENIED
            assert commander in ("ada", asker) or (needs is Needs.TWO and commander in given)
        assert not allows(SHIPPED, Verb.APPROVE, incident, "bo", asked, groups=groups, given=("bo",))


@pytest.mark.parametrize("policy", [SHIPPED, SOLO])
def test_strangers_may_nothing(policy: Policy) -> None:
    """Somebody without a role and a group may neither approve, nor grant, nor break the glass, even solo."""
    for incident, verb, needs, given in itertools.product(
        (INCIDENT, commanded("ada"), commanded("ada", declared_by="bo")), Verb, Needs, ((), ("ada",))
    ):
        for person in ("mallory", "Ada", "ada ", "", "\ud800", 'ada"'):
            assert not allows(policy, verb, incident, person, Asked(needs=needs), given=given)


def test_the_commander_decides() -> None:
    """The holder of the Incident Commander's role may decide."""
    SHIPPED.check_may_decide(commanded("ada"), "ada")


@pytest.mark.parametrize(
    ("incident", "person", "why"),
    [
        (INCIDENT, "ada", "INC-1 has no Incident Commander yet: acknowledge it"),
        (commanded("ada"), "grace", r"INC-1: only the Incident Commander \(ada\) decides, not grace"),
        (commanded("ada"), "Ada", "only the Incident Commander"),
        (commanded("ada"), "", "only somebody with a name"),
        (
            commanded("ada", declared_by="ada"),
            "ada",
            "INC-1 was declared by ada, who cannot .* hand the role",
        ),
    ],
)
def test_nobody_else_decides(incident: Incident, person: str, why: str) -> None:
    """Nobody without the role, and nobody on what they asked for themselves."""
    with pytest.raises(ForbiddenError, match=why):
        SHIPPED.check_may_decide(incident, person)


def test_two_people() -> None:
    """The commander comes first, then the technical lead or a commander of the directory; never one twice."""
    incident = commanded("ada")
    sealed = plan()
    steps = tuple(step.model_copy(update={"needs": Needs.TWO}) for step in sealed.steps)
    sealed = sealed.model_copy(update={"steps": steps})

    SHIPPED.check_may_decide(incident, "ada", plan=sealed)
    SHIPPED.check_may_decide(incident, "grace", plan=sealed, given=("ada",))
    SHIPPED.check_may_decide(incident, "linus", plan=sealed, given=("ada",), groups=GROUP)
    for person, groups, given, why in (
        ("ada", (), ("ada",), "ada has approved already, and another person is asked"),
        ("grace", (), (), r"only the Incident Commander \(ada\) decides first, not grace"),
        ("linus", (), ("ada",), "no rule of the policy lets linus approve"),
        ("linus", GROUP, ("grace",), "no rule of the policy lets linus approve"),
    ):
        with pytest.raises(ForbiddenError, match=why):
            SHIPPED.check_may_decide(incident, person, plan=sealed, groups=groups, given=given)


def test_plans_that_nobody_may_approve() -> None:
    """A plan with a denied step is nobody's to approve; its author approves it only once it has helped."""
    sealed = plan().model_copy(update={"author": "ada", "fresh": True})
    denied = sealed.steps[0].model_copy(update={"needs": Needs.DENIED})

    SHIPPED.check_may_decide(commanded("ada"), "ada", plan=sealed.model_copy(update={"fresh": False}))
    SOLO.check_may_decide(commanded("ada"), "ada", plan=sealed)
    with pytest.raises(ForbiddenError, match="ada wrote this playbook"):
        SHIPPED.check_may_decide(commanded("ada"), "ada", plan=sealed)
    with pytest.raises(ForbiddenError, match="the policy denies this"):
        SOLO.check_may_decide(commanded("ada"), "ada", plan=sealed.model_copy(update={"steps": (denied,)}))


@pytest.mark.parametrize("given", [(), ("ada",)])
def test_a_no_is_always_safe(given: tuple[str, ...]) -> None:
    """Who has a role, declared it, wrote the fresh playbook or may approve may say no; nobody else."""
    incident = commanded("ada", declared_by="bo")
    two = plan().steps[0].model_copy(update={"needs": Needs.TWO})
    sealed = plan().model_copy(update={"author": "carol", "fresh": True, "steps": (two,)})

    for person in ("ada", "grace", "bo", "carol"):
        SHIPPED.check_may_reject(incident, person, plan=sealed, given=given)
    SHIPPED.check_may_reject(incident, "linus", plan=sealed, groups=GROUP, given=("ada",))
    helped = sealed.model_copy(update={"fresh": False})
    for person, about in (("linus", sealed), ("Ada", sealed), ("", sealed), ("carol", helped)):
        with pytest.raises(ForbiddenError, match=r"has no role in it, and only|only somebody with a name"):
            SHIPPED.check_may_reject(incident, person, plan=about, given=given)


def test_a_no_that_the_policy_forbids_or_permits() -> None:
    """A rule forbids a no even to the commander, with its reason, and another permits it to more people."""
    text = (
        DEFAULT
        + """
@id("carol-says-no") permit (principal, action == Action::"reject", resource)
when { context.person == "carol" };
@id("no-no") @because("{person} is in training") forbid (principal, action == Action::"reject", resource)
when { context.person == "ada" };
"""
    )
    policy, incident = Policy(text), commanded("ada")

    policy.check_may_reject(incident, "carol", plan=plan())
    policy.check_may_reject(incident, "grace", plan=plan())
    with pytest.raises(ForbiddenError, match="ada is in training"):
        policy.check_may_reject(incident, "ada", plan=plan())


def test_breaking_the_glass() -> None:
    """The commander who declared it alone, the technical lead and the group may; nobody else."""
    incident = commanded("ada", declared_by="ada")

    SHIPPED.check_may_break_glass(incident, "ada")
    SHIPPED.check_may_break_glass(incident, "grace")
    SHIPPED.check_may_break_glass(INCIDENT, "linus", groups=GROUP)
    with pytest.raises(ForbiddenError, match="INC-1: no rule of the policy lets linus break glass"):
        SHIPPED.check_may_break_glass(incident, "linus")


def grant(policy: Policy, incident: Incident | None, person: str, **changes: Any) -> None:
    """Try to give a grant."""
    envelope = Envelope.model_validate(
        {"actions": ("k8s.scale_deployment",), "targets": ("k8s:deployment/main/shop/*",)}
        | changes.pop("envelope", {})
    )
    where = {"service": "shop", "environment": "production", "severity": Severity.SEV2} | changes
    policy.check_may_grant(incident, person, envelope, **where)


def test_grants() -> None:
    """A grant is given by who could approve it alone, and by the group outside of an incident."""
    grant(SHIPPED, commanded("ada"), "ada")
    grant(SHIPPED, None, "linus", groups=GROUP)
    grant(SHIPPED, None, "linus", groups=GROUP, environment="staging", envelope={"max_risk": Risk.HIGH})
    grant(SHIPPED, commanded("ada"), "ada", severity=Severity.SEV1, envelope={"max_risk": Risk.HIGH})


@pytest.mark.parametrize(
    ("incident", "person", "changes", "why"),
    [
        (commanded("ada"), "grace", {"groups": GROUP}, "only the Incident Commander"),
        (commanded("ada", declared_by="ada"), "ada", {}, "cannot approve its plans"),
        (None, "ada", {}, "a standing grant: no rule of the policy lets ada give this grant"),
        (
            commanded("ada"),
            "ada",
            {"envelope": {"max_risk": Risk.HIGH}},
            "with risk high .* cannot be granted",
        ),
        (
            None,
            "linus",
            {
                "groups": GROUP,
                "severity": Severity.SEV1,
                "envelope": {"actions": ("k8s.x", FAILOVER), "max_risk": "high"},
            },
            f"{FAILOVER} with risk high in production cannot be granted: in SEV1",
        ),
    ],
)
def test_grants_that_nobody_may_give(
    incident: Incident | None, person: str, changes: dict[str, Any], why: str
) -> None:
    """Nobody grants what they could not approve alone, and nothing that asks two people is granted."""
    with pytest.raises(ForbiddenError, match=why):
        grant(SHIPPED, incident, person, **changes)


NIGHT = """
@id("all") permit (principal, action, resource);
@id("night") @because("{incident}: {person} sleeps at night")
forbid (principal, action, resource) when { false };
@id("no-nights")
forbid (principal, action == Action::"run", resource)
when { (context.hour < 6 || context.weekday == "sunday") && context.approvals < 2 };
"""


@pytest.mark.parametrize(
    ("at", "needs"),
    [
        (datetime(2026, 11, 21, 5, 59, tzinfo=UTC), Needs.TWO),
        (datetime(2026, 11, 21, 6, tzinfo=UTC), Needs.NOBODY),
        (datetime(2026, 11, 21, 6, 30, tzinfo=timezone(timedelta(hours=1))), Needs.TWO),
        (datetime(2026, 11, 22, 12, tzinfo=UTC), Needs.TWO),
        (datetime(2026, 11, 22, 23, 30, tzinfo=timezone(timedelta(hours=-1))), Needs.TWO),
    ],
)
def test_rules_by_the_clock(at: datetime, needs: Needs) -> None:
    """Hour and weekday are those of UTC, and a rule that forbade less says so."""
    ruling = Policy(NIGHT).rule(question(at=at))

    assert ruling == Ruling(needs=needs, rules=("all", "no-nights") if needs is Needs.TWO else ("all",))


def test_grants_at_some_hours() -> None:
    """What asks two people at some hours only can be granted for the others."""
    grant(Policy(NIGHT), None, "ada")


def test_deny_wins() -> None:
    """One rule that forbids beats every rule that permits, and its own words are what is read."""
    text = (
        '@id("all") permit (principal, action, resource);\n@id("no") {}forbid (principal, action, resource);'
    )
    plain, told = (
        Policy(text.format("")),
        Policy(text.format('@because("{incident} is closed to {person}") ')),
    )

    assert plain.rule(question()) == Ruling(needs=Needs.DENIED, rules=("no",))
    with pytest.raises(ForbiddenError, match="INC-1: the rule no of the policy forbids it to ada"):
        plain.check_may_decide(commanded("ada"), "ada")
    with pytest.raises(ForbiddenError, match="INC-1 is closed to ada"):
        told.check_may_break_glass(commanded("ada"), "ada")


def test_rules_that_fail() -> None:
    """A rule that fails while it is evaluated might have forbidden: then nothing is permitted."""
    text = """
@id("all") permit (principal, action, resource);
@id("overflow") forbid (principal, action == Action::"run", resource)
when { (context.hour + 1) * 9223372036854775807 * 2 > 3 && context.hour == 99 };
"""
    assert Policy(text).rule(question()) == Ruling(needs=Needs.DENIED)


def test_digests() -> None:
    """Another text or mode is another policy; the same one is the same."""
    digests = {
        Policy().digest,
        Policy(solo=True).digest,
        Policy(DEFAULT + "\n").digest,
        Policy(DEFAULT).digest,
    }

    assert len(digests) == 3


RULE = '@id("x") permit (principal, action == Action::"run", resource) when {{ {} }};'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it has no rules"),
        ("// nothing\n", "it has no rules"),
        (DEFAULT + '\n\n@id("y")\npermit (principal action, resource);', r"line 1\d\d: not Cedar: "),
        (DEFAULT[: DEFAULT.rindex(";")], r"line \d+: not Cedar: unexpected end of input"),
        ("permit (principal, action, resource);", r'line 1: write @id\("..."\) before the rule'),
        ('@id("a") permit (principal == ?principal, action, resource);', "line 1: .*no .principal"),
        ("// a;\n" + RULE.format("true") * 2, "line 2: the rule x is there twice"),
        (RULE.format('context.sevrity == "SEV1"'), "line 1: rule x: attribute `sevrity` .* not found"),
        (RULE.format("context.hour"), "line 1: rule x: .*expected Bool"),
        (RULE.replace("run", "walk").format("true"), "line 1: rule x: unrecognized action"),
        (RULE.format("(" * 1000 + "true" + ")" * 1000), "line 1: too long for one rule"),
        (RULE.format("true && " * 5000 + "true"), "line 1: too long for one rule"),
        (RULE.format("true&&" * 600 + "true"), "line 1: nested too deeply"),
        (RULE.format("context.hour.x"), "line 1: rule x:"),
    ],
)
def test_texts_that_are_no_policy(text: str, said: str) -> None:
    """What is not Cedar, or speaks of what there is not, is refused with its line and rule."""
    with pytest.raises(InputError, match=said):
        Policy(text)


def test_texts_that_look_wrong() -> None:
    """A semicolon or a comment inside a string ends no rule."""
    text = RULE.format(r'context.target like "a;b//\"c" || context.risk == "x"') + "// end;"

    assert tuple(Policy(text).because) == ("x",)


def test_many_threads() -> None:
    """Threads that share a policy get the same answers."""
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: SHIPPED.rule(question(risk="high")).needs, range(200)))

    assert found == {Needs.TWO}


def test_who_approves_what_the_commander_asked_for() -> None:
    """The technical lead or the group confirms it; in solo mode the commander may."""
    roles = {Role.INCIDENT_COMMANDER: "ada", Role.TECHNICAL_LEAD: "bo"}
    incident = INCIDENT.model_copy(update={"roles": roles})
    own, others = Asked(asked_by="ada"), Asked(asked_by="bo")

    assert not allows(SHIPPED, Verb.APPROVE, incident, "ada", own)
    assert allows(SHIPPED, Verb.APPROVE, incident, "bo", own)
    assert allows(SHIPPED, Verb.APPROVE, incident, "cy", own, groups=GROUP)
    assert not allows(SHIPPED, Verb.APPROVE, incident, "cy", own)
    assert allows(SHIPPED, Verb.APPROVE, incident, "ada", others)
    assert not allows(SHIPPED, Verb.APPROVE, incident, "bo", others)
    assert allows(SOLO, Verb.APPROVE, incident, "ada", own)
    with pytest.raises(ForbiddenError, match="ada asked for this playbook by name: somebody else approves"):
        SHIPPED.check(Verb.APPROVE, incident, "ada", own)
