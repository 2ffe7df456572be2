"""The outer watchdog: what it calls a stall, and what it does when Temporal lost a recording."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from activities import checks, watchdog
from activities.watchdog import Stalls, Watchdog
from streamvault.contracts import Status, Step
from streamvault.db import facts
from streamvault.db.models import Fact
from streamvault.db.watch import Unfinished
from tests.activities.door import Door

ONE = uuid.uuid4()


def row(
    duration_s: float = 60.0, status: str = Status.RECORDING, told_s: float = 0.0
) -> Unfinished:
    told_at = datetime.now(UTC) - timedelta(seconds=told_s)
    return Unfinished(ONE, status, Step.RECORD, "w", duration_s, 1000, told_at, told_at)


def times_restarted(rows: list[Unfinished], every_s: float = 15.0) -> list[float]:
    """At which second of the watch each restart comes."""
    stalls = Stalls()
    return [n * every_s for n, seen in enumerate(rows) if stalls.see([seen], n * every_s)]


def test_what_moves_is_left_alone() -> None:
    assert times_restarted([row(n * 15.0) for n in range(1, 40)]) == []


def test_what_stands_still_is_restarted_after_half_a_minute_and_then_each_minute() -> None:
    assert times_restarted([row()] * 10) == [30, 90]


def test_one_that_reconnects_by_itself_gets_a_minute() -> None:
    assert times_restarted([row(status=Status.RECONNECTING)] * 6) == [60]


def test_before_its_first_segment_a_recording_does_not_stall() -> None:
    assert times_restarted([row(0.0)] * 10) == []


def test_of_one_whose_recorder_is_silent_nothing_is_known() -> None:
    assert times_restarted([row(told_s=90)] * 10) == []


def test_what_is_processed_does_not_stall() -> None:
    assert times_restarted([row(status=Status.PROCESSING)] * 10) == []


@pytest.fixture
def dog(door: Door, monkeypatch: pytest.MonkeyPatch) -> Watchdog:
    monkeypatch.setattr(watchdog, "FRESH", timedelta())
    return Watchdog(door.db, door.stage.client, door.stage.cast.host_id)


async def test_a_recording_that_temporal_lost_is_taken_up_again(door: Door, dog: Watchdog) -> None:
    recording_id, _ = await door.start()
    await door.until_recording()
    await dog._tick()
    assert door.stage.cast.work() == ["detect", "claim", "record"]

    # As near to a lost store as one server comes: nobody runs it any more.
    await door.stage.stream.terminate()
    await dog._tick()
    await door.until_recording(session=2)
    await door.finish()
    assert (await door.row(recording_id)).status == Status.COMPLETED
    assert await door.rows() == 1
    async with door.db.begin() as session:
        fact = await facts.get_fact(session, facts.WATCHDOG)
    assert fact is not None and fact.value["adopted"] == 1


async def test_a_lost_processing_is_started_again(door: Door, dog: Watchdog) -> None:
    door.stage.cast.script.hold("remux")
    recording_id, _ = await door.start()
    await door.until_recording()
    await door.stage.stream.signal("stop")
    await door.stage.until_called("remux")
    await door.stage.processing.terminate()
    await door.stage.stream.terminate()
    await dog._tick()
    door.stage.cast.script.release("remux")
    await door.until_status(recording_id, Status.COMPLETED)


NOW = datetime.now(UTC)


def told(age_s: float, silent: int = 0) -> Fact:
    value = {"recordings": 2, "silent": silent, "restarted": 0, "adopted": 0}
    return Fact(name="watchdog", value=value, updated_at=NOW - timedelta(seconds=age_s))


def test_its_own_silence_is_an_error() -> None:
    assert checks.of_watchdog(told(15), NOW).state == "ok"
    assert checks.of_watchdog(told(61), NOW).state == "error"
    assert checks.of_watchdog(None, NOW).state == "warning"
    assert checks.of_watchdog(told(15, silent=1), NOW).note == (
        "the recorder does not tell of 1 of 2 unfinished recordings"
    )
