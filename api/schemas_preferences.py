"""JSON of what is set for the whole installation, and of previews of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from pydantic import BaseModel, Field

from activities.retention import Plan
from api.schemas import Body
from api.schemas_streamers import Bytes, Count, Days, Setting, Template
from streamvault.db.preferences import Preferences

PREVIEWED = 500

Container = Literal["mp4", "mkv", "parts"]
ChapterChanges = Literal["title-and-category", "category"]


class SettingsChange(Body):
    """Only the keys that are given change; null takes a setting back to its default."""

    naming: Template | None = None
    container: Container | None = None
    """Of files to be made; `parts` makes none, and keeps what was recorded as it came."""
    chapters: ChapterChanges | None = None
    """What begins a new chapter."""
    ad_chapters: bool | None = None
    """Ad breaks are chapters too."""
    gap_chapters: bool | None = None
    """So is what was not recorded."""
    keep_holes: bool | None = None
    """Keep the time in which nothing was recorded, so that the file keeps to the clock."""
    trickplay: bool | None = None
    """Pictures for Jellyfin's time line, in a folder beside the file."""
    retention_days: Days | None = None
    """Older recordings are deleted. 0 is without limit, as for all below."""
    retention_count: Count | None = None
    """So many of each streamer are kept."""
    retention_bytes: Bytes | None = None
    """So much of each streamer is kept."""
    library_bytes: Bytes | None = None
    """So much is kept in all."""
    min_free_bytes: Bytes | None = None
    """The oldest are deleted until so much is free on their disk."""

    def over(self, before: dict[str, Any]) -> Preferences:
        """What would hold with this in addition to what was set before."""
        own = {**before, **self.model_dump(exclude_unset=True)}
        return Preferences(**{name: value for name, value in own.items() if value is not None})


class GeneralSettings(BaseModel):
    naming: Setting[str]
    container: Setting[str]
    chapters: Setting[str]
    ad_chapters: Setting[bool]
    gap_chapters: Setting[bool]
    keep_holes: Setting[bool]
    trickplay: Setting[bool]
    retention_days: Setting[int]
    retention_count: Setting[int]
    retention_bytes: Setting[int]
    library_bytes: Setting[int]
    min_free_bytes: Setting[int]

    @classmethod
    def of(cls, own: dict[str, Any]) -> GeneralSettings:
        defaults = msgspec.structs.asdict(Preferences())
        return cls.model_validate(
            {
                name: {"value": own.get(name, default), "default": default, "own": own.get(name)}
                for name, default in defaults.items()
            }
        )


# ---- names


class TemplateTry(Body):
    template: Annotated[str, Field(max_length=1000)]


class NamePreview(BaseModel):
    """What names a template makes of recordings that are there, or of examples."""

    problem: str | None
    """Why it cannot be taken."""
    names: list[str]


class Presets(BaseModel):
    tokens: list[str]
    presets: dict[str, str]


# ---- retention


class GoingItem(BaseModel):
    id: UUID
    streamer: str
    title: str
    started_at: datetime
    size_bytes: int
    why: str


class RetentionPreview(BaseModel):
    """What would be deleted now, the first 500 of it one by one."""

    recordings: int
    size_bytes: int
    items: list[GoingItem]

    @classmethod
    def of(cls, plan: Plan) -> RetentionPreview:
        return cls(
            recordings=len(plan.goes),
            size_bytes=sum(goes.recording.size_bytes for goes in plan.goes),
            items=[_going(plan, n) for n in range(min(len(plan.goes), PREVIEWED))],
        )


def _going(plan: Plan, number: int) -> GoingItem:
    goes = plan.goes[number]
    row = plan.rows[str(goes.recording.id)]
    return GoingItem(
        id=row.id,
        streamer=row.streamer_name,
        title=row.title,
        started_at=row.started_at,
        size_bytes=row.size_bytes,
        why=goes.why,
    )
