"""Captures, and the activities that watch them."""

from __future__ import annotations

import base64
import logging
from contextlib import AsyncExitStack

from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import Worker

from activities.recording import Recording
from roles.parts import Parts, new_worker
from streamvault.contracts import RECORD_QUEUE, host_queue
from streamvault.hls.captures import Captures
from streamvault.hls.fetch import Fetcher

log = logging.getLogger(__name__)

RECORDER_SLOTS = 200


def recorder_workers(client: Client, parts: Parts, captures: Captures) -> list[Worker]:
    recording = Recording(
        db=parts.db,
        captures=captures,
        sources=parts.sources,
        libraries=parts.settings.libraries,
        host_id=parts.host_id,
        look_every_s=parts.settings.poll_interval_s,
    )
    return [
        new_worker(client, RECORD_QUEUE, [recording.claim], slots=RECORDER_SLOTS),
        new_worker(
            client,
            host_queue(parts.host_id),
            [recording.record, recording.nudge, recording.await_room, recording.seal],
            slots=RECORDER_SLOTS,
        ),
    ]


async def resume_captures(parts: Parts, stack: AsyncExitStack) -> Captures:
    """Go on with every unfinished capture, before anything that could make it wait."""
    settings = parts.settings
    fetcher = Fetcher(settings.ca_bundle, settings.data_dir / "run")
    stack.push_async_callback(fetcher.aclose)
    captures = Captures(
        state_dir=settings.data_dir / "captures",
        resolve=parts.sources.resolve,
        open_reader=parts.sources.open_reader,
        fetcher=fetcher,
        stream_of=parts.sources.stream_of,
        routes=parts.proxies,
        libraries=parts.settings.libraries,
    )
    stack.push_async_callback(captures.drain_all)
    for capture in await captures.resume_all():
        log.info("capture resumed", extra={"recording_id": capture.order.recording_id})
    return captures


async def release_stale_attempts(client: Client, captures: Captures) -> None:
    """Fail the attempts that died with the process before this one, so that Temporal sends their
    successors at once and not after a heartbeat time-out."""
    for recording_id, token in captures.stale_attempts().items():
        handle = client.get_async_activity_handle(task_token=base64.b64decode(token))
        try:
            await handle.fail(ApplicationError("the recorder process restarted"))
        except RPCError as error:
            # Timed out already, or the workflow is gone.
            log.info(
                "stale attempt was gone",
                extra={"recording_id": recording_id, "why": error.status.name},
            )
