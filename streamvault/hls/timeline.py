"""What a recording holds and what it lacks, summed up record by record from the journal.

Positions are seconds on the recording's media clock: 0 is its first stored frame, and holes inside
a part and between parts keep their length, so that it runs along with the clock on the wall. Where
the source gives dates, they place what comes after a hole; elsewhere the durations do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from isal.isal_zlib import crc32_combine

from streamvault.hls.records import (
    AdSkipped,
    Gap,
    InitStored,
    PartOpened,
    Record,
    Resumed,
    SegmentStored,
    Trouble,
)

TROUBLES = 200
"""The last of them; all are in the journal."""
DATE_TOLERANCE_S = 0.5
"""Dates of two sessions differ by tens of milliseconds; further back is another clock."""


@dataclass(frozen=True, slots=True)
class PartSpan:
    """One part file on the media clock."""

    number: int
    file_name: str
    why: str
    """Why it began, as in records.PartOpened."""
    start_s: float
    span_s: float
    """From its first to its last frame, holes inside it included."""
    duration_s: float
    """Media in it, without holes."""
    start_wall_s: float
    """Epoch seconds of its first frame: the stream's clock, this host's if the source has none."""
    size_bytes: int
    crc: int | None
    """CRC32 of the whole file; None if its records do not adjoin."""
    segments: int
    variant: str = ""
    codecs: str = ""
    resolution: str = ""

    @property
    def end_s(self) -> float:
        return self.start_s + self.span_s


@dataclass(frozen=True, slots=True)
class GapSpan:
    """Media that is missing; adjoining losses of one cause are one gap."""

    start_s: float
    duration_s: float
    cause: str
    """A contracts.GapCause."""
    at: float | None
    """Epoch seconds; None: neither the source nor the recorder said."""


@dataclass(frozen=True, slots=True)
class AdBreak:
    start_s: float
    duration_s: float
    kind: str


@dataclass(frozen=True, slots=True)
class Restart:
    at: float | None
    cause: str
    gap_s: float


@dataclass(frozen=True, slots=True)
class Totals:
    """`totals` of a recording in the API and the report."""

    segments_expected: int = 0
    """What the source listed, ads apart: stored and lost."""
    segments_stored: int = 0
    segments_late: int = 0
    segments_lost: int = 0
    segments_ad: int = 0
    segments_repaired: int = 0
    gap_s: float = 0.0
    ad_s: float = 0.0
    restarts: int = 0


class Timeline:
    """Feed it every record of a journal in order; all answers are of the records so far."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._parts: list[PartSpan] = []
        self._growing: _GrowingPart | None = None
        self._gaps: list[GapSpan] = []
        self._ads: list[AdBreak] = []
        self._restarts: list[Restart] = []
        self._troubles: deque[Trouble] = deque(maxlen=TROUBLES)
        self._stored = self._late = self._lost = self._ad_segments = self._repaired = 0
        self._gap_s = self._ad_s = 0.0
        self._cursor_s = 0.0
        self._end_s = 0.0
        self._end_date: float | None = None
        self._hole = ""
        self._handlers: dict[type[Record], Callable[[Any], None]] = {
            SegmentStored: self._segment,
            InitStored: self._bytes,
            PartOpened: self._part_opened,
            AdSkipped: self._ad,
            Gap: self._gap,
            Resumed: self._resumed,
            Trouble: self._trouble,
        }
        for record in records:
            self.feed(record)

    def feed(self, record: Record) -> None:
        handle = self._handlers.get(type(record))
        if handle is not None:
            handle(record)

    # ---- answers

    @property
    def parts(self) -> tuple[PartSpan, ...]:
        """All parts that hold a segment, the growing one as it is now."""
        growing = self._growing
        if growing is None or not growing.segments:
            return tuple(self._parts)
        return (*self._parts, growing.span())

    @property
    def gaps(self) -> tuple[GapSpan, ...]:
        return tuple(self._gaps)

    @property
    def ads(self) -> tuple[AdBreak, ...]:
        return tuple(self._ads)

    @property
    def restarts(self) -> tuple[Restart, ...]:
        return tuple(self._restarts)

    @property
    def duration_s(self) -> float:
        """Length of the recording on the media clock: to its last frame, holes kept."""
        return self._end_s

    @property
    def media_s(self) -> float:
        """Media stored, without holes."""
        return sum(p.duration_s for p in self.parts)

    @property
    def size_bytes(self) -> int:
        return sum(p.size_bytes for p in self.parts)

    @property
    def totals(self) -> Totals:
        return Totals(
            segments_expected=self._stored + self._lost,
            segments_stored=self._stored,
            segments_late=self._late,
            segments_lost=self._lost,
            segments_ad=self._ad_segments,
            segments_repaired=self._repaired,
            gap_s=round(self._gap_s, 3),
            ad_s=round(self._ad_s, 3),
            restarts=len(self._restarts),
        )

    def media_of_wall(self, wall_s: float) -> float:
        """Position of a moment (epoch seconds); before the start 0, after the end the end.

        A moment that falls into a hole is where the hole is on the media clock.
        """
        parts = self.parts
        limit = self._end_s
        for part in reversed(parts):
            if wall_s >= part.start_wall_s:
                return min(part.start_s + wall_s - part.start_wall_s, limit)
            limit = part.start_s
        return 0.0

    def without_holes(self, media_s: float) -> float:
        """A place on the clock of a file that leaves out what lies between its parts."""
        return sum(min(max(media_s - part.start_s, 0.0), part.span_s) for part in self.parts)

    def as_report(self) -> dict[str, Any]:
        """The capture's share of the integrity report, ready for JSON (times RFC 3339 UTC)."""
        return {
            "duration_s": round(self.duration_s, 3),
            "media_s": round(self.media_s, 3),
            "size_bytes": self.size_bytes,
            "totals": asdict(self.totals),
            "gaps": [_gap_report(g) for g in self._gaps],
            "ads": [_ad_report(a) for a in self._ads],
            "restarts": [
                {"at": _rfc3339(r.at), "cause": r.cause, "gap_s": round(r.gap_s, 3)}
                for r in self._restarts
            ],
            "troubles": [
                {"at": _rfc3339(t.at), "text": t.why, "sign": t.sign} for t in self._troubles
            ],
            "parts": [_part_report(p) for p in self.parts],
        }

    # ---- records

    def _segment(self, record: SegmentStored) -> None:
        part = self._growing
        if part is None:
            return
        if self._hole or not part.segments:
            self._cursor_s = self._position(record.date)
            self._hole = ""
        if not part.segments:
            part.begin(self._cursor_s, record.date)
        part.add_bytes(record)
        self._cursor_s += record.duration_s
        part.add_media(record.duration_s, self._cursor_s)
        self._end_s = self._cursor_s
        self._end_date = None if record.date is None else record.date + record.duration_s
        self._stored += 1
        self._late += record.late
        self._repaired += record.repaired

    def _position(self, date: float | None) -> float:
        """Where the first segment after a hole begins."""
        if date is None or self._end_date is None:
            return self._cursor_s
        hole_s = date - self._end_date
        return self._end_s + max(hole_s, 0.0) if hole_s >= -DATE_TOLERANCE_S else self._cursor_s

    def _bytes(self, record: InitStored) -> None:
        if self._growing is not None:
            self._growing.add_bytes(record)

    def _part_opened(self, record: PartOpened) -> None:
        if self._growing is not None and self._growing.segments:
            self._parts.append(self._growing.span())
        self._growing = _GrowingPart(record)

    def _gap(self, record: Gap) -> None:
        if self._continues(f"gap {record.cause}"):
            last = self._gaps[-1]
            self._gaps[-1] = replace(last, duration_s=last.duration_s + record.duration_s)
        else:
            at = record.at if record.date is None else record.date
            self._gaps.append(GapSpan(self._cursor_s, record.duration_s, record.cause, at))
        self._lost += record.count
        self._gap_s += record.duration_s
        self._widen_hole(record.duration_s)

    def _ad(self, record: AdSkipped) -> None:
        if self._continues(f"ad {record.kind}"):
            last = self._ads[-1]
            self._ads[-1] = replace(last, duration_s=last.duration_s + record.duration_s)
        else:
            self._ads.append(AdBreak(self._cursor_s, record.duration_s, record.kind))
        self._ad_segments += 1
        self._ad_s += record.duration_s
        self._widen_hole(record.duration_s)

    def _continues(self, hole: str) -> bool:
        """Whether the record before was of the same hole."""
        same = self._hole == hole
        self._hole = hole
        return same

    def _widen_hole(self, duration_s: float) -> None:
        # What was missed before the first frame is not on the media clock.
        if self._stored:
            self._cursor_s += duration_s

    def _trouble(self, record: Trouble) -> None:
        self._troubles.append(record)

    def _resumed(self, record: Resumed) -> None:
        self._restarts.append(Restart(record.at, record.why or "worker", record.gap_s))


class _GrowingPart:
    """The part that records are added to."""

    def __init__(self, opened: PartOpened) -> None:
        self._opened = opened
        self._start_s = 0.0
        self._start_wall_s = opened.at
        self._span_s = 0.0
        self._duration_s = 0.0
        self._size_bytes = 0
        self._crc: int | None = 0
        self.segments = 0

    def begin(self, start_s: float, date: float | None) -> None:
        self._start_s = start_s
        if date is not None:
            self._start_wall_s = date

    def add_bytes(self, record: SegmentStored | InitStored) -> None:
        if self._crc is not None and record.offset == self._size_bytes:
            self._crc = crc32_combine(self._crc, record.crc, record.length)
        else:
            self._crc = None
        self._size_bytes = record.offset + record.length

    def add_media(self, duration_s: float, end_s: float) -> None:
        self._duration_s += duration_s
        self._span_s = end_s - self._start_s
        self.segments += 1

    def span(self) -> PartSpan:
        opened = self._opened
        return PartSpan(
            number=opened.number,
            file_name=opened.file_name,
            why=opened.why,
            start_s=self._start_s,
            span_s=self._span_s,
            duration_s=self._duration_s,
            start_wall_s=self._start_wall_s,
            size_bytes=self._size_bytes,
            crc=self._crc,
            segments=self.segments,
            variant=opened.variant,
            codecs=opened.codecs,
            resolution=opened.resolution,
        )


def _gap_report(gap: GapSpan) -> dict[str, Any]:
    return {
        "start_s": round(gap.start_s, 3),
        "duration_s": round(gap.duration_s, 3),
        "cause": gap.cause,
        "at": _rfc3339(gap.at),
    }


def _ad_report(ad: AdBreak) -> dict[str, Any]:
    return {
        "start_s": round(ad.start_s, 3),
        "duration_s": round(ad.duration_s, 3),
        "kind": ad.kind,
    }


def _part_report(part: PartSpan) -> dict[str, Any]:
    return {
        "number": part.number,
        "file": part.file_name,
        "why": part.why,
        "start_s": round(part.start_s, 3),
        "duration_s": round(part.duration_s, 3),
        "began_at": _rfc3339(part.start_wall_s),
        "size_bytes": part.size_bytes,
        "crc32": None if part.crc is None else f"{part.crc:08x}",
        "segments": part.segments,
        "variant": part.variant,
        "codecs": part.codecs,
        "resolution": part.resolution,
    }


def _rfc3339(epoch_s: float | None) -> str | None:
    if epoch_s is None:
        return None
    text = datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"
