from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvault.errors import InvalidInput
from streamvault.media.naming import episode_code, library_path, recording_stem, safe_name

NEW_YEAR = datetime(2026, 1, 1, 0, 30, tzinfo=UTC)


def test_the_episode_is_the_nth_stream_of_the_utc_day() -> None:
    assert episode_code(NEW_YEAR, 1) == "S2026E010101"
    los_angeles = timezone(timedelta(hours=-8))
    assert episode_code(datetime(2025, 12, 31, 16, 30, tzinfo=los_angeles), 12) == "S2026E010112"
    with pytest.raises(InvalidInput):
        episode_code(NEW_YEAR, 0)


def test_the_path_is_streamer_season_and_stem() -> None:
    path = library_path(Path("/library"), "alice", NEW_YEAR, 1, "Ranked: road to #1!")
    assert str(path) == ("/library/alice/Season 2026/alice - S2026E010101 - Ranked road to #1!.mp4")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("../../etc/passwd", "etc passwd"),
        ("-rf", "rf"),
        ("con", "con_"),
        ("COM1.txt", "COM1.txt_"),
        ("a.. . ", "a"),
        (".hidden", "hidden"),
        ("a\nb\tc\0d", "a b c d"),
        ("\u202egpj.exe", "gpj.exe"),
        ('<>:"/\\|?*', "unnamed"),
        ("", "unnamed"),
        ("{0.__class__} %(x)s", "{0.__class__} %(x)s"),
        ("cafe\u0301", "caf\u00e9"),
    ],
)
def test_hostile_names(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_a_cut_leaves_whole_characters() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"  # three people joined into one emoji
    cut = safe_name(family * 50, 40)
    assert len(cut.encode()) <= 40
    assert not cut.endswith("\u200d")
    assert cut.count("\u200d") % 2 == 0


@given(st.text(), st.text())
def test_any_title_stays_inside_the_library(streamer: str, title: str) -> None:
    path = library_path(Path("/library"), streamer, NEW_YEAR, 1, title)
    streamer_folder, season, name = path.relative_to("/library").parts
    stem = name.removesuffix(".mp4")
    assert len(stem.encode()) <= 180
    assert season == "Season 2026"
    for component in (streamer_folder, stem):
        assert component == component.strip(". ")
        assert not set(component) & set('<>:"/\\|?*\n\0')
        assert not component.startswith(("-", "."))


@given(st.text(min_size=300))
def test_a_long_title_gives_way_to_the_code(title: str) -> None:
    assert "S2026E010101" in recording_stem("s" * 500, NEW_YEAR, 1, title)
