"""From the journal's timeline to the catalog's rows."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.contracts import Status
from streamvault.db import captured
from streamvault.hls.capture import Capture
from streamvault.hls.timeline import Timeline


def progress_row(capture: Capture) -> captured.Progress:
    now = capture.progress()
    return captured.Progress(
        size_bytes=now.size_bytes,
        duration_s=now.media_s,
        bitrate_bps=now.bitrate_bps,
        variant=now.variant,
        codec=now.codecs,
        totals=asdict(capture.timeline.totals),
        status=Status.RECORDING if now.state == "recording" else Status.RECONNECTING,
        reason=now.note,
    )


async def save_timeline(session: AsyncSession, recording_id: str, timeline: Timeline) -> None:
    """Replace parts, gaps, ads and totals by what the journal says now."""
    await captured.replace_parts_and_gaps(
        session,
        recording_id,
        [
            captured.PartRow(
                number=part.number,
                name=part.file_name,
                size_bytes=part.size_bytes,
                duration_s=part.duration_s,
                started_at=_aware(part.start_wall_s),
                checksum="" if part.crc is None else f"{part.crc:08x}",
            )
            for part in timeline.parts
        ],
        [
            captured.GapRow(gap.start_s, gap.duration_s, gap.cause, _aware(gap.at))
            for gap in timeline.gaps
        ],
        [captured.AdRow(ad.start_s, ad.duration_s, ad.kind) for ad in timeline.ads],
        asdict(timeline.totals),
    )


def _aware(epoch_s: float | None) -> datetime | None:
    return None if epoch_s is None else datetime.fromtimestamp(epoch_s, UTC)
