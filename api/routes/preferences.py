"""What is set for the whole installation, and what a setting would come to."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter

from activities import starts
from activities.library import name_of
from activities.retention import make_plan
from api.deps import Deps, Shared
from api.schemas_preferences import (
    GeneralSettings,
    NamePreview,
    Presets,
    RetentionPreview,
    SettingsChange,
    TemplateTry,
)
from streamvault import templates
from streamvault.db import library, preferences
from streamvault.db.library import Wanted
from streamvault.media import naming
from streamvault.settings import stable_host_id

router = APIRouter(prefix="/api/settings", tags=["settings"])

EXAMPLES = 5
EXAMPLE = naming.Named(
    streamer="Alice",
    started_at=datetime(2026, 11, 27, 20, 5, tzinfo=UTC),
    number=1,
    title="Painting the harbour: part 3",
    category="Art",
    login="alice",
    quality="1080p60",
    stream_id="40952121085",
)


@router.get("")
async def show(deps: Deps) -> GeneralSettings:
    """Streamers can have their own of some."""
    async with deps.db.begin() as session:
        return GeneralSettings.of(await preferences.own_values(session))


@router.patch("")
async def change(body: SettingsChange, deps: Deps) -> GeneralSettings:
    """Retention deletes by a new rule within a quarter of an hour; look at its preview first."""
    async with deps.db.begin() as session:
        await preferences.save_preferences(session, body.model_dump(exclude_unset=True))
        return GeneralSettings.of(await preferences.own_values(session))


@router.get("/naming")
async def naming_presets() -> Presets:
    """What a template can hold, and some that suit most."""
    return Presets(tokens=list(templates.TOKENS), presets=templates.PRESETS)


@router.post("/naming/preview")
async def preview_names(body: TemplateTry, deps: Deps) -> NamePreview:
    """The last recordings as they would be called; files that are there keep their names."""
    if problem := templates.problem_of(body.template):
        return NamePreview(problem=f"this template {problem}", names=[])
    named = await _last_recordings(deps) or [EXAMPLE]
    return NamePreview(
        problem=None, names=[str(naming.recording_path(body.template, one)) for one in named]
    )


@router.post("/retention/preview")
async def preview_retention(body: SettingsChange, deps: Deps) -> RetentionPreview:
    """What would be deleted if these held, in addition to what is set."""
    async with deps.db.begin() as session:
        wishes = body.over(await preferences.own_values(session))
        plan = await make_plan(session, deps.settings.libraries, wishes)
    return RetentionPreview.of(plan)


@router.post("/retention/run", status_code=202)
async def run_retention(deps: Deps) -> dict[str, str]:
    """Delete now what the rules say, and remove what was deleted long enough ago."""
    await starts.start_sweep(await deps.temporal.client(), stable_host_id(deps.settings))
    return {"action": "retention"}


async def _last_recordings(deps: Shared) -> list[naming.Named]:
    async with deps.db.begin() as session:
        page = await library.list_recordings(session, Wanted(), limit=EXAMPLES)
    return [name_of(row, row.episode or 1, row.stream) for row in page.items if row.streamer_name]
