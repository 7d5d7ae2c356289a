"""Kubernetes: read deployments; restart them, roll them back, scale them, and pause what would put that back.

Only ``client`` knows the SDK; everybody else imports the requests and what is seen from here.
"""

from activities.k8s.actions import ACTIONS as ACTIONS
from activities.k8s.models import DeploymentState as DeploymentState
from activities.k8s.models import History as History
from activities.k8s.models import Owner as Owner
from activities.k8s.models import RestartDeployment as RestartDeployment
from activities.k8s.models import Revision as Revision
from activities.k8s.models import RollBackDeployment as RollBackDeployment
from activities.k8s.models import Rollout as Rollout
from activities.k8s.models import RolloutHistory as RolloutHistory
from activities.k8s.models import RolloutStatus as RolloutStatus
from activities.k8s.models import ScaleDeployment as ScaleDeployment
from activities.k8s.models import ScaleState as ScaleState
from activities.k8s.models import SetAutoscalerLimits as SetAutoscalerLimits
from activities.k8s.models import SetSync as SetSync
from activities.k8s.models import WarningEvents as WarningEvents
from activities.k8s.models import Warnings as Warnings
from activities.k8s.models import pauses as pauses
from activities.k8s.probes import RolloutHistoryProbe as RolloutHistoryProbe
from activities.k8s.probes import RolloutStatusProbe as RolloutStatusProbe
from activities.k8s.probes import WarningEventsProbe as WarningEventsProbe
