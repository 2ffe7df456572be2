from __future__ import annotations

import asyncio
import json
import os
import resource
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamvault.contracts import CaptureEnd
from streamvault.errors import (
    CaptureLocked,
    CaptureReplaced,
    InvalidInput,
    StorageUnwritable,
    StreamOffline,
)
from streamvault.hls.captures import Captures
from streamvault.hls.fetch import Fetcher
from streamvault.hls.files import RecordingFiles
from streamvault.hls.order import CaptureOrder
from streamvault.hls.records import Ended
from streamvault.hls.writer import Disks
from streamvault.source import Wish
from tests.streamvault.hls.hls_origin import Origin
from tests.streamvault.hls.recording import (
    QUICK,
    TWITCH,
    Source,
    no_reader,
    part_bytes,
    records,
    stored,
    until,
)

Make = Callable[[Source], Captures]


@pytest.fixture
async def captures_of(tmp_path: Path) -> AsyncIterator[Make]:
    """One more process's captures, on the same state and recordings."""
    made: list[tuple[Captures, Fetcher]] = []

    def make(source: Source) -> Captures:
        fetcher = Fetcher()
        captures = Captures(
            tmp_path / "state",
            resolve=source.resolve,
            open_reader=no_reader,
            fetcher=fetcher,
            disks=Disks(sync_every_s=0.1),
            thresholds=QUICK,
            min_free_bytes=0,
        )
        made.append((captures, fetcher))
        return captures

    yield make
    for captures, fetcher in made:
        await captures.drain_all()
        await fetcher.aclose()


@pytest.fixture
def source(origin: Origin) -> Source:
    source = Source(origin, origin.channel("c"))
    source.channel.publish(4)
    return source


def order(tmp_path: Path, *, fence: int = 1, session: int = 1) -> CaptureOrder:
    return CaptureOrder("r1", TWITCH, "best", tmp_path / "r1", 0.2, fence, session)


def state_files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "state").iterdir())


async def test_a_second_attempt_finds_the_capture_that_runs(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    captures = captures_of(source)
    first = await captures.attach(order(tmp_path))
    await stored(first, 4)
    assert await captures.attach(order(tmp_path, fence=2)) is first
    with pytest.raises(CaptureLocked):
        await captures.attach(order(tmp_path, fence=1))
    assert captures.get("r1") is first
    assert captures.get("r2") is None


async def test_state_is_private_and_goes_with_the_end(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    captures = captures_of(source)
    capture = await captures.attach(order(tmp_path))
    await stored(capture, 4)
    assert state_files(tmp_path) == ["r1.json"]
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state" / "r1.json").stat().st_mode) == 0o600
    capture.stop()
    await capture.task
    await until(lambda: not state_files(tmp_path))
    assert captures.get("r1") is None


async def test_the_next_process_goes_on_by_itself_and_knows_the_stale_attempt(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    before = captures_of(source)
    first = await before.attach(order(tmp_path))
    before.remember_attempt("r1", "dG9rZW4=")
    await stored(first, 4)
    await before.drain_all()
    source.channel.publish(3)
    source.failing = True  # the session of before is enough to go on
    after = captures_of(source)
    (second,) = await after.resume_all()
    assert after.stale_attempts() == {"r1": "dG9rZW4="}
    await stored(second, 7)
    assert await after.attach(order(tmp_path, fence=2)) is second
    after.remember_attempt("r1", "bmV3")
    assert after.stale_attempts() == {}
    second.stop()
    await second.task
    assert part_bytes(tmp_path / "r1") == [b"".join(source.channel.bodies())]


async def test_a_capture_that_nobody_watches_is_drained_and_stays_resumable(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    captures = captures_of(source)
    capture = await captures.attach(order(tmp_path))
    await stored(capture, 4)
    captures.detach("r1", 0.05)
    result = await capture.task
    assert result.end is CaptureEnd.DRAINED
    assert state_files(tmp_path) == ["r1.json"]
    source.channel.publish(1)
    again = await captures.attach(order(tmp_path, fence=2))
    await stored(again, 5)


async def test_attaching_in_time_keeps_the_capture(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    captures = captures_of(source)
    capture = await captures.attach(order(tmp_path))
    captures.detach("r1", 0.2)
    await captures.attach(order(tmp_path, fence=2))
    await asyncio.sleep(0.4)
    assert not capture.task.done()


async def test_sealing_a_running_capture_stops_it_and_again_is_the_same(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    captures = captures_of(source)
    capture = await captures.attach(order(tmp_path))
    await stored(capture, 4)
    first = await captures.seal("r1", tmp_path / "r1", "stopped by a person")
    again = await captures.seal("r1", tmp_path / "r1", "stopped by a person")
    assert first.as_report() == again.as_report()
    assert first.totals.segments_stored == 4
    ends = [r for r in records(tmp_path / "r1") if isinstance(r, Ended)]
    assert [end.why for end in ends] == ["stopped by a person"]
    assert state_files(tmp_path) == []


async def test_sealing_a_drained_recording_writes_its_end(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    captures = captures_of(source)
    capture = await captures.attach(order(tmp_path))
    await stored(capture, 4)
    await capture.drain()
    timeline = await captures.seal("r1", tmp_path / "r1", "given up")
    assert timeline.totals.segments_stored == 4
    assert state_files(tmp_path) == []
    late = await captures.attach(order(tmp_path, fence=2))
    assert (await late.task).end is CaptureEnd.ENDED


async def test_sealing_a_directory_without_anything_is_an_empty_timeline(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    timeline = await captures_of(source).seal("r1", tmp_path / "r1", "stopped")
    assert timeline.totals.segments_stored == 0
    assert timeline.parts == ()
    assert not (tmp_path / "r1").exists()


async def test_another_process_is_locked_out(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    one, other = captures_of(source), captures_of(source)
    await stored(await one.attach(order(tmp_path)), 4)
    with pytest.raises(CaptureLocked):
        await (await other.attach(order(tmp_path))).task


async def test_a_newer_attempt_in_another_process_takes_over_without_a_loss(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    one, other = captures_of(source), captures_of(source)
    first = await one.attach(order(tmp_path))
    await stored(first, 4)
    second = await other.attach(order(tmp_path, fence=2))
    source.channel.publish(2)
    await stored(second, 6)
    with pytest.raises(CaptureReplaced):
        await first.task
    assert b"".join(part_bytes(tmp_path / "r1")) == b"".join(source.channel.bodies())
    # Its state is that of the newer one, which goes on after a crash.
    await one.drain_all()
    assert state_files(tmp_path) == ["r1.json"]


async def test_one_that_stores_nothing_at_the_moment_leaves_as_well(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    one, other = captures_of(source), captures_of(source)
    first = await one.attach(order(tmp_path))
    await stored(first, 4)
    source.failing = True
    source.channel.playlist_status = 503
    second = await other.attach(order(tmp_path, fence=2))
    with pytest.raises(CaptureReplaced):
        await first.task
    source.failing, source.channel.playlist_status = False, 200
    source.channel.publish(2)
    await stored(second, 6)
    # It was not taken by force, so that the part goes on.
    assert len(part_bytes(tmp_path / "r1")) == 1


async def test_an_older_attempt_never_comes_back(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    one, other = captures_of(source), captures_of(source)
    await stored(await one.attach(order(tmp_path, fence=2)), 4)
    with pytest.raises(CaptureReplaced):
        await (await other.attach(order(tmp_path, fence=1))).task


async def test_a_capture_that_was_attached_to_again_goes_on_after_a_crash(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    first = captures_of(source)
    await stored(await first.attach(order(tmp_path, fence=1)), 4)
    await first.attach(order(tmp_path, fence=7))
    await first.drain_all()
    (capture,) = await captures_of(source).resume_all()
    source.channel.publish(2)
    await stored(capture, 6)


async def test_sealing_takes_a_recording_from_another_process(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    one, other = captures_of(source), captures_of(source)
    capture = await one.attach(order(tmp_path))
    await stored(capture, 4)
    source.channel.publish(1)
    timeline = await other.seal("r1", tmp_path / "r1", "stopped")
    assert timeline.totals.segments_stored >= 4
    with pytest.raises(CaptureReplaced):
        await capture.task


async def test_an_offline_stream_leaves_no_state(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    source.offline = True
    capture = await captures_of(source).attach(order(tmp_path))
    with pytest.raises(StreamOffline):
        await capture.task
    await until(lambda: not state_files(tmp_path))


async def test_a_damaged_state_file_does_not_keep_the_others_from_resuming(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    before = captures_of(source)
    await stored(await before.attach(order(tmp_path)), 4)
    await before.drain_all()
    (tmp_path / "state" / "broken.json").write_text("{")
    (tmp_path / "state" / "other.json").write_text(json.dumps({"order": 1}))
    assert len(await captures_of(source).resume_all()) == 1


async def test_an_id_that_is_a_path_is_refused(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    bad = CaptureOrder("../r1", TWITCH, "best", tmp_path / "r1", 0.2)
    with pytest.raises(InvalidInput):
        await captures_of(source).attach(bad)


async def test_too_many_open_files_are_named_and_cost_nothing(
    captures_of: Make, source: Source, tmp_path: Path
) -> None:
    captures = captures_of(source)
    await stored(await captures.attach(order(tmp_path)), 4)
    await captures.drain_all()
    with no_more_files(), pytest.raises(StorageUnwritable) as refused:
        RecordingFiles.open(tmp_path / "r1", fence=1, min_free_bytes=0)
    assert "Too many open files" in str(refused.value)
    assert "ulimit" in refused.value.hint
    source.channel.publish(2)
    again = captures_of(source)
    await stored(await again.attach(order(tmp_path)), 6)
    assert b"".join(part_bytes(tmp_path / "r1")) == b"".join(source.channel.bodies())


@contextmanager
def no_more_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_many_recordings_share_one_process(
    captures_of: Make, origin: Origin, tmp_path: Path
) -> None:
    channels = [origin.channel(f"c{n}") for n in range(8)]
    by_url = {f"https://example.org/{n}": Source(origin, c) for n, c in enumerate(channels)}

    class Any:
        async def resolve(self, wish: Wish) -> object:
            return await by_url[wish.url].resolve(wish)

    captures = captures_of(Any())  # type: ignore[arg-type]  # only resolve is asked for
    made = [
        await captures.attach(CaptureOrder(f"r{n}", url, "best", tmp_path / f"r{n}", 0.2))
        for n, url in enumerate(by_url)
    ]
    for _ in range(10):
        for channel in channels:
            channel.publish()
        await asyncio.sleep(0.02)
    for capture in made:
        await stored(capture, 10)
    await captures.drain_all()
    for n, channel in enumerate(channels):
        assert part_bytes(tmp_path / f"r{n}") == [b"".join(channel.bodies())]
