from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from streamvault.db.session import Database


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=10, max_overflow=10)
    yield database
    await database.close()
