"""Ladders and notices: who is called when, what counts as an answer, and that nothing is silent."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from authority.decisions import Signer
from contracts.approvals import ApprovalState, Verdict
from contracts.catalogue import Catalogue, Person, Rung, Service, ServiceEnvironment, Team
from contracts.errors import NotFoundError
from contracts.evidence import EvidenceKind
from contracts.incidents import Phase, Role, Severity
from contracts.messages import Command, CommandKind, RecordRequest
from contracts.notices import Notice, NoticeState
from contracts.plans import Needs
from ledger import Answer, Ledger, ladders
from tests.ledger.crowd import at_once
from tests.ledger.samples import NOON, POLICY, Clock, open_incident, plan

LEASE = timedelta(seconds=10)
MINUTE = timedelta(minutes=1)
HOOK = "https://chat.example.com/ada"
RUNGS = (
    Rung(notify=("incident_commander", "on_call")),
    Rung(after=5 * MINUTE, notify=("person:grace",)),
    Rung(after=10 * MINUTE, notify=("team",)),
)
BOOK = Catalogue(
    people=(
        Person(id="ada", name="Ada", email="ada@example.com", contacts={"webhook": HOOK}),
        Person(id="grace", name="Grace", email="grace@example.com"),
        Person(id="linus", name="Linus"),
    ),
    teams=(Team(name="shop", members=("ada", "grace", "linus")),),
    escalation=dict.fromkeys(Severity, RUNGS),
    services=(
        Service(
            name="shop", on_call=("ada",), team="shop", environments={"production": ServiceEnvironment()}
        ),
    ),
)


class Post:
    """The dispatcher's part, by hand: hands out what is due, and says what came of it.

    Attributes:
        broken: Channels that refuse; with ``away`` they only do not answer.
        sent: The ids of the messages that arrived, in order.
    """

    def __init__(self, ledger: Ledger, catalogue: Catalogue = BOOK) -> None:
        self.ledger = ledger
        self.catalogue = catalogue
        self.broken: set[str] = set()
        self.away: set[str] = set()
        self.sent: list[str] = []

    def round(self) -> None:
        """Deliver everything that is due now."""
        while messages := self.ledger.outbox.claim(100, LEASE):
            for message in messages:
                due = self.handle(message.kind, message.key, message.incident, dict(message.payload))
                if due is None:
                    self.ledger.outbox.done(message.id)
                else:
                    self.ledger.outbox.again(message.id, due)

    def handle(self, kind: str, key: str, incident: str, payload: dict) -> datetime | None:  # type: ignore[type-arg]
        """Handle one message as the gateway does."""
        notices = self.ledger.notices
        if kind == ladders.LADDER:
            return notices.climb(**payload, catalogue=self.catalogue)
        if kind == ladders.TELL:
            notices.tell(key, incident, **payload, catalogue=self.catalogue)
        elif kind == ladders.HANDOFF:
            self.ledger.handoffs.lapse(key)
        elif kind == ladders.SEND and (notice := notices.outgoing(**payload)) is not None:
            if notice.channel in self.broken | self.away:
                final = notice.channel in self.broken
                return notices.failed(notice, "it is broken", self.catalogue, final=final)
            self.sent.append(notice.id)
            notices.sent(notice)
        return None


@pytest.fixture
def post(ledger: Ledger) -> Post:
    """Give who delivers."""
    return Post(ledger)


def ask(ledger: Ledger, *, commander: str | None = "ada") -> str:
    """Ask about a plan of a new incident."""
    incident = open_incident(ledger, commander=commander)
    return ledger.approvals.ask(plan(incident), severity=Severity.SEV1).id


def told(ledger: Ledger, subject: str) -> dict[str, NoticeState]:
    """Give person and channel to state."""
    return {f"{one.person}/{one.channel}": one.state for one in ledger.notices.list(subject=subject)}


def said(ledger: Ledger, kind: EvidenceKind) -> list[str]:
    """Give the summaries of a kind of evidence."""
    return [entry.summary for entry in ledger.evidence.entries() if entry.kind is kind]


def test_the_ladder_of_a_question(ledger: Ledger, clock: Clock, post: Post) -> None:
    """A question calls rung after rung, each by the person's first channel, and then begins again."""
    approval = ask(ledger)
    post.round()
    first = list(post.sent)
    clock.forward(5 * MINUTE - timedelta(seconds=1))
    post.round()
    before = list(post.sent)
    clock.forward(timedelta(seconds=1))
    post.round()

    assert first == before == [f"{approval}/ada/webhook/1"]
    assert post.sent[1:] == [f"{approval}/grace/email/1"]
    clock.forward(5 * MINUTE)
    post.round()
    assert sorted(post.sent[2:]) == [f"{approval}/ada/webhook/2", f"{approval}/grace/email/2"]
    assert told(ledger, approval)["linus/console"] is NoticeState.SENT
    assert said(ledger, EvidenceKind.ESCALATION) == [
        f"{approval} is unanswered: rung 2 calls grace",
        f"{approval} is unanswered: rung 3 calls ada, grace, linus",
    ]


def test_the_console_alone_calls_nobody(ledger: Ledger, post: Post) -> None:
    """Who has no channel does not keep the next rung waiting, where others have one."""
    (shop,) = BOOK.services
    service = shop.model_copy(update={"on_call": ("linus",)})
    post.catalogue = BOOK.model_copy(update={"services": (service,)})
    approval = ask(ledger, commander="linus")
    post.round()
    assert told(ledger, approval)["linus/console"] is NoticeState.SENT
    assert post.sent == [f"{approval}/grace/email/1"]

    silent = tuple(Person(id=one.id, name=one.name) for one in BOOK.people)
    post.catalogue = post.catalogue.model_copy(update={"people": silent})
    other = ledger.approvals.ask(plan("INC-1", number=2), severity=Severity.SEV1).id
    post.round()
    assert list(told(ledger, other)) == ["linus/console"]


def test_it_begins_again(ledger: Ledger, clock: Clock, post: Post) -> None:
    """While nobody answers, the ladder begins again, as long after its end as the catalogue says."""
    post.catalogue = BOOK.model_copy(update={"escalate_again": dict.fromkeys(Severity, 2 * MINUTE)})
    incident = open_incident(ledger)
    post.round()
    for _ in range(12):
        clock.forward(MINUTE)
        post.round()

    mine = [one for one in post.sent if one.startswith(f"{incident}/ada")]
    assert mine == [f"{incident}/ada/webhook/{times}" for times in (1, 2, 3)]


def test_what_a_notice_says(ledger: Ledger, post: Post) -> None:
    """It names the question, the plan and the beginning of its digest; its page is the question's."""
    approval = ask(ledger)
    post.round()

    (notice,) = ledger.notices.list(subject=approval)
    digest = ledger.approvals.get(approval).request.plan_digest
    assert notice.title == f"{approval} SEV2 shop: may this run? Scale web to 12"
    assert notice.text.splitlines() == [
        f"{approval} asks whether INC-1/1 may run: Scale web to 12",
        f"INC-1 SEV2 shop (production): {ledger.incidents.get('INC-1').title}",
        f"Risk: low. Expires at 12:15 UTC. Plan digest: {digest[:12]}",
        f"Answer on its page, or: stanch approve {approval}",
    ]
    assert notice.path == f"/approvals/{approval}"


@pytest.mark.parametrize(
    ("commander", "last"),
    [
        ("ada", "No answer from ada? stanch incident take-over INC-1 --from ada"),
        (None, "Answer on its page, or: stanch approve APR-1"),
    ],
)
def test_who_is_called_later_hears_how_to_take_over(
    ledger: Ledger, clock: Clock, post: Post, commander: str | None, last: str
) -> None:
    """A later rung says how to take command from who does not answer; while nobody has it, nothing of it."""
    ask(ledger, commander=commander)
    post.round()
    clock.forward(14 * MINUTE)
    post.round()

    texts = [one.text.splitlines()[-1] for one in ledger.notices.list(subject="APR-1") if one.rung]
    assert set(texts) == {last}


def decide(ledger: Ledger, approval: str) -> None:
    """Close a question."""
    ledger.approvals.close(approval, ApprovalState.WITHDRAWN, "no need")


def test_an_answered_question_calls_nobody(ledger: Ledger, clock: Clock, post: Post) -> None:
    """After its answer a question calls nobody, and what was queued is dropped."""
    approval = ask(ledger)
    (climb,) = (one for one in ledger.outbox.claim(100, LEASE) if one.key == f"{approval}/0")
    ledger.notices.climb(approval, 0, BOOK)
    decide(ledger, approval)
    clock.forward(timedelta(minutes=11))
    post.round()

    assert climb.kind == ladders.LADDER
    assert post.sent == []
    assert told(ledger, approval) == {"ada/webhook": NoticeState.DROPPED}


def test_an_incident_calls_until_somebody_commands_it(ledger: Ledger, clock: Clock, post: Post) -> None:
    """From its opening an incident calls people, until the role of Incident Commander is taken."""
    incident = open_incident(ledger)
    post.round()
    ledger.incidents.assign(incident, Role.INCIDENT_COMMANDER, "grace", by="grace")
    clock.forward(timedelta(hours=1))
    post.round()

    assert post.sent == [f"{incident}/ada/webhook/1"]


def record(ledger: Ledger, version: int, attention: str | None) -> None:
    """Let the engine say what it needs a person for."""
    known = {"incident": "INC-1", "version": version, "phase": Phase.TRIAGE}
    ledger.incidents.record(RecordRequest.model_validate(known | {"attention": attention}))


def test_what_needs_a_person_calls_until_somebody_acts(ledger: Ledger, clock: Clock, post: Post) -> None:
    """What waits for a person calls its commander, then others; once it does not wait, nobody is called."""
    open_incident(ledger, commander="ada")
    post.round()
    assert post.sent == []
    record(ledger, 1, "INC-1/1 ended expired; look at it, then plan again or resolve")
    post.round()
    clock.forward(MINUTE)
    record(ledger, 2, "no mitigation to propose: nothing fits")
    clock.forward(4 * MINUTE)
    post.round()
    calls = ["INC-1/ada/webhook/1", "INC-1/grace/email/1"]
    assert post.sent == calls
    first, second = ledger.notices.list(subject="INC-1")
    assert first.text.startswith("INC-1/1 ended expired; look at it, then plan again or resolve\n")
    assert second.text.splitlines() == [
        "no mitigation to propose: nothing fits",
        "Say that you look at it: stanch incident ack INC-1",
        "No answer from ada? stanch incident take-over INC-1 --from ada",
    ]

    record(ledger, 3, None)
    clock.forward(5 * MINUTE)
    post.round()
    assert post.sent == calls
    record(ledger, 4, "INC-1/2 ended in_doubt; look at it, then plan again or resolve")
    post.round()
    assert post.sent == [*calls, "INC-1/ada/webhook/2"]


def test_who_looks_at_what_needs_a_person_holds_the_calls(ledger: Ledger, clock: Clock, post: Post) -> None:
    """Nobody else is called for ten minutes when the commander says that they look at it."""
    open_incident(ledger, commander="ada")
    record(ledger, 1, "INC-1/1 ended held")
    post.round()
    ledger.notices.seen("INC-1", "ada")
    clock.forward(9 * MINUTE)
    post.round()
    assert post.sent == ["INC-1/ada/webhook/1"]
    clock.forward(MINUTE)
    post.round()

    assert post.sent == ["INC-1/ada/webhook/1", "INC-1/ada/webhook/2"]


def test_a_timer_that_does_not_count_any_more(ledger: Ledger) -> None:
    """A timer of another generation, or of no ladder, does nothing."""
    approval = ask(ledger)

    assert ledger.notices.climb("APR-99", 0, BOOK) is None
    assert ledger.notices.climb(approval, 7, BOOK) is None
    assert ledger.notices.list() == []


@pytest.mark.parametrize("mode", ["broken", "away"])
def test_the_next_channel(ledger: Ledger, clock: Clock, post: Post, mode: str) -> None:
    """A channel that refuses, or is away three times, is followed by the person's next one."""
    getattr(post, mode).add("webhook")
    approval = ask(ledger)
    post.round()
    for _ in range(8):
        clock.forward(timedelta(seconds=1))
        post.round()

    assert post.sent == [f"{approval}/ada/email/1"]
    assert told(ledger, approval) == {"ada/webhook": NoticeState.FAILED, "ada/email": NoticeState.SENT}
    failed = next(one for one in ledger.notices.list(subject=approval) if one.channel == "webhook")
    assert (failed.attempts, failed.error) == (1 if mode == "broken" else 3, "it is broken")
    assert said(ledger, EvidenceKind.NOTIFICATION) == [
        f"ada could not be told of {approval} by webhook: it is broken",
        f"ada is told of {approval} by email",
    ]


def test_the_next_rung_at_once(ledger: Ledger, post: Post) -> None:
    """When nobody of a rung can be told, the next one is called at once, up to who can be."""
    post.catalogue = BOOK.model_copy(
        update={
            "escalation": dict.fromkeys(Severity, (*RUNGS[:2], Rung(after=10 * MINUTE, notify=("team",))))
        }
    )
    post.broken.update({"webhook", "email"})
    approval = ask(ledger)
    post.round()

    assert told(ledger, approval) == {
        "ada/webhook": NoticeState.FAILED,
        "ada/email": NoticeState.FAILED,
        "grace/email": NoticeState.FAILED,
        "linus/console": NoticeState.SENT,
    }
    assert said(ledger, EvidenceKind.ESCALATION)[0] == f"{approval} is unanswered: rung 2 calls grace"


def test_nobody_can_be_told(ledger: Ledger, clock: Clock, post: Post) -> None:
    """When nobody at all can be told, the incident says so, and everybody is tried again soon."""
    post.catalogue = BOOK.model_copy(update={"escalation": dict.fromkeys(Severity, RUNGS[:2])})
    post.broken.update({"webhook", "email"})
    incident = open_incident(ledger)
    post.round()
    attention = ledger.incidents.get(incident).attention
    post.broken.clear()
    clock.forward(2 * MINUTE)
    post.round()
    ledger.incidents.assign(incident, Role.INCIDENT_COMMANDER, "grace", by="grace")
    post.round()

    sentence = f"{incident}: nobody could be told: look at who is on call, and at their channels"
    assert attention == sentence
    assert said(ledger, EvidenceKind.ESCALATION).count(sentence) == 1
    assert post.sent == [f"{incident}/ada/webhook/2"]
    assert ledger.incidents.get(incident).attention is None


def test_nobody_is_meant(ledger: Ledger, post: Post) -> None:
    """A catalogue that names nobody for a service is not silent either."""
    post.catalogue = Catalogue()
    incident = open_incident(ledger)
    post.round()

    assert "nobody could be told" in (ledger.incidents.get(incident).attention or "")
    assert said(ledger, EvidenceKind.ESCALATION)[-1].startswith(f"{incident}: nobody could be told")


def test_seen_holds_the_ladder(ledger: Ledger, clock: Clock, post: Post) -> None:
    """Who looks at a question holds its ladder for ten minutes; then it begins again."""
    approval = ask(ledger)
    post.round()
    clock.forward(MINUTE)
    ledger.notices.seen(approval, "ada")
    ledger.notices.seen(approval, "ada")
    post.round()
    for _ in range(9):
        clock.forward(MINUTE)
        post.round()
    held = list(post.sent)
    clock.forward(MINUTE)
    post.round()

    assert held == [f"{approval}/ada/webhook/1"]
    assert post.sent[1:] == [f"{approval}/ada/webhook/2"]
    assert said(ledger, EvidenceKind.NOTIFICATION).count(f"ada has seen {approval}") == 1
    (notice,) = ledger.notices.list(subject=approval)
    assert (notice.state, notice.sent_at, notice.seen_at) == (NoticeState.SENT, clock(), None)


@pytest.mark.parametrize(
    ("rungs", "minutes"),
    [
        ((RUNGS[0], Rung(after=60 * MINUTE, notify=("team",))), 60),
        ((RUNGS[0],), 30),
    ],
)
def test_who_looks_is_called_no_sooner_than_who_does_not(
    ledger: Ledger, clock: Clock, post: Post, rungs: tuple[Rung, ...], minutes: int
) -> None:
    """Where the ladder has time, a commander who looks at what waits is not called every ten minutes."""
    again = dict.fromkeys(Severity, 30 * MINUTE)
    slow = {"escalation": dict.fromkeys(Severity, rungs), "escalate_again": again}
    post.catalogue = BOOK.model_copy(update=slow)
    open_incident(ledger, commander="ada")
    record(ledger, 1, "no mitigation to propose: nothing fits")
    post.round()
    ledger.notices.seen("INC-1", "ada")
    clock.forward((minutes - 1) * MINUTE)
    post.round()
    assert post.sent == ["INC-1/ada/webhook/1"]
    clock.forward(MINUTE)
    post.round()
    calls = ["INC-1/ada/webhook/1", "INC-1/ada/webhook/2"]
    assert post.sent == calls

    ledger.notices.seen("INC-1", "ada")
    record(ledger, 2, None)
    clock.forward(11 * MINUTE)
    record(ledger, 3, "INC-1/1 ended held")
    post.round()
    assert post.sent == [*calls, "INC-1/ada/webhook/3"]  # that look was at something else


@pytest.mark.parametrize("role", [None, Role.SCRIBE, Role.COMMUNICATIONS_LEAD])
def test_a_stranger_who_looks_holds_nothing(
    ledger: Ledger, clock: Clock, post: Post, role: Role | None
) -> None:
    """Only who was told, or decides, acknowledges by looking: a scribe who looks on does not answer."""
    approval = ask(ledger)
    if role is not None:
        ledger.incidents.assign("INC-1", role, "linus", by="ada")
    ledger.notices.seen(approval, "linus")
    post.round()
    clock.forward(5 * MINUTE)
    post.round()

    assert [one for one in post.sent if one.startswith(approval)] == [
        f"{approval}/ada/webhook/1",
        f"{approval}/grace/email/1",
    ]


def test_seen_before_it_was_sent(ledger: Ledger, clock: Clock, post: Post) -> None:
    """The Incident Commander who looks before the call was made is not called."""
    approval = ask(ledger)
    ledger.notices.seen(approval, "ada")
    post.round()
    clock.forward(9 * MINUTE)
    post.round()

    assert post.sent == []
    assert told(ledger, approval) == {"ada/console": NoticeState.SEEN}


def test_seen_needs_something_to_see(ledger: Ledger) -> None:
    """A question that is not there cannot be seen."""
    with pytest.raises(NotFoundError, match="APR-7: not found"):
        ledger.notices.seen("APR-7", "ada")


def test_a_new_severity_has_its_own_ladder_at_once(ledger: Ledger, clock: Clock, post: Post) -> None:
    """Whom the new severity's ladder would have called by now is called when the severity changes."""
    slow = (RUNGS[0], Rung(after=timedelta(days=1), notify=("team",)))
    rungs = dict.fromkeys(Severity, slow) | {Severity.SEV1: RUNGS}
    post.catalogue = BOOK.model_copy(update={"escalation": rungs})
    incident = ledger.incidents.declare(
        title="t", service="shop", environment="production", severity=Severity.SEV3, person="linus", trace={}
    ).id
    post.round()
    clock.forward(6 * MINUTE)
    order = Command(id="c", kind=CommandKind.SEVERITY, person="ada", severity=Severity.SEV1, reason="worse")
    ledger.incidents.command(incident, order, trace={})
    post.round()

    assert post.sent == [f"{incident}/ada/webhook/1", f"{incident}/grace/email/1"]


@pytest.mark.parametrize("step", ["climb", "send"])
def test_twice_is_once(ledger: Ledger, post: Post, step: str) -> None:
    """A message that is handed out again after its work was done does nothing, or sends the same id."""
    approval = ask(ledger)
    due = [ledger.notices.climb(approval, 0, BOOK) for _ in range(3)]
    if step == "climb":
        assert due == [NOON + 5 * MINUTE] * 3
        post.round()
        assert post.sent == [f"{approval}/ada/webhook/1"]
        return
    first = ledger.notices.outgoing(approval, "ada", "webhook", 1)
    again = ledger.notices.outgoing(
        approval, "ada", "webhook", 1
    )  # the first was sent, and then the end came
    assert first is not None
    assert first == again
    ledger.notices.sent(first)
    ledger.notices.sent(first)

    assert ledger.notices.outgoing(approval, "ada", "webhook", 1) is None
    assert said(ledger, EvidenceKind.NOTIFICATION) == [f"ada is told of {approval} by webhook"]


def test_several_gateways(ledger: Ledger) -> None:
    """However many gateways climb at once, each person is called once."""
    approval = ask(ledger)
    calls: list[Callable[[], object]] = [lambda: ledger.notices.climb(approval, 0, BOOK)] * 6
    at_once(calls)

    assert [notice.times for notice in ledger.notices.list(subject=approval)] == [1]


def test_telling_everybody(ledger: Ledger, post: Post) -> None:
    """What must be loud reaches everybody of the catalogue once, in an incident or in none."""
    incident = open_incident(ledger, commander="ada")
    with ledger.database.write() as connection:
        ladders.tell(connection, incident, ["everybody"], "glass broken", key="APR-1/glass")
        ladders.tell(connection, None, ["team:shop", "on_call"], "frozen", key="FRZ-1")
    post.round()
    ledger.notices.tell("APR-1/glass", incident, ["everybody"], "glass broken", BOOK)
    post.round()

    assert sorted(post.sent) == [
        "APR-1/glass/ada/webhook/1",
        "APR-1/glass/grace/email/1",
        "FRZ-1/ada/webhook/1",
        "FRZ-1/grace/email/1",
    ]
    notice = next(one for one in ledger.notices.list(subject="APR-1/glass") if one.person == "ada")
    assert (notice.title, notice.path) == (f"{incident}: glass broken", "/approvals/APR-1")


def test_telling_nobody_is_not_silent(ledger: Ledger, post: Post) -> None:
    """When what must be loud reaches nobody, the timeline says so."""
    incident = open_incident(ledger, commander="ada")
    post.broken.update({"email", "webhook"})
    with ledger.database.write() as connection:
        ladders.tell(connection, incident, ["person:ada"], "hear me", key="k")
    post.round()

    assert said(ledger, EvidenceKind.ESCALATION) == [
        "k: nobody could be told: look at who is on call, and at their channels"
    ]


def test_who_has_left_is_not_the_only_one_told(ledger: Ledger, post: Post) -> None:
    """What only somebody would hear whom the catalogue no longer has, who is on call hears too."""
    incident = open_incident(ledger, commander="zoe")
    with ledger.database.write() as connection:
        ladders.tell(connection, incident, ["person:zoe"], "its time is over", key="k")
        ladders.tell(connection, incident, ["person:grace"], "its time is over", key="l")
    post.round()

    assert sorted(one for one in post.sent if one[:2] in ("k/", "l/")) == [
        "k/ada/webhook/1",
        "l/grace/email/1",
    ]
    assert sorted(one.person for one in ledger.notices.list(subject="k")) == ["ada", "zoe"]


def test_who_takes_a_role_away_is_heard(ledger: Ledger, post: Post) -> None:
    """Whose role somebody else takes is told, by whom and which."""
    incident = open_incident(ledger, commander="ada")
    ledger.incidents.assign(incident, Role.INCIDENT_COMMANDER, "grace", by="grace")
    post.round()

    notices = [one for one in ledger.notices.list(incident=incident) if one.person == "ada"]
    assert [one.text for one in notices] == ["grace takes command; until now ada had it"]


def test_a_notice_is_read_as_it_was_written(ledger: Ledger) -> None:
    """A notice survives its way as JSON."""
    approval = ask(ledger)
    ledger.notices.climb(approval, 0, BOOK)
    (notice,) = ledger.notices.list(subject=approval)

    assert Notice.model_validate_json(notice.model_dump_json()) == notice


def test_the_second_of_two_is_called(ledger: Ledger, clock: Clock, signer: Signer, post: Post) -> None:
    """Who has given the first approval is not called again, holds nothing, and the second one is."""
    incident = open_incident(ledger, commander="ada")
    sealed = plan(incident)
    steps = (sealed.steps[0].model_copy(update={"needs": Needs.TWO}),)
    approval = ledger.approvals.ask(sealed.model_copy(update={"steps": steps}), severity=Severity.SEV1).id
    post.round()
    ledger.notices.seen(approval, "ada")
    post.round()
    ledger.approvals.decide(
        approval,
        Answer(
            verdict=Verdict.APPROVE,
            plan_digest=ledger.approvals.get(approval).request.plan_digest,
            person="ada",
            authenticated_by="local",
            reason="",
        ),
        policy=POLICY,
        signer=signer,
        trace={},
    )
    post.round()
    clock.forward(5 * MINUTE)
    post.round()
    clock.forward(5 * MINUTE)
    post.round()

    assert post.sent == [
        f"{approval}/ada/webhook/1",
        f"{approval}/grace/email/1",
        f"{approval}/grace/email/2",
    ]
    grace = next(one for one in ledger.notices.list(subject=approval) if one.person == "grace")
    assert grace.text.splitlines()[0] == "ada has approved; one more person is needed"
