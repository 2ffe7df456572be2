"""A capture from its first look to its resume: refusals, drains, locks, full disks."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from streamvault.contracts import CaptureEnd, GapCause
from streamvault.errors import CaptureLocked, EncryptedStream, StreamOffline, UnknownSource
from streamvault.hls.capture import Capture
from streamvault.hls.records import Ended, Resumed, Trouble
from streamvault.source import Playback, Transport, Wish
from tests.streamvault.hls.hls_origin import ts_segment
from tests.streamvault.hls.recording import (
    Recorder,
    finish,
    gaps,
    part_bytes,
    publish_slowly,
    records,
    stored,
    until,
    whys,
)

# ---- before the first segment


@pytest.mark.parametrize("error", [StreamOffline("offline"), UnknownSource("no plugin")])
async def test_what_the_first_resolve_refuses_for_good_is_raised(
    recorder: Recorder, error: Exception
) -> None:
    source = recorder.source()

    async def resolve(_wish: Wish) -> Playback:
        raise error

    source.resolve = resolve  # type: ignore[method-assign]  # the seam is a parameter
    with pytest.raises(type(error)):
        await recorder.start(source).task


async def test_a_web_page_instead_of_a_playlist_ends_with_that_reason(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.playlist_body = "<!doctype html><title>Blocked</title>"
    result = await recorder.start(source).task
    assert result.end is CaptureEnd.NOTHING
    assert "a web page instead of a playlist" in result.reason
    assert "secret" not in result.reason


async def test_404_for_every_segment_ends_with_that_reason(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(5)
    source.channel.gone = dict.fromkeys(range(5), 10_000)
    result = await recorder.start(source).task
    assert result.end is CaptureEnd.NOTHING
    assert result.reason == "a segment: 127.0.0.1 answered 404"


async def test_segments_that_are_web_pages_are_not_stored(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(2, body=b"<html>" + b"x" * 2000)
    result = await recorder.start(source).task
    assert result.end is CaptureEnd.NOTHING
    assert result.reason == "a segment: not a media segment"
    assert list(recorder.folder.glob("part-*")) == []


async def test_silence_from_the_start_ends(recorder: Recorder) -> None:
    source = recorder.source()
    recorder.origin.down = True
    result = await recorder.start(source).task
    assert result.end is CaptureEnd.NOTHING
    assert result.reason.startswith("the playlist: 127.0.0.1: ")


async def test_encrypted_streams_are_refused(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(1)
    text = source.channel.playlist("s1")
    source.channel.playlist_body = text.replace(
        "#EXTINF", '#EXT-X-KEY:METHOD=AES-128,URI="k"\n#EXTINF'
    )
    with pytest.raises(EncryptedStream):
        await recorder.start(source).task


async def test_a_stop_before_the_first_segment_is_nothing(recorder: Recorder) -> None:
    source = recorder.source()
    capture = recorder.start(source)
    await until(lambda: source.resolves > 0)
    capture.stop()
    result = await capture.task
    assert (result.end, result.reason) == (CaptureEnd.NOTHING, "stopped")


# ---- drain, resume, lock


async def test_a_drained_capture_goes_on_where_it_was(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(4)
    first = recorder.start(source)
    await stored(first, 4)
    await first.drain()
    assert first.task.result().end is CaptureEnd.DRAINED
    assert not any(isinstance(r, Ended) for r in records(recorder.folder))
    source.channel.publish(4)
    second = recorder.start(source)
    await stored(second, 8)
    finish(source)
    await second.task
    assert part_bytes(recorder.folder) == [b"".join(source.channel.bodies())]
    assert gaps(recorder.folder) == []
    resumed = [r for r in records(recorder.folder) if isinstance(r, Resumed)]
    assert [r.why for r in resumed] == ["drained"]


async def test_a_longer_pause_is_a_gap_of_the_worker(recorder: Recorder) -> None:
    source = recorder.source(window=3)
    source.channel.publish(3)
    first = recorder.start(source)
    await stored(first, 3)
    await first.drain()
    source.channel.publish(8)  # 3..10, of which 8, 9, 10 are listed
    second = recorder.start(source)
    await stored(second, 6)
    finish(source)
    await second.task
    (gap,) = gaps(recorder.folder)
    assert (gap.count, gap.cause) == (5, GapCause.WORKER)
    assert gap.duration_s == pytest.approx(1.0)
    assert whys(recorder.folder) == ["start", "gap"]
    bodies = source.channel.bodies()
    assert part_bytes(recorder.folder) == [b"".join(bodies[:3]), b"".join(bodies[8:])]


async def test_an_end_stands_until_a_later_run(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(3)
    first = recorder.start(source)
    await stored(first, 3)
    first.stop()
    await first.task
    again = await recorder.start(source).task
    assert (again.end, again.reason, again.segments) == (CaptureEnd.STOPPED, "stopped", 3)
    source.channel.publish(2)
    later = recorder.start(source, session=2)
    await stored(later, 5)
    later.stop()
    await later.task
    assert b"".join(part_bytes(recorder.folder)) == b"".join(source.channel.bodies())


async def test_two_captures_cannot_write_one_directory(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(3)
    first = recorder.start(source, fence=5)
    await stored(first, 3)
    with pytest.raises(CaptureLocked):
        await recorder.start(source, fence=5).task
    await first.drain()
    with pytest.raises(CaptureLocked):
        await recorder.start(source, fence=4).task


async def test_a_lagging_capture_fetches_ahead_and_keeps_the_order(recorder: Recorder) -> None:
    source = recorder.source(window=20)
    source.channel.publish(16)
    source.channel.trickle_s = 0.1
    capture = recorder.start(source)
    await stored(capture, 16)
    finish(source)
    await capture.task
    assert part_bytes(recorder.folder) == [b"".join(source.channel.bodies())]
    assert recorder.disks.ahead.used == recorder.disks.queue.used == 0


# ---- storage


async def test_a_full_disk_closes_cleanly_and_goes_on_later(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(3)
    first = recorder.start(source)
    await stored(first, 3)
    await first.drain()
    full = recorder.around(source, min_free_bytes=2**60)
    result = await recorder.start(source, full).task
    assert result.end is CaptureEnd.DISK
    assert str(recorder.folder) in result.reason
    source.channel.publish(2)
    second = recorder.start(source)
    await stored(second, 5)
    finish(source)
    await second.task
    assert b"".join(part_bytes(recorder.folder)) == b"".join(source.channel.bodies())


async def test_a_disk_that_fills_up_while_recording_is_noticed(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(3)
    around = recorder.around(source, min_free_bytes=0)
    capture = recorder.start(source, around)
    await stored(capture, 3)
    files = next(iter(next(iter(recorder.disks._disks.values()))._watched))
    files._min_free_bytes = 2**60  # type: ignore[attr-defined]  # as if the disk had filled up
    await publish_slowly(source.channel, 20)
    result = await capture.task
    assert result.end is CaptureEnd.DISK
    whole = b"".join(source.channel.bodies())
    assert whole.startswith(b"".join(part_bytes(recorder.folder)))
    last = records(recorder.folder)[-1]
    assert isinstance(last, Trouble) and last.why.startswith("disk: ")


async def test_a_folder_that_cannot_be_made_is_named(recorder: Recorder, tmp_path: Path) -> None:
    source = recorder.source()
    (tmp_path / "file").write_text("in the way")
    capture = Capture(recorder.order(directory=tmp_path / "file" / "r1"), recorder.around(source))
    result = await capture.task
    assert result.end is CaptureEnd.DISK
    assert str(tmp_path / "file") in result.reason


# ---- sources without segments


class Pipe(io.RawIOBase):
    """A stream of bytes that can fall silent or end."""

    def __init__(self, pieces: list[bytes], *, hangs: bool) -> None:
        self.pieces = pieces
        self.hangs = hangs
        self.closing = threading.Event()

    def read(self, _size: int = -1) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        if self.hangs:
            self.closing.wait(10)
        return b""

    def close(self) -> None:
        self.closing.set()


async def test_a_source_without_segments_is_read_and_reconnected(recorder: Recorder) -> None:
    source = recorder.source()
    source.transport = Transport.READER
    first, second = ts_segment(0, 1), ts_segment(50, 2)
    pipes = [Pipe([first], hangs=True), Pipe([second], hangs=False)]

    def open_reader(_wish: Wish) -> BinaryIO:
        if not pipes:
            raise StreamOffline("offline")
        return pipes.pop(0)  # type: ignore[return-value]  # a reader is all that is asked for

    around = recorder.around(source, open_reader=open_reader)
    result = await recorder.start(source, around).task
    assert result.end is CaptureEnd.ENDED
    assert part_bytes(recorder.folder) == [first, second]
    assert whys(recorder.folder) == ["start", "gap"]


# ---- another stream at the same address


async def test_a_new_session_of_another_stream_ends_the_recording(recorder: Recorder) -> None:
    source = recorder.source(stream_id="1")
    source.channel.publish(3)
    capture = recorder.start(source, stream_id="1", end_grace_s=60.0)
    await stored(capture, 3)
    source.stream_id = "2"
    source.channel.ended = True
    result = await capture.task
    assert (result.end, result.reason) == (CaptureEnd.ENDED, "another stream has begun")
    assert result.segments == 3


@pytest.mark.parametrize("answer", ["1", ""])
async def test_the_same_stream_goes_on_also_when_nobody_can_say(
    recorder: Recorder, answer: str
) -> None:
    source = recorder.source(stream_id="1")
    source.channel.publish(3)
    capture = recorder.start(source, stream_id="1", end_grace_s=60.0)
    await stored(capture, 3)
    source.stream_id = answer
    resolves = source.resolves
    await until(lambda: source.resolves > resolves)
    source.channel.publish(3)
    await stored(capture, 6)


async def test_word_of_another_stream_ends_the_recording_at_once(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(3)
    capture = recorder.start(source, end_grace_s=60.0)
    await stored(capture, 3)
    capture.end_for_another("another stream has begun")
    result = await capture.task
    assert (result.end, result.segments) == (CaptureEnd.ENDED, 3)


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
async def test_a_clock_of_the_host_that_jumps_costs_nothing(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    """Time-outs are monotonic, and what is missing is seen by the stream's own clock."""
    source = recorder.source()
    source.channel.publish(4)
    capture = recorder.start(source)
    await stored(capture, 4)
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + jump_s)
    await publish_slowly(source.channel, 4)
    await stored(capture, 8)
    monkeypatch.undo()
    await publish_slowly(source.channel, 2)
    await stored(capture, 10)
    finish(source)
    await capture.task
    assert b"".join(part_bytes(recorder.folder)) == b"".join(source.channel.bodies())
    assert gaps(recorder.folder) == []
    assert whys(recorder.folder) == ["start"]
