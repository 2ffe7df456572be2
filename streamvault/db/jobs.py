"""Actions on many recordings. They never commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.ids import as_uuid
from streamvault.db.library import Wanted
from streamvault.db.models import Job, Recording
from streamvault.errors import NotFound


async def add_job(
    session: AsyncSession, action: str, wanted: Wanted, options: Mapping[str, Any] | None = None
) -> Job:
    """Of what matches now: what is added while it runs is left alone."""
    total = await session.scalar(
        select(func.count()).select_from(Recording).where(*wanted.conditions)
    )
    told: dict[str, Any] = msgspec.to_builtins(wanted)
    job = Job(action=action, wanted=told, total=total or 0, options=dict(options or {}))
    session.add(job)
    await session.flush()
    return job


async def get_job(session: AsyncSession, job_id: str | UUID, *, lock: bool = False) -> Job:
    found = await session.get(Job, as_uuid(job_id, "job"), with_for_update=lock or None)
    if found is None:
        raise NotFound(f"there is no job {job_id}")
    return found


async def list_jobs(session: AsyncSession, limit: int) -> Sequence[Job]:
    """Newest first."""
    return (await session.scalars(select(Job).order_by(Job.id.desc()).limit(limit))).all()


async def next_of(session: AsyncSession, job: Job, limit: int) -> Sequence[Recording]:
    """Those that come now, newest first."""
    wanted = msgspec.convert(job.wanted, Wanted)
    query = select(Recording).where(*wanted.conditions, Recording.created_at <= job.created_at)
    if job.last_id is not None:
        query = query.where(Recording.id < job.last_id)
    return (await session.scalars(query.order_by(Recording.id.desc()).limit(limit))).all()


async def end_job(session: AsyncSession, job: Job) -> None:
    job.state = "done"
    job.ended_at = await session.scalar(select(func.now()))
