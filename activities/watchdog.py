"""The watchdog of the whole installation: recordings that stand still, or that nobody runs.

A capture looks after itself within seconds (hls.watching). This is the second line, and the one
that notices when Temporal has lost what it knew. It never cancels anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from activities.neglected import Neglected, find_neglected
from activities.progress import beat_for_ever
from activities.stalls import STALL_S, Stalls
from activities.starts import adopt_processing, adopt_recording, probe
from activities.wishes import wish_of
from streamvault.contracts import Status, Watched, processing_workflow_id
from streamvault.db import facts, recordings, streamers, watch
from streamvault.db.session import Database
from streamvault.db.watch import Unfinished
from streamvault.errors import Conflict, SourceError, StreamOffline, StreamVaultError
from streamvault.logs import scrub

log = logging.getLogger(__name__)

TICK_S = 15.0
BEAT_S = 5.0
# Long enough to cost nothing, short enough that a new release's code takes over.
WATCH_FOR_S = 6 * 3600.0
SILENT_FOR = timedelta(seconds=60)
"""A recorder tells of each capture every few seconds."""
# A start is a row first and a workflow a moment later.
FRESH = timedelta(seconds=20)
LOOKS_AT_ONCE = 8
# With this the watchdog still tells of itself in time when Temporal does not answer.
LOOK_LIMIT_S = 20.0
RPC_LIMIT = timedelta(seconds=5)
LIVE_LIMIT_S = 10.0
NEGLECTED_EVERY_S = 60.0
ACTIONS_KEPT = 20
RESTARTED, ADOPTED = "restarted", "adopted"


@dataclass
class Deeds:
    """What was done, over all processes that were ever the watchdog."""

    counts: dict[str, int] = field(default_factory=lambda: {RESTARTED: 0, ADOPTED: 0})
    last: list[dict[str, str]] = field(default_factory=list)
    """Oldest first."""

    def note(self, what: str, row: Unfinished, why: str) -> None:
        self.counts[what] += 1
        at = datetime.now(UTC).isoformat(timespec="seconds")
        deed = {"at": at, "what": what, "recording_id": str(row.id), "why": why}
        self.last = [*self.last, deed][-ACTIONS_KEPT:]
        log.warning("watchdog: %s", what, extra={"recording_id": str(row.id), "why": why})


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
    library: Path | None = None
    """Where the folders of recordings are, if they are on this host."""
    tick_s: float = TICK_S
    _stalls: Stalls = field(default_factory=Stalls)
    _deeds: Deeds | None = None
    _neglected: Neglected = field(default_factory=Neglected)
    _neglected_at: float = -NEGLECTED_EVERY_S

    @activity.defn
    async def watch_over(self) -> Watched:
        """Look again and again, until it is time to start anew."""
        beats = asyncio.create_task(beat_for_ever(BEAT_S))
        stopping = asyncio.create_task(activity.wait_for_worker_shutdown())
        rounds, began = 0, monotonic()
        # Another process may have been the watchdog since this one was.
        self._deeds = None
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
                known = await facts.get_fact(session, facts.WATCHDOG)
            if self._deeds is None:
                self._deeds = _deeds_of(known.value if known else {})
            problem = await self._see_to(rows, self._deeds)
            if monotonic() - self._neglected_at >= NEGLECTED_EVERY_S:
                self._neglected = await find_neglected(self.db, rows, self.library)
                self._neglected_at = monotonic()
            async with self.db.begin() as session:
                told = self._found(rows, self._deeds, problem)
                await facts.put_fact(session, facts.WATCHDOG, told)
        except (StreamVaultError, SQLAlchemyError, OSError) as error:
            # The next look is a few seconds away; that this one was missed, the health shows.
            log.warning("the watchdog could not look", extra={"why": scrub(str(error))})

    def _found(self, rows: Sequence[Unfinished], deeds: Deeds, problem: str) -> dict[str, Any]:
        captured = [row for row in rows if row.status in watch.CAPTURING]
        return {
            "recordings": len(rows),
            "silent": sum(map(is_silent, captured)),
            "reconnecting": sum(row.status == Status.RECONNECTING for row in captured),
            **deeds.counts,
            "last": deeds.last,
            "neglected": self._neglected.as_fact(),
            "problem": problem,
        }

    # ---- what is done

    async def _see_to(self, rows: Sequence[Unfinished], deeds: Deeds) -> str:
        """Restart and adopt what has to be; the first thing that went wrong, or ""."""
        standing = self._stalls.see(rows, monotonic())
        work = [partial(self._restart, row, deeds) for row in standing]
        work += [partial(self._take_up, row, deeds) for row in rows if not _is_fresh(row)]
        try:
            async with asyncio.timeout(LOOK_LIMIT_S):
                return await _all(work)
        except TimeoutError:
            return "Temporal does not answer in time"

    async def _restart(self, row: Unfinished, deeds: Deeds) -> None:
        if not await self._may_be_live(row):
            return  # its end is under way
        async with self.db.begin() as session:
            now = await watch.unfinished(session, only=row.id)
        if not now or now[0].reached != row.reached or now[0].status not in watch.CAPTURING:
            return
        why = f"no progress for {STALL_S:.0f} s"
        handle = self.client.get_workflow_handle(row.workflow_id)
        try:
            await handle.signal("restart", why, rpc_timeout=RPC_LIMIT)
        except RPCError as error:
            # Gone in between; whether somebody has to take over is looked at as well.
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            return
        deeds.note(RESTARTED, row, why)

    async def _may_be_live(self, row: Unfinished) -> bool:
        """Unless the source itself says that it is over: a capture waits for a while then."""
        async with self.db.begin() as session:
            streamer = await streamers.find_by_id(session, row.streamer_id)
        try:
            async with asyncio.timeout(LIVE_LIMIT_S):
                await probe(self.client, wish_of(streamer, row.source_url))
        except StreamOffline:
            return False
        except (SourceError, TimeoutError):
            return True
        return True

    async def _take_up(self, row: Unfinished, deeds: Deeds) -> None:
        if await self._is_run(row):
            return
        # Temporal has lost it, or somebody ended its workflow by hand.
        async with self.db.begin() as session:
            still = await watch.unfinished(session, only=row.id)
            if not still:
                return
            recording = await recordings.get_recording(session, row.id)
        if still[0].is_captured:
            await adopt_recording(self.client, recording)
        else:
            try:
                await adopt_processing(self.client, recording, self.host_id)
            except Conflict:
                return  # somebody was faster
        deeds.note(ADOPTED, row, "no workflow runs it")

    async def _is_run(self, row: Unfinished) -> bool:
        """Whether a workflow has it in hand."""
        if await self._is_open(row.workflow_id):
            return True
        return not row.is_captured and await self._is_open(processing_workflow_id(str(row.id)))

    async def _is_open(self, workflow_id: str) -> bool:
        try:
            handle = self.client.get_workflow_handle(workflow_id)
            found = await handle.describe(rpc_timeout=RPC_LIMIT)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return False
            raise
        return found.status is WorkflowExecutionStatus.RUNNING


async def _all(work: Sequence[Callable[[], Awaitable[None]]]) -> str:
    """A few at a time; one that fails holds up nobody. The first failure in one line, or ""."""
    gate = asyncio.Semaphore(LOOKS_AT_ONCE)

    async def one(item: Callable[[], Awaitable[None]]) -> str:
        async with gate:
            try:
                await item()
            except (StreamVaultError, SQLAlchemyError, RPCError) as error:
                return scrub(str(error)) or type(error).__name__
        return ""

    problems = [problem for problem in await asyncio.gather(*map(one, work)) if problem]
    if problems:
        about = {"count": len(problems), "why": problems[0]}
        log.warning("the watchdog could not see to everything", extra=about)
    return problems[0] if problems else ""


def _deeds_of(told: dict[str, Any]) -> Deeds:
    deeds = Deeds(last=list(told.get("last", [])))
    for what in deeds.counts:
        deeds.counts[what] = int(told.get(what, 0))
    return deeds


def _is_fresh(row: Unfinished) -> bool:
    return datetime.now(UTC) - row.created_at < FRESH
