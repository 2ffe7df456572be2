"""Names that every file system and media server takes, and that stay inside the library."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from pathlib import Path

from streamvault.errors import InvalidInput

MAX_STEM_BYTES = 180  # leaves room below 255 for `.storyboard…` suffixes and hidden temporary names
MAX_STREAMER_BYTES = 60
_FORBIDDEN = frozenset('<>:"/\\|?*')
# Windows refuses these as names, with or without an extension.
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", *(f"com{n}" for n in range(10)), *(f"lpt{n}" for n in range(10))]
)
# Text direction marks make a name read otherwise than it is written.
_DIRECTION = frozenset(
    "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
)
_JOINERS = frozenset("\u200d\ufe0f\ufe0e")


def episode_code(started_at: datetime, number: int) -> str:
    """`S<YYYY>E<MMDDnn>`: the `number`th stream (from 1) of the UTC day on which it began."""
    if number < 1:
        raise InvalidInput(f"episode number {number}: streams of a day count from 1")
    day = started_at.astimezone(UTC)
    return f"S{day:%Y}E{day:%m%d}{number:02d}"


def recording_stem(streamer: str, started_at: datetime, number: int, title: str) -> str:
    """`<streamer> - S<YYYY>E<MMDDnn> - <title>`, at most 180 bytes; the title gives way."""
    head = f"{safe_name(streamer, MAX_STREAMER_BYTES)} - {episode_code(started_at, number)}"
    room = MAX_STEM_BYTES - len(head.encode()) - len(" - ")
    words = _clean(title, room)
    return f"{head} - {words}" if words else head


def library_path(
    library: Path, streamer: str, started_at: datetime, number: int, title: str
) -> Path:
    """`<library>/<streamer>/Season <YYYY>/<stem>.mp4`; always below `library`."""
    season = f"Season {started_at.astimezone(UTC):%Y}"
    stem = recording_stem(streamer, started_at, number, title)
    path = library / safe_name(streamer, MAX_STREAMER_BYTES) / season / f"{stem}.mp4"
    if not path.resolve().is_relative_to(library.resolve()):
        raise InvalidInput("the folder leads out of the library")
    return path


def safe_name(text: str, max_bytes: int = MAX_STEM_BYTES) -> str:
    """One path component made from anything; `unnamed` when nothing is left of it."""
    name = _clean(text, max_bytes - 1) or "unnamed"
    return f"{name}_" if name.partition(".")[0].rstrip().lower() in _RESERVED else name


def _clean(text: str, max_bytes: int) -> str:
    """Without what file systems forbid, no dot or dash in front, no dot or space at the end."""
    kept = "".join(_character(c) for c in unicodedata.normalize("NFC", text))
    # A dot in front hides the file, a dash makes it look like an option.
    name = " ".join(kept.split()).lstrip(".- ")
    return _cut(name, max_bytes).rstrip(". ")


def _character(character: str) -> str:
    if character in _JOINERS:
        return character
    if character in _FORBIDDEN or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}:
        return " "
    return "" if character in _DIRECTION else character


def _cut(name: str, max_bytes: int) -> str:
    """At most `max_bytes` of UTF-8, cut between characters and not inside a joined emoji."""
    data = name.encode()
    if len(data) <= max_bytes:
        return name
    cut = data[: max(max_bytes, 0)].decode(errors="ignore")
    following = name[len(cut)]
    while cut and (
        following in _JOINERS or unicodedata.combining(following) or cut[-1] == "\u200d"
    ):
        following, cut = cut[-1], cut[:-1]
    return cut


def work_directory(streamer: str, started_at: datetime, recording_id: str) -> Path:
    """`<streamer>/Season <YYYY>/.streamvault/<recording id>`, relative to the library.

    Hidden, since media servers take other folders for seasons."""
    season = f"Season {started_at.astimezone(UTC):%Y}"
    return Path(safe_name(streamer, MAX_STREAMER_BYTES), season, ".streamvault", recording_id)
