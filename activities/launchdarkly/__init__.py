"""LaunchDarkly: read flags, turn them on and off, and see it arrive in SDKs.

Only ``client`` knows a wire or the SDK; everybody else imports the requests and what is seen from here.
"""

from activities.launchdarkly.actions import SetFlagAction
from activities.launchdarkly.models import (
    ChangeKind,
    FlagChange,
    FlagSeen,
    FlagState,
    RecentChanges,
    RecentFlagChanges,
    SetFlag,
)
from activities.launchdarkly.probes import FlagStateProbe, RecentFlagChangesProbe

__all__ = [
    "ChangeKind",
    "FlagChange",
    "FlagSeen",
    "FlagState",
    "FlagStateProbe",
    "RecentChanges",
    "RecentFlagChanges",
    "RecentFlagChangesProbe",
    "SetFlag",
    "SetFlagAction",
]
