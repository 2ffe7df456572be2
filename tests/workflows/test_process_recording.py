"""ProcessRecording against fake activities: parking, and what a person decides."""

from __future__ import annotations

import pytest
from temporalio.client import (
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError

from streamvault.contracts import PipelineStatus, Status, Step, StepProgress, StepState
from tests.workflows.fakes import ENDED, failure
from tests.workflows.stage import Stage

STEPS = ["remux", "thumbnails", "chapters", "sidecars", "announce"]
BROKEN = "ffmpeg ended with 1: no such codec"


async def parked(stage: Stage, *steps: str) -> None:
    """Processing in which these steps fail beyond help; on real time no back-off is waited for."""
    for step in steps:
        stage.cast.script.failures[step] = [failure(BROKEN, permanent=True)]
    await stage.process()
    await stage.until(lambda: [change.step for change in stage.cast.catalog.steps] == list(steps))


async def rejection(stage: Stage, update: str, step: str = "") -> str:
    with pytest.raises(WorkflowUpdateFailedError) as rejected:
        await stage.processing.execute_update(update, step)
    return str(rejected.value.cause)


async def failed(stage: Stage) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as raised:
        await stage.processing.result()
    assert isinstance(raised.value.cause, ApplicationError)
    return raised.value.cause


def decided(stage: Stage) -> list[tuple[str, str]]:
    return [(change.step, change.state) for change in stage.cast.catalog.steps]


async def test_the_steps_run_in_order(stage: Stage) -> None:
    await stage.process()
    done = await stage.processing.result()
    assert stage.cast.work() == STEPS
    assert (done.recording_id, done.skipped) == (stage.recording_id, [])
    assert stage.cast.catalog.last == (Status.COMPLETED, Step.NOTIFY, "")
    assert decided(stage) == []


async def test_chosen_steps_run_again_on_a_finished_recording(stage: Stage) -> None:
    await stage.process(["thumbnails", "sidecars"], again=True)
    await stage.processing.result()
    assert stage.cast.work() == ["thumbnails", "sidecars"]
    assert all(order.again for order in stage.cast.media.orders)


async def test_what_the_activity_says_of_its_progress_stands_in_the_details(stage: Stage) -> None:
    stage.cast.script.hold("remux")
    await stage.process()
    await stage.until_called("remux")
    for step, percent in (("remux", 42.0), ("thumbnails", 99.0)):
        await stage.processing.signal("progressed", StepProgress(step, percent, 31.25, 150.0))
    said = await stage.processing.query("status", result_type=PipelineStatus)
    assert said.detail == "remux is running: 42 %, 31.2x, about 2 min left"
    stage.cast.script.release("remux")
    await stage.processing.result()
    # It may come when its step is over.
    assert stage.cast.work() == STEPS


# ---- remux blocks


async def test_a_remux_that_fails_three_times_parks_and_a_retry_finishes_it(
    skipping: Stage,
) -> None:
    """Nothing that was done before runs again, and nothing after it runs too early."""
    stage = skipping
    stage.cast.script.failures["remux"] = [failure(BROKEN, "RemuxFailed")] * 3
    await stage.go_live()
    stage.cast.recording.ends.put_nowait(ENDED)
    stage.cast.script.hold("status needs_attention")
    async with stage.skipping_time():
        await stage.until_called("status needs_attention")
    stage.cast.script.release("status needs_attention")
    said = await stage.until_stage(stage.processing, "parked:remux")
    assert stage.cast.work() == ["detect", "claim", "record", "seal", *["remux"] * 3]
    assert (said.parked, said.error) == ([Step.REMUX], BROKEN)
    assert BROKEN in said.detail and "`retry`" in said.detail and "`give_up`" in said.detail
    await stage.until(lambda: len(stage.cast.catalog.statuses) == 2)
    assert stage.cast.catalog.last == (Status.NEEDS_ATTENTION, Step.REMUX, BROKEN)
    assert await stage.processing.execute_update("retry", "") == "retry: remux"
    await stage.stream.result()
    assert stage.cast.work() == ["detect", "claim", "record", "seal", *["remux"] * 3, *STEPS]
    assert [c.status for c in stage.cast.catalog.statuses[-2:]] == [
        Status.PROCESSING,
        Status.COMPLETED,
    ]
    assert decided(stage) == [(Step.REMUX, StepState.PARKED)]
    await stage.keep(stage.processing, "process_recording-parked_retried")


async def test_a_parked_remux_is_found_by_its_search_attributes(stage: Stage) -> None:
    await parked(stage, "remux")
    mine = f"WorkflowId='{stage.processing.id}'"
    await stage.until_found(
        stage.processing,
        f"{mine} AND SvStage='parked:remux' AND SvNeedsAttention=true AND SvStreamer='Alice'",
    )
    await stage.processing.execute_update("retry", "remux")
    await stage.processing.result()
    await stage.until_found(
        stage.processing, f"{mine} AND SvStage='done' AND SvNeedsAttention=false"
    )


async def test_a_remux_can_park_again_and_again(stage: Stage) -> None:
    await parked(stage, "remux")
    for times in (2, 3):
        stage.cast.script.failures["remux"] = [failure(f"try {times}", permanent=True)]
        await stage.processing.execute_update("retry", "")
        said = await stage.until_detail(stage.processing, f"try {times}")
        assert said.parked == [Step.REMUX]
    await stage.processing.execute_update("retry", "")
    await stage.processing.result()
    assert stage.cast.work() == ["remux"] * 3 + STEPS


async def test_a_skipped_remux_completes_the_recording_from_its_parts(stage: Stage) -> None:
    await parked(stage, "remux")
    await stage.processing.execute_update("skip", "")
    done = await stage.processing.result()
    assert done.skipped == [Step.REMUX]
    assert stage.cast.work() == STEPS
    assert decided(stage)[-1] == (Step.REMUX, StepState.SKIPPED)
    assert stage.cast.catalog.last[0] == Status.COMPLETED
    await stage.keep(stage.processing, "process_recording-skipped")


async def test_a_given_up_remux_fails_the_pipeline(stage: Stage) -> None:
    await parked(stage, "remux")
    assert await stage.processing.execute_update("give_up", "") == "given up: remux"
    cause = await failed(stage)
    assert cause.type == "StepFailed.remux"
    assert cause.message == f"remux was given up (given up): {BROKEN}"
    assert stage.cast.work() == ["remux"]
    assert decided(stage)[-1] == (Step.REMUX, StepState.FAILED)
    assert stage.cast.catalog.last == (Status.FAILED, Step.REMUX, f"given up: {BROKEN}")
    await stage.until_found(
        stage.processing,
        f"WorkflowId='{stage.processing.id}' AND ExecutionStatus='Failed' "
        "AND SvNeedsAttention=false",
    )
    await stage.keep(stage.processing, "process_recording-given_up")


async def test_after_three_days_nobody_decides_any_more(skipping: Stage) -> None:
    skipping.cast.script.failures["remux"] = [failure(BROKEN, permanent=True)]
    await skipping.process()
    cause = await failed(skipping)
    assert cause.type == "StepFailed.remux"
    assert "nobody decided within 72 h" in cause.message
    assert skipping.cast.catalog.last[0] == Status.FAILED


# ---- the other steps park on the side


async def test_a_step_on_the_side_does_not_hold_up_the_recording(stage: Stage) -> None:
    await parked(stage, "thumbnails")
    await stage.until_called("status completed")
    assert stage.cast.work() == STEPS
    said = await stage.until_stage(stage.processing, "parked:thumbnails")
    assert said.parked == [Step.THUMBNAILS]
    assert BROKEN in said.detail and "`retry`" in said.detail
    assert (await stage.processing.describe()).status == WorkflowExecutionStatus.RUNNING
    await stage.until_found(
        stage.processing, "SvStage='parked:thumbnails' AND SvNeedsAttention=true"
    )
    await stage.processing.execute_update("retry", "thumbnails")
    await stage.processing.result()
    assert stage.cast.work() == [*STEPS, "thumbnails"]
    assert stage.cast.catalog.last[0] == Status.COMPLETED
    await stage.keep(stage.processing, "process_recording-side_parked_retried")


async def test_one_parked_step_does_not_keep_another_from_its_retry(stage: Stage) -> None:
    await parked(stage, "thumbnails", "chapters")
    await stage.until_called("status completed")
    stage.cast.script.failures["thumbnails"] = [failure("still broken", permanent=True)]
    await stage.processing.execute_update("retry", "thumbnails")
    await stage.until_detail(stage.processing, "still broken")
    await stage.processing.execute_update("retry", "chapters")
    await stage.until_called("chapters", 2)
    await stage.processing.execute_update("skip", "")
    done = await stage.processing.result()
    assert done.skipped == [Step.THUMBNAILS]
    assert stage.cast.work() == [*STEPS, "thumbnails", "chapters"]


async def test_a_decision_may_come_while_later_steps_run(stage: Stage) -> None:
    stage.cast.script.hold("sidecars")
    await parked(stage, "thumbnails")
    await stage.until_called("sidecars")
    await stage.processing.execute_update("retry", "")
    stage.cast.script.release("sidecars")
    await stage.processing.result()
    assert stage.cast.work() == [*STEPS, "thumbnails"]


async def test_a_step_on_the_side_can_be_given_up(stage: Stage) -> None:
    await parked(stage, "chapters")
    await stage.until_called("status completed")
    await stage.processing.execute_update("give_up", "chapters")
    assert (await failed(stage)).type == "StepFailed.chapters"
    assert stage.cast.catalog.last[0] == Status.COMPLETED


async def test_a_step_on_the_side_is_given_up_after_three_days(skipping: Stage) -> None:
    skipping.cast.script.failures["sidecars"] = [failure(BROKEN, permanent=True)]
    await skipping.process()
    assert (await failed(skipping)).type == "StepFailed.sidecars"
    assert skipping.cast.catalog.last[0] == Status.COMPLETED


# ---- decisions that make no sense


async def test_a_decision_is_rejected_when_nothing_is_parked(stage: Stage) -> None:
    stage.cast.script.hold("remux")
    await stage.process()
    await stage.until_called("remux")
    for update in ("retry", "skip", "give_up"):
        assert "nothing is parked; the pipeline is at: remux" in await rejection(stage, update)
    stage.cast.script.release("remux")
    await stage.processing.result()
    assert stage.cast.work() == STEPS


async def test_a_decision_on_another_step_is_rejected(stage: Stage) -> None:
    await parked(stage, "remux")
    said = await rejection(stage, "retry", "chapters")
    assert "chapters is not parked; parked: remux" in said
    assert stage.cast.work() == ["remux"]


async def test_a_second_retry_is_rejected_while_the_first_runs(stage: Stage) -> None:
    await parked(stage, "remux")
    stage.cast.script.hold("remux")
    await stage.processing.execute_update("retry", "")
    await stage.until_called("remux", 2)
    assert "nothing is parked" in await rejection(stage, "retry")
    stage.cast.script.release("remux")
    await stage.processing.result()
    assert stage.cast.work() == ["remux", *STEPS]


# ---- cancelled


async def test_a_cancelled_step_starts_over(stage: Stage) -> None:
    stage.cast.script.hold("thumbnails")
    await stage.process()
    await stage.until_called("thumbnails")
    await stage.processing.cancel()
    with pytest.raises(WorkflowFailureError):
        await stage.processing.result()
    assert (await stage.processing.describe()).status == WorkflowExecutionStatus.CANCELED
    assert decided(stage) == [(Step.THUMBNAILS, StepState.WAITING)]
    await stage.keep(stage.processing, "process_recording-cancelled")
