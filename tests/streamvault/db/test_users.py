from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db import audit, throttle, users
from streamvault.db.models_access import ApiKey, Throttle, User, UserSession
from streamvault.db.session import Database
from streamvault.errors import Conflict, NotFound


async def alice(session: AsyncSession) -> User:
    return await users.add_user(session, "Alice", "hash", is_admin=True)


async def test_of_many_who_claim_at_once_one_is_first(db: Database) -> None:
    async def claim(number: int) -> bool:
        async with db.begin() as session:
            return await users.claim(session, f"user{number}", "hash") is not None

    assert sum(await asyncio.gather(*map(claim, range(8)))) == 1
    async with db.begin() as session:
        [only] = await users.list_users(session)
        assert only.is_admin
        assert await users.claim(session, "late", "hash") is None


async def test_a_name_is_there_once_in_whatever_case(db: Database) -> None:
    async with db.begin() as session:
        made = await alice(session)
        found = await users.find_user(session, "ALICE")
        assert found is not None and found.id == made.id
        with pytest.raises(Conflict, match="there is a user alice already"):
            await users.add_user(session, "alice", "other")


async def test_the_last_administrator_stays(db: Database) -> None:
    async with db.begin() as session:
        first = await alice(session)
        second = await users.add_user(session, "bob", "hash")
        with pytest.raises(Conflict, match="last administrator"):
            await users.delete_user(session, first.id)
        await users.delete_user(session, second.id)
        with pytest.raises(NotFound):
            await users.get_user(session, second.id)


async def test_a_session_ends_idle_or_old_or_when_told(db: Database) -> None:
    async with db.begin() as session:
        user = await alice(session)
        token = await users.open_session(session, user.id, address="203.0.113.7", agent="x" * 999)
        visitor = await users.visitor_of_session(session, token)
        assert visitor is not None
        assert (visitor.user_id, visitor.scope, visitor.actor) == (user.id, "admin", "user:Alice")
        held = await session.execute(text("SELECT * FROM user_sessions"))
        assert token not in str(held.all())

        for column, age in (("seen_at", users.IDLE), ("created_at", users.LIFETIME)):
            for late, alive in ((-timedelta(seconds=60), True), (timedelta(seconds=1), False)):
                now = datetime.now(UTC)
                times = {"seen_at": now, "created_at": now, column: now - age - late}
                await session.execute(update(UserSession).values(times))
                assert (await users.visitor_of_session(session, token) is not None) is alive
        await session.execute(update(UserSession).values(seen_at=now, created_at=now))
        await users.end_session(session, visitor.session_id)
        assert await users.visitor_of_session(session, token) is None


async def test_signed_out_everywhere_but_here(db: Database) -> None:
    async with db.begin() as session:
        user = await alice(session)
        tokens = [await users.open_session(session, user.id) for _ in range(3)]
        here = await users.visitor_of_session(session, tokens[0])
        assert here is not None
        assert await users.end_sessions(session, user.id, but=here.session_id) == 2
        alive = [await users.visitor_of_session(session, token) for token in tokens]
        assert [visitor is not None for visitor in alive] == [True, False, False]
        assert [row.id for row in await users.list_sessions(session, user.id)] == [here.session_id]


async def test_a_key_opens_until_it_is_over_or_revoked(db: Database) -> None:
    async with db.begin() as session:
        user = await alice(session)
        row, key = await users.add_key(session, user.id, "backup script", "read")
        assert key.startswith("sv_") and key.startswith(row.shown) and len(key) >= 43
        held = await session.execute(text("SELECT * FROM api_keys"))
        assert key not in str(held.all())
        visitor = await users.visitor_of_key(session, key)
        assert visitor is not None and (visitor.scope, visitor.actor) == (
            "read",
            f"key:{row.shown}",
        )
        await session.execute(update(ApiKey).values(expires_at=datetime.now(UTC)))
        assert await users.visitor_of_key(session, key) is None
        await session.execute(update(ApiKey).values(expires_at=None))
        assert await users.visitor_of_key(session, key) is not None
        assert await users.visitor_of_key(session, key[:-1]) is None
        await users.delete_key(session, row.id)
        assert await users.visitor_of_key(session, key) is None
        with pytest.raises(NotFound):
            await users.delete_key(session, row.id)


async def test_a_key_of_an_administrator_is_worth_what_its_owner_is(db: Database) -> None:
    async with db.begin() as session:
        user = await alice(session)
        _, key = await users.add_key(session, user.id, "all", "admin")
        user.is_admin = False
        await session.flush()
        visitor = await users.visitor_of_key(session, key)
        assert visitor is not None and visitor.scope == "record"


async def test_whoever_is_deleted_has_neither_browser_nor_key(db: Database) -> None:
    async with db.begin() as session:
        await alice(session)
        bob = await users.add_user(session, "bob", "hash")
        token = await users.open_session(session, bob.id)
        _, key = await users.add_key(session, bob.id, "k", "read")
        await users.delete_user(session, bob.id)
        assert await users.visitor_of_session(session, token) is None
        assert await users.visitor_of_key(session, key) is None


async def test_waits_grow_and_end(db: Database) -> None:
    async with db.begin() as session:
        waits = []
        for _ in range(throttle.FREE_TRIES + 8):
            assert await throttle.take_try(session, ["account:a"]) == 0
            waits.append(await throttle.take_try(session, ["account:a"]) if len(waits) > 3 else 0)
            await session.execute(update(Throttle).values(free_at=datetime.now(UTC)))
        assert [round(wait) for wait in waits[4:8]] == [10, 20, 40, 80]
        assert max(waits) <= throttle.LONGEST_WAIT_S
        await throttle.forgive(session, ["account:a"])
        assert await throttle.take_try(session, ["account:a"]) == 0


async def test_of_many_tries_at_once_only_the_free_ones_are_looked_at(db: Database) -> None:
    async def take() -> bool:
        async with db.begin() as session:
            return await throttle.take_try(session, ["account:a", "address:b"]) == 0

    assert sum(await asyncio.gather(*(take() for _ in range(20)))) == throttle.FREE_TRIES


async def test_one_account_from_many_addresses_is_slowed_and_others_are_not(db: Database) -> None:
    async with db.begin() as session:
        taken = [
            await throttle.take_try(session, ["account:a", f"address:{n}"]) == 0 for n in range(20)
        ]
        assert sum(taken) == throttle.FREE_TRIES
        assert await throttle.take_try(session, ["device:known"]) == 0
        assert await throttle.take_try(session, ["account:b", "address:new"]) == 0


async def test_what_is_old_is_forgotten(db: Database) -> None:
    async with db.begin() as session:
        for number in range(50):
            await throttle.take_try(session, [f"address:{number}"])
        await session.execute(
            update(Throttle).values(forgotten_at=datetime.now(UTC) - timedelta(seconds=1))
        )
        await throttle.take_try(session, ["address:new"])
        kept = await session.scalars(text("SELECT key FROM throttles"))
        assert kept.all() == ["address:new"]


async def test_the_log_is_read_from_its_end(db: Database) -> None:
    async with db.begin() as session:
        for number in range(3):
            await audit.note(
                session, actor="user:alice", address="::1", action=f"a{number}", outcome="ok"
            )
            await asyncio.sleep(0.002)  # ids sort by milliseconds
        first = await audit.list_entries(session, limit=2)
        rest = await audit.list_entries(session, limit=2, cursor=first.next_cursor)
    assert [row.action for row in (*first.items, *rest.items)] == ["a2", "a1", "a0"]
    assert rest.next_cursor is None
