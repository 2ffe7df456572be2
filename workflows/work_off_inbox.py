"""WorkOffInbox: somebody is always working off what EventSub said."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.inbox import Inbox
    from streamvault.contracts import DETECT_QUEUE

# The activity returns after 6 h by itself.
SHIFT_TIMEOUT = timedelta(hours=7)
# It beats every 2 s, so this is how soon a worker that died is missed. An attempt that only lost
# Temporal does no harm beside its successor: no two take the same message.
HEARTBEAT_TIMEOUT = timedelta(seconds=10)
SHIFT_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)
)


@workflow.defn
class WorkOffInbox:
    @workflow.run
    async def run(self) -> None:
        workflow.set_current_details("working off what EventSub said")
        await workflow.execute_activity_method(
            Inbox.work_off,
            task_queue=DETECT_QUEUE,
            start_to_close_timeout=SHIFT_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=SHIFT_RETRY,
            summary="until the next shift",
        )
        workflow.continue_as_new()
