"""The media themselves: nothing jumps where the pool starts over."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import pytest

from tests.fake_twitch import mpegts
from tests.fake_twitch.client import shared_media_dir
from tests.fake_twitch.frames import expected_numbers, frame_numbers, is_ad
from tests.fake_twitch.media import POOL_S, Pool, Pools, find_ffmpeg

AROUND_THE_WRAP = range(POOL_S - 2, POOL_S + 3)


@pytest.fixture(scope="module")
def pools() -> Pools:
    return Pools(shared_media_dir(), find_ffmpeg())


def write(pool: Pool, target: Path, ticks: int = 0) -> Path:
    parts = [pool.segment(unit, 1, ticks, f"test {unit}") for unit in AROUND_THE_WRAP]
    target.write_bytes(pool.init + b"".join(parts))
    return target


def packet_times(video: Path, kind: str) -> list[int]:
    with av.open(str(video)) as container:
        stream = getattr(container.streams, kind)[0]
        times = [packet.dts for packet in container.demux(stream) if packet.dts is not None]
        return [round(time * stream.time_base * 90_000) for time in times]


@pytest.mark.parametrize("profile", ["180p", "180p-fmp4"])
def test_times_and_burned_numbers_go_on_where_the_pool_starts_over(
    pools: Pools, tmp_path: Path, profile: str
) -> None:
    video = write(pools[profile], tmp_path / "wrap")
    frames = packet_times(video, "video")
    assert len(frames) == 5 * 30
    assert {after - before for before, after in pairwise(frames)} == {3000}
    audio = packet_times(video, "audio")
    # 1,024 samples at 48 kHz are 1,920 ticks.
    assert {after - before for before, after in pairwise(audio)} == {1920}
    first = pools[profile].frame_number(AROUND_THE_WRAP[0])
    assert frame_numbers(video) == expected_numbers(first, 5 * 30)


def test_continuity_counters_go_on_where_the_pool_starts_over(pools: Pools) -> None:
    joined = b"".join(pools["180p"].unit(unit, 0) for unit in AROUND_THE_WRAP)
    last: dict[int, int] = {}
    for at in range(0, len(joined), mpegts.PACKET):
        pid = (joined[at + 1] & 0x1F) << 8 | joined[at + 2]
        assert joined[at] == 0x47
        if joined[at + 3] & 0x10:
            counter = joined[at + 3] & 0x0F
            assert counter == (last.get(pid, counter - 1) + 1) % 16
            last[pid] = counter


def test_times_wrap_at_33_bits(pools: Pools) -> None:
    pool = pools["180p"]
    start = mpegts.first_video_pts(pool.unit(0, 0))
    assert start is not None
    moved = mpegts.first_video_pts(pool.unit(0, mpegts.WRAP - start + 5))
    assert moved == 5


def test_ads_look_different(pools: Pools, tmp_path: Path) -> None:
    assert all(is_ad(number) for number in frame_numbers(write(pools["ad"], tmp_path / "ad.ts")))


def test_the_same_unit_is_never_the_same_bytes_in_two_rounds(pools: Pools) -> None:
    pool = pools["180p"]
    assert pool.segment(3, 1, 0, "a 3") != pool.segment(3 + POOL_S, 1, 0, f"a {3 + POOL_S}")
    assert pool.segment(3, 1, 0, "a 3") != pool.segment(3, 1, 0, "b 3")
