"""What becomes of the news that somebody is live, offline, or has a new title.

Webhook, conduit, WebSocket and poll all end here. News are hints: the source itself is asked before
anything starts, and nothing here ever ends a recording.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities import starts
from activities.engine import temporal_away
from activities.wishes import wish_of
from streamvault.contracts import Probed, Status
from streamvault.db import recordings, streamers, streams
from streamvault.db.models import Recording, Streamer
from streamvault.db.session import Database
from streamvault.errors import (
    NotFound,
    SourceUnavailable,
    StoppedByPerson,
    StreamOffline,
)
from streamvault.filters import Filters, allows
from streamvault.metrics.detection import DetectionFigures
from streamvault.playback.sources import Sources
from streamvault.source import News, Sighting

STARTED = "started"
JOINED = "joined"
NOT_LIVE = "not_live"
FILTERED = "filtered"
DISABLED = "disabled"
STOPPED = "stopped_by_person"

CAPTURING = frozenset({Status.DETECTING, Status.RECORDING, Status.RECONNECTING})
LOOKS_AT_ONCE = 10  # fifty streams may begin in one second
# Both are witnesses of an end, told apart by their words.
OFFLINE_BY_EVENT = "EventSub says offline"
OFFLINE_BY_POLL = "absent from Get Streams"


@dataclass(frozen=True)
class Detection:
    db: Database
    client: Client
    sources: Sources
    end_grace_s: float
    figures: DetectionFigures
    soon: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the poll should not wait for its turn."""
    _looks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LOOKS_AT_ONCE))

    async def found_live(self, news: News) -> str:
        """Record the stream unless there is a reason not to; one of the words above.

        Raises DependencyUnavailable, SourceError, Conflict: worth another try."""
        streamer = await self._streamer(news.streamer_id)
        if streamer is None or not streamer.enabled:
            return DISABLED
        seen = await self._confirm(streamer, news)
        if seen is None:
            return NOT_LIVE
        since = await self._note_live(streamer, seen, news)
        title, category = seen.title or streamer.title, seen.category or streamer.category
        if allows(Filters.read(streamer.filters), title, category) is not None:
            return FILTERED
        return await self._start(streamer, seen, news, since)

    async def heard_offline(self, streamer_id: str, told_by: str, at: datetime) -> None:
        """One witness for the end of what is being recorded. Raises DependencyUnavailable."""
        streamer = await self._streamer(streamer_id)
        if streamer is None or (streamer.live_since is not None and at < streamer.live_since):
            return  # of an earlier stream, and late
        async with self.db.begin() as session:
            await streamers.note_not_live(session, streamer.id)
            running = _capturing(await recordings.open_of_streamer(session, streamer.id))
        reason = OFFLINE_BY_POLL if told_by == "poll" else OFFLINE_BY_EVENT
        for recording in running:
            if at >= recording.started_at:
                await self._signal_offline(recording, reason)

    async def heard_channel(
        self,
        streamer_id: str,
        *,
        title: str,
        category: str,
        category_id: str,
        at: datetime,
        told_by: str,
    ) -> None:
        """Keep a title or category; it may also be what a filter waited for.

        Raises DependencyUnavailable, and what found_live raises."""
        key = UUID(streamer_id)
        async with self.db.begin() as session:
            changed = await streamers.note_channel(
                session, key, title=title, category=category, category_id=category_id
            )
            running = _capturing(await recordings.open_of_streamer(session, key))
            for recording in running:
                await streams.add_channel_event(session, recording.id, at, title, category)
            if changed and not running:
                await streams.add_streamer_event(session, key, at, title, category)
        streamer = await self._streamer(streamer_id)
        if streamer and changed and not running and streamer.live_stream_id and streamer.filters:
            await self.found_live(
                News(streamer_id, told_by, streamer.live_stream_id, title, category)
            )

    async def poll_soon(self) -> None:
        self.soon.set()

    # ----

    async def _streamer(self, streamer_id: str) -> Streamer | None:
        async with self.db.begin() as session:
            try:
                return await streamers.get_streamer(session, streamer_id)
            except NotFound:
                return None

    async def _confirm(self, streamer: Streamer, news: News) -> Probed | None:
        """What the source says; None: nothing is live. If nobody can be asked there, news of a
        stream that was never recorded are believed. Raises SourceError."""
        try:
            async with self._looks:
                seen = await self.sources.look(wish_of(streamer, streamer.url), live_only=True)
        except StreamOffline:
            return None
        except SourceUnavailable:
            if not news.stream_id or await self._was_recorded(streamer, news.stream_id):
                raise
            return _as_told(streamer, news)
        return _as_seen(seen, streamer)

    async def _was_recorded(self, streamer: Streamer, stream_id: str) -> bool:
        async with self.db.begin() as session:
            key = f"{streamer.platform}:{stream_id}"
            return await recordings.latest_of_source(session, key) is not None

    async def _note_live(self, streamer: Streamer, seen: Probed, news: News) -> datetime | None:
        """Since when we know of it."""
        async with self.db.begin() as session:
            is_new = await streamers.note_live(
                session, streamer.id, seen.stream_id, news.started_at
            )
        return datetime.now(UTC) if is_new else streamer.live_since

    async def _start(
        self, streamer: Streamer, seen: Probed, news: News, since: datetime | None
    ) -> str:
        grace_s = self.end_grace_s if streamer.end_grace_s is None else streamer.end_grace_s
        try:
            _, created = await starts.start_seen(
                self.client,
                self.db,
                seen,
                url=streamer.url,
                quality=streamer.quality,
                started_by=news.told_by,
                streamer_id=str(streamer.id),
                grace_s=grace_s,
                live_since=None if seen.stream_id else since,
            )
        except StoppedByPerson:
            return STOPPED
        if created and news.started_at is not None:
            delay = datetime.now(UTC) - news.started_at
            self.figures.delay.labels(news.told_by).observe(max(delay.total_seconds(), 0.0))
        return STARTED if created else JOINED

    async def _signal_offline(self, recording: Recording, reason: str) -> None:
        try:
            handle = self.client.get_workflow_handle(recording.workflow_id)
            await handle.signal("went_offline", reason)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise temporal_away(error) from None


def _capturing(rows: Sequence[Recording]) -> list[Recording]:
    return [row for row in rows if row.status in CAPTURING]


def _as_seen(seen: Sighting, streamer: Streamer) -> Probed:
    return Probed(
        platform=seen.platform,
        login=seen.login,
        name=seen.name or streamer.name,
        stream_id=seen.stream_id or "",
        title=seen.title,
        category=seen.category,
        platform_user_id=seen.platform_user_id or streamer.platform_user_id or "",
    )


def _as_told(streamer: Streamer, news: News) -> Probed:
    return Probed(
        platform=streamer.platform,
        login=streamer.login,
        name=streamer.name,
        stream_id=news.stream_id,
        title=news.title or streamer.title,
        category=news.category or streamer.category,
        platform_user_id=streamer.platform_user_id or "",
    )
