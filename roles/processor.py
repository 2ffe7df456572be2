"""ffmpeg's work."""

from __future__ import annotations

from temporalio.client import Client
from temporalio.worker import Worker

from activities.adopting import Adopting
from activities.media import Media
from activities.moving import Moving
from activities.retention import Retention
from activities.tidying import Tidying
from activities.verifying import Verifying
from roles.parts import Parts, new_worker
from streamvault.contracts import media_queue
from streamvault.db import pictures
from streamvault.media.ffmpeg import find_ffmpeg, self_test

# Media steps wait inside for the one remux at a time; small ones need not wait behind it.
MEDIA_SLOTS = 4


async def keep_tidy(parts: Parts) -> None:
    await Tidying(parts.db, parts.settings.libraries).keep_tidy()


async def processor_worker(client: Client, parts: Parts) -> Worker:
    ffmpeg = find_ffmpeg(parts.settings.ffmpeg)
    await self_test(ffmpeg)
    verifying = Verifying(parts.db, parts.settings.libraries, ffmpeg)
    settings = parts.settings
    images = settings.data_dir / pictures.FOLDER
    media = Media(parts.db, settings.libraries, ffmpeg, images, settings.ad_chapters, client)
    retention = Retention(parts.db, client, parts.settings.libraries)
    adopting = Adopting(parts.db, settings.libraries)
    moving = Moving(parts.db, settings.libraries, images)
    steps = [media.remux, media.thumbnails, media.chapters, media.sidecars]
    return new_worker(
        client,
        media_queue(parts.host_id),
        [*steps, verifying.verify, retention.sweep, adopting.adopt, moving.run_move],
        slots=MEDIA_SLOTS,
    )
