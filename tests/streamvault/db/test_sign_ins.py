from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from streamvault.db import sign_ins
from streamvault.db.models import SignIn
from streamvault.db.session import Database

SOON = timedelta(minutes=10)


async def begin(db: Database, secret: str, kind: str = sign_ins.CODE, *, left: timedelta) -> str:
    async with db.begin() as session:
        expires_at = datetime.now(UTC) + left
        return await sign_ins.begin(session, secret, kind, expires_at=expires_at, sealed="sealed")


async def take(db: Database, secret: str, kind: str = sign_ins.CODE) -> SignIn | None:
    async with db.begin() as session:
        return await sign_ins.take(session, secret, kind)


async def ids(db: Database) -> set[str]:
    async with db.begin() as session:
        return set(await session.scalars(select(SignIn.id)))


async def test_a_row_is_known_by_the_hash_of_its_secret_alone(db: Database) -> None:
    row_id = await begin(db, "state", left=SOON)
    assert row_id == hashlib.sha256(b"state").hexdigest()
    assert await take(db, row_id) is None
    assert await take(db, "state") is not None


async def test_of_ten_who_come_with_the_same_secret_one_gets_it(db: Database) -> None:
    await begin(db, "state", left=SOON)
    taken = await asyncio.gather(*(take(db, "state") for _ in range(10)))
    assert [row is not None for row in taken].count(True) == 1
    assert await ids(db) == set()


async def test_an_expired_one_is_not_given_out(db: Database) -> None:
    await begin(db, "state", left=timedelta(seconds=-1))
    assert await take(db, "state") is None


async def test_a_device_code_is_not_taken_for_a_state(db: Database) -> None:
    await begin(db, "device", sign_ins.DEVICE, left=SOON)
    assert await take(db, "device") is None


async def test_ended_once_it_stays_so_and_holds_no_secret(db: Database) -> None:
    row_id = await begin(db, "device", sign_ins.DEVICE, left=SOON)
    for state in (sign_ins.DENIED, sign_ins.CONNECTED):
        async with db.begin() as session:
            await sign_ins.settle(session, row_id, state, "somebody said no")
    async with db.begin() as session:
        row = await sign_ins.find(session, row_id)
        assert row is not None
        assert (row.state, row.error, row.sealed) == (sign_ins.DENIED, "somebody said no", "")


async def test_the_oldest_of_too_many_make_room(db: Database) -> None:
    other = await begin(db, "device", sign_ins.DEVICE, left=SOON)
    begun = [await begin(db, f"s{n}", left=SOON + timedelta(seconds=n)) for n in range(60)]
    assert await ids(db) == {other, *begun[-sign_ins.MOST_OF_A_KIND :]}


async def test_what_ended_yesterday_is_cleared_away(db: Database) -> None:
    await begin(db, "old", sign_ins.DEVICE, left=-timedelta(days=1, seconds=1))
    recent = await begin(db, "recent", sign_ins.DEVICE, left=-timedelta(hours=23))
    new = await begin(db, "new", left=SOON)
    assert await ids(db) == {recent, new}
