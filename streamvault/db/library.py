"""The library as people use it: lists, marks, deleting and having back. They never commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, selectinload

from streamvault.contracts import Status
from streamvault.db.ids import as_uuid
from streamvault.db.models import CLOSED, SEARCHED, Recording, Streamer
from streamvault.db.pages import Page, fetch_page
from streamvault.db.recordings import FOR_LISTS, get_recording
from streamvault.errors import Conflict
from streamvault.forecast import Past
from streamvault.retention import OwnRules

RUNNING = (Status.DETECTING, Status.RECORDING, Status.RECONNECTING, Status.PROCESSING)
SORTS: dict[str, tuple[InstrumentedAttribute[Any] | None, bool]] = {
    "newest": (None, False),
    "oldest": (None, True),
    "longest": (Recording.duration_s, False),
    "largest": (Recording.size_bytes, False),
}
"""Column, and whether it rises."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which recordings; what is None or empty asks for nothing."""

    ids: Sequence[str] | None = None
    streamer_id: str | None = None
    status: Sequence[str] = ()
    q: str = ""
    """Words, each of which is found in title, streamer or category."""
    category: str = ""
    since: datetime | None = None
    until: datetime | None = None
    watched: bool | None = None
    locked: bool | None = None
    deleted: bool = False

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        return [*self._of_columns(), *self._of_marks(), *map(_has_word, self.q.split())]

    def _of_columns(self) -> Iterator[ColumnElement[bool]]:
        if self.ids is not None:
            yield Recording.id.in_([as_uuid(one) for one in self.ids])
        if self.streamer_id:
            yield Recording.streamer_id == as_uuid(self.streamer_id, "streamer")
        if self.status:
            yield Recording.status.in_(self.status)
        if self.category:
            yield Recording.category == self.category
        if self.since:
            yield Recording.started_at >= self.since
        if self.until:
            yield Recording.started_at < self.until

    def _of_marks(self) -> Iterator[ColumnElement[bool]]:
        yield Recording.deleted_at.is_not(None) if self.deleted else Recording.deleted_at.is_(None)
        if self.watched is not None:
            yield Recording.watched.is_(self.watched)
        if self.locked is not None:
            yield Recording.locked.is_(self.locked)


def _has_word(word: str) -> ColumnElement[bool]:
    columns = (getattr(Recording, name) for name in SEARCHED)
    return or_(*(column.icontains(word, autoescape=True) for column in columns))


async def list_recordings(
    session: AsyncSession,
    wanted: Wanted = Wanted(),  # frozen
    *,
    limit: int = 50,
    cursor: str | None = None,
    sort: str = "newest",
    with_steps: bool = False,
) -> Page[Recording]:
    """With stream and events, sorted as in SORTS."""
    query = select(Recording).options(*FOR_LISTS).where(*wanted.conditions)
    if with_steps:
        query = query.options(selectinload(Recording.steps))
    by, ascending = SORTS[sort]
    return await fetch_page(
        session, query, Recording.id, limit=limit, cursor=cursor, by=by, ascending=ascending
    )


@dataclass(frozen=True, slots=True)
class Facet:
    """How many recordings there are of something, and how large they are together."""

    key: str
    name: str
    recordings: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Facets:
    total: Facet
    streamers: Sequence[Facet]
    """Key is the streamer's id, empty for those whom we do not follow."""
    categories: Sequence[Facet]
    statuses: Sequence[Facet]


async def count_facets(session: AsyncSession, wanted: Wanted = Wanted()) -> Facets:
    """What a list of these could be narrowed down by, most recordings first."""
    return Facets(
        total=(await _facet(session, wanted))[0],
        streamers=await _facet(session, wanted, Recording.streamer_id, Recording.streamer_name),
        categories=await _facet(session, wanted, Recording.category, Recording.category),
        statuses=await _facet(session, wanted, Recording.status, Recording.status),
    )


async def _facet(
    session: AsyncSession, wanted: Wanted, *by: InstrumentedAttribute[Any]
) -> list[Facet]:
    number, size = func.count().label("number"), func.coalesce(func.sum(Recording.size_bytes), 0)
    query = select(number, size, *by).where(*wanted.conditions)
    rows = await session.execute(query.group_by(*by).order_by(number.desc(), *by))
    return [_as_facet(*row) for row in rows]


def _as_facet(recordings: int, size_bytes: int, key: object = "", name: str = "") -> Facet:
    return Facet(str(key or ""), name, recordings, int(size_bytes))


# ---- marks


async def mark(session: AsyncSession, recording_id: str | UUID, **values: bool | float) -> None:
    """`locked`, `watched` or `position_s` of one."""
    row = await get_recording(session, recording_id, lock=True)
    for name, value in values.items():
        setattr(row, name, value)
    if "position_s" in values:
        row.watched_at = await session.scalar(select(func.now()))


# ---- deleting


async def delete_recording(
    session: AsyncSession, recording_id: str | UUID, why: str, kept_for: timedelta
) -> Recording:
    """It is out of every list at once; its files stay for a while, so that it can be had back.

    Deleted already: its files may go now. Raises Conflict while something is done with it, and for
    one that is locked."""
    row = await get_recording(session, recording_id, lock=True)
    if row.status in RUNNING:
        raise Conflict("this recording is not finished yet", hint="stop it first, then delete it")
    if row.status not in CLOSED:
        raise Conflict(
            "this recording waits for a decision", hint="give it up or retry it, then delete it"
        )
    if row.locked:
        raise Conflict("this recording is locked", hint="unlock it first")
    now = await session.scalar(select(func.now()))
    assert now is not None
    if row.deleted_at is None:
        row.deleted_at, row.deleted_why, row.purge_at = now, why, now + kept_for
    else:
        row.purge_at = now
    await session.flush()
    return row


async def undelete_recording(session: AsyncSession, recording_id: str | UUID) -> Recording:
    """Raises Conflict when its files may already be on their way out."""
    row = await get_recording(session, recording_id, lock=True)
    if row.deleted_at is None:
        return row
    now = await session.scalar(select(func.now()))
    if row.purge_at is not None and now is not None and row.purge_at <= now:
        raise Conflict("it is too late: the files of this recording are being removed")
    row.deleted_at, row.deleted_why, row.purge_at = None, "", None
    await session.flush()
    return row


async def due_for_purge(session: AsyncSession) -> Sequence[Recording]:
    """Deleted ones whose time has come, longest due first."""
    found = await session.scalars(
        select(Recording)
        .where(Recording.deleted_at.is_not(None), Recording.purge_at <= func.now())
        .order_by(Recording.purge_at)
    )
    return found.all()


async def empty_trash(session: AsyncSession) -> None:
    """What was deleted may go now."""
    await session.execute(
        update(Recording)
        .where(Recording.deleted_at.is_not(None), Recording.purge_at > func.now())
        .values(purge_at=func.now())
    )


async def forget(session: AsyncSession, recording_id: str | UUID) -> None:
    """The row goes; its files went before."""
    await session.execute(delete(Recording).where(Recording.id == as_uuid(recording_id)))


# ---- what retention and forecast look at


async def past_recordings(session: AsyncSession, since: timedelta) -> list[Past]:
    """Begun within this time, oldest first; those that were deleted needed their room, too."""
    rows = await session.execute(
        select(
            Recording.streamer_id,
            Recording.streamer_name,
            Recording.started_at,
            Recording.size_bytes,
            Recording.status,
        )
        .where(Recording.started_at >= func.now() - since, Recording.size_bytes > 0)
        .order_by(Recording.started_at)
    )
    return [
        Past(str(streamer_id or ""), name, started_at, size, status in RUNNING[:3])
        for streamer_id, name, started_at, size, status in rows
    ]


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes by what they are."""

    finished: int = 0
    unfinished: int = 0
    deleted: int = 0
    """By somebody; they go when their day is over, or when a recording waits for room."""


async def held_bytes(session: AsyncSession) -> Held:
    size = func.sum(Recording.size_bytes)
    gone, closed = Recording.deleted_at.is_not(None), Recording.status.in_(CLOSED)
    row = (
        await session.execute(
            select(
                size.filter(closed, ~gone), size.filter(~closed, ~gone), size.filter(gone)
            ).select_from(Recording)
        )
    ).one()
    return Held(*(int(value or 0) for value in row))


async def with_files(session: AsyncSession) -> Sequence[Recording]:
    """Every recording that takes room, without what belongs to it."""
    return (await session.scalars(select(Recording).where(Recording.size_bytes > 0))).all()


async def own_rules(session: AsyncSession) -> dict[str, OwnRules]:
    """By the id of the streamers who have some."""
    rows = await session.execute(
        select(
            Streamer.id,
            Streamer.retention_days,
            Streamer.retention_count,
            Streamer.retention_bytes,
        )
    )
    return {
        str(streamer_id): OwnRules(*limits)
        for streamer_id, *limits in rows
        if any(limit is not None for limit in limits)
    }
