"""Queries about recordings. They take a session and never commit; ids may be UUIDs or their text.

A recording that does not exist raises NotFound, in every function here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CursorResult, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload, selectinload

from streamvault.contracts import STEPS, Status, Step, StepState, url_workflow_id
from streamvault.db import streamers, streams
from streamvault.db.ids import as_uuid, uuid7
from streamvault.db.models import CLOSED, Recording, RecordingStep, Streamer
from streamvault.errors import Conflict, NotFound

OPEN_TRIES = 5


@dataclass(frozen=True, slots=True)
class NewRecording:
    """What a start knows. `source_key` names what can be recorded only once at a time: platform and
    stream id where there is one, else the address."""

    source_key: str
    source_url: str
    quality: str = "best"
    started_by: str = "person"
    platform: str = ""
    streamer_id: str | UUID | None = None
    streamer_login: str | None = None
    streamer_name: str = ""
    title: str = ""
    category: str = ""
    workflow_id: str = ""
    """Empty: `url_workflow_id` of the new recording."""
    continues_id: str | UUID | None = None


@dataclass(frozen=True, slots=True)
class Detection:
    """What the source says of itself; empty text leaves a column as it is."""

    streamer_name: str
    platform: str = ""
    streamer_login: str = ""
    platform_user_id: str | None = None
    platform_stream_id: str | None = None
    title: str = ""
    category: str = ""
    directory: str = ""
    """The working folder, relative to the library's root."""


@dataclass(frozen=True, slots=True)
class OpenSource:
    source_key: str
    status: str
    streamer_id: UUID | None


async def open_recording(session: AsyncSession, new: NewRecording) -> tuple[Recording, bool]:
    """The open recording of a source, and whether this call made it.

    Any number of callers at once get the same one; its seven steps exist from the start."""
    for _ in range(OPEN_TRIES):
        recording_id = await _insert_unless_open(session, new)
        if recording_id:
            await session.execute(
                insert(RecordingStep),
                [{"recording_id": recording_id, "name": str(step)} for step in STEPS],
            )
            return await get_recording(session, recording_id), True
        holder = await session.scalar(
            select(Recording).where(Recording.source_key == new.source_key, Recording.holds_source)
        )
        if holder:
            return holder, False
        # The holder closed between the two statements: the source is free again.
    raise Conflict("this source opens and closes too quickly", hint="try again")


async def add_steps(
    session: AsyncSession, recording_id: UUID, done_at: datetime | None = None
) -> None:
    """Of a recording that was made before this database was: all of them done, or waiting."""
    state = StepState.WAITING if done_at is None else StepState.DONE
    told = {"recording_id": recording_id, "state": str(state), "ended_at": done_at}
    await session.execute(insert(RecordingStep), [{**told, "name": str(step)} for step in STEPS])


async def get_recording(
    session: AsyncSession, recording_id: str | UUID, *, lock: bool = False
) -> Recording:
    """The bare row; `lock` keeps others from changing it until the transaction ends."""
    found = await session.get(Recording, as_uuid(recording_id), with_for_update=lock or None)
    if found is None:
        raise NotFound(f"there is no recording {recording_id}")
    return found


async def get_detail(session: AsyncSession, recording_id: str | UUID) -> Recording:
    """The row with stream, steps, events, parts, gaps and ads."""
    found = await session.scalar(
        select(Recording)
        .where(Recording.id == as_uuid(recording_id))
        .options(*FOR_LISTS)
        .options(*map(selectinload, _ONLY_ALONE))
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFound(f"there is no recording {recording_id}")
    return found


async def find_by_workflow(session: AsyncSession, workflow_id: str) -> Recording:
    """The newest recording of a RecordStream workflow: ids of streams are used again."""
    found = await session.scalar(
        select(Recording)
        .where(Recording.workflow_id == workflow_id)
        .order_by(Recording.id.desc())
        .limit(1)
    )
    if found is None:
        raise NotFound(f"there is no pipeline {workflow_id[:128]!r}")
    return found


async def latest_of_source(session: AsyncSession, source_key: str) -> Recording | None:
    """The newest recording of a source, open or closed: what a new one would continue."""
    found: Recording | None = await session.scalar(
        select(Recording)
        .where(Recording.source_key == source_key)
        .order_by(Recording.id.desc())
        .limit(1)
    )
    return found


async def open_of_streamer(session: AsyncSession, streamer_id: str | UUID) -> Sequence[Recording]:
    """Recordings of a streamer that are not closed yet, newest first."""
    found = await session.scalars(
        select(Recording)
        .where(
            Recording.streamer_id == as_uuid(streamer_id, "streamer"),
            Recording.status.not_in(CLOSED),
        )
        .order_by(Recording.id.desc())
    )
    return found.all()


async def with_parts_left(session: AsyncSession) -> list[Recording]:
    """Finished ones whose parts are still there though everything was made of them."""
    described = (
        select(RecordingStep.recording_id)
        .where(RecordingStep.name == Step.SIDECARS, RecordingStep.state == StepState.DONE)
        .scalar_subquery()
    )
    found = await session.scalars(
        select(Recording).where(
            Recording.status == Status.COMPLETED,
            Recording.path.is_not(None),
            Recording.parts_gone_at.is_(None),
            Recording.id.in_(described),
        )
    )
    return list(found)


async def note_view(session: AsyncSession, recording_id: str | UUID) -> None:
    """Somebody plays the parts now: they are kept for a while longer."""
    await update_recording(session, recording_id, watched_at=func.now())


async def open_sources(session: AsyncSession) -> list[OpenSource]:
    """Every recording that stands for its source."""
    rows = await session.execute(
        select(Recording.source_key, Recording.status, Recording.streamer_id).where(
            Recording.holds_source
        )
    )
    return [OpenSource(*row) for row in rows]


async def before_this(
    session: AsyncSession, source_key: str, streamer_id: str | UUID | None, grace_s: float
) -> Recording | None:
    """What a new recording of a source continues: the last one of the same stream, else that of
    the same streamer, if it was there until less than the grace ago."""
    same = await latest_of_source(session, source_key)
    if same is not None or streamer_id is None:
        return same
    since = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, grace_s)
    found: Recording | None = await session.scalar(
        select(Recording)
        .where(
            Recording.streamer_id == as_uuid(streamer_id, "streamer"),
            or_(Recording.status.not_in(CLOSED), Recording.ended_at >= since),
        )
        .order_by(Recording.id.desc())
        .limit(1)
    )
    return found


async def grace_of(session: AsyncSession, recording: Recording, default_s: float) -> float:
    """Seconds that its stream may be away: its streamer's, else the general ones."""
    if recording.streamer_id is None:
        return default_s
    own = await session.scalar(
        select(Streamer.end_grace_s).where(Streamer.id == recording.streamer_id)
    )
    return default_s if own is None else own


def stream_id_of(recording: Recording) -> str:
    """The source's id of its stream; "" where the source has no such thing."""
    prefix = f"{recording.platform}:"
    key = recording.source_key
    return key.removeprefix(prefix) if recording.platform and key.startswith(prefix) else ""


async def set_status(
    session: AsyncSession,
    recording_id: str | UUID,
    status: str,
    *,
    step: str = "",
    reason: str = "",
    ended: bool = False,
) -> None:
    """Empty `step` keeps the step. `ended` marks the end of the capture, once; recording again
    takes it back.

    Closing (completed, failed) frees the source for a new recording."""
    values: dict[str, Any] = {"status": status, "reason": reason}
    if step:
        values["step"] = step
    if ended:
        values["ended_at"] = func.coalesce(Recording.ended_at, func.now())
    elif status == Status.RECORDING:
        values["ended_at"] = None
    if status in CLOSED:
        values["holds_source"] = False
    await update_recording(session, recording_id, **values)


async def note_detected(session: AsyncSession, recording_id: str | UUID, seen: Detection) -> None:
    """Attach what was detected: names, title, and the stream of a source that numbers its streams.

    The streamer is the one with that login on that platform, if we follow it."""
    recording = await get_recording(session, recording_id, lock=True)
    if recording.streamer_id is None and seen.streamer_login:
        known = await streamers.find_seen(
            session, seen.platform, seen.streamer_login, seen.platform_user_id
        )
        recording.streamer_id = known.id if known else None
    if recording.streamer_id:
        await streamers.note_seen(
            session, recording.streamer_id, name=seen.streamer_name, user_id=seen.platform_user_id
        )
    if seen.platform_stream_id:
        recording.stream_id = await streams.note_stream(
            session,
            seen.platform,
            seen.platform_stream_id,
            streamer_id=recording.streamer_id,
            title=seen.title,
            category=seen.category,
        )
    columns = ("streamer_name", "streamer_login", "platform", "title", "category", "directory")
    for column in columns:
        setattr(recording, column, getattr(seen, column) or getattr(recording, column))
    await session.flush()


async def allocate_episode(
    session: AsyncSession, recording_id: str | UUID, series: str, day: date
) -> int:
    """This recording's number among those of `series` (the folder's name) on a UTC day, from 1.

    Asked again it is the same number, also when title or folder changed meanwhile."""
    recording = await get_recording(session, recording_id, lock=True)
    if recording.episode is not None:
        return recording.episode
    # Serialises the count of one series and day; the unique index stands behind it.
    await session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"),
        {"key": f"episode:{series.lower()}:{day.isoformat()}"},
    )
    highest = await session.scalar(
        select(func.max(Recording.episode)).where(
            func.lower(Recording.series) == func.lower(series), Recording.episode_day == day
        )
    )
    recording.series, recording.episode_day = series, day
    recording.episode = (highest or 0) + 1
    await session.flush()
    return recording.episode


async def update_recording(session: AsyncSession, recording_id: str | UUID, **values: Any) -> None:
    """Set columns of one row."""
    result = await session.execute(
        update(Recording).where(Recording.id == as_uuid(recording_id)).values(**values)
    )
    assert isinstance(result, CursorResult)
    if result.rowcount == 0:
        raise NotFound(f"there is no recording {recording_id}")


async def _insert_unless_open(session: AsyncSession, new: NewRecording) -> UUID | None:
    recording_id = uuid7()
    inserted: UUID | None = await session.scalar(
        insert(Recording)
        .values(
            id=recording_id,
            source_key=new.source_key,
            source_url=new.source_url,
            quality=new.quality,
            started_by=new.started_by,
            platform=new.platform,
            streamer_id=new.streamer_id and as_uuid(new.streamer_id, "streamer"),
            streamer_login=new.streamer_login,
            streamer_name=new.streamer_name,
            title=new.title,
            category=new.category,
            workflow_id=new.workflow_id or url_workflow_id(str(recording_id)),
            continues_id=new.continues_id and as_uuid(new.continues_id),
            started_at=datetime.now(UTC),
            step=str(Step.DETECT),
        )
        .on_conflict_do_nothing(
            index_elements=[Recording.source_key], index_where=text("holds_source")
        )
        .returning(Recording.id)
    )
    return inserted


FOR_LISTS = (joinedload(Recording.stream), selectinload(Recording.events))
_ONLY_ALONE = (Recording.steps, Recording.parts, Recording.gaps, Recording.ads)
