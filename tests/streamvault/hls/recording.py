"""Builders for tests that record from the origin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from streamvault.errors import SourceUnavailable, StreamOffline
from streamvault.hls.capture import Capture
from streamvault.hls.fetch import Fetcher
from streamvault.hls.journal import JOURNAL_NAME, read_journal
from streamvault.hls.order import CaptureOrder, Surroundings
from streamvault.hls.records import Gap, PartOpened, Record
from streamvault.hls.thresholds import Thresholds
from streamvault.hls.writer import Disks
from streamvault.source import Playback, Transport, Wish
from tests.streamvault.hls.hls_origin import Channel, Origin

# The product's times through ten or more; the origin's segments are of 0.2 s.
QUICK = Thresholds(
    poll_min_s=0.05,
    poll_max_s=0.05,
    playlist_timeout_s=2.0,
    playlist_retry_s=0.05,
    segment_timeout_s=5.0,
    segment_deadline_s=2.0,
    segment_retry_s=0.02,
    slow_segment_s=0.2,
    margin_s=0.3,
    proxy_timeout_s=1.0,
    proxy_idle_s=1,
    resolve_again_s=0.2,
    behind_s=1.5,
    look_s=0.2,
    takeover_s=1.0,
    bitrate_known_s=2.0,
    only_ads_s=1.0,
    stall_s=0.6,
    stall_resolve_s=0.8,
    idle_resolve_s=1.5,
    resolve_every_s=0.3,
    clock_back_s=0.5,
    gap_s=0.1,
    gone_s=0.4,
    notice_s=1.0,
    silence_s=6.0,
    plain_silence_s=3.0,
    broken_start_s=0.8,
    silent_start_s=2.0,
    drain_s=3.0,
    reader_idle_s=0.8,
)
TWITCH = "https://www.twitch.tv/somebody"


def no_reader(_wish: Wish) -> BinaryIO:
    raise SourceUnavailable("no reader in this test")


@dataclass
class Source:
    """What stands for streamlink: each resolve is a new session with other numbers."""

    origin: Origin
    channel: Channel
    offline: bool = False
    failing: bool = False
    new_session: bool = True
    resolves: int = 0
    codecs: str = "avc1.64002A,mp4a.40.2"
    transport: Transport = Transport.HLS
    stream_id: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    async def stream_of(self, _wish: Wish) -> str:
        return self.stream_id

    async def resolve(self, wish: Wish) -> Playback:
        if self.offline:
            raise StreamOffline("somebody is offline")
        if self.failing:
            raise SourceUnavailable("the service does not answer")
        self.resolves += 1
        session = f"s{self.resolves if self.new_session else 0}"
        self.channel.shifts.setdefault(session, 1000 * self.resolves + 7)
        url = self.origin.url(self.channel.name, session)
        return Playback(url, self.transport, "1080p60", self.codecs, "1920x1080", self.headers)


@dataclass
class Recorder:
    """Makes captures that share one process's means."""

    origin: Origin
    fetcher: Fetcher
    disks: Disks
    folder: Path
    captures: list[Capture] = field(default_factory=list)

    def source(self, name: str = "c", *, stream_id: str = "", **settings: object) -> Source:
        channel = self.origin.channel(name, **settings)
        return Source(self.origin, channel, stream_id=stream_id)

    def around(
        self,
        source: Source,
        *,
        thresholds: Thresholds = QUICK,
        min_free_bytes: int = 0,
        open_reader: Callable[[Wish], BinaryIO] = no_reader,
    ) -> Surroundings:
        return Surroundings(
            source.resolve, open_reader, self.fetcher, self.disks, thresholds, min_free_bytes,
            source.stream_of,
        )  # fmt: skip

    def order(self, **changes: object) -> CaptureOrder:
        given: dict[str, object] = {
            "recording_id": "r1",
            "source_url": TWITCH,
            "quality": "best",
            "directory": self.folder,
            "end_grace_s": 0.3,
        }
        return CaptureOrder(**{**given, **changes})  # type: ignore[arg-type]  # test builder

    def start(self, source: Source, around: Surroundings | None = None, **order: object) -> Capture:
        capture = Capture(self.order(**order), around or self.around(source))
        self.captures.append(capture)
        return capture


@asynccontextmanager
async def run_recorder(origin: Origin, folder: Path) -> AsyncIterator[Recorder]:
    recorder = Recorder(origin, Fetcher(), Disks(sync_every_s=0.1), folder)
    try:
        yield recorder
    finally:
        for capture in recorder.captures:
            await capture.drain()
        await recorder.fetcher.aclose()
        await asyncio.to_thread(recorder.disks.close)


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  # the condition is another part's state
            await asyncio.sleep(0.01)


async def stored(capture: Capture, segments: int) -> None:
    """Wait until so many segments are stored."""
    await until(lambda: capture.progress().segments >= segments or capture.task.done())
    assert capture.progress().segments >= segments, capture.task.result()


def part_bytes(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("part-*"))]


def records(folder: Path) -> list[Record]:
    return read_journal(folder / JOURNAL_NAME).records


def whys(folder: Path) -> list[str]:
    return [r.why for r in records(folder) if isinstance(r, PartOpened)]


def gaps(folder: Path) -> list[Gap]:
    return [r for r in records(folder) if isinstance(r, Gap)]


def finish(source: Source) -> None:
    """Both witnesses say that the stream has ended."""
    source.channel.ended = True
    source.offline = True


async def publish_slowly(channel: Channel, count: int) -> None:
    for _ in range(count):
        channel.publish()
        await asyncio.sleep(0.03)
