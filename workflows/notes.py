"""What the workflows tell the catalog, and what they make of an attempt's error."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.catalog import Catalog
    from streamvault.contracts import (
        CONTROL_QUEUE,
        Status,
        StatusChange,
        Step,
        StepChange,
        StepState,
    )
    from workflows.policies import CATALOG_RETRY, CATALOG_TIMEOUT


async def set_status(
    recording_id: str, status: Status, step: Step, reason: str = "", *, ended: bool = False
) -> None:
    """`ended` marks the end of the capture."""
    await workflow.execute_activity_method(
        Catalog.set_status,
        StatusChange(recording_id, status, step, reason, ended),
        task_queue=CONTROL_QUEUE,
        start_to_close_timeout=CATALOG_TIMEOUT,
        retry_policy=CATALOG_RETRY,
        summary=f"status {status}",
    )


async def note_step(recording_id: str, step: Step, state: StepState, error: str = "") -> None:
    await workflow.execute_activity_method(
        Catalog.set_step,
        StepChange(recording_id, step, state, error),
        task_queue=CONTROL_QUEUE,
        start_to_close_timeout=CATALOG_TIMEOUT,
        retry_policy=CATALOG_RETRY,
        summary=f"{step} {state}",
    )


def in_one_line(error: ActivityError) -> str:
    """What went wrong, without the engine's wrapping."""
    cause = error.cause
    return " ".join((getattr(cause, "message", "") or str(cause) or str(error)).split())
