"""A mirror of Twitch's rate limit, one bucket per kind of token: no points left, no call.

The mirror belongs to this process. Points that another process takes show in the next answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Protocol

from streamvault.errors import RateLimited
from streamvault.twitch.words import Priority

POINTS = 800
"""Until the first answer says how many."""
RESERVED = {
    Priority.START: 0.0,
    Priority.RECONCILE: 0.05,
    Priority.SUBSCRIBE: 0.15,
    Priority.PICTURES: 0.30,
}
"""Part of the limit that a priority leaves to the ones before it."""
REFILL_S = 60.0
"""The bucket is one of points per minute."""
SHORTEST_SLEEP_S = 1.0  # Reset has whole seconds
LONGEST_SLEEP_S = 300.0  # a header that makes no sense must not stop us for good


class Watcher(Protocol):
    """Hears of what is left; `streamvault.metrics.twitch` shows it."""

    def note_points(self, bucket: str, limit: int, remaining: int) -> None: ...


@dataclass(frozen=True, slots=True)
class BucketReport:
    limit: int
    remaining: int
    reset_in_s: float


@dataclass(slots=True)
class Bucket:
    """Times are those of the limiter's clock. `remaining` knows of the calls on their way.

    `told` once an answer said what the bucket holds."""

    name: str
    limit: int = POINTS
    remaining: int = POINTS
    resets_at: float = 0.0
    sleeps_until: float = 0.0
    on_their_way: int = 0
    told: bool = False


class Limiter:
    """For one event loop."""

    def __init__(
        self,
        watcher: Watcher | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._watcher = watcher
        self._clock = clock
        self._wall_clock = wall_clock
        self._buckets: dict[str, Bucket] = {}

    def check(self, name: str, priority: Priority) -> None:
        """Raises RateLimited when a call of this priority has to wait."""
        bucket, now = self._bucket(name), self._clock()
        if now < bucket.sleeps_until:
            raise _empty(name, bucket.sleeps_until - now)
        if now >= bucket.resets_at:
            bucket.remaining = bucket.limit - bucket.on_their_way
            bucket.resets_at = now + REFILL_S
        if bucket.remaining < max(RESERVED[priority] * bucket.limit, 1):
            raise _empty(name, bucket.resets_at - now)

    @contextmanager
    def point(self, name: str) -> Iterator[None]:
        """Takes the point of a call and holds it until the call is over.

        It is not given back: Twitch may have counted a call whose answer never came."""
        bucket = self._bucket(name)
        bucket.remaining -= 1
        bucket.on_their_way += 1
        try:
            yield
        finally:
            bucket.on_their_way -= 1

    def learn(self, name: str, headers: Mapping[str, str]) -> None:
        """From an answer to a call that still holds its point."""
        bucket, now = self._bucket(name), self._clock()
        limit = _number(headers, "ratelimit-limit")
        remaining = _number(headers, "ratelimit-remaining")
        reset_in_s = self._reset_in_s(headers)
        if limit:
            bucket.limit = int(limit)
        if remaining is not None:
            # This answer may not know of the others that are on their way.
            bucket.remaining = int(remaining) - (bucket.on_their_way - 1)
        if reset_in_s is not None:
            bucket.resets_at = now + min(max(reset_in_s, 0.0), LONGEST_SLEEP_S)
        bucket.told = bucket.told or remaining is not None
        self._show(bucket)

    def sleep(self, name: str, headers: Mapping[str, str]) -> float:
        """After a 429: seconds for which nobody may ask."""
        bucket, now = self._bucket(name), self._clock()
        wait_s = self._reset_in_s(headers)
        if wait_s is None:
            wait_s = _number(headers, "retry-after")
        wait_s = REFILL_S if wait_s is None else wait_s
        wait_s = min(max(wait_s, SHORTEST_SLEEP_S), LONGEST_SLEEP_S)
        bucket.remaining = 0
        bucket.sleeps_until = bucket.resets_at = max(bucket.sleeps_until, now + wait_s)
        self._show(bucket)
        return bucket.sleeps_until - now

    def reports(self) -> dict[str, BucketReport]:
        """The buckets that Twitch has told of."""
        now = self._clock()
        return {
            name: BucketReport(
                bucket.limit, max(bucket.remaining, 0), round(max(bucket.resets_at - now, 0.0), 1)
            )
            for name, bucket in self._buckets.items()
            if bucket.told
        }

    def _bucket(self, name: str) -> Bucket:
        return self._buckets.setdefault(name, Bucket(name))

    def _reset_in_s(self, headers: Mapping[str, str]) -> float | None:
        """Reset is a time of Twitch's clock, and so is Date; ours may be wrong."""
        reset = _number(headers, "ratelimit-reset")
        if reset is None:
            return None
        date = date_of(headers)
        return reset - (self._wall_clock() if date is None else date)

    def _show(self, bucket: Bucket) -> None:
        if self._watcher and bucket.told:
            self._watcher.note_points(bucket.name, bucket.limit, max(bucket.remaining, 0))


def date_of(headers: Mapping[str, str]) -> float | None:
    """The answer's Date in seconds since 1970."""
    try:
        return parsedate_to_datetime(headers.get("date", "")).timestamp()
    except ValueError:
        return None


def _number(headers: Mapping[str, str], name: str) -> float | None:
    text = headers.get(name, "")
    return float(text) if text.isascii() and text.isdigit() else None


def _empty(name: str, wait_s: float) -> RateLimited:
    return RateLimited(
        f"no points are left in Twitch's rate limit for the {name} token",
        retry_after_s=round(wait_s, 1),
    )
