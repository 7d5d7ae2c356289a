"""What workflows share with the process outside their sandbox; the same for worker and replay tests."""

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

# Never `workflows`: passing a package through turns the sandbox off inside it.
PASSED_THROUGH = ("contracts",)


def runner() -> SandboxedWorkflowRunner:
    """Give the workflow runner of every worker and replayer."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH)
    return SandboxedWorkflowRunner(restrictions=restrictions)
