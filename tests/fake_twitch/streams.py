"""What a channel's streams are made of: `at` is epoch seconds, media times are seconds too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """One line of the master playlist and the pool behind it."""

    name: str
    profile: str
    source: bool = False
    group: str = ""
    """`portrait` marks a portrait rendition (IVS-GROUPS)."""
    bandwidth_bps: int = 0
    """0 says what the pool really has."""
    resolution: str = ""
    frame_rate: float = 0
    """0 says what the pool really has."""


DEFAULT_VARIANTS = (
    Variant("180p30", "180p", source=True),
    Variant("120p30", "120p"),
    Variant("audio_only", "audio"),
)


@dataclass(frozen=True)
class Options:
    """How a channel's playlists behave. Every field can be given to the control routes."""

    segment_s: int = 1
    """A whole number of seconds, since pools are cut each second."""
    target_s: int = 0
    """TARGETDURATION; 0 is segment_s + 1. Twitch says 6 with segments of 2 s."""
    window_s: float = 30
    backlog: int = 3
    """Segments that are already there at the start."""
    speed: float = 1
    """Seconds of media per second; 0 publishes only by the control route."""
    length: int = 0
    """The stream ends by itself after that many segments; 0 never."""
    keep_s: float = 60
    """How long a segment can be fetched after it left the window."""
    prefetch: int = 2
    sequence_shift: int = -1
    """MEDIA-SEQUENCE of the stream's first segment; -1 draws another for each session."""
    pdt: bool = True
    pdt_jitter_s: float = 0
    """Each session's dates are off by up to this much."""
    preroll: int = 0
    """Ad segments that each new session sees first, in the place of what is live meanwhile."""
    token_ttl_s: float = 3600
    """A session's playlists answer 403 after that."""
    pts_start_s: float = 0
    helix_lag_s: float = 0
    """Get Streams notices a change that much later."""
    kind: str = "live"
    """What Helix and EventSub call it: `live`, `rerun`, …"""


@dataclass(frozen=True)
class AdBreak:
    """Ads in the place of content."""

    id: str
    at: float
    duration_s: float
    mark: str = "both"
    """How the playlist says so: `daterange`, `title` or `both`."""


@dataclass(frozen=True)
class Slot:
    """One published segment of a channel, the same for every variant and session."""

    number: int
    stream_id: str
    at: float
    """Program date."""
    duration_s: int
    unit: int
    ticks: int
    """What is added to the pool's own times (90 kHz)."""
    title: str
    category: str
    variants: tuple[Variant, ...]
    ad: AdBreak | None = None
    discontinuity: bool = False

    @property
    def end(self) -> float:
        return self.at + self.duration_s


@dataclass
class Stream:
    """One time of being live."""

    id: str
    options: Options
    started_at: float
    first: int
    """Number of its first slot."""
    anchor: float
    """Monotonic time at which slot `anchor_number` began."""
    anchor_number: int
    next_at: float
    extra_ticks: int = 0
    ads_left: int = 0
    ad: AdBreak | None = None
    broken: bool = False
    """The next slot carries a DISCONTINUITY."""
    paused: bool = False
    title: str = ""
    """What it was called at its start; its video is called the same."""
    ended_at: float = 0
    """0 while it is live."""


@dataclass(frozen=True)
class Ending:
    stream: Stream
    at: float
    endlist: bool
    linger_s: float
