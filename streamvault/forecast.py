"""What recordings will need, told from what they needed; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

DAY, WEEK = timedelta(days=1), timedelta(days=7)
WEEKS = 4
"""So far it looks back."""
LIKELY = 0.5
"""Who streamed on half of the last four same days probably does again."""


@dataclass(frozen=True, slots=True)
class Past:
    """A recording of the last four weeks."""

    streamer_id: str
    """Empty for somebody who is not followed."""
    name: str
    started_at: datetime
    size_bytes: int
    running: bool = False


@dataclass(frozen=True, slots=True)
class Likely:
    """Who will probably stream within a day, or does so now."""

    streamer_id: str
    name: str
    chance: float
    """1 for who is recorded now."""
    size_bytes: int
    """That this stream will still need, by the mean of the streamer's recordings."""


@dataclass(frozen=True, slots=True)
class Forecast:
    bytes_per_day: float
    """Mean of the last seven days, or of as many as there are."""
    days_left: float | None
    """Until the room is used up at this rate; None while nothing is recorded."""
    likely: Sequence[Likely]
    """Largest first."""

    @property
    def needed_bytes(self) -> int:
        return sum(one.size_bytes for one in self.likely)


def make_forecast(past: Iterable[Past], room_bytes: int, now: datetime) -> Forecast:
    """`room_bytes` is what recordings may still take."""
    rows = list(past)
    rate = _bytes_per_day(rows, now)
    likely = [one for theirs in _by_streamer(rows).values() if (one := _likely(theirs, now))]
    return Forecast(
        bytes_per_day=rate,
        days_left=max(room_bytes, 0) / rate if rate else None,
        likely=sorted(likely, key=lambda one: (-one.size_bytes, one.name)),
    )


def _bytes_per_day(rows: Sequence[Past], now: datetime) -> float:
    recent = [row for row in rows if now - row.started_at <= WEEK]
    if not recent:
        return 0.0
    # Whoever began yesterday has no week to look back on.
    since = min(row.started_at for row in rows)
    days = min(max((now - since) / DAY, 1.0), 7.0)
    return sum(row.size_bytes for row in recent) / days


def _by_streamer(rows: Sequence[Past]) -> Mapping[str, list[Past]]:
    found: dict[str, list[Past]] = defaultdict(list)
    for row in rows:
        if row.streamer_id:
            found[row.streamer_id].append(row)
    return found


def _likely(theirs: Sequence[Past], now: datetime) -> Likely | None:
    done = [row for row in theirs if not row.running]
    mean = sum(row.size_bytes for row in done) // len(done) if done else 0
    name, streamer_id = theirs[-1].name, theirs[-1].streamer_id
    running = [row for row in theirs if row.running]
    if running:
        left = max(mean - sum(row.size_bytes for row in running), 0)
        return Likely(streamer_id, name, 1.0, left)
    chance = _chance(done, now)
    return Likely(streamer_id, name, chance, mean) if chance >= LIKELY else None


def _chance(done: Sequence[Past], now: datetime) -> float:
    """The share of the last weeks in which a stream began within the day that starts at this time
    of the week; of one that was followed for less than a week nothing is known."""
    first = min(row.started_at for row in done)
    weeks = min(int((now - first) / WEEK) + 1, WEEKS)
    begins = [now - n * WEEK for n in range(1, weeks + 1)]
    hits = sum(any(at <= row.started_at < at + DAY for row in done) for at in begins)
    return hits / weeks
