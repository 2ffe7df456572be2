"""Segments on their way from the network to the writer thread.

The first in line streams to its part; followers, fetched ahead when the recording lags,
stay in memory until it is their turn. Two budgets bound what all recordings hold together, so that
followers that wait can never keep the first in line from writing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from streamvault.contracts import GapCause
from streamvault.errors import FetchFailed
from streamvault.hls.alignment import Listed
from streamvault.hls.fetch import Fetcher
from streamvault.hls.playlist import Segment
from streamvault.hls.records import Gap, Record
from streamvault.hls.thresholds import Thresholds
from streamvault.hls.timestamps import PACKET, looks_like_audio, looks_like_mp4, looks_like_ts
from streamvault.hls.writer import Batch, Disks
from streamvault.source import Playback

RETRY_MAX_S = 4.0
GONE = {403, 404, 410}
SLOWER = 4.0
"""So much longer than the one before a segment may take."""


class SegmentLost(Exception):
    """A segment that is given up. Stays inside the recorder, where it becomes a gap."""

    def __init__(self, why: str, cause: GapCause, text: str) -> None:
        super().__init__(text)
        self.why = why
        self.cause = cause


class NoMedia(FetchFailed):
    """An answer that looks like success and holds something else, such as a web page."""


@dataclass(frozen=True, slots=True)
class Joined:
    """From here on segments come from this session; `records` say so in the journal."""

    playback: Playback
    records: tuple[Record, ...]
    cut: str = ""
    """Why a new part begins here in any case; empty: it need not."""


@dataclass(frozen=True, slots=True)
class Hole:
    gap: Gap
    cut: bool
    """A new part begins behind it."""


@dataclass(slots=True, eq=False)
class Waiting:
    """One thing to do, in the order of the stream. `playback`: the way its segment is fetched."""

    item: Listed | Hole | Joined
    playback: Playback
    session: int = 0
    since: float = field(default_factory=time.monotonic)
    late: bool = False
    intake: Intake | None = None
    task: asyncio.Task[bool] | None = None
    under_way: bool = False
    moved: bool = False
    """Its transfer was cancelled to begin anew by another way."""

    def move_to(self, playback: Playback, *, at_once: bool) -> None:
        """Fetch it by another session; `at_once` does not let a transfer under way end first."""
        before, self.playback = self.playback, playback
        if at_once and before != playback and self.task is not None and self.under_way:
            self.moved = self.moved or self.task.cancel()

    @property
    def segment(self) -> Segment | None:
        """The segment to fetch; None for all else."""
        item = self.item
        return item.segment if isinstance(item, Listed) and not item.segment.ad else None


@dataclass(slots=True)
class WaitingList:
    _items: deque[Waiting] = field(default_factory=deque)
    _filled: asyncio.Event = field(default_factory=asyncio.Event)
    _emptied: asyncio.Event = field(default_factory=asyncio.Event)
    pressed: bool = False
    """The first in line is about to leave the playlist."""

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def put(self, waiting: Waiting) -> None:
        self._items.append(waiting)
        self._filled.set()
        self._emptied.clear()

    def first_segment(self) -> Waiting | None:
        return next((waiting for waiting in self._items if waiting.segment is not None), None)

    async def first(self) -> Waiting:
        """The first in line; it stays there until `done`."""
        await self._filled.wait()
        return self._items[0]

    def done(self) -> None:
        self._items.popleft()
        if not self._items:
            self._filled.clear()
            self._emptied.set()

    async def wait_empty(self) -> None:
        if self._items:
            await self._emptied.wait()


@dataclass(slots=True)
class Health:
    """What the parts of a capture tell each other; times are monotonic seconds."""

    reached_at: float = 0.0
    """The last answer of any kind that was as wanted."""
    arrived_at: float = 0.0
    """When a segment last came in whole, in whatever order."""
    stored_at: float = 0.0
    stored: int = 0
    stored_until: float | None = None
    """The stream's clock behind the last segment that was stored; None: it has no dates."""
    lost_in_a_row: int = 0
    repeats: int = 0
    problem: str = ""
    """The last thing that went wrong, in one line."""
    by_answer: bool = False
    """The problem was an answer that makes no sense, not silence."""

    fetch_s: float = 0.0
    """How long the last segment that came in whole was under way."""
    route: str = ""
    """The proxy of the session at hand; empty: direct."""
    route_failures: int = 0
    """Since the last segment that came by it; one that is the proxy's own fault counts twice."""
    route_problem: str = ""
    """What the last one was."""
    alarm: Callable[[], None] = lambda: None
    """Called when it has failed again."""

    def went_wrong(self, text: str, *, by_answer: bool) -> None:
        self.problem = text
        self.by_answer = by_answer

    def goes_by(self, route: str) -> None:
        self.route, self.route_failures = route, 0

    def transfer_failed(self, playback: Playback, error: FetchFailed, weight: int = 1) -> None:
        # An answer of the source itself shows that the proxy works.
        if playback.proxy_id == self.route and (error.by_proxy or not error.status):
            self.route_failures += 2 if error.by_proxy else weight
            self.route_problem = str(error)
            self.alarm()

    def answered(self) -> None:
        self.reached_at = time.monotonic()

    def segment_came(self, playback: Playback, fetch_s: float) -> None:
        self.reached_at = self.arrived_at = time.monotonic()
        self.fetch_s = fetch_s
        if playback.proxy_id == self.route:
            self.route_failures = 0


class Intake:
    """The bytes of one segment. Until `go_live` they stay in memory, for which a follower has
    `reserved` bytes of the budget for that."""

    __slots__ = ("_batches", "_disks", "_forward", "_reserved", "_rewind", "kind", "size")

    def __init__(self, disks: Disks, reserved: int = 0) -> None:
        self._disks = disks
        self._reserved = reserved
        self._batches: list[Batch] = []
        self._forward: Callable[[Batch, bool], None] | None = None
        self._rewind: Callable[[], None] | None = None
        self.kind = ""
        """`ts`, `mp4`, or `-` for something that is no media; empty before the first bytes."""
        self.size = 0

    def feed(self, pieces: list[bytes], last: bool) -> bool | None:
        """Take pieces; False when there is no room for them now, which cannot be for the last."""
        if not pieces:
            return None
        batch = Batch(pieces, sum(map(len, pieces)))
        if not self.kind:
            self.kind = media_kind(batch.start(PACKET + 1))
        if self.kind == "-":
            return None
        if self._forward is None:
            self._batches.append(batch)
        elif self._disks.queue.take(batch.size, force=last):
            self._forward(batch, last)
        else:
            return False
        self.size += batch.size
        return None

    def go_live(self, forward: Callable[[Batch, bool], None], rewind: Callable[[], None]) -> None:
        """Hand on what is there and what comes: `forward` gets each batch, and whether it is the
        last; `rewind` says that it begins anew."""
        self._forward, self._rewind = forward, rewind
        rewind()
        batches, self._batches = self._batches, []
        self._give_back()
        for batch in batches:
            self._disks.queue.take(batch.size, force=True)
            forward(batch, False)

    def rewind(self) -> None:
        """The transfer begins anew."""
        self._batches.clear()
        self.kind = ""
        self.size = 0
        if self._rewind is not None:
            self._rewind()

    def discard(self) -> None:
        """It is not wanted any more."""
        self._batches.clear()
        self._give_back()

    def _give_back(self) -> None:
        self._disks.ahead.give(self._reserved)
        self._reserved = 0


def media_kind(start: bytes) -> str:
    """`ts` or `mp4` by the first bytes of a segment, up to one behind the first TS packet; `-`
    for nothing that is known."""
    if looks_like_ts(start) or looks_like_audio(start):
        return "ts"
    return "mp4" if looks_like_mp4(start) else "-"


class Downloads:
    """Fetches segments, each until it is there or given up."""

    def __init__(self, fetcher: Fetcher, thresholds: Thresholds, health: Health) -> None:
        self._fetcher = fetcher
        self._thresholds = thresholds
        self._health = health

    async def run(self, waiting: Waiting) -> bool:
        """Fetch into the intake; whether it first came damaged. Raises SegmentLost."""
        attempt = _Attempts(self._thresholds, self._health)
        waiting.under_way = True
        damaged = False
        while True:
            try:
                damaged = await self._try(waiting, attempt) or damaged
            except asyncio.CancelledError:
                if not _is_moved(waiting):
                    raise
                if waiting.intake is not None:
                    waiting.intake.rewind()
            else:
                if not attempt.again:
                    return damaged

    async def _try(self, waiting: Waiting, attempt: _Attempts) -> bool:
        """Once, and the pause before the next time; whether what came was damaged."""
        playback, intake = waiting.playback, waiting.intake
        assert intake is not None
        attempt.begin()
        try:
            await self._once(waiting, playback, intake, fresh=attempt.fresh)
        except FetchFailed as error:
            self._health.transfer_failed(playback, error)
            intake.rewind()
            await asyncio.sleep(attempt.delay_after(error, late=waiting.late))
            return error.partial or isinstance(error, NoMedia)
        self._health.segment_came(playback, attempt.lasted_s)
        attempt.again = False
        return False

    async def _once(
        self, waiting: Waiting, playback: Playback, intake: Intake, *, fresh: bool
    ) -> None:
        segment, limits = waiting.segment, self._thresholds
        assert segment is not None
        await self._fetcher.get(
            segment.uri,
            intake.feed,
            headers=playback.headers,
            proxy=playback.proxy,
            # On a line that is too narrow each takes long; to begin anew would make it narrower.
            timeout_s=max(limits.segment_timeout_s, SLOWER * self._health.fetch_s),
            stall_s=limits.proxy_idle_s if playback.proxy_id else limits.segment_idle_s,
            byte_range=segment.byte_range,
            fresh=fresh,
        )
        if intake.kind in ("", "-"):
            raise NoMedia("not a media segment")

    async def small(self, waiting: Waiting, uri: str, byte_range: tuple[int, int] | None) -> bytes:
        """A small resource such as the init section of what waits, as a whole.

        Raises SegmentLost."""
        attempt = _Attempts(self._thresholds, self._health)
        while True:
            body: list[bytes] = []
            playback = waiting.playback
            attempt.begin()
            try:
                await self._fetcher.get(
                    uri,
                    partial(_collect, body),
                    headers=playback.headers,
                    proxy=playback.proxy,
                    byte_range=byte_range,
                    max_bytes=8 * 1024 * 1024,
                )
            except FetchFailed as error:
                self._health.transfer_failed(playback, error)
                await asyncio.sleep(attempt.delay_after(error, late=False))
            else:
                return b"".join(body)


def _is_moved(waiting: Waiting) -> bool:
    """Whether a cancellation was only for a transfer to begin anew by another way."""
    task = asyncio.current_task()
    assert task is not None
    moved, waiting.moved = waiting.moved, False
    return moved and task.uncancel() == 0


def _collect(body: list[bytes], pieces: list[bytes], _last: bool) -> None:
    body += pieces


class _Attempts:
    """How often one segment failed, and when that is enough."""

    def __init__(self, thresholds: Thresholds, health: Health) -> None:
        self._thresholds = thresholds
        self._health = health
        self._began = self._try_began = time.monotonic()
        self._alive = False
        self._gone = 0
        self.failed = 0
        self.again = True
        self.fresh = False
        """On a new connection: the one before did not bring it."""

    def begin(self) -> None:
        """Before each try."""
        self._try_began = time.monotonic()
        alive_s = self._try_began - self._health.reached_at
        self._alive = alive_s <= self._thresholds.playlist_timeout_s

    @property
    def lasted_s(self) -> float:
        return time.monotonic() - self._try_began

    def delay_after(self, error: FetchFailed, *, late: bool) -> float:
        """Seconds until the next try. Raises SegmentLost when there is none."""
        self.failed += 1
        self.fresh = self.failed > 1 or not error.status
        self._gone += error.status in GONE or isinstance(error, NoMedia)
        if self._gone >= self._thresholds.segment_gone_answers:
            # Behind the window it is gone because we were late, inside it the source lost it.
            cause = GapCause.NETWORK if late else GapCause.SOURCE
            raise SegmentLost(str(error.status or "no media"), cause, f"a segment: {error}")
        if self._is_hopeless():
            cause = GapCause.PROXY if error.by_proxy else GapCause.NETWORK
            raise SegmentLost("timeout", cause, f"a segment: {error}")
        delay_s = self._thresholds.segment_retry_s * 2.0 ** min(self.failed - 1, 10)
        return min(delay_s, RETRY_MAX_S) * random.uniform(0.7, 1.0)

    def _is_hopeless(self) -> bool:
        """Past the deadline, though others came meanwhile, and though the network worked when the
        last try began and when it failed."""
        health = self._health
        if time.monotonic() - self._began < self._thresholds.segment_deadline_s:
            return False
        others = health.arrived_at > self._began
        return others and self._alive and health.reached_at > self._try_began
