"""What one process found out and the others show, one row per name. They never commit.

A value holds what anybody may see: no secret, no address with a token.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.models import Fact

CIRCUITS, RATELIMIT, EVENTSUB, POLL, CLOCK = "circuits", "ratelimit", "eventsub", "poll", "clock"
WATCHDOG = "watchdog"
RETENTION = "retention"
ADOPTED = "adopted"


async def put_fact(session: AsyncSession, name: str, value: dict[str, Any]) -> None:
    """In place of what was known. `updated_at` moves on also when the value is the same."""
    now = func.clock_timestamp()
    written = insert(Fact).values(name=name, value=value, updated_at=now)
    await session.execute(
        written.on_conflict_do_update(
            index_elements=[Fact.name], set_={"value": value, "updated_at": now}
        )
    )


async def get_fact(session: AsyncSession, name: str) -> Fact | None:
    """None when nobody has said anything of it yet."""
    return await session.scalar(select(Fact).where(Fact.name == name))


async def all_facts(session: AsyncSession) -> dict[str, Fact]:
    """Every fact by its name."""
    return {row.name: row for row in await session.scalars(select(Fact))}
