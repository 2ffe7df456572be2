"""KeepWatch goes on for ever: when the watchdog returns, fails, or dies with its worker."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.watches import ensure_watchdog
from streamvault.contracts import CONTROL_QUEUE, WATCHDOG_ID, PipelineStatus, Watched
from workflows.keep_watch import KeepWatch

# Only a test that fails waits this long; the watchdog moves within 20 s and its pause.
PATIENCE_S = 90


@dataclass
class FakeWatchdog:
    """Each watch does what the test says beforehand, then lasts until the test is over."""

    script: list[str] = field(default_factory=list)
    watches: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @activity.defn
    async def watch_over(self) -> Watched:
        self.watches += 1
        self.changed.set()
        what = self.script.pop(0) if self.script else "watch"
        if what == "fail":
            raise ApplicationError("the database is away")
        if what == "die":
            # A process that is gone beats no more.
            await self.over.wait()
        while what == "watch" and not self.over.is_set():
            activity.heartbeat()
            await asyncio.sleep(0.5)
        return Watched(1)

    async def until_watches(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.watches < count:
                await self.changed.wait()
                self.changed.clear()


@pytest.fixture
async def fake(temporal_dev: WorkflowEnvironment) -> AsyncIterator[FakeWatchdog]:
    fake = FakeWatchdog()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            Worker(
                temporal_dev.client,
                task_queue=CONTROL_QUEUE,
                workflows=[KeepWatch],
                activities=[fake.watch_over],
            )
        )
        yield fake
        fake.over.set()


async def begin(client: Client) -> WorkflowHandle[KeepWatch, None]:
    return await client.start_workflow(
        KeepWatch.run, id=f"watchdog-{uuid.uuid4().hex}", task_queue=CONTROL_QUEUE
    )


async def end(client: Client, workflow_id: str) -> None:
    await client.get_workflow_handle(workflow_id).terminate("the test is over")


async def test_it_watches_on_whenever_a_watch_returns_and_when_it_fails(
    temporal_dev: WorkflowEnvironment, fake: FakeWatchdog
) -> None:
    fake.script = ["return", "fail", "return"]
    handle = await begin(temporal_dev.client)
    await fake.until_watches(4)
    first = temporal_dev.client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
    status = (await first.describe()).status
    assert status == WorkflowExecutionStatus.CONTINUED_AS_NEW
    last = temporal_dev.client.get_workflow_handle(handle.id)
    assert (await last.describe()).status == WorkflowExecutionStatus.RUNNING
    await end(temporal_dev.client, handle.id)


async def test_a_watchdog_that_died_is_replaced_within_a_minute(
    temporal_dev: WorkflowEnvironment, fake: FakeWatchdog
) -> None:
    fake.script = ["die"]
    handle = await begin(temporal_dev.client)
    await fake.until_watches(1)
    began = asyncio.get_running_loop().time()
    await fake.until_watches(2)
    assert asyncio.get_running_loop().time() - began < 60
    await end(temporal_dev.client, handle.id)


async def test_there_is_one_however_often_it_is_started(
    temporal_dev: WorkflowEnvironment, fake: FakeWatchdog
) -> None:
    client = temporal_dev.client
    await asyncio.gather(*(ensure_watchdog(client) for _ in range(5)))
    await fake.until_watches(1)
    await ensure_watchdog(client)
    handle = client.get_workflow_handle(WATCHDOG_ID)
    said: PipelineStatus = await handle.query("status", result_type=PipelineStatus)
    assert said.stage == "watching"
    assert fake.watches == 1
    await end(client, WATCHDOG_ID)
    # As after a loss of Temporal's store: the next look of a control worker brings it back.
    await ensure_watchdog(client)
    await fake.until_watches(2)
    await end(client, WATCHDOG_ID)
