"""Pipelines: where each stands, and what a person decides about one that is stuck."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from temporalio.client import WorkflowExecutionStatus

from activities import starts
from api.deps import Cursor, Deps, Limit, Shared
from api.schemas import (
    Accepted,
    Decision,
    Listing,
    LiveStatus,
    PipelineDetail,
    PipelineItem,
    StreamerRef,
    steps_of,
)
from api.temporal import UNFINISHED
from streamvault.contracts import PROCESSING_STEPS, Status, Step, StepState, processing_workflow_id
from streamvault.db import library, recordings
from streamvault.db.library import Wanted
from streamvault.db.models import Recording
from streamvault.errors import Conflict
from streamvault.settings import stable_host_id

router = APIRouter(prefix="/api", tags=["pipelines"])

PROCESSING_PREFIX = processing_workflow_id("")
_FINISHED = frozenset({str(StepState.DONE), str(StepState.SKIPPED)})


@router.get("/pipelines")
async def list_all(
    deps: Deps,
    limit: Limit = 50,
    cursor: Cursor = None,
    streamer_id: UUID | None = None,
    status: Annotated[list[Status] | None, Query()] = None,
) -> Listing[PipelineItem]:
    """Newest first, from the database."""
    async with deps.db.begin() as session:
        page = await library.list_recordings(
            session,
            Wanted(streamer_id=str(streamer_id) if streamer_id else None, status=status or ()),
            limit=limit,
            cursor=cursor,
            with_steps=True,
        )
    items = [PipelineItem(**_pipeline(row, deps)) for row in page.items]
    return Listing(items=items, next_cursor=page.next_cursor)


@router.get("/pipelines/{workflow_id}")
async def show(workflow_id: str, deps: Deps) -> PipelineDetail:
    """Every step, and in `live` what the workflow itself says if it can be asked."""
    row = await _recording(deps, workflow_id)
    said = await deps.temporal.pipeline_status(workflow_id)
    child = processing_workflow_id(str(row.id))
    return PipelineDetail(
        **_pipeline(row, deps),
        processing_temporal_url=deps.temporal.link(child),
        live=LiveStatus(**vars(said)) if said else None,
    )


@router.post("/pipelines/{workflow_id}/retry", status_code=202)
async def retry(workflow_id: str, deps: Deps, body: Decision | None = None) -> Accepted:
    """Try a parked step again, or start a failed processing again with what is unfinished."""
    return await decide(deps, workflow_id, "retry", body)


@router.post("/pipelines/{workflow_id}/skip", status_code=202)
async def skip(workflow_id: str, deps: Deps, body: Decision | None = None) -> Accepted:
    """Go on without a parked step."""
    return await decide(deps, workflow_id, "skip", body)


@router.post("/pipelines/{workflow_id}/give-up", status_code=202)
async def give_up(workflow_id: str, deps: Deps, body: Decision | None = None) -> Accepted:
    """Let a parked pipeline fail; its parts stay."""
    return await decide(deps, workflow_id, "give_up", body)


async def decide(deps: Shared, workflow_id: str, action: str, body: Decision | None) -> Accepted:
    """`retry`, `skip` or `give_up` for what is stuck. Raises NotFound, Conflict."""
    row = await _recording(deps, workflow_id)
    step = str(body.step) if body else ""
    target = _decider(row, step)
    state = await deps.temporal.execution_status(target)
    if state is WorkflowExecutionStatus.RUNNING:
        await deps.temporal.update(target, action, step)
    elif action == "retry" and state in UNFINISHED and target != row.workflow_id:
        await _process_again(deps, row)
    else:
        raise Conflict(
            f"the pipeline {target} is not waiting for anybody",
            hint="a finished recording can be processed again; a failed one can be started anew",
        )
    return Accepted(workflow_id=target, recording_id=row.id, action=action)


async def _process_again(deps: Shared, row: Recording) -> None:
    finished = {step.name for step in row.steps if step.state in _FINISHED}
    left = [str(step) for step in PROCESSING_STEPS if step not in finished]
    client = await deps.temporal.client()
    await starts.start_processing(client, row, stable_host_id(deps.settings), left)


def _decider(row: Recording, step: str) -> str:
    """The workflow that waits: the stream's own while recording is parked, else its child."""
    parked = _parked(row)
    if step == Step.RECORD or (not step and parked == [str(Step.RECORD)]):
        return row.workflow_id
    return processing_workflow_id(str(row.id))


async def _recording(deps: Shared, workflow_id: str) -> Recording:
    """By the id of either workflow. Raises NotFound."""
    async with deps.db.begin() as session:
        if workflow_id.startswith(PROCESSING_PREFIX):
            recording_id: str | UUID = workflow_id.removeprefix(PROCESSING_PREFIX)
        else:
            recording_id = (await recordings.find_by_workflow(session, workflow_id)).id
        return await recordings.get_detail(session, recording_id)


def _pipeline(row: Recording, deps: Shared) -> dict[str, object]:
    return {
        "workflow_id": row.workflow_id,
        "processing_workflow_id": processing_workflow_id(str(row.id)),
        "recording_id": row.id,
        "streamer": streamer_ref(row),
        "title": row.title,
        "status": row.status,
        "step": row.step,
        "reason": row.reason or None,
        "parked": _parked(row),
        "steps": steps_of(row),
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "temporal_url": deps.temporal.link(row.workflow_id),
    }


def streamer_ref(row: Recording) -> StreamerRef:
    return StreamerRef(id=row.streamer_id, login=row.streamer_login, name=row.streamer_name)


def _parked(row: Recording) -> list[str]:
    return [step.name for step in steps_of(row) if step.state == StepState.PARKED]
