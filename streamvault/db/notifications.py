"""Queries about notifications. They never commit. A target is a name, never its URL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.ids import as_uuid, uuid7
from streamvault.db.models import Notification
from streamvault.errors import NotFound

QUEUED, SENT, FAILED = "queued", "sent", "failed"


async def queue_notifications(
    session: AsyncSession, recording_id: str | UUID, event: str, targets: Sequence[str]
) -> list[UUID]:
    """One row per target, made once; the ids of those that are still to be delivered."""
    recording = as_uuid(recording_id)
    rows = [
        {"id": uuid7(), "recording_id": recording, "event": event, "target": target}
        for target in dict.fromkeys(targets)
    ]
    if not rows:
        return []
    await session.execute(insert(Notification).values(rows).on_conflict_do_nothing())
    queued = await session.scalars(
        select(Notification.id)
        .where(
            Notification.recording_id == recording,
            Notification.event == event,
            Notification.target.in_(targets),
            Notification.state == QUEUED,
        )
        .order_by(Notification.id)
    )
    return list(queued)


async def get_notification(session: AsyncSession, notification_id: str | UUID) -> Notification:
    """Raises NotFound."""
    found = await session.get(Notification, as_uuid(notification_id, "notification"))
    if found is None:
        raise NotFound(f"there is no notification {notification_id}")
    return found


async def mark_notification(
    session: AsyncSession, notification_id: str | UUID, state: str, error: str = ""
) -> Notification:
    """Count one attempt that ended in `state`: `sent`, `failed` for good, or `queued` again.

    `error` is one line without the target's URL. Raises NotFound."""
    row = await get_notification(session, notification_id)
    row.state, row.error = state, error
    row.attempts += 1
    row.ended_at = None if state == QUEUED else datetime.now(UTC)
    await session.flush()
    return row


async def queue_again(session: AsyncSession, notification_id: str | UUID) -> None:
    """One that failed is to be delivered after all. Raises NotFound."""
    row = await get_notification(session, notification_id)
    row.state, row.error, row.ended_at = QUEUED, "", None
    await session.flush()
