"""A remux that is killed at any moment costs nothing but time."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamvault.media.ffmpeg import Ffmpeg
from streamvault.media.remux import RemuxOrder, remux
from tests.streamvault.media.media_files import START, Source, packets, part, pictures

TIMES = 10
PARTS = 3
SECONDS = 4
REPO = Path(__file__).parents[3]
ONE = """
import asyncio, sys
from pathlib import Path
from streamvault.media.ffmpeg import find_ffmpeg
from streamvault.media.remux import PartFile, RemuxOrder, remux
folder, output = Path(sys.argv[1]), Path(sys.argv[2])
parts = [
    PartFile(path, {start} + n * {seconds}, {seconds}, size_bytes=path.stat().st_size)
    for n, path in enumerate(sorted(folder.glob("part-*.ts")))
]
asyncio.run(remux(RemuxOrder(parts, output), find_ffmpeg(None)))
"""


@pytest.fixture
def parts(tmp_path: Path, source: Source) -> list[Path]:
    folder = tmp_path / "work"
    folder.mkdir()
    whole = source(SECONDS)
    return [Path(shutil.copy(whole, folder / f"part-000{n}.ts")) for n in range(1, PARTS + 1)]


def begin(folder: Path, output: Path) -> subprocess.Popen[bytes]:
    """In a group of its own, as a worker is."""
    code = ONE.format(start=START, seconds=SECONDS)
    command = [sys.executable, "-c", code, str(folder), str(output)]
    return subprocess.Popen(command, cwd=REPO, start_new_session=True)


async def test_killed_at_ten_random_moments_it_loses_nothing_and_shows_nothing_half(
    parts: list[Path], tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    output = tmp_path / "library" / "Alice.mp4"
    before = [path.read_bytes() for path in parts]
    # How long one takes here, start of Python included.
    began = time.monotonic()
    assert begin(parts[0].parent, tmp_path / "measured" / "x.mp4").wait(60) == 0
    whole_s = time.monotonic() - began
    for receipt in parts[0].parent.glob("remux-*.json"):
        receipt.unlink()
    chance = random.Random(10)
    killed = 0
    for _ in range(10 * TIMES):
        running = begin(parts[0].parent, output)
        await asyncio.sleep(chance.uniform(0.2, 1.0) * whole_s)
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            killed += 1
        running.wait(10)
        assert [path.read_bytes() for path in parts] == before
        # Either nothing has the name, or the whole file does.
        if output.exists():
            assert pictures(output) == pictures(*parts)
            output.unlink()
        if killed == TIMES:
            break
    assert killed == TIMES
    order = [part(path, START + n * SECONDS, SECONDS) for n, path in enumerate(parts)]
    await remux(RemuxOrder(order, output), ffmpeg)
    assert pictures(output) == [picture for path in parts for picture in pictures(path)]
    assert packets(output) == packets(*parts)
    assert [path.name for path in output.parent.iterdir()] == [output.name]
