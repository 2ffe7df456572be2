"""Steps, channel events and notifications of one recording."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from streamvault.contracts import Status
from streamvault.db import notifications, recordings, steps, streams
from streamvault.db.models import RecordingStep
from streamvault.db.recordings import NewRecording
from streamvault.db.session import Database
from streamvault.errors import NotFound

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


async def opened(db: Database, key: str = "k") -> str:
    async with db.begin() as session:
        recording, _ = await recordings.open_recording(session, NewRecording(key, "https://o/"))
        return str(recording.id)


async def step_of(db: Database, recording_id: str, name: str = "remux") -> RecordingStep:
    async with db.begin() as session:
        detail = await recordings.get_detail(session, recording_id)
        return next(step for step in detail.steps if step.name == name)


async def move(db: Database, recording_id: str, state: str, **more: object) -> RecordingStep:
    async with db.begin() as session:
        await steps.set_step(session, recording_id, "remux", state, **more)  # type: ignore[arg-type]
    return await step_of(db, recording_id)


async def test_a_step_keeps_its_times(db: Database) -> None:
    recording_id = await opened(db)
    progress = steps.Progress(0.25, speed=30.5, eta_s=90)
    began = await move(db, recording_id, "running", attempt=1, progress=progress)
    assert began.started_at and not began.ended_at
    assert (began.progress, began.speed, began.eta_s) == (0.25, 30.5, 90)

    again = NOON + timedelta(minutes=1)
    retrying = await move(
        db, recording_id, "retrying", attempt=1, error="ffmpeg hung", next_retry_at=again
    )
    assert (retrying.error, retrying.next_retry_at) == ("ffmpeg hung", again)

    second = await move(db, recording_id, "running", attempt=2)
    assert (second.started_at, second.next_retry_at) == (began.started_at, None)

    done = await move(db, recording_id, "done")
    assert (done.attempt, done.progress, done.error) == (2, 1.0, "")
    assert (done.speed, done.eta_s) == (None, None)
    assert done.ended_at and done.ended_at >= began.started_at

    repeated = await move(db, recording_id, "done")
    assert repeated.ended_at == done.ended_at


async def test_waiting_starts_a_step_over(db: Database) -> None:
    recording_id = await opened(db)
    await move(db, recording_id, "running", attempt=3)
    await move(db, recording_id, "failed", error="given up")
    fresh = await move(db, recording_id, "waiting")
    assert (fresh.attempt, fresh.error, fresh.started_at, fresh.ended_at) == (0, "", None, None)


async def test_an_unknown_step_is_not_found(db: Database) -> None:
    recording_id = await opened(db)
    async with db.begin() as session:
        with pytest.raises(NotFound):
            await steps.set_step(session, recording_id, "transcode", "running")


async def test_what_needs_a_person_is_listed(db: Database) -> None:
    parked, failed, stopped, fine = [await opened(db, key) for key in "abcd"]
    await move(db, parked, "parked", error="no room")
    async with db.begin() as session:
        await recordings.set_status(session, failed, Status.FAILED, reason="access refused")
        await recordings.set_status(session, stopped, Status.FAILED, reason="stopped")
        await recordings.set_status(session, fine, Status.COMPLETED)
        page = await steps.list_needing_attention(session)
    assert {str(item.id) for item in page.items} == {parked, failed}


async def test_a_title_said_twice_is_one_event(db: Database) -> None:
    recording_id = await opened(db)
    said = [
        (NOON, "Intro", "Chat", True),
        (NOON + timedelta(minutes=5), "Intro", "Chat", False),
        (NOON + timedelta(minutes=9), "Intro", "Chess", True),
        (NOON, "Intro", "Chat", False),  # delivered again, after a newer one
        (NOON + timedelta(minutes=12), "Intro", "Chat", True),
    ]
    for at, title, category, new in said:
        async with db.begin() as session:
            assert (
                await streams.add_channel_event(session, recording_id, at, title, category) is new
            )
    async with db.begin() as session:
        events = await streams.list_channel_events(session, recording_id)
    assert [event.category for event in events] == ["Chat", "Chess", "Chat"]


async def test_changes_that_follow_at_once_are_one_event(db: Database) -> None:
    recording_id = await opened(db)
    said = [
        (0.0, "Intro", "Chat"),
        (60.0, "Endgames", "Chat"),
        (62.0, "Endgames", "Chess"),
        (300.0, "A slip", "Chess"),
        (302.0, "Endgames", "Chess"),
    ]
    for at_s, title, category in said:
        async with db.begin() as session:
            at = NOON + timedelta(seconds=at_s)
            await streams.add_channel_event(session, recording_id, at, title, category)
    async with db.begin() as session:
        events = await streams.list_channel_events(session, recording_id)
    assert [(e.timestamp - NOON, e.title, e.category) for e in events] == [
        (timedelta(0), "Intro", "Chat"),
        (timedelta(seconds=60), "Endgames", "Chess"),
    ]


async def test_two_sources_that_tell_the_same_change_are_one_event(db: Database) -> None:
    """EventSub dates a change when it was made, the poll when it saw it, and the poll was first."""
    recording_id = await opened(db)
    told = [(0, "Intro"), (60.5, "Endgames"), (60.1, "Endgames"), (90, "Endgames")]
    for at_s, title in told:
        async with db.begin() as session:
            at = NOON + timedelta(seconds=at_s)
            await streams.add_channel_event(session, recording_id, at, title, "Chess")
    async with db.begin() as session:
        events = await streams.list_channel_events(session, recording_id)
    assert [(e.timestamp - NOON, e.title) for e in events] == [
        (timedelta(0), "Intro"),
        (timedelta(seconds=60.1), "Endgames"),
    ]


async def test_a_stream_seen_again_is_open_again(db: Database) -> None:
    recording_id = await opened(db)
    seen = recordings.Detection("A", "twitch", "a", platform_stream_id="1", title="T")
    async with db.begin() as session:
        await recordings.note_detected(session, recording_id, seen)
        await streams.end_stream(session, recording_id)
    async with db.begin() as session:
        stream = (await recordings.get_detail(session, recording_id)).stream
        assert stream and stream.ended_at
        again = await streams.note_stream(session, "twitch", "1")
    assert again == stream.id
    async with db.begin() as session:
        stream = (await recordings.get_detail(session, recording_id)).stream
    assert stream and stream.ended_at is None and stream.title == "T"


async def test_each_target_is_told_once_per_event(db: Database) -> None:
    recording_id = await opened(db)
    targets = ["discord", "ntfy", "discord"]
    async with db.begin() as session:
        first = await notifications.queue_notifications(session, recording_id, "done", targets)
        again = await notifications.queue_notifications(session, recording_id, "done", targets)
        other = await notifications.queue_notifications(session, recording_id, "failed", ["ntfy"])
        assert await notifications.queue_notifications(session, recording_id, "done", []) == []
    assert len(first) == 2 and again == first and len(other) == 1

    async with db.begin() as session:
        await notifications.mark_notification(session, first[0], "queued", "time-out")
        await notifications.mark_notification(session, str(first[0]), "sent")
        row = await notifications.get_notification(session, first[0])
        left = await notifications.queue_notifications(session, recording_id, "done", targets)
    assert (row.state, row.attempts, row.error) == ("sent", 2, "")
    assert row.ended_at is not None
    assert left == [first[1]]
