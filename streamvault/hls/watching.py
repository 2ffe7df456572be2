"""What is wrong with a recording that goes on: signs, by the progress of its media.

Never by the life of a process or the growth of a file: recorders that hang have both. A sign begins
and ends once each, whatever happens in between. Pure: the caller passes monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from statistics import median

from streamvault.hls.thresholds import Thresholds

SLOW = "slow"
STALLED = "stalled"
LOOPING = "looping"
BEHIND = "behind"
BITRATE = "bitrate"
ADS = "ads"
DISK = "disk"

Change = tuple[str, str]
"""A sign, and in plain words that it begins or ends."""


class Watching:
    def __init__(self, thresholds: Thresholds, now: float) -> None:
        self._thresholds = thresholds
        self._signs: dict[str, tuple[float, str]] = {}
        self._rates: deque[tuple[float, float]] = deque()
        self._poor = 0
        self._usual_bytes_s = 0.0
        self._rates_s = 0.0
        self._content_at = now
        self._only_ads = False
        self._asks = False
        self.little_room = False

    @property
    def signs(self) -> tuple[str, ...]:
        return tuple(self._signs)

    @property
    def note(self) -> str:
        """What is wrong at present, in one line."""
        return ", ".join(text for _, text in self._signs.values())

    def asks_again(self) -> bool:
        """Whether to ask the source again: once for a sign that this may help against."""
        asks, self._asks = self._asks, False
        return asks

    def listed(self, now: float, *, only_ads: bool) -> None:
        """Something new is in the playlist."""
        if not only_ads:
            self._content_at = now
        self._only_ads = only_ads

    def stored(self, size_bytes: int, duration_s: float) -> None:
        """The bitrate of what is stored, against the median of the minutes before."""
        if duration_s <= 0:
            return
        rate = size_bytes / duration_s
        enough = self._rates_s >= self._thresholds.bitrate_known_s
        if enough and rate < self._thresholds.bitrate_share * self._usual_bytes_s:
            # Not counted in, or a source that stays poor would become the usual one unseen.
            self._poor += 1
            return
        self._poor = 0
        self._rates.append((rate, duration_s))
        self._rates_s += duration_s
        while self._rates_s > self._thresholds.bitrate_span_s:
            self._rates_s -= self._rates.popleft()[1]
        self._usual_bytes_s = median(rate for rate, _ in self._rates)

    def look(
        self,
        now: float,
        *,
        fresh_at: float,
        segment_s: float,
        waiting_since: float | None,
        repeats: int,
        away: bool,
    ) -> list[Change]:
        """What has begun or ended since the last look.

        `fresh_at`: when something new was last listed; `waiting_since`: since when the first
        segment waits to be stored; `repeats`: segments in a row whose content was stored before;
        `away`: the stream has probably ended."""
        limits = self._thresholds
        quiet_s = 0.0 if away else now - fresh_at
        waits_s = 0.0 if waiting_since is None else now - waiting_since
        stalled = quiet_s >= max(limits.stall_resolve_s, 3 * segment_s)
        ads_s = now - self._content_at if self._only_ads and not stalled else 0.0
        found = {
            SLOW: (not stalled and quiet_s >= max(limits.stall_s, 3 * segment_s), "nothing new"),
            STALLED: (stalled, "nothing new is listed"),
            LOOPING: (repeats >= limits.repeats, "the source repeats itself"),
            BEHIND: (waits_s >= limits.behind_s, "what is listed cannot be fetched in time"),
            BITRATE: (
                self._poor >= limits.bitrate_segments,
                f"less than {limits.bitrate_share:.0%} of the usual bitrate",
            ),
            ADS: (ads_s >= limits.only_ads_s, "nothing but ads"),
            DISK: (self.little_room, "the disk has little room left"),
        }
        return [
            change
            for sign, (there, text) in found.items()
            for change in self._note(sign, now, text, there=there)
        ]

    def _note(self, sign: str, now: float, text: str, *, there: bool) -> Iterator[Change]:
        began = self._signs.get(sign)
        if there and began is None:
            self._signs[sign] = (now, text)
            self._asks = self._asks or sign == BITRATE
            yield sign, f"{sign}: {text}"
        elif not there and began is not None:
            del self._signs[sign]
            yield sign, f"{sign}: over after {now - began[0]:.0f} s"
