"""The stored proxies as recorders and detection use them: opened, in order, looked through."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from streamvault.contracts import ProxyPolicy
from streamvault.db import models, proxies
from streamvault.db.session import Database
from streamvault.errors import FetchFailed, SecretUnreadable, StreamVaultError
from streamvault.playback.proxies import Proxy, ProxyPool
from streamvault.settings import Settings
from streamvault.source import Playback, Wish

if TYPE_CHECKING:
    from streamvault.secrets import Keyring

log = logging.getLogger(__name__)

READ_EVERY_S = 10.0
FIRST_READ_S = 3.0
"""A capture that goes on does not wait longer for the database."""
CHECK_DUE_EVERY_S = 5.0
CHECK_EVERY = timedelta(seconds=60)
CHECK_URL = "https://usher.ttvnw.net/"
"""Whatever it answers: the way there and back is what counts."""

Look = Callable[[str, str], Awaitable[None]]
"""(address, proxy) to an answer of any kind. Raises FetchFailed; with a status it was an answer."""


class ProxyBook:
    """Read again when a question comes that it is needed for, so that nothing is asked of the
    database while nobody uses proxies."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self._settings = settings
        self._keyring: Keyring | None = None
        self._stored: tuple[Proxy, ...] | None = None
        self._read_at = 0.0
        url = settings.proxy_url
        self._fixed = (Proxy("env", url, "STREAM_PROXY"),) if url else ()
        self.pool = ProxyPool(self.known, settings.default_proxy_policy)

    def known(self) -> Sequence[Proxy] | None:
        """That of the setting first; None while nothing is known of the stored ones."""
        if self._stored is None:
            return self._fixed or None
        return self._fixed + self._stored

    async def prepare(self, wish: Wish) -> None:
        """Before a question is asked by way of them. With the database away what was known stays;
        a recorder that knows none waits under `proxy-only`."""
        policy = wish.proxy_policy or self._settings.default_proxy_policy
        if policy == ProxyPolicy.DIRECT or time.monotonic() - self._read_at < READ_EVERY_S:
            return
        try:
            await self.refresh()
        except (StreamVaultError, SQLAlchemyError) as error:
            log.warning("proxies not read", extra={"why": str(error)})

    # ---- hls.order.Routes

    def failed(self, proxy_id: str, why: str) -> None:
        self.pool.failed(proxy_id, why)

    async def readdressed(self, playback: Playback, wish: Wish) -> Playback | None:
        """As the pool's, also in a process that has just started."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_READ_S):
                await self.prepare(wish)
        return await self.pool.readdressed(playback, wish)

    # ---- health

    async def keep_checking(self, look: Look) -> None:
        """Look through those that are due, until cancelled."""
        while True:
            try:
                rows = await self.refresh()
                await asyncio.gather(*(self._check(look, row) for row in _due(rows)))
            except (StreamVaultError, SQLAlchemyError) as error:
                log.warning("proxies not checked", extra={"why": str(error)})
            await asyncio.sleep(CHECK_DUE_EVERY_S)

    async def refresh(self) -> Sequence[models.Proxy]:
        """Read the list. Raises DependencyUnavailable."""
        async with self._db.begin() as session:
            rows = await proxies.list_proxies(session)
        opened = [await self._open(row) for row in rows if row.enabled]
        self._stored = tuple(proxy for proxy in opened if proxy is not None)
        self._read_at = time.monotonic()
        return rows

    async def _open(self, row: models.Proxy) -> Proxy | None:
        """None: the key does not open it; the others are used all the same."""
        try:
            if self._keyring is None:
                self._keyring = await asyncio.to_thread(_load, self._settings)
            url = self._keyring.open(f"proxies.{row.id}", row.sealed)
        except SecretUnreadable as error:
            if row.error != error.one_line:
                await self._note(row, ok=False, error=error.one_line)
            return None
        streamer_id = str(row.streamer_id) if row.streamer_id else ""
        return Proxy(str(row.id), url, row.name, streamer_id, ok=row.ok is not False)

    async def _check(self, look: Look, row: models.Proxy) -> None:
        url = self.pool.address_of(str(row.id))
        if url is None:
            return
        began = time.monotonic()
        try:
            await look(CHECK_URL, url)
        except FetchFailed as error:
            if not error.status or error.by_proxy:
                self.pool.failed(str(row.id), str(error))
                await self._note(row, ok=False, error=str(error))
                return
        latency_ms = round(1000 * (time.monotonic() - began))
        self.pool.worked(str(row.id))
        await self._note(row, ok=True, latency_ms=latency_ms)

    async def _note(
        self, row: models.Proxy, *, ok: bool, latency_ms: int | None = None, error: str = ""
    ) -> None:
        async with self._db.begin() as session:
            await proxies.note_check(session, row.id, ok=ok, latency_ms=latency_ms, error=error)


def _load(settings: Settings) -> Keyring:
    from streamvault.secrets import load_keyring  # noqa: PLC0415  # memory of those who need it

    return load_keyring(settings)


def _due(rows: Sequence[models.Proxy]) -> list[models.Proxy]:
    before = datetime.now(UTC) - CHECK_EVERY
    return [row for row in rows if row.enabled and (not row.checked_at or row.checked_at < before)]
