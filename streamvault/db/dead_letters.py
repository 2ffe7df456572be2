"""Queries about what was tried often enough and needs a person. They never commit."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.ids import as_uuid, uuid7
from streamvault.db.models import DeadLetter
from streamvault.db.pages import Page, fetch_page
from streamvault.errors import Conflict, NotFound

INBOX, NOTIFICATION = "inbox", "notification"
KINDS = (INBOX, NOTIFICATION)
WAITING, RETRIED, DISCARDED = "waiting", "retried", "discarded"


async def add_letter(
    session: AsyncSession, kind: str, key: str, *, title: str, error: str, attempts: int
) -> None:
    """`key` names the thing within its kind: when it fails again, its letter waits again.

    `title` and `error` are one line each and hold no secret."""
    row = insert(DeadLetter).values(
        id=uuid7(), kind=kind, key=f"{kind}:{key}", title=title, error=error, attempts=attempts
    )
    await session.execute(
        row.on_conflict_do_update(
            index_elements=[DeadLetter.key],
            set_={
                "error": error,
                "attempts": DeadLetter.attempts + attempts,
                "state": WAITING,
                "reason": "",
                "last_at": func.now(),
            },
        )
    )


async def list_letters(
    session: AsyncSession, *, kinds: tuple[str, ...] = KINDS, limit: int = 50, cursor: str | None
) -> Page[DeadLetter]:
    """Those that wait for somebody, newest first."""
    query = select(DeadLetter).where(DeadLetter.state == WAITING, DeadLetter.kind.in_(kinds))
    return await fetch_page(session, query, DeadLetter.id, limit=limit, cursor=cursor)


async def take_letter(session: AsyncSession, letter_id: str | UUID) -> DeadLetter:
    """A letter that still waits, locked. Raises NotFound, Conflict when somebody was faster."""
    found = await session.get(DeadLetter, as_uuid(letter_id, "dead letter"), with_for_update=True)
    if found is None:
        raise NotFound(f"there is no dead letter {letter_id}")
    if found.state != WAITING:
        raise Conflict(f"this dead letter was {found.state} already")
    return found


async def count_letters(session: AsyncSession) -> dict[str, int]:
    """Those that wait, by kind; every kind is there."""
    rows = await session.execute(
        select(DeadLetter.kind, func.count())
        .where(DeadLetter.state == WAITING)
        .group_by(DeadLetter.kind)
    )
    return dict.fromkeys(KINDS, 0) | dict(rows.all())


def key_of(letter: DeadLetter) -> str:
    """What the letter is about, within its kind."""
    return letter.key.removeprefix(f"{letter.kind}:")
