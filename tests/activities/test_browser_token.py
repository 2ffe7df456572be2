"""The browser token as those who resolve a stream get it: from a thread, and never late."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from activities.browser_token import BrowserToken
from activities.twitch_access import TwitchAccess
from streamvault.db import credentials
from streamvault.db.session import CONNECT_TIMEOUT_S, Database
from streamvault.embedded.postgres import Postgres
from streamvault.metrics.system import Metrics
from streamvault.settings import Settings, check_settings

TOKEN = "canaryofthebrowser0000000000"
ALWAYS_DUE = 0.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return check_settings({"data_dir": tmp_path})


@pytest.fixture
def silent_url() -> Iterator[str]:
    """Of a database server that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        yield f"postgresql+asyncpg://sv@127.0.0.1:{port}/sv"


async def keep(settings: Settings, db: Database, token: str) -> None:
    access = TwitchAccess.open(settings, db, Metrics())
    await access.tokens.keep_browser_token(token, None)
    await access.close()


async def test_what_is_stored_is_what_threads_get(settings: Settings, db: Database) -> None:
    token = BrowserToken(settings, db, ALWAYS_DUE)
    assert await asyncio.to_thread(token) is None
    await keep(settings, db, TOKEN)
    assert await asyncio.gather(*(asyncio.to_thread(token) for _ in range(8))) == [TOKEN] * 8
    async with db.begin() as session:
        await credentials.delete(session, "browser_token")
    assert await asyncio.to_thread(token) is None


async def test_those_who_ask_at_the_same_time_wait_for_the_same_answer(
    settings: Settings, db: Database
) -> None:
    await keep(settings, db, TOKEN)
    token = BrowserToken(settings, db)
    assert await asyncio.gather(*(asyncio.to_thread(token) for _ in range(4))) == [TOKEN] * 4


async def test_a_token_that_twitch_has_refused_is_not_given_out(
    settings: Settings, db: Database
) -> None:
    await keep(settings, db, TOKEN)
    async with db.begin() as session:
        await credentials.mark_invalid(session, "browser_token", "invalid access token")
    assert await asyncio.to_thread(BrowserToken(settings, db)) is None


async def test_the_database_is_asked_once_in_a_while(settings: Settings, db: Database) -> None:
    token = BrowserToken(settings, db)
    assert await asyncio.to_thread(token) is None
    await keep(settings, db, TOKEN)
    # Not due yet: a minute has not passed.
    assert await asyncio.to_thread(token) is None


async def test_a_database_that_is_silent_holds_nobody_up(
    settings: Settings, silent_url: str
) -> None:
    db = Database(silent_url, pool_size=1)
    token, began = BrowserToken(settings, db), monotonic()
    assert await asyncio.gather(*(asyncio.to_thread(token) for _ in range(4))) == [None] * 4
    # Waiting for the database alone would have taken this long.
    assert monotonic() - began < CONNECT_TIMEOUT_S
    await db.close()


async def test_a_database_that_went_away_takes_no_token_along(
    settings: Settings, db: Database, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    await keep(settings, db, TOKEN)
    token = BrowserToken(settings, db, ALWAYS_DUE)
    assert await asyncio.to_thread(token) == TOKEN
    await db.close()
    name = db.engine.url.database
    postgres.query(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false", "postgres")
    with caplog.at_level(logging.DEBUG, logger="activities"):
        assert await asyncio.to_thread(token) == TOKEN
    assert {record.message for record in caplog.records} == {"browser token not read"}
    assert TOKEN not in repr([vars(record) for record in caplog.records])


async def test_with_another_key_there_is_no_token_and_a_warning_without_it(
    settings: Settings, db: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await keep(settings, db, TOKEN)
    elsewhere = check_settings({"data_dir": tmp_path / "elsewhere"})
    with caplog.at_level(logging.WARNING, logger="activities"):
        assert await asyncio.to_thread(BrowserToken(elsewhere, db)) is None
    assert "cannot be decrypted" in str(caplog.records[0].__dict__["why"])
