"""The shared fixtures do what the other tests rely on."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from temporalio.testing import WorkflowEnvironment


async def test_a_fresh_database_holds_the_migrated_schema(database_url: str) -> None:
    engine = create_async_engine(database_url)
    async with engine.connect() as connection:
        found = await connection.scalar(text("SELECT count(*) FROM alembic_version"))
        assert found == 1
    await engine.dispose()


async def test_both_temporal_servers_answer(
    temporal_dev: WorkflowEnvironment, temporal_skipping: WorkflowEnvironment
) -> None:
    assert await temporal_dev.client.service_client.check_health()
    assert await temporal_skipping.client.service_client.check_health()
