"""Plain HTTP: does it answer as it should, and a team's own remediation endpoints."""

from activities.http.actions import CallHookAction
from activities.http.models import CallHook, HookStatus, HttpCheck
from activities.http.probes import HttpCheckProbe

__all__ = ["CallHook", "CallHookAction", "HookStatus", "HttpCheck", "HttpCheckProbe"]
