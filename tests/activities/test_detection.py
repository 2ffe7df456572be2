"""What becomes of news, with a real database, a real Temporal and a recorder that is played."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import select
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from activities.catalog import Catalog
from activities.detection import Detection
from streamvault.contracts import Status, processing_workflow_id, stream_workflow_id
from streamvault.db import recordings, streamers, streams
from streamvault.db.models import Recording, StreamEvent
from streamvault.db.session import Database
from streamvault.errors import SourceUnavailable, StreamOffline
from streamvault.metrics.detection import DetectionFigures
from streamvault.playback.sources import Sources
from streamvault.source import News, Sighting, Wish
from tests.workflows.fakes import ENDED
from tests.workflows.stage import Stage
from workflows.record_stream import RecordStream

URL = "https://fake.example.org/alice"


@dataclass
class Player:
    """What stands for streamlink: one channel."""

    seen: Sighting | Exception

    async def look(self, _wish: Wish, *, live_only: bool = False) -> Sighting:
        assert live_only
        if isinstance(self.seen, Exception):
            raise self.seen
        return self.seen


class Alice:
    """A followed streamer, and what is found of her."""

    def __init__(self, stage: Stage, db: Database, streamer_id: str) -> None:
        self.stage, self.db, self.streamer_id = stage, db, streamer_id
        self.stream_id = uuid.uuid4().hex
        self.player = Player(self.sighting())
        self.detection = Detection(
            db,
            stage.client,
            cast("Sources", self.player),
            90.0,
            DetectionFigures(CollectorRegistry()),
        )

    def sighting(self, title: str = "speedrun") -> Sighting:
        return Sighting("fake", "alice", "Alice", self.stream_id, title, "Chess")

    async def told(self, by: str = "webhook", stream_id: str = "") -> str:
        news = News(self.streamer_id, by, stream_id or self.stream_id)
        return await self.detection.found_live(news)

    async def said(self, title: str, at: datetime | None = None) -> None:
        await self.detection.heard_channel(
            self.streamer_id,
            title=title,
            category="Chess",
            category_id="743",
            at=at or datetime.now(UTC),
            told_by="webhook",
        )

    async def change(self, **values: Any) -> None:
        async with self.db.begin() as session:
            row = await streamers.get_streamer(session, self.streamer_id)
            for name, value in values.items():
                setattr(row, name, value)

    async def rows(self) -> list[Recording]:
        async with self.db.begin() as session:
            return list(await session.scalars(select(Recording).order_by(Recording.id)))

    async def until_recording(self) -> Recording:
        await self.stage.until(lambda: bool(self.stage.cast.recording.sessions))
        [row] = await self.rows()
        async with self.db.begin() as session:
            await recordings.set_status(session, row.id, Status.RECORDING)
        return row

    async def leave(self) -> None:
        """What still runs would look for a recorder among those of the tests to come."""
        for row in await self.rows():
            for workflow_id in (row.workflow_id, processing_workflow_id(str(row.id))):
                with suppress(RPCError):
                    await self.stage.client.get_workflow_handle(workflow_id).terminate()

    @property
    def workflow(self) -> Any:
        return self.stage.client.get_workflow_handle_for(
            RecordStream.run, stream_workflow_id("fake", self.stream_id)
        )


@pytest.fixture
async def alice(temporal_dev: WorkflowEnvironment, db: Database) -> AsyncIterator[Alice]:
    async with followed(temporal_dev, db) as alice:
        yield alice


@pytest.fixture
async def skipping_alice(
    temporal_skipping: WorkflowEnvironment, db: Database
) -> AsyncIterator[Alice]:
    async with followed(temporal_skipping, db) as alice:
        yield alice


@asynccontextmanager
async def followed(environment: WorkflowEnvironment, db: Database) -> AsyncIterator[Alice]:
    async with db.begin() as session:
        new = streamers.NewStreamer("fake", "alice", "Alice", URL)
        streamer, _ = await streamers.add_streamer(session, new)
    stage = Stage(environment)
    cast_, catalog = stage.cast, Catalog(db)
    stage.instead["control"] = [
        *(cast_.streams.probe, cast_.streams.detect, cast_.notify.announce),
        *(catalog.set_status, catalog.set_step, catalog.note_channel, catalog.can_resume),
    ]
    try:
        await stage.work()
        alice = Alice(stage, db, str(streamer.id))
        yield alice
        await alice.leave()
    finally:
        await stage.close()


async def test_told_by_every_source_at_once_it_is_recorded_once(alice: Alice) -> None:
    sources = ("webhook", "conduit", "websocket", "poll")
    outcomes = await asyncio.gather(*(alice.told(by) for by in sources * 25))
    assert outcomes.count("started") == 1
    assert set(outcomes) == {"started", "joined"}
    await alice.until_recording()
    assert alice.stage.cast.work() == ["detect", "claim", "record"]


async def test_news_of_a_stream_that_is_over_start_nothing(alice: Alice) -> None:
    alice.player.seen = StreamOffline("nothing is live")
    assert await alice.told() == "not_live"
    assert await alice.rows() == []


async def test_old_news_lead_to_the_stream_that_is_live_now(alice: Alice) -> None:
    assert await alice.told(stream_id="of-yesterday") == "started"
    row = await alice.until_recording()
    assert row.workflow_id == stream_workflow_id("fake", alice.stream_id)


async def test_nobody_is_recorded_who_is_not_followed_any_more(alice: Alice) -> None:
    await alice.change(enabled=False)
    assert await alice.told() == "disabled"
    async with alice.db.begin() as session:
        await streamers.delete_streamer(session, alice.streamer_id)
    assert await alice.told() == "disabled"


async def test_a_title_that_fits_later_starts_what_a_filter_held_back(alice: Alice) -> None:
    await alice.change(filters={"title_allow": ["endgames"]})
    assert await alice.told() == "filtered"
    assert await alice.rows() == []
    alice.player.seen = alice.sighting("Endgames for beginners")
    await alice.said("Endgames for beginners")
    assert (await alice.until_recording()).title == "Endgames for beginners"


async def test_while_the_player_is_away_a_new_stream_is_believed(alice: Alice) -> None:
    alice.player.seen = SourceUnavailable("gql does not answer")
    assert await alice.told() == "started"
    assert (await alice.until_recording()).title == ""


async def test_while_the_player_is_away_a_recorded_stream_is_not_begun_again(alice: Alice) -> None:
    """Get Streams lists a stream for minutes after its end."""
    await alice.told()
    await alice.until_recording()
    alice.player.seen = SourceUnavailable("gql does not answer")
    with pytest.raises(SourceUnavailable):
        await alice.told("poll")
    assert len(await alice.rows()) == 1


async def test_offline_is_a_word_to_the_capture_and_no_end(alice: Alice) -> None:
    await alice.told()
    row = await alice.until_recording()
    nudges = alice.stage.cast.recording.nudges
    late = row.started_at - timedelta(seconds=30)
    await alice.detection.heard_offline(alice.streamer_id, "webhook", late)
    await alice.detection.heard_offline(alice.streamer_id, "webhook", datetime.now(UTC))
    await alice.detection.heard_offline(alice.streamer_id, "poll", datetime.now(UTC))
    await alice.stage.until(lambda: len(nudges) == 2)
    assert {(nudge.word, nudge.reason) for nudge in nudges} == {
        ("offline", "EventSub says offline"),
        ("offline", "absent from Get Streams"),
    }
    assert [row.status for row in await alice.rows()] == [Status.RECORDING]


async def test_flaps_of_one_stream_are_one_recording_and_what_follows_is_linked(
    skipping_alice: Alice,
) -> None:
    alice, recorder = skipping_alice, skipping_alice.stage.cast.recording
    await alice.told()
    first = await alice.until_recording()
    for _ in range(5):
        await alice.detection.heard_offline(alice.streamer_id, "webhook", datetime.now(UTC))
        assert await alice.told() == "joined"
    assert len(await alice.rows()) == len(recorder.sessions) == 1

    recorder.ends.put_nowait(ENDED)
    await alice.workflow.result()
    assert await alice.told() == "started"
    alice.stream_id = uuid.uuid4().hex
    alice.player.seen = alice.sighting()
    assert await alice.told() == "started"
    _, again, another = await alice.rows()
    assert (again.continues_id, another.continues_id) == (first.id, again.id)
    # The skipping server counts an activity whose workflow was terminated as running for ever.
    for row in (again, another):
        recorder.ends.put_nowait(ENDED)
        await alice.stage.client.get_workflow_handle(row.workflow_id).result()


async def test_a_channel_that_changes_all_day_adds_nothing_to_the_history(alice: Alice) -> None:
    await alice.told()
    row = await alice.until_recording()
    before = (await alice.workflow.describe()).history_length
    began = datetime.now(UTC)
    for number in range(500):
        await alice.said(f"Title {number}", began + timedelta(minutes=number))
    assert (await alice.workflow.describe()).history_length == before
    async with alice.db.begin() as session:
        events = await streams.list_channel_events(session, row.id)
    assert [event.title for event in events][-500:] == [f"Title {n}" for n in range(500)]


async def test_titles_are_kept_also_while_nothing_is_recorded(alice: Alice) -> None:
    for title in ("Soon", "Soon", "Starting"):
        await alice.said(title)
    async with alice.db.begin() as session:
        events = list(await session.scalars(select(StreamEvent).order_by(StreamEvent.id)))
    assert [event.title for event in events] == ["Soon", "Starting"]
    assert {str(event.streamer_id) for event in events} == {alice.streamer_id}
