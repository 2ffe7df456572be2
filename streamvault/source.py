"""What is recorded, as seen from outside: a source, what is live there, how to play it.

Shared by `playback` (which finds out), `hls` (which records) and `activities` (which compose them).
None of these cross Temporal: a playlist URL holds a token.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Transport(StrEnum):
    """How the bytes arrive."""

    HLS = "hls"
    READER = "reader"
    """streamlink's own reader; segments cannot be accounted for."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a source says of itself. `stream_id` is None where the source has no such thing."""

    platform: str
    login: str
    name: str
    stream_id: str | None = None
    title: str = ""
    category: str = ""
    platform_user_id: str | None = None


@dataclass(frozen=True, slots=True)
class News:
    """Somebody says that a streamer is live. Only a hint: the source itself decides.

    `stream_id`, `title` and `category` are empty, and `started_at` None, where it does not say."""

    streamer_id: str
    told_by: str
    """`webhook`, `conduit`, `websocket` or `poll`."""
    stream_id: str = ""
    title: str = ""
    category: str = ""
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to be played, and by which way."""

    url: str
    quality: str = "best"
    codecs: tuple[str, ...] = ()
    """Preferred first: `av1`, `h265`, `h264`; empty leaves it to the default."""
    proxy_policy: str = ""
    """A contracts.ProxyPolicy; empty is the installation's own."""
    streamer_id: str = ""
    """Whose stream it is: some proxies are for one streamer only."""
    settled: bool = False
    """Something is recorded already: a quality that is gone is replaced by the next one below."""
    avoid: str = ""
    """The id of a proxy that has just failed: last in line, however the others rest."""


@dataclass(frozen=True, slots=True)
class Playback:
    """One playback session: where to fetch from. `playlist_url` holds a token, never log it."""

    playlist_url: str
    transport: Transport
    variant: str
    """What users call quality: `1080p60`, `audio_only`, `live`."""
    codecs: str = ""
    """The CODECS attribute of the variant, RFC 6381; empty when the source does not say."""
    resolution: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    proxy: str | None = field(default=None, repr=False)
    """Its address may hold a password: kept in memory only."""
    proxy_id: str = ""
    """Names the proxy where the address must not stand; empty: direct."""
    complete: bool = True
    """False: some variant could not be looked at, and a better one may be there after all."""
