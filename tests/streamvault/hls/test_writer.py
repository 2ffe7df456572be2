from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from streamvault.errors import StorageFull, StorageUnwritable
from streamvault.hls.files import RecordingFiles
from streamvault.hls.journal import JOURNAL_NAME, read_journal
from streamvault.hls.playlist import Segment
from streamvault.hls.records import PartOpened, SegmentStored, Synced
from streamvault.hls.recovery import recover
from streamvault.hls.writer import Batch, Budget, Disks, storage_error


@pytest.fixture
async def disks() -> AsyncIterator[Disks]:
    disks = Disks(sync_every_s=3600)
    yield disks
    await asyncio.to_thread(disks.close)


def batch_of(disks: Disks, data: bytes) -> Batch:
    disks.queue.take(len(data), force=True)
    half = len(data) // 2
    return Batch([data[:half], data[half:]], len(data))


def store(files: RecordingFiles, disks: Disks, number: int, data: bytes) -> None:
    files.begin_segment()
    if files.part is None:
        files.begin_part(PartOpened(1, "ts", 0.0, "start"), None)
    files.write(batch_of(disks, data), disks)
    segment = Segment(number, "http://x/", 2.0, 1000.0 + 2 * number)
    assert files.store_segment(segment, (), late=False, repaired=False)


async def test_jobs_run_in_order_and_later_ones_with_the_next(disks: Disks, tmp_path: Path) -> None:
    disk = await disks.of(tmp_path)
    done: list[int] = []
    disk.post(lambda: done.append(1))
    disk.later(lambda: done.append(2))
    assert await disk.run(lambda: len(done)) == 2
    assert done == [1, 2]


async def test_a_slow_disk_does_not_hold_up_the_event_loop(disks: Disks, tmp_path: Path) -> None:
    disk = await disks.of(tmp_path)
    go_on = threading.Event()
    slow = asyncio.create_task(disk.run(go_on.wait))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not slow.done()
    go_on.set()
    assert await slow


async def test_an_error_nobody_foresaw_reaches_who_waits_and_the_rest_goes_on(
    disks: Disks, tmp_path: Path
) -> None:
    disk = await disks.of(tmp_path)
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _loop, about: reported.append(about.get("exception"))
    )
    unforeseen = ZeroDivisionError()

    def fail() -> None:
        raise unforeseen

    disk.post(fail)
    with pytest.raises(ZeroDivisionError):
        await disk.run(fail)
    assert await disk.run(lambda: "goes on") == "goes on"
    assert reported == [unforeseen]


async def test_a_job_that_nobody_waits_for_any_more_is_not_begun(
    disks: Disks, tmp_path: Path
) -> None:
    disk = await disks.of(tmp_path)
    go_on, done = threading.Event(), list[str]()
    first = asyncio.create_task(disk.run(go_on.wait))
    second = asyncio.create_task(disk.run(lambda: done.append("second")))
    await asyncio.sleep(0)
    second.cancel()
    disk.post(lambda: done.append("posted"))
    go_on.set()
    await first
    await disk.run(lambda: None)
    assert done == ["posted"]


async def test_closing_waits_for_what_was_queued(tmp_path: Path) -> None:
    disks, done = Disks(sync_every_s=3600), list[int]()
    disk = await disks.of(tmp_path)
    for number in range(3):
        disk.post(partial(done.append, number))
    disks.close()
    assert done == [0, 1, 2]


async def test_folders_of_one_file_system_share_a_disk(disks: Disks, tmp_path: Path) -> None:
    assert await disks.of(tmp_path / "a") is await disks.of(tmp_path / "b")


def test_a_budget_refuses_what_does_not_fit_but_never_the_first() -> None:
    budget = Budget(100)
    assert budget.take(150)
    assert not budget.take(1)
    assert budget.take(1, force=True)
    budget.give(151)
    assert budget.used == 0
    assert budget.take(60) and not budget.take(60)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EROFS, StorageUnwritable),
        (errno.EIO, StorageUnwritable),
        (errno.EACCES, StorageUnwritable),
    ],
)
def test_errors_of_the_disk_name_the_folder(number: int, kind: type[Exception]) -> None:
    error = storage_error(OSError(number, os.strerror(number)), Path("/recordings/r1"))
    assert isinstance(error, kind)
    assert str(error) == f"/recordings/r1: {os.strerror(number)}"


async def test_a_sync_says_what_is_durable(disks: Disks, tmp_path: Path) -> None:
    files = RecordingFiles.open(tmp_path / "r1", min_free_bytes=0)
    store(files, disks, 0, b"G" * 1000)
    files.sync()
    store(files, disks, 1, b"H" * 500)
    files.sync()
    files.sync()  # nothing new
    files.close()
    synced = [r.offset for r in read_journal(tmp_path / "r1" / JOURNAL_NAME).records
              if isinstance(r, Synced)]  # fmt: skip
    assert synced[:2] == [1000, 1500]


async def test_what_has_no_record_is_cut_at_the_close(disks: Disks, tmp_path: Path) -> None:
    files = RecordingFiles.open(tmp_path / "r1", min_free_bytes=0)
    store(files, disks, 0, b"G" * 1000)
    files.begin_segment()
    files.write(batch_of(disks, b"torn" * 100), disks)
    files.close()
    assert (tmp_path / "r1" / "part-0001.ts").read_bytes() == b"G" * 1000


async def test_a_second_try_that_is_shorter_leaves_nothing_of_the_first(
    disks: Disks, tmp_path: Path
) -> None:
    files = RecordingFiles.open(tmp_path / "r1", min_free_bytes=0)
    store(files, disks, 0, b"G" * 1000)
    files.begin_segment()
    files.write(batch_of(disks, b"first try, long" * 100), disks)
    store(files, disks, 1, b"short")
    files.close()
    assert (tmp_path / "r1" / "part-0001.ts").read_bytes() == b"G" * 1000 + b"short"
    assert recover(tmp_path / "r1").torn_bytes == 0


async def test_content_that_was_stored_is_not_stored_again(disks: Disks, tmp_path: Path) -> None:
    files = RecordingFiles.open(tmp_path / "r1", min_free_bytes=0)
    store(files, disks, 0, b"G" * 1000)
    files.close()
    files = RecordingFiles.open(tmp_path / "r1", min_free_bytes=0)  # known beyond the process
    files.begin_segment()
    files.write(batch_of(disks, b"G" * 1000), disks)
    again = files.store_segment(Segment(9, "http://x/", 2.0), (), late=False, repaired=False)
    assert again is None
    files.close()
    assert (tmp_path / "r1" / "part-0001.ts").stat().st_size == 1000


async def test_a_part_that_got_no_segment_does_not_exist(disks: Disks, tmp_path: Path) -> None:
    files = RecordingFiles.open(tmp_path / "r1", min_free_bytes=0)
    store(files, disks, 0, b"G" * 1000)
    files.begin_segment()
    files.begin_part(PartOpened(2, "ts", 0.0, "gap"), None)
    files.write(batch_of(disks, b"torn"), disks)
    files.close()
    assert [p.name for p in (tmp_path / "r1").glob("part-*")] == ["part-0001.ts"]


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/shm").is_dir(), reason="mounts a tmpfs")
async def test_a_disk_that_is_really_full_keeps_every_whole_segment(
    disks: Disks, tmp_path: Path
) -> None:
    mount = await asyncio.create_subprocess_exec(
        "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)
    )
    if await mount.wait():
        pytest.skip("no right to mount")
    try:
        files = RecordingFiles.open(tmp_path / "r1", min_free_bytes=0)
        number = 0
        with pytest.raises(StorageFull, match=str(tmp_path / "r1")):
            while True:
                store(files, disks, number, bytes([0x47, number]) * 50_000)
                number += 1
        assert 5 <= number <= 10
        files.close()
        recovery = recover(tmp_path / "r1")
        kept = [r for r in recovery.records if isinstance(r, SegmentStored)]
        assert len(kept) == number
        assert not recovery.damaged
        expected = b"".join(bytes([0x47, n]) * 50_000 for n in range(number))
        assert (tmp_path / "r1" / "part-0001.ts").read_bytes() == expected
    finally:
        unmount = await asyncio.create_subprocess_exec("umount", str(tmp_path))
        await unmount.wait()


async def test_memory_is_given_back_when_the_disk_fails(disks: Disks, tmp_path: Path) -> None:
    files = RecordingFiles.open(tmp_path / "r1", min_free_bytes=0)
    store(files, disks, 0, b"G" * 1000)
    (tmp_path / "r1" / "part-0002.ts").mkdir()  # the next part cannot be made
    files.begin_segment()
    files.begin_part(PartOpened(2, "ts", time.time(), "gap"), None)
    files.write(batch_of(disks, b"H" * 1000), disks)
    with pytest.raises(StorageUnwritable):
        files.store_segment(Segment(1, "http://x/", 2.0), (), late=False, repaired=False)
    assert disks.queue.used == 0
    files.close()
