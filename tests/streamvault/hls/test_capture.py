"""Truth is the origin's: which segments it published, and their bytes."""

from __future__ import annotations

import pytest

from streamvault.contracts import CaptureEnd, GapCause
from streamvault.hls.records import AdSkipped, Ended, InitStored, Resumed, SegmentStored
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


async def test_everything_listed_is_stored_byte_for_byte_until_the_end(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(5)
    capture = recorder.start(source)
    await stored(capture, 5)
    await publish_slowly(source.channel, 15)
    finish(source)
    result = await capture.task
    assert result.end is CaptureEnd.ENDED
    assert result.reason == "the playlist has ended, the player says offline"
    assert result.segments == 20
    assert part_bytes(recorder.folder) == [b"".join(source.channel.bodies())]
    assert whys(recorder.folder) == ["start"]
    assert gaps(recorder.folder) == []
    assert isinstance(records(recorder.folder)[-1], Ended)


async def test_chunks_larger_than_one_hand_over_stay_in_order(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(3, packets=4000)  # 752 kB each, three chunks
    capture = recorder.start(source)
    await stored(capture, 3)
    finish(source)
    await capture.task
    assert part_bytes(recorder.folder) == [b"".join(source.channel.bodies())]


# ---- sessions


async def test_a_restart_takes_a_new_session_and_part_and_loses_nothing(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(4)
    capture = recorder.start(source)
    await stored(capture, 4)
    capture.restart("person")
    source.channel.publish(4)
    await stored(capture, 8)
    finish(source)
    await capture.task
    bodies = source.channel.bodies()
    assert part_bytes(recorder.folder) == [b"".join(bodies[:4]), b"".join(bodies[4:])]
    assert whys(recorder.folder) == ["start", "restart"]
    assert gaps(recorder.folder) == []
    restarts = [r for r in records(recorder.folder) if isinstance(r, Resumed)]
    assert [(r.why, r.gap_s) for r in restarts] == [("person", 0.0)]


async def test_a_session_that_is_refused_is_replaced_within_the_same_part(
    recorder: Recorder,
) -> None:
    source = recorder.source()
    source.channel.publish(3)
    capture = recorder.start(source)
    await stored(capture, 3)
    source.channel.dead_sessions.add("s1")
    source.channel.publish(3)
    await stored(capture, 6)
    finish(source)
    await capture.task
    # Timestamps go on, so nothing has to be cut.
    assert part_bytes(recorder.folder) == [b"".join(source.channel.bodies())]
    assert gaps(recorder.folder) == []
    assert source.resolves >= 2


async def test_without_dates_a_new_session_doubles_nothing(recorder: Recorder) -> None:
    source = recorder.source(with_dates=False)
    source.channel.publish(4)
    capture = recorder.start(source)
    await stored(capture, 4)
    capture.restart("person")
    await until(lambda: source.resolves == 2)
    source.channel.publish(2)
    await stored(capture, 6)
    finish(source)
    await capture.task
    assert b"".join(part_bytes(recorder.folder)) == b"".join(source.channel.bodies())


async def test_a_frozen_playlist_is_resolved_again_and_not_taken_for_an_end(
    recorder: Recorder,
) -> None:
    source = recorder.source()
    source.channel.publish(3)
    capture = recorder.start(source)
    await stored(capture, 3)
    source.channel.hidden = True
    await until(lambda: capture.progress().state == "reconnecting")
    await until(lambda: source.resolves >= 3)
    assert not capture.task.done()
    source.channel.hidden = False
    source.channel.publish(3)
    await stored(capture, 6)
    finish(source)
    await capture.task
    assert b"".join(part_bytes(recorder.folder)) == b"".join(source.channel.bodies())


# ---- what is missing


async def test_one_segment_that_is_gone_is_one_gap(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(6)
    source.channel.gone[3] = 1000
    capture = recorder.start(source)
    await stored(capture, 5)
    finish(source)
    await capture.task
    bodies = source.channel.bodies()
    assert part_bytes(recorder.folder) == [b"".join(bodies[:3] + bodies[4:])]
    (gap,) = gaps(recorder.folder)
    assert (gap.count, gap.why, gap.cause) == (1, "404", GapCause.SOURCE)
    assert gap.date == pytest.approx(source.channel.segments[3].date)
    assert capture.timeline.totals.segments_expected == 6
    assert capture.timeline.totals.segments_lost == 1


async def test_a_segment_that_is_404_or_cut_short_once_is_fetched_again(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(6)
    source.channel.gone[2] = 2
    source.channel.short[4] = 1
    capture = recorder.start(source)
    await stored(capture, 6)
    finish(source)
    await capture.task
    assert part_bytes(recorder.folder) == [b"".join(source.channel.bodies())]
    assert gaps(recorder.folder) == []
    repaired = [r.repaired for r in records(recorder.folder) if isinstance(r, SegmentStored)]
    assert repaired == [False, False, False, False, True, False]


async def test_an_outage_beyond_the_window_is_one_gap_of_its_length(recorder: Recorder) -> None:
    source = recorder.source(window=5)
    source.channel.publish(3)
    capture = recorder.start(source)
    await stored(capture, 3)
    recorder.origin.down = True
    await until(lambda: capture.progress().state == "reconnecting")
    source.channel.publish(12)  # 3..14, of which the last five are listed
    recorder.origin.down = False
    await stored(capture, 8)
    finish(source)
    await capture.task
    bodies = source.channel.bodies()
    assert b"".join(part_bytes(recorder.folder)) == b"".join(bodies[:3] + bodies[10:])
    assert sum(g.count for g in gaps(recorder.folder)) == 7
    assert sum(g.duration_s for g in gaps(recorder.folder)) == pytest.approx(1.4)
    assert {g.cause for g in gaps(recorder.folder)} == {GapCause.NETWORK}


async def test_a_stream_that_comes_back_within_the_grace_goes_on_in_a_new_part(
    recorder: Recorder,
) -> None:
    source = recorder.source()
    source.channel.publish(3)
    capture = recorder.start(source, end_grace_s=30.0)
    await stored(capture, 3)
    finish(source)
    await until(lambda: capture.progress().state == "away")
    assert not capture.task.done()
    source.channel.away(4.0)
    source.channel.ended = source.offline = False
    source.channel.publish(3, discontinuity=True)
    await stored(capture, 6)
    capture.stop()
    result = await capture.task
    assert (result.end, result.reason) == (CaptureEnd.STOPPED, "stopped")
    bodies = source.channel.bodies()
    assert part_bytes(recorder.folder) == [b"".join(bodies[:3]), b"".join(bodies[3:])]
    (gap,) = gaps(recorder.folder)
    assert gap.cause == GapCause.SOURCE
    assert gap.duration_s == pytest.approx(4.0, abs=0.01)


# ---- parts


async def test_ads_are_counted_and_not_stored(recorder: Recorder) -> None:
    source = recorder.source(window=20)
    source.channel.publish(3)
    source.channel.publish(4, ad=True, discontinuity=True)
    source.channel.publish(3, discontinuity=True)
    capture = recorder.start(source)
    await stored(capture, 6)
    finish(source)
    await capture.task
    bodies = source.channel.bodies()
    assert part_bytes(recorder.folder) == [b"".join(bodies[:3]), b"".join(bodies[3:])]
    assert whys(recorder.folder) == ["start", "ad"]
    assert len([r for r in records(recorder.folder) if isinstance(r, AdSkipped)]) == 4
    assert gaps(recorder.folder) == []
    assert capture.timeline.totals.ad_s == pytest.approx(0.8)


async def test_a_break_in_the_timestamps_begins_a_part(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(3)
    source.channel.media_s = 5000.0
    source.channel.publish(3, discontinuity=True)
    capture = recorder.start(source)
    await stored(capture, 6)
    finish(source)
    await capture.task
    bodies = source.channel.bodies()
    assert part_bytes(recorder.folder) == [b"".join(bodies[:3]), b"".join(bodies[3:])]
    assert whys(recorder.folder) == ["start", "disc"]
    assert gaps(recorder.folder) == []


async def test_a_discontinuity_whose_timestamps_go_on_begins_no_part(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(3)
    source.channel.publish(3, discontinuity=True)
    capture = recorder.start(source)
    await stored(capture, 6)
    finish(source)
    await capture.task
    assert part_bytes(recorder.folder) == [b"".join(source.channel.bodies())]


async def test_another_codec_begins_a_part(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(3)
    source.channel.publish(3, discontinuity=True, stream_type=0x24)  # H.265
    capture = recorder.start(source)
    await stored(capture, 6)
    finish(source)
    await capture.task
    assert whys(recorder.folder) == ["start", "init"]


async def test_a_hole_in_the_source_is_a_gap_without_lost_segments(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(3)
    source.channel.away(2.0)
    source.channel.publish(3)
    capture = recorder.start(source)
    await stored(capture, 6)
    finish(source)
    await capture.task
    (gap,) = gaps(recorder.folder)
    assert (gap.count, gap.cause) == (0, GapCause.SOURCE)
    assert gap.duration_s == pytest.approx(2.0)
    # The timestamps show the same hole, so one file can hold it.
    assert whys(recorder.folder) == ["start"]


async def test_a_corrected_clock_is_no_gap(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(3)
    source.channel.clock += 2.0
    source.channel.publish(3)
    capture = recorder.start(source)
    await stored(capture, 6)
    finish(source)
    await capture.task
    assert gaps(recorder.folder) == []
    assert whys(recorder.folder) == ["start"]


async def test_a_source_that_loops_is_not_stored_twice(recorder: Recorder) -> None:
    source = recorder.source(window=30)
    first = source.channel.publish(5)
    capture = recorder.start(source)
    await stored(capture, 5)
    clock, media = source.channel.clock, source.channel.media_s
    source.channel.clock = first[0].date
    for old in first:
        source.channel.publish(body=old.body)
    source.channel.clock, source.channel.media_s = clock, media
    await until(lambda: source.resolves >= 2)
    source.channel.publish(3)
    await stored(capture, 8)
    finish(source)
    await capture.task
    bodies = source.channel.bodies()
    assert b"".join(part_bytes(recorder.folder)) == b"".join(bodies[:5] + bodies[10:])
    assert sum(g.count for g in gaps(recorder.folder)) == 0


async def test_a_clock_that_is_set_back_goes_on_in_a_new_part(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(3)
    capture = recorder.start(source)
    await stored(capture, 3)
    source.channel.clock -= 3600.0
    await publish_slowly(source.channel, 3)
    await stored(capture, 6)
    finish(source)
    await capture.task
    assert b"".join(part_bytes(recorder.folder)) == b"".join(source.channel.bodies())
    assert whys(recorder.folder) == ["start", "date"]


def fmp4_fragment(ticks: int, payload: bytes) -> bytes:
    def box(kind: bytes, content: bytes) -> bytes:
        return (8 + len(content)).to_bytes(4) + kind + content

    track = box(b"tfhd", bytes(4) + (1).to_bytes(4)) + box(b"tfdt", bytes(4) + ticks.to_bytes(4))
    return box(b"styp", b"msdh") + box(b"moof", box(b"traf", track)) + box(b"mdat", payload)


def fmp4_init(note: bytes) -> bytes:
    def box(kind: bytes, content: bytes) -> bytes:
        return (8 + len(content)).to_bytes(4) + kind + content

    tkhd = box(b"tkhd", bytes(12) + (1).to_bytes(4) + bytes(60))
    mdhd = box(b"mdhd", bytes(12) + (90_000).to_bytes(4) + bytes(8))
    moov = box(b"moov", box(b"trak", tkhd + box(b"mdia", mdhd)))
    return box(b"ftyp", b"iso5" + note) + moov


async def test_fragmented_mp4_gets_its_init_section_and_a_part_for_each(recorder: Recorder) -> None:
    source = recorder.source()
    channel = source.channel
    channel.inits = {"one.mp4": fmp4_init(b"1111"), "two.mp4": fmp4_init(b"2222")}
    for number in range(4):
        name = "one.mp4" if number < 2 else "two.mp4"
        channel.publish(body=fmp4_fragment(18_000 * number, b"m%d" % number), init=name)
    capture = recorder.start(source)
    await stored(capture, 4)
    finish(source)
    await capture.task
    bodies = channel.bodies()
    assert part_bytes(recorder.folder) == [
        channel.inits["one.mp4"] + bodies[0] + bodies[1],
        channel.inits["two.mp4"] + bodies[2] + bodies[3],
    ]
    assert [p.suffix for p in sorted(recorder.folder.glob("part-*"))] == [".mp4", ".mp4"]
    assert whys(recorder.folder) == ["start", "init"]
    assert len([r for r in records(recorder.folder) if isinstance(r, InitStored)]) == 2


# ---- the end


async def test_one_witness_is_not_enough(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(3)
    capture = recorder.start(source, end_grace_s=0.0)
    await stored(capture, 3)
    source.channel.ended = True
    await until(lambda: source.resolves >= 3)
    assert not capture.task.done()
    capture.note_offline("EventSub says offline")
    result = await capture.task
    assert result.end is CaptureEnd.ENDED
    assert result.reason == "the playlist has ended, EventSub says offline"


async def test_a_playlist_that_stays_gone_is_a_witness(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(3)
    capture = recorder.start(source, end_grace_s=0.0)
    await stored(capture, 3)
    source.channel.playlist_status = 404
    source.offline = True
    result = await capture.task
    assert result.reason == "the playlist is gone, the player says offline"
    assert part_bytes(recorder.folder) == [b"".join(source.channel.bodies())]


async def test_a_bare_playlist_ends_with_its_endlist(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(3)
    source.channel.ended = True
    capture = recorder.start(source, source_url=f"hls://{recorder.origin.url('c')}")
    result = await capture.task
    assert (result.end, result.segments) == (CaptureEnd.ENDED, 3)


async def test_a_bare_playlist_that_falls_silent_ends(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(3)
    capture = recorder.start(source, source_url=recorder.origin.url("c"))
    result = await capture.task
    assert (result.end, result.reason) == (CaptureEnd.ENDED, "nothing new for 3 s")


async def test_an_encoder_that_restarts_on_the_same_address_is_followed(recorder: Recorder) -> None:
    source = recorder.source()
    source.new_session = False
    source.channel.publish(5)
    capture = recorder.start(source, end_grace_s=30.0)
    await stored(capture, 5)
    finish(source)
    await until(lambda: capture.progress().state == "away")
    again = recorder.source()  # the same channel, from number 0
    again.channel.clock = source.channel.clock + 3.0
    again.channel.media_s = 1.0
    again.channel.shifts = {"s0": 0}
    again.channel.publish(3)
    source.offline = False
    await stored(capture, 8)
    capture.stop()
    await capture.task
    assert part_bytes(recorder.folder) == [
        b"".join(source.channel.bodies()),
        b"".join(again.channel.bodies()),
    ]
