"""The files of one recording while it is written: parts, journal, lock.

Every method but `sync` runs on the disk's writer thread. An error is kept and raised by the next
call that is waited for, so that a chunk can be handed over without waiting.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from isal.isal_zlib import crc32

from streamvault.errors import CaptureError, CaptureReplaced, StorageFull
from streamvault.hls.fence import Claim, Fence
from streamvault.hls.journal import (
    Journal,
    datasync,
    open_part,
    place_part,
    remove_part,
    renew_journal,
)
from streamvault.hls.pending import PENDING_NAME, read_pending, write_pending
from streamvault.hls.playlist import Segment
from streamvault.hls.records import Ended, InitStored, PartOpened, Record, SegmentStored
from streamvault.hls.recovery import Recovery, recover
from streamvault.hls.room import check_room, has_room
from streamvault.hls.timestamps import read_head, read_timescales
from streamvault.hls.writer import Batch, Disks, storage_error

HEAD_BYTES = 32 * 1024
"""Enough of a segment to find its first timestamp."""
PIECES_AT_ONCE = 512  # below IOV_MAX everywhere
REPEAT_MEMORY = 512
"""Segments whose content is remembered: about 17 minutes, beyond any window that could loop."""


@dataclass(frozen=True, slots=True)
class Init:
    """An initialisation section (EXT-X-MAP) as fetched."""

    content: bytes
    uri: str


class RecordingFiles:
    """Made by `open`, which locks the directory and repairs what a crash left."""

    def __init__(
        self,
        directory: Path,
        fence: Fence,
        recovery: Recovery,
        min_free_bytes: int | None,
        spill: Path | None,
        spills: bool,
    ) -> None:
        self.directory = directory
        self.recovery = recovery
        self.part = recovery.part
        self._fence = fence
        self._min_free_bytes = min_free_bytes
        self._spill = spill
        self._spills = spills
        """New parts lie in the other folder."""
        self._part_spilt = bool(recovery.part) and _lies_elsewhere(directory, recovery.part)
        self._journal = Journal(directory, recovery.part.number if recovery.part else 0)
        # A finished recording's parts may be gone for good, and the process that we took over
        # from may have a write under way: going on there takes a new part.
        goes_on = not recovery.finished and not fence.taken_over
        self._fd = open_part(directory, recovery.part) if recovery.part and goes_on else None
        self._end = recovery.part_size
        self._next: _NextPart | None = None
        self._received = 0
        self._crc = 0
        self._failure: CaptureError | None = None
        self._fresh: list[Record] = []
        self._swap = threading.Lock()  # held while the descriptor is swapped or copied
        self._syncing = threading.Lock()  # held during a sync
        self._closed = False
        self._synced = (0, 0)
        segments = [r for r in recovery.records if isinstance(r, SegmentStored)]
        self._repeats = deque(
            ((s.crc, s.length) for s in segments[-REPEAT_MEMORY:]), maxlen=REPEAT_MEMORY
        )

    @classmethod
    def open(
        cls,
        directory: Path,
        fence: int | None = 0,
        min_free_bytes: int | None = None,
        claim: Claim = Claim.NEW,
        spill: Path | None = None,
    ) -> RecordingFiles:
        """Lock and repair a recording's directory, which is made if missing. `min_free_bytes` is
        what must stay free; None: the reserve. `spill` is a folder on another disk, for parts that
        find no room here.

        Raises as Fence.take, StorageFull, StorageUnwritable.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            held = Fence.take(directory, fence, claim)
            try:
                spills = _spills(directory, spill, min_free_bytes, already=False)
                if held.taken_over:
                    renew_journal(directory)
                recovery = recover(directory)
                return cls(directory, held, recovery, min_free_bytes, spill, spills)
            except (OSError, CaptureError):
                held.release()
                raise
        except OSError as error:
            raise storage_error(error, directory) from None

    @property
    def taken_over(self) -> bool:
        """The process that recorded here before may still have a write under way."""
        return self._fence.taken_over

    @property
    def wants_new_part(self) -> bool:
        """The disk of the part at hand is full, and another one has room."""
        return self._spills != self._part_spilt

    def raise_fence(self, number: int) -> None:
        """A newer attempt leaves it to us."""
        self._guarded(lambda: self._fence.grow(number))

    def forget_history(self) -> None:
        """Let go of the records read at the start: a day of them is several megabytes."""
        self.recovery = replace(self.recovery, records=())

    def pending(self) -> tuple[Segment, ...]:
        return read_pending(self.directory)

    def last_start_s(self) -> float | None:
        """First timestamp of the newest part's last segment; None: there is none to be read."""
        last = _last_segment(self.recovery)
        if last is None or self.part is None or self._fd is None:
            return None
        with (self.directory / self.part.file_name).open("rb") as file:
            init = self.recovery.init
            scales = read_timescales(file.read(init.length)) if init else {}
            file.seek(last.offset)
            return read_head(file.read(min(last.length, HEAD_BYTES)), scales).start_s

    # ---- handed over without waiting

    def begin_segment(self) -> None:
        """What `write` gets from now on starts anew behind the last stored segment."""
        self._guarded(self._drop_next)
        self._received = 0
        self._crc = 0

    def begin_part(self, part: PartOpened, init: Init | None) -> None:
        """Let the segment that begins here go to a new part, which exists once it is stored."""
        self._guarded(lambda: self._begin_part(part, init))

    def write(self, batch: Batch, disks: Disks) -> None:
        """Write a batch and give its memory back."""
        self._guarded(lambda: self._write(batch))
        disks.queue.give(batch.size)

    def note_pending(self, segments: Sequence[Segment]) -> None:
        self._guarded(lambda: self._note_pending(segments))

    def forget_repeats(self) -> None:
        """After a break that the source declares, what repeats is the source's own choice."""
        self._repeats.clear()

    # ---- waited for

    def append(self, *records: Record) -> list[Record]:
        """Add records to the journal; returns all that are new since the last call that did.

        Raises StorageFull or StorageUnwritable.
        """
        self._guarded(lambda: self._append(*records))
        return self._take_fresh()

    def store_segment(
        self, segment: Segment, before: Sequence[Record], *, late: bool, repaired: bool
    ) -> list[Record] | None:
        """Record what `write` received as this segment, behind the records `before`.

        Returns as `append`; None, and nothing is recorded, for content that was stored before.
        Raises StorageFull or StorageUnwritable.
        """
        content = (self._crc, self._received)
        if self._failure is None and content in self._repeats:
            return None
        self._guarded(lambda: self._store(segment, before, late, repaired))
        self._repeats.append(content)
        return self._take_fresh()

    def close(self, *last: Record) -> list[Record]:
        """Cut what has no record, append the last records, make all durable, unlock.

        Works as far as it can on a disk that fails; what it could not append is not returned. What
        another process has taken over is left alone.
        """
        self._failure = None
        if self._fence.is_ours:
            self._guarded(lambda: self._finish(last))
        with self._syncing, self._swap:
            self._closed = True
            self._journal.close()
            if self._fd is not None:
                os.close(self._fd)
            self._fence.release()
        fresh, self._fresh = self._fresh, []
        return fresh

    # ---- on the syncing thread

    def sync(self) -> None:
        """Make everything recorded so far durable and say so in the journal."""
        with self._syncing:
            with self._swap:
                if self._closed or self.part is None or self._fd is None:
                    return
                number, end, fd = self.part.number, self._end, os.dup(self._fd)
            try:
                self._guarded(lambda: self._sync(number, end, fd))
            finally:
                os.close(fd)

    def _sync(self, number: int, end: int, fd: int) -> None:
        if (number, end) == self._synced:
            return
        self._fence.check()
        datasync(fd)
        self._journal.append_synced(number, end)
        self._journal.sync()
        self._synced = (number, end)
        self._spills = _spills(
            self.directory, self._spill, self._min_free_bytes, already=self._spills
        )

    # ---- the work itself, raising OSError

    def _guarded(self, work: Callable[[], None]) -> None:
        if self._failure is not None:
            return
        try:
            work()
        except OSError as error:
            self._failure = storage_error(error, self.directory)
        except (StorageFull, CaptureReplaced) as error:
            self._failure = error

    def _take_fresh(self) -> list[Record]:
        if self._failure is not None:
            raise self._failure
        fresh, self._fresh = self._fresh, []
        return fresh

    def _note_pending(self, segments: Sequence[Segment]) -> None:
        self._fence.check()
        write_pending(self.directory, segments)

    def _append(self, *records: Record) -> None:
        self._fence.check()
        for record in records:
            self._journal.append(record)
            self._fresh.append(record)

    def _begin_part(self, part: PartOpened, init: Init | None) -> None:
        self._drop_next()
        if self._spills and self._spill is not None:
            place_part(self.directory, part, self._spill)
        fd = open_part(self.directory, part)
        self._next = _NextPart(part, fd, init, self._spills)
        os.ftruncate(fd, 0)
        if init:
            _write_all(fd, [init.content], 0)

    def _write(self, batch: Batch) -> None:
        self._fence.check()
        if self._next is not None:
            fd, start = self._next.fd, self._next.init_length
        else:
            assert self._fd is not None, "the first segment begins a part"
            fd, start = self._fd, self._end
        _write_all(fd, batch.pieces, start + self._received)
        for piece in batch.pieces:
            self._crc = crc32(piece, self._crc)
        self._received += batch.size

    def _store(
        self, segment: Segment, before: Sequence[Record], late: bool, repaired: bool
    ) -> None:
        self._append(*before)
        if self._next is not None:
            self._rotate(self._next, segment.number)
        self._append(
            SegmentStored(
                offset=self._end,
                length=self._received,
                crc=self._crc,
                sequence=segment.number,
                date=segment.date,
                duration_s=segment.duration_s,
                discontinuity=segment.discontinuity,
                late=late,
                repaired=repaired,
            )
        )
        self._end += self._received

    def _rotate(self, new: _NextPart, sequence: int) -> None:
        # The part's bytes are there before its record; a crash in between leaves a file that no
        # record names, which recovery deletes.
        os.close(self._journal.rotate(new.part, self._fd, self._end))
        self._fresh.append(new.part)
        with self._swap:
            old, self._fd = self._fd, new.fd
            self.part, self._end, self._next = new.part, new.init_length, None
            self._part_spilt = new.spilt
        if old is not None:
            os.close(old)
        if new.init:
            content, uri = new.init.content, new.init.uri
            self._append(InitStored(0, len(content), crc32(content), sequence, uri))

    def _drop_next(self) -> None:
        if self._next is not None:
            os.close(self._next.fd)
            remove_part(self.directory / self._next.part.file_name)
            self._next = None

    def _finish(self, last: Sequence[Record]) -> None:
        self._drop_next()
        if self.taken_over and self.recovery.part is not None:
            _cut(self.directory / self.recovery.part.file_name, self.recovery.part_size)
        if self._fd is not None:
            os.ftruncate(self._fd, self._end)
            datasync(self._fd)
            if self.part is not None:
                self._journal.append_synced(self.part.number, self._end)
        for record in last:
            self._journal.append(record)
            self._fresh.append(record)
        if any(isinstance(record, Ended) for record in last):
            (self.directory / PENDING_NAME).unlink(missing_ok=True)
        self._journal.sync()


@dataclass(frozen=True, slots=True)
class _NextPart:
    part: PartOpened
    fd: int
    init: Init | None
    spilt: bool = False

    @property
    def init_length(self) -> int:
        return len(self.init.content) if self.init else 0


def _write_all(fd: int, pieces: Sequence[bytes], offset: int) -> None:
    for first in range(0, len(pieces), PIECES_AT_ONCE):
        some = pieces[first : first + PIECES_AT_ONCE]
        size = sum(map(len, some))
        written = os.pwritev(fd, some, offset)
        while written < size:
            # Rare: interrupted, or a disk about to be full, which the next write says.
            written += os.pwrite(fd, b"".join(some)[written:], offset + written)
        offset += size


def _spills(
    directory: Path, spill: Path | None, min_free_bytes: int | None, *, already: bool
) -> bool:
    """Whether the next part goes to the other folder: it stays where there is room. Raises
    StorageFull when neither disk has any, OSError."""
    here, there = (spill, directory) if already and spill else (directory, spill)
    try:
        check_room(here, min_free_bytes)
    except StorageFull:
        if there is None or not has_room(there):
            raise
        return not already
    return already


def _lies_elsewhere(directory: Path, part: PartOpened | None) -> bool:
    return part is not None and (directory / part.file_name).is_symlink()


def _cut(path: Path, size: int) -> None:
    """What a process that was stopped in a write left behind what its journal said."""
    if path.exists() and path.stat().st_size > size:
        os.truncate(path, size)


def _last_segment(recovery: Recovery) -> SegmentStored | None:
    for record in reversed(recovery.records):
        if isinstance(record, SegmentStored):
            return record
        if isinstance(record, PartOpened):
            return None
    return None
