from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from streamvault.media.nfo import Episode, Show, episode_nfo, season_nfo, show_nfo


def episode(title: str = "A title", **fields: str) -> Episode:
    began = datetime(2026, 11, 25, 20, 0, tzinfo=UTC)
    return Episode(title, "Alice", 2026, 112501, began, runtime_s=5410, **fields)


def test_the_fields_media_servers_read() -> None:
    text = episode_nfo(episode(category="Chess", stream_id="123", poster="x-poster.jpg"))
    assert text.startswith('<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n')
    root = ET.fromstring(text)
    assert root.tag == "episodedetails"
    assert {child.tag: child.text for child in root} == {
        "title": "A title",
        "showtitle": "Alice",
        "season": "2026",
        "episode": "112501",
        "aired": "2026-11-25",
        "premiered": "2026-11-25",
        "runtime": "90",
        "genre": "Chess",
        "studio": "Twitch",
        "thumb": "x-poster.jpg",
        "uniqueid": "123",
    }
    assert root.find("uniqueid[@type='twitch'][@default='true']") is not None


@given(st.text())
def test_any_title_gives_xml_that_parses(title: str) -> None:
    root = ET.fromstring(episode_nfo(episode(f"<{title}>&x;")).encode())
    found = root.findtext("title") or ""
    assert found.startswith("<")
    assert found.endswith(">&x;")


def test_a_streamer_is_a_series_that_nobody_looks_up() -> None:
    root = ET.fromstring(show_nfo(Show("Alice & <Bob>", "twitch", "4711")))
    assert root.tag == "tvshow"
    assert root.findtext("title") == "Alice & <Bob>"
    assert root.findtext("studio") == "Twitch"
    assert root.findtext("lockdata") == "true"
    assert root.findtext("uniqueid[@type='twitch'][@default='true']") == "4711"


def test_a_season_is_a_year() -> None:
    root = ET.fromstring(season_nfo(2026))
    assert root.tag == "season"
    assert {child.tag: child.text for child in root} == {
        "title": "2026",
        "seasonnumber": "2026",
        "lockdata": "true",
    }


@given(st.text())
def test_any_name_gives_a_series_that_parses(name: str) -> None:
    assert ET.fromstring(show_nfo(Show(f"<{name}>")).encode()).tag == "tvshow"
