"""What a step did for the users: the rule, on made-up readings, and the loops, in a world of toys."""
# ruff: noqa: ARG002  (the toys give what the protocol asks for and need little of it)

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from temporalio.testing import ActivityEnvironment

from activities import aws, k8s, verification
from activities.registry import Registry
from activities.verification import Watching, effect_of, judge, says
from contracts.actions import SETTLES_AT_MOST, Action, ActionRequest, Probe, ProbeRequest
from contracts.catalogue import Catalogue
from contracts.errors import ActionRefusedError, ProviderUnavailableError
from contracts.evidence import EvidenceKind
from contracts.incidents import Effect, Severity
from contracts.messages import VerifyOrder
from contracts.outcomes import Direction, EffectResult, Progress, Reached
from contracts.plans import (
    WITHIN_AT_MOST,
    Difference,
    Observation,
    ProbeCall,
    Reading,
    Risk,
    Target,
    Verification,
)
from ledger import Ledger
from tests.activities.judged import do
from tests.ledger.samples import open_incident, plan

START = datetime(2026, 11, 21, 14, 50, tzinfo=UTC)
RULE = Verification(
    signal="error_rate",
    probe=ProbeCall(name="prometheus.query", arguments={}),
    healthy_below=0.05,
    hold=timedelta(seconds=5),
    within=timedelta(seconds=20),
    baseline=Reading(value=0.4, at=START),
)
ABOVE = RULE.model_copy(
    update={"healthy_below": None, "healthy_above": 0.95, "baseline": Reading(value=0.6, at=START)}
)


def readings(*values: float | None) -> list[Reading]:
    """Give one reading a second."""
    return [Reading(value=value, at=START + timedelta(seconds=at)) for at, value in enumerate(values)]


MOMENT = timedelta(milliseconds=1)
GOOD, BAD, TERRIBLE = 0.01, 0.4, 0.9

CASES = [
    ("healthy for the whole stretch", [GOOD] * 6, False, Effect.EFFECTIVE),
    ("healthy, but not yet long enough", [GOOD] * 5, False, None),
    ("one bad reading begins the stretch anew", [GOOD] * 5 + [BAD] + [GOOD] * 5, False, None),
    ("a gap in the data begins the stretch anew", [GOOD] * 3 + [None] + [GOOD] * 3, False, None),
    ("bad first, then healthy", [BAD] * 8 + [GOOD] * 6, False, Effect.EFFECTIVE),
    ("far above the baseline for the whole stretch", [TERRIBLE] * 6, False, Effect.WORSE),
    ("far above the baseline for a moment", [TERRIBLE] * 2 + [BAD] * 4, False, None),
    ("still bad when the time is over", [BAD] * 21, True, Effect.INEFFECTIVE),
    ("better, but not healthy", [0.06] * 21, True, Effect.INEFFECTIVE),
    ("flapping when the time is over", [BAD, GOOD] * 10, True, Effect.INCONCLUSIVE),
    ("flapping that happens to be bad at the end", [GOOD, BAD] * 10, True, Effect.INCONCLUSIVE),
    ("healthy once at the end of a bad time", [BAD] * 15 + [GOOD] + [BAD] * 5, True, Effect.INCONCLUSIVE),
    ("a dip, and bad again", [BAD] * 3 + [GOOD] * 3 + [BAD] * 10, True, Effect.INEFFECTIVE),
    ("no data at all", [None] * 21, True, Effect.INCONCLUSIVE),
    ("data that ends", [BAD] * 10 + [None], True, Effect.INCONCLUSIVE),
    ("no reading", [], True, Effect.INCONCLUSIVE),
    ("zero is data and healthy", [0.0] * 6, False, Effect.EFFECTIVE),
]


@pytest.mark.parametrize(
    ("values", "final", "effect"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_judgement(values: list[float | None], final: bool, effect: Effect | None) -> None:  # noqa: FBT001
    """Each shape of readings has its one judgement."""
    assert judge(RULE, readings(*values), final=final) is effect


def test_higher_can_be_healthier() -> None:
    """With a threshold from below, more is better and clearly less is worse."""
    assert judge(ABOVE, readings(*[0.99] * 6), final=False) is Effect.EFFECTIVE
    assert judge(ABOVE, readings(*[0.2] * 6), final=False) is Effect.WORSE
    assert judge(ABOVE, readings(*[0.6] * 21), final=True) is Effect.INEFFECTIVE


def test_without_a_baseline_nothing_is_worse() -> None:
    """Where nothing was measured before, bad is ineffective and not worse."""
    blind = RULE.model_copy(update={"baseline": Reading(value=None, at=START)})

    assert judge(blind, readings(*[TERRIBLE] * 21), final=True) is Effect.INEFFECTIVE


@given(values=st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=40))
def test_every_history_is_judged_in_the_end(values: list[float | None]) -> None:
    """When the time is over there is a judgement, effective only after a healthy stretch."""
    effect = judge(RULE, readings(*values), final=True)

    assert effect is not None
    if effect is Effect.EFFECTIVE:
        assert all(value is not None and value < 0.05 for value in values[-6:])
    if effect is Effect.WORSE:
        assert all(value is not None and value > 0.6 for value in values[-6:])


def test_sentence_names_the_numbers() -> None:
    """The sentence says before, after, judgement and bound."""
    said = says(RULE, Effect.INEFFECTIVE, readings(BAD, BAD))

    assert said == "error_rate 0.4 → 0.4: ineffective (healthy is below 0.05)"


class Errors(ProbeRequest[Reading]):
    """How many requests fail?"""

    probe: ClassVar[str] = "toy.errors"


class World(Probe[Errors, Reading]):
    """Its two clocks, and the errors that are seen in it, a second apart; then the process dies.

    While a step is being carried out others are seen, the last of which stays.
    """

    request_type = Errors

    def __init__(self, *values: float | None) -> None:
        self.values = list(values)
        self.meantime: list[float | None] = [BAD]
        self.is_settled = True
        self.now = START
        self.ticks = 0.0
        self.looks = 0
        self.meanwhile: dict[int, tuple[timedelta, timedelta]] = {}
        self.hangs: list[Callable[[], None]] = []

    def goes_on(self, by: timedelta = timedelta(seconds=1), ticks: timedelta | None = None) -> None:
        """Let time pass, on the clock of the machine and on the monotonic one."""
        self.now += by
        self.ticks += (by if ticks is None else ticks).total_seconds()

    def look(self, request: Errors) -> Reading:
        """Look once."""
        if not self.is_settled:
            value = self.meantime.pop(0) if len(self.meantime) > 1 else self.meantime[0]
            return Reading(value=value, at=self.now)
        if self.hangs:
            self.hangs.pop()()
        if not self.values:
            raise KeyboardInterrupt
        self.looks += 1
        self.goes_on(*self.meanwhile.get(self.looks, (timedelta(seconds=1), None)))
        return Reading(value=self.values.pop(0), at=self.now)


class Rollout(ActionRequest):
    """Have another version."""

    action: ClassVar[str] = "toy.rollout"

    @property
    def target(self) -> Target:
        """The only one."""
        return Target(provider="toy", kind="deployment", path=("web",))


class RolloutAction(Action[Rollout]):
    """Rolls out, and says how far it is, ``apart`` each time; ``dies`` before the look of that number."""

    request_type = Rollout
    risk = Risk.LOW
    idempotent = "yes"
    settles_within: ClassVar[timedelta] = timedelta(minutes=15)

    def __init__(self, world: World, *says: Progress | Exception) -> None:
        self.world, self.says, self.looks, self.dies = world, says, 0, 0
        self.apart = timedelta(minutes=1)
        self.meanwhile: dict[int, tuple[timedelta, timedelta]] = {}

    def observe(self, request: Rollout) -> Observation:
        """Look once."""
        self.looks += 1
        if self.looks == self.dies:
            raise KeyboardInterrupt
        self.world.goes_on(*self.meanwhile.get(self.looks, (self.apart, None)))
        seen = self.says[min(self.looks, len(self.says)) - 1]
        if isinstance(seen, Exception):
            raise seen
        self.world.is_settled = seen.reached in (Reached.YES, Reached.UNKNOWN)
        return Observation(state=seen.model_dump(mode="json"), guard={}, at=self.world.now)

    def is_reached(self, request: Rollout, observed: Observation) -> Progress:
        """Give what was said."""
        return Progress.model_validate(observed.state)

    def change(self, request: Rollout, observed: Observation) -> tuple[Difference, ...]:
        """Nothing."""
        return ()

    def preflight(self, request: Rollout, observed: Observation) -> tuple[str, ...]:
        """Nothing stands against it."""
        return ()

    def apply(self, request: Rollout, observed: Observation, *, action_id: str) -> None:
        """Never."""
        raise AssertionError(action_id)

    def undo(self, request: Rollout, observed: Observation) -> tuple[Rollout | None, str]:
        """Nothing."""
        return None, ""

    def blast_radius(self, request: Rollout, observed: Observation) -> str:
        """Say who."""
        return "Everybody."


class Scene:
    """A step of a sealed plan, in a world of toys; ``later``: it is the next one that is verified."""

    def __init__(
        self, home: Path, world: World, *says: Progress | Exception, later: bool = False, **rule: Any
    ) -> None:
        self.world = world
        self.action = RolloutAction(world, *says)
        self.rule = RULE.model_copy(
            update={"probe": ProbeCall(name="toy.errors", arguments={}), "every": MOMENT} | rule
        )
        self.ledger = Ledger.open(f"sqlite:///{home / 'ledger.db'}", clock=lambda: world.now)
        self.ledger.migrate()
        open_incident(self.ledger)
        self.plan = plan()
        step = self.plan.steps[0].model_copy(
            update={"action": Rollout().call(), "verification": self.rule if world.values else None}
        )
        first, second = step.model_copy(update={"verification": None}), step.model_copy(update={"number": 2})
        self.plan = self.plan.model_copy(update={"steps": (first, second) if later else (step,)})
        self.asked = self.ledger.approvals.ask(self.plan, severity=Severity.SEV2)
        do(self.ledger, self.plan, self.asked.id, self.asked.plan_digest)

    @property
    def watching(self) -> Watching:
        """The activities as a fresh worker has them."""
        return Watching(
            ledger=self.ledger,
            catalogue=Catalogue(),
            registry=Registry([self.action], [self.world]),
            clock=lambda: self.world.now,
            monotonic=lambda: self.world.ticks,
        )

    def verify(self) -> EffectResult:
        """Verify the step as a worker does that knows what the one before it has kept."""
        order = VerifyOrder(
            incident=self.plan.incident,
            mitigation=self.plan.mitigation,
            step=1,
            direction=Direction.APPLY,
            plan_digest=self.asked.plan_digest,
        )
        result: EffectResult = ActivityEnvironment().run(self.watching.verify_step, order)
        return result

    def watch(self, hold: timedelta) -> tuple[bool, bool, str]:
        """Watch the signal as monitoring does."""
        watched = {"error_rate": self.rule}
        return self.watching._monitor(watched, hold)  # noqa: SLF001  (the loop itself)


Make = Callable[..., Scene]
DONE = Progress(reached=Reached.YES, detail="36 of 36 pods")


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make a scene that has settled, unless it says otherwise."""
    monkeypatch.setattr(verification, "SETTLE_EVERY", 0)
    with ExitStack() as stack:

        def scene(world: World, *says: Progress | Exception, **rule: Any) -> Scene:
            made = Scene(tmp_path, world, *(says or (DONE,)), **rule)
            stack.callback(made.ledger.close)
            return made

        yield scene


def values(result: EffectResult) -> list[float | None]:
    """Give what was read."""
    return [reading.value for reading in result.readings]


def test_a_killed_worker_s_readings_count(make: Make) -> None:
    """The next worker goes on from what the killed one has read, where that was a moment ago."""
    scene = make(World(BAD, GOOD, GOOD, GOOD))
    with pytest.raises(KeyboardInterrupt):
        scene.verify()
    scene.world.values = [GOOD] * 3
    result = scene.verify()

    assert result.effect is Effect.EFFECTIVE
    assert values(result) == [BAD, *[GOOD] * 6]


def test_a_killed_worker_s_long_stretch_counts(make: Make) -> None:
    """Also of a stretch of more readings than are kept, it is known since when it has lasted."""
    scene = make(World(BAD, *[GOOD] * 70), hold=timedelta(seconds=75), within=timedelta(seconds=80))
    with pytest.raises(KeyboardInterrupt):
        scene.verify()
    scene.world.values = [GOOD] * 6
    result = scene.verify()

    assert result.effect is Effect.EFFECTIVE
    assert result.readings[-1].at - result.readings[0].at == timedelta(seconds=75)


def test_while_nobody_looked_nothing_was_healthy(make: Make) -> None:
    """After a longer absence the stretch begins anew, and the time that is left is as it was."""
    scene = make(World(BAD, *[GOOD] * 5))
    with pytest.raises(KeyboardInterrupt):
        scene.verify()
    scene.world.goes_on(timedelta(minutes=5))
    scene.world.values = [GOOD] * 6
    result = scene.verify()

    assert result.effect is Effect.EFFECTIVE
    assert values(result) == [BAD, *[GOOD] * 5, None, *[GOOD] * 6]
    assert result.readings[6].detail == "nobody looked: the worker was away, or its clock has jumped"


def test_a_worker_that_was_frozen_changes_no_judgement(make: Make) -> None:
    """Who wakes in a look after another worker has judged the step gives that judgement, and it stays."""
    scene = make(World(GOOD))
    judged: list[EffectResult] = []

    def hangs() -> None:
        scene.world.values = [TERRIBLE] * 6
        judged.append(scene.verify())
        scene.world.values = [GOOD] * 8

    scene.world.hangs.append(hangs)
    woken = scene.verify()

    assert judged[0].effect is Effect.WORSE
    assert woken == judged[0] == effect_of(scene.ledger, "INC-1/1/1/apply")


HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
JUMPS = {
    "forward": (HOUR, SECOND),
    "back": (-HOUR, SECOND),
    "suspended": (HOUR, SECOND),
    "frozen": (HOUR, HOUR),
}


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_a_clock_that_jumps_heals_nothing(make: Make, jump: tuple[timedelta, timedelta]) -> None:
    """Two good looks with an hour between them on the clock are no stretch: it begins anew, and ends."""
    world = World(*[BAD] * 3, *[GOOD] * 8)
    world.meanwhile[5] = jump
    result = make(world).verify()

    assert result.effect is Effect.EFFECTIVE
    assert values(result) == [*[BAD] * 3, GOOD, None, *[GOOD] * 6]


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_a_clock_that_jumps_ends_no_verification(make: Make, jump: tuple[timedelta, timedelta]) -> None:
    """An hour that nobody has lived through does not make a step that still recovers ineffective."""
    world = World(*[BAD] * 16, *[GOOD] * 6)
    world.meanwhile[17] = jump
    scene = make(world)

    assert scene.verify().effect is Effect.EFFECTIVE


def test_looks_that_are_always_late_end_too(make: Make) -> None:
    """A source that answers slowly every time does not hold a verification up for ever."""
    world = World(*[BAD] * 100)
    world.meanwhile = dict.fromkeys(range(100), (timedelta(seconds=30), timedelta(seconds=30)))
    result = make(world).verify()

    assert result.effect is Effect.INEFFECTIVE
    assert world.looks < 30


def test_a_slow_probe_is_somebody_who_looks(make: Make) -> None:
    """While a probe waits for its answer, somebody looks: a step can be effective, and a service stable."""
    world = World(*[GOOD] * 4)
    world.meanwhile = dict.fromkeys(range(9), (3 * SECOND, 3 * SECOND))
    scene = make(world)

    assert scene.verify().effect is Effect.EFFECTIVE
    world.values = [GOOD] * 4
    assert scene.watch(5 * SECOND)[0]


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_a_clock_that_jumps_keeps_nothing_stable(make: Make, jump: tuple[timedelta, timedelta]) -> None:
    """Monitoring counts the time in which somebody looked, and begins anew after one in which nobody did."""
    world = World(*[GOOD] * 100)
    world.meanwhile[4] = jump
    stable, regressed, _ = make(world).watch(timedelta(seconds=10))

    assert (stable, regressed) == (True, False)
    assert world.looks == 14


def test_one_bad_reading_begins_the_window_anew(make: Make) -> None:
    """A blip is no relapse: the signal has to be healthy for the whole window after it."""
    world = World(*[GOOD] * 8, BAD, BAD, *[GOOD] * 30)
    stable, regressed, _ = make(world).watch(10 * SECOND)

    assert (stable, regressed, world.looks) == (True, False, 20)


def test_a_bad_stretch_is_a_relapse(make: Make) -> None:
    """What is unhealthy for as long as a verification wants it healthy is back."""
    world = World(*[GOOD] * 8, *[BAD] * 30)
    stable, regressed, said = make(world).watch(10 * SECOND)

    assert (stable, regressed, said) == (False, True, "error_rate is 0.4 again: not healthy")
    assert world.looks == 14


def test_what_is_ill_for_a_whole_window_is_a_relapse(make: Make) -> None:
    """A signal that takes its time to be judged is not waited for longer than the watch itself takes."""
    stable, regressed, said = make(World(*[BAD] * 60), hold=MINUTES).watch(10 * SECOND)

    assert (stable, regressed, said) == (False, True, "error_rate is 0.4 again: not healthy")


def test_what_flaps_while_it_is_watched_asks_a_person(make: Make) -> None:
    """What is neither healthy nor ill for long enough is watched for three windows, and then said."""
    stable, regressed, said = make(World(*[GOOD, BAD] * 40)).watch(10 * SECOND)

    assert (stable, regressed, said) == (False, False, "neither healthy nor ill for long enough")


def pods(*numbers: int, reached: Reached = Reached.SETTLING) -> list[Progress]:
    """Give what a rollout says, a minute apart."""
    return [Progress(reached=reached, detail=f"{number} of 36 pods are new") for number in numbers]


def test_a_slow_rollout_that_goes_on_is_waited_for(make: Make) -> None:
    """While it gets on it has its time anew, and what it does for the users is judged after that."""
    scene = make(World(*[GOOD] * 6), *pods(*range(36)), DONE)
    result = scene.verify()

    assert (result.effect, result.settled) == (Effect.EFFECTIVE, DONE)
    assert scene.action.looks == 37


ENDS: list[tuple[str, Sequence[Progress | Exception], Effect, int, str]] = [
    ("stands still", pods(15), Effect.INCONCLUSIVE, 15, "did not settle in time: 15 of 36"),
    ("goes to and fro", pods(*[1, 2] * 99), Effect.INCONCLUSIVE, 16, "did not settle in time"),
    ("never ends", pods(*range(999)), Effect.INCONCLUSIVE, 120, "did not settle in time: 119 of 36"),
    (
        "cannot be seen",
        [*pods(1), *(ProviderUnavailableError(f"no answer {number}") for number in range(99))],
        Effect.INCONCLUSIVE,
        15,
        "did not settle in time: no answer",
    ),
    (
        "failed",
        [*pods(1), *pods(2, reached=Reached.FAILED)],
        Effect.INEFFECTIVE,
        2,
        "did not settle: 2 of 36",
    ),
    ("changed back", [*pods(1), *pods(0, reached=Reached.NO)], Effect.INEFFECTIVE, 2, "did not settle: 0 of"),
]


@pytest.mark.parametrize("ends", [one[1:] for one in ENDS], ids=[one[0] for one in ENDS])
def test_what_does_not_settle(make: Make, ends: tuple[Sequence[Progress], Effect, int, str]) -> None:
    """Out of time it may get there yet, so nobody can tell; only the provider says that it has failed."""
    says, effect, minutes, said = ends
    scene = make(World(GOOD), *says)
    result = scene.verify()

    assert (result.effect, scene.action.looks) == (effect, minutes)
    assert said in result.detail


@pytest.mark.parametrize("reached", [Reached.FAILED, Reached.NO])
@pytest.mark.parametrize("before", [0, 20])
def test_a_failure_that_passes_is_none(make: Make, reached: Reached, before: int) -> None:
    """For a moment a controller may say what became of the former rollout: only what stays so counts."""
    scene = make(World(*[GOOD] * 6), *pods(*range(before)), *pods(2, 2, reached=reached), *pods(9), DONE)
    scene.action.apart = timedelta(seconds=1)

    assert scene.verify().effect is Effect.EFFECTIVE


@pytest.mark.parametrize("reached", [Reached.FAILED, Reached.NO])
def test_a_failure_that_stays_is_one(make: Make, reached: Reached) -> None:
    """What is the same for some seconds does not pass any more."""
    scene = make(World(GOOD), *pods(1), *pods(2, reached=reached))
    scene.action.apart = timedelta(seconds=1)

    assert scene.verify().effect is Effect.INEFFECTIVE
    assert scene.action.looks == 6


MINUTES = timedelta(minutes=5)  # a stretch of looks that are a minute apart


def slow(*values: float | None) -> World:
    """Give a world in which a look at the errors takes half a minute."""
    world = World(*values)
    world.meanwhile = dict.fromkeys(range(99), (30 * SECOND, 30 * SECOND))
    return world


def warnings(scene: Scene) -> list[str]:
    """Give what the log says that somebody has to look at."""
    entries = scene.ledger.evidence.entries(incident="INC-1")
    return [one.summary for one in entries if one.kind is EvidenceKind.ATTENTION_NEEDED]


MEANTIME = {
    "a dip": [*[TERRIBLE] * 5, BAD],
    "a dip with a gap": [*[TERRIBLE] * 4, None, *[TERRIBLE] * 4, BAD],
    "as before": [BAD],
    "well at once": [GOOD],
    "no data": [None],
}


@pytest.mark.parametrize("meantime", MEANTIME.values(), ids=MEANTIME)
def test_what_is_not_clearly_worse_is_waited_for(make: Make, meantime: list[float | None]) -> None:
    """A rollout may shake the users' signal for a while, and only what comes after it can be effective."""
    scene = make(slow(*[GOOD] * 11), *pods(*range(20)), DONE, hold=MINUTES, within=2 * MINUTES)
    scene.world.meantime = list(meantime)
    scene.action.dies = 20
    with pytest.raises(KeyboardInterrupt):
        scene.verify()
    result = scene.verify()

    assert (result.effect, result.settled) == (Effect.EFFECTIVE, DONE)
    assert (scene.action.looks, scene.world.looks) == (21, 11)
    assert not warnings(scene)


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_a_clock_that_jumps_makes_nothing_worse(make: Make, jump: tuple[timedelta, timedelta]) -> None:
    """Time in which nobody looked breaks a stretch also while a step is under way."""
    scene = make(slow(*[GOOD] * 11), *pods(*range(36)), DONE, hold=MINUTES, within=2 * MINUTES)
    scene.world.meantime = [TERRIBLE]
    scene.action.meanwhile[4] = jump
    scene.verify()

    assert [said.rpartition(": ")[2] for said in warnings(scene)] == ["8 of 36 pods are new"]


def test_a_killed_worker_s_readings_count_while_it_settles(make: Make) -> None:
    """The next worker goes on with the stretch that the killed one has seen."""
    scene = make(slow(*[GOOD] * 11), *pods(*range(36)), DONE, hold=MINUTES, within=2 * MINUTES)
    scene.world.meantime = [TERRIBLE]
    scene.action.dies = 4
    with pytest.raises(KeyboardInterrupt):
        scene.verify()
    scene.verify()

    assert [said.rpartition(": ")[2] for said in warnings(scene)] == ["6 of 36 pods are new"]


def test_a_worse_start_is_no_judgement_of_what_comes_after(make: Make) -> None:
    """When a step has settled its stretch begins anew, for worse as for better."""
    scene = make(slow(*[GOOD] * 11), *pods(*range(4)), DONE, hold=MINUTES, within=2 * MINUTES)
    scene.world.meantime = [TERRIBLE]

    assert scene.verify().effect is Effect.EFFECTIVE


def test_what_gets_worse_while_a_step_is_under_way_is_told(make: Make) -> None:
    """People hear of it once, when it was clearly worse for the whole stretch; the step is waited for."""
    scene = make(slow(*[TERRIBLE] * 11), *pods(*range(36)), DONE, hold=MINUTES, within=2 * MINUTES)
    scene.world.meantime = [TERRIBLE]
    scene.action.dies = 20
    with pytest.raises(KeyboardInterrupt):
        scene.verify()
    result = scene.verify()

    assert (result.effect, result.settled) == (Effect.WORSE, DONE)
    said = (
        "INC-1/1 Scale web: error_rate 0.4 → 0.9: worse (healthy is below 0.05) while it is under way:"
        " 5 of 36 pods are new"
    )
    assert warnings(scene) == [said]
    assert scene.ledger.incidents.get("INC-1").attention == said
    told = scene.ledger.outbox.claim(100, HOUR)
    assert [one.payload["whom"] for one in told if one.payload.get("text") == said] == [
        ["incident_commander"]
    ]


def test_a_step_without_a_signal_is_seen_with_a_later_one_s(make: Make) -> None:
    """A slow step before the verified one is not judged, and people hear that it makes things worse."""
    scene = make(World(GOOD), *pods(*range(36)), DONE, later=True, hold=MINUTES)
    scene.world.meantime = [TERRIBLE]
    result = scene.verify()

    assert (result.effect, result.settled, result.readings) == (Effect.INCONCLUSIVE, DONE, ())
    assert len(warnings(scene)) == 1


def test_what_a_rollout_does_to_its_own_signal_is_not_worse(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal that every change disturbs, as the share of new pods, says nothing meanwhile."""
    scene = make(slow(*[GOOD] * 11), *pods(*range(36)), DONE, hold=MINUTES, within=2 * MINUTES)
    scene.world.meantime = [TERRIBLE]
    monkeypatch.setattr(World, "steady", False)

    assert scene.verify().effect is Effect.EFFECTIVE
    assert not warnings(scene)
    assert [k8s.RolloutStatusProbe.steady, k8s.WarningEventsProbe.steady] == [False, False]


def test_a_look_that_is_refused_settles_nothing(make: Make) -> None:
    """While a step settles, a refusal to tell how far it is says nothing about the step."""
    scene = make(World(*[GOOD] * 6), *pods(1), ActionRefusedError("401"), DONE)

    assert scene.verify().effect is Effect.EFFECTIVE


def test_a_killed_worker_s_waiting_counts(make: Make) -> None:
    """What does not settle is not waited for anew by each worker; while nobody waited, no time has passed."""
    scene = make(World(GOOD), *pods(15))
    scene.action.dies = 11
    with pytest.raises(KeyboardInterrupt):
        scene.verify()
    scene.world.goes_on(HOUR)
    result = scene.verify()

    assert result.effect is Effect.INCONCLUSIVE
    assert scene.action.looks == 16


def test_what_has_settled_stays_so(make: Make) -> None:
    """A worker that goes on while the step is judged does not wait for the rollout a second time."""
    scene = make(World(BAD, BAD), *pods(35), DONE, *pods(35))
    with pytest.raises(KeyboardInterrupt):
        scene.verify()
    scene.world.values = [GOOD] * 6

    assert scene.verify().effect is Effect.EFFECTIVE
    assert scene.action.looks == 2


def test_nothing_is_waited_for_longer_than_an_attempt_may_take() -> None:
    """What a catalogue or a plan may want fits into the limits that the engine has."""
    longest = RULE.model_dump() | {"within": WITHIN_AT_MOST}
    assert Verification.model_validate(longest).within == WITHIN_AT_MOST
    with pytest.raises(ValidationError, match="less than or equal to 2 hours"):
        Verification.model_validate(longest | {"within": WITHIN_AT_MOST + SECOND})


def test_actions_say_how_long_they_may_take() -> None:
    """What is slow by nature has longer than the others, and none has longer than is ever waited for."""
    actions: list[Any] = [*k8s.ACTIONS, *aws.ACTIONS]
    minutes = {one.request_type.action: one.settles_within / timedelta(minutes=1) for one in actions}

    assert {minutes[name] for name in minutes if name.startswith("k8s.")} == {15}
    assert minutes["aws.roll_back_service"] == minutes["aws.set_service_count"] == 20
    assert minutes["aws.execute_region_switch"] == 60
    assert max(minutes.values()) < SETTLES_AT_MOST / timedelta(minutes=1)
