from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from streamvault.db import recordings
from streamvault.db.recordings import NewRecording
from streamvault.db.session import Database
from streamvault.settings import Settings, check_settings

BASE = "http://127.0.0.1:8080"

Opened = Callable[..., Awaitable[UUID]]


@pytest.fixture
def make_settings(database_url: str, tmp_path: Path) -> Callable[..., Settings]:
    def make(**overrides: Any) -> Settings:
        defaults = {
            "data_dir": tmp_path,
            "database_url": database_url,
            "db_pool_size": 5,
            "host_id": "here",
        }
        return check_settings({**defaults, **overrides})

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        yield application


def client_of(application: FastAPI, base_url: str = BASE) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=base_url)


@pytest.fixture(scope="session")
async def front(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API whose database is away, for what is decided before one is needed."""
    nowhere = tmp_path_factory.mktemp("nowhere")
    away = f"postgresql+asyncpg://sv@/sv?host={nowhere}"
    settings = check_settings({"data_dir": nowhere, "database_url": away})
    async with client_of(create_app(settings)) as made:
        yield made


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as made:
        yield made


@pytest.fixture
def db(app: FastAPI) -> Database:
    database: Database = app.state.shared.db
    return database


@pytest.fixture
def library(settings: Settings) -> Path:
    settings.library.mkdir(parents=True)
    return settings.library


@pytest.fixture
def opened(db: Database) -> Opened:
    """Open a recording of a source of its own; other columns by name."""

    async def open_one(key: str = "k", **columns: Any) -> UUID:
        async with db.begin() as session:
            new = NewRecording(key, f"https://origin.example/{key}.m3u8")
            recording, _ = await recordings.open_recording(session, new)
            if columns:
                await recordings.update_recording(session, recording.id, **columns)
        return recording.id

    return open_one
