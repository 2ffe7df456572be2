"""Poster and storyboard, looked at as pictures."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageStat

from streamvault.errors import MediaError
from streamvault.media.ffmpeg import Ffmpeg
from streamvault.media.previews import (
    MediaSource,
    make_poster,
    make_storyboard,
    make_trickplay,
    tile_interval,
)
from streamvault.media.remux import RemuxOrder, remux
from tests.streamvault.media.media_files import START, Source, part

CUE = re.compile(r"(\S+) --> (\S+)\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)")


def strongest(path: Path, box: tuple[int, int, int, int]) -> str:
    with Image.open(path) as picture:
        means = ImageStat.Stat(picture.convert("RGB").crop(box)).mean
    return ("red", "green", "blue")[means.index(max(means))]


@pytest.mark.parametrize("suffix", [".ts", ".mp4"])
async def test_two_seconds_have_a_poster_and_one_tile(
    source: Source, tmp_path: Path, suffix: str
) -> None:
    sources = [MediaSource(source(2, suffix=suffix), 0, 2)]
    poster = await make_poster(sources, tmp_path / "poster.jpg")
    board = await make_storyboard(sources, tmp_path)
    assert poster is not None
    assert board is not None
    with Image.open(poster.path) as picture:
        assert (picture.format, picture.size) == ("JPEG", (160, 90))
    assert (board.tiles, len(board.sheets)) == (1, 1)
    assert CUE.findall(board.vtt.read_text()) == [
        ("00:00:00.000", "00:00:02.000", "storyboard-1.webp", "0", "0", "160", "90")
    ]


async def test_tiles_show_what_was_on_at_their_time(source: Source, tmp_path: Path) -> None:
    """Red, a hole, green, blue: 10 s each."""
    red, green, blue = (source(10, picture=f"color=c={c}") for c in ("red", "lime", "blue"))
    sources = [MediaSource(red, 0, 10), MediaSource(green, 20, 10), MediaSource(blue, 30, 10)]
    board = await make_storyboard(sources, tmp_path)
    assert board is not None
    cues = CUE.findall(board.vtt.read_text())
    assert [cue[0] for cue in cues] == [f"00:00:{n}0.000" for n in "0123"]
    boxes = [(int(x), int(y), int(x) + int(w), int(y) + int(h)) for *_, x, y, w, h in cues]
    assert [strongest(board.sheets[0], box) for box in boxes] == ["red", "red", "green", "blue"]


async def test_the_poster_is_neither_black_nor_white(source: Source, tmp_path: Path) -> None:
    films = [source(10, picture=p) for p in ("color=c=black", "smptebars", "color=c=white")]
    sources = [MediaSource(film, n * 10, 10) for n, film in enumerate(films)]
    poster = await make_poster(sources, tmp_path / "poster.jpg")
    assert poster is not None
    assert 10 <= poster.at_s < 20


async def test_a_dark_stream_still_has_a_poster(source: Source, tmp_path: Path) -> None:
    sources = [MediaSource(source(2, picture="color=c=black"), 0, 2)]
    assert await make_poster(sources, tmp_path / "poster.jpg") is not None


async def test_101_tiles_fill_a_second_sheet_and_an_older_third_goes(
    source: Source, tmp_path: Path
) -> None:
    (tmp_path / "storyboard-3.webp").write_bytes(b"of an earlier, longer run")
    film = source(2)
    sources = [MediaSource(film, n * 10, 2) for n in range(101)]
    board = await make_storyboard(sources, tmp_path)
    assert board is not None
    assert board.tiles == 101
    with Image.open(board.sheets[0]) as first, Image.open(board.sheets[1]) as second:
        assert (first.size, second.size) == ((1600, 900), (160, 90))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "storyboard-1.webp",
        "storyboard-2.webp",
        "storyboard.vtt",
    ]
    assert CUE.findall(board.vtt.read_text())[-1][2:] == ("storyboard-2.webp", *"00", "160", "90")


async def test_a_final_file_shows_the_keyframe_at_or_before_each_time(
    ffmpeg: Ffmpeg, source: Source, tmp_path: Path
) -> None:
    films = [source(9, picture=f"color=c={c}") for c in ("red", "lime", "blue")]
    starts = (START, START + 9.5, START + 19.5)
    parts = [part(film, start, duration_s=9) for film, start in zip(films, starts, strict=True)]
    # The receipt of a remux lies beside the first part, which many tests share.
    (tmp_path / "parts").mkdir()
    parts[0] = dataclasses.replace(
        parts[0], path=Path(shutil.copy(films[0], tmp_path / "parts" / "part-0001.ts"))
    )
    (result,) = await remux(RemuxOrder(parts, tmp_path / "x.mp4"), ffmpeg)
    board = await make_storyboard([MediaSource(result.path, 0, 28.5)], tmp_path)
    assert board is not None
    boxes = [(x, 0, x + 160, 90) for x in (0, 160, 320)]
    assert [strongest(board.sheets[0], box) for box in boxes] == ["red", "green", "blue"]


async def test_sound_alone_has_no_picture(source: Source, tmp_path: Path) -> None:
    stale = tmp_path / "storyboard-1.webp"
    stale.write_bytes(b"of an earlier run")
    sources = [MediaSource(source(2, video=None), 0, 2)]
    assert await make_poster(sources, tmp_path / "poster.jpg") is None
    assert await make_storyboard(sources, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_no_media_is_an_error(tmp_path: Path) -> None:
    broken = tmp_path / "x.mp4"
    broken.write_bytes(b"not a film" * 1000)
    with pytest.raises(MediaError, match="previews_child"):
        await make_poster([MediaSource(broken, 0, 2)], tmp_path / "poster.jpg")


async def test_pictures_come_from_a_part_with_a_damaged_middle(
    source: Source, tmp_path: Path
) -> None:
    damaged = tmp_path / "part-0001.ts"
    data = bytearray(source(30).read_bytes())
    third = len(data) // 3
    data[third : 2 * third] = bytes(third)
    damaged.write_bytes(data)
    board = await make_storyboard([MediaSource(damaged, 0, 30)], tmp_path)
    assert board is not None
    assert board.tiles == 3


@pytest.mark.parametrize(("hours", "interval_s"), [(1, 10), (10, 60)])
def test_long_recordings_have_at_most_600_tiles(hours: float, interval_s: float) -> None:
    assert tile_interval(hours * 3600) == interval_s


async def test_trickplay_is_laid_out_as_jellyfin_reads_it(tmp_path: Path, source: Source) -> None:
    """One tile each 10 s from 0 on, ten in a row, numbered from 0; nothing else beside them."""
    folder = tmp_path / "Alice.trickplay"
    (folder / "of before").mkdir(parents=True)
    long = MediaSource(source(3), 0.0, 1015.0)
    assert await make_trickplay([long], folder) == 102
    assert [p.name for p in tmp_path.iterdir() if p.name != "parts"] == ["Alice.trickplay"]
    (sheets,) = folder.iterdir()
    assert sheets.name.endswith(" - 10x10")
    width = int(sheets.name.partition(" ")[0])
    assert sorted(p.name for p in sheets.iterdir()) == ["0.jpg", "1.jpg"]
    with Image.open(sheets / "0.jpg") as first, Image.open(sheets / "1.jpg") as second:
        assert (first.format, first.width) == ("JPEG", 10 * width)
        assert (second.width, second.height) == (2 * width, first.height // 10)
