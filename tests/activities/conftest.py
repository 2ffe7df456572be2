from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from temporalio.testing import WorkflowEnvironment

from activities.catalog import Catalog
from streamvault.db.session import Database
from tests.activities.door import Door
from tests.workflows.stage import Stage


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=10, max_overflow=10)
    yield database
    await database.close()


@pytest.fixture
async def door(temporal_dev: WorkflowEnvironment, db: Database) -> AsyncIterator[Door]:
    stage = Stage(temporal_dev)
    cast, catalog = stage.cast, Catalog(db)
    stage.instead["control"] = [
        *(cast.streams.probe, cast.streams.detect, cast.notify.announce),
        *(catalog.set_status, catalog.set_step, catalog.note_channel, catalog.can_resume),
    ]
    try:
        await stage.work()
        door = Door(stage, db)
        yield door
        await door.leave()
    finally:
        await stage.close()
