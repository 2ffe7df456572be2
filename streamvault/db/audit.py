"""The audit log: rows are added, never changed. They never commit."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.models_access import AuditEntry
from streamvault.db.pages import Page, fetch_page


async def note(
    session: AsyncSession, *, actor: str, address: str, action: str, outcome: str, target: str = ""
) -> None:
    session.add(
        AuditEntry(actor=actor, address=address, action=action, outcome=outcome, target=target)
    )
    await session.flush()


async def list_entries(
    session: AsyncSession, *, limit: int = 50, cursor: str | None = None
) -> Page[AuditEntry]:
    """Newest first."""
    return await fetch_page(session, select(AuditEntry), AuditEntry.id, limit=limit, cursor=cursor)
