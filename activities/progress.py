"""How an activity says that it lives, and a step where it stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from time import monotonic

from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError

from streamvault.contracts import Step, StepProgress, StepState
from streamvault.db import steps
from streamvault.db.session import Database
from streamvault.errors import DependencyUnavailable, StreamVaultError
from streamvault.logs import scrub

BEAT_S = 5.0
# Each word to the workflow is some events in its history: a step of seconds says none, one of hours
# at most nine.
TOLD_EVERY_S, TOLD_EVERY = 10.0, 0.1


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


class Report:
    """How far a step is. Its time left is worked out where its work does not say it."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._began = self._told_at = monotonic()
        self._told = 0.0
        self.latest: steps.Progress | None = None

    def note(self, share: float, speed: float | None = None, eta_s: float | None = None) -> None:
        """`share` from 0 to 1."""
        if eta_s is None and share > 0.01:
            eta_s = (monotonic() - self._began) * (1 - share) / share
        self.latest = steps.Progress(share, speed, eta_s)

    @property
    def details(self) -> StepProgress | None:
        if self.latest is None:
            return None
        return StepProgress(
            step=str(self._step),
            percent=round(self.latest.share * 100, 1),
            speed=self.latest.speed,
            eta_s=self.latest.eta_s,
        )

    def news(self) -> StepProgress | None:
        """For the workflow, now and then."""
        now, share = monotonic(), self.latest.share if self.latest else 0.0
        if now - self._told_at < TOLD_EVERY_S or share - self._told < TOLD_EVERY:
            return None
        self._told_at, self._told = now, share
        return self.details


@asynccontextmanager
async def reporting(
    db: Database, client: Client | None, recording_id: str, step: Step
) -> AsyncIterator[Report]:
    """Heartbeats, saved progress and a word to the workflow while something long runs."""
    report = Report(step)
    beat = asyncio.create_task(_beat(db, client, recording_id, step, report))
    try:
        yield report
    finally:
        beat.cancel()
        await asyncio.gather(beat, return_exceptions=True)


async def _beat(
    db: Database, client: Client | None, recording_id: str, step: Step, report: Report
) -> None:
    while True:
        activity.heartbeat(asdict(report.details) if report.details else {})
        await asyncio.sleep(BEAT_S)
        try:
            async with db.begin() as session:
                await steps.set_step(
                    session, recording_id, step, StepState.RUNNING, progress=report.latest
                )
        except DependencyUnavailable:
            activity.logger.warning("progress not saved: the database is away")
        if client and (news := report.news()):
            await _tell_workflow(client, news)


async def _tell_workflow(client: Client, news: StepProgress) -> None:
    info = activity.info()
    handle = client.get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
    try:
        await handle.signal("progressed", news)
    except RPCError as error:
        activity.logger.info("progress not told to the workflow: %s", error.message)


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
