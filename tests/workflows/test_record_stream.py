"""RecordStream against fake activities: what a person, a source or a failing part does to it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from temporalio.client import (
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from temporalio.exceptions import ApplicationError

from streamvault.contracts import ChannelUpdate, Recorded, Status, Step
from tests.workflows.fakes import DRAINED, ENDED, failure
from tests.workflows.stage import Stage
from tests.workflows.story import PROCESSED, RECORDED, recording


async def status_of(stage: Stage) -> WorkflowExecutionStatus | None:
    return (await stage.stream.describe()).status


async def test_a_stream_is_detected_recorded_processed_and_announced(stage: Stage) -> None:
    await recording(stage)
    stage.cast.recording.ends.put_nowait(ENDED)
    done = await stage.stream.result()
    assert stage.cast.work() == RECORDED + PROCESSED
    assert (done.outcome, done.reason) == (Status.COMPLETED, "")
    assert stage.cast.catalog.last == (Status.COMPLETED, Step.NOTIFY, "")
    assert [c.status for c in stage.cast.catalog.statuses] == [Status.PROCESSING, Status.COMPLETED]
    assert stage.cast.recording.seals[0].reason == "the playlist ended"
    await stage.keep(stage.stream, "record_stream-happy")
    await stage.keep(stage.processing, "process_recording-happy")


async def test_detection_gives_the_recorder_a_snapshot(stage: Stage) -> None:
    await recording(stage)
    order = stage.cast.recording.sessions[0]
    found = stage.cast.streams.found
    assert (order.directory, order.end_grace_s) == (found.directory, found.end_grace_s)
    assert (order.recording_id, order.session) == (stage.recording_id, 1)


async def test_what_was_over_when_it_was_adopted_becomes_a_file(stage: Stage) -> None:
    """The watchdog took it up again after its stream had ended."""
    stage.cast.streams.found = replace(stage.cast.streams.found, live=False)
    await stage.go_live()
    done = await stage.stream.result()
    assert stage.cast.work() == ["detect", "claim", "seal", *PROCESSED]
    assert done.outcome == Status.COMPLETED


async def test_the_status_query_follows_the_stages(stage: Stage) -> None:
    script = stage.cast.script
    script.hold("detect")
    await stage.go_live()
    await stage.until_called("detect")
    assert (await stage.status(stage.stream)).stage == "detect"
    script.release("detect")
    await recording_has_begun(stage)
    said = await stage.status(stage.stream)
    assert said.stage == "record"
    assert stage.cast.host_id in said.detail
    script.hold("seal")
    stage.cast.recording.ends.put_nowait(ENDED)
    await stage.until_called("seal")
    assert (await stage.status(stage.stream)).stage == "sealing"
    script.hold("remux")
    script.release("seal")
    await stage.until_called("remux")
    assert (await stage.status(stage.stream)).stage == "processing"
    assert (await stage.status(stage.processing)).stage == "remux"
    script.release("remux")
    await stage.stream.result()
    assert (await stage.status(stage.stream)).stage == "done"
    assert (await stage.status(stage.processing)).stage == "done"


async def recording_has_begun(stage: Stage) -> None:
    await stage.until(lambda: bool(stage.cast.recording.sessions))


# ---- stop


async def test_a_stop_while_recording_finishes_the_file(stage: Stage) -> None:
    await recording(stage)
    await stage.stream.signal("stop", "stopped")
    done = await stage.stream.result()
    assert done.outcome == Status.COMPLETED
    assert stage.cast.work() == RECORDED + PROCESSED
    assert stage.cast.recording.seals[0].reason == "stopped"
    await stage.keep(stage.stream, "record_stream-stopped")


async def test_a_stop_reaches_a_capture_whose_attempt_is_not_heard(stage: Stage) -> None:
    await recording(stage)
    await stage.stream.signal("stop", "enough")
    await stage.stream.result()
    [nudge] = stage.cast.recording.nudges
    assert (nudge.word, nudge.reason) == ("stop", "enough")


async def test_a_stopped_recording_says_so_to_the_end(stage: Stage) -> None:
    """So that an automatic source does not restart what a person stopped."""
    await recording(stage)
    await stage.stream.signal("stop", "a person's own words")
    await stage.stream.result()
    assert [c.reason for c in stage.cast.catalog.statuses] == ["stopped", "stopped"]


async def test_a_stop_while_detecting_records_nothing(stage: Stage) -> None:
    stage.cast.script.hold("detect")
    await stage.go_live()
    await stage.until_called("detect")
    await stage.stream.signal("stop")
    done = await stage.stream.result()
    assert (done.outcome, done.reason) == (Status.FAILED, "stopped")
    assert stage.cast.work() == ["detect"]
    assert stage.cast.catalog.last[::2] == (Status.FAILED, "stopped")
    assert await status_of(stage) == WorkflowExecutionStatus.COMPLETED


async def test_a_stop_while_the_source_does_not_answer_is_no_failure(stage: Stage) -> None:
    stage.cast.script.failures["detect"] = [failure("no answer", "SourceUnavailable")] * 12
    await stage.go_live()
    await stage.until_called("detect", 2)
    await stage.stream.signal("stop")
    assert (await stage.stream.result()).reason == "stopped"


async def test_a_stop_while_claiming_is_not_lost(stage: Stage) -> None:
    stage.cast.script.hold("claim")
    await stage.go_live()
    await stage.until_called("claim")
    await stage.stream.signal("stop")
    done = await stage.stream.result()
    assert (done.outcome, done.reason) == (Status.FAILED, "stopped")
    assert "record" not in stage.cast.script.calls


async def test_a_stop_before_the_first_segment_fails_without_alarm(stage: Stage) -> None:
    stage.cast.recording.stored = 0
    await recording(stage)
    await stage.stream.signal("stop")
    done = await stage.stream.result()
    assert (done.outcome, done.reason) == (Status.FAILED, "stopped")
    assert await status_of(stage) == WorkflowExecutionStatus.COMPLETED
    assert stage.cast.work() == RECORDED


@pytest.mark.parametrize("step", ["remux", "announce"])
async def test_a_stop_while_processing_changes_nothing_and_says_so(stage: Stage, step: str) -> None:
    """Nor does a second one. Row F44."""
    stage.cast.script.hold(step)
    await recording(stage)
    stage.cast.recording.ends.put_nowait(ENDED)
    await stage.until_called(step)
    for _ in range(2):
        await stage.stream.signal("stop")
        said = await stage.status(stage.stream)
        assert said.detail == "stop came while processing: nothing is being recorded"
    stage.cast.script.release(step)
    assert (await stage.stream.result()).outcome == Status.COMPLETED
    assert stage.cast.work() == RECORDED + PROCESSED


async def test_a_stop_outlives_an_attempt_that_is_lost(stage: Stage) -> None:
    await recording(stage)
    stage.cast.recording.ends.put_nowait(failure("the attempt broke", "AccessRefused"))
    await stage.stream.signal("stop")
    done = await stage.stream.result()
    assert done.outcome == Status.COMPLETED
    assert "seal" in stage.cast.script.calls


async def test_cancelling_the_workflow_is_a_stop(stage: Stage) -> None:
    await recording(stage)
    await stage.stream.cancel()
    done = await stage.stream.result()
    assert done.outcome == Status.COMPLETED
    assert stage.cast.work() == RECORDED + PROCESSED
    await stage.keep(stage.stream, "record_stream-cancelled")


async def test_cancelling_while_detecting_is_a_stop(stage: Stage) -> None:
    stage.cast.script.hold("detect")
    await stage.go_live()
    await stage.until_called("detect")
    await stage.stream.cancel()
    assert (await stage.stream.result()).reason == "stopped"


async def test_cancelling_while_sealing_loses_nothing(stage: Stage) -> None:
    stage.cast.script.hold("seal")
    await recording(stage)
    stage.cast.recording.ends.put_nowait(ENDED)
    await stage.until_called("seal")
    await stage.stream.cancel()
    stage.cast.script.release("seal")
    assert (await stage.stream.result()).outcome == Status.COMPLETED
    assert stage.cast.work() == RECORDED + PROCESSED


async def test_cancelling_while_processing_leaves_the_processing_alone(stage: Stage) -> None:
    stage.cast.script.hold("remux")
    await recording(stage)
    stage.cast.recording.ends.put_nowait(ENDED)
    await stage.until_called("remux")
    await stage.stream.cancel()
    with pytest.raises(WorkflowFailureError):
        await stage.stream.result()
    assert await status_of(stage) == WorkflowExecutionStatus.CANCELED
    stage.cast.script.release("remux")
    await stage.processing.result()
    assert stage.cast.work() == RECORDED + PROCESSED


# ---- restart


async def test_a_restart_while_recording_reaches_the_capture(stage: Stage) -> None:
    await recording(stage)
    await stage.stream.signal("restart", "the picture froze")
    await stage.until_called("nudge")
    [nudge] = stage.cast.recording.nudges
    assert (nudge.word, nudge.reason) == ("restart", "the picture froze")
    stage.cast.recording.ends.put_nowait(ENDED)
    await stage.stream.result()
    assert stage.cast.work() == RECORDED + PROCESSED
    await stage.keep(stage.stream, "record_stream-restarted")


async def test_a_restart_while_processing_records_on_in_the_same_recording(stage: Stage) -> None:
    stage.cast.script.hold("remux")
    await recording(stage)
    stage.cast.recording.ends.put_nowait(ENDED)
    await stage.until_called("remux")
    await stage.stream.signal("restart", "seen live again")
    await recording(stage, session=2)
    assert stage.cast.catalog.last[0] == Status.RECORDING
    assert stage.cast.catalog.steps[-1].step == Step.REMUX
    stage.cast.script.release("remux")
    stage.cast.recording.ends.put_nowait(ENDED)
    assert (await stage.stream.result()).outcome == Status.COMPLETED
    assert stage.cast.work() == [*RECORDED, "remux", "record", "seal", *PROCESSED]
    assert {order.recording_id for order in stage.cast.recording.sessions} == {stage.recording_id}
    await stage.keep(stage.stream, "record_stream-recorded_again")


async def test_a_restart_after_a_stop_records_on(stage: Stage) -> None:
    stage.cast.script.hold("remux")
    await recording(stage)
    await stage.stream.signal("stop")
    await stage.until_called("remux")
    await stage.stream.signal("restart")
    await recording(stage, session=2)
    stage.cast.script.release("remux")
    stage.cast.recording.ends.put_nowait(ENDED)
    await stage.stream.result()
    assert stage.cast.catalog.last == (Status.COMPLETED, Step.NOTIFY, "")


async def test_a_restart_while_remux_is_parked_leaves_no_alarm(stage: Stage) -> None:
    stage.cast.script.failures["remux"] = [failure("ffmpeg is gone", permanent=True)]
    await recording(stage)
    stage.cast.recording.ends.put_nowait(ENDED)
    await stage.until_stage(stage.processing, "parked:remux")
    await stage.stream.signal("restart")
    await recording(stage, session=2)
    await stage.until_found(
        stage.processing,
        f"WorkflowId='{stage.processing.id}' AND ExecutionStatus='Canceled' "
        "AND SvNeedsAttention=false",
    )
    waiting = stage.cast.catalog.steps[-1]
    assert (waiting.step, waiting.state) == ("remux", "waiting")


async def test_a_restart_too_late_changes_nothing_and_says_so(stage: Stage) -> None:
    stage.cast.catalog.can_grow = [False]
    stage.cast.script.hold("thumbnails")
    await recording(stage)
    stage.cast.recording.ends.put_nowait(ENDED)
    await stage.until_called("thumbnails")
    await stage.stream.signal("restart")
    await stage.until_called("can_resume")
    stage.cast.script.release("thumbnails")
    assert (await stage.stream.result()).outcome == Status.COMPLETED
    assert stage.cast.work() == RECORDED + PROCESSED


async def test_a_file_that_was_finished_meanwhile_is_processed_to_the_end(stage: Stage) -> None:
    """The remux ends between the question whether the recording can grow and the cancellation."""
    stage.cast.catalog.can_grow = [True, False]
    stage.cast.script.hold("thumbnails")
    await recording(stage)
    stage.cast.recording.ends.put_nowait(ENDED)
    await stage.until_called("thumbnails")
    await stage.stream.signal("restart")
    await stage.until_called("can_resume", 2)
    stage.cast.script.release("thumbnails")
    assert (await stage.stream.result()).outcome == Status.COMPLETED
    assert stage.cast.work() == [*RECORDED, "remux", "thumbnails", *PROCESSED]
    assert stage.cast.catalog.last[0] == Status.COMPLETED


async def test_a_stop_outlives_a_restart_before_it(stage: Stage) -> None:
    """The processing makes way already when a person stops the stream after all."""
    script = stage.cast.script
    script.hold("remux")
    await recording(stage)
    stage.cast.recording.ends.put_nowait(ENDED)
    await stage.until_called("remux")
    script.hold("can_resume")
    await stage.stream.signal("restart")
    await stage.until_called("can_resume")
    await stage.stream.signal("stop")
    script.release("can_resume")
    script.release("remux")
    assert (await stage.stream.result()).outcome == Status.COMPLETED
    assert stage.cast.work() == RECORDED + PROCESSED


async def test_a_restart_while_detecting_says_so(stage: Stage) -> None:
    stage.cast.script.hold("detect")
    await stage.go_live()
    await stage.until_called("detect")
    await stage.stream.signal("restart")
    said = await stage.status(stage.stream)
    assert said.detail == "restart came while detect: nothing to restart"
    stage.cast.script.release("detect")
    await recording_has_begun(stage)
    assert not stage.cast.recording.nudges


async def test_a_nudge_that_fails_leaves_the_recording_alone(stage: Stage) -> None:
    stage.cast.script.failures["nudge"] = [failure("no capture runs here", permanent=True)]
    await recording(stage)
    await stage.stream.signal("restart")
    await stage.until_called("nudge")
    stage.cast.recording.ends.put_nowait(ENDED)
    assert (await stage.stream.result()).outcome == Status.COMPLETED


# ---- recorders that go away


async def test_a_drained_session_goes_on_on_the_same_recorder(stage: Stage) -> None:
    await recording(stage)
    stage.cast.recording.ends.put_nowait(DRAINED)
    await recording(stage, session=2)
    stage.cast.recording.ends.put_nowait(ENDED)
    await stage.stream.result()
    assert stage.cast.work() == ["detect", "claim", "record", "record", "seal", *PROCESSED]
    await stage.keep(stage.stream, "record_stream-drained")


async def test_a_recorder_that_is_gone_is_claimed_again(stage: Stage) -> None:
    """Its queue has no worker: the claim was answered by a process that has ended since.

    Takes the 20 s that a recorder has to answer: work that waits for a worker stops the skipping
    of time."""
    stage.cast.recording.claims = ["dead"]
    await stage.go_live()
    stage.cast.recording.ends.put_nowait(ENDED)
    assert (await stage.stream.result()).outcome == Status.COMPLETED
    assert stage.cast.work("claim", "record") == ["claim", "claim", "record"]
    await stage.keep(stage.stream, "record_stream-recorder_gone")


async def test_what_a_lost_recorder_stored_outlives_a_stop(stage: Stage) -> None:
    """Nobody answers the second claim; the stop must not forget the first session's parts.

    Takes 20 s too."""
    await recording(stage)
    await stage.rest(["host", "record"])
    await stage.until_detail(stage.stream, "looking for a recorder with room")
    await stage.stream.signal("stop")
    await stage.work(["host"])
    assert (await stage.stream.result()).outcome == Status.COMPLETED
    assert stage.cast.work() == RECORDED + PROCESSED


async def test_a_capture_that_cannot_go_on_keeps_what_it_has(stage: Stage) -> None:
    await recording(stage)
    stage.cast.recording.ends.put_nowait(DRAINED)
    await recording(stage, session=2)
    stage.cast.recording.ends.put_nowait(failure("a subscription is needed", "AccessRefused"))
    assert (await stage.stream.result()).outcome == Status.COMPLETED
    assert stage.cast.recording.seals[0].reason == "a subscription is needed"
    assert stage.cast.work()[-5:] == PROCESSED


# ---- sources


async def test_an_offline_source_fails_with_the_reason_in_plain_words(stage: Stage) -> None:
    words = "alice is offline: it is recorded when it goes live"
    stage.cast.script.failures["detect"] = [failure(words, "StreamOffline", permanent=True)]
    await stage.go_live()
    with pytest.raises(WorkflowFailureError) as failed:
        await stage.stream.result()
    cause = failed.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.message) == ("RecordingFailed", words)
    assert stage.cast.catalog.last == (Status.FAILED, Step.DETECT, words)
    assert [(c.step, c.state, c.error) for c in stage.cast.catalog.steps] == [
        (Step.DETECT, "failed", words)
    ]
    await stage.keep(stage.stream, "record_stream-offline")


async def test_a_look_that_a_stopping_worker_took_along_is_made_up_for(stage: Stage) -> None:
    stage.cast.script.lost.append("detect")
    async with asyncio.timeout(30):
        await stage.go_live()
        await stage.until(lambda: len(stage.cast.recording.sessions) == 1)
    assert stage.cast.work() == ["detect", "detect", "claim", "record"]


async def test_an_announced_stream_is_waited_for(stage: Stage) -> None:
    """Twitch tells of a stream some seconds before it can be played."""
    offline = failure("nothing is live at twitch.tv/alice", "StreamOffline", permanent=True)
    stage.cast.recording.ends.put_nowait(offline)
    await stage.go_live(started_by="webhook")
    await stage.until(lambda: len(stage.cast.recording.sessions) == 2)
    assert not stage.cast.catalog.statuses
    stage.cast.recording.ends.put_nowait(ENDED)
    assert (await stage.stream.result()).outcome == Status.COMPLETED


async def test_an_announced_stream_that_never_comes_fails(skipping: Stage) -> None:
    offline = failure("nothing is live at twitch.tv/alice", "StreamOffline", permanent=True)
    skipping.cast.recording.stored = 0
    for _ in range(60):
        skipping.cast.recording.ends.put_nowait(offline)
    await skipping.go_live(started_by="webhook")
    with pytest.raises(WorkflowFailureError):
        await skipping.stream.result()
    # Every 5 s for three minutes, give or take what the sessions themselves took.
    assert 30 <= len(skipping.cast.recording.sessions) <= 37


async def test_a_stream_that_ends_before_its_first_segment_fails(stage: Stage) -> None:
    stage.cast.recording.stored = 0
    await recording(stage)
    stage.cast.recording.ends.put_nowait(Recorded("nothing", "the playlist is gone"))
    with pytest.raises(WorkflowFailureError) as failed:
        await stage.stream.result()
    assert str(failed.value.cause) == "RecordingFailed: the playlist is gone"
    assert stage.cast.catalog.last == (Status.FAILED, Step.RECORD, "the playlist is gone")


async def test_offline_news_are_passed_on_to_be_verified(stage: Stage) -> None:
    await recording(stage)
    await stage.stream.signal("went_offline", "EventSub")
    await stage.until_called("nudge")
    [nudge] = stage.cast.recording.nudges
    assert (nudge.word, nudge.reason) == ("offline", "EventSub")
    assert (await stage.status(stage.stream)).stage == "record"


async def test_a_new_title_is_noted_with_its_time(stage: Stage) -> None:
    await recording(stage)
    at = "2026-11-25T12:00:00+00:00"
    await stage.stream.signal("channel_updated", ChannelUpdate("any%", "Chess", at))
    await stage.stream.signal("channel_updated", ChannelUpdate("100%", "Chess"))
    await stage.until_called("note_channel", 2)
    first, second = stage.cast.catalog.channels
    assert (first.recording_id, first.title, first.at) == (stage.recording_id, "any%", at)
    assert second.title == "100%" and second.at > at


async def test_a_title_that_cannot_be_noted_does_not_end_the_recording(stage: Stage) -> None:
    stage.cast.script.failures["note_channel"] = [failure("not a time", permanent=True)]
    await recording(stage)
    await stage.stream.signal("channel_updated", ChannelUpdate("any%", "Chess", "yesterday"))
    await stage.until_called("note_channel")
    stage.cast.recording.ends.put_nowait(ENDED)
    assert (await stage.stream.result()).outcome == Status.COMPLETED


async def test_signals_may_come_before_the_first_worker(stage: Stage) -> None:
    """`start` answers before anything runs, so a title can change and a person can stop by then."""
    await stage.rest()
    await stage.go_live()
    await stage.stream.signal("channel_updated", ChannelUpdate("any%", "Chess"))
    await stage.stream.signal("restart")
    await stage.stream.signal("went_offline")
    await stage.work()
    await recording_has_begun(stage)
    assert [event.title for event in stage.cast.catalog.channels] == ["any%"]


# ---- the child


async def test_a_given_up_remux_fails_the_child_alone(stage: Stage) -> None:
    stage.cast.script.failures["remux"] = [failure("ffmpeg is gone", permanent=True)]
    await recording(stage)
    stage.cast.recording.ends.put_nowait(ENDED)
    await stage.until_stage(stage.processing, "parked:remux")
    await stage.processing.execute_update("give_up", "")
    done = await stage.stream.result()
    assert await status_of(stage) == WorkflowExecutionStatus.COMPLETED
    assert (await stage.processing.describe()).status == WorkflowExecutionStatus.FAILED
    assert done.outcome == Status.FAILED
    assert done.reason == "remux was given up (given up): ffmpeg is gone"
    await stage.keep(stage.stream, "record_stream-remux_given_up")


async def test_a_processing_that_somebody_cancelled_stands_as_failed(stage: Stage) -> None:
    stage.cast.script.hold("remux")
    await recording(stage)
    stage.cast.recording.ends.put_nowait(ENDED)
    await stage.until_called("remux")
    await stage.processing.cancel()
    done = await stage.stream.result()
    assert done.outcome == Status.FAILED
    assert stage.cast.catalog.last == (Status.FAILED, Step.REMUX, "processing was cancelled")


async def test_streams_are_found_by_stage_streamer_and_host(stage: Stage) -> None:
    await recording(stage)
    await stage.until_found(
        stage.stream,
        f"SvStage='record' AND SvStreamer='Alice' AND SvHost='{stage.cast.host_id}' "
        "AND ExecutionStatus='Running'",
    )
