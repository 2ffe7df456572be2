"""How an activity says that it lives, and a step where it stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio import activity

from streamvault.contracts import Step, StepState
from streamvault.db import steps
from streamvault.db.session import Database
from streamvault.errors import StreamVaultError
from streamvault.logs import scrub


async def beat_for_ever(every_s: float) -> None:
    """Heartbeats beside the work, until cancelled: an attempt that was handed to a worker just when
    it stopped makes none, and is missed soon."""
    while True:
        activity.heartbeat()
        await asyncio.sleep(every_s)


@asynccontextmanager
async def beating(every_s: float) -> AsyncIterator[None]:
    task = asyncio.create_task(beat_for_ever(every_s))
    try:
        yield
    finally:
        task.cancel()


@asynccontextmanager
async def step_of(db: Database, recording_id: str, step: Step) -> AsyncIterator[None]:
    """Mark the step running, then done; on an error retrying, with the error in one line.

    Whether it is parked or failed for good is the workflow's to say."""
    attempt = activity.info().attempt
    await _note(db, recording_id, step, StepState.RUNNING, attempt=attempt)
    try:
        yield
    except StreamVaultError as error:
        text = scrub(error.one_line)
        await _note(db, recording_id, step, StepState.RETRYING, attempt=attempt, error=text)
        raise
    await _note(db, recording_id, step, StepState.DONE, attempt=attempt)


async def _note(
    db: Database,
    recording_id: str,
    step: Step,
    state: StepState,
    *,
    attempt: int,
    error: str | None = None,
) -> None:
    async with db.begin() as session:
        await steps.set_step(session, recording_id, step, state, attempt=attempt, error=error)
