"""How a command reaches the stack that runs on the data folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from temporalio.client import Client

from activities.engine import connect_temporal
from streamvault.db.session import Database
from streamvault.embedded.runfile import Running
from streamvault.settings import Secret, Settings

POOL_SIZE = 2


@dataclass(frozen=True)
class Reach:
    settings: Settings
    client: Client
    db: Database


@asynccontextmanager
async def reach(settings: Settings, running: Running) -> AsyncIterator[Reach]:
    """Temporal and database of a running stack. Raises DependencyUnavailable."""
    own = Secret(running.database_url) if running.database_url else settings.database_url
    there = settings.replaced(
        temporal_address=running.temporal_address,
        temporal_namespace=running.temporal_namespace,
        temporal_ui_url=running.temporal_ui,
        database_url=own,
    )
    assert there.database_url is not None
    db = Database(there.database_url.get_secret_value(), pool_size=POOL_SIZE)
    try:
        yield Reach(there, await connect_temporal(there), db)
    finally:
        await db.close()
