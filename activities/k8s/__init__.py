"""Kubernetes: read Deployments; restart them, roll them back, scale them.

Only ``client`` knows the SDK; everybody else imports the requests and what is seen from here.
"""

from activities.k8s.actions import RestartDeploymentAction, RollBackDeploymentAction, ScaleDeploymentAction
from activities.k8s.models import (
    DeploymentState,
    History,
    RestartDeployment,
    Revision,
    RollBackDeployment,
    RolloutHistory,
    RolloutStatus,
    ScaleDeployment,
)
from activities.k8s.probes import RolloutHistoryProbe, RolloutStatusProbe

__all__ = [
    "DeploymentState",
    "History",
    "RestartDeployment",
    "RestartDeploymentAction",
    "Revision",
    "RollBackDeployment",
    "RollBackDeploymentAction",
    "RolloutHistory",
    "RolloutHistoryProbe",
    "RolloutStatus",
    "RolloutStatusProbe",
    "ScaleDeployment",
    "ScaleDeploymentAction",
]
