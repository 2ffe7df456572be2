"""What a capture is told, what it answers, and what all captures of a process share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from streamvault.contracts import CaptureEnd
from streamvault.hls.fetch import Fetcher
from streamvault.hls.thresholds import Thresholds
from streamvault.hls.writer import Disks
from streamvault.source import Playback, Wish

Resolve = Callable[[Wish], Awaitable[Playback]]
"""A playback session. Raises the SourceError tree; StreamOffline means that the player's token says
so."""

StreamOf = Callable[[Wish], Awaitable[str]]
"""The id of the stream that is live there; "" when nobody can say."""

OpenReader = Callable[[Wish], BinaryIO]
"""A blocking stream of bytes. Raises the SourceError tree."""


class Routes(Protocol):
    """The proxies, as a capture sees them."""

    async def readdressed(self, playback: Playback, wish: Wish) -> Playback | None:
        """A session of an earlier run with its proxy's address, which is never kept; None: by
        that way the stream may not be fetched, or not any more."""

    def failed(self, proxy_id: str, why: str) -> None:
        """It let a transfer down; the next session had better take another one."""


@dataclass(frozen=True, slots=True)
class CaptureOrder:
    """`fence`: the higher one wins the directory. `session`: counts the runs of a recording; only
    a higher one goes on behind an end that was written."""

    recording_id: str
    source_url: str
    quality: str
    directory: Path
    end_grace_s: float
    fence: int = 0
    session: int = 1
    stream_id: str = ""
    """The source's id of the stream; another one there later is not this recording's."""
    codecs: tuple[str, ...] = ()
    proxy_policy: str = ""
    streamer_id: str = ""

    def wish(self, *, settled: bool = False) -> Wish:
        return Wish(
            self.source_url,
            self.quality,
            self.codecs,
            self.proxy_policy,
            self.streamer_id,
            settled,
        )


@dataclass(frozen=True, slots=True)
class CaptureResult:
    end: CaptureEnd
    reason: str
    segments: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CaptureProgress:
    state: str
    """`connecting`, `recording`, `reconnecting`, `away` or `finished`."""
    segments: int
    size_bytes: int
    media_s: float
    gaps: int
    gap_s: float
    lost: int
    ads: int
    restarts: int
    bitrate_bps: int
    """Over the last half minute."""
    variant: str
    codecs: str
    resolution: str
    last_segment_age_s: float | None
    """Since the last segment was stored; None before the first."""
    note: str
    """What is wrong at the moment, in one line."""
    signs: tuple[str, ...] = ()
    """Those of hls.watching that are there now."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all captures of a process share."""

    resolve: Resolve
    open_reader: OpenReader
    fetcher: Fetcher
    disks: Disks
    thresholds: Thresholds = field(default_factory=Thresholds)
    min_free_bytes: int | None = None
    """Left free on the disk; None: room.Room.reserve_bytes."""
    stream_of: StreamOf | None = None
    routes: Routes | None = None
    libraries: tuple[Path, ...] = ()
    """Recordings begin below the first; parts that find no room there go below the second."""

    def spill_of(self, directory: Path) -> Path | None:
        """The other place of a recording's parts; None: there is none."""
        if len(self.libraries) < 2 or not directory.is_relative_to(self.libraries[0]):
            return None
        return self.libraries[1] / directory.relative_to(self.libraries[0])
