"""Queries about streams and what their channels said. They never commit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.ids import as_uuid, uuid7
from streamvault.db.models import Recording, Stream, StreamEvent
from streamvault.errors import NotFound

# People set title and category one after the other; nobody wants a chapter of two seconds.
DEBOUNCE = timedelta(seconds=3)


async def find_by_id(session: AsyncSession, stream_id: UUID | None) -> Stream | None:
    """None: of a source whose streams have no names."""
    return await session.get(Stream, stream_id) if stream_id else None


async def note_stream(
    session: AsyncSession,
    platform: str,
    platform_stream_id: str,
    *,
    streamer_id: UUID | None = None,
    title: str = "",
    category: str = "",
) -> UUID:
    """Our id of a stream that is live now; seen again it is open again."""
    new = insert(Stream).values(
        id=uuid7(),
        platform=platform,
        platform_stream_id=platform_stream_id,
        streamer_id=streamer_id,
        title=title,
        category=category,
    )
    stream_id: UUID | None = await session.scalar(
        new.on_conflict_do_update(
            index_elements=[Stream.platform, Stream.platform_stream_id],
            set_={
                "streamer_id": func.coalesce(new.excluded.streamer_id, Stream.streamer_id),
                "title": func.coalesce(func.nullif(new.excluded.title, ""), Stream.title),
                "category": func.coalesce(func.nullif(new.excluded.category, ""), Stream.category),
                "ended_at": None,
            },
        ).returning(Stream.id)
    )
    assert stream_id is not None
    return stream_id


async def end_stream(session: AsyncSession, recording_id: str | UUID) -> None:
    """The source says that the stream of this recording is over."""
    stream_of = select(Recording.stream_id).where(Recording.id == as_uuid(recording_id))
    await session.execute(
        update(Stream)
        .where(Stream.id == stream_of.scalar_subquery(), Stream.ended_at.is_(None))
        .values(ended_at=func.now())
        .execution_options(synchronize_session=False)
    )


async def add_channel_event(
    session: AsyncSession,
    recording_id: str | UUID,
    at: datetime | None,
    title: str,
    category: str,
) -> bool:
    """Keep a change of title or category; `at` None means now. False if it changes nothing.

    Compared with what was said last before `at`, so that a repeated message is dropped even when
    newer ones came in between. Changes that follow each other at once, as when somebody sets first
    the title and then the category, become one. Raises NotFound."""
    at = at or datetime.now(UTC)
    recording = await session.get(Recording, as_uuid(recording_id), with_for_update=True)
    if recording is None:
        raise NotFound(f"there is no recording {recording_id}")
    last = await _events_before(session, recording.id, at)
    if last and (last[0].title, last[0].category) == (title, category):
        return False
    after = await _event_after(session, recording.id, at)
    if after and (after.title, after.category) == (title, category):
        # Another source said so first, though later: this time is nearer to the truth.
        after.timestamp = at
        await session.flush()
        return True
    if last and at - last[0].timestamp < DEBOUNCE:
        undone = len(last) > 1 and (last[1].title, last[1].category) == (title, category)
        if undone:
            await session.delete(last[0])
        else:
            last[0].title, last[0].category = title, category
    else:
        session.add(
            StreamEvent(
                recording_id=recording.id,
                stream_id=recording.stream_id,
                streamer_id=recording.streamer_id,
                timestamp=at,
                kind="channel",
                title=title,
                category=category,
            )
        )
    await session.flush()
    return True


async def add_streamer_event(
    session: AsyncSession, streamer_id: UUID, at: datetime, title: str, category: str
) -> None:
    """Keep a change of title or category while nothing is recorded."""
    session.add(
        StreamEvent(
            streamer_id=streamer_id, timestamp=at, kind="channel", title=title, category=category
        )
    )
    await session.flush()


async def _events_before(
    session: AsyncSession, recording_id: UUID, at: datetime
) -> Sequence[StreamEvent]:
    """The last two, newest first."""
    found = await session.scalars(
        select(StreamEvent)
        .where(StreamEvent.recording_id == recording_id, StreamEvent.timestamp <= at)
        .order_by(StreamEvent.timestamp.desc(), StreamEvent.id.desc())
        .limit(2)
    )
    return found.all()


async def _event_after(
    session: AsyncSession, recording_id: UUID, at: datetime
) -> StreamEvent | None:
    found: StreamEvent | None = await session.scalar(
        select(StreamEvent)
        .where(StreamEvent.recording_id == recording_id, StreamEvent.timestamp > at)
        .order_by(StreamEvent.timestamp, StreamEvent.id)
        .limit(1)
    )
    return found


async def list_channel_events(
    session: AsyncSession, recording_id: str | UUID
) -> Sequence[StreamEvent]:
    """In order of time."""
    found = await session.scalars(
        select(StreamEvent)
        .where(StreamEvent.recording_id == as_uuid(recording_id))
        .order_by(StreamEvent.timestamp, StreamEvent.id)
    )
    return found.all()
