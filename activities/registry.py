"""Which actions and probes this worker has; the composition root fills it, so a provider shows in a diff."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from contracts.actions import Action, ActionRequest, Probe, ProbeRequest
from contracts.base import Frozen, JsonObject
from contracts.errors import ActionRefusedError, ProviderUnavailableError, first_wrong, one_line
from contracts.plans import ActionCall, ProbeCall, Reading

ModelT = TypeVar("ModelT", bound=Frozen)


class Registry:
    """The catalogue of verbs and looks: what is not in it cannot be done."""

    def __init__(self, actions: Iterable[Action[Any]], probes: Iterable[Probe[Any, Any]]) -> None:
        self.actions = {action.request_type.action: action for action in actions}
        self.probes = {probe.request_type.probe: probe for probe in probes}

    def action(self, call: ActionCall) -> tuple[Action[Any], ActionRequest]:
        """Find the action of a call, and its request.

        Raises:
            ActionRefusedError: There is no such action, its arguments are wrong, or its target is not theirs.
        """
        request = self.request(call.name, call.arguments)
        if request.target != call.target:
            raise ActionRefusedError(
                f"{call.name}: its arguments are for {request.target}, not {call.target}"
            )
        return self.actions[call.name], request

    def request(self, name: str, arguments: JsonObject) -> ActionRequest:
        """Make an action's request of what a person has written.

        Raises:
            ActionRefusedError: There is no such action, or its arguments are wrong.
        """
        action = self.actions.get(name)
        if action is None:
            raise ActionRefusedError(f"{name}: this worker has no such action")
        kind: type[ActionRequest] = action.request_type
        return _valid(kind, name, arguments)

    def look(self, request: ProbeRequest[Any]) -> Frozen:
        """Look once.

        Raises:
            ActionRefusedError: There is no such probe, or the source says no.
            ProviderUnavailableError: The source does not answer.
        """
        seen: Frozen = self._probe(request.probe).look(request)
        return seen

    def see(self, call: ProbeCall) -> Frozen:
        """Look once, as a call says.

        Raises:
            ActionRefusedError: There is no such probe, its arguments are wrong, or the source says no.
            ProviderUnavailableError: The source does not answer.
        """
        kind: type[ProbeRequest[Any]] = self._probe(call.name).request_type
        return self.look(_valid(kind, call.name, call.arguments))

    def _probe(self, name: str) -> Probe[Any, Any]:
        if name not in self.probes:
            raise ActionRefusedError(f"{name}: this worker has no such probe")
        return self.probes[name]

    def measure(self, call: ProbeCall) -> Reading:
        """Take one reading through a probe that measures.

        Raises:
            ActionRefusedError: There is no such probe, its arguments are wrong, or it does not measure.
            ProviderUnavailableError: The source does not answer.
        """
        reading = self.see(call)
        if not isinstance(reading, Reading):
            raise ActionRefusedError(f"{call.name}: gives no reading, so nothing can be verified with it")
        return reading

    def read(self, call: ProbeCall, clock: Callable[[], datetime]) -> Reading:
        """Read a signal; what cannot be read now is no data, with the reason."""
        try:
            return self.measure(call)
        except (ActionRefusedError, ProviderUnavailableError) as error:
            return Reading(value=None, at=clock(), detail=one_line(error))


def _valid(kind: type[ModelT], name: str, arguments: JsonObject) -> ModelT:
    try:
        return kind.model_validate(arguments)
    except ValidationError as error:
        raise ActionRefusedError(f"{name}: {first_wrong(error)}") from error
