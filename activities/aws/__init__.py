"""AWS: capacity, ECS services and traffic; where nothing is conditional, it is read and compared before.

Only ``client`` knows the SDK; everybody else imports the requests and what is seen from here.
"""

from activities.aws.actions import ACTIONS as ACTIONS
from activities.aws.models import Answers as Answers
from activities.aws.models import CheckReadiness as CheckReadiness
from activities.aws.models import ExecuteRegionSwitch as ExecuteRegionSwitch
from activities.aws.models import GroupState as GroupState
from activities.aws.models import Metric as Metric
from activities.aws.models import Mode as Mode
from activities.aws.models import RollBackService as RollBackService
from activities.aws.models import ServiceHistory as ServiceHistory
from activities.aws.models import ServiceRevision as ServiceRevision
from activities.aws.models import ServiceState as ServiceState
from activities.aws.models import SetDesiredCapacity as SetDesiredCapacity
from activities.aws.models import SetRecordWeights as SetRecordWeights
from activities.aws.models import SetRoutingControls as SetRoutingControls
from activities.aws.models import SetScalableTarget as SetScalableTarget
from activities.aws.models import SetServiceCount as SetServiceCount
from activities.aws.models import SwitchGlobalCluster as SwitchGlobalCluster
from activities.aws.probes import MetricProbe as MetricProbe
from activities.aws.probes import ReadinessProbe as ReadinessProbe
from activities.aws.probes import ServiceHistoryProbe as ServiceHistoryProbe
