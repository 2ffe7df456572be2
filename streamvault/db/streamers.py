"""Queries about streamers. They never commit; an unknown streamer raises NotFound."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.ids import as_uuid, uuid7
from streamvault.db.models import Streamer
from streamvault.db.pages import Page, fetch_page
from streamvault.errors import NotFound


@dataclass(frozen=True, slots=True)
class NewStreamer:
    platform: str
    login: str
    """Unique on its platform, whatever its case."""
    name: str
    url: str
    quality: str = "best"


async def add_streamer(session: AsyncSession, new: NewStreamer) -> tuple[Streamer, bool]:
    """The streamer with this login, and whether this call added it."""
    added: UUID | None = await session.scalar(
        insert(Streamer)
        .values(
            id=uuid7(),
            platform=new.platform,
            login=new.login,
            name=new.name,
            url=new.url,
            quality=new.quality,
        )
        .on_conflict_do_nothing(index_elements=[Streamer.platform, text("lower(login)")])
        .returning(Streamer.id)
    )
    if added:
        return await get_streamer(session, added), True
    known = await find_streamer(session, new.platform, new.login)
    if known is None:
        raise NotFound(f"the streamer {new.login} was deleted at this moment")
    return known, False


async def get_streamer(session: AsyncSession, streamer_id: str | UUID) -> Streamer:
    found = await session.get(Streamer, as_uuid(streamer_id, "streamer"))
    if found is None:
        raise NotFound(f"there is no streamer {streamer_id}")
    return found


async def find_streamer(session: AsyncSession, platform: str, login: str) -> Streamer | None:
    found: Streamer | None = await session.scalar(
        select(Streamer).where(
            Streamer.platform == platform, func.lower(Streamer.login) == login.lower()
        )
    )
    return found


async def list_streamers(
    session: AsyncSession, *, limit: int = 50, cursor: str | None = None
) -> Page[Streamer]:
    return await fetch_page(session, select(Streamer), Streamer.id, limit=limit, cursor=cursor)


async def note_seen(
    session: AsyncSession, streamer_id: UUID, *, name: str, user_id: str | None
) -> None:
    """Keep the display name and the platform's id as the source says them now."""
    await session.execute(
        update(Streamer)
        .where(Streamer.id == streamer_id)
        .values(
            name=name or Streamer.name,
            platform_user_id=func.coalesce(user_id, Streamer.platform_user_id),
        )
    )


async def delete_streamer(session: AsyncSession, streamer_id: str | UUID) -> None:
    """Stop following; its recordings stay and keep its name."""
    await session.delete(await get_streamer(session, streamer_id))
    await session.flush()
