"""Chapters from what the streamer called the stream and when; pure, no I/O except `read_back`."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from streamvault.media.probe import EmbeddedChapter, probe_chapters

MIN_CHAPTER_S = 30.0
# In a recording of under ten minutes thirty seconds are much; there, a twentieth of it counts.
MIN_CHAPTER_SHARE = 0.05
MIN_BREAK_S = 1.0
SHORTEST_S = 0.001  # of an embedded chapter: their clock counts milliseconds


@dataclass(frozen=True, slots=True)
class ChannelChange:
    """From `at` (epoch seconds) on, the stream had this title and category."""

    at: float
    title: str
    category: str = ""


@dataclass(frozen=True, slots=True)
class Chapter:
    """A stretch of the recording, in seconds of its media clock."""

    start_s: float
    end_s: float
    title: str
    category: str = ""

    @property
    def label(self) -> str:
        """What players show, such as `Ranked until midnight (Chess)`."""
        title = _one_line(self.title)
        category = _one_line(self.category)
        if title and category:
            return f"{title} ({category})"
        return title or category or "Untitled"


def build_chapters(
    events: Sequence[ChannelChange],
    media_of_wall: Callable[[float], float],
    duration_s: float,
) -> list[Chapter]:
    """One chapter per change of title or category; they cover the recording without a hole.

    The first starts at 0, each ends where the next starts, the last one ends with the media.
    Those under 30 s (in a short recording: a twentieth of it) fall to the one before.
    """
    if duration_s <= 0 or not events:
        return []
    starts = [
        Chapter(min(max(media_of_wall(e.at), 0.0), duration_s), duration_s, e.title, e.category)
        for e in sorted(events, key=lambda e: e.at)
    ]
    shortest = min(MIN_CHAPTER_S, duration_s * MIN_CHAPTER_SHARE)
    kept = _merge_equal(_drop_short(_merge_equal(starts), duration_s, shortest))
    kept[0] = replace(kept[0], start_s=0.0)
    return _close(kept, duration_s)


@dataclass(frozen=True, slots=True)
class Break:
    """What interrupts a recording, on its media clock."""

    start_s: float
    length_s: float
    title: str


def with_breaks(chapters: Sequence[Chapter], breaks: Iterable[Break]) -> list[Chapter]:
    """Each break as a chapter of its own, what it interrupts going on behind it. One before the
    first frame is on no clock and left out, as is what lasts less than a second."""
    for one in sorted(breaks, key=lambda b: b.start_s):
        if one.start_s > 0 and one.length_s >= MIN_BREAK_S:
            chapters = [piece for c in chapters for piece in _split(c, one)]
    return list(chapters)


def _split(chapter: Chapter, one: Break) -> list[Chapter]:
    if not chapter.start_s <= one.start_s < chapter.end_s:
        return [chapter]
    end_s = min(one.start_s + one.length_s, chapter.end_s)
    pieces = [
        replace(chapter, end_s=one.start_s),
        Chapter(one.start_s, end_s, f"{one.title} ({one.length_s:.0f} s)"),
        replace(chapter, start_s=end_s),
    ]
    return [piece for piece in pieces if piece.end_s > piece.start_s]


def moved(chapters: Iterable[Chapter], clock: Callable[[float], float]) -> list[Chapter]:
    """On another clock, without those that are empty there, and what these cut in two whole."""
    kept = [c for c in on_clock(chapters, clock) if c.end_s - c.start_s > SHORTEST_S]
    return _close(_merge_equal(kept), kept[-1].end_s) if kept else []


def on_clock(chapters: Iterable[Chapter], clock: Callable[[float], float]) -> list[Chapter]:
    return [replace(c, start_s=clock(c.start_s), end_s=clock(c.end_s)) for c in chapters]


def slice_chapters(chapters: Sequence[Chapter], start_s: float, end_s: float) -> list[Chapter]:
    """The chapters of `[start_s, end_s)` on a clock that starts there, for one of several files."""
    return [
        replace(c, start_s=max(c.start_s, start_s) - start_s, end_s=min(c.end_s, end_s) - start_s)
        for c in chapters
        if c.end_s > start_s and c.start_s < end_s
    ]


def ffmetadata(tags: Mapping[str, str], chapters: Sequence[Chapter]) -> str:
    """An ffmetadata file for `-map_metadata` and `-map_chapters`; every value is escaped.

    An unescaped newline in a title could open a section of its own.
    """
    lines = [";FFMETADATA1"]
    lines += [f"{_escape(key)}={_escape(value)}" for key, value in tags.items() if value]
    for chapter in chapters:
        start, end = round(chapter.start_s * 1000), round(chapter.end_s * 1000)
        lines += ["[CHAPTER]", "TIMEBASE=1/1000", f"START={start}", f"END={end}"]
        lines.append(f"title={_escape(chapter.label)}")
    return "\n".join(lines) + "\n"


def webvtt(chapters: Sequence[Chapter]) -> str:
    """Chapters as WebVTT for our player (W3C WebVTT §4: `&`, `<` and `>` are escaped)."""
    cues = [
        f"{vtt_time(c.start_s)} --> {vtt_time(c.end_s)}\n{_vtt_text(c.label)}\n" for c in chapters
    ]
    return "\n".join(["WEBVTT\n", *cues])


def vtt_time(seconds: float) -> str:
    """`HH:MM:SS.mmm`."""
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"


async def read_back(path: Path) -> tuple[EmbeddedChapter, ...]:
    """The chapters embedded in a finished file. Raises MediaError."""
    return await probe_chapters(path)


def differences(asked: Sequence[Chapter], found: Sequence[EmbeddedChapter]) -> list[str]:
    """Where a file's chapters differ from those asked for, one line each; 1 ms does not count."""
    if len(asked) != len(found):
        return [f"{len(asked)} chapters asked for, {len(found)} in the file"]
    return [
        f"chapter {number}: asked for {a.label!r} at {a.start_s:.3f} s, found {f.title!r} at "
        f"{f.start_s:.3f} s"
        for number, (a, f) in enumerate(zip(asked, found, strict=True), start=1)
        if a.label != f.title.rstrip() or abs(a.start_s - f.start_s) > 0.0015
    ]


def _merge_equal(chapters: Sequence[Chapter]) -> list[Chapter]:
    merged: list[Chapter] = []
    for chapter in chapters:
        if not merged or merged[-1].label != chapter.label:
            merged.append(chapter)
    return merged


def _drop_short(chapters: list[Chapter], duration_s: float, shortest: float) -> list[Chapter]:
    """Without those that are over too soon; the last of all stays when none is long enough."""
    ends = [c.start_s for c in chapters[1:]] + [duration_s]
    kept = [c for c, end in zip(chapters, ends, strict=True) if end - c.start_s >= shortest]
    return kept or chapters[-1:]


def _close(chapters: Sequence[Chapter], duration_s: float) -> list[Chapter]:
    ends = [c.start_s for c in chapters[1:]] + [duration_s]
    return [replace(c, end_s=end) for c, end in zip(chapters, ends, strict=True)]


def _one_line(text: str) -> str:
    """White space collapsed, control characters gone: a chapter title is one line anywhere."""
    spaced = "".join(" " if unicodedata.category(c) in {"Cc", "Cs", "Zl"} else c for c in text)
    return " ".join(spaced.split())


def _escape(text: str) -> str:
    # The backslash goes first: the ones that the other rules add must stay single.
    for special in ("\\", "=", ";", "#", "\n"):
        text = text.replace(special, f"\\{special}")
    text = text.replace("\r", " ").replace("\0", "").encode(errors="replace").decode()
    # ffmpeg takes a newline after any backslash for an escaped one, an escaped backslash included;
    # the next line, a whole section even, would become part of this value.
    return f"{text} " if text.endswith("\\") else text


def _vtt_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
