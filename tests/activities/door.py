"""The door to recordings, with a stage behind it."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress

from sqlalchemy import func, select
from temporalio.service import RPCError

from activities.starts import start_recording
from streamvault.contracts import Probed, Status, processing_workflow_id
from streamvault.db import recordings
from streamvault.db.models import Recording
from streamvault.db.session import Database
from tests.workflows.fakes import BEAT_S, ENDED
from tests.workflows.stage import PATIENCE_S, Stage
from workflows.process_recording import ProcessRecording
from workflows.record_stream import RecordStream

ALICE = "https://fake.example.org/alice"


class Door:
    """What comes through the door goes on a stage whose catalog is the real one."""

    def __init__(self, stage: Stage, db: Database) -> None:
        self.stage = stage
        self.db = db
        self.stream_id = uuid.uuid4().hex
        stage.cast.streams.seen = Probed("fake", "alice", "Alice", self.stream_id, "speedrun")

    async def start(self, by: str = "person") -> tuple[str, bool]:
        client = self.stage.client
        recording_id, created = await start_recording(client, self.db, url=ALICE, started_by=by)
        workflow_id = (await self.row(recording_id)).workflow_id
        self.stage.stream = client.get_workflow_handle_for(RecordStream.run, workflow_id)
        self.stage.processing = client.get_workflow_handle_for(
            ProcessRecording.run, processing_workflow_id(recording_id)
        )
        return recording_id, created

    async def row(self, recording_id: str) -> Recording:
        async with self.db.begin() as session:
            return await recordings.get_detail(session, recording_id)

    async def leave(self) -> None:
        """What still runs would look for a recorder among those of the tests to come."""
        async with self.db.begin() as session:
            rows = list(await session.scalars(select(Recording)))
        for row in rows:
            for workflow_id in (row.workflow_id, processing_workflow_id(str(row.id))):
                with suppress(RPCError):
                    await self.stage.client.get_workflow_handle(workflow_id).terminate()

    async def rows(self) -> int:
        async with self.db.begin() as session:
            return await session.scalar(select(func.count()).select_from(Recording)) or 0

    async def until_status(self, recording_id: str, status: Status) -> Recording:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                row = await self.row(recording_id)
                if row.status == status:
                    return row
                await asyncio.sleep(BEAT_S)

    async def until_recording(self, session: int = 1) -> None:
        await self.stage.until(lambda: len(self.stage.cast.recording.sessions) == session)

    async def finish(self) -> None:
        self.stage.cast.recording.ends.put_nowait(ENDED)
        await self.stage.stream.result()
