"""Which of the qualities that streamlink found is the one asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streamlink.stream.hls.hls import HLSStream
from streamlink.stream.hls.segment import StreamInfo
from streamlink.stream.stream import Stream

from streamvault.errors import InvalidInput

SYNONYMS = ("best", "worst")


@dataclass(frozen=True)
class Variant:
    """A quality by its real name, never a synonym; `info` is its EXT-X-STREAM-INF."""

    name: str
    stream: Stream
    info: StreamInfo | None

    @property
    def rank(self) -> tuple[int, float, int]:
        """Pixels, frames per second, bits per second."""
        if self.info is None:
            return (0, 0, 0)
        size = self.info.resolution
        pixels = size.width * size.height if size else 0
        return (pixels, self.info.framerate or 0, self.info.bandwidth)

    @property
    def is_landscape_video(self) -> bool:
        """Twitch's portrait renditions are crops, made for phones."""
        return self.rank[0] > 0 and not self.name.endswith("_portrait")


def choose(streams: Mapping[str, Stream], quality: str) -> Variant:
    """The variant for `quality`: a name that the source has, `best` or `worst`.

    Raises InvalidInput that names what there is.
    """
    named = [Variant(n, s, _info(s)) for n, s in streams.items() if n not in SYNONYMS]
    asked = quality.strip().lower()
    if asked == "best":
        return _best(named, streams.get("best"))
    if asked == "worst" and "worst" in streams:
        return next(variant for variant in named if variant.stream is streams["worst"])
    for variant in named:
        if variant.name == asked:
            return variant
    available = ", ".join(["best", "worst", *(variant.name for variant in named)])
    raise InvalidInput(f"there is no quality {quality!r}", hint=f"available: {available}")


def _best(named: list[Variant], plugins_choice: Stream | None) -> Variant:
    """The largest picture. streamlink ranks by name, and a name unknown to it ranks last."""
    pictures = [variant for variant in named if variant.is_landscape_video]
    if pictures:
        return max(pictures, key=lambda variant: variant.rank)
    for variant in named:
        if variant.stream is plugins_choice:
            return variant
    return max(named, key=lambda variant: variant.rank)


def _info(stream: Stream) -> StreamInfo | None:
    if not isinstance(stream, HLSStream) or stream.multivariant is None:
        return None
    for playlist in stream.multivariant.playlists:
        if playlist.uri == stream.args["url"] and isinstance(playlist.stream_info, StreamInfo):
            return playlist.stream_info
    return None
