"""Templates of file names, such as `{streamer}/Season {year}/{streamer} - {episode} - {title}`.

A parser of our own, since Python's `str.format` lets a template reach into objects and ask for
gigabytes of padding. What a title puts into a name is made safe where names are made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

TOKENS = (
    *("streamer", "login", "title", "category", "episode"),
    *("year", "month", "day", "hour", "minute", "quality", "stream_id"),
)
DEFAULT = "{streamer}/Season {year}/{streamer} - {episode} - {title}"
PRESETS = {
    "media-server": DEFAULT,
    "by-date": "{year}-{month}-{day} {hour}{minute} {streamer} - {episode} - {title}",
    "by-category": "{streamer}/{category}/{streamer} - {episode} - {title}",
}
"""The first is what Plex, Jellyfin, Kodi and Emby take for a series."""
MAX_LENGTH = 200
MAX_PARTS = 4
_TOKEN = re.compile(r"\{([a-z_]+)\}")


def problem_of(template: str) -> str | None:
    """Why this cannot name files, or None."""
    if len(template) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    if not template.isprintable() or "\\" in template:
        return "holds characters that file names cannot have"
    unknown = [name for name in _TOKEN.findall(template) if name not in TOKENS]
    if unknown:
        return f"knows no {{{unknown[0]}}}, only {', '.join(TOKENS)}"
    if set("{}") & set(_TOKEN.sub("", template)):
        return "holds a brace that belongs to no token"
    return _problem_of_parts(template.split("/")) or _problem_of_names(template)


def fill(template: str, values: Mapping[str, str]) -> list[str]:
    """Folders and file name without its ending, not yet safe. A token without a value is empty."""
    return [_TOKEN.sub(lambda m: values.get(m[1], ""), part) for part in template.split("/")]


def _problem_of_parts(parts: list[str]) -> str | None:
    if len(parts) > MAX_PARTS:
        return f"has more than {MAX_PARTS - 1} folders"
    if any(part.strip() != part or not part for part in parts):
        return "has a folder or file without a name, or with a space around it"
    if any(part.startswith(".") for part in parts):
        return "has a folder or file that begins with a dot"
    return None


def _problem_of_names(template: str) -> str | None:
    """Two recordings must never get the same name: episodes count by streamer and day."""
    if "{episode}" not in template.rpartition("/")[2]:
        return "needs {episode} in the file's own name, which keeps files apart"
    if not {"{streamer}", "{login}"} & {f"{{{name}}}" for name in _TOKEN.findall(template)}:
        return "needs {streamer} or {login}, which keeps streamers apart"
    return None
