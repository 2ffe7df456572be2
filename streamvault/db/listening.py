"""Hearing PostgreSQL's NOTIFY. Only a hint that something is there: whoever listens also looks."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from asyncpg import InterfaceError, PostgresError
from sqlalchemy.exc import SQLAlchemyError

from streamvault.db.session import Database

log = logging.getLogger(__name__)

AGAIN_AFTER_S = 2.0


async def listen(db: Database, channel: str, heard: asyncio.Event) -> None:
    """Set `heard` at each NOTIFY and after each new connection, until cancelled.

    Keeps one connection of the pool."""
    while True:
        try:
            await _listen_once(db, channel, heard)
        except (SQLAlchemyError, PostgresError, InterfaceError, OSError) as error:
            log.warning("not listening to the database", extra={"why": str(error)})
        await asyncio.sleep(AGAIN_AFTER_S)


async def _listen_once(db: Database, channel: str, heard: asyncio.Event) -> None:
    """Until the connection is lost."""
    async with db.engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        lost = asyncio.Event()
        driver.add_termination_listener(lambda _: lost.set())
        try:
            await driver.add_listener(channel, lambda *_: heard.set())
            # Whatever was told while nobody listened is there already.
            heard.set()
            await lost.wait()
        finally:
            # The pool must not hand out a connection that still listens.
            await connection.invalidate()
