"""Figures over all rows, for `/metrics`."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.contracts import Status
from streamvault.db.models import Notification, Recording

ACTIVE = (Status.DETECTING, Status.RECORDING, Status.RECONNECTING)


@dataclass(frozen=True, slots=True)
class Counts:
    active_recordings: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    """Failed recordings by the step that failed; what a person stopped is no failure."""
    processing: int = 0
    needing_attention: int = 0
    notifications_queued: int = 0


async def count_all(session: AsyncSession) -> Counts:
    by_status = await _count_by(session, select(Recording.status, func.count()))
    queued = select(func.count()).select_from(Notification).where(Notification.state == "queued")
    return Counts(
        active_recordings=sum(by_status.get(status, 0) for status in ACTIVE),
        failures=await _count_by(
            session,
            select(Recording.step, func.count()).where(
                Recording.status == Status.FAILED, Recording.reason != "stopped"
            ),
        ),
        processing=by_status.get(Status.PROCESSING, 0),
        needing_attention=by_status.get(Status.NEEDS_ATTENTION, 0),
        notifications_queued=await session.scalar(queued) or 0,
    )


async def _count_by(session: AsyncSession, query: Select[str, int]) -> dict[str, int]:
    rows = await session.execute(query.group_by(query.selected_columns[0]))
    return dict(rows.all())
