from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from streamvault.errors import StorageFull
from streamvault.hls.room import Room, check_room, has_room

MB, GB = 1024**2, 1024**3


@pytest.mark.parametrize(
    ("size_bytes", "reserve_bytes"),
    [(64 * MB, 16 * MB), (50 * GB, 1 * GB), (100 * GB, 2 * GB), (8000 * GB, 2 * GB)],
)
def test_two_hundredths_are_reserved_within_bounds(size_bytes: int, reserve_bytes: int) -> None:
    assert Room(0, size_bytes, 1).reserve_bytes == reserve_bytes


@pytest.mark.parametrize(
    ("free_bytes", "bytes_per_s", "little"),
    [
        (11 * GB, 0, False),
        (9 * GB, 0, True),
        # 6 Mbit/s take 1.35 GB in half an hour; two of them with what is reserved more than 4.
        (11 * GB, 750_000, False),
        (11 * GB, 20 * 750_000, True),
    ],
)
def test_what_is_little_depends_on_what_is_recorded(
    free_bytes: int, bytes_per_s: float, little: bool
) -> None:
    assert Room(free_bytes, 1000 * GB, 1).is_little(bytes_per_s) is little


def test_ten_free_gigabytes_of_a_small_disk_are_no_worry() -> None:
    assert not Room(9 * GB, 20 * GB, 1).is_little()
    assert Room(1 * GB, 20 * GB, 1).is_little()


def test_what_is_left_lasts_until_the_reserve() -> None:
    assert Room(3 * GB, 1000 * GB, 1).lasts_s(GB) == 1.0
    assert Room(1 * GB, 1000 * GB, 1).lasts_s(GB) == 0.0
    assert Room(1 * GB, 1000 * GB, 1).lasts_s(0) == float("inf")


@pytest.fixture
def disk(tmp_path: Path) -> Callable[[str], Path]:
    def mount(options: str) -> Path:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(tmp_path)], check=True)
        return tmp_path

    return mount


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_a_real_disk_has_room_until_it_has_none(disk: Callable[[str], Path]) -> None:
    folder = disk("size=64m,nr_inodes=8")
    try:
        missing = folder / "not" / "made" / "yet"
        check_room(missing)
        assert has_room(missing)
        (folder / "filler").write_bytes(bytes(44 * MB))
        # 20 MB are above the reserve of 16, and below what it takes to begin again.
        check_room(folder)
        assert not has_room(folder)
        (folder / "more").write_bytes(bytes(8 * MB))
        with pytest.raises(StorageFull, match="less than 16 MB are free"):
            check_room(folder)
        (folder / "filler").unlink()
        assert has_room(folder)
        for number in range(6):
            (folder / str(number)).touch()
        with pytest.raises(StorageFull, match="no more files"):
            check_room(folder)
        assert not has_room(folder)
        (folder / "0").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        assert not has_room(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
