"""What the watchdog looks at: every recording that is not finished. It never commits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.contracts import Status, Step
from streamvault.db.models import Recording

CAPTURING = (Status.DETECTING, Status.RECORDING, Status.RECONNECTING)


@dataclass(frozen=True, slots=True)
class Unfinished:
    id: UUID
    status: str
    step: str
    workflow_id: str
    duration_s: float
    size_bytes: int
    progress_at: datetime | None
    """When a recorder last told of it, whether it had got any further or not."""
    created_at: datetime

    @property
    def is_captured(self) -> bool:
        """Else its parts are being made a file of."""
        parked = self.status == Status.NEEDS_ATTENTION and self.step == Step.RECORD
        return self.status in CAPTURING or parked


async def unfinished(session: AsyncSession, only: UUID | None = None) -> list[Unfinished]:
    query = select(
        Recording.id,
        Recording.status,
        Recording.step,
        Recording.workflow_id,
        Recording.duration_s,
        Recording.size_bytes,
        Recording.progress_at,
        Recording.created_at,
    ).where(Recording.holds_source)
    if only is not None:
        query = query.where(Recording.id == only)
    return [Unfinished(*row) for row in await session.execute(query)]
