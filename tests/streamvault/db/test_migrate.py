from __future__ import annotations

import asyncio
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from streamvault.db import models_access  # noqa: F401  # its tables, too
from streamvault.db.migrate import head, upgrade
from streamvault.db.models import Base
from streamvault.db.session import Database
from streamvault.errors import Conflict


@pytest.fixture
async def empty_url(db: Database) -> str:
    """A database without any table."""
    async with db.begin() as session:
        await session.execute(text("DROP SCHEMA public CASCADE"))
        await session.execute(text("CREATE SCHEMA public"))
    return db.engine.url.render_as_string(hide_password=False)


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_server_default": True})
    return list(compare_metadata(context, Base.metadata))


async def test_migrations_make_exactly_the_models(empty_url: str, db: Database) -> None:
    await upgrade(empty_url)
    async with db.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_the_named_indexes_and_their_columns_exist(db: Database) -> None:
    async with db.begin() as session:
        rows = await session.execute(
            text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
        )
        indexes = {row.indexname: row.indexdef for row in rows}
    for name, columns in {
        "idx_recordings_stream_status": "(stream_id, status)",
        "idx_streams_streamer_active": "(streamer_id, ended_at)",
        "idx_stream_events_stream_time": '(stream_id, "timestamp")',
    }.items():
        assert indexes[name].endswith(columns)
    assert "UNIQUE" in indexes["uq_recordings_open_source"]


async def test_checks_of_the_models_are_in_the_database(db: Database) -> None:
    # Alembic's comparison does not look at CHECK constraints.
    async with db.begin() as session:
        rows = await session.scalars(text("SELECT conname FROM pg_constraint WHERE contype = 'c'"))
        found = set(rows)
    named = {
        str(constraint.name)
        for table in Base.metadata.tables.values()
        for constraint in table.constraints
        if str(constraint.name).startswith("ck_")
    }
    assert named and named <= found


async def test_several_processes_may_start_at_once(empty_url: str, db: Database) -> None:
    await asyncio.gather(*(upgrade(empty_url) for _ in range(4)))
    async with db.begin() as session:
        assert await session.scalar(text("SELECT version_num FROM alembic_version")) == head()


async def test_a_database_of_a_newer_release_is_refused(db: Database) -> None:
    async with db.begin() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict, match="newer StreamVault"):
        await upgrade(db.engine.url.render_as_string(hide_password=False))
