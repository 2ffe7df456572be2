"""What the outer watchdog calls a stall."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from activities.stalls import Stalls
from streamvault.contracts import Status, Step
from streamvault.db.watch import Unfinished

ONE = uuid.uuid4()
EPOCH = datetime(2026, 11, 26, 12, tzinfo=UTC)
TICK_S = 15


def saved(at_s: float, media_s: float = 60.0, status: str = Status.RECORDING) -> Unfinished:
    """As the recorder saved it at this second of the watch."""
    at = EPOCH + timedelta(seconds=at_s)
    return Unfinished(ONE, status, Step.RECORD, "w", media_s, 1000, at, EPOCH)


def standing(until_s: int, status: str = Status.RECORDING) -> list[tuple[float, Unfinished]]:
    """Looks at a recording that is saved again and again and gets no further."""
    return [(n, saved(n, status=status)) for n in range(0, until_s, TICK_S)]


def times_restarted(looks: Sequence[tuple[float, Unfinished]]) -> list[float]:
    stalls = Stalls()
    return [at_s for at_s, row in looks if stalls.see([row], at_s)]


def test_what_moves_is_left_alone() -> None:
    assert times_restarted([(n, saved(n, media_s=n + 1)) for n in range(0, 600, TICK_S)]) == []


def test_what_stands_still_is_restarted_after_half_a_minute_and_then_each_minute() -> None:
    assert times_restarted(standing(160)) == [30, 90, 150]


def test_one_that_moves_after_its_restart_is_left_alone() -> None:
    moves = [(n, saved(n, media_s=60 + n)) for n in range(45, 300, TICK_S)]
    assert times_restarted([*standing(45), *moves]) == [30]


def test_one_that_reconnects_by_itself_gets_a_minute() -> None:
    assert times_restarted(standing(90, Status.RECONNECTING)) == [60]


def test_a_long_ad_break_is_progress() -> None:
    looks = [(n, replace(saved(n), ads=n // 2)) for n in range(0, 180, TICK_S)]
    assert times_restarted(looks) == []


def test_segments_that_are_lost_one_after_the_other_are_progress() -> None:
    looks = [(n, replace(saved(n), lost=n // 2)) for n in range(0, 180, TICK_S)]
    assert times_restarted(looks) == []


def test_before_its_first_segment_a_recording_does_not_stall() -> None:
    assert times_restarted([(n, saved(n, media_s=0)) for n in range(0, 180, TICK_S)]) == []


def test_what_is_processed_does_not_stall() -> None:
    assert times_restarted(standing(180, Status.PROCESSING)) == []


def test_of_one_whose_recorder_is_silent_nothing_is_known() -> None:
    assert times_restarted([(n, saved(0)) for n in range(0, 180, TICK_S)]) == []


def test_a_recorder_that_was_away_for_a_minute_has_half_a_minute_after_it() -> None:
    away = [(n, saved(0)) for n in range(0, 61, TICK_S)]
    back = [(n, saved(n)) for n in range(75, 120, TICK_S)]
    assert times_restarted([*away, *back]) == [105]


def test_a_database_that_was_away_is_no_stall_of_a_capture_that_went_on() -> None:
    # No look between 15 and 75; the recorder saves again a moment after the look at 75.
    looks = [(0, saved(0, 60)), (15, saved(15, 75)), (75, saved(15, 75)), (90, saved(90, 150))]
    assert times_restarted(looks) == []


def test_of_the_time_in_which_nobody_looked_nothing_is_known() -> None:
    looks = [(0.0, saved(0)), (15.0, saved(15)), (90.0, saved(90)), (105.0, saved(105))]
    assert times_restarted(looks) == []


def test_one_recording_says_nothing_of_another() -> None:
    stalls, other = Stalls(), uuid.uuid4()
    restarted = [
        row.id
        for n in range(0, 60, TICK_S)
        for row in stalls.see([saved(n), replace(saved(n, n + 1), id=other)], n)
    ]
    assert restarted == [ONE]
