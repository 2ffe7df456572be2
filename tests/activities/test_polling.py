"""The poll: real Helix questions to the fake Twitch, a real database, and somebody who listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest
from temporalio.testing import ActivityEnvironment

from activities.polling import Polling
from streamvault.contracts import Status
from streamvault.db import facts, recordings, streamers
from streamvault.db.session import Database
from streamvault.errors import SourceUnavailable
from streamvault.source import News
from tests.activities.twitch_access import Twitch, open_twitch
from tests.fake_twitch.client import FakeChannel, FakeTwitch

INTERVAL_S = 0.1
PATIENCE_S = 20


@dataclass
class Listener:
    """What stands for detection: it keeps what it is told."""

    soon: asyncio.Event = field(default_factory=asyncio.Event)
    live: list[News] = field(default_factory=list)
    offline: list[tuple[str, str]] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    outcome: str | Exception = "started"

    async def found_live(self, news: News) -> str:
        self.live.append(news)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def heard_offline(self, streamer_id: str, told_by: str, at: datetime) -> None:
        self.offline.append((streamer_id, told_by))

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
        self.titles.append(title)


@dataclass
class Poll:
    db: Database
    twitch: Twitch
    heard: Listener = field(default_factory=Listener)
    absent_for_s: float = 0.3

    async def follow(self, channel: FakeChannel) -> UUID:
        async with self.db.begin() as session:
            url = f"https://www.twitch.tv/{channel.login}"
            new = streamers.NewStreamer(
                "twitch", channel.login, channel.login, url, user_id=channel.user_id
            )
            row, _ = await streamers.add_streamer(session, new)
        return row.id

    async def capture(self, streamer_id: UUID, stream_id: str) -> None:
        """A recording that runs."""
        async with self.db.begin() as session:
            new = recordings.NewRecording(
                f"twitch:{stream_id}", "https://o/", platform="twitch", streamer_id=streamer_id
            )
            recording, _ = await recordings.open_recording(session, new)
            await recordings.set_status(session, recording.id, Status.RECORDING)

    @asynccontextmanager
    async def running(self, interval_s: float = INTERVAL_S) -> AsyncIterator[None]:
        async def nothing() -> None:
            return

        polling = Polling(
            self.db, self.heard, interval_s, self.twitch.door, nothing, self.absent_for_s
        )
        environment = ActivityEnvironment()
        task = asyncio.create_task(environment.run(polling.detect_live))
        try:
            yield
        finally:
            environment.worker_shutdown()
            async with asyncio.timeout(PATIENCE_S):
                await task

    async def rounds(self, count: int) -> None:
        """Until so many more rounds have asked Get Streams."""
        before = self.twitch.calls("streams")
        await self.until(lambda: self.twitch.calls("streams") >= before + count)

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not await asyncio.to_thread(happened):  # noqa: ASYNC110  # the fake's state
                await asyncio.sleep(0.02)

    async def live_since(self, streamer_id: UUID) -> datetime | None:
        async with self.db.begin() as session:
            return (await streamers.get_streamer(session, streamer_id)).live_since


@pytest.fixture
async def poll(fake_twitch: FakeTwitch, db: Database, tmp_path: Path) -> AsyncIterator[Poll]:
    async with open_twitch(fake_twitch, db, tmp_path) as twitch:
        yield Poll(db, twitch)
    fake_twitch.reset()


@pytest.fixture
def channel(fake_twitch: FakeTwitch) -> FakeChannel:
    return fake_twitch.channel(title="Intro", category="Chess", speed=0)


async def test_who_is_live_and_not_recorded_is_told(poll: Poll, channel: FakeChannel) -> None:
    streamer_id = await poll.follow(channel)
    async with poll.running():
        await poll.rounds(2)
        assert poll.heard.live == []
        stream_id = channel.online()
        await poll.until(lambda: bool(poll.heard.live))
    news = poll.heard.live[0]
    assert (news.streamer_id, news.stream_id, news.told_by) == (
        str(streamer_id),
        stream_id,
        "poll",
    )
    assert news.started_at is not None
    assert poll.heard.titles[0] == "Intro"


async def test_who_is_recorded_is_not_told_again(poll: Poll, channel: FakeChannel) -> None:
    streamer_id = await poll.follow(channel)
    await poll.capture(streamer_id, channel.online())
    async with poll.running():
        await poll.rounds(4)
    assert poll.heard.live == []


async def test_what_a_person_stopped_is_asked_about_once(poll: Poll, channel: FakeChannel) -> None:
    await poll.follow(channel)
    channel.online()
    poll.heard.outcome = "stopped_by_person"
    async with poll.running():
        await poll.rounds(4)
        assert len(poll.heard.live) == 1
        channel.change(title="Something else")
        await poll.until(lambda: len(poll.heard.live) == 2)


@pytest.mark.parametrize("said_offline_before", [False, True])
async def test_an_absence_that_lasts_is_one_word_for_an_end(
    poll: Poll, channel: FakeChannel, said_offline_before: bool
) -> None:
    """Also when EventSub was first, which takes the mark of being live away: it takes two."""
    streamer_id = await poll.follow(channel)
    await poll.capture(streamer_id, channel.online())
    async with poll.running():
        await poll.rounds(2)
        if said_offline_before:
            async with poll.db.begin() as session:
                await streamers.note_not_live(session, streamer_id)
        channel.offline()
        await poll.until(lambda: bool(poll.heard.offline))
        await poll.rounds(4)
    assert poll.heard.offline == [(str(streamer_id), "poll")]


async def test_one_empty_answer_for_somebody_who_is_live_says_nothing(
    poll: Poll, channel: FakeChannel
) -> None:
    poll.absent_for_s = 0.0
    streamer_id = await poll.follow(channel)
    await poll.capture(streamer_id, channel.online())
    async with poll.running():
        await poll.rounds(1)
        for _ in range(3):
            poll.twitch.fault("helix.streams", "absent", count=1)
            await poll.rounds(3)
    assert poll.heard.offline == []


async def test_a_false_offline_is_put_right(poll: Poll, channel: FakeChannel) -> None:
    streamer_id = await poll.follow(channel)
    await poll.capture(streamer_id, channel.online())
    async with poll.running():
        await poll.rounds(2)
        assert await poll.live_since(streamer_id) is not None
        async with poll.db.begin() as session:
            await streamers.note_not_live(session, streamer_id)
        await poll.rounds(3)
        assert await poll.live_since(streamer_id) is not None


async def test_without_helix_the_player_is_asked(poll: Poll, channel: FakeChannel) -> None:
    streamer_id = await poll.follow(channel)
    poll.heard.outcome = "not_live"
    poll.twitch.fault("helix.streams", "status", status=500)
    async with poll.running():
        await poll.until(lambda: len(poll.heard.live) >= 2)
    assert {(news.streamer_id, news.stream_id) for news in poll.heard.live} == {
        (str(streamer_id), "")
    }
    async with poll.db.begin() as session:
        fact = await facts.get_fact(session, facts.POLL)
    assert fact and fact.value["helix"] is False and fact.value["why"]


async def test_one_who_cannot_be_looked_at_holds_up_nobody(
    poll: Poll, fake_twitch: FakeTwitch
) -> None:
    channels = [fake_twitch.channel(speed=0) for _ in range(3)]
    ids = {str(await poll.follow(channel)) for channel in channels}
    for channel in channels:
        channel.online()
    poll.heard.outcome = SourceUnavailable("gql does not answer")
    async with poll.running():
        await poll.until(lambda: {news.streamer_id for news in poll.heard.live} == ids)


async def test_whoever_is_added_is_looked_at_without_waiting_for_the_turn(
    poll: Poll, channel: FakeChannel, fake_twitch: FakeTwitch
) -> None:
    await poll.follow(fake_twitch.channel(speed=0))
    channel.online()
    async with poll.running(interval_s=3600):
        await poll.until(lambda: poll.twitch.calls("streams") > 0)
        assert poll.heard.live == []
        await poll.follow(channel)
        await poll.until(lambda: bool(poll.heard.live))
