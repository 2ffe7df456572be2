"""The proof that a file holds its parts, for every habit of start codes: good files pass it,
and a byte that is wrong anywhere in the coded media does not."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

from streamvault.errors import VerificationFailed
from streamvault.media import hash_child
from streamvault.media.ffmpeg import Ffmpeg
from streamvault.media.hash_child import hash_lines
from streamvault.media.probe import probe_parts
from streamvault.media.remux import RemuxOrder, RemuxResult, remux
from streamvault.media.start_codes import HABITS
from streamvault.media.streamhash import PACKETS, SLICES
from streamvault.media.verify import Verification, hash_of, verify
from tests.streamvault.media.media_files import (
    START,
    Source,
    flip,
    part,
    pictures,
    samples,
    script,
    with_start_codes,
)

LONG, SHORT = b"\0\0\0\1", b"\0\0\1"
SETS = {7, 8}
Code = Callable[[int, int, int], bytes]
CODES: dict[str, Code] = {
    "annexb": lambda _, unit, kind: LONG if unit == 0 or kind in SETS else SHORT,
    "annexb-delimited": lambda _, unit, kind: LONG if unit < 2 or kind in SETS else SHORT,
    "annexb-4": lambda *_: LONG,
    "annexb-3": lambda *_: SHORT,
    "annexb-4-first": lambda _, unit, __: LONG if unit == 0 else SHORT,
    SLICES: lambda picture, *_: LONG if picture % 3 else SHORT,
}


@pytest.fixture(scope="session")
def by_habit(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Four seconds with start codes of that habit; `slices` stands for having none."""
    folder = tmp_path_factory.mktemp("habits")

    def make(habit: str) -> Path:
        made = folder / f"{habit}.ts"
        return made if made.exists() else with_start_codes(source(4), made, CODES[habit])

    return make


async def remuxed(parts: list[Path], output: Path, ffmpeg: Ffmpeg) -> RemuxResult:
    """Of parts of two seconds with a hole of one between them, or a single one of four."""
    length_s = 4.0 if len(parts) == 1 else 2.0
    own = [shutil.copy(p, output.with_name(f"part-{n}{p.suffix}")) for n, p in enumerate(parts)]
    files = [part(Path(p), START + 3 * n, length_s) for n, p in enumerate(own)]
    (result,) = await remux(RemuxOrder(files, output), ffmpeg)
    return result


def failed(verification: Verification) -> list[str]:
    return [check.name for check in verification.checks if not check.ok]


@pytest.mark.parametrize("habit", CODES)
async def test_every_habit_of_start_codes_compares_equal(
    each_ffmpeg: Ffmpeg, by_habit: Callable[[str], Path], tmp_path: Path, habit: str
) -> None:
    result = await remuxed([by_habit(habit)], tmp_path / "final.mp4", each_ffmpeg)
    assert result.expected.hash_form == habit
    assert result.verification.stream_hash == result.expected.stream_hash
    assert set(result.expected.stream_hash) == {"video", "audio"}
    assert pictures(result.path) == pictures(by_habit(habit))


@pytest.mark.parametrize(
    ("video", "suffix", "count", "form"),
    [
        ("libx264", ".ts", 2, "annexb-delimited"),
        ("libx264", ".mp4", 1, PACKETS),
        ("libx264", ".mp4", 2, "annexb"),
        ("libx265", ".mp4", 1, PACKETS),
        ("libx265", ".mp4", 2, PACKETS),
        ("libx265", ".ts", 1, SLICES),
        ("libsvtav1", ".mp4", 2, PACKETS),
        (None, ".ts", 1, PACKETS),
        (None, ".ts", 2, PACKETS),
        (None, ".mp4", 2, PACKETS),
    ],
)
async def test_other_parts_take_the_cheapest_form_that_holds(
    each_ffmpeg: Ffmpeg,
    source: Source,
    tmp_path: Path,
    video: str | None,
    suffix: str,
    count: int,
    form: str,
) -> None:
    film = source(4 / count, video=video, suffix=suffix)
    result = await remuxed([film] * count, tmp_path / "final.mp4", each_ffmpeg)
    assert result.expected.hash_form == form
    assert result.verification.stream_hash == result.expected.stream_hash


async def test_parts_of_different_habits_are_compared_by_their_slices(
    ffmpeg: Ffmpeg, source: Source, tmp_path: Path
) -> None:
    one = with_start_codes(source(2), tmp_path / "1.ts", CODES["annexb-4"])
    two = with_start_codes(source(2), tmp_path / "2.ts", CODES["annexb-3"])
    result = await remuxed([one, two], tmp_path / "final.mp4", ffmpeg)
    assert result.expected.hash_form == SLICES


@pytest.fixture
def changing(source: Source, tmp_path: Path) -> Path:
    """After more pictures than a sample holds, the start codes are shorter."""
    return with_start_codes(
        source(4), tmp_path / "changing.ts", lambda n, *_: LONG if n < 110 else SHORT
    )


async def test_a_habit_that_changes_later_does_not_fail_a_good_file(
    each_ffmpeg: Ffmpeg, changing: Path, tmp_path: Path
) -> None:
    (seen_at_first,) = await probe_parts([changing])
    assert seen_at_first.video
    assert seen_at_first.video.framing == "annexb-4"
    result = await remuxed([changing], tmp_path / "final.mp4", each_ffmpeg)
    assert result.expected.hash_form == SLICES
    assert result.verification.stream_hash == result.expected.stream_hash
    assert pictures(result.path) == pictures(changing)
    again = await verify(result.path, result.expected, each_ffmpeg)
    assert failed(again) == []


@pytest.mark.parametrize("habit", ["annexb-delimited", SLICES, "changing"])
async def test_a_byte_that_the_disk_gets_wrong_leaves_no_file_behind(
    each_ffmpeg: Ffmpeg,
    by_habit: Callable[[str], Path],
    changing: Path,
    tmp_path: Path,
    habit: str,
) -> None:
    wrong = (
        "import pathlib, sys; file = pathlib.Path(sys.argv[1]); data = bytearray(file.read_bytes())"
        "; data[len(data) * 3 // 4] ^= 16; file.write_bytes(data)"
    )
    broken = script(
        tmp_path / "ffmpeg",
        f'{each_ffmpeg.path} "$@" || exit\nfor a in "$@"; do case "$a" in file:*.part-1.mp4)\n'
        f"case \"$*\" in *moov_size*) '{sys.executable}' -c '{wrong}' \"${{a#file:}}\";; esac;;\n"
        "esac; done\n",
    )
    film = changing if habit == "changing" else by_habit(habit)
    output = tmp_path / "library" / "final.mp4"
    output.parent.mkdir()
    with pytest.raises(VerificationFailed, match=r"^stream hash: of "):
        await remuxed([film], output, Ffmpeg(broken, "7.0"))
    assert list(output.parent.glob("*.mp4")) == []


@pytest.mark.parametrize("habit", HABITS)
async def test_a_wrong_byte_in_any_sample_is_found(
    ffmpeg: Ffmpeg, by_habit: Callable[[str], Path], tmp_path: Path, habit: str
) -> None:
    result = await remuxed([by_habit(habit)], tmp_path / "final.mp4", ffmpeg)
    good = hash_lines(result.path, HABITS[habit])
    places = samples(result.path)
    assert len(places["video"]) > 100
    assert len(places["audio"]) > 150
    for number, (at, size) in enumerate(chain(*places.values())):
        # The last byte, and others all over the sample; the lengths of units are among them.
        for offset in (size - 1, number * 7919 % size):
            flip(result.path, at + offset)
            assert _hash_or_refusal(result.path, habit) != good, (at, offset)
            flip(result.path, at + offset)
    assert hash_lines(result.path, HABITS[habit]) == good


def _hash_or_refusal(path: Path, habit: str) -> bytes | None:
    try:
        return hash_lines(path, HABITS[habit])
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("video", "suffix"),
    [("libx265", ".mp4"), ("libsvtav1", ".mp4"), ("libx265", ".ts"), (None, ".ts")],
)
async def test_a_wrong_byte_is_found_in_other_codecs_too(
    each_ffmpeg: Ffmpeg, source: Source, tmp_path: Path, video: str | None, suffix: str
) -> None:
    film = source(2, video=video, suffix=suffix)
    result = await remuxed([film] * 2, tmp_path / "final.mp4", each_ffmpeg)
    for kind, places in samples(result.path).items():
        at, size = places[len(places) // 2]
        flip(result.path, at + size - 1)
        checked = await verify(result.path, result.expected, each_ffmpeg)
        assert failed(checked) == ["stream hash"], kind
        flip(result.path, at + size - 1)
    assert failed(await verify(result.path, result.expected, each_ffmpeg)) == []


async def test_a_long_check_tells_how_far_it_is(
    ffmpeg: Ffmpeg,
    by_habit: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = await remuxed([by_habit("annexb")], tmp_path / "final.mp4", ffmpeg)
    monkeypatch.setattr(hash_child, "REPORT_S", 0.0)
    hash_lines(result.path, HABITS["annexb"])
    told = [line.partition("=") for line in capsys.readouterr().out.splitlines()]
    assert {name for name, *_ in told} == {"out_time_us"}
    assert int(told[-1][2]) / 1e6 == pytest.approx(4, abs=0.1)


async def test_lengths_that_make_no_sense_are_told_as_the_reason(
    ffmpeg: Ffmpeg, by_habit: Callable[[str], Path], tmp_path: Path
) -> None:
    result = await remuxed([by_habit("annexb")], tmp_path / "final.mp4", ffmpeg)
    flip(result.path, samples(result.path)["video"][50][0])
    found = await hash_of(result.path, result.expected.codecs, "annexb", ffmpeg)
    assert list(found) == ["error"]
    assert "lengths of NAL units" in found["error"]
