"""ProcessRecording: from the parts of one recording to the announced file.

Each step is idempotent: run again, a finished one returns at once. A step that used up its attempts
parks: it says so in the search attributes and in plain words, and waits for `retry`, `skip` or
`give_up`. Only remux blocks; the other steps park on the side while the pipeline goes on.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError

with workflow.unsafe.imports_passed_through():
    from activities.media import Media
    from activities.notify import Notify
    from streamvault.contracts import (
        CONTROL_QUEUE,
        PipelineStatus,
        Processed,
        ProcessInput,
        Status,
        Step,
        StepDone,
        StepInput,
        StepProgress,
        StepState,
    )
    from workflows.notes import in_one_line, note_step, set_status
    from workflows.policies import (
        CATALOG_RETRY,
        PARKED_FOR,
        SV_NEEDS_ATTENTION,
        SV_STAGE,
        SV_STREAMER,
    )

# A 48 h stream on a slow disk is copied in under 6 h.
MEDIA_TIMEOUT = timedelta(hours=6)
# Progress comes every few seconds; a hung ffmpeg is killed by the activity itself after 120 s.
MEDIA_HEARTBEAT = timedelta(seconds=120)
# Three tries cover a worker restart and a passing I/O error; what fails then needs a person.
MEDIA_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=5),
    backoff_coefficient=4,
    maximum_interval=timedelta(minutes=5),
    maximum_attempts=3,
)
# Chapters and sidecars write small files.
SMALL_TIMEOUT = timedelta(minutes=2)
SMALL_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=2),
    maximum_interval=timedelta(minutes=1),
    maximum_attempts=5,
)


@workflow.defn
class ProcessRecording:
    @workflow.init
    def __init__(self, order: ProcessInput) -> None:
        self._order = order
        self._stage = ""
        self._detail = "waiting to begin"
        self._parked: dict[str, str] = {}
        self._decisions: dict[str, str] = {}
        self._skipped: list[str] = []
        self._running: list[str] = []

    @workflow.run
    async def run(self, order: ProcessInput) -> Processed:
        try:
            for step in order.steps:
                await self._take(Step(step))
            await self._conclude()
            await self._settle_parked()
        except (ActivityError, asyncio.CancelledError, CancelledError) as error:
            if not _is_cancelled(error):
                raise
            await self._make_way()
            raise
        self._show("done", "finished")
        await workflow.wait_condition(workflow.all_handlers_finished)
        return Processed(order.recording_id, skipped=self._skipped)

    async def _make_way(self) -> None:
        """Cancelled, because the stream goes on or by a person: what is unfinished starts over."""
        unfinished = dict.fromkeys([*self._parked, *self._running])
        self._parked.clear()
        workflow.upsert_search_attributes([SV_NEEDS_ATTENTION.value_set(False)])
        self._show("cancelled", "cancelled: the stream goes on, or somebody cancelled it")
        for step in unfinished:
            await note_step(self._order.recording_id, Step(step), StepState.WAITING)

    # ---- one step

    async def _take(self, step: Step) -> None:
        """Run one step; a blocking one that fails waits here for a person's decision."""
        await self._attempt(step)
        while step is Step.REMUX and step in self._parked:
            await self._wait_for_decision([step])
            await self._act_on_decision(step)

    async def _settle_parked(self) -> None:
        """The steps that parked on the side, as a person decides on them."""
        while self._parked:
            self._show_parked()
            await self._wait_for_decision(list(self._parked))
            for step in [s for s in self._parked if s in self._decisions]:
                await self._act_on_decision(Step(step))
            await self._conclude()

    async def _attempt(self, step: Step) -> None:
        """Run a step until it is done or parked."""
        self._show(step, f"{step} is running")
        self._running = [step]
        try:
            done = await self._execute(step)
        except ActivityError as error:
            if _is_cancelled(error):
                raise
            await self._park(step, in_one_line(error))
        else:
            self._say(f"{step}: {done.note}" if done.note else f"{step} is done")
        self._running = []

    async def _execute(self, step: Step) -> StepDone:
        order = StepInput(self._order.recording_id, again=self._order.again)
        if step is Step.REMUX:
            return await workflow.execute_activity_method(
                Media.remux,
                order,
                task_queue=self._order.queue,
                start_to_close_timeout=MEDIA_TIMEOUT,
                heartbeat_timeout=MEDIA_HEARTBEAT,
                retry_policy=MEDIA_RETRY,
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                summary="parts to one verified file",
            )
        if step is Step.THUMBNAILS:
            return await workflow.execute_activity_method(
                Media.thumbnails,
                order,
                task_queue=self._order.queue,
                start_to_close_timeout=MEDIA_TIMEOUT,
                heartbeat_timeout=MEDIA_HEARTBEAT,
                retry_policy=MEDIA_RETRY,
                summary="poster and storyboard",
            )
        if step is Step.CHAPTERS:
            return await workflow.execute_activity_method(
                Media.chapters,
                order,
                task_queue=self._order.queue,
                start_to_close_timeout=SMALL_TIMEOUT,
                retry_policy=SMALL_RETRY,
                summary="chapters.vtt, and a look at those in the file",
            )
        if step is Step.SIDECARS:
            return await workflow.execute_activity_method(
                Media.sidecars,
                order,
                task_queue=self._order.queue,
                start_to_close_timeout=SMALL_TIMEOUT,
                retry_policy=SMALL_RETRY,
                summary="NFO and report; then the parts may go",
            )
        return await workflow.execute_activity_method(
            Notify.announce,
            order,
            task_queue=CONTROL_QUEUE,
            start_to_close_timeout=SMALL_TIMEOUT,
            retry_policy=CATALOG_RETRY,
            summary="one row per target; each is delivered on its own",
        )

    # ---- parking

    async def _park(self, step: Step, error: str) -> None:
        self._parked[step] = error
        self._decisions.pop(step, None)
        workflow.upsert_search_attributes([SV_NEEDS_ATTENTION.value_set(True)])
        self._show_parked()
        await note_step(self._order.recording_id, step, StepState.PARKED, error)
        if step is Step.REMUX:
            await set_status(self._order.recording_id, Status.NEEDS_ATTENTION, step, error)

    def _show_parked(self) -> None:
        """In plain words, what is wrong and what a person can do about it."""
        wrong = "\n\n".join(
            f"**{step} needs attention.** {error}" for step, error in self._parked.items()
        )
        self._show(
            f"parked:{next(iter(self._parked))}",
            f"{wrong}\n\nSend the update `retry` to try it again, `skip` to leave it out, "
            "`give_up` to end here. The recorded parts are kept.",
        )

    async def _unpark(self, step: Step) -> None:
        self._parked.pop(step, None)
        self._decisions.pop(step, None)
        workflow.upsert_search_attributes([SV_NEEDS_ATTENTION.value_set(bool(self._parked))])
        if step is Step.REMUX:
            await set_status(self._order.recording_id, Status.PROCESSING, step, self._order.reason)

    async def _wait_for_decision(self, steps: list[str]) -> None:
        """Until somebody decided on one of these parked steps; after 72 h they are given up."""
        try:
            await workflow.wait_condition(
                lambda: any(step in self._decisions for step in steps),
                timeout=PARKED_FOR,
                timeout_summary=f"{', '.join(steps)} waits for a person",
            )
        except TimeoutError:
            await self._give_up(Step(steps[0]), "nobody decided within 72 h")

    async def _act_on_decision(self, step: Step) -> None:
        decision = self._decisions[step]
        if decision == "retry":
            await self._unpark(step)
            await self._attempt(step)
        elif decision == "skip":
            self._skipped.append(step)
            await self._unpark(step)
            await note_step(self._order.recording_id, step, StepState.SKIPPED)
        else:
            await self._give_up(step, decision)

    async def _give_up(self, step: Step, reason: str) -> None:
        error = self._parked[step]
        await note_step(self._order.recording_id, step, StepState.FAILED, error)
        if step is Step.REMUX:
            await set_status(self._order.recording_id, Status.FAILED, step, f"{reason}: {error}")
        workflow.upsert_search_attributes([SV_NEEDS_ATTENTION.value_set(False)])
        raise ApplicationError(
            f"{step} was given up ({reason}): {error}",
            type=f"StepFailed.{step}",
            non_retryable=True,
        )

    @workflow.update(description="Try a parked step again; without a step: what is parked")
    async def retry(self, step: str = "") -> str:
        return self._take_decision(step, "retry")

    @retry.validator
    def _check_retry(self, step: str = "") -> None:
        self._parked_step(step)

    @workflow.update(description="Leave a parked step out and go on")
    async def skip(self, step: str = "") -> str:
        return self._take_decision(step, "skip")

    @skip.validator
    def _check_skip(self, step: str = "") -> None:
        self._parked_step(step)

    @workflow.update(description="End the pipeline as Failed; what was recorded is kept")
    async def give_up(self, step: str = "") -> str:
        return self._take_decision(step, "given up")

    @give_up.validator
    def _check_give_up(self, step: str = "") -> None:
        self._parked_step(step)

    def _take_decision(self, step: str, decision: str) -> str:
        chosen = self._parked_step(step)
        self._decisions[chosen] = decision
        return f"{decision}: {chosen}"

    def _parked_step(self, step: str) -> str:
        if not self._parked:
            raise ApplicationError(f"nothing is parked; the pipeline is at: {self._stage}")
        chosen = step or next(iter(self._parked))
        if chosen not in self._parked:
            parked = ", ".join(self._parked)
            raise ApplicationError(f"{step} is not parked; parked: {parked}")
        return chosen

    # ---- what others see

    @workflow.signal(description="How far a long step is; its activity says so now and then")
    def progressed(self, told: StepProgress) -> None:
        if told.step in self._running:
            speed = f", {told.speed:.1f}x" if told.speed else ""
            left = f", about {told.eta_s / 60:.0f} min left" if told.eta_s else ""
            self._say(f"{told.step} is running: {told.percent:.0f} %{speed}{left}")

    @workflow.query(description="Where the pipeline stands")
    def status(self) -> PipelineStatus:
        return PipelineStatus(
            stage=self._stage,
            detail=self._detail,
            parked=list(self._parked),
            error=next(iter(self._parked.values()), ""),
        )

    def _show(self, stage: str, detail: str) -> None:
        self._stage = stage
        self._say(detail)
        workflow.upsert_search_attributes(
            [SV_STAGE.value_set(stage), SV_STREAMER.value_set(self._order.streamer)]
        )

    def _say(self, detail: str) -> None:
        self._detail = detail
        workflow.set_current_details(detail)

    async def _conclude(self) -> None:
        """The recording is finished for its users, although a step may still be parked."""
        await set_status(
            self._order.recording_id, Status.COMPLETED, Step.NOTIFY, self._order.reason
        )


def _is_cancelled(error: BaseException) -> bool:
    if isinstance(error, ActivityError):
        return isinstance(error.cause, CancelledError)
    return isinstance(error, (asyncio.CancelledError, CancelledError))
