"""Poster and storyboard: single keyframes, decoded in a PyAV child.

A tenth of what one ffmpeg process per picture costs, since only the pictures shown are decoded.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamvault.errors import MediaError
from streamvault.media.chapters import vtt_time
from streamvault.media.ffmpeg import ShareCallback, run_python_child
from streamvault.media.files import write_atomic

CHILD = "streamvault.media.previews_child"
POSTER_CANDIDATES = 12
POSTER_FROM, POSTER_TO = 0.05, 0.95
MIN_INTERVAL_S = 10.0
MAX_TILES = 600
SHEET_COLUMNS = 10
SHEET_TILES = SHEET_COLUMNS * SHEET_COLUMNS
SHEET_NAME = "storyboard-{}.webp"
SHEET_PATTERN = SHEET_NAME.format("*")
TRICKPLAY_S = 10.0
TIMEOUT_S = 3600.0  # pictures of two days on a slow disk


@dataclass(frozen=True, slots=True)
class MediaSource:
    """A file to take pictures from, the final MP4 or a part; `start_s` on the recording's clock."""

    path: Path
    start_s: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class Poster:
    path: Path
    at_s: float
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Storyboard:
    vtt: Path
    sheets: tuple[Path, ...]
    tiles: int
    interval_s: float
    tile_width: int
    tile_height: int


async def make_poster(sources: Sequence[MediaSource], output: Path) -> Poster | None:
    """Write the most telling of 12 keyframes as a JPEG of at most 1280 pixels a side.

    None means that there is no picture, as in an audio-only recording. Raises MediaError.
    """
    times = poster_times(_duration(sources))
    answer = await _ask("poster", sources, {"times": times, "output": str(output)})
    if not answer["found"]:
        return None
    return Poster(output, answer["at_s"], answer["width"], answer["height"])


async def make_storyboard(
    sources: Sequence[MediaSource], directory: Path, on_share: ShareCallback | None = None
) -> Storyboard | None:
    """Write `storyboard-1.webp` … (10 x 10 tiles each) and `storyboard.vtt`, which names them.

    A tile is the keyframe at or before its time. None means no picture. Raises MediaError.
    """
    duration_s = _duration(sources)
    interval_s = tile_interval(duration_s)
    count = max(1, math.ceil(duration_s / interval_s))
    times = [n * interval_s for n in range(count)]
    told = {"times": times, "directory": str(directory), "pattern": SHEET_NAME, "first": 1}
    answer = await _ask("sheets", sources, told, on_share)
    sheets = tuple(directory / name for name in answer["sheets"])
    vtt = directory / "storyboard.vtt"
    board = Storyboard(vtt, sheets, count, interval_s, answer["width"], answer["height"])
    _remove_stale(board)
    if not sheets:
        return None
    write_atomic(vtt, storyboard_vtt(board, duration_s))
    return board


async def make_trickplay(
    sources: Sequence[MediaSource], folder: Path, on_share: ShareCallback | None = None
) -> int:
    """Pictures for Jellyfin's time line (10.10 and later, "save trickplay images next to media"):
    `<folder>/320 - 10x10/0.jpg` …, one tile each 10 s, which is its default. The tiles' number; 0
    means no picture. Raises MediaError, OSError."""
    times = [n * TRICKPLAY_S for n in range(max(1, math.ceil(_duration(sources) / TRICKPLAY_S)))]
    scratch = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    sheets = scratch / "sheets"
    told = {"times": times, "directory": str(sheets), "pattern": "{}.jpg", "first": 0}
    answer = await _ask("sheets", sources, told, on_share)
    if not answer["sheets"]:
        shutil.rmtree(scratch)
        return 0
    named = f"{answer['width']} - {SHEET_COLUMNS}x{SHEET_COLUMNS}"
    sheets.rename(scratch / named)
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)
    return len(times)


def poster_times(duration_s: float) -> list[float]:
    """Evenly from 5 to 95 % of the recording: starting and ending screens are seldom telling."""
    step = (POSTER_TO - POSTER_FROM) / (POSTER_CANDIDATES - 1)
    return [duration_s * (POSTER_FROM + n * step) for n in range(POSTER_CANDIDATES)]


def tile_interval(duration_s: float) -> float:
    """Seconds from tile to tile: 10, or more in recordings of over 100 minutes."""
    return max(MIN_INTERVAL_S, duration_s / MAX_TILES)


def storyboard_vtt(board: Storyboard, duration_s: float) -> str:
    """A WebVTT file whose cues are tiles, by media fragment (`#xywh=`)."""
    cues = ["WEBVTT\n"]
    for n in range(board.tiles):
        sheet, place = divmod(n, SHEET_TILES)
        row, column = divmod(place, SHEET_COLUMNS)
        end_s = min((n + 1) * board.interval_s, duration_s)
        box = f"{column * board.tile_width},{row * board.tile_height}"
        size = f"{board.tile_width},{board.tile_height}"
        cues.append(
            f"{vtt_time(n * board.interval_s)} --> {vtt_time(end_s)}\n"
            f"{board.sheets[sheet].name}#xywh={box},{size}\n"
        )
    return "\n".join(cues)


def _remove_stale(board: Storyboard) -> None:
    """Sheets of an earlier, longer storyboard; and its VTT, when there are no pictures any more."""
    for stale in set(board.vtt.parent.glob(SHEET_PATTERN)) - set(board.sheets):
        stale.unlink(missing_ok=True)
    if not board.sheets:
        board.vtt.unlink(missing_ok=True)


def _duration(sources: Sequence[MediaSource]) -> float:
    if not sources:
        raise MediaError("there is no file to take pictures from")
    return max(source.start_s + source.duration_s for source in sources)


async def _ask(
    what: str,
    sources: Sequence[MediaSource],
    request: dict[str, Any],
    on_share: ShareCallback | None = None,
) -> dict[str, Any]:
    files = [[str(s.path), s.start_s, s.duration_s] for s in sources]
    told = {"what": what, "sources": files} | request
    return await run_python_child(CHILD, told, timeout_s=TIMEOUT_S, on_share=on_share)
