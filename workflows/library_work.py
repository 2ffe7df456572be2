"""SweepLibrary takes out what the rules say and what was deleted; RunJob does one thing to many
recordings; AdoptLibrary makes the catalog anew from the files."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.adopting import Adopting
    from activities.jobs import Jobs
    from activities.moving import Moving
    from activities.retention import Retention
    from streamvault.contracts import (
        CONTROL_QUEUE,
        Adopted,
        JobDone,
        JobInput,
        SweepInput,
        Swept,
    )
    from workflows.policies import (
        CATALOG_RETRY,
        SWEEP_HEARTBEAT,
        SWEEP_RETRY,
        SWEEP_TIMEOUT,
        SWEEP_WAITS,
    )

JOB_TIMEOUT = timedelta(hours=1)
# Terabytes from one disk to another.
MOVE_TIMEOUT = timedelta(days=7)
JOB_HEARTBEAT = timedelta(seconds=60)


@workflow.defn
class SweepLibrary:
    @workflow.run
    async def run(self, order: SweepInput) -> Swept:
        swept = await workflow.execute_activity_method(
            Retention.sweep,
            order,
            task_queue=order.queue,
            start_to_close_timeout=SWEEP_TIMEOUT,
            schedule_to_start_timeout=SWEEP_WAITS,
            heartbeat_timeout=SWEEP_HEARTBEAT,
            retry_policy=SWEEP_RETRY,
            summary="what the rules say, and what was deleted",
        )
        gone = f"{swept.recordings} recordings gone, {swept.size_bytes / 1e9:.2f} GB"
        workflow.set_current_details("\n\n".join([gone, *swept.problems]))
        return swept


@workflow.defn
class RunJob:
    @workflow.run
    async def run(self, order: JobInput) -> JobDone:
        done = await (_move_files(order) if order.queue else _change_rows(order))
        workflow.set_current_details(f"{done.done} done, {done.failed} could not be done")
        return done


async def _change_rows(order: JobInput) -> JobDone:
    return await workflow.execute_activity_method(
        Jobs.run_job,
        order.job_id,
        task_queue=CONTROL_QUEUE,
        start_to_close_timeout=JOB_TIMEOUT,
        heartbeat_timeout=JOB_HEARTBEAT,
        retry_policy=CATALOG_RETRY,
        summary="one hundred after the other",
    )


async def _move_files(order: JobInput) -> JobDone:
    return await workflow.execute_activity_method(
        Moving.run_move,
        order.job_id,
        task_queue=order.queue,
        start_to_close_timeout=MOVE_TIMEOUT,
        heartbeat_timeout=JOB_HEARTBEAT,
        retry_policy=CATALOG_RETRY,
        summary="copied, compared, written down, then taken away",
    )


@workflow.defn
class AdoptLibrary:
    @workflow.run
    async def run(self, order: SweepInput) -> Adopted:
        adopted = await workflow.execute_activity_method(
            Adopting.adopt,
            task_queue=order.queue,
            start_to_close_timeout=SWEEP_TIMEOUT,
            heartbeat_timeout=SWEEP_HEARTBEAT,
            retry_policy=SWEEP_RETRY,
            summary="every report in the library",
        )
        told = f"{adopted.added} added, {adopted.moved} moved, {adopted.known} known before"
        workflow.set_current_details("\n\n".join([told, *adopted.missing, *adopted.problems]))
        return adopted
