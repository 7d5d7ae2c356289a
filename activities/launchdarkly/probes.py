"""What can be seen of flags."""

from collections.abc import Sequence
from typing import Any

from activities.launchdarkly import models
from contracts.actions import Probe
from contracts.errors import ActionRefusedError

# What changes who gets what; the audit log's other actions (names, tags, links, approvals) are no suspects.
SUSPECT = {
    "applyApprovalRequest",
    "cloneFlag",
    "copyFlagConfigFrom",
    "copyFlagConfigTo",
    "createFlag",
    "updateExpiringRules",
    "updateExpiringTargets",
    "updateFallthrough",
    "updateFallthroughWithMeasuredRollout",
    "updateFeatureWorkflows",
    "updateFlagSalt",
    "updateFlagVariations",
    "updateGlobalArchived",
    "updateOffVariation",
    "updateOn",
    "updatePrerequisites",
    "updateRules",
    "updateRulesWithMeasuredRollout",
    "updateScheduledChanges",
    "updateTargets",
}


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
                if actions & SUSPECT:
                    title = f"{entry.by} {entry.verb or 'changed'} {flag.name}"
                    said = {"by": entry.by, "title": title, "comment": entry.comment}
                    changes.append(_change(flag, changed_at=entry.at, **said))
            if not mine and flag.modified_at is not None and flag.modified_at >= since:
                title = f"{flag.name} was changed; the audit log does not say how"
                changes.append(_change(flag, changed_at=flag.modified_at, title=title))
        changes.sort(key=lambda change: change.changed_at, reverse=True)
        return models.RecentChanges(changes=tuple(changes), notes=tuple(notes))


def _actions(entry: models.AuditEntry, key: str) -> set[str]:
    return {action for action, flag in entry.actions if flag == key}


def _change(flag: models.FlagSeen, **what: Any) -> models.FlagChange:
    return models.FlagChange(key=flag.key, name=flag.name, on=flag.on, **what)
