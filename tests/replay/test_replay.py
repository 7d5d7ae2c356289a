"""What was recorded runs again the same way under the workflow code as it is now: ``record.py`` says more."""

import base64
import json
import re
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner
from temporalio.workflow import SandboxImportNotificationPolicy

from contracts import names
from contracts.incidents import AttemptEnd
from runtime import sandbox, temporal
from workflows.incident import IncidentWorkflow
from workflows.mitigation import MitigationWorkflow

RECORDED = sorted(Path(__file__).parent.glob("*.json"))
CALLS = {
    names.PLAN,
    names.RUN_STEP,
    names.VERIFY_STEP,
    names.MONITOR,
    names.RECORD,
    names.CHECK_COMMAND,
    names.CLOSE_APPROVAL,
    names.WRITE_POSTMORTEM,
}
# These need a fault of a provider, a step without a measurement, or a freeze; tests/workflows has them.
NOT_RECORDED = {AttemptEnd.IN_DOUBT, AttemptEnd.INCONCLUSIVE, AttemptEnd.HELD}


def history(path: Path) -> WorkflowHistory:
    """Read a recorded history."""
    return WorkflowHistory.from_json(path.stem, path.read_text(encoding="utf-8"))


def replayer(threads: ThreadPoolExecutor, runner: SandboxedWorkflowRunner | None = None) -> Replayer:
    """Give a replayer that is made as the worker is; with a runner of its own only to look on."""
    ours = Replayer(
        workflows=[IncidentWorkflow, MitigationWorkflow],
        workflow_task_executor=threads,
        plugins=temporal.plugins(),
        build_id="replay",
    )
    if runner is None:
        return ours
    config = ours.config(active_config=True) | {"workflow_runner": runner}
    return Replayer(**config)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Give threads that are gone after the test."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


def strings(value: Any) -> Iterator[str]:
    """Give every text within a history, what its payloads hold included."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "data" and isinstance(inner, str):
                yield base64.b64decode(inner).decode()
            else:
                yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
async def test_recorded_history_replays(path: Path, threads: ThreadPoolExecutor) -> None:
    """A run of the recorded order goes on under this code, as after the restart of a worker."""
    await replayer(threads).replay_workflow(history(path))


def test_recordings_show_every_call_and_every_end() -> None:
    """The recordings hold each activity that the workflows call, and each way in which a mitigation ends."""
    texts = [text for path in RECORDED for text in strings(json.loads(path.read_text(encoding="utf-8")))]
    ends = {end for end in AttemptEnd for text in texts if f'"end":"{end.value}"' in text}
    local = {name for name in CALLS for text in texts if f'"activity_type":"{name}"' in text}

    assert CALLS - set(texts) - local == set()
    assert set(AttemptEnd) - ends == NOT_RECORDED


async def test_only_workflow_modules_are_loaded_per_run(threads: ThreadPoolExecutor) -> None:
    """A run loads anew nothing but our workflow code: all else comes from the process and costs nothing."""
    policy = SandboxImportNotificationPolicy.WARN_ON_UNINTENTIONAL_PASSTHROUGH
    restrictions = sandbox.runner().restrictions.with_import_notification_policy(policy)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for path in RECORDED:
            if path.stem.startswith("effective."):
                runner = replace(sandbox.runner(), restrictions=restrictions)
                await replayer(threads, runner).replay_workflow(history(path))
    loaded = {match.group(1) for one in caught if (match := re.match(r"Module (\S+) ", str(one.message)))}

    assert {name for name in loaded if name.split(".")[0] != "workflows"} == set()
    assert "workflows.mitigation" in loaded


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recordings_name_no_machine(path: Path) -> None:
    """No recording tells of the machine that made it: no absolute path, no process, no user."""
    telling = re.compile(r"(?<![\w:/.})-])/[A-Za-z]\w*/|\d+@|stackTrace")
    said = strings(json.loads(path.read_text(encoding="utf-8")))
    texts = [re.sub(r'"signature":"[^"]*"', "", text) for text in said]  # base64 looks like anything

    assert [text for text in texts if telling.search(text)] == []
