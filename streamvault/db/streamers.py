"""Queries about streamers. They never commit; an unknown streamer raises NotFound, but not in the
`note_…` functions: what is said of somebody who was just deleted is of no interest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.identities import channel_url, lock_names, merge, vacate
from streamvault.db.ids import as_uuid, uuid7
from streamvault.db.models import CLOSED, Recording, Streamer
from streamvault.db.pages import Page, fetch_page
from streamvault.errors import NotFound

TWITCH = "twitch"
CHANGED = "streamers"
"""Channel of NOTIFY: whom we follow has changed."""


@dataclass(frozen=True, slots=True)
class NewStreamer:
    platform: str
    login: str
    """Unique on its platform, whatever its case."""
    name: str
    url: str
    quality: str = "best"
    user_id: str | None = None
    """None while the platform has not been asked."""
    avatar_url: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """An account as its platform describes it now."""

    user_id: str
    login: str
    name: str
    avatar_url: str | None = None
    """None where the source of this knowledge says nothing about it."""


@dataclass(frozen=True, slots=True)
class DueProfile:
    """Somebody to look up. `known` is what the last look said; None if that was a problem."""

    id: UUID
    user_id: str | None
    login: str
    known: Profile | None


@dataclass(frozen=True, slots=True)
class EnabledStreamer:
    """What the poll has to know of somebody, and what was said of him last."""

    id: UUID
    platform: str
    user_id: str | None
    login: str
    name: str
    url: str
    quality: str
    live_stream_id: str
    live_since: datetime | None
    """None while not live."""
    title: str
    category: str
    category_id: str
    filters: dict[str, Any]
    """As stored; `filters.Filters.read` understands it."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A streamer's recordings, summed up."""

    recordings: int = 0
    size_bytes: int = 0
    last_started_at: datetime | None = None
    open_recording: UUID | None = None


async def add_streamer(session: AsyncSession, new: NewStreamer) -> tuple[Streamer, bool]:
    """The streamer with this account or login, and whether this call added it."""
    await lock_names(session)
    known = await find_seen(session, new.platform, new.login, new.user_id)
    if known is None:
        former = await find_streamer(session, new.platform, new.login)
        if former is not None:
            await vacate(session, former)
        added = insert(Streamer).values(
            id=uuid7(),
            platform=new.platform,
            login=new.login,
            name=new.name,
            url=new.url,
            quality=new.quality,
            platform_user_id=new.user_id,
            avatar_url=new.avatar_url,
            profile_at=datetime.now(UTC) if new.user_id else None,
        )
        added_id = (await session.execute(added.returning(Streamer.id))).scalar_one()
        await tell_changed(session)
        return await get_streamer(session, added_id), True
    if new.user_id:
        profile = Profile(new.user_id, new.login, new.name, new.avatar_url)
        await note_profile(session, known.id, profile)
    return known, False


async def tell_changed(session: AsyncSession) -> None:
    """Poll and subscriptions follow at once, when the transaction is committed."""
    await session.execute(text(f"NOTIFY {CHANGED}"))


async def get_streamer(session: AsyncSession, streamer_id: str | UUID) -> Streamer:
    found = await session.get(Streamer, as_uuid(streamer_id, "streamer"))
    if found is None:
        raise NotFound(f"there is no streamer {streamer_id}")
    return found


async def find_by_id(session: AsyncSession, streamer_id: UUID | None) -> Streamer | None:
    """None: a recording of nobody that we follow."""
    return await session.get(Streamer, streamer_id) if streamer_id else None


async def find_by_url(session: AsyncSession, url: str) -> Streamer | None:
    same = func.lower(Streamer.url) == url.lower().rstrip("/")
    found: Streamer | None = await session.scalar(select(Streamer).where(same).limit(1))
    return found


async def find_streamer(session: AsyncSession, platform: str, login: str) -> Streamer | None:
    found: Streamer | None = await session.scalar(
        select(Streamer).where(
            Streamer.platform == platform, func.lower(Streamer.login) == login.lower()
        )
    )
    return found


async def find_by_user_id(session: AsyncSession, platform: str, user_id: str) -> Streamer | None:
    """By the platform's id, which stays when the login changes."""
    found: Streamer | None = await session.scalar(
        select(Streamer).where(Streamer.platform == platform, Streamer.platform_user_id == user_id)
    )
    return found


async def find_seen(
    session: AsyncSession, platform: str, login: str, user_id: str | None
) -> Streamer | None:
    """Whom a source means: by the id if it says one, since the login may be another's by now."""
    if user_id and (found := await find_by_user_id(session, platform, user_id)):
        return found
    by_login = await find_streamer(session, platform, login)
    if by_login is None or (user_id and by_login.platform_user_id not in (None, user_id)):
        return None
    return by_login


async def find_known(
    session: AsyncSession,
    platform: str,
    *,
    logins: Collection[str] = (),
    user_ids: Collection[str] = (),
) -> Sequence[Streamer]:
    """Those of them whom we follow."""
    found = await session.scalars(
        select(Streamer).where(
            Streamer.platform == platform,
            or_(
                func.lower(Streamer.login).in_({login.lower() for login in logins}),
                Streamer.platform_user_id.in_(set(user_ids)),
            ),
        )
    )
    return found.all()


async def list_streamers(
    session: AsyncSession, *, limit: int = 50, cursor: str | None = None
) -> Page[Streamer]:
    return await fetch_page(session, select(Streamer), Streamer.id, limit=limit, cursor=cursor)


async def is_any_enabled(session: AsyncSession) -> bool:
    return bool(await session.scalar(select(exists().where(Streamer.enabled))))


async def list_enabled(session: AsyncSession, platform: str | None = None) -> list[EnabledStreamer]:
    """Everybody whose streams are to be found, in the order in which they were added."""
    query = select(
        Streamer.id,
        Streamer.platform,
        Streamer.platform_user_id.label("user_id"),
        Streamer.login,
        Streamer.name,
        Streamer.url,
        Streamer.quality,
        Streamer.live_stream_id,
        Streamer.live_since,
        Streamer.title,
        Streamer.category,
        Streamer.category_id,
        Streamer.filters,
    ).where(Streamer.enabled)
    if platform is not None:
        query = query.where(Streamer.platform == platform)
    rows = await session.execute(query.order_by(Streamer.id))
    return [EnabledStreamer(**row._asdict()) for row in rows]


async def sum_up(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, Figures]:
    """The figures of these streamers; two statements for any number of them."""
    opened = await session.execute(
        select(Recording.streamer_id, Recording.id)
        .where(Recording.streamer_id.in_(ids), Recording.status.not_in(CLOSED))
        .order_by(Recording.id)
    )
    newest_open = dict(opened.all())
    sums = await session.execute(
        select(
            Recording.streamer_id,
            func.count(),
            func.coalesce(func.sum(Recording.size_bytes), 0),
            func.max(Recording.started_at),
        )
        .where(Recording.streamer_id.in_(ids))
        .group_by(Recording.streamer_id)
    )
    return {
        streamer_id: Figures(count, int(size), last, newest_open.get(streamer_id))
        for streamer_id, count, size, last in sums
        if streamer_id
    }


async def due_profiles(
    session: AsyncSession, older_than: timedelta, *, limit: int
) -> Sequence[DueProfile]:
    """Twitch's streamers that were not looked at for so long; never looked at comes first."""
    rows = await session.scalars(
        select(Streamer)
        .where(
            Streamer.platform == TWITCH,
            or_(Streamer.profile_at.is_(None), Streamer.profile_at < func.now() - older_than),
        )
        .order_by(Streamer.profile_at.asc().nulls_first(), Streamer.id)
        .limit(limit)
    )
    return [
        DueProfile(row.id, row.platform_user_id, row.login, _known_profile(row)) for row in rows
    ]


async def note_same_profiles(session: AsyncSession, ids: Collection[UUID]) -> None:
    """They were looked up, and are what they were."""
    await session.execute(
        update(Streamer).where(Streamer.id.in_(ids)).values(profile_at=func.now())
    )


async def note_profile(session: AsyncSession, streamer_id: str | UUID, profile: Profile) -> bool:
    """Keep what the platform says of this streamer's account; whether that is news.

    A profile of another account than the row's own changes nothing. With the account in another
    row already, this one is merged into that."""
    await lock_names(session)
    row = await session.get(Streamer, as_uuid(streamer_id, "streamer"), populate_existing=True)
    if row is None or row.platform_user_id not in (None, profile.user_id):
        return False
    holder = await find_by_user_id(session, row.platform, profile.user_id)
    if holder is not None and holder.id != row.id:
        await merge(session, row, into=holder)
        row = holder
    other = await find_streamer(session, row.platform, profile.login)
    if other is not None and other.id != row.id:
        # Without an id it was only known by the login, which is this account's.
        if other.platform_user_id is None:
            await merge(session, other, into=row)
        else:
            await vacate(session, other)
    return await _write(session, row, profile)


async def note_no_profile(session: AsyncSession, streamer_id: str | UUID, problem: str) -> None:
    """The platform knows nobody like that; asked again as any other profile."""
    await session.execute(
        update(Streamer)
        .where(Streamer.id == as_uuid(streamer_id, "streamer"))
        .values(problem=problem, profile_at=func.now())
    )


async def note_seen(
    session: AsyncSession, streamer_id: UUID, *, name: str, user_id: str | None
) -> None:
    """Keep the display name and the platform's id as the source says them.

    If its login turns out to be another account's, now or there already, only a look at the
    account is asked for: that one settles who is who."""
    known_id = await session.scalar(
        select(Streamer.platform_user_id).where(Streamer.id == streamer_id)
    )
    if user_id and known_id not in (None, user_id):
        await _change(session, streamer_id, {"profile_at": None})
        return
    if name:
        await _change(session, streamer_id, {"name": name})
    if user_id and known_id is None:
        try:
            async with session.begin_nested():
                await _change(session, streamer_id, {"platform_user_id": user_id})
        except IntegrityError:
            await _change(session, streamer_id, {"profile_at": None})


async def note_live(
    session: AsyncSession, streamer_id: str | UUID, stream_id: str, started_at: datetime | None
) -> bool:
    """Live now; `stream_id` is "" where the source has none. Whether that is news."""
    return await _update(
        session,
        streamer_id,
        or_(Streamer.live_stream_id != stream_id, Streamer.live_since.is_(None)),
        {
            "live_stream_id": stream_id,
            "live_since": func.now() if started_at is None else started_at,
        },
    )


async def note_not_live(session: AsyncSession, streamer_id: str | UUID) -> bool:
    """Whether that is news."""
    return await _change(session, streamer_id, {"live_stream_id": "", "live_since": None})


async def note_channel(
    session: AsyncSession,
    streamer_id: str | UUID,
    *,
    title: str,
    category: str,
    category_id: str,
) -> bool:
    """What the channel says of itself, live or not. Whether that is news."""
    said = {"title": title, "category": category, "category_id": category_id}
    return await _change(session, streamer_id, said)


async def delete_streamer(session: AsyncSession, streamer_id: str | UUID) -> None:
    """Stop following; its recordings stay and keep its name."""
    await session.delete(await get_streamer(session, streamer_id))
    await session.flush()
    await tell_changed(session)


def _known_profile(row: Streamer) -> Profile | None:
    """None while there is a problem, or nothing was ever said of the account."""
    if row.problem or row.platform_user_id is None:
        return None
    return Profile(row.platform_user_id, row.login, row.name, row.avatar_url)


async def _write(session: AsyncSession, row: Streamer, profile: Profile) -> bool:
    login = profile.login.lower()
    new = {
        "platform_user_id": profile.user_id,
        "login": login,
        "name": profile.name or row.name,
        "url": channel_url(login) if row.platform == TWITCH else row.url,
        "avatar_url": row.avatar_url if profile.avatar_url is None else profile.avatar_url,
        "problem": "",
    }
    changed = any(getattr(row, name) != value for name, value in new.items())
    for name, value in new.items():
        setattr(row, name, value)
    if profile.avatar_url is not None:
        row.profile_at = datetime.now(UTC)
    await session.flush()
    if changed:
        await tell_changed(session)
    return changed


async def _change(session: AsyncSession, streamer_id: str | UUID, values: dict[str, Any]) -> bool:
    """Write what differs; a poll of a thousand channels must not rewrite as many rows."""
    differs = [getattr(Streamer, name).is_distinct_from(value) for name, value in values.items()]
    return await _update(session, streamer_id, or_(*differs), values)


async def _update(
    session: AsyncSession,
    streamer_id: str | UUID,
    condition: ColumnElement[bool],
    values: dict[str, Any],
) -> bool:
    changed = await session.scalar(
        update(Streamer)
        .where(and_(Streamer.id == as_uuid(streamer_id, "streamer"), condition))
        .values(**values)
        .returning(Streamer.id)
    )
    return changed is not None
