from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from streamvault.db import inbox
from streamvault.db.inbox import NewMessage
from streamvault.db.listening import listen
from streamvault.db.models import InboxMessage
from streamvault.db.session import Database

PATIENCE_S = 20


def message(id_: str = "m-1", **more: Any) -> NewMessage:
    known: dict[str, Any] = {
        "message_id": id_,
        "source": "webhook",
        "kind": "notification",
        "type": "stream.online",
        "subscription_id": "s-1",
        "sent_at": datetime.now(UTC),
        "payload": {"event": {"id": "9001"}},
    }
    return NewMessage(**{**known, **more})


async def put(db: Database, *ids: str) -> None:
    async with db.begin() as session:
        await inbox.store_all(session, [message(id_) for id_ in ids])


async def claim(db: Database, *, again: bool = False, lease_s: float = 60, limit: int = 10) -> Any:
    async with db.begin() as session:
        rows = await inbox.claim(session, limit=limit, again=again, lease_s=lease_s)
        return sorted(row.message_id for row in rows)


async def the_row(db: Database) -> InboxMessage:
    async with db.begin() as session:
        return (await session.scalars(select(InboxMessage))).one()


async def test_one_id_is_one_row_however_often_it_comes(db: Database) -> None:
    async def come() -> bool:
        async with db.begin() as session:
            return await inbox.store(session, message())

    new = await asyncio.gather(*(come() for _ in range(5)))
    assert sorted(new) == [False] * 4 + [True]
    row = await the_row(db)
    assert (row.state, row.attempts, row.payload) == ("waiting", 0, {"event": {"id": "9001"}})


async def test_many_are_stored_at_once_and_doubles_among_them_count_once(db: Database) -> None:
    await put(db, "a")
    async with db.begin() as session:
        new = await inbox.store_all(session, [message(id_) for id_ in ("a", "b", "b", "c")])
    assert new == {"b", "c"}
    assert await claim(db) == ["a", "b", "c"]


async def test_two_workers_never_take_the_same_message(db: Database) -> None:
    await put(db, *(f"m-{number:02}" for number in range(20)))
    taken = await asyncio.gather(*(claim(db, limit=4) for _ in range(5)))
    assert sorted(id_ for ids in taken for id_ in ids) == [f"m-{n:02}" for n in range(20)]
    assert await claim(db) == []


async def test_what_a_dead_worker_had_taken_is_due_again(db: Database) -> None:
    await put(db, "m")
    assert await claim(db, lease_s=0) == ["m"]
    assert await claim(db, lease_s=60) == ["m"]
    assert await claim(db) == []


async def test_what_is_held_is_not_due(db: Database) -> None:
    await put(db, "m")
    await claim(db, lease_s=0)
    async with db.begin() as session:
        await inbox.hold(session, [(await session.scalars(select(InboxMessage.id))).one()], 60)
    assert await claim(db) == []


async def test_what_failed_is_taken_apart_from_what_did_not(db: Database) -> None:
    await put(db, "failed", "late", "fresh")
    async with db.begin() as session:
        ids = dict((await session.execute(select(InboxMessage.message_id, InboxMessage.id))).all())
        await inbox.put_off(session, ids["failed"], 0, "no answer", failed=True)
        await inbox.put_off(session, ids["late"], 0, "not live yet", failed=False)
    assert await claim(db) == ["fresh", "late"]
    assert await claim(db, again=True) == ["failed"]


async def test_what_was_put_off_waits_by_the_databases_clock(db: Database) -> None:
    await put(db, "m")
    before = await the_row(db)
    async with db.begin() as session:
        await inbox.put_off(session, before.id, 8, "no answer", failed=True)
        now = await session.scalar(select(text("now()")))
    row = await the_row(db)
    assert (row.next_at - now, row.attempts, row.error) == (timedelta(seconds=8), 1, "no answer")
    assert await claim(db, again=True) == []


async def test_a_dead_message_can_start_over_and_a_done_one_cannot(db: Database) -> None:
    await put(db, "m")
    row = await the_row(db)
    async with db.begin() as session:
        await inbox.bury(session, row.id, "it makes no sense")
    assert await claim(db) == await claim(db, again=True) == []
    async with db.begin() as session:
        assert await inbox.revive(session, "m")
        assert not await inbox.revive(session, "m")
    assert await claim(db) == ["m"]
    async with db.begin() as session:
        await inbox.finish(session, row.id)
        assert not await inbox.revive(session, "m")
    row = await the_row(db)
    assert (row.state, row.attempts) == ("done", 0)
    assert row.done_at is not None


async def test_only_what_was_done_long_ago_is_deleted(db: Database) -> None:
    await put(db, "done", "dead", "waiting", "new")
    async with db.begin() as session:
        ids = dict((await session.execute(select(InboxMessage.message_id, InboxMessage.id))).all())
        await inbox.finish(session, ids["done"])
        await inbox.finish(session, ids["new"])
        await inbox.bury(session, ids["dead"], "no")
        await session.execute(
            text(
                "UPDATE inbox SET received_at = now() - interval '25 hours'"
                " WHERE message_id <> 'new'"
            )
        )
    async with db.begin() as session:
        assert await inbox.prune(session, older_than_s=24 * 3600) == 1
        left = await session.scalars(select(InboxMessage.message_id))
        assert sorted(left) == ["dead", "new", "waiting"]


# ---- being told


@pytest.fixture
async def heard(db: Database) -> Any:
    """Set whenever something is to be looked at; the listener's own start is over."""
    event = asyncio.Event()
    listening = asyncio.create_task(listen(db, inbox.CHANNEL, event))
    await expect(event)
    yield event
    listening.cancel()
    await asyncio.wait({listening})


async def expect(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await event.wait()
    event.clear()


async def test_the_worker_is_told_when_a_message_is_committed(
    db: Database, heard: asyncio.Event
) -> None:
    async with db.begin() as session:
        await inbox.store(session, message())
        assert not heard.is_set()
    await expect(heard)


async def test_a_lost_connection_is_replaced_and_what_was_missed_is_looked_for(
    db: Database, heard: asyncio.Event
) -> None:
    async with db.begin() as session:
        await session.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            )
        )
    await put(db, "m")
    await expect(heard)
