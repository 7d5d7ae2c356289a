"""Kubernetes: read deployments; restart them, roll them back, scale them, and pause what would put that back.

Only ``client`` knows the SDK; everybody else imports the requests and what is seen from here.
"""

from activities.k8s.actions import (
    RestartDeploymentAction,
    RollBackDeploymentAction,
    ScaleDeploymentAction,
    SetAutoscalerLimitsAction,
    SetSyncAction,
)
from activities.k8s.models import (
    DeploymentState,
    History,
    Owner,
    RestartDeployment,
    Revision,
    RollBackDeployment,
    Rollout,
    RolloutHistory,
    RolloutStatus,
    ScaleDeployment,
    ScaleState,
    SetAutoscalerLimits,
    SetSync,
    WarningEvents,
    Warnings,
    pauses,
)
from activities.k8s.probes import RolloutHistoryProbe, RolloutStatusProbe, WarningEventsProbe

__all__ = [
    "DeploymentState",
    "History",
    "Owner",
    "RestartDeployment",
    "RestartDeploymentAction",
    "Revision",
    "RollBackDeployment",
    "RollBackDeploymentAction",
    "Rollout",
    "RolloutHistory",
    "RolloutHistoryProbe",
    "RolloutStatus",
    "RolloutStatusProbe",
    "ScaleDeployment",
    "ScaleDeploymentAction",
    "ScaleState",
    "SetAutoscalerLimits",
    "SetAutoscalerLimitsAction",
    "SetSync",
    "SetSyncAction",
    "WarningEvents",
    "WarningEventsProbe",
    "Warnings",
    "pauses",
]
