"""KeepWatch: the watchdog, for ever. The work is one long activity, which costs no history."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.watchdog import Watchdog
    from streamvault.contracts import CONTROL_QUEUE, PipelineStatus
    from workflows.policies import WATCH_HEARTBEAT, WATCH_RETRY, WATCH_TIMEOUT


@workflow.defn
class KeepWatch:
    @workflow.run
    async def run(self) -> None:
        workflow.set_current_details("looking after every recording that is not finished")
        await workflow.execute_activity_method(
            Watchdog.watch_over,
            task_queue=CONTROL_QUEUE,
            start_to_close_timeout=WATCH_TIMEOUT,
            heartbeat_timeout=WATCH_HEARTBEAT,
            retry_policy=WATCH_RETRY,
            summary="does every recording move?",
        )
        workflow.continue_as_new()

    @workflow.query(description="What it does")
    def status(self) -> PipelineStatus:
        return PipelineStatus("watching", "looking after every recording that is not finished")
