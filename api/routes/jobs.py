"""Actions on many recordings."""

from __future__ import annotations

from fastapi import APIRouter

from api.deps import Deps, Limit
from api.schemas_library import JobItem
from streamvault.db import jobs

router = APIRouter(prefix="/api/jobs", tags=["library"])


@router.get("")
async def list_all(deps: Deps, limit: Limit = 20) -> list[JobItem]:
    """Newest first."""
    async with deps.db.begin() as session:
        return [JobItem.of(row) for row in await jobs.list_jobs(session, limit)]


@router.get("/{job_id}")
async def show(job_id: str, deps: Deps) -> JobItem:
    async with deps.db.begin() as session:
        return JobItem.of(await jobs.get_job(session, job_id))
