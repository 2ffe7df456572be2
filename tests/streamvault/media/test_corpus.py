"""The whole corpus through the remux: every packet at its time, every picture, every chapter."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import av
import pytest
from playwright.async_api import Page, async_playwright
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from streamvault.media.chapters import Chapter
from streamvault.media.ffmpeg import Ffmpeg
from streamvault.media.remux import RemuxOrder, remux
from tests.api.serving import served
from tests.streamvault.media.corpus import SAMPLES, Bench, Laid, Sample, packet_times
from tests.streamvault.media.media_files import Source, pictures

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"]
QUIET += ["--autoplay-policy=no-user-gesture-required"]
# Where a part begins is known to the length of a frame of sound.
PLACED_S = 0.15
# Matroska counts milliseconds.
IN_STEP_S = 0.004
LONG = "28 hours"
SHORT = [name for name in SAMPLES if name != LONG]


@pytest.fixture
def bench(source: Source, tmp_path: Path) -> Bench:
    folder = tmp_path / "work"
    folder.mkdir()
    return Bench(source, folder)


@pytest.mark.parametrize(
    ("each_ffmpeg", "ending", "holes"),
    [
        ("system", ".mp4", "kept"),
        ("wheel", ".mp4", "kept"),
        ("system", ".mkv", "kept"),
        ("system", ".mp4", "closed"),
    ],
    indirect=["each_ffmpeg"],
)
@pytest.mark.parametrize("name", SHORT)
async def test_everything_that_came_is_there_at_its_time(
    each_ffmpeg: Ffmpeg, bench: Bench, tmp_path: Path, name: str, holes: str, ending: str
) -> None:
    sample = SAMPLES[name]
    sample.lay(bench)
    kept = holes == "kept"
    results = await remux(order_of(bench.laid, tmp_path / f"final{ending}", kept=kept), each_ffmpeg)
    wanted = by_file(sample, bench.laid, kept=kept)
    number = 0
    for result, laid in zip(results, wanted, strict=True):
        assert result.verification.ok
        starts = shows_it_all(result.path, laid, kept=kept)
        shown = [picture for one in laid for picture in pictures_of(one.path)]
        assert alike(pictures_of(result.path), shown, sample.torn)
        # Its chapter begins with the first picture of each part.
        titles = [f"from part {number + n}" for n in range(len(laid))]
        told = chapters_in(result.path)
        assert [title for title, _ in told] == titles
        assert [at for _, at in told] == pytest.approx(starts, abs=0.07)
        number += len(laid)


def alike(one: list[str], other: list[str], torn: int) -> bool:
    """A decoder may make something else of a torn picture, when another one follows it."""
    return len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) <= torn


async def test_28_hours_are_there_to_the_last_packet(
    ffmpeg: Ffmpeg, bench: Bench, tmp_path: Path
) -> None:
    SAMPLES[LONG].lay(bench)
    (result,) = await remux(order_of(bench.laid, tmp_path / "final.mp4"), ffmpeg)
    assert result.verification.ok
    assert result.duration_s == pytest.approx(28 * 3600, abs=10)
    shows_it_all(result.path, bench.laid, kept=True)
    if CHROMIUM:
        async with player(tmp_path) as page:
            at_s = [1.0, 12 * 3600 + 5, 26.6 * 3600, 28 * 3600 - 30]
            assert await page.evaluate(SEEK, ["final.mp4", at_s]) == pytest.approx(at_s, abs=1.5)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
async def test_a_browser_plays_the_whole_corpus_to_its_end(
    ffmpeg: Ffmpeg, source: Source, tmp_path: Path
) -> None:
    async with player(tmp_path) as page:
        for number, name in enumerate(SHORT):
            sample = SAMPLES[name]
            folder = tmp_path / str(number)
            folder.mkdir()
            bench = Bench(source, folder)
            sample.lay(bench)
            for result in await remux(order_of(bench.laid, folder / "final.mp4"), ffmpeg):
                address = str(result.path.relative_to(tmp_path))
                told = await page.evaluate(PLAY, address)
                if not sample.browser:
                    continue
                assert told["error"] is None, (name, told)
                assert told["duration"] == pytest.approx(result.duration_s, abs=0.3), name
                assert told["at"] == pytest.approx(told["duration"], abs=0.3), name
                size = result.video.rpartition(" ")[2] or "0x0"
                assert f"{told['width']}x{told['height']}" == size, name


# ---- truth


def order_of(laid: Sequence[Laid], output: Path, *, kept: bool = True) -> RemuxOrder:
    """With one chapter for each part."""
    starts = [place_of(laid, one, kept=kept) for one in laid]
    ends = [*starts[1:], starts[-1] + laid[-1].duration_s + laid[-1].gap_s]
    chapters = [
        Chapter(start, end, f"from part {number}")
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]
    parts = [one.part(start) for one, start in zip(laid, starts, strict=True)]
    return RemuxOrder(parts, output, chapters, keep_holes=kept)


def place_of(laid: Sequence[Laid], wanted: Laid, *, kept: bool) -> float:
    """On the clock of a recording whose holes between parts are kept, or closed."""
    if kept:
        return wanted.at_s
    return sum(one.duration_s + one.gap_s for one in laid if one.at_s < wanted.at_s)


def by_file(sample: Sample, laid: Sequence[Laid], *, kept: bool) -> list[Sequence[Laid]]:
    sizes = sample.files if kept else sample.files_closed
    ends = [*itertools.accumulate(sizes)] or [len(laid)]
    return [laid[start:end] for start, end in itertools.pairwise([0, *ends])]


def shows_it_all(path: Path, laid: Sequence[Laid], *, kept: bool) -> list[float]:
    """Where each part begins in it."""
    found = packet_times(path)
    starts = []
    for one in laid:
        came = packet_times(one.path)
        first = min(times[0] for times in came.values())
        begins = place_of(laid, one, kept=kept) - (laid[0].at_s if kept else 0.0)
        off = [
            seen - (begins + time - first)
            for kind, times in came.items()
            for time, seen in zip(times, found[kind][: len(times)], strict=True)
        ]
        # Picture and sound are as far apart as they came, from the first to the last packet.
        assert max(off) - min(off) < IN_STEP_S
        assert abs(off[0]) < PLACED_S
        starts.append(begins + off[0])
        found = {kind: times[len(came.get(kind, ())) :] for kind, times in found.items()}
    assert not any(found.values())
    return starts


def pictures_of(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        if not container.streams.video:
            return []
    return pictures(path)


def chapters_in(path: Path) -> list[tuple[str, float]]:
    with av.open(str(path)) as container:
        return [
            (c["metadata"]["title"], float(c["start"] * c["time_base"]))
            for c in container.chapters()
        ]


# ---- a player

PLAY = """
async address => {
    const video = document.createElement('video');
    video.muted = true;
    const any = (...names) => Promise.race(
        names.map(name => new Promise(done => video.addEventListener(name, done))));
    const over = any('ended', 'error');
    video.src = '/' + address;
    document.body.append(video);
    await any('loadedmetadata', 'error');
    // Of what is mostly hole, its end will do.
    if (video.duration > 60) video.currentTime = video.duration - 2;
    video.playbackRate = 16;
    video.play().catch(() => {});
    await over;
    const told = {
        error: video.error && video.error.message, duration: video.duration,
        at: video.currentTime, width: video.videoWidth, height: video.videoHeight,
    };
    video.remove();
    return told;
}
"""
SEEK = """
async ([address, places]) => {
    const video = document.createElement('video');
    video.muted = true;
    video.src = '/' + address;
    document.body.append(video);
    await new Promise(done => video.onloadedmetadata = done);
    const seen = [];
    for (const place of places) {
        const shown = new Promise(
            done => video.requestVideoFrameCallback((_, frame) => done(frame)));
        video.currentTime = place;
        seen.push((await shown).mediaTime);
    }
    return seen;
}
"""


@asynccontextmanager
async def player(folder: Path) -> AsyncIterator[Page]:
    """A page of a server that has this folder's files, ranges included."""
    (folder / "index.html").write_text("<!doctype html><title>player</title>")
    app = Starlette(routes=[Mount("/", StaticFiles(directory=folder, html=True))])
    async with served(app) as address, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = await browser.new_page()
        await page.goto(address)
        yield page
        await browser.close()
