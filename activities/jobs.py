"""One action on many recordings, a hundred at a time; an interrupted one goes on from there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from streamvault.contracts import JobDone
from streamvault.db import jobs, library
from streamvault.db.models import Job, Recording
from streamvault.db.session import Database
from streamvault.errors import StreamVaultError

UNDO_FOR = timedelta(hours=24)
"""So long what a person deleted can be had back."""
AT_ONCE = 100

Action = Callable[[AsyncSession, UUID], Awaitable[object]]

ACTIONS: dict[str, Action] = {
    "delete": lambda s, i: library.delete_recording(s, i, "by a person", UNDO_FOR),
    "undelete": library.undelete_recording,
    "lock": lambda s, i: library.mark(s, i, locked=True),
    "unlock": lambda s, i: library.mark(s, i, locked=False),
    "watched": lambda s, i: library.mark(s, i, watched=True),
    "unwatched": lambda s, i: library.mark(s, i, watched=False),
}


@dataclass(frozen=True)
class Jobs:
    db: Database

    @activity.defn
    async def run_job(self, job_id: str) -> JobDone:
        """Each hundred is one transaction, with the note of how far it is. Raises NotFound."""
        while True:
            async with self.db.begin() as session:
                job = await jobs.get_job(session, job_id, lock=True)
                if job.state == "done":
                    return JobDone(job.done, len(job.failed))
                await _go_on(session, job)
                activity.heartbeat(job.done, job.total)


async def _go_on(session: AsyncSession, job: Job) -> None:
    rows = await jobs.next_of(session, job, AT_ONCE)
    failed = [problem for row in rows if (problem := await _do(session, job.action, row))]
    job.done += len(rows) - len(failed)
    job.failed = [*job.failed, *failed]
    if rows:
        job.last_id = rows[-1].id
    if len(rows) < AT_ONCE:
        await jobs.end_job(session, job)


async def _do(session: AsyncSession, action: str, row: Recording) -> dict[str, str] | None:
    """What went wrong; what that one had changed is taken back."""
    title = row.title
    try:
        async with session.begin_nested():
            await ACTIONS[action](session, row.id)
    except StreamVaultError as error:
        return {"id": str(row.id), "title": title, "problem": error.one_line}
    return None
