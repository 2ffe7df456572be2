"""What a crash leaves behind, made whole again: a true journal, and parts that hold what it says.

Bytes without a record do not exist: they are cut. A cut that is larger than an interrupted write
can explain means damage of another kind, and its bytes are set aside for a person instead.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from isal.isal_zlib import crc32

from streamvault.hls.journal import (
    JOURNAL_NAME,
    JournalRead,
    datasync,
    read_journal,
    remove_part,
    sync_directory,
)
from streamvault.hls.records import (
    AdSkipped,
    Ended,
    Gap,
    InitStored,
    PartOpened,
    Record,
    Resumed,
    SegmentStored,
    SessionStarted,
    Synced,
    decode,
)

TORN_LIMIT = 128 * 1024 * 1024
"""Bytes: 10 s between two syncs at 100 Mbit/s. More than this is not a torn tail."""

_PART_NAME = re.compile(r"part-\d{4,}\.[a-z0-9]+")
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Recovery:
    """A recording's directory after its repair: all that a capture needs to go on."""

    records: tuple[Record, ...]
    part: PartOpened | None
    """The newest part; None before the first. Its file may be missing if `part_size` is 0."""
    part_size: int
    init: InitStored | None
    """The newest part's initialisation section."""
    end_date: float | None
    """The stream's clock at the end of the last segment, ad or gap; None: it has no dates."""
    next_sequence: int | None
    """The media sequence that follows, valid in the stored session only."""
    session: SessionStarted | None
    torn_bytes: int
    """Media bytes without a record that were cut or set aside."""
    finished: bool
    """The recording was ended and not taken up again."""
    damaged: bool
    """More was lost than a crash explains: a person should look."""
    set_aside: tuple[str, ...] = ()
    """File names in the directory that hold what was cut, when `damaged`."""

    @property
    def next_part_number(self) -> int:
        return self.part.number + 1 if self.part else 1


def recover(directory: Path, torn_limit: int = TORN_LIMIT) -> Recovery:
    """Bring journal and parts to agreement; repeating it changes nothing. Raises OSError.

    Nobody else may write there meanwhile. A finished recording whose newest part was removed
    stays as it is: its parts are deleted once the final file is verified.
    """
    read = read_journal(directory / JOURNAL_NAME)
    sizes = _part_sizes(directory)
    if _is_finished(read.records) and _newest_part(read.records) not in sizes:
        return _recovery(read.records, 0, damaged=False, set_aside=())
    repair = _plan(directory, read, sizes, torn_limit)
    set_aside = _set_aside(directory, repair, sizes) if repair.keep_cut else ()
    _cut(directory, repair, sizes)
    return _recovery(repair.records, repair.torn_bytes, repair.damaged, set_aside)


# ---- what to cut


@dataclass(frozen=True, slots=True)
class _Repair:
    records: list[Record]
    journal_end: int
    part_ends: dict[str, int]
    torn_bytes: int
    damaged: bool
    keep_cut: bool


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where a segment or init section lies, and whether it is known to be durable."""

    index: int
    part: str
    end: int
    record: SegmentStored | InitStored
    durable: bool


def _plan(directory: Path, read: JournalRead, sizes: dict[str, int], torn_limit: int) -> _Repair:
    stored = list(_stored(read.records))
    newest = _newest_part(read.records)
    bad = next((s for s in stored if _is_bad(directory, s, sizes, newest)), None)
    kept = read.records[: bad.index] if bad else read.records
    part_ends = _part_ends(kept)
    torn = sum(max(0, size - part_ends.get(name, 0)) for name, size in sizes.items())
    inexplicable = (
        torn > torn_limit
        or (bad is not None and bad.durable)
        or _holds_durable_record(directory / JOURNAL_NAME, read)
    )
    vanished = any(sizes.get(name, 0) < end for name, end in part_ends.items())
    return _Repair(
        records=kept,
        journal_end=read.offsets[bad.index] if bad else read.valid_bytes,
        part_ends=part_ends,
        torn_bytes=torn,
        damaged=inexplicable or vanished,
        keep_cut=inexplicable,
    )


def _stored(records: list[Record]) -> Iterator[_Stored]:
    """Every stored piece in order, judged by the last Synced record.

    Records may lie before that line and beyond its offset: they were appended during the sync.
    """
    durable_part, durable_end = _durable(records)
    part = -1
    name = ""
    for index, record in enumerate(records):
        if isinstance(record, PartOpened):
            part += 1
            name = record.file_name
        elif isinstance(record, SegmentStored | InitStored):
            end = record.offset + record.length
            durable = (part, end) <= (durable_part, durable_end)
            yield _Stored(index, name, end, record, durable)


def _durable(records: list[Record]) -> tuple[int, int]:
    """(index of the part, offset in it) of the last Synced record."""
    part = -1
    durable = (-1, 0)
    for record in records:
        if isinstance(record, PartOpened):
            part += 1
        elif isinstance(record, Synced):
            durable = (part, record.offset)
    return durable


def _is_bad(directory: Path, stored: _Stored, sizes: dict[str, int], newest: str) -> bool:
    """Whether the journal must end before this piece.

    A part that is not the newest was durable before the next one began. If it is short or gone
    all the same, ending the journal there would only lose the parts after it as well.
    """
    if stored.durable:
        return stored.part == newest and sizes.get(stored.part, 0) < stored.end
    if sizes.get(stored.part, 0) < stored.end:
        return True
    return _crc(directory / stored.part, stored.record) != stored.record.crc


def _crc(path: Path, record: SegmentStored | InitStored) -> int:
    value = 0
    left = record.length
    if not left:
        return value
    with path.open("rb") as file:
        file.seek(record.offset)
        while left and (piece := file.read(min(left, _CHUNK))):
            value = crc32(piece, value)
            left -= len(piece)
    return value


def _newest_part(records: list[Record]) -> str:
    return next((r.file_name for r in reversed(records) if isinstance(r, PartOpened)), "")


def _part_ends(records: list[Record]) -> dict[str, int]:
    """Valid bytes of every part that a record names."""
    ends: dict[str, int] = {}
    name = ""
    for record in records:
        if isinstance(record, PartOpened):
            name = record.file_name
            ends.setdefault(name, 0)
        elif isinstance(record, SegmentStored | InitStored):
            ends[name] = record.offset + record.length
    return ends


def _holds_durable_record(journal: Path, read: JournalRead) -> bool:
    """Whether records behind the first bad line were made durable: then it is no torn tail."""
    if not read.bad_tail_bytes:
        return False
    with journal.open("rb") as file:
        file.seek(read.valid_bytes)
        tail = file.read()
    return any(isinstance(decode(line), Synced | PartOpened) for line in tail.split(b"\n"))


def _part_sizes(directory: Path) -> dict[str, int]:
    return {
        path.name: path.stat().st_size
        for path in directory.iterdir()
        # A link to a disk that is not there is a part that is missing.
        if _PART_NAME.fullmatch(path.name) and path.exists()
    }


# ---- cutting


def _set_aside(directory: Path, repair: _Repair, sizes: dict[str, int]) -> tuple[str, ...]:
    journal = directory / JOURNAL_NAME
    names = [_copy_from(journal, 0, f"damaged-{repair.journal_end}")] if journal.exists() else []
    for name, size in sizes.items():
        end = repair.part_ends.get(name, 0)
        if size > end:
            names.append(_copy_from(directory / name, end, f"damaged-{end}"))
    return tuple(names)


def _copy_from(path: Path, start: int, suffix: str) -> str:
    """Copy a file from byte `start` on beside itself, durably: the original is cut next."""
    target = path.with_name(f"{path.name}.{suffix}")
    with path.open("rb") as source, target.open("wb") as copy:
        os.fchmod(copy.fileno(), 0o600)
        source.seek(start)
        shutil.copyfileobj(source, copy, _CHUNK)
        copy.flush()
        os.fsync(copy.fileno())
    return target.name


def _cut(directory: Path, repair: _Repair, sizes: dict[str, int]) -> None:
    """Parts first: while the journal is uncut, a crash in here is repaired the same way again."""
    for name, size in sizes.items():
        end = repair.part_ends.get(name)
        if end is None:
            remove_part(directory / name)
        elif size > end:
            _truncate(directory / name, end)
    journal = directory / JOURNAL_NAME
    if journal.exists() and journal.stat().st_size > repair.journal_end:
        _truncate(journal, repair.journal_end)
    sync_directory(directory)


def _truncate(path: Path, size: int) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(fd, size)
        datasync(fd)
    finally:
        os.close(fd)


# ---- what is known then


def _is_finished(records: list[Record]) -> bool:
    finished = False
    for record in records:
        if isinstance(record, Ended):
            finished = True
        elif isinstance(record, SessionStarted | PartOpened | SegmentStored | Resumed):
            finished = False
    return finished


def _recovery(
    records: list[Record], torn_bytes: int, damaged: bool, set_aside: tuple[str, ...]
) -> Recovery:
    part = next((r for r in reversed(records) if isinstance(r, PartOpened)), None)
    return Recovery(
        records=tuple(records),
        part=part,
        part_size=_part_ends(records)[part.file_name] if part else 0,
        init=_current_init(records),
        end_date=_end_date(records),
        next_sequence=_next_sequence(records),
        session=next((r for r in reversed(records) if isinstance(r, SessionStarted)), None),
        torn_bytes=torn_bytes,
        finished=_is_finished(records),
        damaged=damaged,
        set_aside=set_aside,
    )


def _current_init(records: list[Record]) -> InitStored | None:
    for record in reversed(records):
        if isinstance(record, InitStored):
            return record
        if isinstance(record, PartOpened):
            return None
    return None


def _end_date(records: list[Record]) -> float | None:
    for record in reversed(records):
        if isinstance(record, SegmentStored | AdSkipped | Gap):
            return None if record.date is None else record.date + record.duration_s
    return None


def _next_sequence(records: list[Record]) -> int | None:
    for record in reversed(records):
        if isinstance(record, SegmentStored | AdSkipped):
            return record.sequence + 1
        if isinstance(record, Gap):
            return record.sequence + record.count
        if isinstance(record, SessionStarted):
            return None
    return None
