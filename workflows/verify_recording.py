"""VerifyRecording: a finished file against its report, on the host that has it."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.verifying import Verifying
    from streamvault.contracts import PipelineStatus, Verified, VerifyInput

# A disk at home reads 48 h of video within the hour.
READ_TIMEOUT = timedelta(hours=6)
READ_HEARTBEAT = timedelta(seconds=30)
# What is wrong with a file is a result. Errors are of the machine, and somebody waits.
READ_RETRY = RetryPolicy(
    maximum_attempts=3, non_retryable_error_types=["NotFound", "Conflict", "InvalidInput"]
)


@workflow.defn
class VerifyRecording:
    @workflow.run
    async def run(self, order: VerifyInput) -> Verified:
        workflow.set_current_details("reading the finished file once more")
        found = await workflow.execute_activity_method(
            Verifying.verify,
            order.recording_id,
            task_queue=order.queue,
            start_to_close_timeout=READ_TIMEOUT,
            heartbeat_timeout=READ_HEARTBEAT,
            retry_policy=READ_RETRY,
            summary="is the file what was recorded?",
        )
        workflow.set_current_details("as recorded" if found.ok else "**not as recorded**")
        return found

    @workflow.query(description="What it does")
    def status(self) -> PipelineStatus:
        return PipelineStatus("verifying", "reading the finished file once more")
