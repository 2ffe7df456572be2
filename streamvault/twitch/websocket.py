"""EventSub over a WebSocket: one connection after another, as one queue of events.

It says nothing itself, since Twitch closes a socket on which anything but a Pong arrives.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from ssl import SSLContext
from typing import Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from streamvault.errors import InvalidInput
from streamvault.twitch.backoff import doubled_s
from streamvault.twitch.eventsub import Message
from streamvault.twitch.frames import Other, Reconnect, Welcome, read_frame
from streamvault.twitch.losses import (
    OUR_BUGS,
    Cause,
    Ended,
    NoSocket,
    ended,
    ended_by,
    name_of,
    no_socket,
)
from streamvault.twitch.trust import open_trust

log = logging.getLogger(__name__)

KEEPALIVE_S = 10  # the least that Twitch offers: a dead socket is noticed soonest
WELCOME_S = 10.0
LONGEST_PAUSE_S = 120.0
STEADY_S = 60.0  # a socket that lived so long owes nothing to the failures before it
CLOSING_S = 2.0
LARGEST_MESSAGE = 1 << 20


@dataclass(frozen=True, slots=True)
class Lost:
    """No socket is left. The next one is opened in `again_in_s`."""

    cause: Cause
    note: str
    again_in_s: float


Event = Welcome | Message | Lost


class Watcher(Protocol):
    """Told what becomes of the socket; `streamvault.metrics.websocket` counts it."""

    def note_connected(self, connected: bool) -> None: ...

    def note_replaced(self, cause: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the socket waits for what, in seconds."""

    welcome_s: float = WELCOME_S
    first_pause_s: float = 1.0
    longest_pause_s: float = LONGEST_PAUSE_S
    steady_s: float = STEADY_S
    slack: float = 1.2
    """So many times the keepalive without a message, and the socket counts as dead."""

    def pause_s(self, failures: int, draw: Callable[[], float] = random.random) -> float:
        """Between half and all of the doubled pause."""
        whole = doubled_s(failures, self.longest_pause_s, self.first_pause_s)
        return whole * (0.5 + draw() / 2)


class EventSubSocket:
    def __init__(
        self,
        url: str,
        watcher: Watcher,
        *,
        ca_bundle: Path | None = None,
        keepalive_s: int = KEEPALIVE_S,
        patience: Patience | None = None,
    ) -> None:
        self._url = _with_keepalive(url, keepalive_s)
        self._watcher = watcher
        self._ca_bundle = ca_bundle
        self._trust: SSLContext | None = None
        self._keepalive_s = float(keepalive_s)
        self._patience = patience or Patience()
        self._leaving: set[asyncio.Task[None]] = set()

    async def run(self, events: asyncio.Queue[Event]) -> None:
        """Put everything that happens into `events`, until cancelled."""
        failures = 0
        try:
            while True:
                began = time.monotonic()
                ended = await self._one_life(events)
                lived_s = time.monotonic() - began
                failures = 1 if lived_s >= self._patience.steady_s else failures + 1
                await self._pause(ended, failures, events)
        finally:
            self._watcher.note_connected(False)
            for task in self._leaving:
                task.cancel()
            if self._leaving:
                await asyncio.wait(self._leaving)

    async def _pause(self, ended: Ended, failures: int, events: asyncio.Queue[Event]) -> None:
        lost = Lost(ended.cause, ended.note, self._patience.pause_s(failures))
        self._watcher.note_connected(False)
        self._watcher.note_replaced(lost.cause)
        log.log(
            logging.ERROR if lost.cause in OUR_BUGS else logging.WARNING,
            "EventSub socket lost",
            extra={"cause": str(lost.cause), "note": lost.note, "again_in_s": lost.again_in_s},
        )
        events.put_nowait(lost)
        await asyncio.sleep(lost.again_in_s)

    async def _one_life(self, events: asyncio.Queue[Event]) -> Ended:
        """From a connection to the loss of the last one that followed it without a gap."""
        try:
            connection = await self._open(self._url)
        except NoSocket as error:
            return error.ended
        events.put_nowait(connection.welcome)
        self._watcher.note_connected(True)
        while True:
            outcome = await self._live(connection, events)
            if isinstance(outcome, Ended):
                return outcome
            connection = outcome

    async def _live(
        self, connection: _Connection, events: asyncio.Queue[Event]
    ) -> _Connection | Ended:
        """Read until the connection ends, or until another one has taken its place."""
        reading = asyncio.create_task(self._read(connection, events))
        moving = asyncio.create_task(self._follow(connection))
        try:
            await asyncio.wait({reading, moving}, return_when=asyncio.FIRST_COMPLETED)
            if not moving.done() and connection.next_url.done():
                # Twitch may close the old one the moment the new one stands.
                await asyncio.wait({moving}, timeout=self._patience.welcome_s)
            if not moving.done():
                return reading.result()
            successor = moving.result()
            events.put_nowait(replace(successor.welcome, carried=True))
            self._watcher.note_replaced(Cause.ASKED)
            self._leave(connection, reading)
            return successor
        finally:
            await self._end_tasks(connection, reading, moving)

    async def _end_tasks(
        self,
        connection: _Connection,
        reading: asyncio.Task[Ended],
        moving: asyncio.Task[_Connection],
    ) -> None:
        moving.cancel()
        if connection.left:
            return
        reading.cancel()
        await asyncio.wait({reading, moving})
        await connection.socket.close()
        if not moving.cancelled():
            # It came to stand just when nobody wanted it any more.
            await moving.result().socket.close()

    def _leave(self, connection: _Connection, reading: asyncio.Task[Ended]) -> None:
        """Close it and read what was on its way meanwhile."""
        connection.left = True
        task = asyncio.create_task(self._read_out(connection, reading))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _read_out(self, connection: _Connection, reading: asyncio.Task[Ended]) -> None:
        try:
            await connection.socket.close()
            await reading
        finally:
            reading.cancel()

    async def _follow(self, connection: _Connection) -> _Connection:
        """The connection that Twitch asks for; tried again for as long as the old one stands."""
        url = await connection.next_url
        failures = 0
        while True:
            try:
                return await self._open(url)
            except NoSocket as error:
                failures += 1
                log.warning("EventSub reconnect failed", extra={"note": error.ended.note})
            await asyncio.sleep(self._patience.pause_s(failures))

    # ---- one connection

    async def _open(self, url: str) -> _Connection:
        """A welcomed connection. Raises NoSocket."""
        try:
            socket = await connect(
                url,
                ssl=self._trusted() if url.startswith("wss:") else None,
                proxy=None,
                compression=None,
                user_agent_header=None,
                open_timeout=self._patience.welcome_s,
                close_timeout=CLOSING_S,
                ping_interval=None,
                max_size=LARGEST_MESSAGE,
            )
        except InvalidStatus as error:
            raise no_socket(Cause.UNREACHABLE, f"HTTP {error.response.status_code}") from None
        except (OSError, TimeoutError, WebSocketException, ValueError) as error:
            raise no_socket(Cause.UNREACHABLE, name_of(error)) from None
        try:
            async with asyncio.timeout(self._patience.welcome_s):
                return _Connection(socket, await _welcome(socket))
        except TimeoutError:
            await socket.close()
            raise no_socket(Cause.NO_WELCOME) from None
        except ConnectionClosed as error:
            raise NoSocket(ended_by(error)) from None
        except asyncio.CancelledError:
            await socket.close()
            raise

    def _trusted(self) -> SSLContext:
        # Costs some milliseconds and megabytes, which only a socket is worth.
        self._trust = self._trust or open_trust(self._ca_bundle)
        return self._trust

    async def _read(self, connection: _Connection, events: asyncio.Queue[Event]) -> Ended:
        """Until the connection ends; silence ends it too."""
        keepalive_s = connection.welcome.keepalive_s or self._keepalive_s
        while True:
            try:
                async with asyncio.timeout(keepalive_s * self._patience.slack):
                    text = await connection.socket.recv()
            except TimeoutError:
                return ended(Cause.SILENCE)
            except ConnectionClosed as error:
                return ended_by(error)
            _take(text, connection, events)


@dataclass(slots=True, eq=False)
class _Connection:
    socket: ClientConnection
    welcome: Welcome
    next_url: asyncio.Future[str] = field(default_factory=asyncio.Future)
    left: bool = False


async def _welcome(socket: ClientConnection) -> Welcome:
    while True:
        text = await socket.recv()
        try:
            frame = read_frame(text)
        except InvalidInput:
            continue
        if isinstance(frame, Welcome):
            return frame


def _take(text: str | bytes, connection: _Connection, events: asyncio.Queue[Event]) -> None:
    try:
        frame = read_frame(text)
    except InvalidInput as error:
        log.warning("EventSub message not understood", extra={"why": str(error)})
        return
    match frame:
        case Message():
            events.put_nowait(frame)
        case Reconnect(url=url) if url and not connection.next_url.done():
            connection.next_url.set_result(url)
        case Other(kind=kind) if kind != "session_keepalive":
            log.info("EventSub message of an unknown kind", extra={"kind": kind[:50]})


def _with_keepalive(url: str, keepalive_s: int) -> str:
    parts = urlsplit(url)
    query = [(k, v) for k, v in parse_qsl(parts.query) if k != "keepalive_timeout_seconds"]
    query.append(("keepalive_timeout_seconds", str(keepalive_s)))
    return urlunsplit(parts._replace(query=urlencode(query)))
