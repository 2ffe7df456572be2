from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from streamvault.db import credentials
from streamvault.db.session import Database
from streamvault.errors import DependencyUnavailable

NAME = "user_token"
AT = datetime(2026, 1, 2, tzinfo=UTC)


async def test_what_is_written_is_read_back(db: Database) -> None:
    async with db.begin() as session:
        assert await credentials.read(session, NAME) is None
        await credentials.write(session, NAME, "sealed", about={"login": "alice"}, expires_at=AT)
    async with db.begin() as session:
        found = await credentials.read(session, NAME)
    assert found
    assert (found.sealed, found.about, found.valid) == ("sealed", {"login": "alice"}, True)
    assert found.expires_at == AT
    assert "'sealed'" not in repr(found)


async def test_a_lock_makes_the_row_and_an_error_takes_it_away_again(db: Database) -> None:
    with pytest.raises(RuntimeError):
        async with db.begin() as session:
            found = await credentials.lock(session, NAME)
            assert (found.sealed, found.valid) == ("", False)
            raise RuntimeError
    async with db.begin() as session:
        assert await credentials.describe_all(session) == {}


async def test_a_lock_shows_what_the_one_before_wrote(db: Database) -> None:
    """Both begin before anything is there, so that both want to make the row."""
    first_holds, seen = asyncio.Event(), []

    async def first() -> None:
        async with db.begin() as session:
            await credentials.lock(session, NAME)
            first_holds.set()
            # The second one waits in the database by then.
            await until_somebody_waits(db)
            await credentials.write(session, NAME, "of the first")

    async def second() -> None:
        await first_holds.wait()
        async with db.begin() as session:
            seen.append((await credentials.lock(session, NAME)).sealed)

    await asyncio.gather(first(), second())
    assert seen == ["of the first"]


async def until_somebody_waits(db: Database) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(10):
        while True:
            async with db.begin() as session:
                if await session.scalar(waiting):
                    return
            await asyncio.sleep(0.01)


async def test_a_lock_that_is_held_for_too_long_is_a_dependency_that_is_away(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "LOCK_WAIT_S", 1)
    async with db.begin() as holder:
        await credentials.lock(holder, NAME)
        with pytest.raises(DependencyUnavailable, match=NAME):
            async with db.begin() as session:
                await credentials.lock(session, NAME)


async def test_what_is_marked_invalid_still_tells_whose_it_was(db: Database) -> None:
    async with db.begin() as session:
        await credentials.write(session, NAME, "sealed", about={"login": "alice"})
        await credentials.mark_invalid(session, NAME, "refused")
    async with db.begin() as session:
        found = (await credentials.describe_all(session))[NAME]
    assert found.about == {"login": "alice", "problem": "refused"}
    assert not found.valid


async def test_a_new_secret_takes_the_old_problem_away(db: Database) -> None:
    async with db.begin() as session:
        await credentials.write(session, NAME, "old")
        await credentials.mark_invalid(session, NAME, "refused")
        await credentials.write(session, NAME, "new", about={"login": "bob"})
    async with db.begin() as session:
        found = await credentials.read(session, NAME)
    assert found
    assert (found.sealed, found.about, found.valid) == ("new", {"login": "bob"}, True)


async def test_a_problem_without_a_secret_is_told_but_is_no_credential(db: Database) -> None:
    async with db.begin() as session:
        await credentials.lock(session, "app_token")
        await credentials.mark_invalid(session, "app_token", "invalid client secret")
    async with db.begin() as session:
        assert await credentials.read(session, "app_token") is None
        told = await credentials.describe_all(session)
    assert told["app_token"].about == {"problem": "invalid client secret"}


async def test_what_is_deleted_is_gone(db: Database) -> None:
    async with db.begin() as session:
        await credentials.write(session, NAME, "sealed")
        await credentials.delete(session, NAME)
        await credentials.delete(session, "never there")
    async with db.begin() as session:
        assert await credentials.describe_all(session) == {}
