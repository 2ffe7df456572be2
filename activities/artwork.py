"""What media servers show of a streamer as a series: NFO, poster and fanart beside the seasons."""

from __future__ import annotations

import asyncio
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from activities.library import Shelved
from streamvault.db.models import Streamer
from streamvault.errors import MediaError
from streamvault.media.files import write_atomic
from streamvault.media.naming import MAX_TOKEN_BYTES, safe_name
from streamvault.media.nfo import Show, season_nfo, show_nfo
from streamvault.media.pictures import write_jpeg

SHOW_NFO, SEASON_NFO, POSTER, FANART = "tvshow.nfo", "season.nfo", "poster.jpg", "fanart.jpg"
_SEASON = re.compile(r"Season (\d{1,4})")
_OURS = re.compile(r"tvshow\.nfo|season\.nfo|poster\.jpg|fanart\.jpg|season\d{1,4}-poster\.jpg")


def is_artwork(name: str) -> bool:
    """Whether a file of this name is nothing without recordings beside it."""
    return _OURS.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Series:
    """Where a recording stands, if its template makes a folder of its streamer."""

    folder: Path
    season_folder: Path | None
    season: int


def series_of(shelved: Shelved) -> Series | None:
    row, parts = shelved.recording, shelved.final.relative_to(shelved.shelf).parts
    names = {safe_name(name, MAX_TOKEN_BYTES) for name in (row.streamer_name, row.streamer_login)
             if name}  # fmt: skip
    if len(parts) < 2 or parts[0] not in names:
        return None
    folder = shelved.shelf / parts[0]
    season = _SEASON.fullmatch(parts[1]) if len(parts) == 3 else None
    if season is None:
        return Series(folder, None, 0)
    return Series(folder, folder / parts[1], int(season[1]))


async def place_artwork(shelved: Shelved, streamer: Streamer | None, images: Path) -> None:
    """Pictures are left as they are once they are there: somebody may have chosen better ones."""
    series = series_of(shelved)
    if series is None:
        return
    row = shelved.recording
    user_id = (streamer.platform_user_id if streamer else None) or ""
    show = Show(row.streamer_name, row.platform or "live", user_id)
    _write_if_other(series.folder / SHOW_NFO, show_nfo(show))
    await _place_poster(series.folder / POSTER, shelved, streamer, images)
    _copy_once(shelved.beside("-poster.jpg"), series.folder / FANART)
    if series.season_folder is not None:
        _write_if_other(series.season_folder / SEASON_NFO, season_nfo(series.season))
        of_season = series.folder / f"season{series.season:02d}-poster.jpg"
        _copy_once(series.folder / POSTER, of_season)


async def _place_poster(
    target: Path, shelved: Shelved, streamer: Streamer | None, images: Path
) -> None:
    """The avatar, else a picture of the recording."""
    if await asyncio.to_thread(target.exists):
        return
    if streamer and streamer.image:
        try:
            await write_jpeg(images / streamer.image, target)
        except MediaError:
            pass
        else:
            return
    _copy_once(shelved.beside("-poster.jpg"), target)


def _copy_once(source: Path, target: Path) -> None:
    if source.exists() and not target.exists():
        temporary = target.with_name(f".{target.name}.tmp")
        shutil.copyfile(source, temporary)
        temporary.replace(target)


def _write_if_other(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_atomic(path, text)
