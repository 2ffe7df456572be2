"""Storing messages while somebody waits for the answer.

Those that come during one commit share the next, so that a thousand streamers going live at once
cost few commits; and a commit is one round trip, since in a flood of forged messages each wait for
the database is a turn behind all of them. It keeps a connection of its own: other work may hold all
of the pool.
"""

from __future__ import annotations

import asyncio
import logging
import time

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from streamvault.db import inbox
from streamvault.db.inbox import NewMessage
from streamvault.db.session import Database
from streamvault.errors import DependencyUnavailable

log = logging.getLogger(__name__)

# Twitch waits "a few seconds"; it is told to come back within three.
STORED_WITHIN_S = 2.0
STATEMENT_S = 3.0
BATCH = 100
MOST_WAITING = 2_000
# Routers forget a connection that was idle for longer.
IDLE_S = 240.0

Waiting = tuple[NewMessage, asyncio.Future[bool]]


class InboxWriter:
    def __init__(self, url: str) -> None:
        self._db = Database(url, pool_size=1, max_overflow=0, command_timeout_s=STATEMENT_S)
        self._connection: AsyncConnection | None = None
        self._used_at = 0.0
        self._waiting: list[Waiting] = []
        self._writing: asyncio.Task[None] | None = None

    async def store(self, message: NewMessage) -> bool:
        """Whether it is new, once it is safe on disk.

        Raises DependencyUnavailable after 2 s at most; it may come to be stored all the same."""
        if len(self._waiting) >= MOST_WAITING:
            raise DependencyUnavailable("too many messages wait for the database")
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((message, stored))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        try:
            async with asyncio.timeout(STORED_WITHIN_S):
                return await stored
        except TimeoutError:
            raise DependencyUnavailable("the database does not answer in time") from None

    async def close(self) -> None:
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=STATEMENT_S)
        await self._drop()
        await self._db.close()

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                # Nobody waits any more for what took too long: it was answered, and comes again.
                if wanted := [entry for entry in batch if not entry[1].done()]:
                    await self._write_batch(wanted)
        finally:
            self._writing = None

    async def _write_batch(self, batch: list[Waiting]) -> None:
        try:
            new = await self._store([message for message, _ in batch])
        # asyncpg's time-outs come unwrapped. A full disk or a read-only server is no fault of the
        # messages either.
        except (SQLAlchemyError, OSError) as error:
            log.warning("messages not stored", extra={"count": len(batch), "why": str(error)})
            await self._drop()
            failure = DependencyUnavailable("the message cannot be stored")
            for _, stored in batch:
                if not stored.done():
                    stored.set_exception(failure)
            return
        for message, stored in batch:
            if not stored.done():
                stored.set_result(message.message_id in new)
            new.discard(message.message_id)

    async def _store(self, messages: list[NewMessage]) -> set[str]:
        try:
            return await inbox.store_all(await self._open(), messages)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        # A connection says only now that it died while nobody used it.
        await self._drop()
        return await inbox.store_all(await self._open(), messages)

    async def _open(self) -> AsyncConnection:
        """The connection, each of whose statements is a transaction."""
        now = time.monotonic()
        if now - self._used_at > IDLE_S:
            await self._drop()
        if self._connection is None:
            fresh = await self._db.engine.connect()
            self._connection = await fresh.execution_options(isolation_level="AUTOCOMMIT")
        self._used_at = now
        return self._connection

    async def _drop(self) -> None:
        gone, self._connection = self._connection, None
        if gone is not None:
            await gone.invalidate()
            await gone.close()
