"""Workflows, what they look up and write down, and notifications."""

from __future__ import annotations

from temporalio.client import Client
from temporalio.worker import Worker

from activities.catalog import Catalog
from activities.notify import Notify
from activities.streams import Streams
from roles.parts import Parts, new_worker
from streamvault.contracts import CONTROL_QUEUE
from streamvault.notify.targets import Targets
from workflows.deliver_notification import DeliverNotification
from workflows.probe_source import ProbeSource
from workflows.process_recording import ProcessRecording
from workflows.record_stream import RecordStream

CONTROL_SLOTS = 100


def control_worker(client: Client, parts: Parts) -> Worker:
    settings = parts.settings
    streams = Streams(parts.db, parts.sources, settings.end_grace_s)
    catalog = Catalog(parts.db)
    notify = Notify(parts.db, Targets(settings.notify_urls))
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
        ],
        workflows=[RecordStream, ProcessRecording, ProbeSource, DeliverNotification],
        slots=CONTROL_SLOTS,
    )
