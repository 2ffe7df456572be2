"""DeliverNotification: one message to one target, with its own back-off."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.notify import Notify
    from streamvault.contracts import CONTROL_QUEUE, NotifyInput

# Five tries over an hour: a target that restarts, or a phone out of reach.
DELIVERY_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=15),
    backoff_coefficient=6,
    maximum_interval=timedelta(minutes=30),
    maximum_attempts=5,
)


@workflow.defn
class DeliverNotification:
    @workflow.run
    async def run(self, order: NotifyInput) -> None:
        workflow.set_current_details(f"notification {order.notification_id}")
        await workflow.execute_activity_method(
            Notify.deliver,
            order,
            task_queue=CONTROL_QUEUE,
            start_to_close_timeout=timedelta(seconds=60),
            retry_policy=DELIVERY_RETRY,
            summary="send it",
        )
