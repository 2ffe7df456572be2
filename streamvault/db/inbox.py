"""Queries about messages of EventSub that wait to be worked off. They never commit.

A worker that takes a message moves its time on (`lease_s`), and again while it works: if the worker
dies, the message is due again. Times are the database's, so that the clocks of several hosts need
not agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from streamvault.db.models import InboxMessage
from streamvault.db.words import to_json

CHANNEL = "inbox"
"""Told when something new waits; see `streamvault.db.listening`."""
WAITING, DONE, DEAD = "waiting", "done", "dead"

# All of one transaction's notifications are one. The rows come as one value, since a statement with
# as many places as there are rows would be prepared anew for each number of them.
_STORE = text("""
    WITH added AS (
        INSERT INTO inbox
            (message_id, source, kind, type, subscription_id, sent_at, payload)
        SELECT message_id, source, kind, type, subscription_id, sent_at, payload
        FROM jsonb_to_recordset(CAST(:given AS jsonb)) AS given (
            message_id text, source text, kind text, type text,
            subscription_id text, sent_at timestamptz, payload jsonb
        )
        ON CONFLICT (message_id) DO NOTHING
        RETURNING message_id
    )
    SELECT message_id, pg_notify(:channel, '') FROM added
""")


@dataclass(frozen=True, slots=True)
class NewMessage:
    message_id: str
    source: str
    """`webhook`, `conduit` or `websocket`."""
    kind: str
    """`notification` or `revocation`."""
    type: str
    subscription_id: str
    sent_at: datetime
    payload: dict[str, Any]


async def store(session: AsyncSession, message: NewMessage) -> bool:
    """Whether it is new; Twitch delivers at least once."""
    return bool(await store_all(session, [message]))


async def store_all(
    session: AsyncSession | AsyncConnection, messages: Sequence[NewMessage]
) -> set[str]:
    """Keep those whose id is not known yet, and tell the worker; their ids. One statement."""
    given = to_json([asdict(message) for message in messages])
    stored = await session.execute(_STORE, {"given": given, "channel": CHANNEL})
    return {row.message_id for row in stored}


async def wake(session: AsyncSession) -> None:
    """Have the worker look, once this transaction is committed."""
    await session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})


async def claim(
    session: AsyncSession, *, limit: int, again: bool, lease_s: float
) -> list[InboxMessage]:
    """Take messages that are due, the longest waiting first: those that failed before (`again`), or
    those that did not. Two workers never take the same one."""
    failed = InboxMessage.attempts > 0 if again else InboxMessage.attempts == 0
    due = (
        select(InboxMessage.id)
        .where(InboxMessage.state == WAITING, InboxMessage.next_at <= func.now(), failed)
        .order_by(InboxMessage.next_at, InboxMessage.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        # A CTE that locks runs once; a subquery could run again for each row and take more.
        .cte("due")
    )
    taken = await session.scalars(
        update(InboxMessage)
        .where(InboxMessage.id == due.c.id)
        .values(next_at=_in(lease_s))
        .returning(InboxMessage)
        .execution_options(synchronize_session=False)
    )
    return list(taken)


async def hold(session: AsyncSession, ids: Iterable[int], lease_s: float) -> None:
    """Go on keeping what was taken."""
    await session.execute(_waiting(InboxMessage.id.in_(ids)).values(next_at=_in(lease_s)))


async def finish(session: AsyncSession, message: int, note: str = "") -> None:
    """`note` says why nothing came of it."""
    await session.execute(
        _waiting(InboxMessage.id == message).values(state=DONE, done_at=func.now(), error=note)
    )


async def put_off(
    session: AsyncSession, message: int, wait_s: float, note: str, *, failed: bool
) -> None:
    """Due again after `wait_s`; a failed attempt is counted."""
    await session.execute(
        _waiting(InboxMessage.id == message).values(
            next_at=_in(wait_s), error=note, attempts=InboxMessage.attempts + int(failed)
        )
    )


async def bury(session: AsyncSession, message: int, error: str) -> None:
    """Tried often enough; it stays until somebody wants it tried again."""
    await session.execute(
        _waiting(InboxMessage.id == message).values(
            state=DEAD, error=error, attempts=InboxMessage.attempts + 1
        )
    )


async def revive(session: AsyncSession, message_id: str) -> bool:
    """Start over with a dead message; False when it is not there (any more)."""
    revived = await session.scalars(
        update(InboxMessage)
        .where(InboxMessage.message_id == message_id, InboxMessage.state == DEAD)
        .values(state=WAITING, attempts=0, next_at=func.now())
        .returning(InboxMessage.id)
        .execution_options(synchronize_session=False)
    )
    await wake(session)
    return revived.first() is not None


async def prune(session: AsyncSession, *, older_than_s: float, limit: int = 1_000) -> int:
    """Delete messages that were worked off long ago; how many. Dead ones stay."""
    old = (
        select(InboxMessage.id)
        .where(InboxMessage.received_at < _in(-older_than_s), InboxMessage.state == DONE)
        .order_by(InboxMessage.received_at)
        .limit(limit)
    )
    gone = await session.scalars(
        delete(InboxMessage)
        .where(InboxMessage.id.in_(old))
        .returning(InboxMessage.id)
        .execution_options(synchronize_session=False)
    )
    return len(gone.all())


def _waiting(condition: ColumnElement[bool]) -> Any:
    return (
        update(InboxMessage)
        .where(condition, InboxMessage.state == WAITING)
        .execution_options(synchronize_session=False)
    )


def _in(seconds: float) -> ColumnElement[datetime]:
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
