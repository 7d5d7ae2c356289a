"""What can be seen of flags."""

import re
from collections.abc import Sequence
from typing import Any

from activities.launchdarkly import models
from contracts.actions import Probe
from contracts.errors import ActionRefusedError

# What changes who gets what; the audit log's other actions (names, tags, links, approvals) are no suspects.
TARGETING = {
    "applyApprovalRequest",
    "copyFlagConfigFrom",
    "copyFlagConfigTo",
    "updateExpiringRules",
    "updateExpiringTargets",
    "updateFallthrough",
    "updateFallthroughWithMeasuredRollout",
    "updateFeatureWorkflows",
    "updateFlagSalt",
    "updateFlagVariations",
    "updateGlobalArchived",
    "updateOffVariation",
    "updatePrerequisites",
    "updateRules",
    "updateRulesWithMeasuredRollout",
    "updateScheduledChanges",
    "updateTargets",
}
CREATED = {"createFlag", "cloneFlag"}
ON = re.compile(r"turned (the flag )?on\b", re.IGNORECASE)
OFF = re.compile(r"turned (the flag )?off\b", re.IGNORECASE)


class FlagStateProbe(Probe[models.FlagState, models.FlagSeen]):
    """Reads one flag in one environment."""

    request_type = models.FlagState

    def __init__(self, service: models.FlagService) -> None:
        self._service = service

    def look(self, request: models.FlagState) -> models.FlagSeen:
        """Look once."""
        return self._service.flag(request.project, request.environment, request.key)


class RecentFlagChangesProbe(Probe[models.RecentFlagChanges, models.RecentChanges]):
    """Finds who changed what some flags serve, from the audit log.

    Where the token may not read that, or the log says nothing, only the time of the last change is known.
    """

    request_type = models.RecentFlagChanges

    def __init__(self, service: models.FlagService) -> None:
        self._service = service

    def look(self, request: models.RecentFlagChanges) -> models.RecentChanges:
        """Look once."""
        flags: list[models.FlagSeen] = []
        notes: list[str] = []
        for key in dict.fromkeys(request.keys):
            try:
                flags.append(self._service.flag(request.project, request.environment, key))
            except ActionRefusedError as error:
                notes.append(str(error))
        if not flags:
            return models.RecentChanges(notes=tuple(notes))
        since = self._service.now() - request.within
        entries: Sequence[models.AuditEntry] = ()
        try:
            entries, complete = self._service.audit(
                request.project, request.environment, [flag.key for flag in flags], since
            )
            if not complete:
                notes.append(f"only the newest {len(entries)} entries of the audit log were read")
        except ActionRefusedError as error:
            notes.append(f"{error}; so only the time of a flag's last change is known")
        changes: list[models.FlagChange] = []
        for flag in flags:
            mine = [(entry, actions) for entry in entries if (actions := _actions(entry, flag.key))]
            for entry, actions in mine:
                if (kind := _kind(entry, actions)) is not None:
                    title = f"{entry.by} {entry.verb or 'changed'} {flag.name}"
                    said = {"by": entry.by, "title": title, "comment": entry.comment}
                    changes.append(_change(flag, kind, changed_at=entry.at, **said))
            if not mine and flag.modified_at is not None and flag.modified_at >= since:
                title = f"{flag.name} was changed; the audit log does not say how"
                changes.append(
                    _change(flag, models.ChangeKind.CHANGED, changed_at=flag.modified_at, title=title)
                )
        changes.sort(key=lambda change: change.changed_at, reverse=True)
        return models.RecentChanges(changes=tuple(changes), notes=tuple(notes))


def _actions(entry: models.AuditEntry, key: str) -> set[str]:
    return {action for action, flag in entry.actions if flag == key}


def _kind(entry: models.AuditEntry, actions: set[str]) -> models.ChangeKind | None:
    if "updateOn" in actions:
        # The action is one for both ways; only the words tell which.
        words = f"{entry.verb} {entry.description}"
        if ON.search(words):
            return models.ChangeKind.TURNED_ON
        return models.ChangeKind.TURNED_OFF if OFF.search(words) else models.ChangeKind.CHANGED
    if actions & CREATED:
        return models.ChangeKind.CREATED
    return models.ChangeKind.TARGETING_CHANGED if actions & TARGETING else None


def _change(flag: models.FlagSeen, kind: models.ChangeKind, **what: Any) -> models.FlagChange:
    return models.FlagChange(key=flag.key, name=flag.name, on=flag.on, kind=kind, **what)
