"""Who is who: an account keeps its id on the platform, while logins move from one to another.

What `streamers.py` needs to keep one row per account and one account per login.
"""

from __future__ import annotations

from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.models import Recording, Stream, Streamer, StreamEvent

MOVED = "its name on Twitch has changed, and the new one is not known yet"


def channel_url(login: str) -> str:
    """A Twitch channel's own page."""
    return f"https://www.twitch.tv/{login.lower()}"


async def lock_names(session: AsyncSession) -> None:
    """One at a time, until the transaction ends: logins and ids are unique across rows, and moving
    them takes several statements."""
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('streamers', 0))"))


async def vacate(session: AsyncSession, row: Streamer) -> None:
    """Give up a login that is another account's by now. No login on Twitch begins with `_`."""
    row.login = f"_{row.id.hex[-24:]}"
    row.url = channel_url(row.login)
    row.profile_at, row.problem = None, MOVED
    await session.flush()


async def merge(session: AsyncSession, row: Streamer, *, into: Streamer) -> None:
    """Two rows, one account: the elder knowledge stays, the recordings go along."""
    # Recordings before streamers, in the order in which a starting recording locks them.
    for table in (Recording, Stream, StreamEvent):
        await session.execute(
            update(table)
            .where(table.streamer_id == row.id)
            .values(streamer_id=into.id)
            .execution_options(synchronize_session=False)
        )
    await session.delete(row)
    await session.flush()
