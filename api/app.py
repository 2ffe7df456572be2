"""The HTTP application: composition root, routes, and the frame around every request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from api import problems
from api.deps import Shared
from api.guard import Guard, Rules
from api.playlists import Playlists
from api.readiness import Readiness
from api.routes import media, pipelines, recordings, streamers, system
from api.temporal import Temporal
from streamvault.db.session import Database
from streamvault.errors import SettingsError
from streamvault.logs import configure_logs
from streamvault.metrics import Metrics
from streamvault.settings import Settings, load_settings

POOL_SIZE = 20
MAX_OVERFLOW = 50


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application. Raises SettingsError for a wrong or missing setting.

    At its start it waits for the database, which must have its schema already."""
    if settings is None:
        settings = load_settings()
        configure_logs(settings.log_level, settings.log_format)
    shared = _share(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await shared.db.connect()
        yield
        await shared.db.close()

    app = FastAPI(
        title="StreamVault",
        version="1",
        lifespan=lifespan,
        # Swagger UI and ReDoc load scripts from elsewhere, which our policy for pages forbids.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.shared = shared
    for module in (recordings, media, streamers, pipelines, system):
        app.include_router(module.router)
    problems.install(app)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Content-Type"],
        )
    # Added last, so it is the outermost: nothing answers before it has looked.
    app.add_middleware(Guard, rules=Rules.of(settings))
    return app


def _share(settings: Settings) -> Shared:
    if settings.database_url is None:
        raise SettingsError(
            "STREAMVAULT_DATABASE_URL: is not set", hint="./sv up sets it to its own database"
        )
    db = Database(
        settings.database_url.get_secret_value(),
        settings.db_pool_size or POOL_SIZE,
        MAX_OVERFLOW if settings.db_max_overflow is None else settings.db_max_overflow,
    )
    temporal = Temporal(settings)
    return Shared(
        settings=settings,
        db=db,
        temporal=temporal,
        readiness=Readiness(db, temporal),
        playlists=Playlists(settings.library),
        metrics=Metrics(),
    )
