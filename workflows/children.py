"""How a workflow fares with a child of its own."""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.exceptions import CancelledError, ChildWorkflowError, FailureError


async def failure_of(child: workflow.ChildWorkflowHandle[Any, Any]) -> ChildWorkflowError | None:
    try:
        await child
    except ChildWorkflowError as error:
        workflow.logger.warning("processing ended badly", extra={"cause": str(error.cause)})
        return error
    return None


async def cancel_child(child: workflow.ChildWorkflowHandle[Any, Any]) -> bool:
    """Whether it could be asked: it may have ended in this moment."""
    try:
        await workflow.get_external_workflow_handle(child.id).cancel()
    except FailureError:
        return False
    return True


def is_cancelled(failure: ChildWorkflowError | None) -> bool:
    return failure is not None and isinstance(failure.cause, CancelledError)
