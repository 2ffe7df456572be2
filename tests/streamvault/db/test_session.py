from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from streamvault.db import session as module
from streamvault.db.session import Database
from streamvault.errors import DependencyUnavailable, SettingsError


async def test_an_exception_rolls_everything_back(db: Database) -> None:
    with pytest.raises(RuntimeError):
        async with db.begin() as session:
            await session.execute(text("CREATE TABLE scratch ()"))
            raise RuntimeError
    async with db.begin() as session:
        assert await session.scalar(text("SELECT to_regclass('scratch')")) is None


async def test_a_server_that_is_away_is_named(tmp_path: Path) -> None:
    nowhere = Database(f"postgresql+asyncpg://streamvault@/streamvault?host={tmp_path}")
    with pytest.raises(DependencyUnavailable, match="cannot be reached"):
        async with nowhere.begin():
            pass
    await nowhere.close()


async def test_start_waits_ten_times_and_then_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "CONNECT_PAUSE_S", 0.0)
    nowhere = Database(f"postgresql+asyncpg://streamvault@/streamvault?host={tmp_path}")
    with pytest.raises(DependencyUnavailable):
        await nowhere.connect()
    assert [record.message for record in caplog.records] == ["database not reachable"] * 10
    await nowhere.close()


async def test_a_database_that_does_not_exist_is_not_waited_for(database_url: str) -> None:
    path, query = database_url.split("?")
    stranger = Database(f"{path}_missing?{query}")
    with pytest.raises(SettingsError, match="STREAMVAULT_DATABASE_URL"):
        await stranger.connect()
    await stranger.close()


async def test_a_connection_killed_in_the_pool_is_not_noticed(db: Database) -> None:
    async with db.begin() as session:
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
    other = Database(db.engine.url.render_as_string(hide_password=False))
    async with other.begin() as session:
        await session.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    await other.close()
    async with db.begin() as session:
        assert await session.scalar(text("SELECT pg_backend_pid()")) != pid


async def test_a_connection_killed_in_a_transaction_says_so(db: Database) -> None:
    other = Database(db.engine.url.render_as_string(hide_password=False))
    with pytest.raises(DependencyUnavailable):
        async with db.begin() as session:
            pid = await session.scalar(text("SELECT pg_backend_pid()"))
            async with other.begin() as killer:
                await killer.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
            await session.execute(text("SELECT 1"))
    await other.close()


async def test_a_busy_pool_is_an_error_with_a_remedy(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POOL_TIMEOUT_S", 0.01)
    small = Database(database_url, pool_size=1, max_overflow=0)
    async with small.begin() as session:
        await session.execute(text("SELECT 1"))
        assert (small.connections_used, small.connections_allowed) == (1, 1)
        with pytest.raises(DependencyUnavailable, match="no free database connection") as caught:
            async with small.begin():
                pass
    assert "STREAMVAULT_DB_POOL_SIZE" in caught.value.hint
    assert small.connections_used == 0
    await small.close()
