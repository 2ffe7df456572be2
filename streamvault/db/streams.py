"""Queries about streams and what their channels said. They never commit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.ids import as_uuid, uuid7
from streamvault.db.models import Recording, Stream, StreamEvent
from streamvault.errors import NotFound


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
    newer ones came in between. Raises NotFound."""
    at = at or datetime.now(UTC)
    recording = await session.get(Recording, as_uuid(recording_id), with_for_update=True)
    if recording is None:
        raise NotFound(f"there is no recording {recording_id}")
    before = await session.scalar(
        select(StreamEvent)
        .where(StreamEvent.recording_id == recording.id, StreamEvent.timestamp <= at)
        .order_by(StreamEvent.timestamp.desc(), StreamEvent.id.desc())
        .limit(1)
    )
    if before and (before.title, before.category) == (title, category):
        return False
    session.add(
        StreamEvent(
            recording_id=recording.id,
            stream_id=recording.stream_id,
            timestamp=at,
            kind="channel",
            title=title,
            category=category,
        )
    )
    await session.flush()
    return True


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
