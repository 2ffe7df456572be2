"""RecordStream when its recorder has no room: parked, and what becomes of it."""

from __future__ import annotations

import pytest
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError

from streamvault.contracts import Status, Step
from tests.workflows.fakes import ENDED, NO_ROOM, failure
from tests.workflows.stage import Stage
from tests.workflows.story import PROCESSED, RECORDED, recording


async def full(stage: Stage) -> None:
    await recording(stage)
    stage.cast.recording.ends.put_nowait(NO_ROOM)
    await stage.until_stage(stage.stream, "parked:record")


async def test_a_full_disk_parks_the_recording_in_plain_words(stage: Stage) -> None:
    await full(stage)
    said = await stage.status(stage.stream)
    assert (said.parked, said.error) == ([Step.RECORD], NO_ROOM.reason)
    assert NO_ROOM.reason in said.detail and "`retry`" in said.detail
    await stage.until(lambda: len(stage.cast.catalog.statuses) == 1)
    assert stage.cast.catalog.last == (Status.NEEDS_ATTENTION, Step.RECORD, NO_ROOM.reason)
    await stage.until_found(stage.stream, "SvStage='parked:record' AND SvNeedsAttention=true")


async def test_a_full_disk_has_retention_make_room_first(stage: Stage) -> None:
    await full(stage)
    await stage.until(lambda: bool(stage.cast.recording.sweeps))
    assert [order.room_wanted for order in stage.cast.recording.sweeps] == [True]


async def test_a_parked_recording_goes_on_by_retry(stage: Stage) -> None:
    await full(stage)
    assert await stage.stream.execute_update("retry", "") == "retry: record"
    await recording(stage, session=2)
    assert (await stage.status(stage.stream)).parked == []
    await stage.until_found(
        stage.stream, f"WorkflowId='{stage.stream.id}' AND SvNeedsAttention=false"
    )
    stage.cast.recording.ends.put_nowait(ENDED)
    assert (await stage.stream.result()).outcome == Status.COMPLETED
    await stage.keep(stage.stream, "record_stream-parked_retried")


@pytest.mark.parametrize("decision", ["give_up", "skip"])
async def test_a_parked_recording_that_is_given_up_is_processed(
    stage: Stage, decision: str
) -> None:
    await full(stage)
    await stage.stream.execute_update(decision, "record")
    assert (await stage.stream.result()).outcome == Status.COMPLETED
    assert stage.cast.work() == RECORDED + PROCESSED
    if decision == "give_up":
        await stage.keep(stage.stream, "record_stream-given_up")


async def test_a_parked_recording_can_be_stopped(stage: Stage) -> None:
    await full(stage)
    await stage.stream.signal("stop")
    assert (await stage.stream.result()).outcome == Status.COMPLETED
    assert stage.cast.work() == RECORDED + PROCESSED


async def test_a_parked_recording_goes_on_by_itself_once_there_is_room(stage: Stage) -> None:
    for session, lasting_s in ((2, 2.0), (3, 4.0)):
        await full(stage) if session == 2 else stage.cast.recording.ends.put_nowait(NO_ROOM)
        await stage.until_called("await_room", session - 1)
        # A disk that fills up again at once has to show for longer that it has room.
        assert stage.cast.recording.waits[-1].lasting_s == lasting_s
        stage.cast.recording.room.set()
        await recording(stage, session=session)
        stage.cast.recording.room.clear()
    assert stage.cast.catalog.last == (Status.RECORDING, Step.RECORD, "")
    assert (await stage.status(stage.stream)).parked == []
    stage.cast.recording.ends.put_nowait(ENDED)
    assert (await stage.stream.result()).outcome == Status.COMPLETED
    await stage.keep(stage.stream, "record_stream-room_again")


async def test_a_recording_parked_for_three_days_is_processed(skipping: Stage) -> None:
    # Time is not skipped while an activity runs.
    skipping.cast.script.failures["await_room"] = [failure("no answer", permanent=True)]
    await full(skipping)
    assert (await skipping.stream.result()).outcome == Status.COMPLETED
    assert skipping.cast.work() == RECORDED + PROCESSED


async def test_a_disk_that_takes_not_even_the_end_parks_until_it_does(stage: Stage) -> None:
    stage.cast.script.failures["seal"] = [failure("the folder is read-only", "StorageUnwritable")]
    await recording(stage)
    await stage.stream.signal("stop")
    said = await stage.until_stage(stage.stream, "parked:record")
    assert said.error == "the folder is read-only"
    await stage.stream.execute_update("retry", "")
    done = await stage.stream.result()
    assert done.outcome == Status.COMPLETED
    assert stage.cast.work() == [*RECORDED, "seal", *PROCESSED]
    assert stage.cast.catalog.last == (Status.COMPLETED, Step.NOTIFY, "stopped")


async def test_giving_up_at_the_end_is_a_failure_with_its_reason(stage: Stage) -> None:
    stage.cast.script.failures["seal"] = [failure("the folder is read-only", "StorageUnwritable")]
    await recording(stage)
    await stage.stream.signal("stop")
    await stage.until_stage(stage.stream, "parked:record")
    await stage.stream.execute_update("give_up", "")
    with pytest.raises(WorkflowFailureError):
        await stage.stream.result()
    assert stage.cast.catalog.last == (Status.FAILED, Step.RECORD, "the folder is read-only")


async def test_giving_up_a_recording_without_a_segment_names_the_disk(stage: Stage) -> None:
    stage.cast.recording.stored = 0
    await full(stage)
    await stage.stream.execute_update("give_up", "")
    with pytest.raises(WorkflowFailureError):
        await stage.stream.result()
    assert stage.cast.catalog.last == (Status.FAILED, Step.RECORD, NO_ROOM.reason)


async def test_a_recording_that_is_not_parked_takes_no_decision(stage: Stage) -> None:
    await recording(stage)
    for decision in ("retry", "skip", "give_up"):
        with pytest.raises(WorkflowUpdateFailedError) as rejected:
            await stage.stream.execute_update(decision, "")
        assert "recording is not parked" in str(rejected.value.cause)
