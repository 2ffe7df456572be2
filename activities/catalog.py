"""What the database learns from a workflow: status, steps, title changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from temporalio import activity

from streamvault.contracts import ChannelEvent, Status, StatusChange, StepChange
from streamvault.db import recordings, steps, streams
from streamvault.db.session import Database
from streamvault.errors import InvalidInput


@dataclass(frozen=True)
class Catalog:
    db: Database

    @activity.defn
    async def set_status(self, change: StatusChange) -> None:
        async with self.db.begin() as session:
            await recordings.set_status(
                session,
                change.recording_id,
                change.status,
                step=change.step,
                reason=change.reason,
                ended=change.ended or change.status in {Status.PROCESSING, Status.FAILED},
            )

    @activity.defn
    async def set_step(self, change: StepChange) -> None:
        async with self.db.begin() as session:
            await steps.set_step(
                session, change.recording_id, change.step, change.state, error=change.error or None
            )

    @activity.defn
    async def note_channel(self, event: ChannelEvent) -> None:
        at = _moment(event.at)
        async with self.db.begin() as session:
            await streams.add_channel_event(
                session, event.recording_id, at, event.title, event.category
            )

    @activity.defn
    async def can_resume(self, recording_id: str) -> bool:
        """Whether the recording can still grow: its parts are there and no final file is."""
        async with self.db.begin() as session:
            recording = await recordings.get_recording(session, recording_id)
            return recording.path is None and recording.parts_gone_at is None


def _moment(text: str) -> datetime:
    """An aware time; a signal sent by hand may hold anything. Raises InvalidInput."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{text[:40]!r} is not a time", hint="RFC 3339, in UTC") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
