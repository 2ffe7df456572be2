"""Sources that are not HLS: a stream of bytes without segments, read as it comes.

Nothing can be counted here: one journal entry per second or two of bytes, dated by arrival, and a
new part at every reconnect. The report says that segment accounting is not available.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import BinaryIO, TypeVar

from streamvault.contracts import CaptureEnd, GapCause
from streamvault.errors import SourceUnavailable, StreamOffline, StreamVaultError
from streamvault.hls.download import Health
from streamvault.hls.ending import EndWatch, Verdict
from streamvault.hls.files import RecordingFiles
from streamvault.hls.order import CaptureOrder, Surroundings
from streamvault.hls.playlist import Segment
from streamvault.hls.records import Gap, PartOpened, Record
from streamvault.hls.timestamps import looks_like_mp4, looks_like_ts
from streamvault.hls.writer import STORAGE_ERRORS, Batch, Disk
from streamvault.logs import scrub
from streamvault.source import Playback

T = TypeVar("T")

READ_BYTES = 64 * 1024
ENTRY_S = 2.0
ENTRY_BYTES = 4 * 1024 * 1024
OPEN_TIMEOUT_S = 60.0


class Reading:
    """Reads one source until it has ended, connecting again as often as needed."""

    def __init__(
        self,
        order: CaptureOrder,
        files: RecordingFiles,
        disk: Disk,
        surroundings: Surroundings,
        watch: EndWatch,
        health: Health,
        publish: Callable[[Iterable[Record]], None],
    ) -> None:
        self._order = order
        self._files = files
        self._disk = disk
        self._around = surroundings
        self._watch = watch
        self._health = health
        self._publish = publish
        self._number = files.part.number if files.part else 0
        self._sequence = files.recovery.next_sequence or 0
        self._last_at: float | None = files.recovery.end_date

    async def run(self, playback: Playback) -> tuple[CaptureEnd, str]:
        """Raises permanent SourceErrors before anything was stored, and storage errors."""
        while True:
            try:
                await self._connection(playback)
                self._watch.saw_playlist(time.monotonic(), ended=True)
            except StreamVaultError as error:
                self._failed(error)
            verdict, reason = self._watch.verdict(time.monotonic())
            if verdict is Verdict.ENDED:
                return CaptureEnd.ENDED, reason
            silent_s = time.monotonic() - self._watch.fresh_at
            if not self._health.stored and silent_s > self._around.thresholds.silent_start_s:
                return CaptureEnd.NOTHING, self._health.problem or "no bytes came"
            await asyncio.sleep(self._around.thresholds.poll_max_s)

    def _failed(self, error: StreamVaultError) -> None:
        if isinstance(error, STORAGE_ERRORS) or (error.permanent and not self._health.stored):
            raise error
        self._health.went_wrong(error.one_line, by_answer=False)
        if isinstance(error, StreamOffline):
            self._watch.saw_no_stream(time.monotonic())

    async def _connection(self, playback: Playback) -> None:
        """One connection from its first byte to its last."""
        # A thread of its own: a read may hang for a minute.
        threads = ThreadPoolExecutor(1, thread_name_prefix="reader")
        stream: BinaryIO | None = None
        try:
            stream = await self._in_time(
                threads,
                partial(self._around.open_reader, self._order.wish()),
                OPEN_TIMEOUT_S,
            )
            await self._read(threads, stream, playback)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            if stream is not None:
                with suppress(OSError):
                    await asyncio.to_thread(stream.close)

    async def _read(
        self, threads: ThreadPoolExecutor, stream: BinaryIO, playback: Playback
    ) -> None:
        entry = bytearray()
        since: float | None = None
        try:
            while data := await self._in_time(
                threads, partial(stream.read, READ_BYTES), self._around.thresholds.reader_idle_s
            ):
                entry += data
                now = time.time()
                if since is None:
                    since = now
                    await self._begin(data, now, playback)
                elif now - since >= ENTRY_S or len(entry) >= ENTRY_BYTES:
                    await self._store(bytes(entry), since, now)
                    entry.clear()
                    since = now
        finally:
            if entry and since is not None:
                await self._store(bytes(entry), since, time.time())

    async def _begin(self, first: bytes, now: float, playback: Playback) -> None:
        why = "gap" if self._number else "start"
        if self._last_at is not None and now - self._last_at > self._around.thresholds.gap_s:
            away_s = now - self._last_at
            gap = Gap(self._sequence, 0, self._last_at, away_s, "reconnect", GapCause.NETWORK, now)
            self._publish(await self._disk.run(partial(self._files.append, gap)))
        self._number += 1
        part = PartOpened(self._number, _extension(first), now, why, playback.variant)
        self._disk.later(self._files.begin_segment)
        self._disk.later(partial(self._files.begin_part, part, None))

    async def _store(self, entry: bytes, since: float, now: float) -> None:
        self._around.disks.queue.take(len(entry), force=True)
        batch = Batch([entry], len(entry))
        self._disk.later(partial(self._files.write, batch, self._around.disks))
        segment = Segment(self._sequence, "", now - since, since)
        records = await self._disk.run(
            partial(self._files.store_segment, segment, (), late=False, repaired=False)
        )
        self._publish(records or ())
        # The next entry starts behind this one, and nothing of it has been written yet.
        self._disk.later(self._files.begin_segment)
        self._sequence += 1
        self._last_at = now
        self._health.stored += 1
        self._health.stored_at = time.monotonic()
        self._watch.saw_segments(time.monotonic())

    async def _in_time(
        self, threads: ThreadPoolExecutor, job: Callable[[], T], timeout_s: float
    ) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                return await loop.run_in_executor(threads, job)
        except TimeoutError:
            raise SourceUnavailable(f"no bytes for {timeout_s:g} s") from None
        except OSError as error:
            raise SourceUnavailable(scrub(" ".join(str(error).split()))) from None


def _extension(first: bytes) -> str:
    if looks_like_mp4(first):
        return "mp4"
    return "flv" if first.startswith(b"FLV") and not looks_like_ts(first) else "ts"
