"""Where each step of a pipeline stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from streamvault.contracts import Status, StepState
from streamvault.db.ids import as_uuid
from streamvault.db.models import Recording, RecordingStep
from streamvault.db.pages import Page, fetch_page
from streamvault.errors import NotFound

_ACTIVE = (str(StepState.RUNNING), str(StepState.RETRYING))
_ENDED = (str(StepState.DONE), str(StepState.SKIPPED), str(StepState.FAILED))
_STUCK = (str(StepState.PARKED), str(StepState.FAILED))


@dataclass(frozen=True, slots=True)
class Progress:
    share: float
    """From 0 to 1."""
    speed: float | None = None
    """Seconds of media per second."""
    eta_s: float | None = None


async def set_step(
    session: AsyncSession,
    recording_id: str | UUID,
    step: str,
    state: str,
    *,
    attempt: int | None = None,
    progress: Progress | None = None,
    error: str | None = None,
    next_retry_at: datetime | None = None,
) -> None:
    """Move a step to `state` and keep its times; None leaves attempt, progress and error.

    `waiting` starts the step over. Raises NotFound."""
    row = await session.get(RecordingStep, (as_uuid(recording_id), step), with_for_update=True)
    if row is None:
        raise NotFound(f"recording {recording_id} has no step {step!r}")
    _keep_times(row, state, datetime.now(UTC))
    row.state = state
    row.next_retry_at = next_retry_at
    if attempt is not None:
        row.attempt = attempt
    if progress is not None:
        row.progress = min(max(progress.share, 0.0), 1.0)
        row.speed, row.eta_s = progress.speed, progress.eta_s
    if error is not None:
        row.error = error
    await session.flush()


async def list_needing_attention(
    session: AsyncSession, *, limit: int = 50, cursor: str | None = None
) -> Page[Recording]:
    """Recordings that need a person: failed, waiting for help, or with a parked or failed step.

    What a person stopped before it began is not among them."""
    stuck = exists().where(
        RecordingStep.recording_id == Recording.id, RecordingStep.state.in_(_STUCK)
    )
    failed = (Recording.status == str(Status.FAILED)) & (Recording.reason != "stopped")
    query = (
        select(Recording)
        .where(or_(stuck, failed, Recording.status == str(Status.NEEDS_ATTENTION)))
        .options(selectinload(Recording.steps))
    )
    return await fetch_page(session, query, Recording.id, limit=limit, cursor=cursor)


def _keep_times(row: RecordingStep, state: str, now: datetime) -> None:
    if state == StepState.WAITING:
        row.started_at = row.ended_at = row.progress = row.speed = row.eta_s = None
        row.attempt, row.error = 0, ""
    elif state in _ACTIVE and row.state not in _ACTIVE:
        row.started_at, row.ended_at = now, None
        row.progress = row.speed = row.eta_s = None
    elif state in _ENDED and row.state not in _ENDED:
        row.ended_at = now
        row.speed = row.eta_s = None
    if state == StepState.DONE:
        row.progress, row.error = 1.0, ""
