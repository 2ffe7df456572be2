from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvault import templates
from streamvault.errors import InvalidInput
from streamvault.media.naming import Named, episode_code, recording_path, safe_name

NEW_YEAR = datetime(2026, 1, 1, 0, 30, tzinfo=UTC)


def test_the_episode_is_the_nth_stream_of_the_utc_day() -> None:
    assert episode_code(NEW_YEAR, 1) == "S2026E010101"
    los_angeles = timezone(timedelta(hours=-8))
    assert episode_code(datetime(2025, 12, 31, 16, 30, tzinfo=los_angeles), 12) == "S2026E010112"
    with pytest.raises(InvalidInput):
        episode_code(NEW_YEAR, 0)


def test_the_path_is_streamer_season_and_stem() -> None:
    named = Named("alice", NEW_YEAR, 1, "Ranked: road to #1!")
    path = recording_path(templates.DEFAULT, named)
    assert str(path) == "alice/Season 2026/alice - S2026E010101 - Ranked road to #1!.mp4"


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


FULL = Named(*("Alice", NEW_YEAR, 2, "A/B test", "Chess", "alice_1", "1080p60"), stream_id="4711")


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("{login}/{episode} {title}", "alice_1/S2026E010102 A B test"),
        (
            "{category}/{year}-{month}-{day} {hour}h{minute}/{streamer} {episode} [{quality}]",
            "Chess/2026-01-01 00h30/Alice S2026E010102 [1080p60]",
        ),
        ("{streamer}/{title} ({stream_id}) {episode}", "Alice/A B test (4711) S2026E010102"),
        # Each in a place of its own, whatever the template says around it.
        ("{streamer}/con/{episode}", "Alice/con_/S2026E010102"),
    ],
)
def test_a_template_names_folders_and_file(template: str, path: str) -> None:
    assert templates.problem_of(template) is None
    assert str(recording_path(template, FULL, "")) == path


def test_what_is_not_known_leaves_no_trace() -> None:
    bare = Named("Alice", NEW_YEAR, 1)
    assert (
        str(recording_path(templates.DEFAULT, bare)) == "Alice/Season 2026/Alice - S2026E010101.mp4"
    )
    template = "{streamer}/{category}/{episode} - {title} - {category}"
    assert str(recording_path(template, bare)) == "Alice/S2026E010101.mp4"
    template = "{category}/{streamer} - {title} - {episode}"
    assert str(recording_path(template, bare)) == "Alice - S2026E010101.mp4"


@given(
    st.sampled_from(
        [
            templates.DEFAULT,
            "{title}/{streamer}/{title} {episode}",
            "{category}{category}{category}{category}{category} {login} {episode}",
            "{quality}/{stream_id}/{category}/{streamer}{title}{title}{title}{episode}",
        ]
    ),
    st.builds(
        Named, st.text(), st.just(NEW_YEAR), st.integers(1, 99), st.text(), st.text(), st.text(),
        st.text(), st.text(),
    ),
)  # fmt: skip
def test_anything_stays_inside_the_library_and_apart(template: str, named: Named) -> None:
    path = recording_path(template, named)
    assert not path.is_absolute()
    for component in (*path.parts[:-1], path.stem):
        assert 0 < len(component.encode()) <= 180
        assert component == component.strip(". ")
        assert not set(component) & set('<>:"/\\|?*\n\0')
        assert not component.startswith(("-", "."))
    assert episode_code(NEW_YEAR, named.number) in path.stem


@given(st.text(min_size=300))
def test_a_long_title_gives_way_to_the_code(title: str) -> None:
    named = Named("s" * 500, NEW_YEAR, 1, title)
    for template in (templates.DEFAULT, "{streamer}/{title} {episode}"):
        assert "S2026E010101" in recording_path(template, named).name
