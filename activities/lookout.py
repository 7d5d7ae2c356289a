"""Looks that go on beside the incidents: at signals while a person thinks, at what is in force, at failovers.

It only looks, and holds no slot of the engine's. What is to be watched is read from the ledger and the
catalogue at every turn, and shared among the workers there. Trouble with one thing is that thing's alone: it
is looked at again later.
"""

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from activities.registry import Registry
from activities.rehearsal import Rehearsal
from authority.directory import on_call
from contracts import names
from contracts.approvals import ApprovalState
from contracts.base import JsonObject
from contracts.catalogue import Catalogue, Failover
from contracts.errors import ActionRefusedError, ForbiddenError, ProviderUnavailableError
from contracts.evidence import ENGINE, Evidence, EvidenceKind
from contracts.in_force import ForceState, InForce, StepInForce
from contracts.incidents import AttemptEnd
from contracts.outcomes import Direction, Outcome, Reached
from contracts.plans import Reading, Verification
from contracts.readiness import CheckState, Readiness, ReadinessCheck
from contracts.watches import LEAST, SignalNow, Watch, gap
from ledger import Ledger
from ledger import readiness as records
from ledger.storable import one_line
from ledger.watches import question

LOG = logging.getLogger("stanch.lookout")

TURN = 2.0  # seconds
AT_ONCE = 8  # a provider that answers slowly holds one of so many threads
LEASE = timedelta(minutes=2)  # longer than any look takes; a killed worker's things wait for so long
ENDING = 3.0  # seconds that looks may take to end with the worker

# Who fights back does so soon; later it is somebody who tidies up.
FRESH = timedelta(minutes=10)
IN_FORCE_FIRST = timedelta(seconds=30)
IN_FORCE_LATER = timedelta(minutes=30)
SURE = timedelta(seconds=5)  # one look may be stale, or see a change of ours that is not in the journal yet
SOON = 10  # seconds after the start until the last failover has been looked at


@dataclass(kw_only=True)
class Lookout:
    """Looks, turn by turn, at whatever is due.

    Attributes:
        ledger: Says what waits and what is in force, and keeps what was seen.
        catalogue: Says which failovers there are, and who is on call.
        registry: Whose actions and probes.
        rehearsal: The dry run of a failover; without it none is looked at.
        clock: The time.
        rules: Of the questions that wait.
    """

    ledger: Ledger
    catalogue: Catalogue
    registry: Registry
    rehearsal: Rehearsal | None
    clock: Callable[[], datetime]
    rules: dict[str, dict[int, Verification]] = field(default_factory=dict, init=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look out until the block ends."""
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="lookout")
        looks: set[asyncio.Future[None]] = set()
        task = asyncio.create_task(self._run(pool, looks))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task, *looks}, timeout=ENDING)
            pool.shutdown(wait=not looks, cancel_futures=True)  # nobody waits for a provider that hangs

    async def _run(self, pool: ThreadPoolExecutor, looks: set[asyncio.Future[None]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                free = AT_ONCE - len(looks)
                for claimed in await loop.run_in_executor(pool, self.claim, free) if free else ():
                    look = loop.run_in_executor(pool, self.look, claimed)
                    looks.add(look)
                    look.add_done_callback(looks.discard)
            except Exception:
                LOG.exception("nothing could be looked at in this turn")
            await asyncio.sleep(TURN)

    def claim(self, limit: int = AT_ONCE) -> list[Watch]:
        """Take what is due; what has come up since the last turn is due too."""
        self.ledger.watches.arrange(self._wanted())
        return self.ledger.watches.claim(limit, LEASE)

    def look(self, claimed: Watch) -> None:
        """Look at one thing; whatever goes wrong is logged, and concerns this one only."""
        kind, _, name = claimed.item.partition("/")
        try:
            match kind:
                case "question":
                    self._question(claimed, name)
                case "in_force":
                    self._in_force(claimed, name)
                case "readiness":
                    self._readiness(claimed, name)
        except Exception:
            LOG.exception("%s: could not be looked at", claimed.item)

    def _wanted(self) -> dict[str, datetime]:
        now = self.clock()
        pending = {one.id: one for one in self.ledger.approvals.list(ApprovalState.PENDING, limit=1000)}
        for gone in self.rules.keys() - pending.keys():
            del self.rules[gone]
        for name in pending.keys() - self.rules.keys():
            self.rules[name] = self._rules_of(name)
        wanted = {f"{question(name)}{step}": now for name, rules in self.rules.items() for step in rules}
        wanted |= {f"in_force/{one.mitigation}": now + IN_FORCE_FIRST for one in self.ledger.in_force.list()}
        for service, environment, _ in self._failovers():
            item = records.item(service, environment)
            wanted[item] = now + timedelta(seconds=zlib.crc32(item.encode()) % SOON)
        return wanted

    def _rules_of(self, approval: str) -> dict[int, Verification]:
        """Give a question's verifications by step; one that several steps share is read once."""
        try:
            plan = self.ledger.approvals.get(approval).plan
        except ForbiddenError as error:
            LOG.warning("%s: its signals are not read: %s", approval, error)
            return {}
        rules: dict[int, Verification] = {}
        for step in plan.steps:
            rule = step.verification
            if rule is not None and rule.probe not in [known.probe for known in rules.values()]:
                rules[step.number] = rule
        return rules

    def _failovers(self) -> Sequence[tuple[str, str, Failover]]:
        return self.catalogue.failovers() if self.rehearsal is not None else ()

    # --- Questions that wait for a person

    def _question(self, claimed: Watch, name: str) -> None:
        approval, _, step = name.partition("/")
        rule = self.rules.get(approval, {}).get(int(step))
        if rule is None:
            return  # decided meanwhile
        every = max(rule.every, LEAST)
        reading = self.registry.read(rule.probe, self.clock)
        now = self.clock()
        before = SignalNow.model_validate(claimed.state | {"step": int(step), "verification": rule})
        is_healthy = reading.value is not None and rule.is_healthy(reading.value)
        since = before.healthy_since
        last = claimed.readings[-1].at if claimed.readings else now
        if not is_healthy:
            since = None
        elif since is None or now - last > gap(rule.hold, every):
            since = now
        values = [one.value for one in (rule.baseline, *claimed.readings) if one is not None]
        was_ill = bool(claimed.state.get("was_ill")) or any(
            value is not None and not rule.is_healthy(value) for value in values
        )
        recovered = was_ill and since is not None and now - since >= rule.hold
        told = []
        if recovered and not before.recovered:
            told = [self._recovered(approval, rule, reading, now)]
        state: JsonObject = {
            "healthy_since": since.isoformat() if since else None,
            "was_ill": was_ill,
            "recovered": recovered,
        }
        self.ledger.watches.done(
            claimed, now + every, readings=(*claimed.readings, reading), state=state, told=told
        )

    def _recovered(self, approval: str, rule: Verification, reading: Reading, now: datetime) -> Evidence:
        request = self.ledger.approvals.get(approval).request
        incident = self.ledger.incidents.get(request.incident)
        last = incident.attempts[-1] if incident.attempts else None
        before = rule.baseline.value if rule.baseline else None
        said = (
            f"{rule.signal} has been healthy for {rule.hold.total_seconds():g} s while {approval} waits:"
            f" {reading.value:.3g} {rule.unit}".rstrip()
            + (f", {before:.3g} when it was sealed" if before is not None else "")
        )
        if (
            last is not None
            and last.end in (AttemptEnd.INEFFECTIVE, AttemptEnd.INCONCLUSIVE)
            and not last.undone
        ):
            said += f"; {last.mitigation} ({last.title}) may have helped late"
        return Evidence(
            key=f"{approval}/recovered/{rule.signal}/{now.isoformat()}",
            kind=EvidenceKind.RECOVERED,
            incident=request.incident,
            actor=ENGINE,
            at=now,
            summary=one_line(said),
            body={"approval": approval, "signal": rule.signal, "reading": reading.model_dump(mode="json")},
        )

    # --- Mitigations in force

    def _in_force(self, claimed: Watch, mitigation: str) -> None:
        found = self.ledger.in_force.get(mitigation)
        state: JsonObject = {}
        now = self.clock()
        newest = max((step.since for step in found.left), default=now)
        next_at = now + (IN_FORCE_FIRST if now - newest < FRESH else IN_FORCE_LATER)
        if found.state is ForceState.IN_FORCE and found.undo is None:
            for step in found.left:
                by = self._changed_by(found, step)
                if (by is None) == (step.changed_by is None):
                    continue
                if by is None or str(step.step) in claimed.state:
                    self.ledger.in_force.looked(mitigation, step.step, by)
                else:
                    state[str(step.step)] = by
                    next_at = now + SURE
        self.ledger.watches.done(claimed, next_at, state=state)

    def _changed_by(self, found: InForce, step: StepInForce) -> str | None:
        """Say who has changed back what a step had done; ``None``: nobody, or we did, or nobody can look."""
        try:
            action, request = self.registry.action(step.action)
            observed = action.observe(request)
            progress = action.is_reached(request, observed)
        except (ActionRefusedError, ProviderUnavailableError):
            return step.changed_by
        if progress.reached is not Reached.NO:
            return None if progress.reached is not Reached.UNKNOWN else step.changed_by
        if self._is_ours(found, step):
            return step.changed_by
        by = observed.state.get("changed_by")
        return one_line(by, 80) if isinstance(by, str) else ""

    def _is_ours(self, found: InForce, step: StepInForce) -> bool:
        """Say whether a change of our own explains what was seen: an undo, or a later mitigation."""
        undo = self.ledger.journal.get(names.action_id(found.mitigation, step.step, Direction.UNDO.value))
        if undo is not None and (undo.result is None or undo.result.outcome is not Outcome.NOT_DONE):
            return True
        target = step.action.target
        locks = {lock.target: lock.mitigation for lock in self.ledger.guardrails.locks()}
        if locks.get(str(target), found.mitigation) != found.mitigation:
            return True
        return any(
            later.action.target == target and later.since > step.since
            for other in self.ledger.in_force.latest(found.service, found.environment)
            if other.mitigation != found.mitigation
            for later in other.left
        )

    # --- Failovers

    def _readiness(self, claimed: Watch, name: str) -> None:
        for service, environment, failover in self._failovers():
            if claimed.item != records.item(service, environment):
                continue
            found = self._rehearsed(service, environment, failover)
            now = self.clock()
            # Each has its own place in the time, so that they do not all ask at once.
            apart = failover.check_every * (0.9 + zlib.crc32(name.encode()) / 2**32 / 10)
            people = on_call(self.catalogue, service, now)
            self.ledger.readiness.record(service, environment, found, people)
            self.ledger.watches.done(claimed, now + apart, state={})

    def _rehearsed(self, service: str, environment: str, failover: Failover) -> Readiness:
        assert self.rehearsal is not None  # noqa: S101  (no failover is looked at without it)
        try:
            return self.rehearsal.look(service, environment, failover)
        except Exception as error:
            LOG.exception("%s in %s: its failover could not be rehearsed", service, environment)
            detail = one_line(f"it could not be looked at: {type(error).__name__}: {error}")
            return Readiness(
                checks=(ReadinessCheck(name="plan", target=service, state=CheckState.UNKNOWN, detail=detail),)
            )
