"""Kodi-style `.nfo` files, which Jellyfin, Kodi and Plex (by its NFO agent) read."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Episode:
    """One recording as a media server shows it."""

    title: str
    streamer: str
    season: int
    episode: int
    """`MMDDnn` as a number."""
    started_at: datetime
    runtime_s: float
    category: str = ""
    plot: str = ""
    platform: str = "twitch"
    stream_id: str = ""
    poster: str = ""
    """File name of the poster beside it."""


def episode_nfo(episode: Episode) -> str:
    """`<episodedetails>`, UTF-8; the runtime in whole minutes, at least 1."""
    root = ET.Element("episodedetails")
    day = episode.started_at.astimezone(UTC)
    fields = {
        "title": episode.title,
        "showtitle": episode.streamer,
        "season": str(episode.season),
        "episode": str(episode.episode),
        "aired": f"{day:%Y-%m-%d}",
        "premiered": f"{day:%Y-%m-%d}",
        "plot": episode.plot,
        "runtime": str(max(1, round(episode.runtime_s / 60))),
        "genre": episode.category,
        "studio": episode.platform.capitalize(),
        "thumb": episode.poster,
    }
    for name, value in fields.items():
        if value:
            ET.SubElement(root, name).text = _legal(value)
    if episode.stream_id:
        unique = ET.SubElement(root, "uniqueid", type=episode.platform, default="true")
        unique.text = _legal(episode.stream_id)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n{text}\n'


def _legal(text: str) -> str:
    """Without the characters that XML 1.0 §2.2 does not allow, not even escaped."""
    return "".join(c for c in text if _is_legal(ord(c)))


def _is_legal(code: int) -> bool:
    return (
        code in {0x9, 0xA, 0xD}
        or 0x20 <= code <= 0xD7FF
        or 0xE000 <= code <= 0xFFFD
        or code >= 0x10000
    )
