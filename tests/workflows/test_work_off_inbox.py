from __future__ import annotations

import asyncio
import uuid

from temporalio import activity
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from streamvault.contracts import DETECT_QUEUE, Watched
from tests.workflows.stage import PATIENCE_S
from workflows.work_off_inbox import WorkOffInbox

SHIFTS = 3


class Shifts:
    """The first one fails, the others end as a worker that shuts down does; the last one lasts."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, int]] = []
        self.lasting = asyncio.Event()

    @activity.defn
    async def work_off(self) -> Watched:
        info = activity.info()
        self.runs.append((info.workflow_run_id or "", info.attempt))
        if len(self.runs) == 1:
            raise RuntimeError("the first one fails")
        if len(self.runs) > SHIFTS:
            self.lasting.set()
            await activity.wait_for_worker_shutdown()
        return Watched(1)


async def test_somebody_always_works_the_inbox_off(temporal_dev: WorkflowEnvironment) -> None:
    shifts = Shifts()
    async with Worker(
        temporal_dev.client,
        task_queue=DETECT_QUEUE,
        workflows=[WorkOffInbox],
        activities=[shifts.work_off],
    ):
        handle = await temporal_dev.client.start_workflow(
            WorkOffInbox.run, id=f"inbox-{uuid.uuid4()}", task_queue=DETECT_QUEUE
        )
        async with asyncio.timeout(PATIENCE_S):
            await shifts.lasting.wait()
        await handle.terminate("the test is over")
    runs = [run for run, _ in shifts.runs]
    # Failed and tried again within a run, then one run for each shift: the history stays short.
    assert runs[0] == runs[1]
    assert len(set(runs)) == SHIFTS
    assert [attempt for _, attempt in shifts.runs[:4]] == [1, 2, 1, 1]
