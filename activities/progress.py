"""How a step tells the database where it stands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio import activity

from streamvault.contracts import Step, StepState
from streamvault.db import steps
from streamvault.db.session import Database
from streamvault.errors import StreamVaultError
from streamvault.logs import scrub


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
