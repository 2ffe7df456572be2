"""KeepWatch: the watchdog, for ever. The work is one long activity, which costs no history."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.watchdog import Watchdog
    from streamvault.contracts import CONTROL_QUEUE, PipelineStatus

# The activity returns after 6 h by itself.
WATCH_TIMEOUT = timedelta(hours=7)
# It beats every 5 s; a worker that died is missed after this.
WATCH_HEARTBEAT = timedelta(seconds=20)
# Nothing else would notice what it notices, so it is tried for ever.
WATCH_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=30),
)


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
