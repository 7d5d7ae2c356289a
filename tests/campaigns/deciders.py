"""Histories of incidents with many deciders, restarts and clock jumps, held against a model.

The model knows who may say what and what follows; the ledger has to answer the same at every step, and in the
end the audit of the whole log has to agree. What was reached is counted.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from authority.decisions import Signer, Verifier, approved
from authority.policy import Policy
from authority.seals import digest
from contracts.approvals import ApprovalState, Envelope, SignedDecision, Verdict
from contracts.catalogue import Catalogue
from contracts.errors import ConflictError, ForbiddenError, StanchError
from contracts.evidence import EvidenceKind
from contracts.incidents import Role, Severity
from contracts.plans import Needs, Plan
from ledger import Answer, Ledger, audit, ladders, outbox
from tests.ledger.crowd import at_once
from tests.ledger.samples import TRACE, Clock, open_incident, plan

PEOPLE = ("ada", "bob", "grace", "erin")
TARGET = "k8s:deployment/demo/shop/web"
POLICY = Policy()
KEY = Ed25519PrivateKey.generate()
SIGNER, VERIFIER = Signer(KEY), Verifier([KEY.public_key()])
CATALOGUE = Catalogue.model_validate(
    {
        "people": [{"id": person, "name": person.title()} for person in PEOPLE],
        "services": [{"name": "shop", "on_call": ["ada", "bob"], "environments": {"production": {}}}],
    }
)
# What has to have happened at least once, or the campaign has not tried it.
STATES = (
    "approved",
    "rejected",
    "first of two",
    "second of two",
    "not the person",
    "denied step",
    "stale plan refused",
    "duplicate",
    "late",
    "race lost",
    "expired",
    "withdrawn",
    "escalated",
    "handed over",
    "handoff refused",
    "policy answered",
    "grant used",
    "grant for silence used",
    "grant exhausted",
    "grant revoked",
    "break-glass",
    "restarted",
    "clock jumped back",
    "acted",
    "act refused",
)
REACHED: Counter[str] = Counter()
_COMPILED: dict[Any, Any] = {}


# What ends a request or a grant happens less often than what can be done with it while it stands.
SELDOM = st.sampled_from([False, False, False, True])
DEMANDS = st.sampled_from(
    [
        [Needs.ONE],
        [Needs.ONE],
        [Needs.TWO],
        [Needs.NOBODY],
        [Needs.ONE, Needs.TWO],
        [Needs.TWO, Needs.TWO],
        [Needs.ONE, Needs.DENIED],
    ]
)


@dataclass
class Asked:
    """One request as the model knows it."""

    id: str
    plan: Plan
    asked_at: datetime
    state: ApprovalState = ApprovalState.PENDING
    given: list[tuple[str, frozenset[int]]] = field(default_factory=list)
    steps: frozenset[int] = frozenset()
    signed: list[SignedDecision] = field(default_factory=list)
    delivered: int = 0

    @property
    def numbers(self) -> frozenset[int]:
        """Every step."""
        return frozenset(step.number for step in self.plan.steps)


@dataclass
class Given:
    """One grant as the model knows it."""

    id: str
    left: int | None
    after: timedelta
    from_: datetime
    until: datetime
    revoked: bool = False


@contextmanager
def template() -> Iterator[Path]:
    """Give a migrated file to copy, in memory where the machine has that."""
    shared = Path("/dev/shm")  # noqa: S108  (a folder of our own is made in it)
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        path = Path(folder) / "template.db"
        ledger = Ledger.open(f"sqlite:///{path}", clock=Clock())
        ledger.migrate()
        ledger.close()
        yield path


def opened(url: str, clock: Clock) -> Ledger:
    """Open a ledger as a new process does, except that statements are compiled once for all histories."""
    ledger = Ledger.open(url, clock=clock)
    engine = ledger.database._engine  # noqa: SLF001  (half of a history's time is compiling the same again)
    ledger.database._engine = engine.execution_options(compiled_cache=_COMPILED)  # noqa: SLF001  (see above)
    return ledger


class Deciders(RuleBasedStateMachine):
    """One incident with its questions, and the people around it."""

    def __init__(self, source: Path) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=source.parent))
        self.url = f"sqlite:///{shutil.copy(source, self.folder / 'ledger.db')}"
        self.clock = Clock()
        self.ledger = opened(self.url, self.clock)
        self.asked: list[Asked] = []
        self.grants: list[Given] = []
        self.commander, self.lead = "ada", "grace"
        self.offer: tuple[str, str, datetime] | None = None
        self.escalations = 0

    @initialize(declared=st.booleans(), first=DEMANDS)
    def open(self, *, declared: bool, first: list[Needs]) -> None:
        """Open the incident, by an alert or by bob, who then cannot approve what he asked for."""
        self.requester = "bob" if declared else None
        if declared:
            self.ledger.incidents.declare(
                title="t",
                service="shop",
                environment="production",
                severity=Severity.SEV2,
                person="bob",
                trace=TRACE,
            )
        else:
            open_incident(self.ledger)
        for role, person in ((Role.INCIDENT_COMMANDER, "ada"), (Role.TECHNICAL_LEAD, "grace")):
            self.ledger.incidents.assign("INC-1", role, person, by=person)
        self._ask(first, 15)

    @rule(
        needs=st.lists(
            st.sampled_from([Needs.ONE, Needs.ONE, Needs.TWO, Needs.DENIED]), min_size=1, max_size=2
        )
        | st.just([Needs.NOBODY]),
        minutes=st.sampled_from([5, 15, 60]),
    )
    def ask(self, needs: list[Needs], minutes: int) -> None:
        """Ask about a plan with a step for each of these demands."""
        self._ask(needs, minutes)

    @precondition(lambda self: self.grants)
    @rule()
    def ask_within(self) -> None:
        """Ask about what a grant may cover, and let the grants answer."""
        self._ask([Needs.ONE], 60)
        self._consider(self.asked[-1])

    def _ask(self, needs: list[Needs], minutes: int) -> None:
        number, now = len(self.asked) + 1, self.clock()
        steps = tuple(
            plan(replicas=number + index).steps[0].model_copy(update={"number": index, "needs": one})
            for index, one in enumerate(needs, start=1)
        )
        sealed = plan(
            number=number,
            steps=steps,
            policy_digest=POLICY.digest,
            sealed_at=now,
            expires_at=now + timedelta(minutes=minutes),
        )
        request = self.ledger.approvals.ask(sealed, severity=Severity.SEV2)
        self.asked.append(Asked(request.id, sealed, now))

    @precondition(lambda self: self.asked)
    @rule(
        data=st.data(),
        who=st.sampled_from(["commander", "commander", "commander", "lead", "lead", *PEOPLE]),
        verdict=st.sampled_from([Verdict.APPROVE, Verdict.APPROVE, Verdict.REJECT]),
        stale=st.sampled_from([False, False, False, True]),
        glass=st.sampled_from([False, False, False, True]),
        narrow=st.sampled_from([False, False, True]),
    )
    def decide(
        self, data: Any, who: str, verdict: Verdict, *, stale: bool, glass: bool, narrow: bool
    ) -> None:
        """Answer some request as somebody, rightly or not."""
        person = {"commander": self.commander, "lead": self.lead}.get(who, who)
        waiting = [one for one in self.asked if one.state is ApprovalState.PENDING]
        asked = data.draw(st.sampled_from(self.asked + 2 * waiting))
        glass = glass and verdict is Verdict.APPROVE
        self._answer(asked, person, verdict, stale=stale, glass=glass, steps=(1,) if narrow else ())

    @precondition(lambda self: any(one.given and one.state is ApprovalState.PENDING for one in self.asked))
    @rule(data=st.data())
    def second(self, data: Any) -> None:
        """Let the second of two say yes."""
        waiting = [one for one in self.asked if one.given and one.state is ApprovalState.PENDING]
        asked = data.draw(st.sampled_from(waiting))
        self._answer(asked, self.lead, Verdict.APPROVE, stale=False, glass=False, steps=())

    def _answer(
        self,
        asked: Asked,
        person: str,
        verdict: Verdict,
        *,
        stale: bool,
        glass: bool,
        steps: tuple[int, ...],
    ) -> None:
        expected = self._expected(asked, person, verdict, stale=stale, glass=glass, steps=steps)
        try:
            signed = self._decide(asked, person, verdict, stale=stale, glass=glass, steps=steps)
        except (ConflictError, ForbiddenError) as error:
            assert expected[0] == "refused", f"{asked.id}: {person} was refused: {error}"  # noqa: PT017
            REACHED[expected[1]] += 1
            return
        assert expected[0] != "refused", f"{asked.id}: {person} was not refused, but {expected[1]}"
        REACHED[expected[1]] += 1
        if expected[0] == "again":
            return
        chosen = frozenset(steps) or asked.numbers
        if expected[0] == "given":
            asked.given, asked.signed = [(person, chosen)], [signed]
            return
        self._won(asked, verdict, signed, frozenset() if glass else chosen, glass=glass, steps=steps)

    def _won(
        self,
        asked: Asked,
        verdict: Verdict,
        signed: SignedDecision,
        chosen: frozenset[int],
        *,
        glass: bool,
        steps: tuple[int, ...],
    ) -> None:
        asked.state = ApprovalState.APPROVED if verdict is Verdict.APPROVE else ApprovalState.REJECTED
        asked.signed = [signed]
        asked.steps = frozenset()
        if verdict is Verdict.APPROVE:
            others = [] if glass else [their for name, their in asked.given if name != signed.decision.person]
            mine = (frozenset(steps) or asked.numbers) if glass else chosen
            asked.steps = mine.intersection(*others) if others else mine

    def _decide(
        self,
        asked: Asked,
        person: str,
        verdict: Verdict,
        *,
        stale: bool = False,
        glass: bool = False,
        steps: tuple[int, ...] = (),
    ) -> SignedDecision:
        return self.ledger.approvals.decide(
            asked.id,
            Answer(
                verdict=verdict,
                plan_digest="0" * 64 if stale else digest(asked.plan),
                person=person,
                authenticated_by="local",
                reason="because",
                steps=steps,
                break_glass=glass,
            ),
            policy=POLICY,
            signer=SIGNER,
            trace=TRACE,
        )

    def _expected(  # noqa: C901, PLR0911  (one return for each rule)
        self, asked: Asked, person: str, verdict: Verdict, *, stale: bool, glass: bool, steps: tuple[int, ...]
    ) -> tuple[str, str]:
        """Say what the rules make of an answer: refused, again, given or won; and what that is called."""
        said = [one.decision for last in asked.signed for one in (last, *last.others)]
        waits = asked.state is ApprovalState.PENDING and self.clock() < asked.plan.expires_at
        counts = waits or asked.state in {ApprovalState.APPROVED, ApprovalState.REJECTED}
        chosen = frozenset(steps) or asked.numbers
        if not stale and any(
            counts
            and (person, verdict) == (one.person, one.verdict)
            and (verdict is Verdict.REJECT or chosen == (frozenset(one.steps) or asked.numbers))
            and (glass <= one.break_glass or not waits)  # while it waits a broken glass says more
            for one in said
        ):
            return "again", "duplicate"
        if asked.state is not ApprovalState.PENDING:
            return "refused", "late"
        if self.clock() >= asked.plan.expires_at:
            asked.state = ApprovalState.EXPIRED
            return "refused", "expired"
        if stale:
            return "refused", "stale plan refused"
        if verdict is Verdict.REJECT:
            may = person in {self.commander, self.lead, self.requester}  # a no is always safe
            return ("won", "rejected") if may else ("refused", "not the person")
        needs = asked.plan.needs(chosen)
        if needs is Needs.DENIED:
            return "refused", "denied step"
        if glass:
            may = person in (self.commander, self.lead)
            return ("won", "break-glass") if may else ("refused", "not the person")
        others = [(name, their) for name, their in asked.given if name != person]
        names = [name for name, _ in others]
        second = needs is Needs.TWO and self.commander in names and person == self.lead
        if person == self.requester or not (person == self.commander or second):
            return "refused", "not the person"
        both = chosen.intersection(*(their for _, their in others))
        if not both:
            return "refused", "no common step"
        if others:
            return "won", "second of two"
        return ("given", "first of two") if asked.plan.needs(both) is Needs.TWO else ("won", "approved")

    @precondition(lambda self: any(one.state is ApprovalState.PENDING for one in self.asked))
    @rule(data=st.data(), now=SELDOM)
    def race(self, data: Any, *, now: bool) -> None:
        """The commander says yes in one window and no in the other at the same moment: one counts."""
        if not now:
            return
        asked = data.draw(st.sampled_from([one for one in self.asked if one.state is ApprovalState.PENDING]))
        person = self.commander
        if self.clock() >= asked.plan.expires_at:
            return
        verdicts = (Verdict.APPROVE, Verdict.REJECT)
        facts: Any = {"stale": False, "glass": False, "steps": ()}
        first = [self._expected(asked, person, verdict, **facts) for verdict in verdicts]
        if [one[0] for one in first] != ["won", "won"]:
            return
        answers = at_once([partial(self._decide, asked, person, verdict) for verdict in verdicts])
        won = [one for one in answers if isinstance(one, SignedDecision)]
        assert len(won) == 1, f"{asked.id}: {answers}"
        verdict = won[0].decision.verdict
        self._won(asked, verdict, won[0], asked.numbers, glass=False, steps=())
        REACHED["race lost"] += 1

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), state=st.sampled_from([ApprovalState.EXPIRED, ApprovalState.WITHDRAWN]), now=SELDOM)
    def close(self, data: Any, state: ApprovalState, *, now: bool) -> None:
        """Close a request as its workflow does: a decision that came first counts."""
        if not now:
            return
        asked = data.draw(st.sampled_from(self.asked))
        if state is ApprovalState.EXPIRED and self.clock() < asked.plan.expires_at:
            return
        closed = self.ledger.approvals.close(asked.id, state, "over")
        if asked.state is ApprovalState.PENDING:
            asked.state = state
            REACHED[state.value] += 1
        assert closed.state is asked.state

    @rule(
        uses=st.sampled_from([1, 1, 1, 2, None]),
        after=st.sampled_from([0, 0, 3]),
        minutes=st.sampled_from([2, 30]),
    )
    def grant(self, uses: int | None, after: int, minutes: int) -> None:
        """Let ada say yes ahead of time to scaling web."""
        now = self.clock()
        given = self.ledger.grants.give(
            Envelope(actions=("k8s.scale",), targets=(TARGET,)),
            service="shop",
            environment="production",
            incident="INC-1",
            person="ada",
            authenticated_by="local",
            reason="it is safe",
            expires_at=now + timedelta(minutes=minutes),
            uses=uses,
            after=timedelta(minutes=after),
            signer=SIGNER,
        ).grant
        self.grants.append(Given(given.id, uses, given.after, now, given.expires_at))

    @precondition(lambda self: self.grants)
    @rule(data=st.data(), now=SELDOM)
    def revoke(self, data: Any, *, now: bool) -> None:
        """Take a grant back."""
        if not now:
            return
        grant = data.draw(st.sampled_from(self.grants))
        self.ledger.grants.revoke(grant.id, person="bob", reason="enough")
        grant.revoked = True
        REACHED["grant revoked"] += 1

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def consider(self, data: Any) -> None:
        """Let the policy and the grants answer, as the gateway does when a request is asked and later."""
        waiting = [one for one in self.asked if one.state is ApprovalState.PENDING]
        self._consider(data.draw(st.sampled_from(self.asked + 3 * waiting)))

    @precondition(lambda self: any(one.after and one.left != 0 and not one.revoked for one in self.grants))
    @rule(now=SELDOM)
    def nobody_answers(self, *, now: bool) -> None:
        """Ask, let everybody be silent for longer than a grant waits, and let the grants answer."""
        if not now:
            return
        self._ask([Needs.ONE], 60)
        self.clock.forward(timedelta(seconds=181))
        self._consider(self.asked[-1])

    def _consider(self, asked: Asked) -> None:
        answer = self._answered(asked)
        self.ledger.approvals.consider(asked.id, policy=POLICY, signer=SIGNER, verifier=VERIFIER)
        if asked.state is ApprovalState.PENDING and self.clock() >= asked.plan.expires_at:
            asked.state = ApprovalState.EXPIRED
            REACHED["expired"] += 1
        if answer is None:
            return
        name, steps = answer
        REACHED[name] += 1
        asked.state, asked.steps = ApprovalState.APPROVED, steps
        signed = self.ledger.approvals.get(asked.id).request.signed
        assert signed is not None, f"{asked.id}: {name} did not answer"
        asked.signed = [signed]

    def _answered(self, asked: Asked) -> tuple[str, frozenset[int]] | None:
        now = self.clock()
        if asked.state is not ApprovalState.PENDING or asked.given or now >= asked.plan.expires_at:
            return None
        if asked.plan.needs() is Needs.NOBODY:
            return "policy answered", asked.numbers
        inside = frozenset(one.number for one in asked.plan.steps if one.needs in (Needs.ONE, Needs.NOBODY))
        for grant in self.grants:
            fits = inside == asked.numbers or (inside and grant.after)
            if grant.revoked or not grant.from_ <= now < grant.until or not fits:
                continue
            if now < asked.asked_at + grant.after:
                continue
            if grant.left == 0:
                REACHED["grant exhausted"] += 1
                continue
            grant.left = None if grant.left is None else grant.left - 1
            return ("grant for silence used" if grant.after else "grant used"), inside
        return None

    @rule(person=st.sampled_from(PEOPLE))
    def offer_command(self, person: str) -> None:
        """Let the commander offer the role."""
        if person == self.commander:
            return
        seen = self.ledger.incidents.get("INC-1")
        self.ledger.handoffs.offer(seen, Role.INCIDENT_COMMANDER, person, by=self.commander)
        known = self.offer is not None and self.offer[:2] == (self.commander, person)
        if not known or (self.offer is not None and self.clock() >= self.offer[2]):
            self.offer = (self.commander, person, self.clock() + timedelta(minutes=15))

    @rule(person=st.sampled_from(PEOPLE), now=SELDOM)
    def accept_command(self, person: str, *, now: bool) -> None:
        """Let somebody accept the role, whether it was offered to them or not."""
        if not now:
            return
        offer = self.offer
        may = (
            offer is not None and (offer[0], offer[1]) == (self.commander, person) and self.clock() < offer[2]
        )
        try:
            self.ledger.handoffs.accept("INC-1", person)
        except StanchError:
            assert not may, f"{person} could not accept"
            REACHED["handoff refused"] += 1
            return
        assert may, f"{person} accepted what was not offered"
        self.commander, self.offer = person, None
        REACHED["handed over"] += 1

    @rule(seconds=st.sampled_from([-600, -60, 1, 60, 181, 400, 1000, 4000]))
    def jump(self, seconds: int) -> None:
        """Let time pass, or the clock jump back."""
        self.clock.forward(timedelta(seconds=seconds))
        if seconds < 0:
            REACHED["clock jumped back"] += 1

    @rule(now=SELDOM)
    def restart(self, *, now: bool) -> None:
        """End the process and begin another on the same database."""
        if not now:
            return
        self.ledger.close()
        self.ledger = opened(self.url, self.clock)
        REACHED["restarted"] += 1

    @rule()
    def dispatch(self) -> None:
        """Deliver what waits, as the gateway does: decisions once each, ladders rung by rung."""
        for message in self.ledger.outbox.claim(100, timedelta(seconds=1)):
            due = None
            if message.kind == ladders.LADDER:
                facts: Any = message.payload
                due = self.ledger.notices.climb(facts["subject"], facts["generation"], CATALOGUE)
            if message.kind == outbox.DECISION:
                signed = SignedDecision.model_validate(message.payload)
                asked = next(one for one in self.asked if one.id == signed.decision.request)
                asked.delivered += 1
                assert [signed] == asked.signed, f"{asked.id}: delivered is not what was decided"
            if due is None:
                self.ledger.outbox.done(message.id)
            else:
                self.ledger.outbox.again(message.id, due)

    @precondition(lambda self: any(one.signed for one in self.asked))
    @rule(data=st.data(), step=st.sampled_from([1, 2]))
    def act(self, data: Any, step: int) -> None:
        """Try to act on what is signed, as a step does: only what was approved, and only in time."""
        asked = data.draw(st.sampled_from([one for one in self.asked if one.signed]))
        signed, now = asked.signed[-1], self.clock()
        may = asked.state is ApprovalState.APPROVED and step in asked.steps and now < asked.plan.expires_at
        try:
            VERIFIER.check_approves(signed, asked.plan, now=now, step=step)
        except ForbiddenError:
            assert not may, f"{asked.id}: step {step} was approved and is refused"
            REACHED["act refused"] += 1
            return
        assert may, f"{asked.id}: step {step} was not approved and is allowed"
        assert step in approved(signed, asked.plan)
        REACHED["acted"] += 1

    def teardown(self) -> None:
        """Compare the end: states, one decision each, and a log that the audit finds whole."""
        try:
            for asked in self.asked:
                request = self.ledger.approvals.get(asked.id).request
                assert (asked.id, request.state) == (asked.id, asked.state)
                assert asked.delivered <= 1
            entries = self.ledger.evidence.entries(incident="INC-1", limit=10_000)
            decided = [one.body["signed"] for one in entries if one.kind is EvidenceKind.DECISION]
            ended = (ApprovalState.APPROVED, ApprovalState.REJECTED)
            assert len(decided) == sum(asked.state in ended for asked in self.asked)
            REACHED["escalated"] += sum(one.kind is EvidenceKind.ESCALATION for one in entries)
            report = audit.verify(self.ledger, VERIFIER)
            assert report.problems == ()
        finally:
            self.ledger.close()
            shutil.rmtree(self.folder)
