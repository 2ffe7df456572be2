"""Names that every file system and media server takes, and that stay inside the library."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from streamvault import templates
from streamvault.errors import InvalidInput

MAX_STEM_BYTES = 180  # leaves room below 255 for `.storyboard…` suffixes and hidden temporary names
MAX_TOKEN_BYTES = 60
TIMES = ("year", "month", "day", "hour", "minute")
_SEPARATORS = re.compile(r"(?: -)+ - ?")
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


@dataclass(frozen=True, slots=True)
class Named:
    """What a template may speak of."""

    streamer: str
    started_at: datetime
    number: int
    """Of the day's streams, from 1."""
    title: str = ""
    category: str = ""
    login: str = ""
    quality: str = ""
    stream_id: str = ""

    @property
    def values(self) -> dict[str, str]:
        """By token; times are UTC. None but the title is longer than 60 bytes."""
        start = self.started_at.astimezone(UTC)
        texts = ("category", "login", "quality", "stream_id")
        return {
            "streamer": safe_name(self.streamer, MAX_TOKEN_BYTES),
            "title": _clean(self.title, 4 * MAX_STEM_BYTES),
            "episode": episode_code(start, self.number),
            **{name: _clean(getattr(self, name), MAX_TOKEN_BYTES) for name in texts},
            **dict(zip(TIMES, f"{start:%Y %m %d %H %M}".split(), strict=True)),
        }


def recording_path(template: str, named: Named, ending: str = ".mp4") -> Path:
    """Relative to the library and always below it; a folder that comes out empty is left out. The
    file's name has at most 180 bytes and its ending, and the title gives way."""
    values = named.values
    *folders, stem = map(_tidy, templates.fill(template, values))
    most = MAX_STEM_BYTES - 1  # one is for what makes a name safe
    if (excess := len(stem.encode()) - most) > 0:
        title = values["title"]
        shorter = _cut(title, len(title.encode()) - excess).rstrip(". ")
        stem = _tidy(templates.fill(template, {**values, "title": shorter})[-1])
    if len(stem.encode()) > most:
        # Cut at its end it might lose what keeps it apart.
        stem = f"{values['streamer']} - {values['episode']}"
    return Path(*(safe_name(folder) for folder in folders if folder), safe_name(stem) + ending)


def _tidy(part: str) -> str:
    """Without the separators that tokens without a value leave behind."""
    return _SEPARATORS.sub(" - ", " ".join(part.split())).strip(" -")


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
    data, most = name.encode(), max(max_bytes, 0)
    if len(data) <= most:
        return name
    cut = data[:most].decode(errors="ignore")
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
    return Path(safe_name(streamer, MAX_TOKEN_BYTES), season, ".streamvault", recording_id)
