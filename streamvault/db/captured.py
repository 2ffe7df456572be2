"""What a recording holds: progress while it is captured, parts, gaps and ads, the final file.

As in `recordings`: functions never commit, and an unknown recording raises NotFound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import case, delete, func, or_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.contracts import Status, Step
from streamvault.db.ids import as_uuid
from streamvault.db.models import AdBreak, Gap, Part, Recording
from streamvault.db.recordings import update_recording

_CAPTURING = or_(
    Recording.status.in_((Status.DETECTING, Status.RECORDING, Status.RECONNECTING)),
    # Parked for want of room, and recording again.
    (Recording.status == Status.NEEDS_ATTENTION) & (Recording.step == Step.RECORD),
)


@dataclass(frozen=True, slots=True)
class Progress:
    """Figures of a running capture; None and empty text leave a column as it is."""

    size_bytes: int
    duration_s: float
    bitrate_bps: int = 0
    variant: str = ""
    codec: str = ""
    totals: dict[str, Any] | None = None
    """The contract's `totals`."""
    status: str = str(Status.RECORDING)
    """`recording` or `reconnecting`."""
    reason: str = ""
    """What is wrong at present, in one line; empty text says that nothing is."""


@dataclass(frozen=True, slots=True)
class PartRow:
    number: int
    name: str
    """File name inside the recording's directory."""
    size_bytes: int
    duration_s: float
    started_at: datetime | None = None
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class GapRow:
    start_s: float
    duration_s: float
    cause: str
    """A contracts.GapCause."""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AdRow:
    start_s: float
    duration_s: float
    kind: str = ""


@dataclass(frozen=True, slots=True)
class FinalFile:
    path: str
    """Relative to the library's root."""
    size_bytes: int
    duration_s: float
    codec: str = ""


async def save_progress(
    session: AsyncSession, recording_id: str | UUID, progress: Progress
) -> None:
    """Status and step change only while the recording is being captured: a late report of an old
    attempt must not take a recording out of `processing`."""
    values: dict[str, Any] = {
        "size_bytes": progress.size_bytes,
        "duration_s": progress.duration_s,
        "bitrate_bps": progress.bitrate_bps,
        "variant": progress.variant,
        "codec": progress.codec,
        "totals": progress.totals,
    }
    values["progress_at"] = datetime.now(UTC)
    known = {column: value for column, value in values.items() if value not in (None, "")}
    await update_recording(
        session,
        recording_id,
        status=case((_CAPTURING, progress.status), else_=Recording.status),
        step=case((_CAPTURING, str(Step.RECORD)), else_=Recording.step),
        reason=case((_CAPTURING, progress.reason), else_=Recording.reason),
        **known,
    )


async def replace_parts_and_gaps(
    session: AsyncSession,
    recording_id: str | UUID,
    parts: Sequence[PartRow],
    gaps: Sequence[GapRow],
    ads: Sequence[AdRow],
    totals: dict[str, Any],
) -> None:
    """The journal is the truth: what it says replaces what stood here."""
    recording = as_uuid(recording_id)
    await update_recording(session, recording, totals=totals)
    await _replace(session, Part, recording, [asdict(part) for part in parts])
    await _replace(session, Gap, recording, _numbered(gaps))
    await _replace(session, AdBreak, recording, _numbered(ads))


async def save_final_file(
    session: AsyncSession, recording_id: str | UUID, final: FinalFile
) -> None:
    """The verified file is in the library; duration and size are now the file's own."""
    values: dict[str, Any] = {
        "path": final.path,
        "size_bytes": final.size_bytes,
        "duration_s": final.duration_s,
    }
    if final.codec:
        values["codec"] = final.codec
    if final.duration_s > 0:
        values["bitrate_bps"] = round(final.size_bytes * 8 / final.duration_s)
    await update_recording(session, recording_id, **values)


async def mark_parts_gone(session: AsyncSession, recording_id: str | UUID) -> None:
    """The part files were deleted: no playlist any more, their rows stay for the report."""
    await update_recording(session, recording_id, parts_gone_at=func.now())


async def save_chapters(
    session: AsyncSession, recording_id: str | UUID, chapters: Sequence[dict[str, Any]]
) -> None:
    """The contract's `chapters` (`start_s`, `title`, `category`) as they are in the final file."""
    await update_recording(session, recording_id, chapters=list(chapters))


async def save_report(
    session: AsyncSession, recording_id: str | UUID, report: dict[str, Any]
) -> None:
    """The integrity report, the same object as in `.report.json`."""
    await update_recording(session, recording_id, report=report)


async def save_verification(
    session: AsyncSession, recording_id: str | UUID, found: dict[str, Any]
) -> None:
    """What became of the finished file when it was looked at again."""
    await update_recording(session, recording_id, verified_at=datetime.now(UTC), verification=found)


def _numbered(rows: Sequence[GapRow | AdRow]) -> list[dict[str, Any]]:
    return [{"number": number, **asdict(row)} for number, row in enumerate(rows, start=1)]


async def _replace(
    session: AsyncSession,
    table: type[Part] | type[Gap] | type[AdBreak],
    recording_id: UUID,
    rows: list[dict[str, Any]],
) -> None:
    await session.execute(delete(table).where(table.recording_id == recording_id))
    if rows:
        await session.execute(insert(table), [{"recording_id": recording_id, **r} for r in rows])
