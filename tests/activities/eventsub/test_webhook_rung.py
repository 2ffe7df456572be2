"""The webhook rung: callbacks that work and that do not, and secrets that change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from activities.eventsub.state import note_refusals
from api.eventsub import EventSubWebhook
from streamvault.db.session import Database
from streamvault.metrics.eventsub import EventSubFigures
from streamvault.twitch.ladder import Refusal, Rung
from tests.activities.eventsub.stage import Stage, stage_of
from tests.fake_twitch.client import FakeChannel, FakeTwitch

# The fake reaches no address there: nothing listens on the discard port.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def twitch(fake_twitch: FakeTwitch) -> Iterator[FakeTwitch]:
    fake_twitch.reset()
    yield fake_twitch
    fake_twitch.reset()


@dataclass
class Door:
    """The API process, as far as it takes webhooks. It knows the secrets of `stages[0]`."""

    base_url: str = ""
    stages: list[Stage] = field(default_factory=list)
    is_broken: bool = False

    async def secrets(self) -> list[str]:
        if self.is_broken:
            return ["not the one that Twitch has"]
        return await self.stages[0].access.eventsub_secrets()


@pytest.fixture
async def door(database_url: str) -> AsyncIterator[Door]:
    door = Door()
    figures = EventSubFigures(CollectorRegistry(), "t_")
    webhook = EventSubWebhook(database_url, door.secrets, figures)
    config = uvicorn.Config(
        Starlette(routes=[webhook.route]), port=0, lifespan="off", log_level="error"
    )
    server = uvicorn.Server(config)
    with contextlib.ExitStack() as signals:
        # pytest keeps its own handlers.
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        serving = asyncio.create_task(server.serve())
        signals.callback(serving.cancel)
        while True:
            if server.started:
                break
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        door.base_url = f"http://127.0.0.1:{port}"
        yield door
        server.should_exit = True
        await serving
    await webhook.close()


@pytest.fixture
async def stage(
    twitch: FakeTwitch, db: Database, tmp_path: Path, door: Door
) -> AsyncIterator[Stage]:
    async with opened(twitch, db, tmp_path, door) as stage:
        yield stage


@contextlib.asynccontextmanager
async def opened(
    twitch: FakeTwitch, db: Database, tmp_path: Path, door: Door, **settings: Any
) -> AsyncIterator[Stage]:
    base_url = settings.pop("base_url", door.base_url)
    async with stage_of(twitch, db, tmp_path, base_url=base_url, **settings) as stage:
        door.stages = [stage]
        yield stage


async def test_with_a_public_address_twitch_calls_us(stage: Stage, door: Door) -> None:
    alice, _ = await stage.followed(2)
    async with stage.listening():
        fact = await stage.until_fact(by_status={"enabled": 6})
        assert (fact["transport"], fact["wanted"], fact["reason"]) == ("webhook", "webhook", "")
        assert fact["connected"] is None
        stream_id = alice.online(speed=0)
        (message,) = await stage.until_heard(1)
    assert (message.source, message.payload["event"]["id"]) == ("webhook", stream_id)
    callbacks = {item["transport"]["callback"] for item in stage.listed()}
    assert callbacks == {f"{door.base_url}/eventsub"}
    assert stage.twitch.sockets() == []
    assert stage.twitch.conduits(app=stage.app) == []


async def test_only_a_few_are_asked_for_until_the_callback_is_proved(stage: Stage) -> None:
    await stage.followed(20)
    with stage.twitch.knobs(verify_after_s=1):
        async with stage.listening():
            await stage.until(lambda: len(stage.twitch.subscriptions(app=stage.app)) == 3)
            await asyncio.sleep(0.5)
            assert len(stage.creates()) == 3
            await stage.until_enabled(60)


async def test_a_callback_that_cannot_be_reached_three_times_leads_to_the_conduit(
    twitch: FakeTwitch, db: Database, tmp_path: Path, door: Door
) -> None:
    async with opened(twitch, db, tmp_path, door, base_url=NOWHERE) as stage:
        (alice,) = await stage.followed(1)
        async with stage.listening():
            fact = await stage.until_fact(transport="conduit", by_status={"enabled": 3})
            assert fact["wanted"] == "webhook"
            assert fact["reason"] == f"webhook: Twitch cannot reach {NOWHERE}/eventsub"
            alice.online(speed=0)
            await stage.until_heard(1)
        # Nothing of the failed attempts is left behind.
        assert len(stage.twitch.subscriptions(app=stage.app)) == 3


async def test_told_to_use_webhooks_it_does_not_use_anything_else(
    twitch: FakeTwitch, db: Database, tmp_path: Path, door: Door
) -> None:
    settings = {"base_url": NOWHERE, "eventsub_transport": "webhook"}
    async with opened(twitch, db, tmp_path, door, **settings) as stage:
        await stage.sign_in()
        await stage.followed(1)
        async with stage.listening():
            fact = await stage.until_fact(transport="poll")
            assert fact["reason"].startswith("webhook: Twitch cannot reach")
    assert stage.twitch.sockets() == []


async def test_strays_that_point_to_our_callback_go_and_those_of_others_stay(
    stage: Stage, door: Door
) -> None:
    await stage.followed(1)
    secret = await stage.access.eventsub_secret()

    async def hook(callback: str) -> str:
        stranger = stage.twitch.channel()
        condition = {"broadcaster_user_id": stranger.user_id}
        transport = {"method": "webhook", "callback": callback, "secret": secret}
        made = await stage.access.helix.create_subscription(
            "stream.online", "1", condition, transport
        )
        return made.items[0].id

    stray = await hook(f"{door.base_url}/eventsub")
    old_secret = await hook(f"{door.base_url}/eventsub?secret=7")
    longer = await hook(f"{door.base_url}/eventsub/of/somebody")
    other = await hook("https://other.example.org/eventsub")
    async with stage.listening():
        await stage.until_fact(by_status={"enabled": 3})
        ids = {item["id"] for item in stage.twitch.subscriptions(app=stage.app)}
    assert {longer, other} <= ids
    assert not {stray, old_secret} & ids


def methods(stage: Stage) -> set[str]:
    return {item["transport"]["method"] for item in stage.listed()}


async def test_a_restart_with_a_public_address_moves_from_the_conduit_to_webhooks(
    twitch: FakeTwitch, db: Database, tmp_path: Path, door: Door
) -> None:
    async with opened(twitch, db, tmp_path, door, base_url="") as stage:
        (alice,) = await stage.followed(1)
        async with stage.listening():
            await stage.until_settled(3)
        app = stage.app
    async with opened(twitch, db, tmp_path, door, app=app) as stage, stage.listening():
        await stage.until_fact(transport="webhook", by_status={"enabled": 3})
        await stage.until(lambda: methods(stage) == {"webhook"})
        alice.online(speed=0)
        (message,) = await stage.until_heard(1)
    assert message.source == "webhook"


async def test_an_hour_later_the_better_rung_is_tried_again_and_nothing_is_lost_meanwhile(
    stage: Stage, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.eventsub.listening.LOOK_EVERY_S", 0.5)
    door.is_broken = True
    (alice,) = await stage.followed(1)
    alice.online(speed=0)
    async with stage.listening():
        await stage.until_fact(transport="conduit", by_status={"enabled": 3})
        door.is_broken = False
        async with stage.db.begin() as session:
            at = datetime.now(UTC) - timedelta(hours=1)
            await note_refusals(session, {Rung.WEBHOOK: Refusal("long ago", at)})
        sent = await talk(stage, alice, lambda: methods(stage) == {"webhook"})
        assert await until_all(stage, set(sent)) == set(sent)
        await stage.until_fact(transport="webhook", by_status={"enabled": 3}, reason="")
        await stage.until(lambda: stage.twitch.sockets() == [])


async def talk(stage: Stage, channel: FakeChannel, enough: Callable[[], bool]) -> list[str]:
    """Titles come all the time, until it is enough; those that were sent."""
    sent: list[str] = []
    while True:
        is_enough = await asyncio.to_thread(enough)
        for _ in range(5):
            sent.append(f"title {len(sent)}")
            await asyncio.to_thread(channel.change, title=sent[-1])
            await asyncio.sleep(0.02)
        if is_enough:
            return sent


@pytest.fixture
async def settling(
    twitch: FakeTwitch, db: Database, tmp_path: Path, door: Door
) -> AsyncIterator[Stage]:
    """As long as the door may need to look a new secret up."""
    async with opened(twitch, db, tmp_path, door, settle_s=6) as stage:
        yield stage


async def test_a_new_secret_loses_no_message(settling: Stage, door: Door) -> None:
    """Each has to arrive, by whichever secret it was signed with."""
    stage = settling
    (alice,) = await stage.followed(1)
    alice.online(speed=0)
    async with stage.listening():
        await stage.until_fact(by_status={"enabled": 3})
        (before,) = await stage.access.eventsub_secrets()
        await stage.eventsub.rotate_secret()
        callback = f"{door.base_url}/eventsub?secret=1"
        sent = await talk(
            stage,
            alice,
            lambda: {i["transport"]["callback"] for i in stage.listed()} == {callback},
        )
        heard = await until_all(stage, set(sent))
    assert heard == set(sent)
    # The old one is good for as long as Twitch may repeat what it signed with it.
    current, previous = await stage.access.eventsub_secrets()
    assert previous == before != current
    statuses = {row.status for row in stage.twitch.deliveries(app=stage.app)}
    assert statuses <= {200, 204}


async def until_all(stage: Stage, titles: set[str]) -> set[str]:
    async with asyncio.timeout(30):
        while True:
            heard = {
                message.payload["event"]["title"]
                for message in await stage.heard()
                if message.type == "channel.update"
            }
            if heard >= titles:
                return heard
            await asyncio.sleep(0.1)


async def test_the_previous_secret_is_forgotten_once_nothing_signed_with_it_can_come(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.eventsub.places.OLD_SECRET_KEPT", timedelta(seconds=1))
    await stage.followed(1)
    async with stage.listening():
        await stage.until_fact(by_status={"enabled": 3})
        await stage.eventsub.rotate_secret()
        await stage.until(
            lambda: {"?secret=1" in i["transport"]["callback"] for i in stage.listed()} == {True}
        )
        for _ in range(2):
            await stage.reconcile()
            await asyncio.sleep(1.1)
        await stage.reconcile()
        assert len(await stage.access.eventsub_secrets()) == 1


async def test_a_secret_that_was_set_from_outside_replaces_the_one_before(
    twitch: FakeTwitch, db: Database, tmp_path: Path, door: Door
) -> None:
    async with opened(twitch, db, tmp_path, door) as stage:
        (alice,) = await stage.followed(1)
        async with stage.listening():
            await stage.until_fact(by_status={"enabled": 3})
        app = stage.app
    fixed = "a secret from outside"
    later = opened(twitch, db, tmp_path, door, app=app, eventsub_secret=fixed)
    async with later as stage, stage.listening():
        await stage.until(
            lambda: {"?secret=1" in i["transport"]["callback"] for i in stage.listed()} == {True}
        )
        alice.online(speed=0)
        await stage.until_heard(1)
    assert (await stage.access.eventsub_secrets())[0] == fixed
