"""The jobs that Temporal starts by the clock."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import timedelta

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

from streamvault.contracts import DETECT_QUEUE, PICTURES_ID, SUBSCRIPTIONS_ID, TOKENS_ID
from streamvault.errors import DependencyUnavailable
from streamvault.settings import Settings

log = logging.getLogger(__name__)

# What was missed while the server was away is not made up for: the next one looks at everything.
CATCH_UP = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Job:
    """One workflow without input. `at_start` runs it also whenever a worker starts.

    Workflows import activities, so that their classes cannot be imported here."""

    id: str
    workflow: str
    every: timedelta
    at_start: bool = True
    jitter: timedelta = timedelta(seconds=10)


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
        try:
            if settings.twitch_client_id:
                await _ensure(client, job, renew)
            else:
                await _remove(client, job)
        except RPCError as error:
            raise DependencyUnavailable(
                f"Temporal does not take the schedule {job.id}: {error.status.name.lower()}"
            ) from None


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
        action=ScheduleActionStartWorkflow(job.workflow, id=job.id, task_queue=DETECT_QUEUE),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=job.every)], jitter=job.jitter),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
    )


def _as_before(wanted: Schedule, found: ScheduleUpdateInput) -> Schedule:
    """A schedule that a person has paused stays so."""
    return replace(wanted, state=found.description.schedule.state)
