"""EventSub's activities on a real database and the fake Twitch, as one worker has them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from temporalio.testing import ActivityEnvironment

from activities.eventsub.state import EventSubState, read_state
from activities.eventsub.watch import EventSub, Figures
from activities.twitch_access import TwitchAccess
from streamvault.contracts import Watched
from streamvault.db import facts, streamers
from streamvault.db.models import InboxMessage, Subscription
from streamvault.db.session import Database
from streamvault.metrics.eventsub import EventSubFigures
from streamvault.metrics.system import PREFIX as METRICS
from streamvault.metrics.system import Metrics
from streamvault.metrics.websocket import SocketFigures, SubscriptionFigures
from streamvault.settings import PREFIX, check_settings
from streamvault.twitch.oauth import TokenSet
from streamvault.twitch.websocket import Patience
from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.fake_twitch.client_words import Application

# Only a test that fails waits this long.
PATIENCE_S = 60
LOOK_S = 0.05
QUICK = Patience(welcome_s=1, first_pause_s=0.05, longest_pause_s=0.2)


@dataclass
class Polls:
    """The poll, as far as EventSub can see: it is asked to run."""

    asked: int = 0

    async def poll_soon(self) -> None:
        self.asked += 1


@dataclass
class Stage:
    twitch: FakeTwitch
    app: Application
    db: Database
    access: TwitchAccess
    eventsub: EventSub
    polls: Polls
    metrics: Metrics
    _environment: ActivityEnvironment = field(default_factory=ActivityEnvironment)

    # ---- doing

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[asyncio.Task[Watched]]:
        """`listen`, until its worker shuts down."""
        environment = ActivityEnvironment()
        task = asyncio.create_task(environment.run(self.eventsub.listen))
        try:
            yield task
        finally:
            environment.worker_shutdown()
            async with asyncio.timeout(PATIENCE_S):
                await task

    async def reconcile(self) -> None:
        await self._environment.run(self.eventsub.reconcile)

    async def follow(self, *channels: FakeChannel) -> None:
        async with self.db.begin() as session:
            for channel in channels:
                new = streamers.NewStreamer(
                    "twitch", channel.login, channel.login, channel.url, user_id=channel.user_id
                )
                await streamers.add_streamer(session, new)

    async def followed(self, count: int) -> list[FakeChannel]:
        """So many channels that nobody else has, followed."""
        channels = self.twitch.channels(count, prefix=f"c{time.monotonic_ns():x}")
        await self.follow(*channels)
        return channels

    async def unfollow(self, channel: FakeChannel) -> None:
        async with self.db.begin() as session:
            found = await streamers.find_streamer(session, "twitch", channel.login)
            assert found is not None
            await streamers.delete_streamer(session, found.id)

    async def sign_in(self) -> str:
        """Somebody's account; its login."""
        viewer = self.twitch.channel()
        token = self.twitch.sign_in(viewer.login, app=self.app)
        tokens = TokenSet(token.access_token, token.refresh_token, token.scopes, 14_400)
        who = await self.access.oauth.validate(token.access_token)
        await self.access.tokens.connect_user(tokens, who)
        return viewer.login

    # ---- seeing

    def listed(self, status: str = "enabled") -> list[dict[str, Any]]:
        """Subscriptions of our application, as Twitch has them."""
        return [s for s in self.twitch.subscriptions(app=self.app) if s["status"] == status]

    def kinds(self) -> dict[str, int]:
        """How many enabled ones there are of each type."""
        counts: dict[str, int] = {}
        for item in self.listed():
            counts[item["type"]] = counts.get(item["type"], 0) + 1
        return counts

    def creates(self) -> list[float]:
        """When subscriptions were asked for."""
        calls = self.twitch.calls("eventsub.subscriptions", app=self.app)
        return [call.at for call in calls if call.method == "POST"]

    async def fact(self) -> dict[str, Any]:
        async with self.db.begin() as session:
            found = await facts.get_fact(session, facts.EVENTSUB)
            return found.value if found else {}

    async def state(self) -> EventSubState:
        async with self.db.begin() as session:
            return await read_state(session)

    async def heard(self) -> list[InboxMessage]:
        async with self.db.begin() as session:
            return list(await session.scalars(select(InboxMessage).order_by(InboxMessage.id)))

    async def rows(self) -> list[Subscription]:
        async with self.db.begin() as session:
            return list(await session.scalars(select(Subscription)))

    def figure(self, name: str, **labels: str) -> float:
        found = self.metrics.registry.get_sample_value(f"{METRICS}{name}", labels)
        assert found is not None, name
        return found

    # ---- waiting

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if await asyncio.to_thread(happened):
                    return
                await asyncio.sleep(LOOK_S)

    async def until_enabled(self, count: int) -> None:
        await self.until(lambda: len(self.listed()) == count)

    async def until_heard(self, count: int) -> list[InboxMessage]:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if len(heard := await self.heard()) >= count:
                    return heard
                await asyncio.sleep(LOOK_S)

    async def until_settled(self, count: int) -> None:
        """So many are enabled, and a round has seen that they are all."""
        await self.until_enabled(count)
        await self.until_fact(by_status={"enabled": count} if count else {})

    async def until_fact(self, **wanted: Any) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                fact = await self.fact()
                if all(fact.get(name) == value for name, value in wanted.items()):
                    return fact
                await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def stage_of(
    twitch: FakeTwitch,
    db: Database,
    data_dir: Path,
    *,
    app: Application | None = None,
    settle_s: float = 0,
    **settings: Any,
) -> AsyncIterator[Stage]:
    """A worker of its own application, unless one is given, with settings of its own."""
    app = app or twitch.application()
    env = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in app.env.items()
        if name.startswith(f"{PREFIX}TWITCH_") or name.endswith("ALLOW_INSECURE_TWITCH")
    }
    metrics, polls = Metrics(), Polls()
    access = TwitchAccess.open(
        check_settings({**env, "data_dir": data_dir, **settings}), db, metrics
    )
    figures = Figures(
        EventSubFigures(metrics.registry, METRICS),
        SocketFigures(metrics.registry, METRICS),
        SubscriptionFigures(metrics.registry, METRICS),
    )
    settle = timedelta(seconds=settle_s)
    eventsub = EventSub(access, polls, figures, patience=QUICK, settle=settle)
    try:
        yield Stage(twitch, app, db, access, eventsub, polls, metrics)
    finally:
        await access.close()
