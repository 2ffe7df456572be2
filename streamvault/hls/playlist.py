"""HLS playlists (RFC 8216): text in, segments and variants out; no I/O.

Twitch's additions are known: stitched ads are marked on the segment, prefetch lines are dropped.
What comes from outside is bounded (size, count, range of every number), so that a hostile playlist
costs a refusal and nothing else.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, islice
from urllib.parse import quote, urljoin, urlsplit

from streamvault.errors import EncryptedStream, PlaylistError

MAX_TEXT = 4 * 1024 * 1024
"""Characters. A day of 2 s segments in one EVENT playlist stays below it."""
MAX_SEGMENTS = 20_000
KEPT_LINES = 1000
"""A longer playlist is read from the start each time: memory per recording is worth more."""
MAX_SEGMENT_S = 86_400.0
MAX_INTEGER = 2**64 - 1
"""RFC 8216 §4.2: decimal-integer."""
MAX_DATE = float(2**33)
"""Epoch seconds, year 2242: no later date is one, and every sum of dates stays representable."""

AD_CLASS = "twitch-stitched-ad"
AD_ID_PREFIX = "stitched-ad-"
AD_TITLE = "Amazon"

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)')
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_PRINTABLE_ASCII = "".join(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, slots=True)
class InitSection:
    """EXT-X-MAP: what a decoder needs before the segments after it."""

    uri: str
    byte_range: tuple[int, int] | None = None
    """(offset, length) in bytes; None is the whole resource."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One media segment as a live playlist lists it."""

    number: int
    """Media sequence number: only meaningful within one playback session."""
    uri: str
    """Absolute, http or https. It may hold a token, never log it."""
    duration_s: float
    date: float | None = None
    """PROGRAM-DATE-TIME in epoch seconds, or the date before plus its duration; None: unknown."""
    discontinuity: bool = False
    ad: bool = False
    init: InitSection | None = None
    byte_range: tuple[int, int] | None = None
    """(offset, length) in bytes; None is the whole resource."""
    ad_kind: str = ""
    """`preroll`, `midroll`, … as the source says, `ad` if it says nothing; empty: no ad."""

    @property
    def end_date(self) -> float | None:
        return None if self.date is None else self.date + self.duration_s


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    target_duration_s: float
    media_sequence: int
    discontinuity_sequence: int
    segments: tuple[Segment, ...]
    ended: bool
    """EXT-X-ENDLIST was there: no segment will follow."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One EXT-X-STREAM-INF line: what users call quality."""

    uri: str
    bandwidth_bps: int
    name: str
    """STABLE-VARIANT-ID, else NAME, else the VIDEO rendition's name, else like `1080p60`."""
    codecs: str = ""
    resolution: str = ""
    """`1920x1080`; empty for audio or when the playlist does not say."""
    frame_rate: float | None = None
    separate_audio: bool = False
    """Its sound is a rendition with a playlist of its own: this variant alone may be silent."""


class _Malformed(ValueError):
    """What is wrong with the line at hand; the caller adds its number."""


def is_master(text: str) -> bool:
    """Whether this text lists variants (RFC 8216 §4.3.4) and not segments."""
    return "\n#EXT-X-STREAM-INF:" in text


def parse_media_playlist(text: str, url: str) -> MediaPlaylist:
    """Parse a media playlist fetched from `url`; segments in media-sequence order.

    Raises PlaylistError naming the line, EncryptedStream if segments need a key.
    """
    return PlaylistReader().read(text, url)


class PlaylistReader:
    """Parses a live playlist that is fetched again and again.

    From one time to the next a segment or two are new; what was read before is taken over, and the
    outcome is that of `parse_media_playlist`.
    """

    def __init__(self) -> None:
        self._url = ""
        self._lines: list[str] = []
        self._ads = _AdBreaks([])
        self._playlist: MediaPlaylist | None = None

    def read(self, text: str, url: str) -> MediaPlaylist:
        """Raises as `parse_media_playlist`."""
        lines = _checked_lines(text)
        ads = _AdBreaks(lines if "#EXT-X-DATERANGE" in text else [])
        parser = _MediaParser(url, ads)
        behind_first = next(_addresses(lines), len(lines) - 1) + 1
        _read_lines(lines, parser.read, 0, behind_first)
        known = 0
        if url == self._url and ads.breaks == self._ads.breaks:
            known = self._take_known(parser, lines, behind_first)
        _read_lines(lines, parser.read, behind_first + known)
        playlist = parser.finish(len(lines))
        keep = parser.plain and len(lines) <= KEPT_LINES
        self._playlist = playlist if keep else None
        self._url, self._ads, self._lines = url, ads, lines if keep else []
        return playlist

    def _take_known(self, parser: _MediaParser, lines: list[str], start: int) -> int:
        """How many lines from `start` on are those behind the same segment of the last time; theirs
        go to the parser, which has read one segment so far."""
        old, first = self._playlist, parser.last
        if old is None or first is None:
            return 0
        index = first.number - old.media_sequence
        if not 0 <= index < len(old.segments) or not _leads_on_as(first, old.segments[index]):
            return 0
        old_start = next(islice(_addresses(self._lines), index, None)) + 1
        known = self._lines[old_start : _last_address(self._lines) + 1]
        if lines[start : start + len(known)] != known:
            return 0
        parser.take_over(old.segments[index + 1 :])
        return len(known)


def parse_master_playlist(text: str, url: str) -> tuple[Variant, ...]:
    """Parse a master playlist fetched from `url`; variants in the order of the playlist.

    Raises PlaylistError naming the line.
    """
    lines = _checked_lines(text)
    parser = _MasterParser(url, _renditions(lines))
    _read_lines(lines, parser.read)
    if not parser.variants:
        raise PlaylistError(f"line {len(lines)}: the playlist ends without a variant")
    return tuple(parser.variants)


# ---- lines


def _checked_lines(text: str) -> list[str]:
    if len(text) > MAX_TEXT:
        raise PlaylistError(f"line 1: the playlist has {len(text)} characters, over {MAX_TEXT}")
    lines = text.split("\n")
    first = lines[0]
    if first.startswith("#EXTM3U"):
        return lines
    if not text.strip():
        raise PlaylistError("line 1: the playlist is empty")
    if text.lstrip().startswith("<"):
        raise PlaylistError(f"line 1: a web page instead of a playlist: {_shown(text.lstrip())}")
    raise PlaylistError(f"line 1: no #EXTM3U but {_shown(first)}")


def _is_address(line: str) -> bool:
    bare = line.strip()
    return bare != "" and bare[0] != "#"


def _addresses(lines: list[str]) -> Iterator[int]:
    """Where the lines are that name a segment."""
    return (index for index, line in enumerate(lines) if _is_address(line))


def _last_address(lines: list[str]) -> int:
    return next(i for i in range(len(lines) - 1, -1, -1) if _is_address(lines[i]))


def _read_lines(
    lines: list[str], read: Callable[[str], None], start: int = 0, end: int | None = None
) -> None:
    for number, raw in enumerate(lines[start:end], start + 1):
        line = raw.strip()
        if not line:
            continue
        try:
            read(line)
        except _Malformed as error:
            raise PlaylistError(f"line {number}: {error}: {_shown(line)}") from None
        except (ValueError, OverflowError):
            raise PlaylistError(f"line {number}: not readable: {_shown(line)}") from None


def _shown(line: str) -> str:
    """The start of a line for an error text: no control characters, no part of an address."""
    start = line[:200]
    hidden = re.sub(r"(?i)(https?:)?//\S*", "<address>", start) if "//" in start else start
    if not hidden.startswith(("#", "<")) and ("?" in hidden or "/" in hidden):
        hidden = "<address>"
    return ascii(hidden[:60])


def _attributes(value: str) -> dict[str, str]:
    return {name: text.strip('"') for name, text in _ATTRIBUTE.findall(value)}


def _integer(text: str) -> int:
    """RFC 8216 §4.2 decimal-integer: int() alone also takes signs, underscores, other digits."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise _Malformed("not a whole number")
    value = int(text)
    if value > MAX_INTEGER:
        raise _Malformed("the number is too large")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= MAX_SEGMENT_S:
        raise _Malformed("the duration is out of range")
    return value


def _epoch(text: str) -> float:
    """A date of ISO 8601; one without a time zone is taken as UTC."""
    date = datetime.fromisoformat(text)
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    value = date.timestamp()
    if not 0.0 <= value < MAX_DATE:
        raise _Malformed("the date is out of range")
    return value


def _absolute(base: str, reference: str) -> str:
    uri = reference if reference.startswith("https://") else urljoin(base, reference)
    if not uri.isascii():
        uri = quote(uri, safe=_PRINTABLE_ASCII)
    if _CONTROL.search(uri):
        raise _Malformed("the address holds a space or a control character")
    scheme, host = urlsplit(uri)[:2]
    if scheme not in ("http", "https") or not host:
        raise _Malformed("the address is neither http nor https")
    if scheme == "http" and base.startswith("https:"):
        raise _Malformed("a https playlist points to plain http")
    return uri


def _byte_range(value: str) -> tuple[int | None, int]:
    """(offset or None, length) of `<length>[@<offset>]` (RFC 8216 §4.3.2.2)."""
    length, at, offset = value.partition("@")
    return (_integer(offset) if at else None), _integer(length)


# ---- ads


class _AdBreaks:
    """The stitched ad breaks that DATERANGE lines announce, ready to be asked by date."""

    def __init__(self, lines: list[str]) -> None:
        self.breaks = sorted(_ad_breaks(lines))
        self._starts = [start for start, _, _ in self.breaks]
        # The break that lasts longest among those begun by then decides, so one look is enough.
        self._longest = list(accumulate(((e, k) for _, e, k in self.breaks), max))

    def kind_at(self, date: float | None) -> str:
        """Kind of the break that covers this date; empty: none does."""
        if date is None or not self._starts:
            return ""
        index = bisect_right(self._starts, date) - 1
        if index < 0:
            return ""
        end, kind = self._longest[index]
        return kind if date < end else ""


def _ad_breaks(lines: list[str]) -> Iterator[tuple[float, float, str]]:
    for raw in lines:
        if not raw.startswith("#EXT-X-DATERANGE:"):
            continue
        found = _attributes(raw[17:])
        if found.get("CLASS") != AD_CLASS and not found.get("ID", "").startswith(AD_ID_PREFIX):
            continue
        try:
            start, end = _date_range(found)
        except (ValueError, OverflowError, KeyError):
            # A note on the stream that cannot be read must not end its recording.
            continue
        yield start, end, found.get("X-TV-TWITCH-AD-ROLL-TYPE", "").lower()[:20] or "ad"


def _date_range(found: dict[str, str]) -> tuple[float, float]:
    """Start and end of RFC 8216 §4.3.2.7; open-ended without END-DATE and durations."""
    start = _epoch(found["START-DATE"])
    if "END-DATE" in found:
        return start, _epoch(found["END-DATE"])
    for name in ("DURATION", "PLANNED-DURATION"):
        if name in found and (duration := float(found[name])) >= 0:
            return start, start + duration
    return start, math.inf


# ---- media playlist


class _MediaParser:
    """Collects the tags of one segment after the other (RFC 8216 §4.3.2 and §4.3.3)."""

    def __init__(self, url: str, ads: _AdBreaks) -> None:
        self._url = url
        self._ads = ads
        self.plain = True
        """No tag that is about the whole playlist stands behind a segment."""
        self._segments: list[Segment] = []
        self._target_duration_s: float | None = None
        self._media_sequence = 0
        self._discontinuity_sequence = 0
        self._ended = False
        self._next_date: float | None = None
        self._init: InitSection | None = None
        self._range_end: tuple[str, int] | None = None
        self._begin_segment()

    def read(self, line: str) -> None:
        if line[0] != "#":
            self._uri(line)
            return
        tag, _, value = line.partition(":")
        handle = _MEDIA_TAGS.get(tag)
        if handle is not None:
            handle(self, value)

    @property
    def last(self) -> Segment | None:
        return self._segments[-1] if self._segments else None

    def take_over(self, segments: Sequence[Segment]) -> None:
        """Stand where reading these behind the ones so far would lead."""
        if not segments:
            return
        self._segments += segments
        last = segments[-1]
        self._next_date = None if last.date is None else last.date + last.duration_s
        self._init = last.init
        self._range_end = last.byte_range and (last.uri, sum(last.byte_range))

    def finish(self, line_count: int) -> MediaPlaylist:
        if self._target_duration_s is None:
            raise PlaylistError(f"line {line_count}: the playlist ends without TARGETDURATION")
        if self._duration_s is not None:
            raise PlaylistError(f"line {line_count}: the playlist ends inside a segment")
        return MediaPlaylist(
            target_duration_s=self._target_duration_s,
            media_sequence=self._media_sequence,
            discontinuity_sequence=self._discontinuity_sequence,
            segments=tuple(self._segments),
            ended=self._ended,
        )

    def _begin_segment(self) -> None:
        self._duration_s: float | None = None
        self._title = ""
        self._discontinuity = False
        self._range: tuple[int | None, int] | None = None

    def _uri(self, line: str) -> None:
        if self._duration_s is None:
            raise _Malformed("a segment without EXTINF")
        if len(self._segments) == MAX_SEGMENTS:
            raise _Malformed(f"more than {MAX_SEGMENTS} segments")
        uri = _absolute(self._url, line)
        date = self._next_date
        kind = self._ads.kind_at(date)
        if not kind and AD_TITLE in self._title:
            kind = "ad"
        self._segments.append(
            Segment(
                self._media_sequence + len(self._segments),
                uri,
                self._duration_s,
                date,
                self._discontinuity,
                bool(kind),
                self._init,
                self._resolved_range(uri),
                kind,
            )
        )
        if date is not None:
            self._next_date = date + self._duration_s
        self._begin_segment()

    def _resolved_range(self, uri: str) -> tuple[int, int] | None:
        """RFC 8216 §4.3.2.2: without an offset the range follows the one before it."""
        if self._range is None:
            self._range_end = None
            return None
        offset, length = self._range
        if offset is None:
            if self._range_end is None or self._range_end[0] != uri:
                raise _Malformed("a BYTERANGE without offset follows no other")
            offset = self._range_end[1]
        self._range_end = (uri, offset + length)
        return offset, length

    def _extinf(self, value: str) -> None:
        duration, _, self._title = value.partition(",")
        self._duration_s = _seconds(duration)

    def _program_date_time(self, value: str) -> None:
        self._next_date = _epoch(value)

    def _target_duration(self, value: str) -> None:
        self.plain = self.plain and not self._segments
        # RFC 8216 wants an integer; some servers write 6.000.
        self._target_duration_s = _seconds(value)

    def _sequence(self, value: str) -> None:
        if self._segments:
            raise _Malformed("MEDIA-SEQUENCE after the first segment")
        self._media_sequence = _integer(value)

    def _discontinuities_before(self, value: str) -> None:
        self.plain = self.plain and not self._segments
        self._discontinuity_sequence = _integer(value)

    def _discontinuity_here(self, _value: str) -> None:
        self._discontinuity = True

    def _byte_range_here(self, value: str) -> None:
        self._range = _byte_range(value)

    def _map(self, value: str) -> None:
        found = _attributes(value)
        if "URI" not in found:
            raise _Malformed("EXT-X-MAP without URI")
        uri = _absolute(self._url, found["URI"])
        if "BYTERANGE" not in found:
            self._init = InitSection(uri)
            return
        offset, length = _byte_range(found["BYTERANGE"])
        self._init = InitSection(uri, (offset or 0, length))

    def _key(self, value: str) -> None:
        method = _attributes(value).get("METHOD", "")
        if method != "NONE":
            raise EncryptedStream(
                f"the segments are encrypted ({_shown(method)})",
                hint="encrypted streams are not supported",
            )

    def _endlist(self, _value: str) -> None:
        self.plain = False
        self._ended = True

    def _stream_inf(self, _value: str) -> None:
        raise _Malformed("a master playlist where a media playlist should be")


_MEDIA_TAGS: dict[str, Callable[[_MediaParser, str], None]] = {
    "#EXTINF": _MediaParser._extinf,
    "#EXT-X-PROGRAM-DATE-TIME": _MediaParser._program_date_time,
    "#EXT-X-TARGETDURATION": _MediaParser._target_duration,
    "#EXT-X-MEDIA-SEQUENCE": _MediaParser._sequence,
    "#EXT-X-DISCONTINUITY-SEQUENCE": _MediaParser._discontinuities_before,
    "#EXT-X-DISCONTINUITY": _MediaParser._discontinuity_here,
    "#EXT-X-BYTERANGE": _MediaParser._byte_range_here,
    "#EXT-X-MAP": _MediaParser._map,
    "#EXT-X-KEY": _MediaParser._key,
    "#EXT-X-ENDLIST": _MediaParser._endlist,
    "#EXT-X-STREAM-INF": _MediaParser._stream_inf,
}


def _leads_on_as(segment: Segment, other: Segment) -> bool:
    """Whether the same lines behind either mean the same: date, init section and byte range are
    all that goes from one segment to the next."""
    return (
        segment.uri == other.uri
        and segment.date == other.date
        and segment.duration_s == other.duration_s
        and segment.init == other.init
        and segment.byte_range == other.byte_range
    )


# ---- master playlist


@dataclass(frozen=True, slots=True)
class _Renditions:
    """What EXT-X-MEDIA lines say about the groups that variants name (RFC 8216 §4.3.4.1)."""

    video_names: dict[str, str]
    audio_playlists: frozenset[str]


def _renditions(lines: list[str]) -> _Renditions:
    media = [_attributes(line[13:]) for line in lines if line.startswith("#EXT-X-MEDIA:")]
    return _Renditions(
        {m.get("GROUP-ID", ""): m.get("NAME", "") for m in media if m.get("TYPE") == "VIDEO"},
        frozenset(
            m.get("GROUP-ID", "") for m in media if m.get("TYPE") == "AUDIO" and m.get("URI")
        ),
    )


class _MasterParser:
    def __init__(self, url: str, renditions: _Renditions) -> None:
        self._url = url
        self._renditions = renditions
        self._stream_inf: dict[str, str] | None = None
        self.variants: list[Variant] = []

    def read(self, line: str) -> None:
        if line.startswith("#EXT-X-STREAM-INF:"):
            self._stream_inf = _attributes(line[18:])
        elif line[0] != "#" and self._stream_inf is not None:
            if len(self.variants) == MAX_SEGMENTS:
                raise _Malformed(f"more than {MAX_SEGMENTS} variants")
            self.variants.append(self._variant(_absolute(self._url, line), self._stream_inf))
            self._stream_inf = None

    def _variant(self, uri: str, found: dict[str, str]) -> Variant:
        frame_rate = _seconds(found["FRAME-RATE"]) if "FRAME-RATE" in found else None
        resolution = found.get("RESOLUTION", "")
        bandwidth_bps = _integer(found.get("BANDWIDTH", "0"))
        return Variant(
            uri=uri,
            bandwidth_bps=bandwidth_bps,
            name=found.get("STABLE-VARIANT-ID")
            or found.get("NAME")
            or self._renditions.video_names.get(found.get("VIDEO", ""))
            or _plain_name(resolution, frame_rate, bandwidth_bps),
            codecs=found.get("CODECS", ""),
            resolution=resolution,
            frame_rate=frame_rate,
            separate_audio=found.get("AUDIO", "") in self._renditions.audio_playlists,
        )


def _plain_name(resolution: str, frame_rate: float | None, bandwidth_bps: int) -> str:
    """`1080p60` by height and frame rate (30 and less is not named), else the bit rate."""
    height = resolution.partition("x")[2]
    if not height:
        return f"{bandwidth_bps // 1000}k"
    return f"{height}p{round(frame_rate)}" if frame_rate and frame_rate > 30.5 else f"{height}p"
