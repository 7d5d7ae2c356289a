"""LaunchDarkly: read flags, turn them on and off, and see it arrive in SDKs.

Only ``client`` knows a wire or the SDK; everybody else imports the requests and what is seen from here.
"""

from activities.launchdarkly.actions import SetFlagAction as SetFlagAction
from activities.launchdarkly.models import FlagChange as FlagChange
from activities.launchdarkly.models import FlagSeen as FlagSeen
from activities.launchdarkly.models import RecentChanges as RecentChanges
from activities.launchdarkly.models import RecentFlagChanges as RecentFlagChanges
from activities.launchdarkly.models import SetFlag as SetFlag
from activities.launchdarkly.probes import RecentFlagChangesProbe as RecentFlagChangesProbe
