"""In which part a segment belongs, and whether something is missing before it.

A part holds one timeline: it ends where timestamps or codecs break. Pure; the rules are those of
ARCHITECTURE.md, the words for `why` those of records.PartOpened.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamvault.hls.alignment import Listed
from streamvault.hls.playlist import Segment
from streamvault.hls.thresholds import Thresholds
from streamvault.hls.timestamps import Head, continues


@dataclass(frozen=True, slots=True)
class Format:
    """What must not change inside a part."""

    ext: str
    init_crc: int = 0
    codecs: str = ""
    resolution: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    why: str
    """Why a new part begins; empty: the part goes on."""
    hole_s: float = 0.0
    """The source left this much out just before."""


class Placing:
    """Asked for each segment in order, and told when it is stored."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._format: Format | None = None
        self._codecs = 0
        self._last: Segment | None = None
        self._last_start_s: float | None = None
        self._lost_s = 0.0
        self._part_s = 0.0
        self._cut = ""

    def resume(
        self, part_format: Format, last: Segment | None, start_s: float | None, part_s: float
    ) -> None:
        """Go on in a part of an earlier run whose last segment began at timestamp `start_s`."""
        self._format = part_format
        self._last, self._last_start_s, self._part_s = last, start_s, part_s

    @property
    def started(self) -> bool:
        return self._format is not None

    def cut(self, why: str) -> None:
        """The next segment begins a part; the first reason given stands."""
        self._cut = self._cut or why

    def lost(self, duration_s: float) -> None:
        """So much media is missing before the next segment."""
        self._lost_s += duration_s

    def is_new(self, segment: Segment) -> bool:
        """Whether its date lies behind what is stored; False where dates do not tell."""
        last = self._last
        if last is None or last.date is None or segment.date is None:
            return False
        return segment.date >= last.date + last.duration_s / 2

    def place(self, listed: Listed, head: Head, segment_format: Format) -> Place:
        by_duration, by_date = self._continuity(listed.segment, head)
        hole_s = 0.0 if by_duration else listed.hole_s
        return Place(self._why(listed, head, segment_format, by_duration, by_date), hole_s)

    def stored(self, segment: Segment, head: Head, segment_format: Format, place: Place) -> None:
        if place.why:
            self._part_s = 0.0
            self._cut = ""
        self._format, self._codecs = segment_format, head.codecs or self._codecs
        self._last, self._last_start_s = segment, head.start_s
        self._lost_s = 0.0
        self._part_s += segment.duration_s

    def _continuity(self, segment: Segment, head: Head) -> tuple[bool | None, bool | None]:
        """Whether timestamps go on as durations say, and as dates say; None: not known."""
        last, start_s = self._last, self._last_start_s
        if last is None or start_s is None:
            return None, None
        tolerance_s = self._thresholds.gap_s
        by_duration = start_s + last.duration_s + self._lost_s
        by_date = None
        if segment.date is not None and last.date is not None:
            by_date = start_s + segment.date - last.date
        return (
            continues(by_duration, head.start_s, tolerance_s),
            continues(by_date, head.start_s, tolerance_s),
        )

    def _why(
        self,
        listed: Listed,
        head: Head,
        segment_format: Format,
        by_duration: bool | None,
        by_date: bool | None,
    ) -> str:
        if self._format is None:
            return "start"
        breakable = listed.segment.discontinuity or listed.joins
        if self._is_other_format(segment_format, head, breakable):
            return "init"
        if self._cut:
            return self._cut
        if listed.back:
            return "date"
        unknown = by_duration is None and by_date is None
        if (unknown and breakable) or not (unknown or by_duration or by_date):
            return "disc"
        return "12h" if self._part_s >= self._thresholds.part_s else ""

    def _is_other_format(self, new: Format, head: Head, breakable: bool) -> bool:
        old = self._format
        if old is None or (new.ext, new.init_crc) != (old.ext, old.init_crc):
            return old is not None
        if not breakable:
            return False
        if (new.codecs, new.resolution) != (old.codecs, old.resolution):
            return True
        # The parameter sets are in the stream itself; one that shows none says nothing.
        return bool(head.codecs and self._codecs and head.codecs != self._codecs)
