"""The fake Twitch as a worker sees it: an application of its own, through the real client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from activities.twitch_access import TwitchAccess
from streamvault.db.session import Database
from streamvault.metrics.system import Metrics
from streamvault.settings import check_settings
from tests.fake_twitch.client import FakeTwitch
from tests.fake_twitch.client_words import Application

WORDS = ("client_id", "client_secret", "helix_url", "auth_url")


@dataclass(frozen=True)
class Twitch:
    fake: FakeTwitch
    application: Application
    access: TwitchAccess

    @property
    def door(self) -> Callable[[], Awaitable[TwitchAccess | None]]:
        async def opened() -> TwitchAccess | None:
            return self.access

        return opened

    def calls(self, noun: str) -> int:
        return len(self.fake.calls(f"helix.{noun}", app=self.application))

    def fault(self, target: str, kind: str, **fields: object) -> None:
        """For this application alone."""
        self.fake.fault(target, kind, client_id=self.application.client_id, **fields)


@asynccontextmanager
async def open_twitch(
    fake: FakeTwitch, db: Database, data_dir: Path, *, total_s: float = 10
) -> AsyncIterator[Twitch]:
    application = fake.application()
    named = {
        f"twitch_{word}": application.env[f"STREAMVAULT_TWITCH_{word.upper()}"] for word in WORDS
    }
    settings = check_settings({**named, "data_dir": data_dir, "allow_insecure_twitch": True})
    access = TwitchAccess.open(settings, db, Metrics(), total_s=total_s)
    try:
        yield Twitch(fake, application, access)
    finally:
        await access.close()
