from __future__ import annotations

from dataclasses import replace

import pytest

from streamvault.hls.records import Resumed, Trouble
from streamvault.hls.thresholds import Thresholds
from streamvault.hls.watching import Watching
from tests.streamvault.hls.recording import (
    QUICK,
    Recorder,
    publish_slowly,
    records,
    stored,
    until,
)


class Clock:
    """A recording that is as it should be, until a test says otherwise."""

    def __init__(self) -> None:
        self.now = self.fresh_at = 1000.0
        self.watching = Watching(Thresholds(), self.now)
        self.changes: list[str] = []

    def pass_s(
        self, seconds: float, *, fresh: bool = True, waits: bool = False, repeats: int = 0,
        ads: bool = False, away: bool = False,
    ) -> None:  # fmt: skip
        began = self.now
        self.fresh_at = self.now if fresh else self.fresh_at
        for _ in range(round(seconds / 2)):
            self.now += 2
            if fresh:
                self.fresh_at = self.now
                self.watching.listed(self.now, only_ads=ads)
            changes = self.watching.look(
                self.now,
                fresh_at=self.fresh_at,
                segment_s=2.0,
                waiting_since=began if waits else None,
                repeats=repeats,
                away=away,
            )
            self.changes += [text for _, text in changes]

    def signs(self) -> tuple[str, ...]:
        return self.watching.signs


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_healthy_recording_shows_no_sign(clock: Clock) -> None:
    clock.pass_s(3600)
    assert clock.signs() == ()
    assert clock.changes == []


def test_silence_is_slow_then_stalled_and_each_is_told_once(clock: Clock) -> None:
    clock.pass_s(8, fresh=False)
    assert clock.signs() == ("slow",)
    clock.pass_s(60, fresh=False)
    assert clock.signs() == ("stalled",)
    clock.pass_s(2)
    assert clock.signs() == ()
    assert [text.split(":")[0] for text in clock.changes] == [
        "slow", "slow", "stalled", "stalled",
    ]  # fmt: skip
    assert clock.changes[-1] == "stalled: over after 60 s"


def test_a_stream_that_has_ended_does_not_stall(clock: Clock) -> None:
    clock.pass_s(60, fresh=False, away=True)
    assert clock.signs() == ()


def test_repeats_loop(clock: Clock) -> None:
    clock.pass_s(2, repeats=1)
    assert clock.signs() == ()
    clock.pass_s(2, repeats=2)
    assert clock.signs() == ("looping",)


def test_what_waits_for_half_a_window_is_behind(clock: Clock) -> None:
    clock.pass_s(14, waits=True)
    assert clock.signs() == ()
    clock.pass_s(16, waits=True)
    assert clock.signs() == ("behind",)


def test_ads_alone_are_told_after_four_minutes(clock: Clock) -> None:
    clock.pass_s(238, ads=True)
    assert clock.signs() == ()
    clock.pass_s(4, ads=True)
    assert clock.signs() == ("ads",)
    clock.pass_s(2)
    assert clock.signs() == ()


def store(clock: Clock, segments: int, bits_per_s: float) -> None:
    for _ in range(segments):
        clock.watching.stored(int(bits_per_s / 8 * 2), 2.0)
        clock.pass_s(2)


def test_a_bitrate_that_collapses_is_told_and_asked_about_once(clock: Clock) -> None:
    store(clock, 60, 6e6)
    store(clock, 2, 1e6)
    assert clock.signs() == ()
    store(clock, 1, 1e6)
    assert clock.signs() == ("bitrate",)
    assert clock.watching.asks_again()
    store(clock, 300, 1e6)
    assert clock.signs() == ("bitrate",)
    assert not clock.watching.asks_again()
    store(clock, 1, 6e6)
    assert clock.signs() == ()


def test_a_scene_that_needs_a_third_of_the_bits_is_no_collapse(clock: Clock) -> None:
    store(clock, 60, 6e6)
    store(clock, 60, 2e6)
    assert clock.signs() == ()


def test_a_full_disk_is_told_before_it_is_full(clock: Clock) -> None:
    clock.watching.little_room = True
    clock.pass_s(2)
    assert clock.signs() == ("disk",)
    assert clock.watching.note == "the disk has little room left"


async def test_a_stall_is_in_the_journal_with_its_end(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(4)
    capture = recorder.start(source)
    await stored(capture, 4)
    await until(lambda: capture.progress().signs == ("stalled",))
    await publish_slowly(source.channel, 2)
    await stored(capture, 6)
    await until(lambda: capture.progress().signs == ())
    await capture.drain()
    signs = [r for r in records(recorder.folder) if isinstance(r, Trouble) and r.sign]
    assert [r.sign for r in signs if r.sign == "stalled"] == ["stalled", "stalled"]


async def test_a_crash_in_a_stall_is_still_a_crash(recorder: Recorder) -> None:
    """A sign in the journal does not stand for the reason why a run ended."""
    source = recorder.source()
    source.channel.publish(4)
    capture = recorder.start(source)
    await until(lambda: "stalled" in capture.progress().signs)
    await capture.drain()
    again = recorder.start(source)
    await publish_slowly(source.channel, 2)
    await stored(again, 6)
    await again.drain()
    resumed = [r.why for r in records(recorder.folder) if isinstance(r, Resumed)]
    assert resumed == ["drained"]


@pytest.mark.parametrize("times", [1, 100])
async def test_a_segment_that_hangs_holds_up_none_of_those_behind_it(
    recorder: Recorder, times: int
) -> None:
    source = recorder.source()
    channel = source.channel
    channel.publish(4)
    around = recorder.around(source, thresholds=replace(QUICK, segment_idle_s=1))
    capture = recorder.start(source, around)
    await stored(capture, 4)
    channel.stuck[5] = times
    for _ in range(8):
        channel.publish()
        await until(lambda: any("s1/" in r for r in channel.requests))
    lost = int(times > 1)
    await stored(capture, 12 - lost)
    assert capture.progress().lost == lost
