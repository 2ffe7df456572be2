"""The journal's records and their line format: what was captured, one fact per line.

A line is eight hexadecimal digits (CRC32 of the JSON bytes), a space, JSON and a line feed. Every
record carries `t`, its letter; the other keys are the short names beside the fields below. Fields
that hold their default are not written; keys that are not known are ignored when read, so that
newer and older releases read each other's journals.

Dates are epoch seconds. `date` is the stream's own clock (PROGRAM-DATE-TIME, None: the source has
none), `at` is this host's clock.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, ClassVar, TypeAlias, get_type_hints

from isal.isal_zlib import crc32

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """The media playlist that is polled from here on. The address holds a token: never log it."""

    letter: ClassVar[str] = "h"
    version: Annotated[int, "v"]
    url: Annotated[str, "u"]
    at: Annotated[float, "at"]
    target_duration_s: Annotated[float, "td"] = 0.0
    """EXT-X-TARGETDURATION of that playlist; 0 when it is not known."""


@dataclass(frozen=True, slots=True)
class PartOpened:
    """Every offset after this record is one of this part."""

    letter: ClassVar[str] = "f"
    number: Annotated[int, "n"]
    ext: Annotated[str, "ext"]
    """`ts`, `mp4`, … without the dot."""
    at: Annotated[float, "at"]
    why: Annotated[str, "why"]
    """`start`, `disc`, `ad`, `init`, `gap`, `date`, `12h`, `restart`, `takeover` or `disk`."""
    variant: Annotated[str, "var"] = ""
    codecs: Annotated[str, "codecs"] = ""
    resolution: Annotated[str, "res"] = ""

    @property
    def file_name(self) -> str:
        return f"part-{self.number:04d}.{self.ext}"


@dataclass(frozen=True, slots=True)
class SegmentStored:
    letter: ClassVar[str] = "s"
    offset: Annotated[int, "o"]
    length: Annotated[int, "l"]
    crc: Annotated[int, "c"]
    sequence: Annotated[int, "q"]
    date: Annotated[float | None, "p"]
    duration_s: Annotated[float, "d"]
    discontinuity: Annotated[bool, "x"]
    late: Annotated[bool, "late"] = False
    """It had left the playlist before it was fetched."""
    repaired: Annotated[bool, "rep"] = False
    """It first came damaged or short and was fetched again."""


@dataclass(frozen=True, slots=True)
class InitStored:
    """An initialisation section (EXT-X-MAP), its bytes stored like a segment's."""

    letter: ClassVar[str] = "i"
    offset: Annotated[int, "o"]
    length: Annotated[int, "l"]
    crc: Annotated[int, "c"]
    sequence: Annotated[int, "q"]
    uri: Annotated[str, "u"]


@dataclass(frozen=True, slots=True)
class AdSkipped:
    """A segment of an ad break: seen, not stored."""

    letter: ClassVar[str] = "a"
    sequence: Annotated[int, "q"]
    date: Annotated[float | None, "p"]
    duration_s: Annotated[float, "d"]
    kind: Annotated[str, "k"] = "ad"


@dataclass(frozen=True, slots=True)
class Gap:
    """Media that should be there and is not."""

    letter: ClassVar[str] = "g"
    sequence: Annotated[int, "q"]
    count: Annotated[int, "n"]
    """Segments lost; 0 when the source was away and there were none to lose."""
    date: Annotated[float | None, "p"]
    duration_s: Annotated[float, "d"]
    why: Annotated[str, "why"]
    """What was seen: `window`, `404`, …"""
    cause: Annotated[str, "cause"] = "network"
    """A contracts.GapCause."""
    at: Annotated[float | None, "at"] = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error worth keeping, or a sign that begins or ends."""

    letter: ClassVar[str] = "e"
    at: Annotated[float, "at"]
    why: Annotated[str, "why"]
    sign: Annotated[str, "sign"] = ""
    """One of hls.watching; empty: an error."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The capture went on after an interruption."""

    letter: ClassVar[str] = "r"
    sequence: Annotated[int, "q"]
    same_session: Annotated[bool, "same"]
    torn_bytes: Annotated[int, "torn"]
    gap_s: Annotated[float, "gap"]
    at: Annotated[float | None, "at"] = None
    why: Annotated[str, "why"] = ""


@dataclass(frozen=True, slots=True)
class PendingResumed:
    """Segments that were listed before the interruption are fetched first."""

    letter: ClassVar[str] = "p"
    count: Annotated[int, "n"]
    sequence: Annotated[int, "q"]
    torn_bytes: Annotated[int, "torn"]


@dataclass(frozen=True, slots=True)
class Synced:
    """Everything up to this offset of the current part, and all earlier parts, is durable."""

    letter: ClassVar[str] = "y"
    offset: Annotated[int, "o"]


@dataclass(frozen=True, slots=True)
class Ended:
    letter: ClassVar[str] = "z"
    at: Annotated[float, "at"]
    why: Annotated[str, "why"]
    how: Annotated[str, "how"] = "ended"
    """A contracts.CaptureEnd: `ended` or `stopped`."""
    session: Annotated[int, "n"] = 1
    """Which of the recording's runs this ends; a later run goes on behind it."""


Record: TypeAlias = (
    SessionStarted
    | PartOpened
    | SegmentStored
    | InitStored
    | AdSkipped
    | Gap
    | Trouble
    | Resumed
    | PendingResumed
    | Synced
    | Ended
)


@dataclass(frozen=True, slots=True)
class Unknown:
    """An intact line of a kind that only a newer release knows."""

    letter: ClassVar[str] = "?"
    kind: str


RECORD_TYPES: tuple[type[Record], ...] = (
    SessionStarted,
    PartOpened,
    SegmentStored,
    InitStored,
    AdSkipped,
    Gap,
    Trouble,
    Resumed,
    PendingResumed,
    Synced,
    Ended,
)


def _keys(kind: type[Record]) -> tuple[tuple[str, str, object], ...]:
    """(short name, field name, default or MISSING) of every field, in order."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple((hints[f.name].__metadata__[0], f.name, f.default) for f in fields(kind))


_KEYS = {kind: _keys(kind) for kind in RECORD_TYPES}
_BY_LETTER = {kind.letter: kind for kind in RECORD_TYPES}
_to_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_from_json = json.JSONDecoder().raw_decode


def encode(record: Record) -> bytes:
    """The record's line, line feed included. Raises ValueError for a number that is not finite."""
    content: dict[str, Any] = {"t": record.letter}
    for key, name, default in _KEYS[type(record)]:
        value = getattr(record, name)
        if default is MISSING or value != default:
            content[key] = value
    body = _to_json(content).encode("ascii")
    return b"%08x %b\n" % (crc32(body), body)


def decode(line: bytes) -> Record | Unknown | None:
    """The record of a line without its line feed; None: the line is damaged."""
    body = line[9:]
    if line[:9] != b"%08x " % crc32(body):
        return None
    try:
        content, _ = _from_json(body.decode())
        letter = content["t"]
    except (ValueError, KeyError, TypeError):
        return None
    kind = _BY_LETTER.get(letter) if isinstance(letter, str) else None
    if kind is None:
        return Unknown(str(letter))
    return _build(kind, content)


def _build(kind: type[Record], content: dict[str, Any]) -> Record | None:
    try:
        return kind(
            *[
                content[key] if default is MISSING else content.get(key, default)
                for key, _, default in _KEYS[kind]
            ]
        )
    except KeyError:
        # A required field is missing: intact bytes, but not a line that we wrote.
        return None
