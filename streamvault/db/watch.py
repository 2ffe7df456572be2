"""What the watchdog looks at: recordings that are not finished, and what nobody looks after.

Nothing here commits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Integer, and_, case, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.contracts import Status, Step
from streamvault.db.models import Part, Recording, Streamer

CAPTURING = (Status.DETECTING, Status.RECORDING, Status.RECONNECTING)
AT_MOST = 50


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
    ads: int = 0
    lost: int = 0
    source_url: str = ""
    streamer_id: UUID | None = None
    directory: str | None = None

    @property
    def is_captured(self) -> bool:
        """Else its parts are being made a file of."""
        parked = self.status == Status.NEEDS_ATTENTION and self.step == Step.RECORD
        return self.status in CAPTURING or parked

    @property
    def reached(self) -> tuple[float, int, int, int]:
        """How far it is in its stream: an ad that is passed over is progress, and so is a segment
        that could not be had."""
        return self.duration_s, self.size_bytes, self.ads, self.lost


@dataclass(frozen=True, slots=True)
class LiveUnrecorded:
    """Somebody who is live, is to be recorded, and is not; the filters have not been asked."""

    login: str
    title: str
    category: str
    filters: Mapping[str, Any]


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
        _total("segments_ad"),
        _total("segments_lost"),
        Recording.source_url,
        Recording.streamer_id,
        Recording.directory,
    ).where(Recording.holds_source)
    if only is not None:
        query = query.where(Recording.id == only)
    return [Unfinished(*row) for row in await session.execute(query)]


async def live_unrecorded(session: AsyncSession, lasting: timedelta) -> list[LiveUnrecorded]:
    """Live for so long without a recording. What ended in that time may just not have been seen to
    be offline yet, and what a person stopped is left alone."""
    since = func.now() - lasting
    explained = exists().where(
        Recording.streamer_id == Streamer.id,
        or_(
            Recording.status.in_(CAPTURING),
            and_(Recording.status == Status.NEEDS_ATTENTION, Recording.step == Step.RECORD),
            Recording.ended_at > since,
            and_(Recording.reason == "stopped", Recording.started_at >= Streamer.live_since),
        ),
    )
    query = (
        select(Streamer.login, Streamer.title, Streamer.category, Streamer.filters)
        .where(Streamer.enabled, Streamer.live_since < since, ~explained)
        .order_by(Streamer.login)
        .limit(AT_MOST)
    )
    return [LiveUnrecorded(*row) for row in await session.execute(query)]


async def failed_with_parts(session: AsyncSession, lasting: timedelta) -> list[UUID]:
    """Over for so long, and of the parts that are there no file was made."""
    query = (
        select(Recording.id)
        .where(
            Recording.status == Status.FAILED,
            Recording.path.is_(None),
            Recording.parts_gone_at.is_(None),
            Recording.ended_at < func.now() - lasting,
            exists().where(Part.recording_id == Recording.id),
        )
        .order_by(Recording.id.desc())
        .limit(AT_MOST)
    )
    return list(await session.scalars(query))


def _total(name: str) -> Any:
    """0 where nothing is told, or nothing that counts."""
    told = Recording.totals[name]
    return case((func.jsonb_typeof(told) == "number", told.astext.cast(Integer)), else_=0)
