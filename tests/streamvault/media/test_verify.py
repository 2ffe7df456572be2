"""A damaged final file must not pass, and the failing check is named with both figures."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from streamvault.errors import VerificationFailed
from streamvault.media.ffmpeg import Ffmpeg
from streamvault.media.remux import (
    RemuxOrder,
    RemuxResult,
    expected_from_json,
    expected_to_json,
    remux,
)
from streamvault.media.verify import Verification, verify
from tests.streamvault.media.media_files import START, Source, flip, part


@pytest.fixture(scope="session")
async def finished(
    ffmpeg: Ffmpeg, source: Source, tmp_path_factory: pytest.TempPathFactory
) -> RemuxResult:
    folder = tmp_path_factory.mktemp("finished")
    first = folder / "part-0001.ts"
    second = folder / "part-0002.ts"
    shutil.copyfile(source(4), first)
    shutil.copyfile(source(4, start_s=77), second)
    parts = [part(first, duration_s=4), part(second, START + 9, duration_s=4)]
    (result,) = await remux(RemuxOrder(parts, folder / "final.mp4"), ffmpeg)
    return result


@pytest.fixture
def copy(finished: RemuxResult, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(finished.path, tmp_path / "copy.mp4"))


def failed(verification: Verification) -> list[str]:
    return [check.name for check in verification.checks if not check.ok]


async def test_a_good_file_passes_again_at_any_time(
    each_ffmpeg: Ffmpeg, finished: RemuxResult
) -> None:
    report = json.loads(json.dumps(expected_to_json(finished.expected)))
    expected = expected_from_json(report)
    assert expected.parts == ()
    assert failed(await verify(finished.path, expected, each_ffmpeg)) == []


async def test_a_hole_that_nobody_knows_of_fails(ffmpeg: Ffmpeg, finished: RemuxResult) -> None:
    unaware = dataclasses.replace(finished.expected, parts=(), holes=None)
    checked = await verify(finished.path, unaware, ffmpeg, full=False)
    assert failed(checked) == ["holes"]
    with pytest.raises(VerificationFailed, match=r"hole of 5\.\d+ s at 3\.\d+ s"):
        checked.raise_if_bad()


async def test_flipped_bytes_are_found_by_the_stream_hash(
    each_ffmpeg: Ffmpeg, finished: RemuxResult, copy: Path
) -> None:
    flip(copy, copy.stat().st_size * 3 // 4)
    checked = await verify(copy, finished.expected, each_ffmpeg)
    assert failed(checked) == ["stream hash"]
    with pytest.raises(VerificationFailed, match=r"stream hash: .* in the file, .* in the parts"):
        checked.raise_if_bad()


async def test_a_file_cut_short_fails_even_the_quick_checks(
    ffmpeg: Ffmpeg, finished: RemuxResult, copy: Path
) -> None:
    os.truncate(copy, copy.stat().st_size - 1000)
    quick = await verify(copy, finished.expected, ffmpeg, full=False)
    assert failed(quick) == ["bytes present"]


async def test_a_file_without_its_index_fails(
    ffmpeg: Ffmpeg, finished: RemuxResult, copy: Path
) -> None:
    os.truncate(copy, 100)
    with pytest.raises(VerificationFailed):
        (await verify(copy, finished.expected, ffmpeg)).raise_if_bad()


async def test_a_file_that_is_no_film_is_not_readable(
    ffmpeg: Ffmpeg, finished: RemuxResult, tmp_path: Path
) -> None:
    other = tmp_path / "x.mp4"
    other.write_bytes(b"no film" * 100)
    assert failed(await verify(other, finished.expected, ffmpeg)) == ["readable"]


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"packets": {"video": 241, "audio": 380}}, "packets"),
        ({"duration_s": 15.0}, "duration"),
        ({"non_monotonic": 1}, "rising timestamps"),
    ],
)
async def test_every_figure_counts(
    ffmpeg: Ffmpeg, finished: RemuxResult, change: dict[str, object], check: str
) -> None:
    expected = dataclasses.replace(finished.expected, **change)  # type: ignore[arg-type]
    assert check in failed(await verify(finished.path, expected, ffmpeg, full=False))
