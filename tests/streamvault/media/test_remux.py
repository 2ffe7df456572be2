"""The final file against the parts: packets counted, pictures compared after decoding."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
from itertools import pairwise
from pathlib import Path

import av
import pytest

from streamvault.errors import MediaError, RemuxFailed, StorageFull, VerificationFailed
from streamvault.media import remux_plan
from streamvault.media.chapters import Chapter
from streamvault.media.ffmpeg import Ffmpeg
from streamvault.media.probe import probe_output
from streamvault.media.remux import RemuxOrder, RemuxProgress, remux
from tests.streamvault.media.media_files import (
    AUDIO_HZ,
    FPS,
    START,
    Source,
    is_gone,
    packets,
    part,
    pictures,
    script,
    times,
    until,
    without_packets,
)

HOSTILE = "= ; # \\ \n[CHAPTER]\nSTART=0\ntitle=\u202e owned 🎮"


@pytest.fixture
def mp4(tmp_path: Path) -> Path:
    return tmp_path / "library" / "Season 2026" / "who's - S2026E010101 - %d & 🎮.mp4"


@pytest.fixture(params=[".mp4", ".mkv"])
def output(mp4: Path, request: pytest.FixtureRequest) -> Path:
    return mp4.with_suffix(request.param)


@pytest.fixture
def parts_dir(tmp_path: Path) -> Path:
    """A name that shells, ffconcat and image patterns would each trip over."""
    path = tmp_path / "it's %d; rm -rf" / ".streamvault"
    path.mkdir(parents=True)
    return path


def lay(directory: Path, *sources: Path) -> list[Path]:
    names = [directory / f"part-{n:04}{s.suffix}" for n, s in enumerate(sources, start=1)]
    for source, name in zip(sources, names, strict=True):
        shutil.copyfile(source, name)
    return names


async def test_two_seconds_end_as_a_file_with_the_same_pictures(
    each_ffmpeg: Ffmpeg, source: Source, parts_dir: Path, output: Path
) -> None:
    (one,) = lay(parts_dir, source(2))
    (result,) = await remux(RemuxOrder([part(one)], output), each_ffmpeg)
    assert pictures(output) == pictures(one)
    assert len(pictures(output)) == 2 * FPS
    assert packets(output) == packets(one)
    assert result.verification.ok
    assert (result.size_bytes, result.video) == (output.stat().st_size, "h264 160x90")


async def test_sound_that_ends_early_in_the_source_is_no_fault_of_the_file(
    ffmpeg: Ffmpeg, source: Source, parts_dir: Path, output: Path
) -> None:
    one = without_packets(source(8), parts_dir / "part-0001.ts", "audio", 3, 99)
    (result,) = await remux(RemuxOrder([part(one, duration_s=8)], output), ffmpeg)
    holes = next(c for c in result.verification.checks if c.name == "holes")
    # 5 s without sound; the last frames of it reach over the cut.
    assert holes.ok
    assert "streams end 4.9" in holes.detail or "streams end 5.0" in holes.detail


async def test_sound_alone_becomes_a_file_too(
    each_ffmpeg: Ffmpeg, source: Source, parts_dir: Path, output: Path, cover: Path
) -> None:
    (one,) = lay(parts_dir, source(2, video=None))
    (result,) = await remux(RemuxOrder([part(one)], output, cover=cover), each_ffmpeg)
    facts = await probe_output(output)
    assert facts.streams["audio"].packets == packets(one)["audio"]
    assert facts.cover_bytes == cover.stat().st_size
    assert facts.index_first is (True if output.suffix == ".mp4" else None)
    assert (result.video, result.audio) == ("", "aac 48000 Hz, 1 channels")


@pytest.mark.parametrize("seconds", [2, 2.5, 3.1])
async def test_sound_alone_goes_on_from_part_to_part(
    each_ffmpeg: Ffmpeg, source: Source, parts_dir: Path, output: Path, seconds: float
) -> None:
    """Half a second of sound shares one packet of a .ts, and libav does not count the last one."""
    files = lay(parts_dir, *(source(seconds, video=None, start_s=at) for at in (0, 50, 7)))
    parts = [part(f, START + n * seconds, seconds) for n, f in enumerate(files)]
    (result,) = await remux(RemuxOrder(parts, output), each_ffmpeg)
    assert packets(output) == packets(*files)
    heard = times(output, "audio")
    frame_s = 1024 / AUDIO_HZ
    assert [b - a for a, b in pairwise(heard)] == pytest.approx(
        [frame_s] * (len(heard) - 1), abs=0.001
    )
    assert result.verification.ok


@pytest.mark.parametrize(
    ("codec", "suffix", "tag"),
    [
        ("libx265", ".mp4", "hvc1"),
        ("libx265", ".ts", "hvc1"),
        ("libsvtav1", ".mp4", "av01"),
        ("libx264", ".mp4", "avc1"),
    ],
)
async def test_other_codecs_and_fragmented_parts_compare_equal(
    each_ffmpeg: Ffmpeg,
    source: Source,
    parts_dir: Path,
    output: Path,
    codec: str,
    suffix: str,
    tag: str,
) -> None:
    first, second = lay(parts_dir, *[source(2, video=codec, suffix=suffix)] * 2)
    order = RemuxOrder([part(first), part(second, START + 7)], output)
    (result,) = await remux(order, each_ffmpeg)
    assert packets(output) == packets(first, second)
    assert pictures(output) == pictures(first) * 2
    with av.open(str(output)) as container:
        found = container.streams.video[0].codec_context.codec_tag
        assert output.suffix == ".mkv" or found == tag
    assert result.verification.stream_hash == result.expected.stream_hash


async def test_a_change_of_resolution_begins_a_second_file_with_its_own_chapters(
    ffmpeg: Ffmpeg, source: Source, parts_dir: Path, output: Path
) -> None:
    first, second, third = lay(
        parts_dir, source(2), source(2, size="128x72"), source(2, size="128x72", start_s=9)
    )
    order = RemuxOrder(
        [part(first), part(second, START + 10), part(third, START + 12)],
        output,
        chapters=[Chapter(0, 11, "one"), Chapter(11, 14, "two")],
    )
    one, two = await remux(order, ffmpeg)
    assert two.path.name == f"{output.stem} - part 2{output.suffix}"
    assert packets(one.path) == packets(first)
    assert packets(two.path) == packets(second, third)
    found = (await probe_output(two.path)).chapters
    assert [(c.start_s, c.title) for c in found] == [(0, "one"), (pytest.approx(1), "two")]


async def test_hostile_titles_come_back_as_they_were(
    each_ffmpeg: Ffmpeg, source: Source, parts_dir: Path, output: Path, cover: Path
) -> None:
    (one,) = lay(parts_dir, source(2))
    chapters = [Chapter(0, 1, HOSTILE), Chapter(1, 2, "ü" * 140, "= ; # \\")]
    tags = {"title": HOSTILE, "artist": "a=b;c#d\\"}
    order = RemuxOrder([part(one)], output, chapters=chapters, tags=tags, cover=cover)
    await remux(order, each_ffmpeg)
    facts = await probe_output(output)
    # Matroska writes the names of its tags in capitals.
    found = {key.lower(): value.rstrip() for key, value in facts.tags.items()}
    assert {key: found[key] for key in tags} == tags
    # A chapter's title is one line anywhere; the rest of it is untouched.
    assert [c.title for c in facts.chapters] == [
        "= ; # \\ [CHAPTER] START=0 title=\u202e owned 🎮",
        f"{'ü' * 140} (= ; # \\)",
    ]
    assert [c.start_s for c in facts.chapters] == [0, pytest.approx(1)]
    assert facts.index_first is not False
    assert facts.cover_bytes == cover.stat().st_size


async def test_too_little_room_for_the_index_costs_a_second_pass_only(
    each_ffmpeg: Ffmpeg,
    source: Source,
    parts_dir: Path,
    mp4: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("INDEX_BYTES_SPARE", "INDEX_BYTES_PER_S", "INDEX_BYTES_PER_PACKET"):
        monkeypatch.setattr(remux_plan, name, 64 if "SPARE" in name else 0)
    (one,) = lay(parts_dir, source(2))
    (result,) = await remux(RemuxOrder([part(one)], mp4), each_ffmpeg)
    assert result.passes == 2
    assert pictures(mp4) == pictures(one)
    assert (await probe_output(mp4)).index_first


async def test_the_third_attempt_tries_other_options(
    each_ffmpeg: Ffmpeg, source: Source, parts_dir: Path, mp4: Path
) -> None:
    (one,) = lay(parts_dir, source(2))
    (result,) = await remux(RemuxOrder([part(one)], mp4, attempt=3), each_ffmpeg)
    assert "+faststart" in result.command
    assert pictures(mp4) == pictures(one)


async def test_the_same_order_again_changes_nothing(
    ffmpeg: Ffmpeg, source: Source, parts_dir: Path, mp4: Path
) -> None:
    (one,) = lay(parts_dir, source(2))
    order = RemuxOrder([part(one)], mp4, chapters=[Chapter(0, 2, "x")])
    (first,) = await remux(order, ffmpeg)
    before = mp4.stat()
    (again,) = await remux(order, ffmpeg)
    assert (again.reused, mp4.stat().st_ino) == (True, before.st_ino)
    assert again.verification == first.verification
    assert again.expected == dataclasses.replace(first.expected, parts=())
    mp4.unlink()
    assert not (await remux(order, ffmpeg))[0].reused
    assert pictures(mp4) == pictures(one)


async def test_a_file_of_somebody_else_is_never_overwritten(
    ffmpeg: Ffmpeg, source: Source, parts_dir: Path, mp4: Path
) -> None:
    """As after the database was lost: the day's first stream is counted from one again."""
    mp4.parent.mkdir(parents=True)
    mp4.write_bytes(b"of another recording")
    (one,) = lay(parts_dir, source(2))
    order = RemuxOrder([part(one)], mp4)
    (first,) = await remux(order, ffmpeg)
    assert first.path == mp4.with_stem(f"{mp4.stem} (2)")
    assert mp4.read_bytes() == b"of another recording"
    # And again it is the same file, not a third one.
    (again,) = await remux(order, ffmpeg)
    assert (again.reused, again.path) == (True, first.path)
    first.path.unlink()
    assert (await remux(order, ffmpeg))[0].path == first.path
    assert len(list(mp4.parent.iterdir())) == 2


async def test_progress_rises_to_a_hundred_and_stale_files_go(
    ffmpeg: Ffmpeg, source: Source, parts_dir: Path, mp4: Path
) -> None:
    (one,) = lay(parts_dir, source(2))
    mp4.parent.mkdir(parents=True)
    stale = mp4.with_name(f".{mp4.stem}.part-1.mp4")
    stale.write_bytes(b"half a file")
    seen: list[RemuxProgress] = []
    await remux(RemuxOrder([part(one)], mp4, attempt=2), ffmpeg, seen.append)
    shares = [p.percent for p in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 100
    assert [p.name for p in mp4.parent.iterdir()] == [mp4.name]


async def test_a_part_that_is_a_playlist_is_refused(
    ffmpeg: Ffmpeg, tmp_path: Path, parts_dir: Path, mp4: Path, source: Source
) -> None:
    secret = source(2)
    trap = parts_dir / "part-0001.ts"
    trap.write_text(f"ffconcat version 1.0\nfile '{secret}'\n")
    with pytest.raises(MediaError):
        await remux(RemuxOrder([part(trap)], mp4), ffmpeg)
    assert not mp4.exists()


async def test_missing_bytes_are_noticed_before_anything_is_made(
    ffmpeg: Ffmpeg, source: Source, parts_dir: Path, mp4: Path
) -> None:
    (one,) = lay(parts_dir, source(2))
    known = part(one)
    os.truncate(one, known.size_bytes - 188)
    with pytest.raises(RemuxFailed, match=r"part-0001\.ts has \d+ of \d+ bytes"):
        await remux(RemuxOrder([known], mp4), ffmpeg)


async def test_a_full_disk_is_named_with_its_figures(
    ffmpeg: Ffmpeg, source: Source, parts_dir: Path, mp4: Path
) -> None:
    (one,) = lay(parts_dir, source(2))
    terabytes = 8 * 10**12
    os.truncate(one, terabytes)  # sparse: takes no room itself
    if shutil.disk_usage(parts_dir).free > terabytes:
        pytest.skip("this disk has room for eight terabytes")
    with pytest.raises(StorageFull, match=r"GB free .* needs 8160\.\d+ GB"):
        await remux(RemuxOrder([part(one)], mp4), ffmpeg)


async def test_a_disk_that_fills_up_meanwhile_is_named_too(
    ffmpeg: Ffmpeg, source: Source, parts_dir: Path, mp4: Path, tmp_path: Path
) -> None:
    body = 'echo "[error] av_interleaved_write_frame(): No space left on device" >&2; exit 228\n'
    full = Ffmpeg(script(tmp_path / "ffmpeg", body), "7.0")
    (one,) = lay(parts_dir, source(2))
    with pytest.raises(StorageFull):
        await remux(RemuxOrder([part(one)], mp4), full)
    assert list(mp4.parent.iterdir()) == []


async def test_cancelling_leaves_neither_process_nor_file(
    source: Source, parts_dir: Path, mp4: Path, tmp_path: Path
) -> None:
    (one,) = lay(parts_dir, source(2))
    pid_file = tmp_path / "pid"
    temporary = mp4.with_name(f".{mp4.stem}.part-1.mp4")
    # Every argument that names an .mp4 is written to, as a real one would.
    body = (
        'for a in "$@"; do case "$a" in file:*.mp4) echo half > "${a#file:}";; esac; done\n'
        f"echo $$ > {pid_file}; exec sleep 600\n"
    )
    hanging = Ffmpeg(script(tmp_path / "ffmpeg", body), "7.0")
    task = asyncio.create_task(remux(RemuxOrder([part(one)], mp4), hanging))
    await until(lambda: pid_file.exists() and pid_file.read_text().strip())
    assert temporary.exists()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(mp4.parent.iterdir()) == []
    await until(lambda: is_gone(int(pid_file.read_text())))


async def test_a_part_without_picture_and_sound_is_named(
    ffmpeg: Ffmpeg, parts_dir: Path, mp4: Path
) -> None:
    empty = parts_dir / "part-0001.ts"
    empty.write_bytes((b"\x47\x1f\xff\x10" + b"\xff" * 184) * 500)  # null packets
    with pytest.raises(MediaError, match=r"part-0001\.ts|probe_child"):
        await remux(RemuxOrder([part(empty)], mp4), ffmpeg)


async def test_fragmented_parts_follow_each_other_without_a_hole(
    each_ffmpeg: Ffmpeg, source: Source, parts_dir: Path, output: Path
) -> None:
    film = source(2, video="libx265", suffix=".mp4")
    parts = lay(parts_dir, film, film, film)
    order = RemuxOrder([part(p, START + 2 * n) for n, p in enumerate(parts)], output)
    await remux(order, each_ffmpeg)
    assert packets(output) == packets(*parts)
    assert times(output, "video")[-1] == pytest.approx(6, abs=0.2)


@pytest.mark.parametrize("number", ["SEGV", "KILL"])
async def test_an_ffmpeg_that_crashes_leaves_the_parts_and_no_file(
    source: Source, parts_dir: Path, mp4: Path, tmp_path: Path, number: str
) -> None:
    crashing = Ffmpeg(script(tmp_path / "ffmpeg", f"kill -{number} $$\n"), "7.0")
    (one,) = lay(parts_dir, source(2))
    before = one.read_bytes()
    with pytest.raises(RemuxFailed, match=f"killed by SIG{number}"):
        await remux(RemuxOrder([part(one)], mp4), crashing)
    assert one.read_bytes() == before
    assert list(mp4.parent.iterdir()) == []


async def test_a_short_file_with_a_good_exit_status_gets_no_name(
    ffmpeg: Ffmpeg, source: Source, parts_dir: Path, mp4: Path, tmp_path: Path
) -> None:
    """SIGTERM makes a real ffmpeg leave a valid-looking, short file; here it even exits with 0."""
    short = script(tmp_path / "ffmpeg", f'exec {ffmpeg.path} -t 1 "$@"\n')
    (one,) = lay(parts_dir, source(4))
    with pytest.raises(VerificationFailed, match="packets"):
        await remux(RemuxOrder([part(one, duration_s=4)], mp4), Ffmpeg(short, "7.0"))
    assert list(mp4.parent.iterdir()) == []


async def test_a_jump_back_inside_a_part_is_not_accepted(
    ffmpeg: Ffmpeg, source: Source, parts_dir: Path, output: Path
) -> None:
    (one,) = lay(parts_dir, source(4))
    one.write_bytes(source(4).read_bytes() * 2)
    with pytest.raises(VerificationFailed):
        await remux(RemuxOrder([part(one, duration_s=8)], output), ffmpeg)
    assert not output.exists()
