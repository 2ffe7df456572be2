"""ProbeSource: one look at an address on behalf of the API, which does not carry streamlink."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.streams import Streams
    from streamvault.contracts import CONTROL_QUEUE, Probed, ProbeInput


@workflow.defn
class ProbeSource:
    @workflow.run
    async def run(self, order: ProbeInput) -> Probed:
        return await workflow.execute_activity_method(
            Streams.probe,
            order,
            task_queue=CONTROL_QUEUE,
            start_to_close_timeout=timedelta(seconds=30),
            # Somebody waits for the answer: a second try, not a third.
            retry_policy=RetryPolicy(maximum_attempts=2),
            summary="is it live?",
        )
