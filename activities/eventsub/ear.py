"""Hearing EventSub through the WebSocket: who we are there, and every message into the inbox."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from streamvault.db import inbox
from streamvault.db.inbox import NewMessage
from streamvault.db.session import Database
from streamvault.errors import DependencyUnavailable
from streamvault.metrics.eventsub import EventSubFigures
from streamvault.twitch.eventsub import Kind, Message
from streamvault.twitch.frames import Welcome
from streamvault.twitch.websocket import Event, EventSubSocket, Lost

log = logging.getLogger(__name__)

STORED_AT_ONCE = 100
STORE_AGAIN_S = 1.0
LAST_WORDS_S = 5.0


@dataclass
class Ear:
    """`changed` is told of each new session and of each loss."""

    db: Database
    socket: EventSubSocket
    figures: EventSubFigures
    changed: Callable[[Event], Awaitable[None]]
    session_id: str = ""
    """Empty while no socket is welcomed."""
    lost: str = ""
    """Why, in words."""
    heard_at: datetime | None = None
    _listening: asyncio.Task[None] | None = None
    _waiting: list[NewMessage] = field(default_factory=list)
    _some: asyncio.Event = field(default_factory=asyncio.Event)

    def connect(self, source: str) -> None:
        """Unless it is done already. `source` is what the messages are said to come from.

        Raises whatever ended it, which is never Twitch's doing."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen(source))
        elif self._listening.done():
            self._listening.result()

    async def disconnect(self) -> None:
        """Nothing that was heard is lost, as long as the database is there."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            await asyncio.wait({listening})
        self.session_id = self.lost = ""

    async def _listen(self, source: str) -> None:
        events: asyncio.Queue[Event] = asyncio.Queue()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.socket.run(events))
                group.create_task(self._sort_all(events, source))
                group.create_task(self._store_all())
        finally:
            while not events.empty():
                self._sort(events.get_nowait(), source)
            with suppress(TimeoutError, DependencyUnavailable):
                async with asyncio.timeout(LAST_WORDS_S):
                    await self._store_waiting()

    async def _sort_all(self, events: asyncio.Queue[Event], source: str) -> None:
        while True:
            event = await events.get()
            self._sort(event, source)
            if not isinstance(event, Message):
                await self.changed(event)

    def _sort(self, event: Event, source: str) -> None:
        match event:
            case Message():
                self.heard_at = datetime.now(UTC)
                self._waiting.append(_row(event, source))
                self._some.set()
            case Welcome(session_id=session_id):
                self.session_id, self.lost = session_id, ""
            case Lost(note=note):
                self.session_id, self.lost = "", note

    async def _store_all(self) -> None:
        """Apart from the reading: while the database is away, the socket has to be looked after."""
        while True:
            await self._some.wait()
            try:
                await self._store_waiting()
            except DependencyUnavailable as error:
                log.warning("messages wait for the database", extra={"why": error.one_line})
                await asyncio.sleep(STORE_AGAIN_S)

    async def _store_waiting(self) -> None:
        """Raises DependencyUnavailable; then they go on waiting."""
        while batch := self._waiting[:STORED_AT_ONCE]:
            async with self.db.begin() as session:
                new = await inbox.store_all(session, batch)
            del self._waiting[: len(batch)]
            for message in batch:
                is_new = message.message_id in new
                self.figures.note(_type_of(message), "accepted" if is_new else "duplicate")
        self._some.clear()


def _row(message: Message, source: str) -> NewMessage:
    return NewMessage(
        message_id=message.id,
        source=source,
        kind=message.kind,
        type=message.type,
        subscription_id=message.subscription_id,
        sent_at=message.sent_at,
        payload=message.payload,
    )


def _type_of(message: NewMessage) -> str:
    return message.type if message.kind == Kind.NOTIFICATION else message.kind
