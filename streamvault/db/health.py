"""What is waiting for work or for a person, in one look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.contracts import Status
from streamvault.db.models import DeadLetter, InboxMessage, Recording


@dataclass(frozen=True, slots=True)
class Waiting:
    inbox: int
    inbox_oldest_at: datetime | None
    """When the oldest message that is not worked off arrived."""
    dead_letters: int
    parked: int
    """Recordings that need a person."""


async def count_waiting(session: AsyncSession) -> Waiting:
    inbox = select(func.count(), func.min(InboxMessage.received_at)).where(
        InboxMessage.state == "waiting"
    )
    messages, oldest = (await session.execute(inbox)).one()
    letters = select(func.count()).where(DeadLetter.state == "waiting")
    parked = select(func.count()).where(Recording.status == Status.NEEDS_ATTENTION)
    return Waiting(
        inbox=messages,
        inbox_oldest_at=oldest,
        dead_letters=await session.scalar(letters.select_from(DeadLetter)) or 0,
        parked=await session.scalar(parked.select_from(Recording)) or 0,
    )


async def last_message_at(session: AsyncSession) -> datetime | None:
    """When EventSub last sent something."""
    return await session.scalar(select(func.max(InboxMessage.received_at)))
