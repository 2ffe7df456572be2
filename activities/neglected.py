"""What should have somebody who looks after it, and has nobody. Only looked for, and told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from streamvault.db import watch
from streamvault.db.session import Database
from streamvault.db.watch import LiveUnrecorded, Unfinished
from streamvault.filters import Filters, allows
from streamvault.hls.journal import JOURNAL_NAME

# Two rounds of the poll and a start.
LIVE_FOR = timedelta(minutes=2)
NO_JOURNAL_FOR = timedelta(minutes=1)
LEFT_FOR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Neglected:
    live: list[str] = field(default_factory=list)
    """Logins: live, to be recorded, and not recorded."""
    without_journal: list[str] = field(default_factory=list)
    """Recordings that have a folder on this host and no journal in it."""
    left: list[str] = field(default_factory=list)
    """Recordings that failed long ago and whose parts are still there."""

    def as_fact(self) -> dict[str, Any]:
        return asdict(self)


async def find_neglected(
    db: Database, rows: Sequence[Unfinished], library: Path | None
) -> Neglected:
    """`library`: where the folders of recordings are, if they are on this host at all."""
    async with db.begin() as session:
        live = await watch.live_unrecorded(session, LIVE_FOR)
        left = await watch.failed_with_parts(session, LEFT_FOR)
    bare = await asyncio.to_thread(_without_journal, rows, library) if library else []
    return Neglected(_wanted(live), bare, [str(recording_id) for recording_id in left])


def _wanted(live: Sequence[LiveUnrecorded]) -> list[str]:
    """Those whose filters let the stream pass."""
    return [
        row.login
        for row in live
        if allows(Filters.read(row.filters), row.title, row.category) is None
    ]


def _without_journal(rows: Sequence[Unfinished], library: Path) -> list[str]:
    long_ago = datetime.now(UTC) - NO_JOURNAL_FOR
    found = []
    for row in rows:
        folder = library / row.directory if row.directory else None
        if folder is None or not row.is_captured or not row.duration_s:
            continue
        if row.created_at > long_ago:
            continue
        if folder.is_dir() and not (folder / JOURNAL_NAME).exists():
            found.append(str(row.id))
    return found
