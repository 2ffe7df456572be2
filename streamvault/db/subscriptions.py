"""What we want to hear of each channel, what Twitch says of it, and where it is sent to.

They never commit. A row is one type of one channel; it also carries the back-off of its creation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete as delete_rows
from sqlalchemy import func, literal, select, tuple_, update
from sqlalchemy.dialects.postgresql import aggregate_order_by, insert
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.models import Credential, Fact, Streamer, Subscription

Key = tuple[str, str]
"""Twitch's id of the channel and the type."""

# A statement holds at most 32,767 parameters.
ROWS_PER_STATEMENT = 1_000
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

_HEARD = (
    Streamer.enabled,
    Streamer.platform == "twitch",
    Streamer.platform_user_id.is_not(None),
)


@dataclass(frozen=True, slots=True)
class SubscriptionNote:
    """One row as it should be. `status` is Twitch's word; empty while there is no subscription."""

    user_id: str
    type: str
    subscription_id: str = ""
    transport: str = ""
    status: str = ""
    attempts: int = 0
    next_at: datetime = LONG_AGO
    """No new try before then."""
    error: str = ""

    @property
    def key(self) -> Key:
        return self.user_id, self.type


async def channels_to_hear(session: AsyncSession) -> list[str]:
    """Twitch's ids of the enabled streamers, those added first in front."""
    found = await session.scalars(
        select(Streamer.platform_user_id).where(*_HEARD).order_by(Streamer.id)
    )
    return [user_id for user_id in found if user_id]


async def channels_mark(session: AsyncSession) -> str:
    """Another one whenever `channels_to_hear` has something else to say."""
    ids = func.string_agg(Streamer.platform_user_id, aggregate_order_by(literal(","), Streamer.id))
    found: str | None = await session.scalar(select(func.md5(ids)).where(*_HEARD))
    return found or ""


async def notes_by_key(session: AsyncSession) -> dict[Key, SubscriptionNote]:
    rows = await session.scalars(select(Subscription))
    return {(row.user_id, row.type): _note(row) for row in rows}


async def save_notes(session: AsyncSession, notes: Sequence[SubscriptionNote]) -> None:
    for start in range(0, len(notes), ROWS_PER_STATEMENT):
        await _save(session, notes[start : start + ROWS_PER_STATEMENT])


async def forget(session: AsyncSession, keys: Iterable[Key]) -> None:
    wanted = list(keys)
    for start in range(0, len(wanted), ROWS_PER_STATEMENT):
        some = wanted[start : start + ROWS_PER_STATEMENT]
        await session.execute(
            delete_rows(Subscription)
            .where(tuple_(Subscription.user_id, Subscription.type).in_(some))
            .execution_options(synchronize_session=False)
        )


async def mark_status(session: AsyncSession, subscription_id: str, status: str) -> bool:
    """Keep what Twitch says of a subscription, as in a revocation; False for one we do not know."""
    marked = await session.scalars(
        update(Subscription)
        .where(Subscription.subscription_id == subscription_id)
        .values(status=status, checked_at=func.now())
        .returning(Subscription.user_id)
        .execution_options(synchronize_session=False)
    )
    return bool(marked.all())


async def secret_changed_at(session: AsyncSession) -> datetime | None:
    """When the secret that webhooks are signed with was last made or set."""
    found: datetime | None = await session.scalar(
        select(Credential.updated_at).where(Credential.name == "eventsub_secret")
    )
    return found


async def merge_fact(session: AsyncSession, name: str, changes: dict[str, Any]) -> None:
    """Change some keys of a fact that several write, and leave the others as they are."""
    now = func.clock_timestamp()
    written = insert(Fact).values(name=name, value=changes, updated_at=now)
    await session.execute(
        written.on_conflict_do_update(
            index_elements=[Fact.name],
            set_={"value": Fact.value.op("||")(written.excluded.value), "updated_at": now},
        )
    )


async def _save(session: AsyncSession, notes: Sequence[SubscriptionNote]) -> None:
    if not notes:
        return
    rows = [{**asdict(note), "checked_at": func.now()} for note in notes]
    written = insert(Subscription).values(rows)
    changed = [name for name in rows[0] if name not in ("user_id", "type")]
    await session.execute(
        written.on_conflict_do_update(
            index_elements=[Subscription.user_id, Subscription.type],
            set_={name: written.excluded[name] for name in changed},
        )
    )


def _note(row: Subscription) -> SubscriptionNote:
    return SubscriptionNote(
        user_id=row.user_id,
        type=row.type,
        subscription_id=row.subscription_id,
        transport=row.transport,
        status=row.status,
        attempts=row.attempts,
        next_at=row.next_at,
        error=row.error,
    )
