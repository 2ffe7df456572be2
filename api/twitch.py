"""The API's way to Twitch, opened at the first need: its libraries cost memory that an installation
without Twitch would pay for nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from streamvault.db.session import Database
from streamvault.errors import TwitchNotConfigured
from streamvault.metrics.system import Metrics
from streamvault.settings import PREFIX, Settings

if TYPE_CHECKING:
    from activities.twitch_access import TwitchAccess


class TwitchDoor:
    def __init__(self, settings: Settings, db: Database, metrics: Metrics) -> None:
        self._settings = settings
        self._db = db
        self._metrics = metrics
        self._opening = asyncio.Lock()
        self.opened: TwitchAccess | None = None

    @property
    def configured(self) -> bool:
        return bool(self._settings.twitch_client_id)

    async def access(self) -> TwitchAccess:
        """Raises TwitchNotConfigured without a client id."""
        if not self.configured:
            raise TwitchNotConfigured(
                "no Twitch application is set up",
                hint=f"set {PREFIX}TWITCH_CLIENT_ID and {PREFIX}TWITCH_CLIENT_SECRET",
            )
        async with self._opening:
            if self.opened is None:
                from activities.twitch_access import TwitchAccess  # noqa: PLC0415  # see above

                self.opened = TwitchAccess.open(self._settings, self._db, self._metrics)
        return self.opened

    def circuits(self) -> dict[str, dict[str, Any]]:
        """Those of this process; none before it has asked Twitch anything."""
        return self.opened.circuits() if self.opened else {}

    async def close(self) -> None:
        if self.opened is not None:
            await self.opened.close()
