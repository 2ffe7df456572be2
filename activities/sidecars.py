"""What lies beside a final file for others to read: report, NFO, pictures of the series."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

from activities.artwork import place_artwork
from activities.library import Shelved
from activities.told import catalog_of
from streamvault.db import captured, streamers, streams
from streamvault.db.session import Database
from streamvault.media import chapters as chapter_text
from streamvault.media.chapters import Chapter
from streamvault.media.files import write_atomic
from streamvault.media.nfo import Episode, episode_nfo


async def write_sidecars(
    db: Database, images: Path, shelved: Shelved, report: Mapping[str, Any]
) -> None:
    """With what the catalog knows in the report. Without a final file there is only that. Raises
    OSError."""
    row = shelved.recording
    async with db.begin() as session:
        streamer = await streamers.find_by_id(session, row.streamer_id)
        stream = await streams.find_by_id(session, row.stream_id)
    told = {**report, "catalog": catalog_of(row, stream.platform_stream_id if stream else "")}
    text = json.dumps(told, indent=1)
    await asyncio.to_thread(write_atomic, shelved.beside(".report.json"), text)
    async with db.begin() as session:
        await captured.save_report(session, row.id, told)
    if row.path:
        nfo = episode_nfo(_episode(shelved))
        await asyncio.to_thread(write_atomic, shelved.beside(".nfo"), nfo)
        await place_artwork(shelved, streamer, images)


def _episode(shelved: Shelved) -> Episode:
    row = shelved.recording
    day = row.started_at.astimezone(UTC)
    return Episode(
        title=row.title or row.streamer_name,
        streamer=row.streamer_name,
        season=day.year,
        episode=int(f"{day:%m%d}{shelved.episode:02d}"),
        started_at=row.started_at,
        runtime_s=row.duration_s,
        category=row.category,
        plot="\n".join(_plot_line(chapter) for chapter in shelved.chapters),
        platform=row.platform or "live",
        stream_id=row.workflow_id.rpartition("-")[2] if row.stream_id else "",
        poster=shelved.beside("-poster.jpg").name,
    )


def _plot_line(chapter: Chapter) -> str:
    return f"{chapter_text.vtt_time(chapter.start_s)[:8]} {chapter.label}"
