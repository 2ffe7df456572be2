"""What goes from the library: by the rules, because somebody deleted it, or because room is wanted.

The preview and the run look at the same rows in the same way. Files go before their row, so that
whatever ends a run in between leaves something that the next one finds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.engine import temporal_away
from activities.progress import beating
from activities.removal import remove_files, where_it_is
from streamvault.contracts import Status, SweepInput, Swept, processing_workflow_id
from streamvault.db import facts, library, preferences, recordings
from streamvault.db.models import CLOSED, Recording, mapping
from streamvault.db.preferences import Preferences
from streamvault.db.session import Database
from streamvault.errors import (
    InvalidInput,
    NotFound,
    StorageUnwritable,
    StreamVaultError,
)
from streamvault.hls.room import Room
from streamvault.retention import Goes, Kept, Order, choose

log = logging.getLogger(__name__)

BEAT_S = 5.0
# A player that has buffered asks for nothing for a while, and somebody may have paused.
WATCHED_FOR = timedelta(minutes=30)
NOT_THERE = -1


@dataclass(frozen=True, slots=True)
class Plan:
    """What would go now, and the rows that were looked at, by id."""

    goes: Sequence[Goes]
    rows: dict[str, Recording]


async def make_plan(
    session: AsyncSession, libraries: Sequence[Path], wishes: Preferences | None = None
) -> Plan:
    """By the preferences as they are, or as they are wished for."""
    wanted = wishes or await preferences.get_preferences(session)
    rows = await library.with_files(session)
    own = await library.own_rules(session)
    now = datetime.now(UTC)
    kept, free = await asyncio.to_thread(_look, rows, libraries, now)
    order = Order(
        general=wanted.rules,
        own=own,
        library_bytes=wanted.library_bytes,
        min_free_bytes=wanted.min_free_bytes,
        free_bytes=free,
    )
    return Plan(choose(kept, order, now), {str(row.id): row for row in rows})


def _look(
    rows: Iterable[Recording], libraries: Sequence[Path], now: datetime
) -> tuple[list[Kept], dict[int, int]]:
    kept = [_as_kept(row, libraries, now) for row in rows]
    used = {one.disk for one in kept if one.disk != NOT_THERE}
    return kept, {disk: Room.at(libraries[disk]).free_bytes for disk in used}


def _as_kept(row: Recording, libraries: Sequence[Path], now: datetime) -> Kept:
    disk = _disk_of(row, libraries)
    return Kept(
        id=row.id,
        group=str(row.streamer_id or f"name:{row.streamer_name.lower()}"),
        made_at=row.started_at,
        size_bytes=row.size_bytes,
        stays=why_it_stays(row, now) or ("its file is not here" if disk == NOT_THERE else ""),
        disk=disk,
        deleted=row.deleted_at is not None,
    )


def _disk_of(row: Recording, libraries: Sequence[Path]) -> int:
    try:
        disk = where_it_is(libraries, row)
    except (InvalidInput, OSError):
        return NOT_THERE
    return NOT_THERE if disk is None else disk


def why_it_stays(row: Recording, now: datetime) -> str:
    """Why no rule may delete this one; empty if one may."""
    if row.status not in CLOSED:
        return "not finished"
    if row.locked:
        return "locked"
    if row.watched_at is not None and now - row.watched_at < WATCHED_FOR:
        return "being watched"
    # What a person deleted was looked at by that person.
    if row.deleted_at is None and not _is_verified(row):
        return "not verified"
    return ""


def _is_verified(row: Recording) -> bool:
    """A file gets its name only when it was verified; a later look may have found it damaged."""
    has_what_was_wanted = row.path or mapping(row.report).get("container") == "parts"
    if row.status != Status.COMPLETED or not has_what_was_wanted:
        return False
    return bool(mapping(row.verification).get("ok", True))


@dataclass(frozen=True)
class Retention:
    db: Database
    client: Client
    libraries: tuple[Path, ...]

    @activity.defn
    async def sweep(self, order: SweepInput) -> Swept:
        """Delete what the rules say, then remove the files of everything whose time has come."""
        async with beating(BEAT_S):
            async with self.db.begin() as session:
                if order.room_wanted:
                    await library.empty_trash(session)
                plan = await make_plan(session, self.libraries)
            for goes in plan.goes:
                await self._condemn(goes)
            swept = await self._purge()
        async with self.db.begin() as session:
            told = {"recordings": swept.recordings, "size_bytes": swept.size_bytes}
            await facts.put_fact(session, facts.RETENTION, {**told, "problems": swept.problems})
        return swept

    async def _condemn(self, goes: Goes) -> None:
        """If it still may go: rows may have changed since the plan was made."""
        async with self.db.begin() as session:
            try:
                row = await recordings.get_recording(session, goes.recording.id, lock=True)
            except NotFound:
                return
            if why_it_stays(row, datetime.now(UTC)):
                return
            await library.delete_recording(session, row.id, goes.why, timedelta())
        log.info("deleted", extra={"recording_id": str(row.id), "why": goes.why})

    async def _purge(self) -> Swept:
        async with self.db.begin() as session:
            due = await library.due_for_purge(session)
        gone, problems = [], []
        for row in due:
            if why_it_stays(row, datetime.now(UTC)):
                continue
            try:
                await self._remove(row)
            except StreamVaultError as error:
                log.warning("not removed", extra={"recording_id": str(row.id), "why": str(error)})
                problems.append(f"{row.id}: {error.one_line}")
            else:
                gone.append(row.size_bytes)
        return Swept(len(gone), sum(gone), problems)

    async def _remove(self, row: Recording) -> None:
        missing = [root for root in self.libraries if not root.is_dir()]
        if missing and _disk_of(row, self.libraries) == NOT_THERE:
            raise StorageUnwritable(f"{missing[0]} is not there", hint="is its disk mounted?")
        await self._end_pipeline(row)
        await asyncio.to_thread(remove_files, self.libraries, row)
        async with self.db.begin() as session:
            await library.forget(session, row.id)

    async def _end_pipeline(self, row: Recording) -> None:
        """A step that waits for a person waits no more. The stream's own workflow may long be
        that of another recording."""
        handle = self.client.get_workflow_handle(processing_workflow_id(str(row.id)))
        try:
            await handle.terminate(reason="the recording was deleted")
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise temporal_away(error) from None
