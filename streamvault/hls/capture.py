"""One recording while it is captured: its life from the first look to the last record.

A capture belongs to its directory. It can be stopped for good, drained (another process goes on),
or run into a full disk; whatever happens, the journal says what is stored, and a later capture of
the same directory goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from streamvault.contracts import CaptureEnd, GapCause
from streamvault.errors import CaptureReplaced, SourceError, StreamOffline
from streamvault.hls.alignment import Cursor
from streamvault.hls.download import Downloads, Health, WaitingList
from streamvault.hls.ending import EndWatch
from streamvault.hls.fence import Claim, when_free
from streamvault.hls.files import RecordingFiles
from streamvault.hls.listing import Listing, NotSegmented
from streamvault.hls.order import CaptureOrder, CaptureProgress, CaptureResult, Surroundings
from streamvault.hls.playlist import Segment
from streamvault.hls.reader import Reading
from streamvault.hls.records import (
    Ended,
    Gap,
    PartOpened,
    Record,
    Resumed,
    SegmentStored,
    Synced,
    Trouble,
)
from streamvault.hls.room import Room
from streamvault.hls.sessions import Sessions
from streamvault.hls.storing import Storing
from streamvault.hls.timeline import Timeline
from streamvault.hls.watching import Watching
from streamvault.hls.writer import STORAGE_ERRORS, Disk
from streamvault.source import Playback, Wish

log = logging.getLogger(__name__)

BITRATE_SEGMENTS = 15
DRAINED = "drained"
DISK = "disk"
ANOTHER = "another stream has begun"


class Capture:
    """Runs as `task` from its creation on; `known` and `remember` keep a playback session beyond
    the process.

    The task raises permanent SourceErrors of the very first resolve, and CaptureLocked.
    """

    def __init__(
        self,
        order: CaptureOrder,
        surroundings: Surroundings,
        *,
        known: Playback | None = None,
        remember: Callable[[Playback], Awaitable[None]] | None = None,
    ) -> None:
        self.order = order
        self.timeline = Timeline()
        self._around = surroundings
        self._known = known
        self._remember = remember
        self._health = Health()
        self._waiting = WaitingList()
        self._watch = EndWatch(
            surroundings.thresholds,
            order.end_grace_s,
            time.monotonic(),
            plain=is_plain(order.source_url),
        )
        self._watching = Watching(surroundings.thresholds, time.monotonic())
        self._listing: Listing | None = None
        self._notes: set[asyncio.Task[None]] = set()
        self._raise_fence: Callable[[int], None] | None = None
        self._asked: asyncio.Future[tuple[CaptureEnd, str]] = (
            asyncio.get_running_loop().create_future()
        )
        self._recent: deque[tuple[int, float]] = deque(maxlen=BITRATE_SEGMENTS)
        self._listeners: list[Callable[[Record], None]] = []
        self.task: asyncio.Task[CaptureResult] = asyncio.create_task(
            self._run(), name=f"capture {order.recording_id}"
        )

    # ---- from outside

    def stop(self, reason: str = "stopped") -> None:
        """End the recording for good."""
        self._ask_for(CaptureEnd.STOPPED, reason)

    async def drain(self) -> None:
        """Close the files for another process to go on; returns when that is done."""
        self._ask_for(CaptureEnd.DRAINED, DRAINED)
        await asyncio.wait({self.task})

    def restart(self, reason: str) -> None:
        """A new playback session and a new part, in the same recording."""
        if self._listing is not None:
            self._listing.restart(reason)

    def take_order(self, order: CaptureOrder) -> None:
        """A newer attempt watches from here on."""
        self.order = order
        if self._raise_fence is not None:
            self._raise_fence(order.fence)

    def note_offline(self, reason: str) -> None:
        """Somebody says that the stream is offline: one witness of two."""
        self._watch.heard_notice(time.monotonic(), reason)
        if self._listing is not None:
            self._listing.wake()

    def end_for_another(self, reason: str) -> None:
        """The source is on another stream: this recording is over."""
        self._watch.heard_of_another(reason)
        if self._listing is not None:
            self._listing.wake()

    def listen(self, listener: Callable[[Record], None]) -> None:
        """Call this with every record to come, once it is in the journal."""
        self._listeners.append(listener)

    def progress(self) -> CaptureProgress:
        totals = self.timeline.totals
        playback = self._listing.playback if self._listing else None
        bits = 8 * sum(size for size, _ in self._recent)
        seconds = sum(duration_s for _, duration_s in self._recent)
        stored_at = self._health.stored_at
        return CaptureProgress(
            state=self._state,
            segments=totals.segments_stored,
            size_bytes=self.timeline.size_bytes,
            media_s=self.timeline.media_s,
            gaps=len(self.timeline.gaps),
            gap_s=totals.gap_s,
            lost=totals.segments_lost,
            ads=totals.segments_ad,
            restarts=totals.restarts,
            bitrate_bps=round(bits / seconds) if seconds else 0,
            variant=playback.variant if playback else "",
            codecs=playback.codecs if playback else "",
            resolution=playback.resolution if playback else "",
            last_segment_age_s=time.monotonic() - stored_at if self._recent else None,
            note=self._note,
            signs=self._watching.signs,
        )

    @property
    def _note(self) -> str:
        problem = "" if self._state == "recording" else self._health.problem
        return ", ".join(filter(None, (problem, self._watching.note)))

    @property
    def _state(self) -> str:
        if self.task.done():
            return "finished"
        if not self._health.stored or self._listing is None:
            return "connecting"
        if self._watch.away:
            return "away"
        quiet_s = time.monotonic() - self._watch.fresh_at
        troubled = self._listing.failing or quiet_s > self._around.thresholds.stall_resolve_s
        return "reconnecting" if troubled else "recording"

    def _ask_for(self, end: CaptureEnd, reason: str) -> None:
        if not self._asked.done():
            self._asked.set_result((end, reason))

    # ---- its life

    async def _run(self) -> CaptureResult:
        """Open the directory, then record, unless an end stands in its journal already."""
        try:
            disk = await self._around.disks.of(self.order.directory)
            files = await self._open(disk)
        except STORAGE_ERRORS as error:
            return self._result(CaptureEnd.DISK, error.one_line)
        for record in files.recovery.records:
            self._take_in(record)
        end = _end_of(files.recovery.records) if files.recovery.finished else None
        if end is not None and end.session >= self.order.session:
            await disk.run(files.close)
            return self._result(CaptureEnd(end.how), end.why)
        return await self._record(files, disk)

    async def _open(self, disk: Disk) -> RecordingFiles:
        order, min_free = self.order, self._around.min_free_bytes
        spill = self._around.spill_of(order.directory)

        def opened(claim: Claim) -> RecordingFiles:
            return RecordingFiles.open(order.directory, order.fence, min_free, claim, spill)

        return await when_free(
            lambda claim: disk.run(partial(opened, claim)),
            self._around.thresholds.takeover_s,
        )

    async def _record(self, files: RecordingFiles, disk: Disk) -> CaptureResult:
        last: list[Record] = [Trouble(time.time(), "cancelled")]
        disk.watch(files)
        self._raise_fence = lambda number: disk.post(partial(files.raise_fence, number))
        try:
            end, reason = await self._until_the_end(files, disk)
            last = self._last_records(end, reason)
        except STORAGE_ERRORS as error:
            end, reason = CaptureEnd.DISK, error.one_line
            last = [Trouble(time.time(), f"{DISK}: {error}")]
        except (SourceError, CaptureReplaced) as error:
            last = [Trouble(time.time(), error.one_line)]
            raise
        finally:
            disk.unwatch(files)
            self._raise_fence = None
            # Shielded: a cancelled capture still has to leave a whole journal.
            await asyncio.shield(self._close(files, disk, last))
        return self._result(end, reason)

    async def _until_the_end(self, files: RecordingFiles, disk: Disk) -> tuple[CaptureEnd, str]:
        around, health = self._around, self._health
        downloads = Downloads(around.fetcher, around.thresholds, health)
        storing = Storing(
            files, disk, around.disks, self._waiting, downloads, health,
            around.thresholds, self._take_in_all,
        )  # fmt: skip
        self._listing = self._new_listing(files, disk)
        health.stored_at = time.monotonic()
        if self.timeline.totals.segments_stored:
            await self._resume(files, disk, self._listing, storing)
        files.forget_history()
        room = asyncio.create_task(self._watch_room(disk))
        try:
            end, reason = await self._race(self._listing, storing)
        except NotSegmented as source:
            reading = Reading(
                self.order, files, disk, around, self._watch, health, self._take_in_all
            )
            end, reason = await self._unless_asked(reading.run(source.playback))
        finally:
            room.cancel()
            await storing.cancel()
        if not health.stored and end in (CaptureEnd.ENDED, CaptureEnd.STOPPED):
            return CaptureEnd.NOTHING, reason
        return end, reason

    def _new_listing(self, files: RecordingFiles, disk: Disk) -> Listing:
        around = self._around
        sessions = Sessions(
            self._wish,
            resolve=self._resolve,
            routes=around.routes,
            health=self._health,
            watch=self._watch,
            thresholds=around.thresholds,
            known=self._known,
        )
        return Listing(
            sessions,
            fetcher=around.fetcher,
            waiting=self._waiting,
            health=self._health,
            watch=self._watch,
            watching=self._watching,
            cursor=Cursor(files.recovery.end_date, around.thresholds.gap_s),
            thresholds=around.thresholds,
            remember=self._remember,
            note_waiting=lambda: self._note_pending(files, disk),
            note=lambda records: self._write_beside(files, disk, records),
        )

    def _wish(self) -> Wish:
        return self.order.wish(settled=bool(self._health.stored))

    async def _resolve(self, wish: Wish) -> Playback:
        """A session of this stream; once something is stored, another one at the same address is
        the end. Raises the SourceError tree."""
        playback = await self._around.resolve(wish)
        ours, ask = self.order.stream_id, self._around.stream_of
        if ours and ask is not None and self._health.stored:
            live = await ask(wish)
            if live not in {"", ours}:
                self._watch.heard_of_another(ANOTHER)
                raise StreamOffline(ANOTHER)
        return playback

    async def _resume(
        self, files: RecordingFiles, disk: Disk, listing: Listing, storing: Storing
    ) -> None:
        recovery = files.recovery
        self._health.stored = self.timeline.totals.segments_stored
        if recovery.damaged:
            aside = ", ".join(recovery.set_aside) or "nothing was left to set aside"
            await disk.run(partial(files.append, Trouble(time.time(), f"damaged: {aside}")))
        await storing.resume()
        why, cause = _interruption(recovery.records, recovery.finished)
        listing.resumed(recovery.torn_bytes, why, cause, recovery.next_sequence)
        pending = await disk.run(files.pending)
        listing.preload(_still_wanted(pending, recovery.end_date), recovery.torn_bytes)

    async def _race(self, listing: Listing, storing: Storing) -> tuple[CaptureEnd, str]:
        """List and store side by side until either ends, or somebody asks for it."""
        store = asyncio.create_task(storing.run())
        try:
            return await self._unless_asked(self._follow(listing), store)
        finally:
            store.cancel()
            await asyncio.gather(store, return_exceptions=True)

    async def _follow(self, listing: Listing) -> tuple[CaptureEnd, str]:
        end = await listing.run()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._around.thresholds.drain_s):
                await self._waiting.wait_empty()
        return end

    async def _unless_asked(
        self,
        work: Coroutine[None, None, tuple[CaptureEnd, str]],
        beside: asyncio.Task[None] | None = None,
    ) -> tuple[CaptureEnd, str]:
        """What `work` comes to, or what was asked for meanwhile; an error of `beside` is raised."""
        task = asyncio.create_task(work)
        watched: set[asyncio.Future[Any]] = {task, self._asked}
        if beside is not None:
            watched.add(beside)
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if beside is not None and beside.done():
                beside.result()
            return self._asked.result() if self._asked.done() else task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _note_pending(self, files: RecordingFiles, disk: Disk) -> None:
        listed = self._listed()
        note = partial(files.note_pending, listed)
        # A single one is still listed after a crash; with more, the list may have moved on.
        (disk.post if len(listed) > 1 else disk.later)(note)

    def _write_beside(self, files: RecordingFiles, disk: Disk, records: Sequence[Record]) -> None:
        """Into the journal without waiting for it: what is being stored has its own way. Also
        without records it is a look whether the directory is still ours."""

        async def write() -> None:
            # A disk that cannot take a note cannot take the next segment, which will say so.
            with suppress(*STORAGE_ERRORS):
                try:
                    self._take_in_all(await disk.run(partial(files.append, *records)))
                except CaptureReplaced as error:
                    if not self._asked.done():
                        self._asked.set_exception(error)

        self._beside(write())

    def _beside(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _watch_room(self, disk: Disk) -> None:
        """Whether the disk will last, for as long as the capture does."""
        while True:
            with suppress(OSError):
                room = await disk.run(partial(Room.at, self.order.directory))
                self._watching.little_room = room.is_little(self.progress().bitrate_bps / 8)
            await asyncio.sleep(self._around.thresholds.room_s)

    async def _close(self, files: RecordingFiles, disk: Disk, last: list[Record]) -> None:
        await asyncio.gather(*self._notes)
        self._take_in_all(await disk.run(partial(files.close, *last)))

    def _last_records(self, end: CaptureEnd, reason: str) -> list[Record]:
        now = time.time()
        if end is CaptureEnd.DRAINED:
            return [Trouble(now, reason)]
        missing: list[Record] = []
        if end is CaptureEnd.ENDED:
            missing = [_never_came(segment) for segment in self._listed()]
        return [*missing, Ended(now, reason, end, self.order.session)]

    def _listed(self) -> list[Segment]:
        """Segments that wait to be stored."""
        return [w.segment for w in self._waiting if w.segment is not None]

    def _take_in_all(self, records: Iterable[Record]) -> None:
        for record in records:
            self._take_in(record)
            self._log(record)

    def _log(self, record: Record) -> None:
        about: dict[str, object] = {"recording_id": self.order.recording_id}
        if isinstance(record, Gap):
            about |= {"count": record.count, "seconds": record.duration_s, "cause": record.cause}
            log.warning("gap", extra=about)
        elif isinstance(record, PartOpened):
            log.info("new part", extra={**about, "number": record.number, "why": record.why})
        elif isinstance(record, Trouble | Ended | Resumed):
            log.info(type(record).__name__.lower(), extra={**about, "why": record.why})

    def _take_in(self, record: Record) -> None:
        self.timeline.feed(record)
        if isinstance(record, SegmentStored):
            self._recent.append((record.length, record.duration_s))
            self._watching.stored(record.length, record.duration_s)
        for listener in self._listeners:
            listener(record)

    def _result(self, end: CaptureEnd, reason: str) -> CaptureResult:
        stored = self.timeline.totals.segments_stored
        return CaptureResult(end, reason, stored, self.timeline.size_bytes)


def is_plain(source_url: str) -> bool:
    """A bare playlist, of whose stream nobody else knows anything."""
    return source_url.startswith("hls://") or urlsplit(source_url).path.endswith(".m3u8")


def _end_of(records: Sequence[Record]) -> Ended | None:
    return next((r for r in reversed(records) if isinstance(r, Ended)), None)


def _interruption(records: Sequence[Record], finished: bool) -> tuple[str, GapCause]:
    """Why an earlier run ended, and what is missing since is put down to."""
    if finished:
        return "live again", GapCause.SOURCE
    last = next((r for r in reversed(records) if not _is_beside(r)), None)
    why = last.why if isinstance(last, Trouble) else "crash"
    return why, GapCause.DISK if why.startswith(DISK) else GapCause.WORKER


def _is_beside(record: Record) -> bool:
    """Whether it says nothing of how a run ended."""
    return isinstance(record, Synced) or (isinstance(record, Trouble) and bool(record.sign))


def _still_wanted(pending: Sequence[Segment], end_date: float | None) -> list[Segment]:
    """Those behind what is stored. Without dates nothing tells which these are."""
    if end_date is None:
        return []
    return [s for s in pending if s.date is not None and s.date >= end_date - s.duration_s / 2]


def _never_came(segment: Segment) -> Gap:
    return Gap(
        segment.number, 1, segment.date, segment.duration_s, "end", GapCause.NETWORK, time.time()
    )
