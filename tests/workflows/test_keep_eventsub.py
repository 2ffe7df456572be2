"""KeepEventSub goes on for ever; CheckSubscriptions is done once per call, and never piles up."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from temporalio import activity
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
    WorkflowExecutionStatus,
)
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.eventsub.state import SubscriptionCheck
from streamvault.contracts import CONTROL_QUEUE, DETECT_QUEUE, SUBSCRIPTIONS_ID, Watched
from workflows.keep_eventsub import CheckSubscriptions, KeepEventSub

# Only a test that fails waits this long.
PATIENCE_S = 60


@dataclass
class FakeEventSub:
    """Listens for a moment, or until it may go on; checks when it is allowed to."""

    listened: int = 0
    checked: int = 0
    failures: int = 0
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @activity.defn
    async def listen(self) -> Watched:
        self.listened += 1
        self.changed.set()
        if self.listened == 3:
            raise ApplicationError("Twitch is away")
        if self.listened > 4:
            await self.may_go_on.wait()
        return Watched(1)

    @activity.defn
    async def reconcile(self) -> None:
        self.checked += 1
        self.changed.set()
        await self.may_go_on.wait()

    async def until(self, name: str, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if getattr(self, name) >= count:
                    return
                await self.changed.wait()
                self.changed.clear()


@pytest.fixture
async def eventsub(temporal_dev: WorkflowEnvironment) -> AsyncIterator[FakeEventSub]:
    fake = FakeEventSub()
    client = temporal_dev.client
    async with (
        Worker(client, task_queue=CONTROL_QUEUE, workflows=[KeepEventSub, CheckSubscriptions]),
        Worker(client, task_queue=DETECT_QUEUE, activities=[fake.listen, fake.reconcile]),
    ):
        yield fake
        fake.may_go_on.set()


async def test_listening_starts_anew_whenever_it_returns_and_when_it_fails(
    temporal_dev: WorkflowEnvironment, eventsub: FakeEventSub
) -> None:
    handle = await temporal_dev.client.start_workflow(
        KeepEventSub.run, id=f"eventsub-{uuid.uuid4().hex}", task_queue=CONTROL_QUEUE
    )
    await eventsub.until("listened", 5)
    first = temporal_dev.client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
    status = (await first.describe()).status
    assert status == WorkflowExecutionStatus.CONTINUED_AS_NEW
    last = temporal_dev.client.get_workflow_handle(handle.id)
    assert (await last.describe()).status == WorkflowExecutionStatus.RUNNING
    await last.terminate("the test is over")


async def test_many_who_want_a_check_at_once_get_one_more_after_the_one_that_runs(
    temporal_dev: WorkflowEnvironment, eventsub: FakeEventSub
) -> None:
    client = temporal_dev.client
    check = SubscriptionCheck(client)
    # Without the schedule there is no Twitch application, and nothing to check.
    await check.check_soon()
    schedule = await client.create_schedule(
        SUBSCRIPTIONS_ID,
        Schedule(
            action=ScheduleActionStartWorkflow(
                "CheckSubscriptions", id=SUBSCRIPTIONS_ID, task_queue=CONTROL_QUEUE
            ),
            spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(days=1))]),
        ),
    )
    try:
        await check.check_soon()
        await eventsub.until("checked", 1)
        for _ in range(10):
            await check.check_soon()
        eventsub.may_go_on.set()
        await eventsub.until("checked", 2)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                info = (await schedule.describe()).info
                if not info.running_actions and info.num_actions >= 2:
                    break
                await asyncio.sleep(0.1)
        assert (eventsub.checked, info.num_actions) == (2, 2)
    finally:
        await schedule.delete()
