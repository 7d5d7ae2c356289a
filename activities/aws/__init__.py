"""AWS: capacity, ECS services and traffic; where nothing is conditional, it is read and compared before.

Only ``client`` knows the SDK; everybody else imports the requests and what is seen from here.
"""

from activities.aws.actions import (
    RollBackServiceAction,
    SetDesiredCapacityAction,
    SetRecordWeightsAction,
    SetScalableTargetAction,
    SetServiceCountAction,
)
from activities.aws.models import (
    Answers,
    GroupState,
    Metric,
    RecordsState,
    RollBackService,
    ScalableState,
    ServiceState,
    SetDesiredCapacity,
    SetRecordWeights,
    SetScalableTarget,
    SetServiceCount,
)
from activities.aws.probes import MetricProbe

__all__ = [
    "Answers",
    "GroupState",
    "Metric",
    "MetricProbe",
    "RecordsState",
    "RollBackService",
    "RollBackServiceAction",
    "ScalableState",
    "ServiceState",
    "SetDesiredCapacity",
    "SetDesiredCapacityAction",
    "SetRecordWeights",
    "SetRecordWeightsAction",
    "SetScalableTarget",
    "SetScalableTargetAction",
    "SetServiceCount",
    "SetServiceCountAction",
]
