"""The browser token for whoever asks the player: known without waiting for the database."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotInTime
from time import monotonic

from streamvault.db import credentials
from streamvault.db.session import Database
from streamvault.errors import DependencyUnavailable, SecretUnreadable, SettingsError
from streamvault.settings import Settings

log = logging.getLogger(__name__)

NAME = "browser_token"
PLACE = f"credentials.{NAME}"
# A new token is in use within a minute, a forgotten one no longer.
KEPT_S = 60.0
# A resolve is part of a recovery: it goes on with what is known.
PATIENCE_S = 1.0


class BrowserToken:
    """Call it in a thread, never in the event loop's own. Make it in the loop."""

    def __init__(self, settings: Settings, db: Database, kept_s: float = KEPT_S) -> None:
        self._settings = settings
        self._kept_s = kept_s
        self._db = db
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._asked_at = 0.0
        self._reading: Future[None] | None = None
        self._token: str | None = None

    def __call__(self) -> str | None:
        """None when there is none, or none that Twitch takes."""
        reading, until = self._current_reading()
        try:
            reading.result(max(until - monotonic(), 0))
        except NotInTime:
            # It goes on, and whoever asks next has what it finds.
            log.info("browser token not read in time")
        except CancelledError:
            # The process ends.
            pass
        return self._token

    def _current_reading(self) -> tuple[Future[None], float]:
        """One for all who ask at the same time, and until when it is waited for."""
        with self._lock:
            now = monotonic()
            if self._reading is None or now - self._asked_at >= self._kept_s:
                self._asked_at = now
                self._reading = asyncio.run_coroutine_threadsafe(self._read(), self._loop)
            return self._reading, self._asked_at + PATIENCE_S

    async def _read(self) -> None:
        try:
            async with self._db.begin() as session:
                row = await credentials.read(session, NAME)
            usable = row is not None and row.valid
            self._token = self._opened(row.sealed) if row and usable else None
        except (DependencyUnavailable, SettingsError, SecretUnreadable) as error:
            log.warning("browser token not read", extra={"why": error.one_line})

    def _opened(self, sealed: str) -> str:
        # Only those who have stored a token pay for the library.
        from streamvault.secrets import load_keyring  # noqa: PLC0415  # see above

        kept = json.loads(load_keyring(self._settings).open(PLACE, sealed))
        return str(kept["access"])
