"""Queries about proxies. Their addresses are sealed before they come here. They never commit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.ids import as_uuid
from streamvault.db.models import Proxy
from streamvault.errors import NotFound


async def list_proxies(session: AsyncSession) -> Sequence[Proxy]:
    """All of them, in the order in which they are tried."""
    found = await session.scalars(select(Proxy).order_by(Proxy.position, Proxy.id))
    return found.all()


async def get_proxy(session: AsyncSession, proxy_id: str | UUID) -> Proxy:
    found = await session.get(Proxy, as_uuid(proxy_id, "proxy"))
    if found is None:
        raise NotFound(f"there is no proxy {proxy_id}")
    return found


async def add_proxy(session: AsyncSession, proxy: Proxy, position: int | None) -> None:
    """At a place among the others, which move down; None is the last one."""
    if position is None:
        highest = await session.scalar(select(func.max(Proxy.position)))
        proxy.position = 0 if highest is None else highest + 1
    else:
        await make_place(session, position)
        proxy.position = position
    session.add(proxy)
    await session.flush()


async def make_place(session: AsyncSession, position: int) -> None:
    later = update(Proxy).where(Proxy.position >= position).values(position=Proxy.position + 1)
    await session.execute(later)


async def delete_proxy(session: AsyncSession, proxy_id: str | UUID) -> None:
    await session.delete(await get_proxy(session, proxy_id))


async def note_check(
    session: AsyncSession, proxy_id: UUID, *, ok: bool, latency_ms: int | None, error: str
) -> None:
    """What a look through it came to."""
    values = {
        "checked_at": datetime.now(UTC),
        "ok": ok,
        "latency_ms": latency_ms,
        "error": error,
    }
    await session.execute(update(Proxy).where(Proxy.id == proxy_id).values(values))
