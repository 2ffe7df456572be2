"""Jobs by the clock, on a real Temporal server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from temporalio import workflow
from temporalio.client import Client, ScheduleDescription
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.schedules import Job, ensure_schedules
from streamvault.contracts import DETECT_QUEUE
from streamvault.settings import Settings, check_settings

WITH_TWITCH = check_settings({"twitch_client_id": "someclient"})
WITHOUT_TWITCH = check_settings({})
# Only a test that fails waits this long.
PATIENCE_S = 30


@workflow.defn
class Counted:
    @workflow.run
    async def run(self) -> None:
        return


@pytest.fixture
async def client(temporal_dev: WorkflowEnvironment) -> AsyncIterator[Client]:
    async with Worker(
        temporal_dev.client,
        task_queue=DETECT_QUEUE,
        workflows=[Counted],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        yield temporal_dev.client


@pytest.fixture
async def job(client: Client) -> AsyncIterator[Job]:
    made = Job(f"job-{uuid.uuid4().hex}", "Counted", timedelta(hours=1))
    yield made
    await ensure_schedules(client, WITHOUT_TWITCH, (made,))


async def ensure(client: Client, job: Job, settings: Settings = WITH_TWITCH) -> None:
    await ensure_schedules(client, settings, (job,))


async def described(client: Client, job: Job) -> ScheduleDescription | None:
    try:
        return await client.get_schedule_handle(job.id).describe()
    except RPCError as error:
        assert error.status == RPCStatusCode.NOT_FOUND
        return None


async def until_run(client: Client, job: Job, times: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await described(client, job)
            if found and found.info.num_actions >= times and not found.info.running_actions:
                return
            await asyncio.sleep(0.1)


async def test_a_job_runs_at_the_first_start_and_at_each_later_one(
    client: Client, job: Job
) -> None:
    for starts in (1, 2):
        await ensure(client, job)
        await until_run(client, job, starts)


async def test_a_job_that_need_not_run_at_the_start_waits_for_its_time(
    client: Client, job: Job
) -> None:
    for _ in range(2):
        await ensure(client, replace(job, at_start=False))
    found = await described(client, job)
    assert found is not None and found.info.num_actions == 0
    [interval] = found.schedule.spec.intervals
    assert interval.every == timedelta(hours=1)


async def test_a_new_release_changes_the_interval(client: Client, job: Job) -> None:
    await ensure(client, job)
    await ensure(client, replace(job, every=timedelta(minutes=10)))
    found = await described(client, job)
    assert found is not None
    assert [spec.every for spec in found.schedule.spec.intervals] == [timedelta(minutes=10)]


async def test_what_a_person_has_paused_stays_paused(client: Client, job: Job) -> None:
    await ensure(client, job)
    await client.get_schedule_handle(job.id).pause(note="by hand")
    await ensure(client, job)
    found = await described(client, job)
    assert found is not None and found.schedule.state.paused


async def test_without_a_twitch_application_the_job_goes(client: Client, job: Job) -> None:
    await ensure(client, job)
    for _ in range(2):
        await ensure(client, job, WITHOUT_TWITCH)
        assert await described(client, job) is None


async def test_a_stack_for_one_recording_leaves_the_jobs_of_the_installation_alone(
    client: Client, job: Job
) -> None:
    await ensure(client, job)
    await ensure(client, job, WITHOUT_TWITCH.replaced(detection=False))
    assert await described(client, job) is not None
