"""`kill -9` at random moments: the parts still are the source's segments, each once."""

from __future__ import annotations

import asyncio
import random
import sys
import zlib
from pathlib import Path

import pytest

from streamvault.hls.records import Ended, Resumed
from tests.streamvault.hls.hls_origin import Channel, Origin
from tests.streamvault.hls.recording import gaps, part_bytes, records, until

KILLS = 6


async def start(
    tmp_path: Path, origin: Origin, *, directory: Path | None = None, fence: int = 0
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.streamvault.hls.recorder_process",
        str(tmp_path / "state"),
        str(directory or tmp_path / "r1"),
        f"http://127.0.0.1:{origin.port}/c",
        str(fence),
        cwd=Path(__file__).parents[3],
    )


async def publish_for_ever(channel: Channel) -> None:
    while True:
        channel.publish(packets=1500)  # 282 kB: two chunks
        await asyncio.sleep(0.2)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("part-*"))


@pytest.mark.parametrize("with_dates", [True, False])
async def test_killed_at_random_the_parts_are_the_source_byte_for_byte(
    tmp_path: Path, origin: Origin, with_dates: bool
) -> None:
    channel = origin.channel("c", window=100, with_dates=with_dates)
    channel.trickle_s = 0.1  # so that tails tear
    channel.shifts = Shifts()
    publisher = asyncio.create_task(publish_for_ever(channel))
    chance = random.Random(7)
    process = await start(tmp_path, origin)
    try:
        for _ in range(KILLS):
            before = size_of(tmp_path / "r1")
            await until(lambda size=before: size_of(tmp_path / "r1") > size)
            await asyncio.sleep(chance.uniform(0, 0.6))
            process.kill()
            await process.wait()
            process = await start(tmp_path, origin)
        await until(lambda: size_of(tmp_path / "r1") > before)
    finally:
        publisher.cancel()
        channel.ended = True
        try:
            await asyncio.wait_for(process.wait(), 30)
        finally:
            if process.returncode is None:
                process.kill()
    assert b"".join(part_bytes(tmp_path / "r1")) == b"".join(channel.bodies())
    assert gaps(tmp_path / "r1") == []
    history = records(tmp_path / "r1")
    assert isinstance(history[-1], Ended)
    assert sum(isinstance(r, Resumed) for r in history) >= KILLS - 1
    assert list((tmp_path / "state").iterdir()) == []


class Shifts(dict[str, int]):
    """Each session counts its segments from somewhere else."""

    def __missing__(self, session: str) -> int:
        return zlib.crc32(session.encode()) % 10_000

    def get(self, session: str, default: int = 0) -> int:  # type: ignore[override]  # a test's dict
        return self[session]
