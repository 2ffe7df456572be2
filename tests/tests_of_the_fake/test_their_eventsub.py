"""The package twitchAPI hears the events of the fake, and checks how they are signed."""

from __future__ import annotations

import asyncio
import queue
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from twitchAPI.eventsub.webhook import EventSubWebhook
from twitchAPI.eventsub.websocket import EventSubWebsocket
from twitchAPI.twitch import Twitch
from twitchAPI.type import (
    EventSubSubscriptionConflict,
    EventSubSubscriptionError,
    UnauthorizedException,
)

from tests.fake_twitch.client import FakeTwitch
from tests.fake_twitch.client_words import Application
from tests.tests_of_the_fake.conftest import PATIENCE_S, until
from tests.tests_of_the_fake.their_client import sign_in, twitch

__all__ = ["twitch"]


class Events:
    """What its listeners were told. They run in a thread of the package."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def put(self, event: Any) -> None:
        self.queue.put(event)

    async def take(self) -> Any:
        return await asyncio.to_thread(self.queue.get, timeout=PATIENCE_S)


@asynccontextmanager
async def websocket(twitch: Twitch, fake: FakeTwitch) -> AsyncIterator[EventSubWebsocket]:
    url = fake.env["STREAMVAULT_TWITCH_EVENTSUB_WS_URL"]
    eventsub = EventSubWebsocket(twitch, url)
    await asyncio.to_thread(eventsub.start)
    try:
        yield eventsub
    finally:
        # Its own stop() waits for another thread's loop, which would stand still with ours.
        await asyncio.to_thread(lambda: asyncio.run(eventsub.stop()))  # type: ignore[no-untyped-call]


async def test_it_hears_by_websocket(twitch: Twitch, fake: FakeTwitch, app: Application) -> None:
    await sign_in(twitch, fake, app, "ada")
    channel, events = fake.channel(), Events()
    async with websocket(twitch, fake) as eventsub:
        user_id = channel.user_id
        await eventsub.listen_stream_online(user_id, events.put)
        await eventsub.listen_stream_offline(user_id, events.put)
        await eventsub.listen_channel_update_v2(user_id, events.put)
        with pytest.raises(EventSubSubscriptionConflict):
            await eventsub.listen_stream_online(user_id, events.put)
        await check_events(fake, channel.login, events)


async def test_it_comes_back_when_it_is_told_to(
    twitch: Twitch, fake: FakeTwitch, app: Application
) -> None:
    await sign_in(twitch, fake, app, "ada")
    channel, events = fake.channel(), Events()
    async with websocket(twitch, fake) as eventsub:
        await eventsub.listen_stream_online(channel.user_id, events.put)
        fake.reconnect_sockets()
        await until(lambda: len(fake.calls("eventsub.ws")) == 2, "it connects again")
        await until(lambda: eventsub._reconnect is None, "it has moved")
        channel.online(speed=0)
        assert (await events.take()).event.broadcaster_user_id == channel.user_id
        assert len(fake.calls("eventsub.subscriptions")) == 1


async def test_it_subscribes_anew_after_a_loss(
    twitch: Twitch, fake: FakeTwitch, app: Application
) -> None:
    await sign_in(twitch, fake, app, "ada")
    # It notices by the keepalives that stay away.
    fake.set_knobs(keepalive_s=1)
    channel, events = fake.channel(), Events()
    async with websocket(twitch, fake) as eventsub:
        await eventsub.listen_stream_online(channel.user_id, events.put)
        fake.close_sockets(4006)
        subscribed = {"POST": 2}
        await until(lambda: posts(fake) == subscribed, "it subscribes again")
        channel.online(speed=0)
        assert (await events.take()).event.broadcaster_user_id == channel.user_id


async def test_a_websocket_has_room_for_ten(
    twitch: Twitch, fake: FakeTwitch, app: Application
) -> None:
    await sign_in(twitch, fake, app, "ada")
    channels, events = [fake.channel() for _ in range(11)], Events()
    async with websocket(twitch, fake) as eventsub:
        for channel in channels[:10]:
            await eventsub.listen_stream_online(channel.user_id, events.put)
        with pytest.raises(EventSubSubscriptionError, match="cost"):
            await eventsub.listen_stream_online(channels[10].user_id, events.put)


@asynccontextmanager
async def webhook(twitch: Twitch, fake: FakeTwitch) -> AsyncIterator[EventSubWebhook]:
    """Over https, with the fake's own certificate."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(fake.state_dir / "server.pem", fake.state_dir / "server.key")
    url = f"https://127.0.0.1:{port}"
    hook = EventSubWebhook(url, port, twitch, tls, "127.0.0.1")
    await asyncio.to_thread(hook.start)
    try:
        yield hook
    finally:
        await asyncio.to_thread(_end, hook)


def _end(hook: EventSubWebhook) -> None:
    """Its own stop() fails while a connection is kept alive: it closes it from another loop."""
    loop, runner, thread = (
        getattr(hook, f"_EventSubWebhook__hook_{part}") for part in ("loop", "runner", "thread")
    )
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(PATIENCE_S)
    hook._closing = True
    thread.join(PATIENCE_S)


async def test_it_hears_by_webhook(twitch: Twitch, fake: FakeTwitch) -> None:
    channel, events = fake.channel(), Events()
    async with webhook(twitch, fake) as hook:
        await hook.listen_stream_online(channel.user_id, events.put)
        await hook.listen_stream_offline(channel.user_id, events.put)
        await hook.listen_channel_update_v2(channel.user_id, events.put)
        await check_events(fake, channel.login, events)
        # A listener may run before its request has been answered.
        await until(lambda: {row.status for row in fake.deliveries()} == {200}, "taken")


async def test_it_checks_signatures_as_the_fake_makes_them(
    twitch: Twitch, fake: FakeTwitch, app: Application
) -> None:
    channel, events = fake.channel(), Events()
    async with webhook(twitch, fake) as hook:
        await hook.listen_stream_online(channel.user_id, events.put)
        fake.disturb("forge")
        stream_id = channel.online(speed=0)
        assert (await events.take()).event.id == stream_id
        # The callback may come before the answer has.
        await until(lambda: len(statuses(fake)) == 2 and 0 not in statuses(fake).values(), "both")
        assert statuses(fake) == {"forge": 403, "": 200}
        message_id = fake.deliveries()[-1].message_id
        assert await asyncio.to_thread(fake.replay, message_id) == 200
        assert events.queue.empty()


async def test_it_is_told_of_a_revocation(twitch: Twitch, fake: FakeTwitch) -> None:
    channel, revoked = fake.channel(), Events()
    async with webhook(twitch, fake) as hook:
        hook.revokation_handler = revoked.put
        found = await hook.listen_stream_online(channel.user_id, Events().put)
        fake.revoke(found, "user_removed")
        told = await revoked.take()
        assert told["subscription"]["id"] == found
        assert told["subscription"]["status"] == "user_removed"


async def test_it_lists_and_deletes(twitch: Twitch, fake: FakeTwitch, app: Application) -> None:
    channels = [fake.channel() for _ in range(3)]
    fake.set_knobs(page_size=2)
    async with webhook(twitch, fake) as hook:
        for channel in channels:
            await hook.listen_stream_online(channel.user_id, Events().put)
        listed = await twitch.get_eventsub_subscriptions()
        assert (listed.total, listed.total_cost, listed.max_total_cost) == (3, 3, 10_000)
        found = [subscription async for subscription in listed]
        conditions = [s.condition["broadcaster_user_id"] for s in found]
        assert conditions == [channel.user_id for channel in channels]
        assert {s.status for s in found} == {"enabled"}
        await twitch.delete_eventsub_subscription(found[0].id)
    assert len(fake.subscriptions(app=app)) == 2


async def test_it_cannot_listen_without_a_user(twitch: Twitch, fake: FakeTwitch) -> None:
    with pytest.raises(UnauthorizedException):
        EventSubWebsocket(twitch).start()  # type: ignore[no-untyped-call]


async def check_events(fake: FakeTwitch, login: str, events: Events) -> None:
    channel = fake.channel(login)
    stream_id = channel.online(speed=0)
    online = (await events.take()).event
    assert (online.id, online.type) == (stream_id, "live")
    assert abs(datetime.now(UTC) - online.started_at) < timedelta(minutes=1)
    channel.change(title="New", category="Chess", category_id="743")
    update = (await events.take()).event
    assert (update.title, update.category_name, update.category_id) == ("New", "Chess", "743")
    channel.offline()
    offline = await events.take()
    assert offline.event.broadcaster_user_login == login
    assert offline.metadata.subscription_type == "stream.offline"


def posts(fake: FakeTwitch) -> dict[str, int]:
    methods = [call.method for call in fake.calls("eventsub.subscriptions")]
    return {method: methods.count(method) for method in methods}


def statuses(fake: FakeTwitch) -> dict[str, int]:
    rows = fake.deliveries(type="stream.online")
    return {row.kind: row.status for row in rows if row.message_type == "notification"}
