"""Parts that outlived their recording's processing because somebody was watching them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from activities.library import Shelved, take_from_shelf
from activities.told import ABOUT
from streamvault.db import captured, recordings
from streamvault.db.models import Recording
from streamvault.db.session import Database
from streamvault.errors import StreamVaultError
from streamvault.hls.journal import JOURNAL_NAME, remove_part

log = logging.getLogger(__name__)

LOOK_S = 20.0
# A player asks for the next bytes, or for the playlist, every few seconds; paused ones do not.
WATCHED_FOR = timedelta(seconds=60)
COVER_NAME = "poster.jpg"
REPORT_OF_PARTS = "report.json"
# What belongs to the parts and goes with them; the storyboard stays.
GOES_WITH_PARTS = (
    *(JOURNAL_NAME, "pending.json", "remux-*.json", COVER_NAME, ".lock"),
    # Of a time when the parts were all there was.
    *(REPORT_OF_PARTS, ABOUT, "chapters.vtt"),
)


def is_watched(recording: Recording) -> bool:
    """Whether somebody played the parts within the last minute."""
    seen = recording.watched_at
    return seen is not None and datetime.now(UTC) - seen < WATCHED_FOR


async def remove_parts(db: Database, shelved: Shelved) -> None:
    """Of a recording whose final file is verified and described."""
    await asyncio.to_thread(_remove, shelved)
    async with db.begin() as session:
        await captured.mark_parts_gone(session, shelved.recording.id)


@dataclass(frozen=True)
class Tidying:
    db: Database
    libraries: tuple[Path, ...]

    async def keep_tidy(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._tidy()
            except (StreamVaultError, SQLAlchemyError, OSError) as error:
                log.warning("parts not removed", extra={"why": str(error)})

    async def _tidy(self) -> None:
        async with self.db.begin() as session:
            left = await recordings.with_parts_left(session)
        for row in left:
            if is_watched(row):
                continue
            shelved = await take_from_shelf(self.db, self.libraries, str(row.id))
            # On another host's disk, or never recorded here.
            if shelved.has_parts and shelved.final.exists():
                await remove_parts(self.db, shelved)
                log.info("parts removed", extra={"recording_id": str(row.id)})


def _remove(shelved: Shelved) -> None:
    for part in shelved.parts:
        remove_part(part.path)
    for pattern in GOES_WITH_PARTS:
        for path in shelved.work.glob(pattern):
            path.unlink(missing_ok=True)
