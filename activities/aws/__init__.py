"""AWS: capacity, ECS services and traffic; where nothing is conditional, it is read and compared before.

Only ``client`` knows the SDK; everybody else imports the requests and what is seen from here.
"""

from activities.aws.actions import (
    ExecuteRegionSwitchAction,
    RollBackServiceAction,
    SetDesiredCapacityAction,
    SetRecordWeightsAction,
    SetRoutingControlsAction,
    SetScalableTargetAction,
    SetServiceCountAction,
    SwitchGlobalClusterAction,
)
from activities.aws.models import (
    Answers,
    ExecuteRegionSwitch,
    GlobalState,
    GroupState,
    Metric,
    Mode,
    RecordsState,
    RollBackService,
    RoutingState,
    ScalableState,
    ServiceState,
    SetDesiredCapacity,
    SetRecordWeights,
    SetRoutingControls,
    SetScalableTarget,
    SetServiceCount,
    SwitchGlobalCluster,
    SwitchState,
)
from activities.aws.probes import MetricProbe

__all__ = [
    "Answers",
    "ExecuteRegionSwitch",
    "ExecuteRegionSwitchAction",
    "GlobalState",
    "GroupState",
    "Metric",
    "MetricProbe",
    "Mode",
    "RecordsState",
    "RollBackService",
    "RollBackServiceAction",
    "RoutingState",
    "ScalableState",
    "ServiceState",
    "SetDesiredCapacity",
    "SetDesiredCapacityAction",
    "SetRecordWeights",
    "SetRecordWeightsAction",
    "SetRoutingControls",
    "SetRoutingControlsAction",
    "SetScalableTarget",
    "SetScalableTargetAction",
    "SetServiceCount",
    "SetServiceCountAction",
    "SwitchGlobalCluster",
    "SwitchGlobalClusterAction",
    "SwitchState",
]
