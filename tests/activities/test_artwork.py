"""What media servers show of a streamer, beside its recordings."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from activities.artwork import place_artwork
from activities.library import Shelved
from activities.removal import remove_files
from streamvault.db.ids import uuid7
from streamvault.db.models import Recording, Streamer
from streamvault.db.preferences import Preferences
from streamvault.hls.timeline import Timeline

RED, BLUE = (200, 20, 20), (20, 20, 200)


def shelved(library: Path, path: str, streamer_name: str = "Alice") -> Shelved:
    """A finished recording with a red poster."""
    row = Recording(
        id=uuid7(),
        path=path,
        streamer_name=streamer_name,
        streamer_login="alice",
        platform="twitch",
        directory=None,
        report=None,
        started_at=datetime.now(UTC),
    )
    final = library / path
    final.parent.mkdir(parents=True, exist_ok=True)
    final.write_bytes(b"x")
    Image.new("RGB", (64, 36), RED).save(final.with_name(f"{final.stem}-poster.jpg"))
    return Shelved(row, 1, Path(path), (library,), library, library, Timeline(), [], Preferences())


@pytest.fixture
def streamer(tmp_path: Path) -> Streamer:
    Image.new("RGB", (300, 300), BLUE).save(tmp_path / "avatar.webp")
    return Streamer(platform="twitch", platform_user_id="4711", image="avatar.webp")


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def colour(path: Path) -> str:
    with Image.open(path) as image:
        assert image.format == "JPEG"
        red, _, blue = image.convert("RGB").getpixel((10, 10))  # type: ignore[misc]
    return "red" if red > blue else "blue"


async def test_a_series_has_nfo_poster_fanart_and_season(
    tmp_path: Path, streamer: Streamer
) -> None:
    library = tmp_path / "library"
    shelf = shelved(library, "Alice/Season 2026/Alice - S2026E112701.mp4")
    await place_artwork(shelf, streamer, tmp_path)
    assert names(library) == [
        "Alice/Season 2026/Alice - S2026E112701-poster.jpg",
        "Alice/Season 2026/Alice - S2026E112701.mp4",
        "Alice/Season 2026/season.nfo",
        "Alice/fanart.jpg",
        "Alice/poster.jpg",
        "Alice/season2026-poster.jpg",
        "Alice/tvshow.nfo",
    ]
    assert (colour(library / "Alice/poster.jpg"), colour(library / "Alice/fanart.jpg")) == (
        "blue",
        "red",
    )
    show = ET.fromstring((library / "Alice/tvshow.nfo").read_text())
    assert (show.findtext("title"), show.findtext("uniqueid")) == ("Alice", "4711")
    season = ET.fromstring((library / "Alice/Season 2026/season.nfo").read_text())
    assert season.findtext("seasonnumber") == "2026"


async def test_what_somebody_chose_stays_and_a_new_name_is_taken_over(
    tmp_path: Path, streamer: Streamer
) -> None:
    library = tmp_path / "library"
    shelf = shelved(library, "alice/Season 2026/a.mp4")
    (library / "alice/poster.jpg").write_bytes(b"theirs")
    (library / "alice/tvshow.nfo").write_text("of before")
    await place_artwork(shelf, streamer, tmp_path)
    assert (library / "alice/poster.jpg").read_bytes() == b"theirs"
    assert "<title>Alice</title>" in (library / "alice/tvshow.nfo").read_text()


@pytest.mark.parametrize("image", ["", "gone.webp", "broken.webp"])
async def test_without_an_avatar_the_recordings_picture_will_do(
    tmp_path: Path, streamer: Streamer, image: str
) -> None:
    (tmp_path / "broken.webp").write_bytes(b"RIFF")
    streamer.image = image
    library = tmp_path / "library"
    await place_artwork(shelved(library, "Alice/a.mp4"), streamer, tmp_path)
    assert colour(library / "Alice/poster.jpg") == "red"


@pytest.mark.parametrize("path", ["a.mp4", "2026/a.mp4", "Chess/Alice/a.mp4"])
async def test_where_folders_are_no_series_nothing_is_put(
    tmp_path: Path, streamer: Streamer, path: str
) -> None:
    library = tmp_path / "library"
    shelf = shelved(library, path)
    before = names(library)
    await place_artwork(shelf, streamer, tmp_path)
    assert names(library) == before


async def test_the_last_recording_takes_it_along_and_no_other_does(
    tmp_path: Path, streamer: Streamer
) -> None:
    library = tmp_path / "library"
    first = shelved(library, "Alice/Season 2026/a.mp4")
    other = shelved(library, "Alice/Season 2026/b.mp4")
    for shelf in (first, other):
        await place_artwork(shelf, streamer, tmp_path)
    remove_files((library,), first.recording)
    assert "Alice/tvshow.nfo" in names(library)
    assert "Alice/Season 2026/b.mp4" in names(library)
    remove_files((library,), other.recording)
    assert list(library.iterdir()) == []
