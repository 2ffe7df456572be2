"""Whether the API can do its work: asked at most once in a while, however often it is asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic

from api.temporal import Temporal
from streamvault.db.session import Database
from streamvault.errors import DependencyUnavailable, SettingsError

KEPT_S = 5.0
# A start waits for the first good answer, so a bad one is looked at again soon.
KEPT_WHILE_NOT_READY_S = 0.2


@dataclass(frozen=True, slots=True)
class State:
    database: bool
    temporal: bool

    @property
    def ready(self) -> bool:
        return self.database and self.temporal


class Readiness:
    def __init__(self, db: Database, temporal: Temporal) -> None:
        self._db = db
        self._temporal = temporal
        self._state = State(database=False, temporal=False)
        self._fresh_until = 0.0
        self._looking = asyncio.Lock()

    async def state(self) -> State:
        async with self._looking:
            if monotonic() >= self._fresh_until:
                database, temporal = await asyncio.gather(self._database(), self._temporal.is_up())
                self._state = State(database, temporal)
                kept_s = KEPT_S if self._state.ready else KEPT_WHILE_NOT_READY_S
                self._fresh_until = monotonic() + kept_s
        return self._state

    async def _database(self) -> bool:
        try:
            await self._db.ping()
        except (DependencyUnavailable, SettingsError):
            return False
        return True
