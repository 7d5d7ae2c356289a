"""When a service is moved to another region, in which way, and what stands against it."""
# ruff: noqa: ARG002  (the toys give what the protocol asks for and need little of it)

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from activities.planning import RegistryLook
from activities.registry import Registry
from contracts.actions import Action, ActionRequest, Probe, ProbeRequest
from contracts.catalogue import Failover, ServiceEnvironment, Signal
from contracts.errors import NothingToProposeError, ProviderUnavailableError
from contracts.in_force import InForce, StepInForce
from contracts.incidents import Alert, Attempt, AttemptEnd, Incident, Severity
from contracts.outcomes import Progress, Reached
from contracts.plans import Difference, Observation, Proposal, Risk, Target, undo_order
from playbooks.fail_over import Params, plan

NOW = datetime(2026, 11, 21, 15, tzinfo=UTC)
TITLE = "Fail shop over from eu to us"


class Move(ActionRequest):
    """Have a part of the service in a region."""

    action: ClassVar[str] = "toy.move"

    part: str
    region: str
    mode: str = "graceful"
    version: str = ""

    @property
    def target(self) -> Target:
        """The part."""
        return Target(provider="toy", kind="part", path=(self.part,))

    def as_of(self, observed: Observation) -> "Move":
        """Take the version that is there."""
        return self.model_copy(update={"version": observed.state["version"]})


class MoveAction(Action[Move]):
    """Moves a part, unless it is said why not.

    Idempotent: yes.
    Undo: back.
    """

    request_type = Move
    risk: ClassVar[Risk] = Risk.LOW
    idempotent: ClassVar[str] = "yes"

    def __init__(self) -> None:
        self.refused: dict[tuple[str, str], str] = {}
        self.away: set[str] = set()

    def observe(self, request: Move) -> Observation:
        """Read the part."""
        return Observation(state={"version": "7"}, guard={}, at=NOW)

    def change(self, request: Move, observed: Observation) -> tuple[Difference, ...]:
        """Give the region."""
        return (Difference(path="region", after=request.region),)

    def preflight(self, request: Move, observed: Observation) -> tuple[str, ...]:
        """Say why not."""
        if request.part in self.away:
            raise ProviderUnavailableError(f"{request.part}: cannot be asked")
        said = self.refused.get((request.part, request.mode))
        return (said,) if said else ()

    def apply(self, request: Move, observed: Observation, *, action_id: str) -> None:
        """Never."""
        raise AssertionError(action_id)

    def is_reached(self, request: Move, observed: Observation) -> Progress:
        """Never."""
        return Progress(reached=Reached.NO)

    def undo(self, request: Move, observed: Observation) -> tuple[Move | None, str]:
        """Nothing."""
        return None, ""

    def blast_radius(self, request: Move, observed: Observation) -> str:
        """Say who."""
        return "Everybody."


class Serves(ProbeRequest[Progress]):
    """Does the region serve?"""

    probe: ClassVar[str] = "toy.serves"

    region: str


class ServesProbe(Probe[Serves, Progress]):
    """Says what it is told to say."""

    request_type = Serves

    def __init__(self) -> None:
        self.says: dict[str, Reached] = {}

    def look(self, request: Serves) -> Progress:
        """Look once."""
        return Progress(reached=self.says.get(request.region, Reached.YES), detail=f"{request.region} said")


def step(part: str, to: str, *, forced: bool = False, first: bool = False) -> dict[str, Any]:
    """Give a step of a move as the catalogue has it."""
    arguments = {"part": part, "region": to}
    more = {"forced": {"mode": "ungraceful"}} if forced else {}
    return {
        "title": f"Move {part}",
        "action": "toy.move",
        "arguments": arguments,
        "undo_first": first,
        **more,
    }


def move(away_from: str, to: str) -> dict[str, Any]:
    """Give a move as the catalogue has it: standby, database, traffic."""
    steps = [step("standby", to), step("database", to, forced=True, first=True), step("traffic", to)]
    ready = [{"name": "toy.serves", "arguments": {"region": to}}]
    return {"away_from": away_from, "to": to, "steps": steps, "ready": ready}


class Scene:
    """A service in three regions, with moves from each of the first two to the other."""

    def __init__(self, **failover: Any) -> None:
        self.moves, self.serves = MoveAction(), ServesProbe()
        serving = {"asia": {"name": "toy.serves", "arguments": {"region": "asia"}}}
        spec = {"moves": [move("eu", "us"), move("us", "eu")], "serving": serving, **failover}
        self.service = ServiceEnvironment(
            regions=("eu", "us", "asia"),
            failover=Failover.model_validate(spec),
            signals={"error_rate": Signal(prometheus="main", query="q", healthy_below=0.05)},
        )
        self.in_force: Sequence[InForce] = ()

    async def propose(self, incident: Incident, **params: Any) -> Proposal:
        """Ask the playbook."""
        registry = Registry([self.moves], [self.serves])
        look = RegistryLook(registry, self.service, NOW, lambda: self.in_force)
        return await plan(incident, Params.model_validate(params), look)

    async def refusal(self, incident: Incident, **params: Any) -> str:
        """Ask the playbook, which has nothing to propose."""
        with pytest.raises(NothingToProposeError) as error:
            await self.propose(incident, **params)
        return str(error.value)


def incident(*regions: str | None, region: str | None = None, attempts: Sequence[Attempt] = ()) -> Incident:
    """Give an incident with an alert of each of these regions."""
    alerts = tuple(
        Alert(source="t", fingerprint=str(one), starts_at=NOW, name="Down", service="shop", region=one)
        for one in regions
    )
    return Incident(
        id="INC-1",
        title="t",
        service="shop",
        environment="production",
        region=region,
        severity=Severity.SEV1,
        opened_at=NOW,
        alerts=alerts,
        attempts=tuple(attempts),
    )


def attempt(end: AttemptEnd, title: str = TITLE) -> Attempt:
    """Give a former attempt."""
    actions = ("toy.move toy:part/database", "toy.move toy:part/traffic", "toy.move toy:part/standby")
    digest = "0" * 64
    return Attempt(
        mitigation="INC-1/1", playbook="fail-over", title=title, plan_digest=digest, end=end, actions=actions
    )


async def test_the_move_away_from_the_region_of_the_alerts() -> None:
    """The steps come in the catalogue's order, absolute, gracefully, each with what it has ungracefully."""
    proposal = await Scene().propose(incident("eu", None))

    assert proposal.title == TITLE
    assert [one.title for one in proposal.steps] == ["Move standby", "Move database", "Move traffic"]
    assert [one.action.arguments["mode"] for one in proposal.steps] == ["graceful"] * 3
    assert [one.action.arguments["version"] for one in proposal.steps] == ["7"] * 3
    assert [one.forced and one.forced.arguments["mode"] for one in proposal.steps] == [
        None,
        "ungraceful",
        None,
    ]
    assert [one.verification is not None for one in proposal.steps] == [False, False, True]
    assert proposal.undo_when == ()
    assert "us, asia would serve afterwards" in proposal.rationale


async def test_the_database_goes_first_both_ways() -> None:
    """On the way back the writer moves before the traffic, and the standby is scaled in last."""
    proposal = await Scene().propose(incident("eu"))

    assert [one.title for one in undo_order(proposal.steps)] == [
        "Move database",
        "Move traffic",
        "Move standby",
    ]


@pytest.mark.parametrize(
    ("given", "params", "title"),
    [
        (incident(region="us"), {}, "Fail shop over from us to eu"),
        (incident(), {"away_from": "us"}, "Fail shop over from us to eu"),
        (incident("eu", "mars"), {}, TITLE),
        (incident("eu", "asia"), {"away_from": "eu"}, TITLE),
    ],
)
async def test_which_region_is_unhealthy(given: Incident, params: dict[str, Any], title: str) -> None:
    """The alerts tell, or the incident, or who asks; other labels say nothing."""
    assert (await Scene().propose(given, **params)).title == title


@pytest.mark.parametrize(
    ("given", "params", "said"),
    [
        (incident("mars"), {}, "no alert tells which region is unhealthy; name one of shop's as away_from"),
        (incident("eu", "asia"), {}, "eu, asia are unhealthy; name one of shop's as away_from"),
        (incident("eu", "us"), {"away_from": "eu"}, "shop has no move away from eu to a healthy region"),
        (incident("asia"), {}, "shop has no move away from asia to a healthy region"),
        (incident("eu"), {"to": "asia"}, "shop has no move away from eu to a healthy region"),
    ],
)
async def test_no_move(given: Incident, params: dict[str, Any], said: str) -> None:
    """Without one unhealthy region and a healthy one to go to there is nothing to propose."""
    assert said in await Scene().refusal(given, **params)


@pytest.mark.parametrize("says", [Reached.NO, Reached.UNKNOWN, Reached.FAILED])
async def test_a_region_that_is_not_ready(says: Reached) -> None:
    """Nothing goes to a region that is not ready or cannot be seen, unless somebody accepts that by name."""
    scene = Scene()
    scene.serves.says["us"] = says

    assert await scene.refusal(incident("eu")) == (
        f"{TITLE}: us is not ready: toy.serves of us: us said (accept ready to go on)"
    )
    assert (await scene.propose(incident("eu"), accept=["ready"])).title == TITLE


async def test_a_step_that_would_be_refused() -> None:
    """A step that would be refused and has no other way stands against the whole move."""
    scene = Scene()
    scene.moves.refused["traffic", "graceful"] = "no such record"

    assert "step of toy:part/traffic: no such record" in await scene.refusal(incident("eu"))


async def test_what_cannot_be_seen_of_a_step_is_said() -> None:
    """A provider that does not answer a check is no reason to stay in an unhealthy region."""
    scene = Scene()
    scene.moves.away.add("standby")
    proposal = await scene.propose(incident("eu"))

    assert "Not known to be ready: step of toy:part/standby: standby: cannot be asked" in proposal.rationale


@pytest.mark.parametrize("end", [AttemptEnd.REFUSED, AttemptEnd.INEFFECTIVE, AttemptEnd.IN_DOUBT])
async def test_after_a_failed_graceful_attempt_the_ungraceful_one(end: AttemptEnd) -> None:
    """What could not be done gracefully is proposed ungracefully, and the plan says so in its title."""
    proposal = await Scene().propose(incident("eu", attempts=[attempt(end)]))

    assert proposal.title == f"{TITLE}, ungracefully"
    assert [one.action.arguments["mode"] for one in proposal.steps] == ["graceful", "ungraceful", "graceful"]
    assert all(one.forced is None for one in proposal.steps)
    assert proposal.repeats
    assert f"Move database: gracefully it was {end} in INC-1/1" in proposal.rationale


async def test_a_graceful_way_that_would_be_refused() -> None:
    """When the region is gone the graceful way is refused before it starts: the other one is proposed."""
    scene = Scene()
    scene.moves.refused["database", "graceful"] = "a switchover needs it available"
    proposal = await scene.propose(incident("eu"))

    assert proposal.title == f"{TITLE}, ungracefully"
    assert "gracefully it would be refused (a switchover needs it available)" in proposal.rationale


@pytest.mark.parametrize("title", [TITLE, f"{TITLE}, ungracefully"])
@pytest.mark.parametrize("end", [AttemptEnd.REJECTED, AttemptEnd.EFFECTIVE, AttemptEnd.WORSE])
async def test_what_was_tried_is_not_proposed_again(title: str, end: AttemptEnd) -> None:
    """A move that was done, made it worse or was not wanted is not proposed again, in neither way."""
    said = await Scene().refusal(incident("eu", attempts=[attempt(end, title)]))

    assert said == f"{title}: was tried in INC-1/1, {end}"


@pytest.mark.parametrize("end", [AttemptEnd.EXPIRED, AttemptEnd.DRIFTED, AttemptEnd.WITHDRAWN])
async def test_what_nobody_decided_is_proposed_again(end: AttemptEnd) -> None:
    """A plan that ran out or drifted was not tried."""
    assert (await Scene().propose(incident("eu", attempts=[attempt(end)]))).title == TITLE


async def test_enough_regions_serve_afterwards() -> None:
    """What counts is how many healthy regions serve after the move: unhealthy and closed ones do not."""
    scene = Scene(regions_on=2)
    assert (await scene.propose(incident("eu"))).title == TITLE
    scene.serves.says["asia"] = Reached.NO
    closed = await scene.refusal(incident("eu"))
    scene.serves.says["asia"] = Reached.YES
    unhealthy = await scene.refusal(incident("eu", "asia"), away_from="eu")

    assert closed == unhealthy
    assert closed == (f"{TITLE}: only us would serve then, at least 2 are to (accept regions-on to go on)")
    assert (await scene.propose(incident("eu", "asia"), away_from="eu", accept=["regions-on"])).title == TITLE


def left_behind(title: str, minutes_ago: float, *, undone_minutes_ago: float | None = None) -> InForce:
    """Give what a former move has left behind."""
    call = Move(part="traffic", region="us").call()
    at = NOW - timedelta(minutes=minutes_ago)
    undone = None if undone_minutes_ago is None else NOW - timedelta(minutes=undone_minutes_ago)
    step = StepInForce(step=1, title="t", action=call, undo=call, since=at, undone_at=undone)
    return InForce(
        mitigation="INC-0/1",
        incident="INC-0",
        service="shop",
        environment="production",
        title=title,
        plan_digest="0" * 64,
        owner="ada",
        steps=(step,),
        since=at,
        expires_at=NOW + timedelta(days=1),
    )


@pytest.mark.parametrize(
    ("made", "flaps"),
    [
        (left_behind("Fail shop over from us to eu", 5), True),
        (left_behind("Fail shop over from us to eu, ungracefully", 5), True),
        (left_behind("Fail shop over from us to eu", 16), False),
        (left_behind(TITLE, 5), False),  # the same way: pushing on is no flapping
        (left_behind(TITLE, 60, undone_minutes_ago=5), True),  # it has failed back
        (left_behind(TITLE, 60, undone_minutes_ago=16), False),
        (left_behind("Restart the pods of shop", 1), False),
    ],
)
async def test_no_flapping(made: InForce, flaps: bool) -> None:  # noqa: FBT001  (pytest's)
    """For the catalogue's time after a move there is no other one, of whichever incident, forth or back."""
    scene = Scene()
    scene.in_force = [made]

    if flaps:
        assert "against flapping (accept wait to go on)" in await scene.refusal(incident("eu"))
        assert (await scene.propose(incident("eu"), accept=["wait"])).title == TITLE
    else:
        assert (await scene.propose(incident("eu"))).title == TITLE


async def test_a_service_without_failover() -> None:
    """What the catalogue does not say is not done."""
    scene = Scene()
    scene.service = scene.service.model_copy(update={"failover": None})

    assert await scene.refusal(incident("eu")) == "shop has no failover in production"
