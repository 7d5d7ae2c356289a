"""Wrong approvals of every kind at the end that acts: none may act, and each has to be in the evidence.

Every attempt is one run of the step's activity, on SQLite and a provider that keeps what arrives.
Half of what is forged is even signed by our own key: it is a true decision, for something else. And whoever
forges may write to the database: the request says that what was forged is its answer.
"""

import base64
import itertools
import math
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError
from sqlalchemy import update
from temporalio.testing import ActivityEnvironment

from activities.launchdarkly import SetFlag, SetFlagAction
from activities.launchdarkly.client import LaunchDarklyClient
from activities.launchdarkly.fake import FakeLaunchDarkly
from activities.registry import Registry
from activities.steps import Steps, forbidden_key
from authority.decisions import Signer, Verifier
from authority.policy import Policy
from authority.seals import digest
from contracts.approvals import Bound, Decision, Envelope, Grant, SignedDecision, Verdict
from contracts.catalogue import Catalogue, Flag, LaunchDarklyProject, Service, ServiceEnvironment
from contracts.errors import ProviderUnavailableError
from contracts.incidents import Effect, Severity
from contracts.messages import StepOrder
from contracts.outcomes import Direction
from contracts.plans import Needs, Plan, Risk, Step
from ledger import Ledger
from ledger.schema import approval as approvals
from ledger.schema import plan as plans
from runtime.clock import utc_now

POLICY = Policy()
OURS = Signer(Ed25519PrivateKey.generate())
STRANGER = Signer(Ed25519PrivateKey.generate())
INCIDENTS = 5
# How many of all attempts pair a decision with a step of another plan; the other kinds share the rest.
PAIRINGS = 0.5


@dataclass
class Count:
    """What became of the attempts of one kind.

    Attributes:
        acted: How many changed anything.
        logged: How many are in the evidence.
        entries: As how many entries.
        is_silent: What is only looked at, or turned away before anything is read, is not kept.
    """

    tried: int = 0
    acted: int = 0
    logged: int = 0
    entries: int = 0
    is_silent: bool = False
    notes: list[str] = field(default_factory=list)


Table = dict[str, Count]


@dataclass(frozen=True)
class Genuine:
    """A plan in the ledger, and the decision on it that is right."""

    plan: Plan
    signed: SignedDecision

    def order(self, signed: SignedDecision | None = None, **changes: Any) -> StepOrder:
        """Give the order to run its first step; with changes it is not the right one."""
        values: dict[str, Any] = {
            "incident": self.plan.incident,
            "mitigation": self.plan.mitigation,
            "step": 1,
            "direction": Direction.APPLY,
            "plan_digest": digest(self.plan),
            "signed": signed or self.signed,
        }
        return StepOrder(**(values | changes))


@dataclass(frozen=True)
class Attempt:
    """One wrong order, with what was done to the ledger and to the worker's clock for it.

    Attributes:
        is_written: Its decision was written into the request, as the answer that was taken.
    """

    order: StepOrder
    tampers: Callable[[], None] = lambda: None
    mends: Callable[[], None] = lambda: None
    ahead: timedelta = timedelta()
    is_written: bool = True


def other(rng: random.Random, value: Any) -> Any:  # noqa: PLR0911  (one line for each type)
    """Give another value of the same type, near the first one or far from it."""
    match value:
        case bool():
            return not value
        case StrEnum():
            return rng.choice([one for one in type(value) if one is not value])
        case int() | float():
            return value + rng.choice([-1, 1, 7, 2**20])
        case datetime():
            return value + timedelta(seconds=rng.choice([-86_400, -600, -1, 1, 600, 86_400, 10**8]))
        case None:
            return rng.choice(["x", "GRT-1", "ada"])
        case tuple() | list():
            fewer = list(value[:-1]) if value and rng.random() < 0.3 else [*value, rng.randrange(2, 9)]
            return type(value)(fewer)
        case dict():
            return value | {f"x{rng.randrange(99)}": rng.randrange(99)}
    text = str(value)
    at = rng.randrange(len(text) + 1)
    letters = rng.choice(["", "x", " ", "é", "\u200b", "\x00", "0" * 64, f"INC-{rng.randrange(99)}"])
    changed = f"{text[:at]}{letters}{text[at + 1 :]}"
    return changed if changed != text else f"{text}!"


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of every value in a JSON document that holds no others."""
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    elif path:
        yield path
    for key, one in inner:
        yield from leaves(one, (*path, key))


def edited(value: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """Give a JSON document with another value at a path."""
    if not path:
        return change(value)
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = edited(value[path[0]], path[1:], change)
    return copy


def reads_as(content: Any, plan: Plan) -> bool:
    """Say whether a JSON document still is this plan."""
    try:
        return Plan.model_validate(content) == plan
    except ValidationError:
        return False


def bit_flipped(rng: random.Random, signature: str) -> str:
    """Give a signature, in base64, with one to three bits turned."""
    raw = bytearray(base64.b64decode(signature))
    for bit in rng.sample(range(8 * len(raw)), rng.randint(1, 3)):  # no bit twice: it would be as it was
        raw[bit // 8] ^= 1 << bit % 8
    return base64.b64encode(bytes(raw)).decode()


def respelled(signature: str, way: int) -> str:
    """Give a signature in base64 that a lenient decoder reads as the same 64 bytes, in 1 to 15 ways."""
    letters = f"{ascii_uppercase}{ascii_lowercase}{digits}+/"  # the last one's last four bits say nothing
    return f"{signature[:-3]}{letters[letters.index(signature[-3]) + way]}=="


class World:
    """Approved plans of every sort in a ledger, and the flags that they would switch."""

    def __init__(self, folder: Path, ledger: Ledger, flags: FakeLaunchDarkly, seeded: int, many: int) -> None:
        self.rng = random.Random(seeded)  # noqa: S311  (forgeries that can be repeated, not secrets)
        self.folder, self.ledger, self.flags = folder, ledger, flags
        self.verifier = Verifier([OURS.public_key])
        self.sealed = 0
        names = [f"f{number}" for number in range(20)]
        for name in names:
            flags.add_flag("web", "production", name)
        owned = tuple(Flag(project="web", environment="production", key=name) for name in names)
        self.catalogue = Catalogue(
            launchdarkly=(LaunchDarklyProject(project="web", api=flags.url),),
            services=(Service(name="shop", environments={"production": ServiceEnvironment(flags=owned)}),),
        )
        self.client = LaunchDarklyClient(
            self.catalogue.launchdarkly, secret=lambda _: "api-token", clock=utc_now
        )
        self.action = SetFlagAction(self.client)
        self.registry = Registry([self.action], [])
        for _ in range(INCIDENTS):
            ledger.incidents.declare(
                title="broken",
                service="shop",
                environment="production",
                severity=Severity.SEV2,
                person="grace",
                trace={},
            )
        ways = (self.one, self.two, self.granted, self.forcible)
        self.genuine = [ways[number % len(ways)]() for number in range(many)]
        pairs = list(itertools.permutations(self.genuine, 2))
        self.rng.shuffle(pairs)
        self.pairs = itertools.cycle(pairs)
        self.undecided = [self.seal() for _ in range(max(8, many // 4))]

    # What is right.

    def seal(self, *needs: Needs, flag: int = 0, forced: bool = False, ends: float = 86_400) -> Plan:
        """Seal a plan that switches flags off, and ask about it."""
        self.sealed += 1
        now, incident = utc_now(), f"INC-{self.sealed % INCIDENTS + 1}"
        steps = []
        for number, each in enumerate(needs or (Needs.ONE, Needs.ONE), start=1):
            request = SetFlag(project="web", environment="production", key=f"f{flag + number - 1}", on=False)
            observed = self.action.observe(request)
            undo, _ = self.action.undo(request, observed)
            steps.append(
                Step(
                    number=number,
                    title="Switch it off",
                    action=request.call(),
                    forced=request.call() if forced else None,
                    needs=each,
                    observed=observed,
                    change=self.action.change(request, observed),
                    undo=undo.call() if undo else None,
                    risk=Risk.LOW,
                    blast_radius="everybody",
                    idempotent="yes",
                )
            )
        sealed = Plan(
            incident=incident,
            mitigation=f"{incident}/{self.sealed}",
            service="shop",
            environment="production",
            playbook="disable-flag",
            playbook_digest="0" * 64,
            policy_digest=POLICY.digest,
            title="Switch it off",
            rationale="It is new.",
            steps=tuple(steps),
            undo_when=(Effect.WORSE,),
            sealed_at=now,
            expires_at=now + timedelta(seconds=ends),
        )
        self.ledger.approvals.ask(sealed, severity=Severity.SEV2, is_urgent=False)
        return sealed

    def decision(self, plan: Plan, person: str = "ada", **changes: Any) -> Decision:
        """Give what a person's yes to a plan is; with changes it is something else."""
        asked = self.ledger.approvals.for_mitigation(plan.mitigation)
        values: dict[str, Any] = {
            "request": asked.request.id if asked else "APR-0",
            "incident": plan.incident,
            "mitigation": plan.mitigation,
            "plan_digest": digest(plan),
            "policy_digest": plan.policy_digest,
            "verdict": Verdict.APPROVE,
            "person": person,
            "authenticated_by": "oidc",
            "decided_at": utc_now(),
            "expires_at": plan.expires_at,
        }
        return Decision(**(values | changes))

    def one(self, **how: Any) -> Genuine:
        """Give a plan that one person has approved."""
        plan = self.seal(**how)
        return Genuine(plan, OURS.sign(self.decision(plan)))

    def two(self, **how: Any) -> Genuine:
        """Give a plan that two people have approved."""
        plan = self.seal(Needs.TWO, Needs.TWO, **how)
        first, second = (OURS.sign(self.decision(plan, person)) for person in ("ada", "grace"))
        return Genuine(plan, second.model_copy(update={"others": (first,)}))

    def granted(self, **how: Any) -> Genuine:
        """Give a plan that a standing grant has approved."""
        plan = self.seal(**how)
        decision = self.decision(plan, authenticated_by="grant", grant=self.grant(plan))
        return Genuine(plan, OURS.sign(decision))

    def forcible(self, **how: Any) -> Genuine:
        """Give a plan whose first step may be forced, which nobody has allowed."""
        plan = self.seal(forced=True, **how)
        return Genuine(plan, OURS.sign(self.decision(plan)))

    def grant(self, plan: Plan, **changes: Any) -> Grant:
        """Give a grant that covers a plan; with changes it may not."""
        actions = tuple({step.action.name for step in plan.steps})
        values: dict[str, Any] = {
            "id": "GRT-1",
            "service": plan.service,
            "environment": plan.environment,
            "envelope": Envelope(
                actions=actions, targets=tuple(str(one.action.target) for one in plan.steps)
            ),
            "given_by": "ada",
            "authenticated_by": "oidc",
            "reason": "it is safe",
            "given_at": plan.sealed_at - timedelta(hours=1),
            "expires_at": plan.sealed_at + timedelta(hours=1),
        }
        return Grant(**(values | changes))

    # What is wrong: each gives one attempt of its kind.

    def any(self) -> Genuine:
        """Pick a decided plan."""
        return self.rng.choice(self.genuine)

    def reworded(self) -> Genuine:
        """Pick a decided plan, with a decision that is right too and was never tried before."""
        mine = self.any()
        signed = OURS.sign(mine.signed.decision.model_copy(update={"reason": self._words()}))
        return Genuine(mine.plan, signed.model_copy(update={"others": mine.signed.others}))

    def pairing(self) -> Attempt:
        """A true decision, delivered for a step of another plan."""
        mine, its = next(self.pairs)
        return Attempt(mine.order(its.signed, step=self.rng.randint(1, 2)))

    def replayed_in_part(self) -> Attempt:
        """A true decision for the plan, with another's incident, mitigation or digest in the order."""
        mine, its = self.rng.sample(self.genuine, 2)
        name = self.rng.choice(["incident", "mitigation", "plan_digest"])
        value = getattr(its.order(), name)
        if value == getattr(mine.order(), name):
            value = other(self.rng, value)
        return Attempt(mine.order(**{name: value}, step=self.rng.randint(1, 2)))

    def edited_plan(self) -> Attempt:
        """The stored plan was changed since it was shown, at any of its values."""
        mine = self.reworded()
        content = mine.plan.model_dump(mode="json")
        changed = content
        while reads_as(changed, mine.plan):  # a time may be written in two ways, and says the same
            path = self.rng.choice(list(leaves(content)))
            changed = edited(content, path, lambda value: other(self.rng, value))
        return Attempt(
            mine.order(step=self.rng.randint(1, 2)),
            lambda: self._store(mine.plan, changed),
            lambda: self._store(mine.plan, content),
        )

    def _store(self, plan: Plan, content: Any) -> None:
        with self.ledger.database.write() as connection:
            connection.execute(update(plans).where(plans.c.digest == digest(plan)).values(content=content))

    def another_plan_stored(self) -> Attempt:
        """The stored plan was exchanged for another sealed one."""
        mine, its = self.reworded(), self.any()
        while its.plan == mine.plan:
            its = self.any()
        content = its.plan.model_dump(mode="json")
        return Attempt(
            mine.order(step=self.rng.randint(1, 2)),
            lambda: self._store(mine.plan, content),
            lambda: self._store(mine.plan, mine.plan.model_dump(mode="json")),
        )

    def flipped_bits(self) -> Attempt:
        """A signature with bits turned."""
        mine = self.any()
        return Attempt(
            mine.order(
                mine.signed.model_copy(update={"signature": bit_flipped(self.rng, mine.signed.signature)})
            )
        )

    def respelled_signature(self) -> Attempt:
        """The right signature in other letters, which a lenient decoder reads as the same bytes."""
        mine = self.reworded()
        spelled = respelled(mine.signed.signature, self.rng.randint(1, 15))
        return Attempt(mine.order(mine.signed.model_copy(update={"signature": spelled})))

    def odd_signature(self) -> Attempt:
        """A signature that is none."""
        text = self.rng.choice(["", "=", "A" * 88, "not base64!", "\x00", "é" * 9, "QUJD" * 10_000])
        mine = self.any()
        return Attempt(mine.order(mine.signed.model_copy(update={"signature": other(self.rng, text)})))

    def strangers_key(self) -> Attempt:
        """A stranger's signature under the id of our key."""
        mine = self.any()
        signed = STRANGER.sign(self.decision(mine.plan, f"person{self.rng.randrange(10**6)}"))
        return Attempt(mine.order(signed.model_copy(update={"key_id": OURS.key_id})))

    def unknown_key(self) -> Attempt:
        """A signature under the id of a key that is not among ours."""
        mine = self.any()
        signed = STRANGER.sign(self.decision(mine.plan))
        name = self.rng.choice([STRANGER.key_id, f"{self.rng.getrandbits(64):016x}", "", "../../etc", "\x00"])
        return Attempt(mine.order(signed.model_copy(update={"key_id": name})))

    def edited_decision(self) -> Attempt:
        """Any value of a signed decision was changed afterwards."""
        mine = self.any()
        decision = mine.signed.decision
        name = self.rng.choice(list(Decision.model_fields))
        value = getattr(decision, name)
        if name == "grant":
            value = self.grant(mine.plan, id=f"GRT-{self.rng.randrange(2, 10**6)}")
        elif name == "overrides":
            value = (self._words(),)
        else:
            value = other(self.rng, value)
        forged = decision.model_copy(update={name: value})
        return Attempt(mine.order(mine.signed.model_copy(update={"decision": forged})))

    def edited_grant(self) -> Attempt:
        """A grant inside a signed decision was changed afterwards."""
        mine = self.rng.choice([one for one in self.genuine if one.signed.decision.grant is not None])
        grant = mine.signed.decision.grant
        assert grant is not None
        name = self.rng.choice(["id", "service", "given_by", "reason", "given_at", "expires_at", "after"])
        value = (
            timedelta(seconds=self.rng.randrange(1, 999))
            if name == "after"
            else other(self.rng, getattr(grant, name))
        )
        decision = mine.signed.decision.model_copy(update={"grant": grant.model_copy(update={name: value})})
        return Attempt(mine.order(mine.signed.model_copy(update={"decision": decision})))

    def ours_for_something_else(self) -> Attempt:
        """A decision by our own key, but about another plan, incident, policy or time, or a no."""
        mine = self.any()
        names = ["plan_digest", "incident", "mitigation", "policy_digest", "expires_at", "verdict"]
        name = self.rng.choice(names)
        changes = {name: other(self.rng, getattr(mine.signed.decision, name)), "reason": self._words()}
        signed = OURS.sign(mine.signed.decision.model_copy(update=changes))
        return Attempt(mine.order(signed.model_copy(update={"others": mine.signed.others})))

    def another_answer(self) -> Attempt:
        """A right decision by our own key, of two that there are the one that the ledger has not taken."""
        mine = self.reworded()
        self._write(mine.plan.mitigation, mine.signed)
        again = OURS.sign(mine.signed.decision.model_copy(update={"reason": self._words()}))
        again = again.model_copy(update={"others": mine.signed.others})
        return Attempt(mine.order(again), is_written=False)

    def _words(self) -> str:
        return f"{self.rng.getrandbits(48):x}"

    def two_people(self) -> Attempt:
        """Two people are asked, and the other approval is missing, the same person's, a no, or another's."""
        mine, its = self.rng.choice([one for one in self.genuine if one.signed.others]), self.any()
        (first,), second = mine.signed.others, mine.signed.model_copy(update={"others": ()})
        said = mine.signed.decision
        again = OURS.sign(said.model_copy(update={"reason": self._words()}))
        third = STRANGER.sign(said.model_copy(update={"person": f"person{self._words()}"}))
        elsewhere = said.model_copy(update={"person": f"person{self._words()}", "request": f"APR-{10**6}"})
        no = first.decision.model_copy(update={"verdict": Verdict.REJECT, "reason": self._words()})
        renamed = first.decision.model_copy(update={"person": f"person{self._words()}"})
        others: dict[str, tuple[SignedDecision, ...]] = {
            "one": (),
            "the same person": (second,),
            "the same person, again": (again,),
            "a stranger's": (third,),
            "a stranger's as ours": (third.model_copy(update={"key_id": OURS.key_id}),),
            "another request's": (OURS.sign(elsewhere),),
            "another plan's": (its.signed.model_copy(update={"others": ()}),) if its is not mine else (),
            "a no": (OURS.sign(no),),
            "edited": (first.model_copy(update={"decision": renamed}),),
            "of another step": (OURS.sign(first.decision.model_copy(update={"steps": (2,)})),),
            "three, and one is wrong": (first, third),
        }
        way = self.rng.choice(list(others))
        steps = (1,) if way == "of another step" else ()
        leading = OURS.sign(said.model_copy(update={"reason": self._words(), "steps": steps}))
        return Attempt(mine.order(leading.model_copy(update={"others": others[way]})))

    def grant_that_does_not_cover(self) -> Attempt:
        """A decision by our own key under a grant that covers less, something else, or another time."""
        plan, rng = self.any().plan, self.rng
        target = str(plan.steps[0].action.target)
        inside = {"actions": (plan.steps[0].action.name,), "targets": (target,)}
        envelopes: list[dict[str, Any]] = [
            inside | {"targets": (f"{target}{rng.randrange(99)}",)},
            inside | {"targets": (f"{target}/*",)},
            inside | {"actions": (other(rng, inside["actions"][0]),)},
            inside | {"limits": {"on": Bound(one_of=(True, 0, "false"))}},
            inside | {"limits": {"on": Bound(at_most=rng.random())}},
            inside | {"limits": {f"x{rng.randrange(99)}": Bound(at_least=0)}},
            inside | {"max_risk": Risk.NONE},
        ]
        hours = timedelta(hours=rng.randint(2, 99))
        scopes: list[dict[str, Any]] = [
            {"incident": f"INC-{rng.randrange(10, 10**6)}"},
            {"service": other(rng, plan.service)},
            {"environment": other(rng, plan.environment)},
            {"expires_at": plan.sealed_at - hours},
            {"given_at": plan.sealed_at + hours, "expires_at": plan.sealed_at + 2 * hours},
            *({"envelope": Envelope(**one)} for one in envelopes),
        ]
        grant = self.grant(plan, **rng.choice(scopes))
        # Decided when it was sealed: a long campaign comes into the time of a grant that begins later.
        facts: dict[str, Any] = {"decided_at": plan.sealed_at, "grant": grant, "reason": self._words()}
        decision = self.decision(plan, authenticated_by="grant", **facts)
        return Attempt(Genuine(plan, OURS.sign(decision)).order())

    def policy_where_people_are_asked(self) -> Attempt:
        """The policy's own answer by our own key, where the policy asks a person."""
        plan = self.any().plan
        decision = self.decision(plan, "stanch", authenticated_by="policy", reason=self._words())
        return Attempt(Genuine(plan, OURS.sign(decision)).order())

    def narrowed(self) -> Attempt:
        """A step that was left out of a narrower yes."""
        plan, step = self.any().plan, self.rng.randint(1, 2)
        decision = self.decision(plan, steps=(3 - step,), reason=self._words())
        return Attempt(Genuine(plan, OURS.sign(decision)).order(step=step))

    def forced(self) -> Attempt:
        """An order to force a step, which nobody has allowed, or another step, or before it was begun."""
        mine = self.any()
        allowed = self.rng.choice([(), (2,), (9,), (1,)])
        decision = mine.signed.decision.model_copy(update={"forced": allowed, "reason": self._words()})
        signed = OURS.sign(decision).model_copy(update={"others": mine.signed.others})
        return Attempt(mine.order(signed, direction=Direction.FORCE))

    def undone_before(self) -> Attempt:
        """An order to undo what was never done."""
        return Attempt(self.reworded().order(direction=Direction.UNDO, step=self.rng.randint(1, 2)))

    def denied(self) -> Attempt:
        """A yes by our own key to what the policy denies."""
        plan = self.denied_plan
        people = [f"person{self._words()}" for _ in range(self.rng.randint(1, 3))]
        signed, *others = (OURS.sign(self.decision(plan, person)) for person in people)
        return Attempt(Genuine(plan, signed.model_copy(update={"others": tuple(others)})).order())

    def too_late(self) -> Attempt:
        """A true decision after its time, with the worker's clock right, wrong, or moved back."""
        plan = self.late_plan
        ahead = self.rng.choice(
            [
                timedelta(),
                timedelta(minutes=-10),
                timedelta(days=-1),
                timedelta(minutes=10),
                timedelta(days=1),
            ]
        )
        return Attempt(
            Genuine(plan, OURS.sign(self.decision(plan, reason=self._words()))).order(), ahead=ahead
        )

    def clock_ahead(self) -> Attempt:
        """A true decision in its time, on a worker whose clock is ahead of it."""
        plan = self.short_plan
        ahead = self.rng.choice([timedelta(minutes=10), timedelta(days=1)])
        return Attempt(
            Genuine(plan, OURS.sign(self.decision(plan, reason=self._words()))).order(), ahead=ahead
        )

    def approved_by_hand(self) -> Attempt:
        """Somebody wrote into the database that the request is approved, and by whom."""
        plan = self.rng.choice(self.undecided)
        by = {"ours": OURS.key_id, "theirs": STRANGER.key_id}[self.rng.choice(["ours", "theirs"])]
        decision = self.decision(plan, f"person{self._words()}", reason="by hand")
        signed = STRANGER.sign(decision).model_copy(update={"key_id": by})
        return Attempt(
            Genuine(plan, signed).order(step=self.rng.randint(1, 2)),
            mends=lambda: self._write(plan.mitigation, None),
        )

    def _write(self, mitigation: str, signed: SignedDecision | None) -> None:
        """Write by hand what the answer to a mitigation's request was."""
        values: dict[str, Any] = {"state": "pending", "signed": None, "closed_at": None}
        if signed is not None:
            values = {"state": "approved", "signed": signed.model_dump(mode="json"), "closed_at": utc_now()}
        chosen = update(approvals).where(approvals.c.mitigation == mitigation)
        with self.ledger.database.write() as connection:
            connection.execute(chosen.values(values))

    def nothing_of_ours(self) -> Attempt:
        """An order for a plan, step, mitigation or incident that is not there, with odd names."""
        odd = f"{self.rng.choice(['INC-9', '', '../', 'é', chr(0), chr(0xD800), 'x' * 5_000])}{self._words()}"
        mine = self.any()
        changes: list[dict[str, Any]] = [
            {"plan_digest": odd},
            {"plan_digest": f"{self.rng.getrandbits(256):064x}"},
            {"step": self.rng.choice([0, -1, 3, 99, 2**53, 2**80]), "plan_digest": digest(mine.plan)},
            {"mitigation": odd},
            {"incident": odd},
            {"mitigation": f"INC-1/{self.rng.randrange(10**6, 10**9)}"},
        ]
        return Attempt(mine.order(**self.rng.choice(changes)))

    # Trying it.

    def prepare(self) -> None:
        """Seal the plans that some kinds need."""
        self.denied_plan = self.seal(Needs.DENIED)
        self.late_plan = self.seal(ends=-300)
        self.short_plan = self.seal(ends=300)

    def run(self, attempt: Attempt) -> str:
        """Run the step as a worker does; give why it was refused, empty if it was not."""
        if attempt.is_written:
            self._write(attempt.order.signed.decision.mitigation, attempt.order.signed)
        steps = Steps(
            ledger=self.ledger,
            catalogue=self.catalogue,
            registry=self.registry,
            verifier=self.verifier,
            clock=lambda: utc_now() + attempt.ahead,
        )
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, current_attempt_scheduled_time=datetime.now(UTC))
        try:
            return environment.run(steps.run_step, attempt.order).forbidden
        except ProviderUnavailableError as error:
            return str(error)

    def attempt(self, made: Attempt, count: Count) -> None:
        """Try one forgery, and count."""
        before = len(self.flags.requests)
        key, known = forbidden_key(made.order), self.ledger.evidence.size()
        made.tampers()
        try:
            said = self.run(made)
        finally:
            made.mends()
        count.tried += 1
        count.acted += sum(seen.method not in ("GET", "HEAD") for seen in self.flags.requests[before:])
        count.logged += self.ledger.evidence.has(key)
        count.entries += self.ledger.evidence.size() - known
        if not said:
            count.notes.append(f"not refused: {made.order}")

    def acts(self) -> int:
        """Run decisions that are right, so that the world is one in which something could act."""
        ways = (self.one, self.two, self.granted, self.forcible)
        right = [way(flag=2 + 2 * number) for number, way in enumerate(ways)]
        before = len(self.flags.arrived("PATCH"))
        for one in right:
            refused = self.run(Attempt(one.order()))
            assert not refused, refused
        return len(self.flags.arrived("PATCH")) - before


# Each kind, by the threat of reliability.md that it is a case of.
KINDS: Mapping[str, Callable[[World], Attempt]] = {
    "T7 plan edited in the ledger": World.edited_plan,
    "T7 plan exchanged in the ledger": World.another_plan_stored,
    "T9 decision with another plan's step": World.pairing,
    "T9 order with another's name": World.replayed_in_part,
    "T9 decision that was not taken": World.another_answer,
    "T10 signature's bits turned": World.flipped_bits,
    "T10 signature in other letters": World.respelled_signature,
    "T10 signature that is none": World.odd_signature,
    "T10 stranger's key as ours": World.strangers_key,
    "T10 unknown key": World.unknown_key,
    "T10 decision edited": World.edited_decision,
    "T10 grant edited": World.edited_grant,
    "T10 our decision, something else": World.ours_for_something_else,
    "T8 second person missing or wrong": World.two_people,
    "T8 grant that does not cover": World.grant_that_does_not_cover,
    "T8 policy's answer for a person's": World.policy_where_people_are_asked,
    "T8 step left out of a narrow yes": World.narrowed,
    "T8 forced without the right": World.forced,
    "T8 undo of what was never done": World.undone_before,
    "T8 what the policy denies": World.denied,
    "T11 approved by hand in the ledger": World.approved_by_hand,
    "T12 plan, step or name not ours": World.nothing_of_ours,
    "T35 after its time, clock moved": World.too_late,
    "T35 worker's clock ahead": World.clock_ahead,
}


def memory() -> Path | None:
    """Give where a folder is in memory, where the machine has that."""
    shared = Path("/dev/shm")  # noqa: S108  (folders of our own are made in it)
    return shared if shared.is_dir() else None


@contextmanager
def world(seeded: int, many: int) -> Iterator[World]:
    """Give a world with so many approved plans, in memory where the machine has that."""
    with tempfile.TemporaryDirectory(dir=memory()) as name:
        ledger = Ledger.open(f"sqlite:///{Path(name) / 'ledger.db'}", clock=utc_now)
        ledger.migrate()
        with FakeLaunchDarkly(utc_now) as flags:
            made = World(Path(name), ledger, flags, seeded, many)
            made.prepare()
            yield made
            made.client.close()
        ledger.close()


def forge(seeded: int, total: int) -> Table:
    """Try so many wrong orders; raises when the decisions that are right do not act either."""
    table: Table = {}
    with world(seeded, many=max(8, int((total * PAIRINGS) ** 0.5) + 1)) as made:
        for name, kind in KINDS.items():
            share = PAIRINGS if kind is World.pairing else (1 - PAIRINGS) / (len(KINDS) - 1)
            table[name] = Count()
            for _ in range(math.ceil(total * share)):
                made.attempt(kind(made), table[name])
        assert made.acts() == 4, "the decisions that are right did not act"
    return table
