"""The watchdog of the whole installation: recordings that stand still, or that nobody runs.

A capture looks after itself within seconds (hls.watching). This is the second line, and the one
that notices when Temporal has lost what it knew. It never cancels anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from activities.progress import beat_for_ever
from activities.starts import adopt_processing, adopt_recording
from streamvault.contracts import Status, Watched, processing_workflow_id
from streamvault.db import facts, recordings, watch
from streamvault.db.session import Database
from streamvault.db.watch import Unfinished
from streamvault.errors import Conflict, StreamVaultError

log = logging.getLogger(__name__)

TICK_S = 15.0
BEAT_S = 5.0
# Long enough to cost nothing, short enough that a new release's code takes over.
WATCH_FOR_S = 6 * 3600.0
STALL_S = 30.0
COOL_DOWN_S = 60.0
SILENT_FOR = timedelta(seconds=60)
"""A recorder tells of each capture every few seconds."""
# A start is a row first and a workflow a moment later.
FRESH = timedelta(seconds=20)
LOOKS_AT_ONCE = 8


@dataclass
class _Track:
    """How far a recording was, and since when."""

    reached: tuple[float, int]
    since: float
    restarted_at: float = -COOL_DOWN_S


@dataclass
class Stalls:
    """Which recordings have not moved for too long; times are monotonic seconds."""

    _tracks: dict[UUID, _Track] = field(default_factory=dict)

    def see(self, rows: Sequence[Unfinished], now: float) -> list[Unfinished]:
        """Those that are to be restarted now. One that is reconnecting by itself is given twice
        the time; one whose recorder does not tell is not known to stand still."""
        captured = {row.id: row for row in rows if row.status in watch.CAPTURING}
        self._tracks = {key: track for key, track in self._tracks.items() if key in captured}
        return [row for row in captured.values() if self._stalls(row, now)]

    def _stalls(self, row: Unfinished, now: float) -> bool:
        reached = (row.duration_s, row.size_bytes)
        track = self._tracks.setdefault(row.id, _Track(reached, now))
        if track.reached != reached:
            track.reached, track.since = reached, now
        patience_s = 2 * STALL_S if row.status == Status.RECONNECTING else STALL_S
        if is_silent(row) or not row.duration_s or now - track.since < patience_s:
            return False
        if now - track.restarted_at < COOL_DOWN_S:
            return False
        track.restarted_at = now
        return True


def is_silent(row: Unfinished) -> bool:
    """The recorder does not tell: it is gone, or the database was. Its own supervisor, heartbeats
    and the workflow see to that."""
    told_at = row.progress_at or row.created_at
    return datetime.now(UTC) - told_at > SILENT_FOR


@dataclass
class Watchdog:
    db: Database
    client: Client
    host_id: str
    tick_s: float = TICK_S
    _stalls: Stalls = field(default_factory=Stalls)
    _restarted: int = 0
    _adopted: int = 0

    @activity.defn
    async def watch_over(self) -> Watched:
        """Look again and again, until it is time to start anew."""
        beats = asyncio.create_task(beat_for_ever(BEAT_S))
        stopping = asyncio.create_task(activity.wait_for_worker_shutdown())
        rounds, began = 0, monotonic()
        try:
            while not stopping.done() and monotonic() - began < WATCH_FOR_S:
                await self._tick()
                rounds += 1
                await asyncio.wait({stopping}, timeout=self.tick_s)
            return Watched(rounds)
        finally:
            beats.cancel()
            stopping.cancel()

    async def _tick(self) -> None:
        try:
            async with self.db.begin() as session:
                rows = await watch.unfinished(session)
            for row in self._stalls.see(rows, monotonic()):
                await self._restart(row)
            await self._adopt_all([row for row in rows if not _is_fresh(row)])
            async with self.db.begin() as session:
                await facts.put_fact(session, facts.WATCHDOG, self._found(rows))
        except (StreamVaultError, SQLAlchemyError, RPCError) as error:
            # The next look is a few seconds away; that this one was missed, the health shows.
            log.warning("the watchdog could not look", extra={"why": str(error)})

    def _found(self, rows: Sequence[Unfinished]) -> dict[str, int]:
        return {
            "recordings": len(rows),
            "silent": sum(row.status in watch.CAPTURING and is_silent(row) for row in rows),
            "restarted": self._restarted,
            "adopted": self._adopted,
        }

    async def _restart(self, row: Unfinished) -> None:
        log.warning("recording does not move: restarted", extra={"recording_id": str(row.id)})
        handle = self.client.get_workflow_handle(row.workflow_id)
        try:
            await handle.signal("restart", f"no progress for {STALL_S:.0f} s")
        except RPCError as error:
            # Gone in between; whether somebody has to take over is looked at next.
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
        self._restarted += 1

    async def _adopt_all(self, rows: Sequence[Unfinished]) -> None:
        limit = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def look(row: Unfinished) -> None:
            async with limit:
                if not await self._is_run(row):
                    await self._adopt(row)

        await asyncio.gather(*(look(row) for row in rows))

    async def _is_run(self, row: Unfinished) -> bool:
        """Whether a workflow has it in hand."""
        if await self._is_open(row.workflow_id):
            return True
        return not row.is_captured and await self._is_open(processing_workflow_id(str(row.id)))

    async def _is_open(self, workflow_id: str) -> bool:
        try:
            found = await self.client.get_workflow_handle(workflow_id).describe()
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return False
            raise
        return found.status is WorkflowExecutionStatus.RUNNING

    async def _adopt(self, seen: Unfinished) -> None:
        """Temporal has lost it, or somebody ended its workflow by hand."""
        async with self.db.begin() as session:
            still = await watch.unfinished(session, only=seen.id)
            if not still:
                return
            recording = await recordings.get_recording(session, seen.id)
        log.warning("nobody runs this recording: adopted", extra={"recording_id": str(seen.id)})
        if still[0].is_captured:
            await adopt_recording(self.client, recording)
        else:
            try:
                await adopt_processing(self.client, recording, self.host_id)
            except Conflict:
                return  # somebody was faster
        self._adopted += 1


def _is_fresh(row: Unfinished) -> bool:
    return datetime.now(UTC) - row.created_at < FRESH
