"""DetectLive: the poll, for ever. The work is one long activity, which costs no history."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.polling import Polling
    from streamvault.contracts import DETECT_QUEUE, PipelineStatus
    from workflows.policies import WATCH_HEARTBEAT, WATCH_RETRY, WATCH_TIMEOUT


@workflow.defn
class DetectLive:
    @workflow.run
    async def run(self) -> None:
        workflow.set_current_details("asking again and again who is live")
        await workflow.execute_activity_method(
            Polling.detect_live,
            task_queue=DETECT_QUEUE,
            start_to_close_timeout=WATCH_TIMEOUT,
            heartbeat_timeout=WATCH_HEARTBEAT,
            retry_policy=WATCH_RETRY,
            summary="who is live?",
        )
        workflow.continue_as_new()

    @workflow.query(description="What it does")
    def status(self) -> PipelineStatus:
        return PipelineStatus("polling", "asking again and again who is live")
