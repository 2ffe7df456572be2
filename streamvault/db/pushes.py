"""Queries about browsers that want to hear. Sealed before they come here. They never commit."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete as delete_from
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.ids import as_uuid
from streamvault.db.models import PushSubscription
from streamvault.errors import NotFound


async def list_subscriptions(session: AsyncSession) -> Sequence[PushSubscription]:
    found = await session.scalars(select(PushSubscription).order_by(PushSubscription.id))
    return found.all()


async def get(session: AsyncSession, subscription_id: str | UUID) -> PushSubscription | None:
    return await session.get(PushSubscription, as_uuid(subscription_id, "push subscription"))


async def id_for(session: AsyncSession, endpoint_hash: str, fresh: UUID) -> UUID:
    """The row's id: `fresh`, or the one by which this browser is known already."""
    row = {"id": fresh, "endpoint_hash": endpoint_hash, "sealed": "", "shown": ""}
    await session.execute(insert(PushSubscription).values(row).on_conflict_do_nothing())
    known = select(PushSubscription.id).where(PushSubscription.endpoint_hash == endpoint_hash)
    return (await session.scalars(known.with_for_update())).one()


async def write(
    session: AsyncSession, subscription_id: UUID, *, sealed: str, shown: str
) -> PushSubscription:
    row = await session.get_one(PushSubscription, subscription_id)
    row.sealed, row.shown = sealed, shown
    await session.flush()
    return row


async def delete(session: AsyncSession, subscription_id: str | UUID) -> None:
    """Raises NotFound."""
    chosen = PushSubscription.id == as_uuid(subscription_id, "push subscription")
    gone = await session.execute(delete_from(PushSubscription).where(chosen).returning(chosen))
    if gone.first() is None:
        raise NotFound(f"there is no push subscription {subscription_id}")
