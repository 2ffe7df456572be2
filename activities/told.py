"""What a recording says of itself in a file of its own, for the day on which the database is lost.

Beside the final file that is the report; with parts, `about.json` until there is a report.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from streamvault.db import recordings, streams
from streamvault.db.models import Recording, StreamEvent
from streamvault.db.session import Database
from streamvault.media.files import write_atomic

log = logging.getLogger(__name__)

ABOUT = "about.json"
# Of a recording that goes into the report, so that the row can be made again.
COLUMNS = (
    *("streamer_login", "platform", "category", "quality", "variant", "codec", "workflow_id"),
    *("started_by", "reason", "ended_at", "bitrate_bps", "directory", "series", "episode_day"),
    *("episode", "chapters"),
)


class FileTold(msgspec.Struct):
    name: str
    size_bytes: int
    duration_s: float


class GapTold(msgspec.Struct):
    start_s: float
    duration_s: float
    cause: str
    at: datetime | None = None


class AdTold(msgspec.Struct):
    start_s: float
    duration_s: float
    kind: str = ""


class PartTold(msgspec.Struct):
    number: int
    file: str
    size_bytes: int
    duration_s: float
    began_at: datetime | None = None
    crc32: str | None = None


class CatalogTold(msgspec.Struct):
    """What only the row knew; a report of an older release has none."""

    source_url: str = ""
    stream_id: str = ""
    streamer_login: str | None = None
    platform: str = ""
    category: str = ""
    quality: str = "best"
    variant: str | None = None
    codec: str | None = None
    workflow_id: str = ""
    started_by: str = "person"
    reason: str = ""
    ended_at: datetime | None = None
    bitrate_bps: int = 0
    directory: str | None = None
    series: str | None = None
    episode_day: date | None = None
    episode: int | None = None
    chapters: list[dict[str, Any]] | None = None


class EventTold(msgspec.Struct):
    at: datetime
    title: str
    category: str = ""


class Told(msgspec.Struct):
    """A report as it lies beside a file, or what lies with parts of which none was written yet."""

    recording_id: UUID
    streamer: str
    title: str
    started_at: datetime
    size_bytes: int = 0
    """Of the parts, as is the duration."""
    duration_s: float = 0.0
    totals: dict[str, Any] = {}
    gaps: list[GapTold] = []
    ads: list[AdTold] = []
    parts: list[PartTold] = []
    files: list[FileTold] = []
    catalog: CatalogTold = msgspec.field(default_factory=CatalogTold)
    events: list[EventTold] = []


def catalog_of(row: Recording, stream_id: str) -> dict[str, Any]:
    """For the report. An address without a stream id may hold a token, and is left out."""
    told = {name: getattr(row, name) for name in COLUMNS}
    told["source_url"] = row.source_url if stream_id else ""
    told["stream_id"] = stream_id
    found: dict[str, Any] = msgspec.to_builtins(told)
    return found


async def write_about(db: Database, folder: Path, recording_id: str) -> None:
    """Into the recording's working folder. Raises NotFound; a disk that takes nothing is logged,
    since this is for help only."""
    async with db.begin() as session:
        row = await recordings.get_recording(session, recording_id)
        stream = await streams.find_by_id(session, row.stream_id)
        events = await streams.list_channel_events(session, recording_id)
    told = _about(row, stream.platform_stream_id if stream else "", events)
    try:
        await asyncio.to_thread(write_atomic, folder / ABOUT, msgspec.json.encode(told))
    except OSError as error:
        log.warning("about.json not written", extra={"recording_id": recording_id, "why": error})


def _about(row: Recording, stream_id: str, events: Sequence[StreamEvent]) -> dict[str, Any]:
    return {
        "recording_id": row.id,
        "streamer": row.streamer_name,
        "title": row.title,
        "started_at": row.started_at,
        "catalog": catalog_of(row, stream_id),
        "events": [EventTold(e.timestamp, e.title, e.category) for e in events],
    }
