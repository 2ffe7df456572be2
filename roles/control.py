"""Workflows, what they look up and write down, and notifications."""

from __future__ import annotations

import asyncio
import logging

from temporalio.client import Client
from temporalio.worker import Worker

from activities.catalog import Catalog
from activities.jobs import Jobs
from activities.notify import Notify
from activities.pushes import Pushes
from activities.schedules import ensure_job, retention_job
from activities.streams import Streams
from activities.watchdog import Watchdog
from activities.watches import ensure_watchdog
from roles.parts import Parts, new_worker
from streamvault.contracts import CONTROL_QUEUE
from streamvault.errors import DependencyUnavailable
from streamvault.notify.targets import Targets
from workflows.deliver_notification import DeliverNotification
from workflows.keep_watch import KeepWatch
from workflows.library_work import AdoptLibrary, RunJob, SweepLibrary
from workflows.probe_source import ProbeSource
from workflows.process_recording import ProcessRecording
from workflows.record_stream import RecordStream
from workflows.verify_recording import VerifyRecording

log = logging.getLogger(__name__)

CONTROL_SLOTS = 100
LOOK_AFTER_S = 20.0


async def look_after_what_runs(client: Client, parts: Parts) -> None:
    """Start the watchdog and what the clock starts, and again when Temporal has lost them, until
    cancelled. A stack that was started for one recording deletes nothing."""
    renew = True
    while True:
        try:
            await ensure_watchdog(client)
            if parts.settings.detection:
                await ensure_job(client, retention_job(parts.host_id), renew=renew)
            renew = False
        except DependencyUnavailable as error:
            log.warning("not started", extra={"why": error.one_line})
        await asyncio.sleep(LOOK_AFTER_S)


def control_worker(client: Client, parts: Parts) -> Worker:
    settings = parts.settings
    streams = Streams(parts.db, parts.sources, settings.end_grace_s)
    catalog = Catalog(parts.db)
    notify = Notify(parts.db, Targets(settings.notify_urls), Pushes(parts.db, settings))
    return new_worker(
        client,
        CONTROL_QUEUE,
        [
            streams.probe,
            streams.detect,
            catalog.set_status,
            catalog.set_step,
            catalog.note_channel,
            catalog.can_resume,
            notify.announce,
            notify.deliver,
            Jobs(parts.db).run_job,
            Watchdog(parts.db, client, parts.host_id, parts.settings.library).watch_over,
        ],
        workflows=[
            RecordStream,
            ProcessRecording,
            ProbeSource,
            DeliverNotification,
            KeepWatch,
            VerifyRecording,
            SweepLibrary,
            RunJob,
            AdoptLibrary,
        ],
        slots=CONTROL_SLOTS,
    )
