"""Kodi-style `.nfo` files, which Jellyfin, Kodi and Plex (by its NFO agent) read."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
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


@dataclass(frozen=True, slots=True)
class Show:
    """A streamer as a series."""

    title: str
    platform: str = "twitch"
    user_id: str = ""
    """The platform's own."""


def episode_nfo(episode: Episode) -> str:
    """`<episodedetails>`, UTF-8; the runtime in whole minutes, at least 1."""
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
    return _document("episodedetails", fields, episode.platform, episode.stream_id)


def show_nfo(show: Show) -> str:
    """`tvshow.nfo`. Media servers look nothing up: there is no such series in their databases."""
    fields = {
        "title": show.title,
        "plot": f"Streams of {show.title}.",
        "studio": show.platform.capitalize(),
        "lockdata": "true",
    }
    return _document("tvshow", fields, show.platform, show.user_id)


def season_nfo(season: int) -> str:
    """`season.nfo` in the season's folder."""
    fields = {"title": str(season), "seasonnumber": str(season), "lockdata": "true"}
    return _document("season", fields)


def _document(tag: str, fields: Mapping[str, str], platform: str = "", unique_id: str = "") -> str:
    root = ET.Element(tag)
    for name, value in fields.items():
        if value:
            ET.SubElement(root, name).text = _legal(value)
    if unique_id:
        unique = ET.SubElement(root, "uniqueid", type=platform, default="true")
        unique.text = _legal(unique_id)
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
