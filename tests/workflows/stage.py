"""One recording's workflows among fake activities, on a real Temporal server."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from streamvault.contracts import (
    CONTROL_QUEUE,
    PROCESSING_STEPS,
    RECORD_QUEUE,
    PipelineStatus,
    ProcessInput,
    RecordStreamInput,
    host_queue,
    media_queue,
    processing_workflow_id,
    stream_workflow_id,
)
from tests.workflows.fakes import BEAT_S, Cast
from workflows.deliver_notification import DeliverNotification
from workflows.probe_source import ProbeSource
from workflows.process_recording import ProcessRecording
from workflows.record_stream import RecordStream

HISTORIES = Path(__file__).parents[1] / "data" / "histories"
# Only a test that fails waits this long.
PATIENCE_S = 60
# How Temporal names a process by default: `4711@some-host`, with an ending for a sticky queue.
PROCESS = re.compile(r"\d+@\S+")
WORKFLOWS = [RecordStream, ProcessRecording, ProbeSource, DeliverNotification]
ALL = ("control", "record", "host", "media")


class Stage:
    def __init__(
        self,
        environment: WorkflowEnvironment,
        *,
        recording_id: str = "",
        save_histories: bool = False,
    ) -> None:
        self.client = client = environment.client
        self.recording_id = recording_id or uuid.uuid4().hex
        self.cast = Cast(host_id=uuid.uuid4().hex[:8])
        self._save_histories = save_histories
        self.instead: dict[str, list[Callable[..., Any]]] = {}
        """Activities of a queue that are not the cast's."""
        self._workers: dict[str, Worker] = {}
        self.stream = client.get_workflow_handle_for(
            RecordStream.run, stream_workflow_id("fake", self.recording_id)
        )
        self.processing = client.get_workflow_handle_for(
            ProcessRecording.run, processing_workflow_id(self.recording_id)
        )

    # ---- workers

    async def work(self, names: Iterable[str] = ALL) -> None:
        """Start the workers of these queues."""
        for name in names:
            worker = self._workers[name] = self._worker(name)
            await worker.__aenter__()

    async def rest(self, names: Iterable[str] = ALL) -> None:
        """End them in order: what is recorded is drained."""
        for name in names:
            await self._workers.pop(name).__aexit__(None, None, None)

    def _worker(self, name: str) -> Worker:
        queues = {
            "control": CONTROL_QUEUE,
            "record": RECORD_QUEUE,
            "host": host_queue(self.cast.host_id),
            "media": media_queue(self.cast.host_id),
        }
        return Worker(
            self.client,
            task_queue=queues[name],
            activities=self.instead.get(name) or self.cast.queues[name],
            workflows=WORKFLOWS if name == "control" else [],
            graceful_shutdown_timeout=timedelta(seconds=PATIENCE_S),
            max_heartbeat_throttle_interval=timedelta(seconds=BEAT_S),
            default_heartbeat_throttle_interval=timedelta(seconds=BEAT_S),
        )

    async def close(self) -> None:
        """Leave nothing behind that the next test's workers would be given."""
        for handle in (self.stream, self.processing):
            try:
                await handle.terminate("the test is over")
            except RPCError as error:
                if error.status != RPCStatusCode.NOT_FOUND:
                    raise
        await self.rest(list(self._workers))

    # ---- the two workflows

    async def go_live(self, started_by: str = "person") -> None:
        # The skipping server skips while somebody waits on the handle that a start returned.
        self.stream = await self.client.start_workflow(
            RecordStream.run,
            RecordStreamInput(
                self.recording_id, "https://example.org/alice", started_by=started_by
            ),
            id=self.stream.id,
            task_queue=CONTROL_QUEUE,
        )

    async def process(
        self, steps: Iterable[str] = PROCESSING_STEPS, *, again: bool = False
    ) -> None:
        self.processing = await self.client.start_workflow(
            ProcessRecording.run,
            ProcessInput(
                self.recording_id,
                media_queue(self.cast.host_id),
                "Alice",
                "speedrun",
                [str(step) for step in steps],
                again=again,
            ),
            id=self.processing.id,
            task_queue=CONTROL_QUEUE,
        )

    # ---- watching

    @asynccontextmanager
    async def skipping_time(self) -> AsyncIterator[None]:
        """Let time be skipped while something else than a result is waited for; it stands still
        while an activity runs, so hold one before the time that must not pass."""
        result = asyncio.create_task(self.stream.result())
        try:
            yield
        finally:
            result.cancel()
            await asyncio.wait({result})

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if happened():
                    return
                await asyncio.sleep(BEAT_S)

    async def until_called(self, name: str, times: int = 1) -> None:
        await self.until(lambda: self.cast.script.calls.count(name) >= times)

    async def until_stage(self, handle: WorkflowHandle[Any, Any], stage: str) -> PipelineStatus:
        return await self._until_status(handle, lambda status: status.stage == stage)

    async def until_detail(self, handle: WorkflowHandle[Any, Any], text: str) -> PipelineStatus:
        return await self._until_status(handle, lambda status: text in status.detail)

    async def _until_status(
        self, handle: WorkflowHandle[Any, Any], wanted: Callable[[PipelineStatus], bool]
    ) -> PipelineStatus:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                status = await self.status(handle)
                if wanted(status):
                    return status
                await asyncio.sleep(BEAT_S)

    async def status(self, handle: WorkflowHandle[Any, Any]) -> PipelineStatus:
        """What the workflow says of itself; nothing yet while it does not exist."""
        try:
            answer: PipelineStatus = await handle.query("status", result_type=PipelineStatus)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            return PipelineStatus("")
        return answer

    async def until_found(self, handle: WorkflowHandle[Any, Any], query: str) -> None:
        """Visibility follows the histories a little later."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if handle.id in {found.id async for found in self.client.list_workflows(query)}:
                    return
                await asyncio.sleep(BEAT_S)

    async def keep(self, handle: WorkflowHandle[Any, Any], case: str) -> None:
        """Save this history for the replay tests when they are being recorded anew."""
        if not self._save_histories:
            return
        history = json.loads((await handle.fetch_history()).to_json())
        events = (json.dumps(_impersonal(event)) for event in history["events"])
        text = '{"events": [\n' + ",\n".join(events) + "\n]}\n"
        await asyncio.to_thread((HISTORIES / f"{case}.json").write_text, text)


@asynccontextmanager
async def staged(
    environment: WorkflowEnvironment, *, save_histories: bool = False
) -> AsyncIterator[Stage]:
    stage = Stage(environment, save_histories=save_histories)
    try:
        await stage.work()
        yield stage
    finally:
        await stage.close()


def _impersonal(node: Any) -> Any:
    """Without the names and paths of the machine on which it ran; a replay needs none of them."""
    if isinstance(node, list):
        return [_impersonal(item) for item in node]
    if isinstance(node, dict):
        return {key: _impersonal(value) for key, value in node.items() if key != "stackTrace"}
    return PROCESS.sub("worker", node) if isinstance(node, str) else node
