"""The library as a whole."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from activities import starts
from api.deps import Deps
from streamvault.contracts import ADOPT_ID
from streamvault.db import facts
from streamvault.settings import stable_host_id

router = APIRouter(prefix="/api/library", tags=["library"])


class AdoptionStarted(BaseModel):
    workflow_id: str


class AdoptionItem(BaseModel):
    at: datetime
    known: int
    added: int
    """Recordings that the database did not know."""
    moved: int
    """Whose file was found in another place."""
    taken_up: int = 0
    """Of which there were only parts; they become files now."""
    missing: list[str]
    """Whose file is nowhere."""
    problems: list[str]


@router.post("/adopt", status_code=202)
async def adopt(deps: Deps) -> AdoptionStarted:
    """Make the catalog anew from the reports beside the files; nothing in the library changes."""
    await starts.start_adopting(await deps.temporal.client(), stable_host_id(deps.settings))
    return AdoptionStarted(workflow_id=ADOPT_ID)


@router.get("/adopt")
async def last(deps: Deps) -> AdoptionItem | None:
    """What the last one came to; null if there was none."""
    async with deps.db.begin() as session:
        fact = await facts.get_fact(session, facts.ADOPTED)
    return AdoptionItem(at=fact.updated_at, **fact.value) if fact else None
