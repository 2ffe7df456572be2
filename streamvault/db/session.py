"""The way to the database: one engine per process, one transaction per request or activity."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from streamvault.db.words import to_json
from streamvault.errors import DependencyUnavailable, SettingsError

log = logging.getLogger(__name__)

RECYCLE_S = 1800  # below the idle time-outs of common firewalls and poolers
POOL_TIMEOUT_S = 5  # a caller that waits longer is better served by a 503 and a retry
CONNECT_TIMEOUT_S = 5
COMMAND_TIMEOUT_S = 30  # every statement here is short; a longer one is a lost connection
CONNECT_TRIES = 10
CONNECT_PAUSE_S = 3.0

# SQLSTATE classes 28 (not let in) and 3D (no such database): waiting does not help.
REFUSED = ("28", "3D")


class Database:
    """A pool of connections; `begin()` is one transaction."""

    def __init__(
        self,
        url: str,
        pool_size: int = 20,
        max_overflow: int = 50,
        *,
        command_timeout_s: float | None = COMMAND_TIMEOUT_S,
    ) -> None:
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=max_overflow,
            pool_pre_ping=True,
            pool_recycle=RECYCLE_S,
            pool_timeout=POOL_TIMEOUT_S,
            # Bind values can hold titles and addresses; they stay out of error texts and logs.
            hide_parameters=True,
            json_serializer=to_json,
            connect_args={"timeout": CONNECT_TIMEOUT_S, "command_timeout": command_timeout_s},
        )

    async def connect(self) -> None:
        """Wait until the database answers: 10 tries, 3 s apart.

        Raises DependencyUnavailable when it never does, SettingsError when it refuses us."""
        for attempt in range(1, CONNECT_TRIES + 1):
            try:
                await self.ping()
            except DependencyUnavailable as error:
                log.warning("database not reachable", extra={"attempt": attempt, "why": str(error)})
                if attempt == CONNECT_TRIES:
                    raise
                await asyncio.sleep(CONNECT_PAUSE_S)
            else:
                return

    async def ping(self) -> None:
        """One round trip. Raises DependencyUnavailable, SettingsError."""
        async with self._connection() as connection:
            await connection.execute(text("SELECT 1"))

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        """A session in a transaction: commits at the end, rolls back on any exception.

        Raises DependencyUnavailable when the database cannot be reached or goes away meanwhile."""
        async with (
            self._connection() as connection,
            AsyncSession(connection, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    async def close(self) -> None:
        await self.engine.dispose()

    @property
    def connections_used(self) -> int:
        return self._pool.checkedout()

    @property
    def connections_allowed(self) -> int:
        return self._pool.size() + max(self._pool._max_overflow, 0)

    @property
    def _pool(self) -> AsyncAdaptedQueuePool:
        pool = self.engine.pool
        assert isinstance(pool, AsyncAdaptedQueuePool)
        return pool

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        try:
            connection = await self.engine.connect()
        # asyncpg lets the socket's own errors through unwrapped.
        except (OSError, PoolTimeout, DBAPIError) as error:
            raise _unreachable(error) from error
        try:
            yield connection
        except DBAPIError as error:
            if error.connection_invalidated:
                raise _unreachable(error) from error
            raise
        finally:
            await connection.close()


def _unreachable(
    error: OSError | PoolTimeout | DBAPIError,
) -> DependencyUnavailable | SettingsError:
    state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    if state.startswith(REFUSED):
        return SettingsError("STREAMVAULT_DATABASE_URL: the database refuses this user or name")
    if isinstance(error, PoolTimeout):
        return DependencyUnavailable(
            f"no free database connection within {POOL_TIMEOUT_S} s",
            hint="raise STREAMVAULT_DB_POOL_SIZE or look for slow queries",
        )
    return DependencyUnavailable("the database cannot be reached", hint="is PostgreSQL running?")
