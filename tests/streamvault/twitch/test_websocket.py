"""The socket against a server of the `websockets` library that does what the test says."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from streamvault.metrics.websocket import CAUSES, SocketFigures
from streamvault.twitch.eventsub import Message
from streamvault.twitch.frames import Welcome
from streamvault.twitch.losses import Cause
from streamvault.twitch.websocket import Event, EventSubSocket, Lost, Patience

# Only a test that fails waits this long.
PATIENCE_S = 20
QUICK = Patience(welcome_s=0.5, first_pause_s=0.02, longest_pause_s=0.05)
CODES = range(4000, 4008)


def frame(kind: str, payload: dict[str, Any], **metadata: str) -> str:
    envelope = {
        "metadata": {
            "message_id": str(uuid.uuid4()),
            "message_type": kind,
            "message_timestamp": "2026-01-02T03:04:05.123456789Z",
            **metadata,
        },
        "payload": payload,
    }
    return json.dumps(envelope)


def welcome(session_id: str, keepalive_s: int | None = 10) -> str:
    """As seen in March 2025: with a field that the documentation does not have."""
    session = {
        "id": session_id,
        "status": "connected",
        "keepalive_timeout_seconds": keepalive_s,
        "reconnect_url": None,
        "recovery_url": None,
    }
    return frame("session_welcome", {"session": session})


def online(message_id: str) -> str:
    payload = {
        "subscription": {
            "id": "s1",
            "type": "stream.online",
            "version": "1",
            "condition": {"broadcaster_user_id": "7"},
        },
        "event": {"id": "9", "broadcaster_user_id": "7", "type": "live"},
    }
    return frame("notification", payload, message_id=message_id)


def keepalive() -> str:
    return frame("session_keepalive", {})


def reconnect(url: str) -> str:
    return frame("session_reconnect", {"session": {"id": "old", "reconnect_url": url}})


Play = Callable[[ServerConnection, int], Any]


@dataclass
class Twitch:
    """Plays `play(connection, number)` for each connection; keeps what clients sent."""

    play: Play
    server: Server | None = None
    paths: list[str] = field(default_factory=list)
    inbound: list[str | bytes] = field(default_factory=list)
    open: list[ServerConnection] = field(default_factory=list)

    async def handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.paths.append(connection.request.path)
        self.open.append(connection)
        try:
            await self.play(connection, len(self.open))
            while True:
                self.inbound.append(await connection.recv())
        except ConnectionClosed:
            pass

    @property
    def url(self) -> str:
        assert self.server is not None
        host, port = next(iter(self.server.sockets)).getsockname()[:2]
        return f"ws://{host}:{port}/ws"


@dataclass
class Client:
    events: asyncio.Queue[Event]
    registry: CollectorRegistry

    async def next(self) -> Event:
        async with asyncio.timeout(PATIENCE_S):
            return await self.events.get()

    async def welcomed(self) -> Welcome:
        event = await self.next()
        assert isinstance(event, Welcome), event
        return event

    async def lost(self) -> Lost:
        event = await self.next()
        assert isinstance(event, Lost), event
        return event

    async def heard(self) -> str:
        event = await self.next()
        assert isinstance(event, Message), event
        return event.id

    def figure(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"t_{name}", labels) or 0.0


@asynccontextmanager
async def twitch(play: Play) -> AsyncIterator[Twitch]:
    fake = Twitch(play)
    async with serve(fake.handle, "127.0.0.1", 0, ping_interval=None) as fake.server:
        yield fake


@asynccontextmanager
async def client(
    url: str, patience: Patience = QUICK, keepalive_s: int = 10
) -> AsyncIterator[Client]:
    registry = CollectorRegistry()
    figures = SocketFigures(registry, "t_")
    socket = EventSubSocket(url, figures, keepalive_s=keepalive_s, patience=patience)
    events: asyncio.Queue[Event] = asyncio.Queue()
    running = asyncio.create_task(socket.run(events))
    try:
        yield Client(events, registry)
    finally:
        running.cancel()
        await asyncio.wait({running}, timeout=PATIENCE_S)
        assert running.cancelled()


async def test_the_welcome_comes_first_then_the_messages() -> None:
    async def play(connection: ServerConnection, _: int) -> None:
        await connection.send(welcome("one"))
        await connection.send(keepalive())
        await connection.send(online("m1"))
        await connection.send("not JSON")
        await connection.send(frame("of_tomorrow", {}))
        await connection.send(online("m2"))

    async with twitch(play) as server, client(server.url) as heard:
        assert await heard.welcomed() == Welcome("one", 10.0)
        assert [await heard.heard(), await heard.heard()] == ["m1", "m2"]
        assert heard.figure("eventsub_ws_connected") == 1
        assert server.paths == ["/ws?keepalive_timeout_seconds=10"]


async def test_a_message_is_typed_and_its_time_aware() -> None:
    async def play(connection: ServerConnection, _: int) -> None:
        await connection.send(welcome("one"))
        await connection.send(online("m1"))

    async with twitch(play) as server, client(server.url) as heard:
        await heard.welcomed()
        message = await heard.next()
        assert isinstance(message, Message)
        assert (message.kind, message.type, message.subscription_id) == (
            "notification",
            "stream.online",
            "s1",
        )
        assert message.sent_at.isoformat() == "2026-01-02T03:04:05.123456+00:00"
        assert message.payload["event"]["id"] == "9"


@pytest.mark.parametrize("code", CODES)
async def test_every_close_code_is_told_counted_and_followed_by_a_new_socket(code: int) -> None:
    async def play(connection: ServerConnection, number: int) -> None:
        await connection.send(welcome(f"session {number}"))
        if number == 1:
            await connection.close(code, "as Twitch says")

    async with twitch(play) as server, client(server.url) as heard:
        assert (await heard.welcomed()).session_id == "session 1"
        lost = await heard.lost()
        assert lost.cause == Cause(str(code))
        assert f"closed with {code}: as Twitch says" in lost.note
        again = await heard.welcomed()
        assert (again.session_id, again.carried) == ("session 2", False)
        assert heard.figure("eventsub_ws_reconnects_total", code=str(code)) == 1


async def test_a_code_that_nobody_knows_is_counted_as_other() -> None:
    async def play(connection: ServerConnection, number: int) -> None:
        await connection.send(welcome(f"session {number}"))
        if number == 1:
            await connection.close(4321)

    async with twitch(play) as server, client(server.url) as heard:
        await heard.welcomed()
        assert await heard.lost() and await heard.welcomed()
        assert heard.figure("eventsub_ws_reconnects_total", code="other") == 1


async def test_a_broken_connection_is_1006() -> None:
    async def play(connection: ServerConnection, number: int) -> None:
        await connection.send(welcome(f"session {number}"))
        if number == 1:
            connection.transport.abort()

    async with twitch(play) as server, client(server.url) as heard:
        await heard.welcomed()
        assert (await heard.lost()).cause == Cause.ABNORMAL
        await heard.welcomed()


async def test_silence_for_more_than_the_keepalive_and_a_fifth_is_a_loss() -> None:
    async def play(connection: ServerConnection, number: int) -> None:
        await connection.send(welcome(f"session {number}", keepalive_s=1))

    loop = asyncio.get_running_loop()
    async with twitch(play) as server, client(server.url) as heard:
        await heard.welcomed()
        began = loop.time()
        assert (await heard.lost()).cause == Cause.SILENCE
        assert 1.2 <= loop.time() - began < 1.2 * 5
        await heard.welcomed()


async def test_keepalives_keep_a_socket_on_which_nothing_happens() -> None:
    async def play(connection: ServerConnection, _: int) -> None:
        await connection.send(welcome("one", keepalive_s=1))
        for _ in range(8):
            await asyncio.sleep(0.25)
            await connection.send(keepalive())
        await connection.send(online("m1"))

    async with twitch(play) as server, client(server.url) as heard:
        await heard.welcomed()
        assert await heard.heard() == "m1"
        assert len(server.open) == 1


async def test_a_welcome_that_never_comes_is_given_up() -> None:
    async def play(connection: ServerConnection, number: int) -> None:
        if number == 1:
            await connection.send(keepalive())
        else:
            await connection.send(welcome("second"))

    async with twitch(play) as server, client(server.url) as heard:
        lost = await heard.lost()
        assert (lost.cause, lost.note) == (
            Cause.NO_WELCOME,
            "Twitch did not welcome the connection in time",
        )
        assert (await heard.welcomed()).session_id == "second"
        assert heard.figure("eventsub_ws_connected") == 1


async def test_a_server_that_is_not_there_is_asked_again_and_again() -> None:
    async with client("ws://127.0.0.1:9/ws?session=canary") as heard:
        for _ in range(3):
            lost = await heard.lost()
            assert lost.cause == Cause.UNREACHABLE
            assert "canary" not in lost.note
        assert heard.figure("eventsub_ws_connected") == 0


async def test_a_refused_upgrade_names_the_status() -> None:
    async with serve(
        lambda _: asyncio.sleep(0),
        "127.0.0.1",
        0,
        process_request=lambda connection, _: connection.respond(503, "not now"),
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with client(f"ws://127.0.0.1:{port}/ws") as heard:
            assert "HTTP 503" in (await heard.lost()).note


async def test_nothing_is_ever_sent() -> None:
    async def play(connection: ServerConnection, _: int) -> None:
        await connection.send(welcome("one"))
        pong = await connection.ping()
        await pong
        await connection.send(online("m1"))
        await asyncio.sleep(0.3)

    async with twitch(play) as server, client(server.url) as heard:
        await heard.welcomed()
        await heard.heard()
        assert server.inbound == []


# ---- reconnect


async def test_a_reconnect_loses_nothing_that_comes_on_either_socket() -> None:
    ready = asyncio.Event()
    first: list[ServerConnection] = []

    async def play(connection: ServerConnection, number: int) -> None:
        if number == 1:
            first.append(connection)
            await connection.send(welcome("one"))
            await connection.send(reconnect(f"{server.url}?moved=1"))
            await ready.wait()
            return
        # Between the new socket and its welcome the old one still delivers.
        await first[0].send(online("old-1"))
        await asyncio.sleep(0.1)
        await connection.send(welcome("one"))
        await connection.send(online("new-1"))
        # Sent before the old socket's closing is answered.
        await first[0].send(online("old-2"))
        ready.set()

    async with twitch(play) as server, client(server.url) as heard:
        assert not (await heard.welcomed()).carried
        events = [await heard.next() for _ in range(4)]
        carried = [event for event in events if isinstance(event, Welcome)]
        assert carried == [Welcome("one", 10.0, carried=True)]
        ids = {event.id for event in events if isinstance(event, Message)}
        assert ids == {"old-1", "old-2", "new-1"}
        assert server.paths[1] == "/ws?moved=1"
        assert heard.figure("eventsub_ws_reconnects_total", code="asked") == 1
        assert heard.figure("eventsub_ws_connected") == 1
        async with asyncio.timeout(PATIENCE_S):
            await first[0].wait_closed()


async def test_the_old_socket_may_be_closed_as_soon_as_the_new_one_is_there() -> None:
    first: list[ServerConnection] = []

    async def play(connection: ServerConnection, number: int) -> None:
        if number == 1:
            first.append(connection)
            await connection.send(welcome("one"))
            await connection.send(reconnect(f"{server.url}?moved=1"))
            return
        await first[0].close(4004)
        await asyncio.sleep(0.1)
        await connection.send(welcome("one"))
        await connection.send(online("m1"))

    async with twitch(play) as server, client(server.url) as heard:
        await heard.welcomed()
        assert (await heard.welcomed()).carried
        assert await heard.heard() == "m1"
        assert len(server.open) == 2


async def test_a_reconnect_that_leads_nowhere_goes_on_with_the_old_socket_until_that_ends() -> None:
    async def play(connection: ServerConnection, number: int) -> None:
        await connection.send(welcome(f"session {number}"))
        if number == 1:
            await connection.send(reconnect("ws://127.0.0.1:9/ws"))
            await asyncio.sleep(0.2)
            await connection.send(online("m1"))
            await connection.close(4004, "grace expired")

    async with twitch(play) as server, client(server.url) as heard:
        await heard.welcomed()
        assert await heard.heard() == "m1"
        assert (await heard.lost()).cause == Cause.GRACE_EXPIRED
        again = await heard.welcomed()
        assert (again.session_id, again.carried) == ("session 2", False)


async def test_leaving_closes_every_socket() -> None:
    async def play(connection: ServerConnection, number: int) -> None:
        await connection.send(welcome(f"session {number}"))
        if number == 1:
            await connection.send(reconnect(server.url))

    async with twitch(play) as server:
        async with client(server.url) as heard:
            await heard.welcomed()
            await heard.welcomed()
        async with asyncio.timeout(PATIENCE_S):
            for connection in server.open:
                await connection.wait_closed()
        assert heard.figure("eventsub_ws_connected") == 0


def test_every_cause_has_its_series_from_the_start() -> None:
    assert set(CAUSES) == {str(cause) for cause in Cause}


# ---- pauses


@pytest.mark.parametrize(
    ("failures", "least", "most"),
    [(1, 0.5, 1), (2, 1, 2), (3, 2, 4), (7, 32, 64), (8, 60, 120), (9, 60, 120), (500, 60, 120)],
)
def test_the_pause_doubles_from_1_to_120_s_with_jitter(
    failures: int, least: float, most: float
) -> None:
    patience = Patience()
    assert patience.pause_s(failures, lambda: 0.0) == least
    assert patience.pause_s(failures, lambda: 1.0) == most
    assert least <= patience.pause_s(failures) <= most


async def test_a_server_that_closes_at_once_is_asked_ever_less_often() -> None:
    async def play(connection: ServerConnection, number: int) -> None:
        await connection.send(welcome(f"session {number}"))
        await connection.close(4003)

    patience = Patience(welcome_s=0.5, first_pause_s=0.01, longest_pause_s=0.08)
    async with twitch(play) as server, client(server.url, patience) as heard:
        pauses = []
        for _ in range(5):
            await heard.welcomed()
            pauses.append((await heard.lost()).again_in_s)
    wholes = [0.01, 0.02, 0.04, 0.08, 0.08]
    assert all(w / 2 <= pause <= w for w, pause in zip(wholes, pauses, strict=True))


async def test_a_socket_that_lived_long_starts_over_with_the_shortest_pause() -> None:
    async def play(connection: ServerConnection, number: int) -> None:
        await connection.send(welcome(f"session {number}"))
        await asyncio.sleep(0.3 if number == 4 else 0)
        await connection.close(4000)

    patience = Patience(welcome_s=0.5, first_pause_s=0.01, longest_pause_s=9, steady_s=0.25)
    async with twitch(play) as server, client(server.url, patience) as heard:
        pauses = []
        for _ in range(4):
            await heard.welcomed()
            pauses.append((await heard.lost()).again_in_s)
    assert pauses[2] >= 0.02
    assert pauses[3] <= 0.01
