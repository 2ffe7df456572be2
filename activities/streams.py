"""Looking at a source: is it live, who is it, what is on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio import activity

from activities.progress import beating, step_of
from activities.wishes import wish_of
from streamvault.contracts import BEAT_S, Detected, DetectInput, Probed, ProbeInput, Step
from streamvault.db import recordings, streamers, streams
from streamvault.db.models import Recording
from streamvault.db.session import Database
from streamvault.errors import SourceError, SourceUnavailable
from streamvault.media import naming
from streamvault.playback.sources import Sources
from streamvault.source import Sighting, Wish

FRESH = timedelta(seconds=20)


@dataclass(frozen=True)
class Streams:
    db: Database
    sources: Sources
    end_grace_s: float

    @activity.defn
    async def probe(self, order: ProbeInput) -> Probed:
        seen = await self.sources.look(
            Wish(order.url, proxy_policy=order.proxy_policy, streamer_id=order.streamer_id)
        )
        return Probed(
            platform=seen.platform,
            login=seen.login,
            name=seen.name,
            stream_id=seen.stream_id or "",
            title=seen.title,
            category=seen.category,
            platform_user_id=seen.platform_user_id or "",
        )

    @activity.defn
    async def detect(self, order: DetectInput) -> Detected:
        """Confirm that the source is live and give the recording its names and its folder."""
        async with beating(BEAT_S), step_of(self.db, order.recording_id, Step.DETECT):
            async with self.db.begin() as session:
                recording = await recordings.get_recording(session, order.recording_id)
                grace_s = await recordings.grace_of(session, recording, self.end_grace_s)
                streamer = await streamers.find_by_id(session, recording.streamer_id)
            wish = wish_of(streamer, order.source_url)
            seen, live = _just_seen(recording), True
            if seen is None:
                seen, live = await self._look(wish, recording, order.adopted)
            directory = str(
                naming.work_directory(seen.name, recording.started_at, order.recording_id)
            )
            async with self.db.begin() as session:
                await recordings.note_detected(
                    session,
                    order.recording_id,
                    recordings.Detection(
                        streamer_name=seen.name,
                        platform=seen.platform,
                        streamer_login=seen.login,
                        platform_user_id=seen.platform_user_id,
                        platform_stream_id=seen.stream_id,
                        title=seen.title,
                        category=seen.category,
                        directory=recording.directory or directory,
                    ),
                )
                await streams.add_channel_event(
                    session, order.recording_id, datetime.now(UTC), seen.title, seen.category
                )
            return Detected(
                streamer=seen.name,
                title=seen.title,
                category=seen.category,
                directory=recording.directory or directory,
                end_grace_s=grace_s,
                stream_id=seen.stream_id or "",
                codecs=list(wish.codecs),
                proxy_policy=wish.proxy_policy,
                streamer_id=wish.streamer_id,
                live=live,
            )

    async def _look(self, wish: Wish, known: Recording, adopted: bool) -> tuple[Sighting, bool]:
        """What the source says, or what the start already knew while it cannot be reached: a
        recording must not wait for a title. And whether it is live, or may be."""
        try:
            return await self.sources.look(wish), True
        except SourceUnavailable:
            if not known.streamer_name:
                raise
            activity.logger.warning("source did not answer; going on with what is known")
            return _known(known), True
        except SourceError as error:
            if not (adopted and error.permanent):
                raise
            return _known(known), False


def _just_seen(recording: Recording) -> Sighting | None:
    """What the start saw a moment ago; a second look would only cost the stream's first seconds."""
    fresh = datetime.now(UTC) - recording.created_at < FRESH
    return _known(recording) if fresh and recording.streamer_name else None


def _known(recording: Recording) -> Sighting:
    return Sighting(
        platform=recording.platform,
        login=recording.streamer_login or "",
        name=recording.streamer_name,
        stream_id=recordings.stream_id_of(recording) or None,
        title=recording.title,
        category=recording.category,
        platform_user_id=None,
    )
