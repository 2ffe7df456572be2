"""The outer watchdog: what it does about a stall, and when Temporal lost a recording."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update
from temporalio.testing import WorkflowEnvironment

from activities import watchdog
from activities.watchdog import Watchdog
from streamvault.contracts import Status
from streamvault.db import captured, facts, recordings
from streamvault.db.models import Recording
from streamvault.db.session import Database
from streamvault.embedded.binaries import find_temporal
from tests.activities.door import Door
from tests.conftest import SEARCH_ATTRIBUTES
from tests.workflows.fakes import ENDED, failure
from tests.workflows.stage import Stage
from workflows.record_stream import RecordStream

TICK_S = 15.0
Watch = Callable[..., Coroutine[None, None, None]]


@pytest.fixture
def dog(door: Door, monkeypatch: pytest.MonkeyPatch) -> Watchdog:
    monkeypatch.setattr(watchdog, "FRESH", timedelta())
    return Watchdog(door.db, door.stage.client, door.stage.cast.host_id)


async def told(db: Database) -> dict[str, Any]:
    async with db.begin() as session:
        fact = await facts.get_fact(session, facts.WATCHDOG)
    assert fact is not None
    return fact.value


@pytest.fixture
def watch_for(door: Door, dog: Watchdog, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """So many seconds of the watch, in which the recorder saves the same again and again."""
    clock = [1000.0]
    monkeypatch.setattr(watchdog, "monotonic", lambda: clock[0])

    async def watched(recording_id: str, seconds: float, status: str = Status.RECORDING) -> None:
        for _ in range(int(seconds / TICK_S) + 1):
            async with door.db.begin() as session:
                still = captured.Progress(size_bytes=4_000, duration_s=8.0, status=status)
                await captured.save_progress(session, recording_id, still)
            await dog._tick()
            clock[0] += TICK_S

    return watched


# ---- stalls


async def test_a_recording_that_stands_still_is_restarted_once_and_it_is_told_why(
    door: Door, watch_for: Watch
) -> None:
    recording_id, _ = await door.start()
    await door.until_recording()
    await watch_for(recording_id, 60)
    await door.stage.until_called("nudge")
    nudges = [(n.word, n.reason) for n in door.stage.cast.recording.nudges]
    assert nudges == [("restart", "no progress for 30 s")]
    value = await told(door.db)
    assert (value["restarted"], value["adopted"]) == (1, 0)
    last = value["last"][-1]
    assert (last["recording_id"], last["what"]) == (recording_id, "restarted")
    await door.finish()


async def test_a_stream_that_its_source_calls_over_is_not_restarted_in_its_grace(
    door: Door, watch_for: Watch
) -> None:
    recording_id, _ = await door.start()
    await door.until_recording()
    script = door.stage.cast.script
    script.failures["probe"] = [failure("alice is offline", "StreamOffline", permanent=True)] * 9
    await watch_for(recording_id, 120, Status.RECONNECTING)
    assert (await told(door.db))["restarted"] == 0
    # Asked once a minute, not with each look.
    assert script.calls.count("probe") == 1 + 2
    script.failures["probe"].clear()
    await door.finish()


async def test_what_moves_while_its_source_is_asked_is_left_alone(
    door: Door, watch_for: Watch
) -> None:
    recording_id, _ = await door.start()
    await door.until_recording()
    script = door.stage.cast.script
    script.hold("probe")
    watched = asyncio.create_task(watch_for(recording_id, 30))
    await door.stage.until_called("probe", 2)  # the first was the start's
    async with door.db.begin() as session:
        await captured.save_progress(session, recording_id, captured.Progress(9_000, 18.0))
    script.release("probe")
    await watched
    assert (await told(door.db))["restarted"] == 0
    assert door.stage.cast.recording.nudges == []
    await door.finish()


# ---- what Temporal lost


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
    assert (await told(door.db))["adopted"] == 1


@pytest.fixture
async def fresh_server() -> AsyncIterator[WorkflowEnvironment]:
    """Temporal on a store that knows nothing."""
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(find_temporal()),
        search_attributes=SEARCH_ATTRIBUTES,
        dev_server_log_level="error",
    ) as environment:
        yield environment


async def test_on_a_fresh_store_the_one_recording_goes_on(
    door: Door, dog: Watchdog, fresh_server: WorkflowEnvironment
) -> None:
    recording_id, _ = await door.start()
    await door.until_recording()
    await door.stage.rest()
    former = (await door.row(recording_id)).workflow_id

    fresh = Stage(fresh_server)
    fresh.cast, fresh.instead = door.stage.cast, door.stage.instead
    fresh.stream = fresh.client.get_workflow_handle_for(RecordStream.run, former)
    await fresh.work()
    try:
        await Watchdog(door.db, fresh.client, dog.host_id)._tick()
        await door.until_recording(session=2)
        row = await door.row(recording_id)
        assert (await door.rows(), row.workflow_id) == (1, former)
        first, second = fresh.cast.recording.sessions
        assert (first.recording_id, first.directory) == (second.recording_id, second.directory)
        fresh.cast.recording.ends.put_nowait(ENDED)
        await fresh.stream.result()
        assert (await door.row(recording_id)).status == Status.COMPLETED
    finally:
        await fresh.close()


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


async def test_one_row_that_cannot_be_looked_at_holds_up_no_other(
    door: Door, dog: Watchdog
) -> None:
    recording_id, _ = await door.start()
    await door.until_recording()
    await door.stage.stream.terminate()
    async with door.db.begin() as session:
        bad = recordings.NewRecording("url:bad", "https://fake.example.org/bad")
        row, _ = await recordings.open_recording(session, bad)
        # Longer than any id that Temporal takes.
        await session.execute(
            update(Recording).where(Recording.id == row.id).values(workflow_id="w" * 5000)
        )
    await dog._tick()
    await door.until_recording(session=2)
    value = await told(door.db)
    assert value["adopted"] == 1
    assert value["problem"]
    async with door.db.begin() as session:
        await recordings.update_recording(session, row.id, workflow_id="w")
    await door.finish()
    assert (await door.row(recording_id)).status == Status.COMPLETED


async def test_what_was_done_is_counted_on_by_the_next_process(door: Door, dog: Watchdog) -> None:
    recording_id, _ = await door.start()
    await door.until_recording()
    await door.stage.stream.terminate()
    await dog._tick()
    await door.until_recording(session=2)
    another = Watchdog(door.db, door.stage.client, door.stage.cast.host_id)
    await another._tick()
    value = await told(door.db)
    assert value["adopted"] == 1
    assert [deed["recording_id"] for deed in value["last"]] == [recording_id]
    await door.finish()


# ---- when something does not answer


async def test_while_temporal_hangs_the_watchdog_still_tells_of_itself(
    door: Door, dog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await door.start()
    await door.until_recording()
    monkeypatch.setattr(watchdog, "LOOK_LIMIT_S", 0.0)
    await dog._tick()
    value = await told(door.db)
    assert value["problem"] == "Temporal does not answer in time"
    assert value["recordings"] == 1
    await door.finish()


async def test_a_database_that_is_away_is_looked_at_again_later(door: Door, dog: Watchdog) -> None:
    async with door.db.begin() as session:
        await facts.put_fact(session, facts.WATCHDOG, {"recordings": 7, "silent": 0})
    await door.db.close()
    nowhere = Watchdog(
        Database("postgresql+asyncpg://nobody@127.0.0.1:1/nothing"), dog.client, dog.host_id
    )
    async with asyncio.timeout(30):
        await nowhere._tick()
    await nowhere.db.close()
    assert (await told(door.db))["recordings"] == 7


async def test_it_tells_how_many_recorders_are_silent(door: Door, dog: Watchdog) -> None:
    recording_id, _ = await door.start()
    await door.until_recording()
    async with door.db.begin() as session:
        await captured.save_progress(
            session, recording_id, captured.Progress(1, 1.0, status=Status.RECONNECTING)
        )
    await dog._tick()
    value = await told(door.db)
    assert (value["silent"], value["reconnecting"]) == (0, 1)
    async with door.db.begin() as session:
        long_ago = datetime.now(UTC) - timedelta(seconds=90)
        await recordings.update_recording(session, recording_id, progress_at=long_ago)
    await dog._tick()
    assert (await told(door.db))["silent"] == 1
    await door.finish()
