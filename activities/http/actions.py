"""What can be asked of a team's own endpoint."""

from datetime import timedelta
from typing import ClassVar

from activities.http.models import CallHook, HookService, HookStatus
from contracts.actions import Action
from contracts.base import JsonObject
from contracts.catalogue import Hook
from contracts.errors import ActionRefusedError, PreconditionFailedError, ProviderUnavailableError
from contracts.outcomes import Progress, Reached
from contracts.plans import Difference, Observation, Risk


class CallHookAction(Action[CallHook]):
    """Sends one signed request with an idempotency key to a team's own remediation endpoint.

    Where the catalogue has a `status_url`, what the endpoint says of the desired keys is the guard, and an
    answer that was lost is found out by reading. Without one only the answer says anything: when it is lost
    the step is in doubt, unless the endpoint declares that it carries out each key once; then the same
    request is sent again under the same key. While it works towards that nothing is sent.

    Idempotent: a second request has the same key and asks for the same state.
    Undo: what the catalogue declares, or else what the endpoint said before.
    """

    request_type = CallHook
    risk: ClassVar[Risk] = Risk.MEDIUM
    # One read and one request with the timeouts of the client, and some seconds to spare.
    in_flight: ClassVar[timedelta] = timedelta(seconds=25)

    def __init__(self, service: HookService) -> None:
        self._service = service

    def observe(self, request: CallHook) -> Observation:
        """Ask the endpoint how things are, where it can be asked."""
        hook = self._service.hook(request.hook)
        seen = self._service.status(hook)
        state = {} if seen is None else seen.model_dump(mode="json")
        return Observation(state=state, guard=_guard(request, hook, seen), at=self._service.now())

    def change(self, request: CallHook, observed: Observation) -> tuple[Difference, ...]:
        """Give each desired key that is not so and not on its way; all of them where nobody can look."""
        seen = _seen(observed)
        return _missing(seen.ahead if seen is not None else {}, request.desired)

    def preflight(self, request: CallHook, observed: Observation) -> tuple[str, ...]:
        """See that the secret is there and that somebody answers."""
        del observed
        try:
            self._service.check(self._service.hook(request.hook))
        except (ActionRefusedError, ProviderUnavailableError) as error:
            return (str(error),)
        return ()

    def apply(self, request: CallHook, observed: Observation, *, action_id: str) -> None:
        """Compare the guard once more, and send the request once with the action's id as its key."""
        hook = self._service.hook(request.hook)
        if _guard(request, hook, self._service.status(hook)) != observed.guard:
            raise PreconditionFailedError(f"{request.target}: was changed since it was read")
        self._service.send(hook, request, action_id=action_id)

    def is_reached(self, request: CallHook, observed: Observation) -> Progress:
        """Compare what is desired with what the endpoint says."""
        seen = _seen(observed)
        if seen is None:
            detail = f"hook {request.hook} has no status_url, so only its answer says anything"
            repeatable = self._service.hook(request.hook).once_per_key
            return Progress(reached=Reached.UNKNOWN, detail=detail, repeatable=repeatable)
        if _missing(seen.ahead, request.desired):
            said = ", ".join(f"{key} is {seen.state.get(key)!r}" for key in request.desired)
            away = f", and it is working towards {seen.wanted}" if seen.wanted else ""
            return Progress(reached=Reached.NO, detail=f"{request.hook}: {said}{away}")
        if not seen.wanted:
            return Progress(reached=Reached.YES, detail=f"{request.hook} is as desired")
        if seen.problem:
            return Progress(reached=Reached.FAILED, detail=f"{request.hook}: {seen.problem}")
        return Progress(reached=Reached.SETTLING, detail=f"{request.hook} is working on it")

    def undo(self, request: CallHook, observed: Observation) -> tuple[CallHook | None, str]:
        """Give what the catalogue declares, or else the former state of the same keys."""
        hook, seen = self._service.hook(request.hook), _seen(observed)
        if hook.undo is not None:
            back = CallHook(hook=hook.undo.hook or hook.name, desired=hook.undo.desired)
            return back, f"Asks hook {back.hook} for {_words(back.desired)}, as the catalogue says."
        if seen is None:
            return None, f"Hook {hook.name} has neither an undo nor a status_url in the catalogue."
        silent = [key for key in request.desired if key not in seen.state]
        if silent:
            return None, f"The status of hook {hook.name} does not tell {', '.join(silent)}."
        former = {key: seen.state[key] for key in request.desired}
        return request.model_copy(update={"desired": former}), f"Asks for {_words(former)} again."

    def blast_radius(self, request: CallHook, observed: Observation) -> str:
        """Say what its team says."""
        del observed
        hook = self._service.hook(request.hook)
        return f"{hook.blast_radius.rstrip('.')}; hook {hook.name} does it, told at {hook.url}."


def _seen(observed: Observation) -> HookStatus | None:
    return HookStatus.model_validate(observed.state) if observed.state else None


def _missing(state: JsonObject, desired: JsonObject) -> tuple[Difference, ...]:
    return tuple(
        Difference(path=key, before=state.get(key), after=value)
        for key, value in desired.items()
        if key not in state or state[key] != value
    )


def _guard(request: CallHook, hook: Hook, seen: HookStatus | None) -> JsonObject:
    """Give what voids an approval: another address, or another state of what is to be changed."""
    if seen is None:
        return {"url": hook.url}
    state = {f"state.{key}": seen.state.get(key) for key in request.desired}
    return {"url": hook.url, "wanted": seen.wanted, **state}


def _words(desired: JsonObject) -> str:
    return ", ".join(f"{key} {value}" for key, value in desired.items())
