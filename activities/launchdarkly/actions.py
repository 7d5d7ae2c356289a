"""What can be done to a flag."""

from datetime import timedelta
from typing import ClassVar

from pydantic import TypeAdapter

from activities.launchdarkly.models import FlagSeen, FlagService, SdkSight, SetFlag
from contracts.actions import Action
from contracts.errors import ActionRefusedError, PreconditionFailedError
from contracts.outcomes import Progress, Reached
from contracts.plans import Difference, Observation, Risk

WORDS = {True: "on", False: "off"}
_SIGHT = TypeAdapter(SdkSight | None)


class SetFlagAction(Action[SetFlag]):
    """Turns a flag's targeting on or off in one environment.

    It is guarded by the flag's state and its version in that environment: whatever somebody else changes
    there voids an approval. LaunchDarkly has no conditional semantic patch, so the guard is compared right
    before the call; a change that slips in between survives, as the patch touches nothing but on and off.
    Rules and targets that somebody changes while it is off stay so; the plan of its undo says it, with high
    risk.

    Idempotent: a second call finds the flag as it should be and changes nothing, not even its version.
    Undo: the former state, on or off.
    """

    request_type = SetFlag
    risk: ClassVar[Risk] = Risk.LOW
    # One read and one change with the timeouts of the client, and two seconds to spare.
    in_flight: ClassVar[timedelta] = timedelta(seconds=20)

    def __init__(self, service: FlagService) -> None:
        self._service = service

    def observe(self, request: SetFlag) -> Observation:
        """Read the flag, who depends on it, and what SDKs have of it."""
        seen = self._read(request)
        sight = self._service.sight(seen)
        state = seen.model_dump(mode="json", exclude={"project", "environment", "key"})
        dependents = self._service.dependents(request.project, request.environment, request.key)
        state["dependents"] = None if dependents is None else list(dependents)
        state["sdk"] = None if sight is None else sight.model_dump(mode="json")
        return Observation(state=state, guard=_guard(seen), at=self._service.now())

    def change(self, request: SetFlag, observed: Observation) -> tuple[Difference, ...]:
        """Give ``on`` before and after."""
        on = observed.state["on"]
        return () if on == request.on else (Difference(path="on", before=on, after=request.on),)

    def preflight(self, request: SetFlag, observed: Observation) -> tuple[str, ...]:
        """Ask LaunchDarkly for a dry run."""
        if observed.state["archived"]:
            return (f"{request.target}: is archived, so no SDK gets it and switching it has no effect",)
        try:
            self._service.set_flag(request, comment="dry run", dry_run=True)
        except ActionRefusedError as error:
            return (str(error),)
        return ()

    def apply(self, request: SetFlag, observed: Observation, *, action_id: str) -> None:
        """Compare the guard once more, and send the patch once with the action's id as comment."""
        seen = self._read(request)
        if _guard(seen) != observed.guard:
            raise PreconditionFailedError(
                f"{request.target}: was changed since it was read: "
                f"it is {WORDS[seen.on]} in version {seen.version}"
            )
        self._service.set_flag(request, comment=action_id)

    def is_reached(self, request: SetFlag, observed: Observation) -> Progress:
        """Say yes when the API and, where the catalogue has an SDK key, a connected SDK have it."""
        reached, said = self._reached(request, observed)
        return Progress(reached=reached, detail=f"{request.key} is {said}")

    def _reached(self, request: SetFlag, observed: Observation) -> tuple[Reached, str]:
        want = WORDS[request.on]
        if observed.state["on"] != request.on:
            return Reached.NO, WORDS[not request.on]
        sight = _SIGHT.validate_python(observed.state.get("sdk"))
        if sight is None:
            return Reached.YES, f"{want}; SDKs are not observed"
        if sight.problem:
            return Reached.YES, f"{want}; whether SDKs have it is not known: {sight.problem}"
        if sight.stream == request.on:
            return Reached.YES, f"{want}, and a connected SDK has it"
        if sight.polled == request.on:
            return Reached.SETTLING, f"{want} for SDKs that poll, but the stream has not delivered it yet"
        return Reached.SETTLING, f"{want} in LaunchDarkly, but no SDK has it yet"

    def undo(self, request: SetFlag, observed: Observation) -> tuple[SetFlag | None, str]:
        """Give the former state."""
        if observed.state["on"] == request.on:
            return None, f"{request.key} was {WORDS[request.on]} already, so there is nothing to bring back"
        back = {"on": not request.on, "targeting": observed.state.get("targeting", "")}
        return request.model_copy(update=back), ""

    def moved(self, request: SetFlag, observed: Observation) -> str:
        """Say whether the flag's rules, targets or prerequisites are other ones by now."""
        is_other = request.targeting not in ("", observed.state["targeting"])
        return "its rules, targets or prerequisites were changed since" if is_other else ""

    def blast_radius(self, request: SetFlag, observed: Observation) -> str:
        """Say what everybody gets from then on, and which flags follow."""
        seen = FlagSeen.model_validate(
            {**observed.state, **request.model_dump(include={"project", "environment", "key"})}
        )
        where = f"{request.project}/{request.environment}"
        rules = f"{_count(seen.rules, 'rule')} and {_count(seen.targets, 'target')}"
        if request.on:
            serves = seen.serves_else or "each application's own default"
            served = f"Everybody in {where} gets what its {rules} say, and {serves} where they say nothing"
        else:
            serves = seen.serves_off or "each application's own default"
            served = f"Everybody in {where} gets {serves}, whatever its {rules} say"
        needs = seen.prerequisites
        its = f"; it has {_count(len(needs), 'flag')} as prerequisite: {', '.join(needs)}" if needs else ""
        return f"{served}{its}; {_followers(observed.state['dependents'])}."

    def _read(self, request: SetFlag) -> FlagSeen:
        return self._service.flag(request.project, request.environment, request.key)


def _guard(seen: FlagSeen) -> dict[str, bool | int]:
    return {"on": seen.on, "version": seen.version}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _followers(dependents: object) -> str:
    if not isinstance(dependents, list):
        return "which flags depend on it is not known"
    if not dependents:
        return "no flag depends on it"
    flags = _count(len(dependents), "flag")
    return f"{flags} with it as prerequisite may change too: {', '.join(dependents)}"
