"""Names and ids in Temporal: one spelling each."""

from datetime import timedelta

WORKER_QUEUE = "stanch"
# How long a killed worker holds a workflow up; the engine's default is ten seconds.
TASK_TIMEOUT = timedelta(seconds=5)
DEPLOYMENT = "stanch"

INCIDENT_WORKFLOW = "Incident"
MITIGATION_WORKFLOW = "Mitigation"

SIGNAL_ALERTS = "alerts"
SIGNAL_COMMAND = "command"
SIGNAL_MITIGATION_ENDED = "mitigation_ended"
SIGNAL_WITHDRAW = "withdraw"
SIGNAL_DECISION = "decision"
UPDATE_DECIDE = "decide"

PLAN = "stanch.plan"
PLAN_UNDO = "stanch.plan_undo"
END_UNDO = "stanch.end_undo"
PREVIEW = "stanch.preview"
RECORD = "stanch.record"
CHECK_COMMAND = "stanch.check_command"
CLOSE_APPROVAL = "stanch.close_approval"
RUN_STEP = "stanch.run_step"
VERIFY_STEP = "stanch.verify_step"
MONITOR = "stanch.monitor"
WRITE_POSTMORTEM = "stanch.write_postmortem"

# Search attributes: ten Keyword slots exist per namespace on SQL visibility (reference: Temporal limits).
SEARCH_ATTRIBUTES = ("StanchService", "StanchEnvironment", "StanchSeverity")  # all Keyword, set at start


def incident_workflow_id(incident: str) -> str:
    """Give the workflow id of an incident, ``incident/INC-42``."""
    return f"incident/{incident}"


def mitigation_workflow_id(mitigation: str) -> str:
    """Give the workflow id of a mitigation, ``mitigation/INC-42/1``."""
    return f"mitigation/{mitigation}"


def action_id(mitigation: str, step: int, direction: str) -> str:
    """Give the journal's key of one action: the same over every retry, reset and continue-as-new."""
    return f"{mitigation}/{step}/{direction}"


def ended_key(mitigation: str) -> str:
    """Give the evidence's key of a mitigation's end, after which nothing is done under its approval."""
    return f"{mitigation}/ended"
