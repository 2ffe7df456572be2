"""The recorder's activities: claim a host, attach to a capture, nudge it, seal it.

A capture lives apart from the attempt that watches it. An attempt that times out, is paused or
reset, or loses Temporal leaves the capture running; the next one attaches to it.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.timeline_rows import progress_row, save_timeline
from activities.told import write_about
from streamvault.contracts import (
    BEAT_S,
    CaptureEnd,
    Claim,
    NudgeInput,
    Recorded,
    RecordInput,
    RoomInput,
    Sealed,
    SealInput,
    Step,
    StepState,
    host_queue,
    media_queue,
)
from streamvault.db import captured, steps, streams
from streamvault.db.session import Database
from streamvault.errors import SourceError, StreamVaultError
from streamvault.hls.capture import Capture
from streamvault.hls.captures import Captures
from streamvault.hls.order import CaptureOrder
from streamvault.hls.room import has_room
from streamvault.playback.sources import Sources
from streamvault.source import Sighting, Wish

log = logging.getLogger(__name__)

# How long a capture goes on without an attempt that watches it: a Temporal restart of 60 s, the
# reconnect after it and the next attempt fit in.
ORPHAN_GRACE_S = 180.0
# The rows of parts are rewritten for their sizes; the totals go along with each beat.
ROWS_EVERY_S = 10.0
ROOM_LOOK_S = 2.0


@dataclass(frozen=True)
class Recording:
    db: Database
    captures: Captures
    sources: Sources
    libraries: tuple[Path, ...]
    """The first holds the working folders; parts that find no room there go to the next."""
    host_id: str
    look_every_s: float
    """How often title and category are looked at while recording."""

    @activity.defn
    async def claim(self, recording_id: str) -> Claim:
        return Claim(self.host_id, host_queue(self.host_id), media_queue(self.host_id))

    @activity.defn
    async def record(self, order: RecordInput) -> Recorded:
        """Watch one capture until it ends, is stopped, or this process shuts down."""
        info = activity.info()
        capture = await self.captures.attach(
            CaptureOrder(
                recording_id=order.recording_id,
                source_url=order.source_url,
                quality=order.quality,
                directory=self.libraries[0] / order.directory,
                end_grace_s=order.end_grace_s,
                # Times of the server: a later attempt, session or run always has the higher ones.
                fence=_ms(info.current_attempt_scheduled_time),
                session=_ms(info.scheduled_time),
                stream_id=order.stream_id,
                codecs=tuple(order.codecs),
                proxy_policy=order.proxy_policy,
                streamer_id=order.streamer_id,
            )
        )
        token = base64.b64encode(info.task_token).decode()
        self.captures.remember_attempt(order.recording_id, token)
        shutdown = asyncio.create_task(activity.wait_for_worker_shutdown())
        channel = asyncio.create_task(self._follow_channel(order))
        saver = _Saver(self.db, capture, info.attempt)
        try:
            return await self._watch(capture, shutdown, saver)
        except asyncio.CancelledError:
            return await self._after_cancel(capture)
        finally:
            channel.cancel()
            shutdown.cancel()
            # A save that comes after the end would put the figures of before it back.
            await saver.finish()

    async def _watch(
        self, capture: Capture, shutdown: asyncio.Task[None], saver: _Saver
    ) -> Recorded:
        while True:
            done, _ = await asyncio.wait(
                {capture.task, shutdown}, timeout=BEAT_S, return_when=asyncio.FIRST_COMPLETED
            )
            activity.heartbeat(asdict(capture.progress()))
            if capture.task in done:
                return _outcome(capture)
            if shutdown in done:
                await capture.drain()
                return Recorded(CaptureEnd.DRAINED, reason="the recorder shuts down")
            saver.save_aside()

    async def _after_cancel(self, capture: Capture) -> Recorded:
        """A stop is answered with a result; anything else leaves the capture to its successor."""
        details = activity.cancellation_details()
        if details and details.cancel_requested and not details.not_found:
            capture.stop()
            await asyncio.wait({capture.task})
            return _outcome(capture)
        self.captures.detach(capture.order.recording_id, ORPHAN_GRACE_S)
        raise asyncio.CancelledError

    async def _follow_channel(self, order: RecordInput) -> None:
        """Note when title or category changed, without any Twitch account. By the database and not
        by a signal: a channel that changes all day would fill the workflow's history."""
        noted: tuple[str, str] | None = None
        while True:
            await asyncio.sleep(self.look_every_s)
            try:
                seen = await self.sources.look(
                    Wish(
                        order.source_url,
                        proxy_policy=order.proxy_policy,
                        streamer_id=order.streamer_id,
                    )
                )
            except SourceError:
                continue
            if order.stream_id and seen.stream_id not in {None, order.stream_id}:
                continue
            if (seen.title, seen.category) != noted and await self._note_channel(order, seen):
                noted = seen.title, seen.category

    async def _note_channel(self, order: RecordInput, seen: Sighting) -> bool:
        try:
            async with self.db.begin() as session:
                await streams.add_channel_event(
                    session, order.recording_id, None, seen.title, seen.category
                )
        except (StreamVaultError, SQLAlchemyError) as error:
            log.warning("title not noted", extra={"why": error})
            return False
        return True

    @activity.defn
    async def nudge(self, order: NudgeInput) -> None:
        capture = self.captures.get(order.recording_id)
        if capture is None:
            if order.word == "stop":
                return  # it has ended meanwhile
            raise ApplicationError("no capture of this recording runs here")
        if order.word == "stop":
            capture.stop(order.reason)
        elif order.word == "restart":
            capture.restart(order.reason)
        elif order.word == "another":
            capture.end_for_another(order.reason)
        else:
            capture.note_offline(order.reason)

    @activity.defn
    async def await_room(self, order: RoomInput) -> None:
        """Return once a disk has had room for long enough, however long that takes."""
        folders = [library / order.directory for library in self.libraries]
        since: float | None = None
        while since is None or monotonic() - since < order.lasting_s:
            activity.heartbeat()
            await asyncio.sleep(ROOM_LOOK_S)
            if not await asyncio.to_thread(lambda: any(map(has_room, folders))):
                since = None
            elif since is None:
                since = monotonic()

    @activity.defn
    async def seal(self, order: SealInput) -> Sealed:
        """Write the end into the journal and the whole account into the database; repeatable."""
        folder = self.libraries[0] / order.directory
        timeline = await self.captures.seal(order.recording_id, folder, order.reason)
        totals = timeline.totals
        async with self.db.begin() as session:
            await save_timeline(session, order.recording_id, timeline)
            if totals.segments_stored:
                await steps.set_step(session, order.recording_id, Step.RECORD, StepState.DONE)
        if totals.segments_stored:
            await write_about(self.db, folder, order.recording_id)
        return Sealed(
            segments=totals.segments_stored,
            size_bytes=timeline.size_bytes,
            duration_s=timeline.duration_s,
            gaps=len(timeline.gaps),
        )


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


class _Saver:
    """Progress goes to the database beside the watch, so that a slow one delays no heartbeat."""

    def __init__(self, db: Database, capture: Capture, attempt: int) -> None:
        self._db = db
        self._capture = capture
        self._attempt = attempt
        self._task: asyncio.Task[None] | None = None
        self._told_step = False
        self._rows: tuple[int, ...] = ()
        self._rows_at = 0.0

    def save_aside(self) -> None:
        """Begin a save, unless the last one is still under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._save())

    async def finish(self) -> None:
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _save(self) -> None:
        recording_id = self._capture.order.recording_id
        try:
            async with self._db.begin() as session:
                await captured.save_progress(session, recording_id, progress_row(self._capture))
                await self._save_rows(session)
                if not self._told_step:
                    await steps.set_step(
                        session, recording_id, Step.RECORD, StepState.RUNNING, attempt=self._attempt
                    )
            if not self._told_step:
                await write_about(self._db, self._capture.order.directory, recording_id)
            self._told_step = True
        except (StreamVaultError, SQLAlchemyError) as error:
            # The journal holds it all; the rows catch up at the next save.
            log.warning("progress not saved", extra={"recording_id": recording_id, "why": error})

    async def _save_rows(self, session: AsyncSession) -> None:
        """Parts, gaps and ads when there are more of them, and now and then as they grow."""
        timeline, now = self._capture.timeline, monotonic()
        rows = len(timeline.parts), len(timeline.gaps), len(timeline.ads)
        if rows == self._rows and now - self._rows_at < ROWS_EVERY_S:
            return
        await save_timeline(session, self._capture.order.recording_id, timeline)
        self._rows, self._rows_at = rows, now


def _outcome(capture: Capture) -> Recorded:
    """What the capture came to; raises what ended it."""
    result = capture.task.result()
    return Recorded(
        end=result.end,
        reason=result.reason,
        segments=result.segments,
        size_bytes=result.size_bytes,
    )
