"""Two recorder processes on one directory: only one of them ever writes."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from streamvault.errors import CaptureBusy, CaptureLocked, CaptureReplaced
from streamvault.hls.fence import Claim, Fence
from streamvault.hls.records import PartOpened, SegmentStored
from tests.streamvault.hls.hls_origin import Origin
from tests.streamvault.hls.recording import part_bytes, records, until
from tests.streamvault.hls.test_kill import publish_for_ever, size_of, start

REPLACED = 3


def test_one_that_waits_is_seen_by_the_holder(tmp_path: Path) -> None:
    holder = Fence.take(tmp_path, 5)
    with pytest.raises(CaptureBusy):
        Fence.take(tmp_path, 6)
    with pytest.raises(CaptureReplaced):
        holder.check()
    assert holder.is_ours
    holder.release()
    Fence.take(tmp_path, 6).release()
    with pytest.raises(CaptureReplaced):
        Fence.take(tmp_path, 5)


def test_a_holder_that_does_not_go_loses_the_name(tmp_path: Path) -> None:
    holder = Fence.take(tmp_path, 5)
    taken = Fence.take(tmp_path, 6, Claim.FORCED)
    assert taken.taken_over
    assert not holder.is_ours
    with pytest.raises(CaptureReplaced):
        holder.check()
    taken.check()
    # The name is locked again, by the new one.
    with pytest.raises(CaptureLocked):
        Fence.take(tmp_path, 6)


def test_a_holder_that_was_found_at_work_keeps_the_lock(tmp_path: Path) -> None:
    holder = Fence.take(tmp_path, 5)
    holder.grow(9)
    with pytest.raises(CaptureReplaced):
        Fence.take(tmp_path, 8)
    holder.check()


@pytest.mark.parametrize("wakes", [True, False])
async def test_a_recorder_that_was_stopped_is_replaced_and_writes_nothing_more(
    tmp_path: Path, origin: Origin, wakes: bool
) -> None:
    channel = origin.channel("c", window=100)
    channel.trickle_s = 0.1  # so that it is stopped in the middle of a segment
    publisher = asyncio.create_task(publish_for_ever(channel))
    stopped = await start(tmp_path / "a", origin, directory=tmp_path / "r1", fence=1)
    newer = None
    try:
        await until(lambda: size_of(tmp_path / "r1") > 500_000)
        stopped.send_signal(signal.SIGSTOP)
        newer = await start(tmp_path / "b", origin, directory=tmp_path / "r1", fence=2)
        await until(lambda: (tmp_path / "r1" / "part-0002.ts").exists())
        if wakes:
            stopped.send_signal(signal.SIGCONT)
            assert await asyncio.wait_for(stopped.wait(), 20) == REPLACED
        before = size_of(tmp_path / "r1")
        await until(lambda: size_of(tmp_path / "r1") > before + 600_000)
        publisher.cancel()
        channel.ended = True
        assert await asyncio.wait_for(newer.wait(), 30) == 0
    finally:
        publisher.cancel()
        for process in (stopped, newer):
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()
    assert b"".join(part_bytes(tmp_path / "r1")) == b"".join(channel.bodies())
    kept = records(tmp_path / "r1")
    dates = [r.date for r in kept if isinstance(r, SegmentStored)]
    assert dates == sorted(set(dates), key=lambda date: date or 0.0)
    assert [r.why for r in kept if isinstance(r, PartOpened)] == ["start", "takeover"]
