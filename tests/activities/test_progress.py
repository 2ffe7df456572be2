"""How far a step is: in heartbeats, in its row, and for its workflow."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta

import pytest
from temporalio import activity, workflow
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities import progress
from activities.progress import Report, reporting
from streamvault.contracts import Step, StepProgress
from streamvault.db import recordings
from streamvault.db.models import RecordingStep
from streamvault.db.recordings import NewRecording
from streamvault.db.session import Database

QUEUE = "progress"


@workflow.defn
class Listens:
    def __init__(self) -> None:
        self._told: list[StepProgress] = []

    @workflow.run
    async def run(self, recording_id: str) -> list[StepProgress]:
        await workflow.execute_activity(
            "work", recording_id, start_to_close_timeout=timedelta(seconds=30)
        )
        return self._told

    @workflow.signal
    def progressed(self, told: StepProgress) -> None:
        self._told.append(told)


async def test_it_is_told_to_the_workflow_and_stands_in_the_row(
    db: Database, temporal_dev: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "BEAT_S", 0.05)
    monkeypatch.setattr(progress, "TOLD_EVERY_S", 0.0)
    client = temporal_dev.client
    async with db.begin() as session:
        row, _ = await recordings.open_recording(session, NewRecording("p", "x://p"))
        recording_id = str(row.id)
    seen: list[RecordingStep] = []

    @activity.defn(name="work")
    async def work(recording_id: str) -> None:
        async with reporting(db, client, recording_id, Step.REMUX) as report:
            for share in (0.05, 0.5, 0.55):
                report.note(share, 20.0, 60.0)
                await asyncio.sleep(0.5)
            async with db.begin() as session:
                detail = await recordings.get_detail(session, recording_id)
                seen.extend(step for step in detail.steps if step.name == "remux")

    async with Worker(
        client,
        task_queue=QUEUE,
        workflows=[Listens],
        activities=[work],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        told = await client.execute_workflow(
            Listens.run, recording_id, id=str(uuid.uuid4()), task_queue=QUEUE
        )
    # Less than a tenth more is no news.
    assert told == [StepProgress("remux", 50.0, 20.0, 60.0)]
    (step,) = seen
    assert (step.state, step.progress, step.speed, step.eta_s) == ("running", 0.55, 20.0, 60.0)


def test_the_time_left_is_worked_out_where_nobody_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress, "monotonic", lambda: now)
    report = Report(Step.THUMBNAILS)
    now = 130.0
    report.note(0.25)
    assert report.details == StepProgress("thumbnails", 25.0, None, 90.0)


def test_a_step_of_seconds_says_nothing_to_its_workflow(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress, "monotonic", lambda: now)
    report = Report(Step.REMUX)
    report.note(0.9)
    assert report.news() is None
    now += progress.TOLD_EVERY_S
    assert report.news() is not None
    assert report.news() is None
