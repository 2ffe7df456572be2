"""The WebSocket transport: what comes, and all the ways in which it ends."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.tests_of_the_fake.conftest import PATIENCE_S, Caller, status, until

CODES = {
    4000: "websocket_internal_error",
    4001: "websocket_received_inbound_traffic",
    4002: "websocket_failed_ping_pong",
    4003: "websocket_connection_unused",
    4004: "websocket_failed_to_reconnect",
    4005: "websocket_network_timeout",
    4006: "websocket_network_error",
}


@dataclass
class Line:
    """One connection as its client sees it."""

    socket: ClientConnection
    welcome: dict[str, Any]

    @property
    def session_id(self) -> str:
        return str(self.welcome["payload"]["session"]["id"])

    @property
    def transport(self) -> dict[str, str]:
        return {"method": "websocket", "session_id": self.session_id}

    async def next(self) -> dict[str, Any]:
        return await receive(self.socket)

    async def closed_with(self) -> int:
        with pytest.raises(ConnectionClosed):
            while True:
                await self.next()
        assert self.socket.close_code is not None
        return self.socket.close_code


async def receive(socket: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))
    return message


async def dial(fake: FakeTwitch, query: str = "") -> Line:
    url = fake.env["STREAMVAULT_TWITCH_EVENTSUB_WS_URL"] + query
    socket = await websockets.connect(url, proxy=None)
    return Line(socket, await receive(socket))


async def listen(helix: Caller, channel: FakeChannel, *kinds: str) -> tuple[Line, list[str]]:
    """A connection with subscriptions; their ids."""
    token = helix.fake.sign_in("ada", app=helix.app).access_token
    line = await dial(helix.fake)
    found = []
    for kind in kinds or ("stream.online",):
        made = await helix.subscribe(kind, channel, line.transport, token=token)
        assert made.status_code == 202
        found.append(str(made.json()["data"][0]["id"]))
    return line, found


async def test_the_welcome(fake: FakeTwitch) -> None:
    for query, keepalive in (
        ("", 10),
        ("?keepalive_timeout_seconds=30", 30),
        ("?keepalive_timeout_seconds=5", 10),
        ("?keepalive_timeout_seconds=9999", 600),
    ):
        line = await dial(fake, query)
        assert line.welcome["metadata"]["message_type"] == "session_welcome"
        session = line.welcome["payload"]["session"]
        assert session["status"] == "connected"
        assert session["keepalive_timeout_seconds"] == keepalive
        assert (session["reconnect_url"], session["recovery_url"]) == (None, None)
        await line.socket.close()


async def test_events_arrive(helix: Caller, fake: FakeTwitch) -> None:
    channel = fake.channel()
    kinds = ("stream.online", "channel.update", "stream.offline")
    line, _ = await listen(helix, channel, *kinds)
    stream_id = channel.online(speed=0)
    online = await line.next()
    assert online["metadata"]["message_type"] == "notification"
    assert online["metadata"]["subscription_type"] == "stream.online"
    assert online["metadata"]["subscription_version"] == "1"
    assert online["payload"]["event"]["id"] == stream_id
    assert online["payload"]["subscription"]["transport"] == line.transport
    channel.change(title="New")
    assert (await line.next())["payload"]["event"]["title"] == "New"
    channel.offline()
    offline = await line.next()
    assert offline["payload"]["event"]["broadcaster_user_login"] == channel.login
    await line.socket.close()


async def test_keepalives_come_when_nothing_else_does(helix: Caller, fake: FakeTwitch) -> None:
    fake.set_knobs(keepalive_s=1)
    line, _ = await listen(helix, fake.channel())
    assert line.welcome["payload"]["session"]["keepalive_timeout_seconds"] == 1
    begun = time.monotonic()
    for _ in range(2):
        message = await line.next()
        assert message["metadata"]["message_type"] == "session_keepalive"
        assert message["payload"] == {}
    assert 1.5 < time.monotonic() - begun < 10
    await line.socket.close()


async def test_a_silenced_socket_says_nothing_more(helix: Caller, fake: FakeTwitch) -> None:
    fake.set_knobs(keepalive_s=0.05)
    channel = fake.channel()
    line, _ = await listen(helix, channel)
    fake.silence_sockets(session_id=line.session_id)
    with pytest.raises(TimeoutError):
        while True:
            await asyncio.wait_for(line.socket.recv(), 0.5)
    fake.silence_sockets(False, session_id=line.session_id)
    assert (await line.next())["metadata"]["message_type"] == "session_keepalive"
    await line.socket.close()


async def test_whoever_subscribes_to_nothing_is_sent_away(fake: FakeTwitch) -> None:
    fake.set_knobs(subscribe_within_s=0.2)
    begun = time.monotonic()
    assert await (await dial(fake)).closed_with() == 4003
    assert time.monotonic() - begun >= 0.2


async def test_whoever_talks_is_sent_away(helix: Caller, fake: FakeTwitch) -> None:
    line, (found,) = await listen(helix, fake.channel())
    await line.socket.send("hello")
    assert await line.closed_with() == 4001
    await until(lambda: status(helix, found) == CODES[4001], "disabled")


@pytest.mark.parametrize("code", [*CODES, 4007, 1001])
async def test_every_code_can_be_had(helix: Caller, fake: FakeTwitch, code: int) -> None:
    line, (found,) = await listen(helix, fake.channel())
    fake.close_sockets(code, line.session_id)
    assert await line.closed_with() == code
    expected = CODES.get(code, "websocket_disconnected")
    await until(lambda: status(helix, found) == expected, expected)


async def test_a_connection_that_is_cut(helix: Caller, fake: FakeTwitch) -> None:
    line, (found,) = await listen(helix, fake.channel())
    fake.cut_sockets(line.session_id)
    assert await line.closed_with() == 1006
    await until(lambda: status(helix, found) == CODES[4006], "disabled")


async def test_a_client_that_leaves(helix: Caller, fake: FakeTwitch) -> None:
    line, (found,) = await listen(helix, fake.channel())
    assert [socket.session_id for socket in fake.sockets()] == [line.session_id]
    await line.socket.close()
    await until(lambda: status(helix, found) == "websocket_disconnected", "disabled")
    listed = await helix.ask(
        "eventsub/subscriptions", token=fake.sign_in("ada", app=helix.app).access_token
    )
    assert (listed.json()["total_cost"], fake.sockets()) == (0, [])


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_reconnect_loses_nothing(helix: Caller, fake: FakeTwitch, keeps: bool) -> None:
    fake.set_knobs(reconnect_keeps_id=keeps)
    channel = fake.channel()
    old, (found,) = await listen(helix, channel)
    fake.reconnect_sockets(old.session_id)
    asked = await old.next()
    assert asked["metadata"]["message_type"] == "session_reconnect"
    session = asked["payload"]["session"]
    assert (session["id"], session["status"]) == (old.session_id, "reconnecting")
    channel.online(speed=0)
    # Until the new connection is welcomed, the old one is told.
    assert (await old.next())["metadata"]["message_type"] == "notification"
    socket = await websockets.connect(session["reconnect_url"], proxy=None)
    new = Line(socket, await receive(socket))
    assert (new.session_id == old.session_id) is keeps
    channel.announce("stream.online")
    told = await new.next()
    assert told["payload"]["subscription"]["id"] == found
    await old.socket.close()
    channel.announce("stream.online")
    assert (await new.next())["metadata"]["message_type"] == "notification"
    assert status(helix, found) == "enabled"
    await new.socket.close()


async def test_an_old_connection_that_stays_is_closed(helix: Caller, fake: FakeTwitch) -> None:
    fake.set_knobs(reconnect_grace_s=0.5)
    old, (found,) = await listen(helix, fake.channel())
    fake.reconnect_sockets()
    url = (await old.next())["payload"]["session"]["reconnect_url"]
    socket = await websockets.connect(url, proxy=None)
    await receive(socket)
    assert await old.closed_with() == 4004
    assert status(helix, found) == "enabled"
    again = await websockets.connect(url, proxy=None)
    with pytest.raises(ConnectionClosed):
        await again.recv()
    assert again.close_code == 4007
    await socket.close()


async def test_whoever_does_not_reconnect_has_lost(helix: Caller, fake: FakeTwitch) -> None:
    fake.set_knobs(reconnect_grace_s=0.05)
    line, (found,) = await listen(helix, fake.channel())
    fake.reconnect_sockets()
    assert await line.closed_with() == 4004
    await until(lambda: status(helix, found) == CODES[4004], "disabled")


async def test_a_welcome_that_never_comes(fake: FakeTwitch) -> None:
    fake.fault("eventsub.ws", "hang", count=1)
    url = fake.env["STREAMVAULT_TWITCH_EVENTSUB_WS_URL"]
    async with websockets.connect(url, proxy=None) as socket:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.recv(), 0.2)
    await (await dial(fake)).socket.close()


async def test_handshakes_that_fail(fake: FakeTwitch) -> None:
    url = fake.env["STREAMVAULT_TWITCH_EVENTSUB_WS_URL"]
    fake.fault("eventsub.ws", "status", status=503, count=1)
    with pytest.raises(InvalidStatus) as refused:
        await websockets.connect(url, proxy=None)
    assert refused.value.response.status_code == 503
    fake.fault("eventsub.ws", "reset", count=1)
    with pytest.raises((OSError, EOFError, websockets.InvalidMessage)):
        await websockets.connect(url, proxy=None)
    assert [call.status for call in fake.calls("eventsub.ws")] == [503, 0]


async def test_a_user_who_leaves_revokes_the_subscriptions(helix: Caller, fake: FakeTwitch) -> None:
    line, (found,) = await listen(helix, fake.channel())
    fake.disconnect("ada", app=helix.app)
    message = await line.next()
    assert message["metadata"]["message_type"] == "revocation"
    assert message["payload"]["subscription"]["id"] == found
    assert message["payload"]["subscription"]["status"] == "authorization_revoked"
    await line.socket.close()


async def test_notifications_can_be_dropped_and_doubled(helix: Caller, fake: FakeTwitch) -> None:
    channel = fake.channel()
    line, _ = await listen(helix, channel, "stream.online", "stream.offline")
    fake.disturb("drop", type="stream.online", transport="websocket")
    fake.disturb("duplicate", type="stream.offline")
    channel.online(speed=0)
    channel.offline()
    first, second = await line.next(), await line.next()
    assert first == second
    assert first["metadata"]["subscription_type"] == "stream.offline"
    await line.socket.close()
