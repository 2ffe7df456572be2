"""The jobs that Temporal starts by the clock."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from streamvault.contracts import (
    CONTROL_QUEUE,
    DETECT_QUEUE,
    PICTURES_ID,
    RETENTION_ID,
    SUBSCRIPTIONS_ID,
    TOKENS_ID,
    SweepInput,
    media_queue,
)
from streamvault.errors import DependencyUnavailable
from streamvault.settings import Settings

log = logging.getLogger(__name__)

# What was missed while the server was away is not made up for: the next one looks at everything.
CATCH_UP = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Job:
    """One workflow. `at_start` runs it also whenever a worker starts.

    Workflows import activities, so that their classes cannot be imported here."""

    id: str
    workflow: str
    every: timedelta
    at_start: bool = True
    jitter: timedelta = timedelta(seconds=10)
    queue: str = DETECT_QUEUE
    order: tuple[Any, ...] = ()
    """Its input."""


JOBS = (
    # Twitch asks for a look at the start and each hour.
    Job(TOKENS_ID, "CheckTokens", timedelta(hours=1)),
    # Changes and revocations have it run in between.
    Job(SUBSCRIPTIONS_ID, "CheckSubscriptions", timedelta(minutes=10)),
    Job(PICTURES_ID, "RefreshPictures", timedelta(hours=1)),
)


async def ensure_schedules(
    client: Client, settings: Settings, jobs: tuple[Job, ...] = JOBS, *, renew: bool = True
) -> None:
    """Bring the schedules to what this release wants of them; without `renew` only those that are
    missing. Without a Twitch application there are none. Raises DependencyUnavailable."""
    if not settings.detection:
        return
    for job in jobs:
        await ensure_job(client, job, renew=renew, wanted=bool(settings.twitch_client_id))


async def ensure_job(client: Client, job: Job, *, renew: bool = True, wanted: bool = True) -> None:
    """Raises DependencyUnavailable."""
    try:
        if wanted:
            await _ensure(client, job, renew)
        else:
            await _remove(client, job)
    except RPCError as error:
        raise DependencyUnavailable(
            f"Temporal does not take the schedule {job.id}: {error.status.name.lower()}"
        ) from None


def retention_job(host_id: str) -> Job:
    """What is deleted goes within a quarter of an hour, and so does what the rules say."""
    queue = media_queue(host_id)
    return Job(
        RETENTION_ID,
        "SweepLibrary",
        timedelta(minutes=15),
        at_start=False,
        queue=CONTROL_QUEUE,
        order=(SweepInput(queue),),
    )


async def _ensure(client: Client, job: Job, renew: bool) -> None:
    wanted = _schedule(job)
    try:
        await client.create_schedule(job.id, wanted, trigger_immediately=job.at_start)
    except ScheduleAlreadyRunningError:
        if not renew:
            return
        handle = client.get_schedule_handle(job.id)
        await handle.update(lambda found: ScheduleUpdate(_as_before(wanted, found)))
        if job.at_start:
            await handle.trigger(overlap=ScheduleOverlapPolicy.SKIP)


async def _remove(client: Client, job: Job) -> None:
    try:
        await client.get_schedule_handle(job.id).delete()
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
    else:
        log.info("schedule removed", extra={"schedule": job.id})


def _schedule(job: Job) -> Schedule:
    return Schedule(
        action=ScheduleActionStartWorkflow(
            job.workflow, args=job.order, id=job.id, task_queue=job.queue
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=job.every)], jitter=job.jitter),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
    )


def _as_before(wanted: Schedule, found: ScheduleUpdateInput) -> Schedule:
    """A schedule that a person has paused stays so."""
    return replace(wanted, state=found.description.schedule.state)
