"""Takes what is listed, in order, and stores it: fetch, place, write, record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice

from isal.isal_zlib import crc32

from streamvault.contracts import GapCause
from streamvault.hls.alignment import Listed
from streamvault.hls.download import (
    Downloads,
    Health,
    Hole,
    Intake,
    Joined,
    SegmentLost,
    Waiting,
    WaitingList,
)
from streamvault.hls.files import HEAD_BYTES, Init, RecordingFiles
from streamvault.hls.placing import Format, Place, Placing
from streamvault.hls.playlist import InitSection, Segment
from streamvault.hls.records import AdSkipped, Gap, PartOpened, Record, SegmentStored, Trouble
from streamvault.hls.thresholds import Thresholds
from streamvault.hls.timestamps import Head, read_head, read_timescales
from streamvault.hls.writer import Batch, Disk, Disks
from streamvault.source import Playback

FOLLOWER_BYTES = 2 * 1024 * 1024
"""What a segment is taken for until one was seen."""


@dataclass(slots=True)
class _Target:
    """Where the segment at hand goes, decided by its first bytes."""

    listed: Listed
    init: Init | None
    format: Format | None = None
    head: Head | None = None
    place: Place | None = None


class Storing:
    """`publish` gets every record once it is in the journal, on the event loop."""

    def __init__(
        self,
        files: RecordingFiles,
        disk: Disk,
        disks: Disks,
        waiting: WaitingList,
        downloads: Downloads,
        health: Health,
        thresholds: Thresholds,
        publish: Callable[[Iterable[Record]], None],
    ) -> None:
        self._files = files
        self._disk = disk
        self._disks = disks
        self._waiting = waiting
        self._downloads = downloads
        self._health = health
        self._thresholds = thresholds
        self._publish = publish
        self._placing = Placing(thresholds)
        self._number = files.part.number if files.part else 0
        self._init: tuple[InitSection, Init] | None = None
        self._scales: dict[int, int] = {}
        self._playback: Playback | None = None
        self._segment_bytes = FOLLOWER_BYTES
        self._timer: asyncio.TimerHandle | None = None

    async def resume(self) -> None:
        """Continue in the newest part of an earlier run, if timestamps and codecs allow it.

        Raises StorageUnwritable.
        """
        recovery = self._files.recovery
        part = recovery.part
        segments = [r for r in recovery.records if isinstance(r, SegmentStored)]
        if part is None or not segments or recovery.finished:
            return
        last = segments[-1]
        start_s = await self._disk.run(self._files.last_start_s)
        self._placing.resume(
            Format(
                part.ext,
                recovery.init.crc if recovery.init else 0,
                part.codecs,
                part.resolution,
            ),
            Segment(last.sequence, "", last.duration_s, last.date),
            start_s,
            _media_in_newest_part(recovery.records),
        )
        for record in reversed(recovery.records):
            if isinstance(record, SegmentStored):
                break
            if isinstance(record, Gap):
                self._placing.lost(record.duration_s)
            elif isinstance(record, AdSkipped):
                self._placing.cut("ad")
        if self._files.taken_over:
            self._placing.cut("takeover")

    def begin_new_part(self, why: str) -> None:
        self._placing.cut(why)

    async def run(self) -> None:
        """Store what waits until cancelled. Raises StorageFull, StorageUnwritable."""
        while True:
            waiting = await self._waiting.first()
            await self._take(waiting)
            self._waiting.done()

    async def cancel(self) -> None:
        """Drop the transfers that are under way."""
        tasks = [w.task for w in self._waiting if w.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for waiting in self._waiting:
            if waiting.intake is not None:
                waiting.intake.discard()

    async def _take(self, waiting: Waiting) -> None:
        item = waiting.item
        if isinstance(item, Joined):
            await self._join(item)
        elif isinstance(item, Hole):
            await self._note_hole(item)
        elif item.segment.ad:
            await self._skip_ad(item.segment)
        else:
            await self._segment(waiting, item)

    async def _join(self, joined: Joined) -> None:
        self._playback = joined.playback
        if joined.cut and self._placing.started:
            self._placing.cut(joined.cut)
        await self._record(*joined.records)

    async def _note_hole(self, hole: Hole) -> None:
        self._placing.lost(hole.gap.duration_s)
        if hole.cut and self._placing.started:
            self._placing.cut("gap")
        await self._record(hole.gap)

    async def _skip_ad(self, segment: Segment) -> None:
        if self._placing.started:
            self._placing.cut("ad")
        ad = AdSkipped(segment.number, segment.date, segment.duration_s, segment.ad_kind or "ad")
        await self._record(ad)

    async def _segment(self, waiting: Waiting, listed: Listed) -> None:
        try:
            target = _Target(listed, await self._init_of(waiting, listed.segment))
            repaired = await self._fetch(waiting, target)
        except SegmentLost as lost:
            await self._give_up(listed.segment, lost)
        else:
            await self._store(waiting, target, repaired)

    async def _fetch(self, waiting: Waiting, target: _Target) -> bool:
        task, intake = self._start(waiting)
        if self._waiting.pressed or len(self._waiting) > self._thresholds.backlog:
            self._start_followers()
        intake.go_live(partial(self._forward, target), partial(self._rewind, target))
        self._hurry_later()
        try:
            return await task
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _hurry_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._thresholds.slow_segment_s, self._hurry)

    def _hurry(self) -> None:
        """The first in line takes its time, which the others must not lose."""
        self._start_followers()
        self._hurry_later()

    def _start(self, waiting: Waiting, reserved: int = 0) -> tuple[asyncio.Task[bool], Intake]:
        if waiting.task is None or waiting.intake is None:
            waiting.intake = Intake(self._disks, reserved)
            waiting.task = asyncio.create_task(self._downloads.run(waiting))
        return waiting.task, waiting.intake

    def _start_followers(self) -> None:
        followers = (w for w in islice(self._waiting, 1, None) if w.segment is not None)
        for follower in islice(followers, self._thresholds.followers):
            if follower.task is None and self._disks.ahead.take(self._segment_bytes):
                self._start(follower, self._segment_bytes)

    def _rewind(self, target: _Target) -> None:
        target.place = None
        self._disk.later(self._files.begin_segment)

    def _forward(self, target: _Target, batch: Batch, last: bool) -> None:
        if target.place is None:
            self._decide(target, batch.start(HEAD_BYTES))
        write = partial(self._files.write, batch, self._disks)
        if last:
            # The record of the segment follows at once, in the same hand-over.
            self._disk.later(write)
        else:
            self._disk.post(write)

    def _decide(self, target: _Target, start: bytes) -> None:
        if self._files.wants_new_part and self._placing.started:
            self._placing.cut("disk")
        head = read_head(start, self._scales)
        playback, init = self._playback, target.init
        kind = Format(
            ext="mp4" if init else "ts",
            init_crc=crc32(init.content) if init else 0,
            codecs=playback.codecs if playback else "",
            resolution=playback.resolution if playback else "",
        )
        place = self._placing.place(target.listed, head, kind)
        target.format, target.head, target.place = kind, head, place
        if place.why:
            part = PartOpened(
                number=self._number + 1,
                ext=kind.ext,
                at=time.time(),
                why=place.why,
                variant=playback.variant if playback else "",
                codecs=kind.codecs,
                resolution=kind.resolution,
            )
            self._disk.later(partial(self._files.begin_part, part, init))

    async def _store(self, waiting: Waiting, target: _Target, repaired: bool) -> None:
        segment, place, head, kind = _decided(target)
        if segment.discontinuity and not target.listed.back:
            self._disk.later(self._files.forget_repeats)
        before = [_source_hole(segment, place.hole_s)] if place.hole_s else []
        records = await self._disk.run(
            partial(
                self._files.store_segment, segment, before, late=waiting.late, repaired=repaired
            )
        )
        if records is None:
            await self._note_repeat(segment)
            return
        if waiting.intake is not None:
            self._segment_bytes = waiting.intake.size
        self._number += bool(place.why)
        self._placing.stored(segment, head, kind, place)
        self._health.stored += 1
        self._health.stored_at = time.monotonic()
        self._health.stored_until = segment.end_date
        self._health.lost_in_a_row = self._health.repeats = 0
        self._publish(records)

    async def _note_repeat(self, segment: Segment) -> None:
        """Content that is stored already; under a new date it is in place of something new."""
        self._health.repeats += 1
        if self._placing.is_new(segment):
            await self._note_hole(Hole(_gap(segment, "repeat", GapCause.SOURCE), cut=False))

    async def _give_up(self, segment: Segment, lost: SegmentLost) -> None:
        self._health.lost_in_a_row += 1
        self._health.went_wrong(str(lost), by_answer=lost.cause is GapCause.SOURCE)
        await self._record(Trouble(time.time(), str(lost)))
        await self._note_hole(Hole(_gap(segment, lost.why, lost.cause), cut=False))

    async def _init_of(self, waiting: Waiting, segment: Segment) -> Init | None:
        if segment.init is None:
            return None
        if self._init is None or self._init[0] != segment.init:
            content = await self._downloads.small(
                waiting, segment.init.uri, segment.init.byte_range
            )
            self._init = (segment.init, Init(content, _without_query(segment.init.uri)))
            self._scales = read_timescales(content)
        return self._init[1]

    async def _record(self, *records: Record) -> None:
        if records:
            self._publish(await self._disk.run(partial(self._files.append, *records)))


def _decided(target: _Target) -> tuple[Segment, Place, Head, Format]:
    assert target.place is not None and target.head is not None and target.format is not None
    return target.listed.segment, target.place, target.head, target.format


def _gap(segment: Segment, why: str, cause: GapCause) -> Gap:
    return Gap(
        sequence=segment.number,
        count=1,
        date=segment.date,
        duration_s=segment.duration_s,
        why=why,
        cause=cause,
        at=time.time(),
    )


def _source_hole(segment: Segment, hole_s: float) -> Gap:
    start = None if segment.date is None else segment.date - hole_s
    return Gap(segment.number, 0, start, hole_s, "date", GapCause.SOURCE, time.time())


def _without_query(uri: str) -> str:
    return uri.partition("?")[0]


def _media_in_newest_part(records: Iterable[Record]) -> float:
    media_s = 0.0
    for record in records:
        if isinstance(record, PartOpened):
            media_s = 0.0
        elif isinstance(record, SegmentStored):
            media_s += record.duration_s
    return media_s
