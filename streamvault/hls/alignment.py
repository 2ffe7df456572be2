"""Which listed segments come next: by number inside a playback session, by date across sessions.

MEDIA-SEQUENCE belongs to one session, and two sessions of the same moment differ by a few numbers;
PROGRAM-DATE-TIME is the stream's own. Pure: playlists in, segments and holes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamvault.hls.playlist import MediaPlaylist, Segment


@dataclass(frozen=True, slots=True)
class Missing:
    """Segments that left the playlist before they were seen."""

    number: int
    count: int
    date: float | None
    duration_s: float
    by_date: bool
    """Found when a new session was aligned, not inside one."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A segment to store, or an ad to note."""

    segment: Segment
    hole_s: float = 0.0
    """Its date lies so much behind where the one before it ended, with no number missing."""
    back: bool = False
    """Its date lies before what is stored, or dates are gone."""
    joins: bool = False
    """The first one of a session."""


class Cursor:
    """Where the recording stands in what is listed."""

    def __init__(self, end_date: float | None, gap_s: float) -> None:
        self._gap_s = gap_s
        self.end_date = end_date
        """The stream's clock behind everything taken so far; None: no dates, or nothing yet."""
        self._next: int | None = None
        self._floor: int | None = None

    @property
    def aligned(self) -> bool:
        return self._next is not None

    @property
    def next_number(self) -> int | None:
        """What follows in this session."""
        return self._next

    def new_session(self, next_number: int | None = None) -> None:
        """The next playlist is of another session; `next_number` only where it is the same one."""
        self._next = next_number if self.end_date is None else None
        self._floor = None

    def taken_until(self, segment: Segment) -> None:
        """This segment, and all before it, came from elsewhere."""
        if segment.date is not None:
            self.end_date = segment.date + segment.duration_s

    def go_back_to(self, end_date: float) -> None:
        """What was taken since was not what its number said: the source loops. When it is itself
        again, its dates show what it left out, which may still be listed."""
        self.end_date = end_date
        self._next = None

    def accept_older(self) -> None:
        """Go on with what was listed since this session began, whatever its dates are."""
        self.end_date = None
        self._next = self._floor

    def take(self, playlist: MediaPlaylist) -> list[Listed | Missing]:
        """What is new, in order; the cursor stands behind it afterwards."""
        segments = playlist.segments
        if not segments:
            return []
        if self._floor is None:
            self._floor = segments[-1].number + 1
        if self._next is None or self._was_renumbered(segments, self._next):
            return self._align(segments)
        return self._follow([s for s in segments if s.number >= self._next], self._next)

    def _align(self, segments: Sequence[Segment]) -> list[Listed | Missing]:
        end = self.end_date
        fresh = [s for s in segments if end is None or s.date is None or _is_new(s, end)]
        if not fresh:
            # Still behind what is stored; waiting by number would take it a second time.
            self._next = None
            return []
        first = fresh[0]
        taken: list[Listed | Missing] = []
        if end is not None and first.date is not None and first.date - end > self._gap_s:
            hole_s = first.date - end
            count = max(1, round(hole_s / first.duration_s)) if first.duration_s else 1
            taken.append(Missing(first.number - count, count, end, hole_s, by_date=True))
            self.end_date = first.date
        taken.append(self._step(first, joins=True))
        return taken + self._follow(fresh[1:], first.number + 1)

    def _follow(self, fresh: Sequence[Segment], expected: int) -> list[Listed | Missing]:
        taken: list[Listed | Missing] = []
        if fresh and fresh[0].number > expected:
            taken.append(self._skip(fresh[0], fresh[0].number - expected))
        taken += [self._step(segment) for segment in fresh]
        return taken

    def _skip(self, first: Segment, count: int) -> Missing:
        start, duration_s = self.end_date, count * first.duration_s
        if start is not None and first.date is not None and first.date > start:
            duration_s = first.date - start
        missing = Missing(first.number - count, count, start, duration_s, by_date=False)
        self.end_date = None if start is None else start + duration_s
        return missing

    def _step(self, segment: Segment, *, joins: bool = False) -> Listed:
        end, date = self.end_date, segment.date
        off = date - end if date is not None and end is not None else 0.0
        lost_dates = end is not None and date is None
        self.end_date = None if date is None else date + segment.duration_s
        self._next = segment.number + 1
        return Listed(
            segment,
            hole_s=off if off > self._gap_s and not joins else 0.0,
            back=lost_dates or off < -max(self._gap_s, segment.duration_s / 2),
            joins=joins,
        )

    def _was_renumbered(self, segments: Sequence[Segment], expected: int) -> bool:
        """Lower numbers than before, and not merely an old copy of the playlist."""
        last = segments[-1]
        if last.number + 1 >= expected:
            return False
        if last.date is not None and self.end_date is not None:
            return _is_new(last, self.end_date)
        return expected - last.number > 2 * len(segments)


def _is_new(segment: Segment, end_date: float) -> bool:
    return segment.date is None or segment.date >= end_date - segment.duration_s / 2
