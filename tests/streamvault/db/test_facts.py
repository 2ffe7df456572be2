from __future__ import annotations

import asyncio

from streamvault.db import facts
from streamvault.db.session import Database


async def test_a_fact_that_nobody_stated_is_not_there(db: Database) -> None:
    async with db.begin() as session:
        assert await facts.get_fact(session, facts.POLL) is None
        assert await facts.all_facts(session) == {}


async def test_the_newest_value_stands_in_place_of_the_older_one(db: Database) -> None:
    for cost in (0, 3):
        async with db.begin() as session:
            await facts.put_fact(session, facts.EVENTSUB, {"transport": "websocket", "cost": cost})
    async with db.begin() as session:
        found = await facts.all_facts(session)
    assert {name: row.value for name, row in found.items()} == {
        facts.EVENTSUB: {"transport": "websocket", "cost": 3}
    }


async def test_said_again_the_same_fact_is_younger(db: Database) -> None:
    seen = []
    for _ in range(2):
        async with db.begin() as session:
            await facts.put_fact(session, facts.POLL, {"live": 1})
        async with db.begin() as session:
            found = await facts.get_fact(session, facts.POLL)
            assert found is not None
            seen.append(found.updated_at)
    assert seen[0] < seen[1]


async def test_two_processes_may_state_a_fact_at_once(db: Database) -> None:
    async def state(number: int) -> None:
        async with db.begin() as session:
            await facts.put_fact(session, facts.CIRCUITS, {"number": number})

    await asyncio.gather(*map(state, range(8)))
    async with db.begin() as session:
        found = await facts.get_fact(session, facts.CIRCUITS)
    assert found is not None and found.value["number"] in range(8)
