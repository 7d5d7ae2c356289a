"""The protocol that every action and every probe gives."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from contracts.base import Frozen
from contracts.outcomes import Progress
from contracts.plans import ActionCall, Difference, Observation, ProbeCall, Reach, Risk, Target

# Nothing is waited for longer than this, however much goes on there: then a person looks at it.
SETTLES_AT_MOST = timedelta(hours=2)
# Arguments that ask for nothing: when it was asked for, what people call what ``template_hash`` says, and
# what is only compared.
# A yes to one plan holds for the next one whatever these are.
ONLY_TOLD = frozenset({"restarted_at", "revision", "targeting"})


class ActionRequest(Frozen, ABC):
    """The absolute desired state of one target. Subclasses are plain data and know no SDK.

    Class attributes:
        action: The stable name, ``<provider>.<verb_phrase>``.
    """

    action: ClassVar[str]

    @property
    @abstractmethod
    def target(self) -> Target:
        """The one thing that it changes."""

    def as_of(self, observed: Observation) -> Self:
        """Give the same made absolute against what was observed, where what is wanted depends on that."""
        del observed
        return self

    @property
    def attempt(self) -> str:
        """What is not proposed again when it did not help: action and target, however its arguments are.

        A request that names one of several states to go back to adds which, so that the next may follow.
        """
        return f"{self.action} {self.target}"

    def call(self) -> ActionCall:
        """Give the same as data, for a plan."""
        return ActionCall(name=self.action, target=self.target, arguments=self.model_dump(mode="json"))


StateT = TypeVar("StateT", bound=Frozen)
ResultT = TypeVar("ResultT", bound=Frozen)
ResultT_co = TypeVar("ResultT_co", bound=Frozen, covariant=True)
RequestT = TypeVar("RequestT", bound=ActionRequest)
ProbeRequestT = TypeVar("ProbeRequestT", bound="ProbeRequest[Frozen]")
# Gives what was lately done to a target, by whomever of ours, and how long ago each was.
Made = Callable[[], Sequence[tuple[ActionCall, timedelta]]]


class ProbeRequest(Frozen, Generic[ResultT_co]):
    """One look; the type parameter is what it sees.

    Class attributes:
        probe: The stable name, ``<provider>.<noun>``.
    """

    probe: ClassVar[str]

    def call(self) -> ProbeCall:
        """Give the same as data, for a verification."""
        return ProbeCall(name=self.probe, arguments=self.model_dump(mode="json"))


class Action(ABC, Generic[RequestT]):
    """One verb of one provider. All methods are synchronous and run in a thread.

    Every method may raise ``ActionRefusedError`` (final, nothing changed) or ``ProviderUnavailableError``
    (retry), and nothing else on purpose. SDK retries are off in ``apply``.

    Class attributes:
        request_type: Its request model; ``request_type.action`` is its name.
        risk: What it declares; a playbook may raise it.
        in_flight: The longest that one ``apply`` can still reach the provider after it began. A run that
            finds an intent without an outcome waits this long before it concludes that nothing happened.
        settles_within: How long it is waited for that the provider has carried it out, counted anew whenever
            ``is_reached`` says something that it has not said before, ``SETTLES_AT_MOST`` altogether.
    """

    request_type: type[RequestT]
    risk: ClassVar[Risk]
    in_flight: ClassVar[timedelta] = timedelta(seconds=15)
    settles_within: ClassVar[timedelta] = timedelta(minutes=10)

    @property
    def idempotent(self) -> str:
        """What a second call does, as its docstring says it; shown to the approver."""
        said = (type(self).__doc__ or "").partition("Idempotent: ")[2].partition("Undo: ")[0]
        said = " ".join(said.split())
        return said[:1].upper() + said[1:]

    @abstractmethod
    def observe(self, request: RequestT) -> Observation:
        """Read the target. Retries freely."""

    @abstractmethod
    def change(self, request: RequestT, observed: Observation) -> tuple[Difference, ...]:
        """Give the exact difference that ``apply`` would make; empty means that nothing has to be done."""

    @abstractmethod
    def preflight(self, request: RequestT, observed: Observation) -> tuple[str, ...]:
        """Ask the provider, by dry run and permission check, why it would refuse; empty is good."""

    def waits_for(self, request: RequestT, observed: Observation, made: Made) -> str:  # noqa: ARG002  (others look at them)
        """Say in one sentence what has to end before ``apply``; empty: nothing. Then it is asked again."""
        return ""

    @abstractmethod
    def apply(self, request: RequestT, observed: Observation, *, action_id: str) -> None:
        """Send the change once, guarded by ``observed.guard``.

        Args:
            request: The desired state.
            observed: The target as read just now; its guard becomes the call's precondition.
            action_id: The journal's key; left at the provider as comment or annotation where it has one.

        Raises:
            PreconditionFailedError: The target is no longer as observed; nothing was changed.
            ActionRefusedError: The provider said no; nothing was changed.
            ProviderUnavailableError: See its ``may_have_applied``.
        """

    @abstractmethod
    def is_reached(self, request: RequestT, observed: Observation) -> Progress:
        """Compare an observed target with the desired state."""

    @abstractmethod
    def undo(self, request: RequestT, observed: Observation) -> tuple[RequestT | None, str]:
        """Give the absolute request that brings ``observed`` back, or ``None`` and the reason."""

    def moved(self, request: RequestT, observed: Observation) -> str:  # noqa: ARG002  (others look at them)
        """Say of a way back what it would bring back otherwise than it was; empty: nothing.

        Args:
            request: The way back.
            observed: The target of the action that it undoes, as that reads it.
        """
        return ""

    @abstractmethod
    def blast_radius(self, request: RequestT, observed: Observation) -> str:
        """Say in one sentence who and what is touched while it runs."""

    def reach(self, request: RequestT, observed: Observation) -> Reach:  # noqa: ARG002  (others look at them)
        """Give what the guardrails count of it."""
        return Reach()


Wanted = dict[str, tuple[Any, Any]]
"""Of each field its name, what it is and what it should be."""


class Compared(ABC, Generic[RequestT, StateT]):
    """What the actions of a provider share whose targets are read as one model and changed field by field.

    Class attributes:
        state_type: What ``observe`` reads.
    """

    state_type: type[StateT]

    def state(self, observed: Observation) -> StateT:
        """Read what was observed."""
        return self.state_type.model_validate(observed.state)

    def change(self, request: RequestT, observed: Observation) -> tuple[Difference, ...]:
        """Give what differs, field by field."""
        return self._change(request, self.state(observed))

    def _change(self, request: RequestT, state: StateT) -> tuple[Difference, ...]:
        return tuple(
            Difference(path=path, before=before, after=after)
            for path, (before, after) in self._wanted(request, state).items()
            if before != after
        )

    @abstractmethod
    def _wanted(self, request: RequestT, state: StateT) -> Wanted:
        """Give each field that it is about."""


class Probe(ABC, Generic[ProbeRequestT, ResultT]):
    """One look at the world: reads only, and retries freely.

    Class attributes:
        request_type: Its request model; ``request_type.probe`` is its name.
        steady: False where what it measures gets worse by itself while a change is carried out.
    """

    request_type: type[ProbeRequestT]
    steady: ClassVar[bool] = True

    @abstractmethod
    def look(self, request: ProbeRequestT) -> ResultT:
        """Look once.

        Raises:
            ActionRefusedError: The source says no, or there is no such thing.
            ProviderUnavailableError: The source does not answer.
        """


class Look(Protocol):
    """What a playbook may use to see: read-only."""

    async def at(self, request: ProbeRequest[ResultT]) -> ResultT:
        """Look once through a probe."""

    async def observe(self, request: ActionRequest) -> Observation:
        """Read an action's target as the action itself reads it."""
