"""What a user sets for the whole installation. They never commit.

A value that another release wrote, or that somebody broke by hand, counts as not set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault import templates
from streamvault.db.models import Preference
from streamvault.retention import Rules


class Preferences(msgspec.Struct, frozen=True, kw_only=True):
    """The defaults are those of an installation where nobody has set anything. Of limits, 0 is
    none."""

    naming: str = templates.DEFAULT
    container: Literal["mp4", "mkv", "parts"] = "mp4"
    """`parts` makes no file: what was recorded stays as it came, and is played by HLS."""
    chapters: Literal["title-and-category", "category"] = "title-and-category"
    """What begins a new chapter."""
    ad_chapters: bool = False
    """Ad breaks are chapters; with AD_CHAPTERS they are anyway."""
    gap_chapters: bool = False
    """So is what was not recorded."""
    keep_holes: bool = True
    """Where nothing was recorded the file has as much time without a picture, so that it keeps to
    the clock."""
    trickplay: bool = False
    """Pictures for Jellyfin's time line, beside the file."""
    retention_days: int = 0
    retention_count: int = 0
    """Of each streamer."""
    retention_bytes: int = 0
    """Of each streamer."""
    library_bytes: int = 0
    """Of all together."""
    min_free_bytes: int = 0
    """Recordings are deleted until so much is free on their disk."""

    @property
    def rules(self) -> Rules:
        """For those who have none of their own."""
        return Rules(self.retention_days, self.retention_count, self.retention_bytes)


_KINDS: Mapping[str, Any] = {
    field.name: field.type for field in msgspec.structs.fields(Preferences)
}


async def own_values(session: AsyncSession) -> dict[str, Any]:
    """What was set, by name."""
    rows = await session.scalars(select(Preference))
    return {row.name: row.value for row in rows if _is_good(row.name, row.value)}


async def get_preferences(session: AsyncSession) -> Preferences:
    return Preferences(**await own_values(session))


async def save_preferences(session: AsyncSession, changes: Mapping[str, Any]) -> None:
    """None takes a preference back to its default."""
    for name, value in changes.items():
        if value is None:
            await session.execute(delete(Preference).where(Preference.name == name))
            continue
        values = {"value": value, "updated_at": func.now()}
        written = insert(Preference).values(name=name, **values)
        await session.execute(
            written.on_conflict_do_update(index_elements=[Preference.name], set_=values)
        )


def _is_good(name: str, value: Any) -> bool:
    if name not in _KINDS:
        return False
    try:
        msgspec.convert(value, _KINDS[name])
    except msgspec.ValidationError:
        return False
    return name != "naming" or templates.problem_of(value) is None
