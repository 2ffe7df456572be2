"""RecordStream: one live stream, from the news that it is live to the announced file."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ChildWorkflowError,
    TimeoutType,
)
from temporalio.exceptions import TimeoutError as TemporalTimeoutError

with workflow.unsafe.imports_passed_through():
    from activities.catalog import Catalog
    from activities.recording import Recording
    from activities.retention import Retention
    from activities.streams import Streams
    from streamvault.contracts import (
        CONTROL_QUEUE,
        RECORD_QUEUE,
        CaptureEnd,
        ChannelEvent,
        ChannelUpdate,
        Claim,
        Detected,
        DetectInput,
        NudgeInput,
        Processed,
        ProcessInput,
        Recorded,
        RecordInput,
        RecordStreamInput,
        RoomInput,
        Sealed,
        SealInput,
        Status,
        Step,
        StepState,
        SweepInput,
        processing_workflow_id,
    )
    from workflows.children import cancel_child, failure_of, is_cancelled
    from workflows.notes import in_one_line, note_step, set_status
    from workflows.parking import Parkable
    from workflows.policies import (
        CATALOG_RETRY,
        CATALOG_TIMEOUT,
        PARKED_FOR,
        SV_HOST,
        SV_NEEDS_ATTENTION,
        SWEEP_HEARTBEAT,
        SWEEP_RETRY,
        SWEEP_TIMEOUT,
        SWEEP_WAITS,
    )
    from workflows.process_recording import ProcessRecording

# One look at the source: a few requests of at most 10 s.
DETECT_TIMEOUT = timedelta(seconds=60)
# An attempt that was handed to a worker just when it stopped is lost without a word.
DETECT_HEARTBEAT = timedelta(seconds=10)
# A source that cannot be reached is asked for two minutes; the capture then goes on trying itself.
DETECT_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=15),
    maximum_attempts=12,
)
# A claim is one answer in memory; one lost to an exiting worker must not cost more than this.
CLAIM_TIMEOUT = timedelta(seconds=3)
CLAIM_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=5)
)
# Twitch ends a stream after 48 h.
RECORD_TIMEOUT = timedelta(hours=50)
# An attempt that Temporal lost, with a stopping worker or in an outage of its own, is missed after
# this. The capture lives apart from it and goes on meanwhile; the next attempt attaches to it.
RECORD_HEARTBEAT = timedelta(seconds=30)
# A recorder process that is being replaced answers within seconds; a dead host never does.
RECORD_SCHEDULE_TO_START = timedelta(seconds=20)
# The window of a live playlist is about 30 s, so the next attempt must come at once.
RECORD_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=1.5,
    maximum_interval=timedelta(seconds=15),
    non_retryable_error_types=["StreamOffline", "UnknownSource", "AccessRefused", "InvalidInput"],
)
# A word to a running capture is worth nothing later.
NUDGE_TIMEOUT = timedelta(seconds=20)
# A disk that fills up again and again is given longer and longer to prove that it has room.
ROOM_LASTS_MAX_S = 60.0
ROOM_HEARTBEAT = timedelta(seconds=30)
# Sealing closes a file and writes rows; it must happen, whatever the database does. Only a disk
# that takes no more needs a person.
SEAL_TIMEOUT = timedelta(minutes=2)
NO_ROOM = ("StorageFull", "StorageUnwritable")
SEAL_RETRY = replace(CATALOG_RETRY, non_retryable_error_types=NO_ROOM)

# Between the news of a stream and its first playlist half a minute can pass, and more.
ANNOUNCED_BY = frozenset({"webhook", "conduit", "websocket", "poll"})
ANNOUNCED_FOR = timedelta(minutes=3)
ANNOUNCED_PAUSE = timedelta(seconds=5)

Done = TypeVar("Done")


@dataclass(frozen=True)
class StreamDone:
    recording_id: str
    outcome: str
    """A Status: `completed` or `failed`."""
    reason: str = ""


@workflow.defn
class RecordStream(Parkable):
    @workflow.init
    def __init__(self, order: RecordStreamInput) -> None:
        super().__init__(order.recording_id)
        self._order = order
        self._detected = Detected(streamer="")
        self._claim: Claim | None = None
        """The recorder that has the parts, also while it is lost."""
        self._lost = False
        self._session = 0
        self._stop_reason: str | None = None
        self._resume_reason: str | None = None
        self._failed = False
        self._full = 0
        """How often the disk was full."""
        self._offline = False
        """The last session found nothing live."""
        self._attempt: workflow.ActivityHandle[Any] | None = None
        """What a stop cancels."""
        self._capturing: Claim | None = None
        """Where a capture can be nudged."""
        self._child_runs = False

    @workflow.run
    async def run(self, order: RecordStreamInput) -> StreamDone:
        """A cancellation is a stop: what is recorded becomes a file all the same."""
        story = asyncio.create_task(self._tell_the_story())
        try:
            return await asyncio.shield(story)
        except asyncio.CancelledError:
            if self._child_runs:
                raise
            self._stop_now("cancelled")
        return await story

    async def _tell_the_story(self) -> StreamDone:
        done = await self._detect_record_process()
        await workflow.wait_condition(workflow.all_handlers_finished)
        if self._failed:
            raise ApplicationError(done.reason, type="RecordingFailed", non_retryable=True)
        return done

    async def _detect_record_process(self) -> StreamDone:
        """Record again, in the same recording, if somebody resumes a stream that still runs."""
        try:
            self._detected = await self._detect()
            self._streamer = self._detected.streamer
        except ActivityError as error:
            return await self._fail(
                Step.DETECT, in_one_line(error), stopped=self._stop_reason is not None
            )
        while True:
            try:
                recorded = await self._record()
                sealed = await self._seal(recorded)
            except ActivityError as error:
                return await self._fail(Step.RECORD, in_one_line(error))
            if not sealed.segments:
                return await self._end_with_nothing(recorded)
            if done := await self._process(sealed):
                return done
            await set_status(self._order.recording_id, Status.RECORDING, Step.RECORD)

    async def _unless_stopped(self, attempt: workflow.ActivityHandle[Done]) -> Done:
        """Wait for what a stop cancels."""
        self._attempt = attempt
        try:
            return await attempt
        finally:
            self._attempt = None

    # ---- detect

    async def _detect(self) -> Detected:
        self._show(Step.DETECT, "looking at the source")
        return await self._unless_stopped(
            workflow.start_activity_method(
                Streams.detect,
                DetectInput(self._order.recording_id, self._order.source_url, self._order.adopted),
                task_queue=CONTROL_QUEUE,
                start_to_close_timeout=DETECT_TIMEOUT,
                heartbeat_timeout=DETECT_HEARTBEAT,
                retry_policy=DETECT_RETRY,
                summary="is it live, and what is on?",
            )
        )

    # ---- record

    async def _record(self) -> Recorded:
        """Sessions of recording until the stream ends or somebody stops it."""
        recorded = Recorded(CaptureEnd.STOPPED, reason="stopped")
        while self._stop_reason is None:
            if self._claim is None or self._lost:
                await self._claim_host()
                continue  # a stop may have come meanwhile
            if not self._detected.live:
                return Recorded(CaptureEnd.ENDED, reason="over when it was taken up again")
            recorded = await self._record_session(self._claim)
            if recorded.end == CaptureEnd.DISK:
                await self._wait_for_room(recorded.reason)
                if self._stop_reason is None:
                    await set_status(self._order.recording_id, Status.RECORDING, Step.RECORD)
            elif recorded.end == CaptureEnd.NOTHING and self._may_still_come():
                await self._wait_a_little(recorded.reason)
            elif recorded.end != CaptureEnd.DRAINED:
                break
        return recorded

    async def _claim_host(self) -> None:
        self._say("looking for a recorder with room")
        try:
            claim = await self._unless_stopped(
                workflow.start_activity_method(
                    Recording.claim,
                    self._order.recording_id,
                    task_queue=RECORD_QUEUE,
                    start_to_close_timeout=CLAIM_TIMEOUT,
                    retry_policy=CLAIM_RETRY,
                    summary="which recorder takes it?",
                )
            )
        except ActivityError:
            if self._stop_reason is None:
                raise
            return
        self._claim, self._lost = claim, False
        self._show(Step.RECORD, f"taken by {claim.host_id}", SV_HOST.value_set(claim.host_id))

    async def _record_session(self, claim: Claim) -> Recorded:
        self._session += 1
        session = self._session
        self._show(Step.RECORD, f"recording on {claim.host_id}, session {session}")
        self._capturing = claim
        attempt = workflow.start_activity_method(
            Recording.record,
            RecordInput(
                recording_id=self._order.recording_id,
                source_url=self._order.source_url,
                quality=self._order.quality,
                directory=self._detected.directory,
                end_grace_s=self._detected.end_grace_s,
                session=session,
                stream_id=self._detected.stream_id,
                codecs=self._detected.codecs,
                proxy_policy=self._detected.proxy_policy,
                streamer_id=self._detected.streamer_id,
            ),
            task_queue=claim.queue,
            activity_id=f"record-{session}-{workflow.uuid4().hex[:6]}",
            schedule_to_start_timeout=RECORD_SCHEDULE_TO_START,
            start_to_close_timeout=RECORD_TIMEOUT,
            heartbeat_timeout=RECORD_HEARTBEAT,
            retry_policy=RECORD_RETRY,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"record {self._detected.streamer}",
        )
        try:
            return await self._unless_stopped(attempt)
        except ActivityError as error:
            return self._after_lost_attempt(error)
        finally:
            self._capturing = None

    def _after_lost_attempt(self, error: ActivityError) -> Recorded:
        """A stop never fails the pipeline; a dead recorder's queue is not waited on for ever; and
        what is recorded is kept when a source refuses to go on."""
        if self._stop_reason is not None:
            return Recorded(CaptureEnd.STOPPED, reason=self._stop_reason)
        cause = error.cause
        if isinstance(cause, TemporalTimeoutError) and cause.type == TimeoutType.SCHEDULE_TO_START:
            self._lost = True
            return Recorded(CaptureEnd.DRAINED, reason="the recorder does not answer")
        self._offline = isinstance(cause, ApplicationError) and cause.type == "StreamOffline"
        return Recorded(CaptureEnd.NOTHING, reason=in_one_line(error))

    def _may_still_come(self) -> bool:
        """Twitch announces a stream before it can be played; a person would rather be told."""
        waited = workflow.now() - workflow.info().start_time
        return (
            self._offline
            and self._order.started_by in ANNOUNCED_BY
            and waited < ANNOUNCED_FOR
            and self._stop_reason is None
        )

    async def _wait_a_little(self, reason: str) -> None:
        self._say(f"announced, but not there yet: {reason}")
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._stop_reason is not None,
                timeout=ANNOUNCED_PAUSE,
                timeout_summary="the stream is announced and may still come",
            )

    async def _wait_for_room(self, reason: str) -> None:
        """Park the recording until there is room again; the stream may well go on."""
        self._parked_error = reason
        self._decision = ""
        self._full += 1
        workflow.upsert_search_attributes([SV_NEEDS_ATTENTION.value_set(True)])
        self._show(
            "parked:record",
            f"**Recording needs attention.** {reason}\n\nMake room, and it goes on by itself, or "
            "at once with the update `retry`; `give_up` keeps what is recorded and processes it.",
        )
        await note_step(self._order.recording_id, Step.RECORD, StepState.PARKED, reason)
        await set_status(self._order.recording_id, Status.NEEDS_ATTENTION, Step.RECORD, reason)
        if workflow.patched("retention makes room"):
            self._make_room()
        room = self._watch_for_room()
        try:
            await workflow.wait_condition(
                lambda: bool(self._decision) or self._stop_reason is not None or _is_well(room),
                timeout=PARKED_FOR,
                timeout_summary="recording waits for room, or for a person",
            )
        except TimeoutError:
            self._stop_reason = "nobody made room within 72 h"
        room.cancel()
        if self._decision in {"give_up", "skip"}:
            self._stop_reason = "given up"
        self._parked_error = ""
        workflow.upsert_search_attributes([SV_NEEDS_ATTENTION.value_set(False)])

    def _make_room(self) -> None:
        """What the rules let go, and what was deleted; nobody waits for it but the disk."""
        assert self._claim is not None
        workflow.start_activity_method(
            Retention.sweep,
            SweepInput(self._claim.media_queue, room_wanted=True),
            task_queue=self._claim.media_queue,
            start_to_close_timeout=SWEEP_TIMEOUT,
            schedule_to_start_timeout=SWEEP_WAITS,
            heartbeat_timeout=SWEEP_HEARTBEAT,
            retry_policy=SWEEP_RETRY,
            summary="make room by the rules of retention",
        )

    def _watch_for_room(self) -> workflow.ActivityHandle[None]:
        assert self._claim is not None
        return workflow.start_activity_method(
            Recording.await_room,
            RoomInput(self._detected.directory, min(2.0**self._full, ROOM_LASTS_MAX_S)),
            task_queue=self._claim.queue,
            start_to_close_timeout=PARKED_FOR,
            heartbeat_timeout=ROOM_HEARTBEAT,
            summary="is there room again?",
        )

    async def _seal(self, recorded: Recorded) -> Sealed:
        """Close the journal for good and bring the catalog up to date."""
        claim = self._claim
        if claim is None:
            return Sealed(0, 0, 0.0)
        while True:
            self._show("sealing", f"closing the recording on {claim.host_id}")
            try:
                return await workflow.execute_activity_method(
                    Recording.seal,
                    SealInput(self._order.recording_id, self._detected.directory, recorded.reason),
                    task_queue=claim.queue,
                    start_to_close_timeout=SEAL_TIMEOUT,
                    retry_policy=SEAL_RETRY,
                    summary="close the journal, write the catalog",
                )
            except ActivityError as error:
                if not _for_want_of_room(error):
                    raise
                before, self._stop_reason = self._stop_reason, None
                await self._wait_for_room(in_one_line(error))
                if self._stop_reason is not None:
                    raise
                self._stop_reason = before

    # ---- process

    async def _process(self, sealed: Sealed) -> StreamDone | None:
        """The end of the story; None when somebody wants the stream, which still runs, to go on."""
        self._resume_reason = None
        minutes = sealed.duration_s / 60
        self._show("processing", f"{minutes:.1f} min recorded; see the child workflow")
        await set_status(
            self._order.recording_id, Status.PROCESSING, Step.REMUX, self._reason_of_end
        )
        while True:
            child = await self._start_processing()
            self._child_runs = True
            made_way = await self._while_it_runs(child)
            failure = await failure_of(child)
            self._child_runs = False
            if not (made_way and is_cancelled(failure)):
                return await self._conclude(failure)
            if self._resume_reason is not None and await self._can_resume():
                self._stop_reason = None
                self._show(Step.RECORD, f"recording goes on: {self._resume_reason}")
                return None
            # Stopped after all, or the file was finished at that very moment: process to the end.
            self._resume_reason = None

    async def _start_processing(self) -> workflow.ChildWorkflowHandle[ProcessRecording, Processed]:
        assert self._claim is not None
        return await workflow.start_child_workflow(
            ProcessRecording.run,
            ProcessInput(
                recording_id=self._order.recording_id,
                queue=self._claim.media_queue,
                streamer=self._detected.streamer,
                title=self._detected.title,
                reason=self._reason_of_end,
            ),
            id=processing_workflow_id(self._order.recording_id),
            task_queue=CONTROL_QUEUE,
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            # Cancelling the parent must not cancel the processing of what is already recorded.
            cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            static_summary=f"{self._detected.streamer}: {self._detected.title}"[:200],
        )

    async def _while_it_runs(
        self, child: workflow.ChildWorkflowHandle[ProcessRecording, Processed]
    ) -> bool:
        """Wait for the processing; whether it was asked to make way for more recording."""
        while True:
            await workflow.wait_condition(lambda: child.done() or self._resume_reason is not None)
            if child.done():
                return False
            if not await self._can_resume():
                self._resume_reason = None
                self._say("restart came too late: the final file is there already")
            elif self._resume_reason is not None and not child.done():
                return await cancel_child(child)

    async def _conclude(self, failure: ChildWorkflowError | None) -> StreamDone:
        if failure is None:
            self._show("done", "finished")
            return StreamDone(self._order.recording_id, Status.COMPLETED)
        # The child stands in the list of failures by itself; a second entry would only confuse.
        reason = getattr(failure.cause, "message", "") or str(failure.cause)
        if is_cancelled(failure):
            reason = "processing was cancelled"
            await set_status(self._order.recording_id, Status.FAILED, Step.REMUX, reason)
        self._show("done", reason)
        return StreamDone(self._order.recording_id, Status.FAILED, reason)

    @property
    def _reason_of_end(self) -> str:
        """Kept with the recording, so that no automatic source restarts what a person stopped."""
        return "stopped" if self._stop_reason is not None else ""

    async def _can_resume(self) -> bool:
        return await workflow.execute_activity_method(
            Catalog.can_resume,
            self._order.recording_id,
            task_queue=CONTROL_QUEUE,
            start_to_close_timeout=CATALOG_TIMEOUT,
            retry_policy=CATALOG_RETRY,
            summary="are the parts still there?",
        )

    # ---- ends without a file

    async def _end_with_nothing(self, recorded: Recorded) -> StreamDone:
        return await self._fail(
            Step.RECORD,
            recorded.reason or "the stream ended before its first segment",
            stopped=self._stop_reason is not None and recorded.end != CaptureEnd.DISK,
        )

    async def _fail(self, step: Step, reason: str, *, stopped: bool = False) -> StreamDone:
        """End without a file: quietly when a person stopped it, else as a failure."""
        self._failed = not stopped
        reason = "stopped" if stopped else reason
        self._show("failed", reason)
        state = StepState.SKIPPED if stopped else StepState.FAILED
        await note_step(self._order.recording_id, step, state, "" if stopped else reason)
        await set_status(self._order.recording_id, Status.FAILED, step, reason, ended=True)
        return StreamDone(self._order.recording_id, Status.FAILED, reason)

    # ---- signals and updates

    @workflow.signal(description="Stop recording and finish the file")
    async def stop(self, reason: str = "stopped") -> None:
        if self._stage in {"processing", "done", "failed", "sealing"}:
            self._say(f"stop came while {self._stage}: nothing is being recorded")
            self._resume_reason = None
            return
        capturing = self._capturing
        self._stop_now(reason)
        if capturing is not None:
            # Temporal answers heartbeats with a stop; an attempt that was paused, reset or lost
            # sends none, and its capture still has to hear of it.
            await self._nudge(capturing, "stop", reason)

    def _stop_now(self, reason: str) -> None:
        self._stop_reason = reason
        if self._attempt is not None:
            self._attempt.cancel()

    @workflow.signal(description="Begin a new playback session in the same recording")
    async def restart(self, reason: str = "restart") -> None:
        if self._stage == "processing":
            self._resume_reason = reason
        elif self._capturing is not None:
            await self._nudge(self._capturing, "restart", reason)
        else:
            self._say(f"restart came while {self._stage}: nothing to restart")

    @workflow.signal(description="A source says that the stream is offline; it will be verified")
    async def went_offline(self, reason: str = "offline") -> None:
        if self._capturing is not None:
            await self._nudge(self._capturing, "offline", reason)

    @workflow.signal(description="The source is on another stream by now: this one is over")
    async def replaced(self, reason: str = "another stream has begun") -> None:
        if self._capturing is not None:
            await self._nudge(self._capturing, "another", reason)

    @workflow.signal(description="Title or category changed")
    async def channel_updated(self, update: ChannelUpdate) -> None:
        at = update.at or workflow.now().isoformat()
        try:
            await workflow.execute_activity_method(
                Catalog.note_channel,
                ChannelEvent(self._order.recording_id, update.title, update.category, at),
                task_queue=CONTROL_QUEUE,
                start_to_close_timeout=CATALOG_TIMEOUT,
                retry_policy=CATALOG_RETRY,
                summary=f"{update.category}: {update.title}"[:200],
            )
        except ActivityError as error:
            # A title is not worth a recording.
            workflow.logger.warning("title not noted", extra={"reason": in_one_line(error)})

    # ---- words to the recorder

    async def _nudge(self, claim: Claim, word: str, reason: str) -> None:
        try:
            await workflow.execute_activity_method(
                Recording.nudge,
                NudgeInput(self._order.recording_id, word, reason),
                task_queue=claim.queue,
                schedule_to_close_timeout=NUDGE_TIMEOUT,
                summary=f"{word}: {reason}"[:200],
            )
        except ActivityError as error:
            self._say(f"{word} did not reach the recorder: {in_one_line(error)}")


def _is_well(room: workflow.ActivityHandle[None]) -> bool:
    """There is room. A watch that failed for good says nothing: then only a person knows."""
    return room.done() and not room.cancelled() and room.exception() is None


def _for_want_of_room(error: ActivityError) -> bool:
    cause = error.cause
    return isinstance(cause, ApplicationError) and cause.type in NO_ROOM
