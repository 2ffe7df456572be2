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
    """One thing to do, in the order of the stream."""

    item: Listed | Hole | Joined
    session: int = 0
    since: float = field(default_factory=time.monotonic)
    late: bool = False
    intake: Intake | None = None
    task: asyncio.Task[bool] | None = None

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

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def put(self, waiting: Waiting) -> None:
        self._items.append(waiting)
        self._filled.set()
        self._emptied.clear()

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
    stored_at: float = 0.0
    stored: int = 0
    lost_in_a_row: int = 0
    repeats: int = 0
    problem: str = ""
    """The last thing that went wrong, in one line."""
    by_answer: bool = False
    """The problem was an answer that makes no sense, not silence."""

    def went_wrong(self, text: str, *, by_answer: bool) -> None:
        self.problem = text
        self.by_answer = by_answer


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
        self.playback: Playback | None = None
        """The session at hand: its headers and proxy."""

    async def run(self, waiting: Waiting) -> bool:
        """Fetch into the intake; whether it first came damaged. Raises SegmentLost."""
        attempt = _Attempts(self._thresholds, self._health)
        damaged = False
        while True:
            try:
                await self._once(waiting, fresh=attempt.failed > 1)
            except FetchFailed as error:
                intake = waiting.intake
                damaged = damaged or error.partial or isinstance(error, NoMedia)
                if intake is not None:
                    intake.rewind()
                await asyncio.sleep(attempt.delay_after(error, late=waiting.late))
            else:
                self._health.reached_at = time.monotonic()
                return damaged

    async def _once(self, waiting: Waiting, *, fresh: bool) -> None:
        segment, intake, playback = waiting.segment, waiting.intake, self.playback
        assert segment is not None and intake is not None and playback is not None
        await self._fetcher.get(
            segment.uri,
            intake.feed,
            headers=playback.headers,
            proxy=playback.proxy,
            timeout_s=self._thresholds.segment_timeout_s,
            stall_s=self._thresholds.segment_idle_s,
            byte_range=segment.byte_range,
            fresh=fresh,
        )
        if intake.kind in ("", "-"):
            raise NoMedia("not a media segment")

    async def small(self, uri: str, byte_range: tuple[int, int] | None) -> bytes:
        """A small resource such as an init section, as a whole. Raises SegmentLost."""
        attempt = _Attempts(self._thresholds, self._health)
        playback = self.playback
        while True:
            body: list[bytes] = []
            try:
                await self._fetcher.get(
                    uri,
                    partial(_collect, body),
                    headers=playback.headers if playback else None,
                    proxy=playback.proxy if playback else None,
                    byte_range=byte_range,
                    max_bytes=8 * 1024 * 1024,
                )
            except FetchFailed as error:
                await asyncio.sleep(attempt.delay_after(error, late=False))
            else:
                return b"".join(body)


def _collect(body: list[bytes], pieces: list[bytes], _last: bool) -> None:
    body += pieces


class _Attempts:
    """How often one segment failed, and when that is enough."""

    def __init__(self, thresholds: Thresholds, health: Health) -> None:
        self._thresholds = thresholds
        self._health = health
        self._began = time.monotonic()
        self._gone = 0
        self.failed = 0

    def delay_after(self, error: FetchFailed, *, late: bool) -> float:
        """Seconds until the next try. Raises SegmentLost when there is none."""
        self.failed += 1
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
        """Past the deadline, though others were fetched meanwhile: it is not the network."""
        deadline_s = self._thresholds.segment_deadline_s
        if time.monotonic() - self._began < deadline_s:
            return False
        return self._health.reached_at > self._began + deadline_s / 2
