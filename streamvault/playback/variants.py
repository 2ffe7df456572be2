"""Which of the qualities that streamlink found is the one asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streamlink.stream.hls.hls import HLSStream
from streamlink.stream.hls.segment import StreamInfo
from streamlink.stream.stream import Stream

from streamvault.errors import InvalidInput
from streamvault.playback.qualities import BEST, WORST, Rule, parse_quality, size_in

SYNONYMS = (BEST, WORST)
# The names of RFC 6381 for what Twitch's usher calls h264, h265 and av1.
_CODECS = {"avc1": "h264", "avc3": "h264", "hvc1": "h265", "hev1": "h265", "av01": "av1"}
_FPS_ROUNDING = 0.5  # 59.94 is at most 60, and what a name calls 60 may be 60.1


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
    def codec(self) -> str:
        """`h264`, `h265`, `av1`, or empty."""
        codecs = self.info.codecs if self.info else ()
        return next((_CODECS[c[:4].lower()] for c in codecs if c[:4].lower() in _CODECS), "")

    @property
    def size(self) -> tuple[int, float]:
        """Lines and frames per second, by the playlist or else by the name; 0 is not known."""
        height, fps = size_in(self.name) or (0, 0)
        if self.info is None or not self.info.resolution:
            return height, fps
        # A picture on end has its lines across.
        short = min(self.info.resolution.width, self.info.resolution.height)
        return short, self.info.framerate or fps

    @property
    def is_landscape_video(self) -> bool:
        """Twitch's portrait renditions are crops, made for phones."""
        return self.rank[0] > 0 and not self.name.endswith("_portrait")


def choose(
    streams: Mapping[str, Stream],
    quality: str,
    codecs: Sequence[str] = (),
    *,
    settled: bool = False,
) -> Variant:
    """The variant for `quality`, as `qualities` describes it. Among pictures of equal size the
    first one of `codecs` wins. `settled`: when nothing fits, the nearest one below it does, or
    above.

    Raises InvalidInput that names what there is.
    """
    named = [Variant(n, s, _info(s)) for n, s in streams.items() if n not in SYNONYMS]
    choice = _Choice(named, streams, tuple(codecs))
    rules = parse_quality(quality)
    for rule in rules:
        if found := choice.by(rule):
            return found
    if settled:
        return choice.nearest(rules[0])
    available = ", ".join([*SYNONYMS, *(variant.name for variant in named)])
    raise InvalidInput(f"there is no quality {quality!r}", hint=f"available: {available}")


@dataclass(frozen=True)
class _Choice:
    named: list[Variant]
    streams: Mapping[str, Stream]
    codecs: tuple[str, ...]

    def by(self, rule: Rule) -> Variant | None:
        if rule.is_limit:
            return self._largest([v for v in self.named if _within(v, rule)])
        if rule.name == BEST:
            return self.best()
        if rule.name == WORST:
            worst = self.streams.get(WORST)
            return next((v for v in self.named if v.stream is worst), None)
        return next((v for v in self.named if v.name == rule.name), None)

    def best(self) -> Variant:
        """The largest picture. streamlink ranks by name, and a name unknown to it ranks last."""
        if largest := self._largest(self.named):
            return largest
        plugins_choice = self.streams.get(BEST)
        for variant in self.named:
            if variant.stream is plugins_choice:
                return variant
        return max(self.named, key=lambda variant: variant.rank)

    def nearest(self, rule: Rule) -> Variant:
        """In place of what is gone while it is recorded."""
        height, fps = (rule.max_height, rule.max_fps) if rule.is_limit else (
            size_in(rule.name) or (0, 0)
        )  # fmt: skip
        below = self.by(Rule(max_height=height, max_fps=fps)) if height else None
        if below is not None:
            return below
        pictures = [v for v in self.named if v.is_landscape_video]
        if height and pictures:
            return min(pictures, key=lambda variant: variant.rank)
        return self.best()

    def _largest(self, variants: list[Variant]) -> Variant | None:
        pictures = [variant for variant in variants if variant.is_landscape_video]
        return max(pictures, key=self._preference, default=None)

    def _preference(self, variant: Variant) -> tuple[int, float, int, int]:
        pixels, fps, bandwidth = variant.rank
        known = variant.codec in self.codecs
        return pixels, fps, -self.codecs.index(variant.codec) if known else -99, bandwidth


def _within(variant: Variant, rule: Rule) -> bool:
    height, fps = variant.size
    fast = rule.max_fps and fps > rule.max_fps + _FPS_ROUNDING
    return 0 < height <= rule.max_height and not fast


def _info(stream: Stream) -> StreamInfo | None:
    if not isinstance(stream, HLSStream) or stream.multivariant is None:
        return None
    for playlist in stream.multivariant.playlists:
        if playlist.uri == stream.args["url"] and isinstance(playlist.stream_info, StreamInfo):
            return playlist.stream_info
    return None
