"""The HTTP application: composition root, routes, and the frame around every request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from activities.checkup import Checkup
from activities.pushes import Pushes
from api import problems
from api.deps import Shared
from api.eventsub import EventSubWebhook
from api.guard import Guard, Rules
from api.playlists import Playlists
from api.readiness import Readiness
from api.routes import (
    dead_letters,
    following,
    health,
    jobs,
    library,
    media,
    pictures,
    pipelines,
    preferences,
    proxies,
    push,
    recordings,
    storage,
    streamers,
    system,
    twitch,
)
from api.temporal import Temporal
from api.twitch import TwitchDoor
from streamvault.db.session import Database
from streamvault.errors import SettingsError
from streamvault.logs import configure_logs
from streamvault.metrics.eventsub import EventSubFigures
from streamvault.metrics.system import PREFIX, Metrics
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
    webhook = _webhook(settings, shared)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await shared.db.connect()
        yield
        await webhook.close()
        await shared.twitch_door.close()
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
    for module in (
        *(recordings, media, jobs, library, preferences, streamers, following, pictures),
        *(pipelines, dead_letters, proxies, push, twitch, health, storage, system),
    ):
        app.include_router(module.router)
    # The first, so that a flood of forged messages is matched against nothing else.
    app.router.routes.insert(0, webhook.route)
    problems.install(app)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Content-Type"],
        )
    # Added last, so it is the outermost: nothing answers before it has looked.
    app.add_middleware(Guard, rules=Rules.of(settings))
    return app


def _webhook(settings: Settings, shared: Shared) -> EventSubWebhook:
    async def secrets() -> list[str]:
        return await (await shared.twitch()).eventsub_secrets()

    assert settings.database_url is not None
    figures = EventSubFigures(shared.metrics.registry, PREFIX)
    return EventSubWebhook(settings.database_url.get_secret_value(), secrets, figures)


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
    temporal, metrics = Temporal(settings), Metrics()
    door = TwitchDoor(settings, db, metrics)
    return Shared(
        settings=settings,
        db=db,
        temporal=temporal,
        readiness=Readiness(db, temporal),
        playlists=Playlists(settings.library),
        metrics=metrics,
        twitch_door=door,
        checkup=Checkup(settings, db, temporal.client, door.circuits),
        pushes=Pushes(db, settings),
    )
