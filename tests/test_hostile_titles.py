"""Ten thousand titles that somebody might choose to do harm, through everything made of a title.

Each is read back by something else than what wrote it: ffmpeg and PyAV, an XML parser, a parser of
WebVTT, an HTTP client's view of a header.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import Message
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import av
import pytest

from api.files import LibraryFile
from streamvault import templates
from streamvault.media.chapters import Chapter, ffmetadata, webvtt
from streamvault.media.ffmpeg import find_ffmpeg
from streamvault.media.naming import Named, recording_path
from streamvault.media.nfo import Episode, Show, episode_nfo, show_nfo

MANY = 10_000
NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
PIECES = (
    *("=", ";", "#", "\\", "\n", "\r\n", "[CHAPTER]\nSTART=0", "TIMEBASE=1/1", "\n;FFMETADATA1\n"),
    *("../", "..\\", "/etc/passwd", "C:\\", "//host/share", "~", "$(reboot)", "`id`", "|", "&&"),
    *("<title>", "</episodedetails>", "]]>", "<!--", "&amp;", "&#0;", "<!DOCTYPE x>", "'", '"'),
    *("-->", "00:00:01.000 --> 00:00:02.000", "WEBVTT", "NOTE ", "STYLE\n", "<c.red>", "<v Bob>"),
    *("{title}", "{streamer.__class__}", "%s", "%00", "${HOME}", "{{", "}}", "concat:", "file:"),
    *("CON", "nul.txt", "aux", "LPT1", ".hidden", "-rf", "...", "name.", "name "),
    *("\0", "\x07", "\x1b[31m", "\x85", "\u2028", "\u2029", "\ufeff", "\u202e", "\u2066"),
    *("é", "e\u0301", "ﬁ", "Ω", "漢字", "مرحبا", "שלום", "🎮", "\u0301\u0302\u0303"),
    *("👩\u200d👩\u200d👧", "🏳\ufe0f\u200d🌈", "\u200d"),
    *("\ud800", "\udfff", "a" * 300, "😀" * 90, "ß" * 200, " ", "\t", "normal words", "Speedrun"),
)  # fmt: skip


def hostile(number: int = MANY) -> list[str]:
    """The same ones in each run."""
    chance = random.Random(2026)
    return [*PIECES, *(_title(chance) for _ in range(number - len(PIECES)))]


def _title(chance: random.Random) -> str:
    pieces = chance.choices(PIECES, k=chance.randint(1, 6))
    pieces += [chr(chance.randrange(0x110000)) for _ in range(chance.randint(0, 3))]
    chance.shuffle(pieces)
    return "".join(pieces)


TITLES = hostile()


def shown(title: str) -> str:
    """What a person sees of it in one line: no control characters, white space collapsed."""
    kept = (" " if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} else c for c in title)
    return " ".join("".join(kept).split())


@pytest.mark.parametrize("template", templates.PRESETS.values(), ids=templates.PRESETS)
def test_names_stay_inside_and_apart_and_can_be_made(template: str, tmp_path: Path) -> None:
    made: set[str] = set()
    for number, title in enumerate(TITLES):
        at = NOON + timedelta(days=number // 90)
        named = Named(title, at, number % 90 + 1, title, title, title, title, title)
        path = recording_path(template, named)
        assert not path.is_absolute() and ".." not in path.parts
        assert all(0 < len(part.encode()) <= 255 for part in path.parts)
        # Those that do not care about the case, and those that normalise, keep them apart.
        made.add(unicodedata.normalize("NFKD", str(path)).lower())
    assert len(made) == len(TITLES)
    for title in TITLES[:: MANY // 500]:
        path = tmp_path / recording_path(template, Named(title, NOON, 1, title, title))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        assert path.name in [found.name for found in path.parent.iterdir()]
        assert path.resolve().is_relative_to(tmp_path.resolve())


def legal_in_xml(text: str) -> str:
    """XML 1.0 §2.2, with the line ends that §2.11 makes of all."""
    pattern = "[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    return re.sub(pattern, "", text)


def test_nfo_files_hold_every_title_as_it_is() -> None:
    for title in TITLES:
        episode = Episode(title, title, 2026, 112701, NOON, 60.0, title, title, "twitch", title)
        for root in (
            ET.fromstring(episode_nfo(episode).encode()),
            ET.fromstring(show_nfo(Show(title, "twitch", title)).encode()),
        ):
            expected = legal_in_xml(title).replace("\r\n", "\n").replace("\r", "\n")
            assert (root.findtext("title") or "") == expected
            assert len(root.findall("title")) == (1 if title else 0)


def test_ffmpeg_reads_every_chapter_and_no_other(tmp_path: Path) -> None:
    """All of them in one file, written by ffmpeg and read by PyAV."""
    chapters = [Chapter(n * 1.0, n + 1.0, title) for n, title in enumerate(TITLES)]
    meta, sound, out = (tmp_path / name for name in ("meta.ffmeta", "s.wav", "out.mka"))
    meta.write_text(ffmetadata({"title": "x"}, chapters), encoding="utf-8")
    ffmpeg = find_ffmpeg(None).path
    silence = ["-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", "1"]
    subprocess.run([ffmpeg, "-v", "error", *silence, str(sound)], check=True)
    inputs = ["-i", str(sound), "-f", "ffmetadata", "-i", str(meta)]
    copied = ["-map", "0:a", "-map_metadata", "1", "-map_chapters", "1", "-c", "copy"]
    subprocess.run([ffmpeg, "-v", "error", *inputs, *copied, str(out)], check=True)
    with av.open(str(out)) as container:
        found = [chapter["metadata"].get("title", "").rstrip() for chapter in container.chapters()]
        assert container.metadata["title"] == "x"
    assert found == [shown(title) or "Untitled" for title in TITLES]


@pytest.mark.parametrize("first", range(0, MANY, 2000))
def test_any_title_is_one_tag_of_a_file(tmp_path: Path, first: int) -> None:
    """What the parser makes of it: a tag, and never a second one or a chapter."""
    for title in TITLES[first : first + 2000]:
        text = ffmetadata({"title": title, "artist": "Alice"}, [])
        text.encode()
        lines = re.split(r"(?<!\\)(?:\\\\)*\n", text)
        assert lines[0] == ";FFMETADATA1"
        assert [line.partition("=")[0] for line in lines[1:] if line] == ["title", "artist"]


def cues(text: str) -> Iterator[str]:
    """WebVTT §6.1 as far as it matters: blocks between empty lines, a time line, then the text."""
    header, *blocks = re.split(r"\n{2,}", text.strip("\n"))
    assert header == "WEBVTT"
    for block in blocks:
        timing, *payload = block.split("\n")
        assert re.fullmatch(r"[\d:.]+ --> [\d:.]+", timing), timing
        yield "\n".join(payload)


def test_vtt_has_one_cue_for_each_title_and_no_markup() -> None:
    chapters = [Chapter(n * 1.0, n + 1.0, title) for n, title in enumerate(TITLES)]
    found = list(cues(webvtt(chapters)))
    assert len(found) == len(TITLES)
    for cue, title in zip(found, TITLES, strict=True):
        assert "-->" not in cue and "<" not in cue and "\n" not in cue
        assert unescape(cue) == (shown(title) or "Untitled")


def test_a_header_names_the_file_and_says_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    for title in TITLES:
        name = recording_path(templates.DEFAULT, Named("Alice", NOON, 1, title)).name
        fd = os.open(tmp_path / "x", os.O_RDONLY)
        answer = LibraryFile(fd, "video/mp4", name, download=True)
        os.close(fd)
        raw = dict(answer.raw_headers)[b"content-disposition"].decode("ascii")
        assert "\r" not in raw and "\n" not in raw
        message = Message()
        message["Content-Disposition"] = raw
        assert message.get_content_disposition() == "attachment"
        encoded = re.fullmatch(r"attachment; filename\*=utf-8''(\S+)", raw)
        told = (
            unquote(encoded[1])
            if encoded
            else message.get_param("filename", header="content-disposition")
        )
        assert told == name
