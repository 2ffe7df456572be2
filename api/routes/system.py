"""Process, dependencies, metrics, and the page that says where things are."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import HTMLResponse, JSONResponse

from api.deps import Deps, Shared
from api.metrics_page import whole_page
from api.problems import Problem
from api.schemas import has_parts
from streamvault.db import counts, facts, library
from streamvault.db.models import Recording
from streamvault.embedded import runfile
from streamvault.errors import DependencyUnavailable

router = APIRouter(tags=["system"])

PLACES = {
    "recordings": "/api/recordings",
    "streamers": "/api/streamers",
    "proxies": "/api/proxies",
    "pipelines": "/api/pipelines",
    "dead_letters": "/api/dead-letters",
    "twitch": "/api/twitch/status",
    "settings": "/api/settings",
    "storage": "/api/storage",
    "health": "/api/health",
    "metrics": "/metrics",
    "openapi": "/openapi.json",
}
SHOWN = 20


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok"}


@router.get("/readyz", response_class=Response)
async def readyz(deps: Deps, request: Request) -> Response:
    """Database and Temporal answer as well; 503 if not."""
    if (await deps.readiness.state()).ready:
        return JSONResponse({"status": "ready"})
    return Problem(503, "Not ready", scope=request.scope, headers={"Retry-After": "1"})


@router.get("/metrics", response_class=Response)
async def metrics(deps: Deps) -> Response:
    """Figures of this process and, from the database, of the whole system."""
    state = await deps.readiness.state()
    deps.metrics.database_up.set(state.database)
    deps.metrics.temporal_up.set(state.temporal)
    # Before this request takes a connection of its own.
    deps.metrics.connections_used.set(deps.db.connections_used)
    deps.metrics.connections_allowed.set(deps.db.connections_allowed)
    try:
        async with deps.db.begin() as session:
            found = await counts.count_all(session)
            watchdog = await facts.get_fact(session, facts.WATCHDOG)
        deps.metrics.system.update(
            active=found.active_recordings,
            needing_attention=found.needing_attention,
            failures=found.failures,
            queues={"processing": found.processing, "notifications": found.notifications_queued},
            watchdog_at=watchdog.updated_at.timestamp() if watchdog else 0.0,
        )
        if watchdog:
            deps.metrics.watchdog.update(watchdog.value)
    except DependencyUnavailable:
        deps.metrics.database_up.set(False)
    page = await whole_page(deps.metrics.registry, _worker_ports(deps))
    return Response(page, media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _worker_ports(deps: Shared) -> dict[str, int]:
    """Of the workers beside us, if `up` runs them; elsewhere each is scraped by itself."""
    running = runfile.read(deps.settings.data_dir)
    return running.metrics_ports if running else {}


@router.get("/", response_class=Response, include_in_schema=False)
async def home(deps: Deps, request: Request) -> Response:
    """Where things are: for people, or as JSON for those who ask for it."""
    places = _places(deps)
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse(places)
    async with deps.db.begin() as session:
        page = await library.list_recordings(session, limit=SHOWN)
    return HTMLResponse(_page(places, page.items))


def _places(deps: Shared) -> dict[str, str]:
    ui = deps.settings.temporal_ui_url
    return {**PLACES, **({"temporal_ui": ui} if ui else {})}


def _page(places: dict[str, str], rows: Sequence[Recording]) -> str:
    links = "".join(
        f'<li><a href="{escape(href)}">{escape(name.replace("_", " "))}</a></li>'
        for name, href in places.items()
    )
    items = "".join(map(_row, rows)) or "<p>Nothing is recorded yet.</p>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>StreamVault</title>'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme"'
        ' content="light dark"><link rel="icon" href="data:,"></head><body><h1>StreamVault</h1>'
        f"<h2>Where things are</h2><ul>{links}</ul><h2>Recordings</h2>{items}</body></html>"
    )


def _row(row: Recording) -> str:
    base = f"/api/recordings/{row.id}"
    links = [f'<a href="{base}">details</a>']
    if has_parts(row):
        links.append(f'<a href="{base}/playlist.m3u8">playlist</a>')
    if row.path:
        links.append(f'<a href="{base}/media">file</a>')
    about = " · ".join(filter(None, (row.streamer_name, row.title, row.status, row.reason)))
    return f"<p>{escape(about)}<br>{' '.join(links)}</p>"
