from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvault.media.chapters import (
    Break,
    ChannelChange,
    Chapter,
    build_chapters,
    differences,
    ffmetadata,
    moved,
    slice_chapters,
    vtt_time,
    webvtt,
    with_breaks,
)
from streamvault.media.probe import EmbeddedChapter

T0 = 1_700_000_000.0


def on_clock(wall: float) -> float:
    return wall - T0


def starts(chapters: list[Chapter]) -> list[tuple[float, str]]:
    return [(c.start_s, c.title) for c in chapters]


def ad(start_s: float) -> Break:
    return Break(start_s, 30, "Ad break")


def test_a_break_is_a_chapter_between_two_halves() -> None:
    told = [Chapter(0, 100, "a", "Chess"), Chapter(100, 200, "b")]
    assert with_breaks(told, [ad(190), ad(40)]) == [
        Chapter(0, 40, "a", "Chess"),
        Chapter(40, 70, "Ad break (30 s)"),
        Chapter(70, 100, "a", "Chess"),
        Chapter(100, 190, "b"),
        Chapter(190, 200, "Ad break (30 s)"),
    ]


def test_a_break_where_a_chapter_begins_leaves_no_empty_one() -> None:
    assert with_breaks(
        [Chapter(0, 50, "a"), Chapter(50, 90, "b")], [Break(50, 15, "Ad break")]
    ) == [
        Chapter(0, 50, "a"),
        Chapter(50, 65, "Ad break (15 s)"),
        Chapter(65, 90, "b"),
    ]


def test_a_break_before_the_first_frame_is_on_no_clock() -> None:
    assert with_breaks([Chapter(0, 50, "a")], [ad(0)]) == [Chapter(0, 50, "a")]


def test_what_is_too_short_to_be_seen_is_no_chapter() -> None:
    told = [Chapter(0, 50, "a")]
    assert with_breaks(told, [Break(20, 0.5, "Not recorded")]) == told


def test_on_a_clock_without_the_hole_its_chapter_is_gone_and_the_next_one_earlier() -> None:
    """Ten seconds are missing from 40 on."""
    told = with_breaks([Chapter(0, 60, "a"), Chapter(60, 90, "b")], [Break(40, 10, "Not recorded")])
    assert moved(told, lambda s: s if s < 40 else max(s - 10, 40)) == [
        Chapter(0, 50, "a"),
        Chapter(50, 80, "b"),
    ]


def test_chapters_follow_each_other_from_zero_to_the_end() -> None:
    events = [
        ChannelChange(T0 - 50, "a"),
        ChannelChange(T0 + 100, "b"),
        ChannelChange(T0 + 400, "c"),
    ]
    assert build_chapters(events, on_clock, 1000) == [
        Chapter(0, 100, "a"),
        Chapter(100, 400, "b"),
        Chapter(400, 1000, "c"),
    ]


def test_a_new_category_under_the_same_title_is_a_chapter() -> None:
    events = [ChannelChange(T0, "a", "Chess"), ChannelChange(T0 + 100, "a", "Go")]
    assert [c.label for c in build_chapters(events, on_clock, 1000)] == ["a (Chess)", "a (Go)"]


def test_the_same_again_is_no_chapter() -> None:
    events = [ChannelChange(T0, "a"), ChannelChange(T0 + 100, "a"), ChannelChange(T0 + 200, "a")]
    assert starts(build_chapters(events, on_clock, 1000)) == [(0, "a")]


def test_one_under_thirty_seconds_falls_to_the_one_before() -> None:
    events = [
        ChannelChange(T0, "a"),
        ChannelChange(T0 + 100, "typo"),
        ChannelChange(T0 + 129, "b"),
        ChannelChange(T0 + 990, "bye"),
    ]
    assert starts(build_chapters(events, on_clock, 1000)) == [(0, "a"), (129, "b")]


def test_a_short_detour_leaves_one_chapter() -> None:
    events = [ChannelChange(T0, "a"), ChannelChange(T0 + 100, "b"), ChannelChange(T0 + 110, "a")]
    assert starts(build_chapters(events, on_clock, 1000)) == [(0, "a")]


def test_a_short_first_one_gives_its_place_to_the_next() -> None:
    events = [ChannelChange(T0, "starting"), ChannelChange(T0 + 20, "a")]
    assert starts(build_chapters(events, on_clock, 1000)) == [(0, "a")]


def test_a_short_recording_keeps_its_changes() -> None:
    events = [ChannelChange(T0, "a"), ChannelChange(T0 + 8, "b")]
    assert starts(build_chapters(events, on_clock, 20)) == [(0, "a"), (8, "b")]


def test_changes_outside_the_recording_are_clamped() -> None:
    events = [
        ChannelChange(T0 - 90, "old"),
        ChannelChange(T0 - 60, "a"),
        ChannelChange(T0 + 5000, "after"),
    ]
    assert build_chapters(events, on_clock, 1000) == [Chapter(0, 1000, "a")]


def test_nothing_known_or_nothing_recorded_gives_no_chapter() -> None:
    assert build_chapters([], on_clock, 100) == []
    assert build_chapters([ChannelChange(T0, "a")], on_clock, 0) == []


@given(
    st.lists(st.builds(ChannelChange, st.floats(T0 - 100, T0 + 1100), st.sampled_from("abc"))),
    st.floats(0.1, 1000),
)
def test_chapters_cover_any_recording_without_hole_or_overlap(
    events: list[ChannelChange], duration_s: float
) -> None:
    chapters = build_chapters(events, on_clock, duration_s)
    assert bool(chapters) == bool(events)
    edges = [edge for c in chapters for edge in (c.start_s, c.end_s)]
    assert edges == sorted(edges)
    assert edges[1:-1:2] == edges[2::2]
    assert not chapters or (edges[0], edges[-1]) == (0, duration_s)


def test_a_slice_has_its_own_clock() -> None:
    chapters = [Chapter(0, 100, "a"), Chapter(100, 400, "b"), Chapter(400, 900, "c")]
    assert slice_chapters(chapters, 150, 500) == [Chapter(0, 250, "b"), Chapter(250, 350, "c")]


def test_ffmetadata_escapes_every_value() -> None:
    text = ffmetadata({"title": "a=b\n[CHAPTER]", "empty": ""}, [Chapter(0, 1.5, "#1; \\o/")])
    assert text.splitlines() == [
        ";FFMETADATA1",
        "title=a\\=b\\",
        "[CHAPTER]",  # the escaped newline's second half, still inside the value
        "[CHAPTER]",
        "TIMEBASE=1/1000",
        "START=0",
        "END=1500",
        "title=\\#1\\; \\\\o/",
    ]


@given(st.text())
def test_any_title_becomes_one_value_of_ffmetadata(title: str) -> None:
    """By the format's own rule: a line break counts unless a backslash stands before it."""
    text = ffmetadata({"title": title, "artist": "x"}, [Chapter(0, 1, title)])
    text.encode()
    lines = re.split(r"(?<!\\)\n", text)
    assert [line.partition("=")[0] for line in lines[-6:]] == [
        "[CHAPTER]",
        "TIMEBASE",
        "START",
        "END",
        "title",
        "",
    ]
    assert lines[-7] == "artist=x"
    assert len(lines) == (9 if title else 8)


def test_webvtt_escapes_markup_and_arrows() -> None:
    chapters = [Chapter(0, 61.5, "a --> <b> & c\n\n00:00 --> 00:01"), Chapter(61.5, 3700, "")]
    assert webvtt(chapters) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:01:01.500\n"
        "a --&gt; &lt;b&gt; &amp; c 00:00 --&gt; 00:01\n\n"
        "00:01:01.500 --> 01:01:40.000\nUntitled\n"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00:00.000"), (3599.9996, "01:00:00.000"), (100 * 3600 + 0.5, "100:00:00.500")],
)
def test_times_are_written_to_the_millisecond(seconds: float, text: str) -> None:
    assert vtt_time(seconds) == text


def test_differences_name_the_chapter() -> None:
    asked = [Chapter(0, 5, "a"), Chapter(5, 9, "b\\")]
    same = [EmbeddedChapter(0, 5, "a"), EmbeddedChapter(5.0004, 9, "b\\ ")]
    assert differences(asked, same) == []
    assert differences(asked, same[:1]) == ["2 chapters asked for, 1 in the file"]
    moved = [same[0], EmbeddedChapter(6, 9, "b\\")]
    assert differences(asked, moved)[0].startswith("chapter 2: asked for 'b\\\\' at 5.000 s")
