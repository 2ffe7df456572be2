from __future__ import annotations

from uuid import uuid4

import pytest
from sqlalchemy import select

from streamvault.db import dead_letters
from streamvault.db.models import DeadLetter
from streamvault.db.session import Database
from streamvault.errors import Conflict, NotFound


async def add(db: Database, key: str = "m-1", kind: str = "inbox", error: str = "no") -> None:
    async with db.begin() as session:
        await dead_letters.add_letter(
            session, kind, key, title="stream.online of alice", error=error, attempts=5
        )


async def letters(db: Database, **filters: object) -> list[DeadLetter]:
    async with db.begin() as session:
        page = await dead_letters.list_letters(session, cursor=None, **filters)  # type: ignore[arg-type]
        return list(page.items)


async def test_what_fails_again_is_the_same_letter_and_waits_again(db: Database) -> None:
    await add(db)
    [letter] = await letters(db)
    async with db.begin() as session:
        taken = await dead_letters.take_letter(session, letter.id)
        taken.state, taken.reason = "discarded", "a test"
    assert await letters(db) == []
    await add(db, error="still no")
    [again] = await letters(db)
    assert (again.id, again.error, again.attempts, again.reason) == (letter.id, "still no", 10, "")
    assert again.last_at > letter.last_at == again.first_at


async def test_one_key_in_two_kinds_is_two_letters(db: Database) -> None:
    await add(db, "1", "inbox")
    await add(db, "1", "notification")
    assert [letter.kind for letter in await letters(db)] == ["notification", "inbox"]
    [letter] = await letters(db, kinds=("inbox",))
    assert dead_letters.key_of(letter) == "1"
    async with db.begin() as session:
        assert await dead_letters.count_letters(session) == {"inbox": 1, "notification": 1}


async def test_only_a_waiting_letter_can_be_taken(db: Database) -> None:
    await add(db)
    async with db.begin() as session:
        letter_id = (await session.scalars(select(DeadLetter.id))).one()
        (await dead_letters.take_letter(session, letter_id)).state = "retried"
    async with db.begin() as session:
        with pytest.raises(Conflict, match="was retried already"):
            await dead_letters.take_letter(session, letter_id)
        for unknown in (uuid4(), "m-1"):
            with pytest.raises(NotFound):
                await dead_letters.take_letter(session, unknown)
        assert await dead_letters.count_letters(session) == {"inbox": 0, "notification": 0}
