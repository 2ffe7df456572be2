"""The rule: two of playlist, notice and token; then a grace; only then the end."""

from __future__ import annotations

from streamvault.hls.ending import EndWatch, Verdict
from streamvault.hls.thresholds import Thresholds

LIMITS = Thresholds()


def watch(*, plain: bool = False) -> EndWatch:
    return EndWatch(LIMITS, end_grace_s=90.0, now=0.0, plain=plain)


def test_two_witnesses_and_the_grace_make_an_end() -> None:
    ending = watch()
    ending.saw_playlist(10.0, ended=True)
    assert ending.verdict(500.0)[0] is Verdict.LIVE
    ending.saw_no_stream(20.0)
    assert ending.verdict(109.0)[0] is Verdict.AWAY
    assert ending.verdict(110.0) == (
        Verdict.ENDED,
        "the playlist has ended, the player says offline",
    )


def test_404_counts_after_half_a_minute_and_not_if_the_playlist_was_back() -> None:
    ending = watch()
    ending.saw_no_stream(0.0)
    ending.saw_no_playlist(0.0)
    ending.saw_no_playlist(29.0)
    assert not ending.away
    ending.saw_playlist(29.5, ended=False)
    ending.saw_no_playlist(31.0)
    assert not ending.away
    ending.saw_no_playlist(61.0)
    assert ending.away


def test_new_segments_undo_everything() -> None:
    ending = watch()
    ending.saw_playlist(10.0, ended=True)
    ending.saw_no_stream(10.0)
    ending.saw_segments(50.0)
    assert ending.verdict(300.0)[0] is Verdict.LIVE
    ending.saw_no_stream(60.0)
    assert not ending.away


def test_a_notice_outlives_the_last_segments_but_not_a_stream_that_goes_on() -> None:
    ending = watch()
    ending.heard_notice(10.0, "EventSub")
    ending.saw_segments(12.0)
    ending.saw_playlist(13.0, ended=True)
    assert ending.away
    ending = watch()
    ending.heard_notice(10.0, "EventSub")
    ending.saw_segments(40.0)
    ending.saw_playlist(41.0, ended=True)
    assert not ending.away


def test_silence_ends_after_ten_minutes_and_a_bare_playlist_after_five() -> None:
    assert watch().verdict(599.0)[0] is Verdict.LIVE
    assert watch().verdict(600.0) == (Verdict.ENDED, "nothing new for 600 s")
    assert watch(plain=True).verdict(300.0)[0] is Verdict.ENDED


def test_a_bare_playlist_needs_no_second_witness() -> None:
    ending = watch(plain=True)
    ending.saw_playlist(10.0, ended=True)
    assert ending.verdict(100.0) == (Verdict.ENDED, "the playlist has ended")


def test_notices_of_two_kinds_are_two_witnesses_unless_segments_still_come() -> None:
    ending = watch()
    ending.saw_segments(100.0)
    ending.heard_notice(101.0, "EventSub says offline")
    ending.heard_notice(101.0, "absent from Get Streams")
    assert not ending.away
    assert ending.verdict(100.0 + LIMITS.stall_s)[0] is Verdict.AWAY
    ending.saw_segments(120.0)
    assert ending.verdict(121.0)[0] is Verdict.LIVE


def test_the_same_notice_twice_is_one_witness() -> None:
    ending = watch()
    ending.heard_notice(30.0, "EventSub says offline")
    ending.heard_notice(60.0, "EventSub says offline")
    assert ending.verdict(90.0)[0] is Verdict.LIVE


def test_another_stream_in_its_place_needs_no_grace() -> None:
    ending = watch()
    ending.heard_of_another("another stream has begun")
    assert ending.verdict(1.0) == (Verdict.ENDED, "another stream has begun")
