"""KeepEventSub holds EventSub's transport as long as the installation lives; CheckSubscriptions is
the look at all subscriptions, every ten minutes and whenever something has changed."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.eventsub.watch import EventSub
    from streamvault.contracts import DETECT_QUEUE
    from workflows.policies import WATCH_HEARTBEAT, WATCH_RETRY, WATCH_TIMEOUT

# Two minutes of work, after another round that may be running, and calls that hang.
CHECK_TIMEOUT = timedelta(minutes=6)
# The next ten minutes look again anyway.
CHECK_RETRY = RetryPolicy(initial_interval=timedelta(seconds=5), maximum_attempts=3)


@workflow.defn
class KeepEventSub:
    @workflow.run
    async def run(self) -> None:
        workflow.set_current_details("listening")
        await workflow.execute_activity_method(
            EventSub.listen,
            task_queue=DETECT_QUEUE,
            start_to_close_timeout=WATCH_TIMEOUT,
            heartbeat_timeout=WATCH_HEARTBEAT,
            retry_policy=WATCH_RETRY,
            summary="hear of streams",
        )
        workflow.continue_as_new()


@workflow.defn
class CheckSubscriptions:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity_method(
            EventSub.reconcile,
            task_queue=DETECT_QUEUE,
            start_to_close_timeout=CHECK_TIMEOUT,
            retry_policy=CHECK_RETRY,
            summary="are all subscriptions in place?",
        )
