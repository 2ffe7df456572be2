"""Recordings to another library, or to the names that today's template gives them.

Of each one everything is in its new place, and compared there, before the database says so, and the
database says so before anything goes from the old place. Whatever ends this in between, the next
attempt goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from temporalio import activity

from activities.library import Shelved, take_from_shelf
from activities.progress import beating
from activities.removal import below, final_files, remove_empty_folders, where_it_is
from activities.sidecars import write_sidecars
from streamvault.contracts import JobDone
from streamvault.db import jobs, recordings
from streamvault.db.models import CLOSED, Job, Recording, mapping
from streamvault.db.session import Database
from streamvault.errors import (
    CaptureError,
    Conflict,
    DependencyUnavailable,
    InvalidInput,
    NotFound,
    StreamVaultError,
    VerificationFailed,
)
from streamvault.hls.journal import remove_part
from streamvault.hls.room import Room, check_room
from streamvault.media.carrying import Carrying, Pair
from streamvault.media.files import storage_error

log = logging.getLogger(__name__)

BEAT_S = 5.0


class MoveOptions(msgspec.Struct, frozen=True):
    to: str = ""
    """One of the libraries; empty: where it is."""
    rename: bool = False
    """The name that a file made today would get."""


class Current(msgspec.Struct, frozen=True):
    """The move that a job is at: whoever goes on with it neither looks for another name nor takes
    a half finished copy for the original."""

    id: str = ""
    origin: str = ""
    """The library from which it comes."""
    new: str = ""
    """The file's place in the library to which it goes."""
    leftover: list[str] = []
    """Relative to the origin: what is in its new place, and still has to go from there."""


@dataclass(frozen=True, slots=True)
class Move:
    """Of one recording."""

    shelved: Shelved
    origin: Path
    old: Path
    """Of the final file, as is the new one; relative to their libraries."""
    target: Path
    new: Path
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Moving:
    db: Database
    libraries: tuple[Path, ...]
    images: Path
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock, compare=False)
    """They would only slow each other."""

    @activity.defn
    async def run_move(self, job_id: str) -> JobDone:
        """One recording after the other; how far it is stands in the job. Raises NotFound."""
        # The wait for another move is part of it.
        async with beating(BEAT_S), self.one_at_a_time:
            await self._finish(job_id)
            while True:
                async with self.db.begin() as session:
                    job = await jobs.get_job(session, job_id, lock=True)
                    if job.state == "done":
                        return JobDone(job.done, len(job.failed))
                    row = next(iter(await jobs.next_of(session, job, 1)), None)
                    if row is None:
                        await jobs.end_job(session, job)
                        continue
                problem = await self._try(job, row)
                async with self.db.begin() as session:
                    job = await jobs.get_job(session, job_id, lock=True)
                    job.last_id, job.progress = row.id, None
                    job.done += not problem
                    if problem:
                        told = {"id": str(row.id), "title": row.title, "problem": problem}
                        job.failed = [*job.failed, told]

    async def _try(self, job: Job, row: Recording) -> str:
        """What went wrong, in one line; empty if nothing did. That the database is away is nobody's
        fault here: the next attempt goes on."""
        try:
            await self._move(job, str(row.id))
        except DependencyUnavailable:
            raise
        except StreamVaultError as error:
            log.warning("not moved", extra={"recording_id": str(row.id), "why": error.one_line})
            return error.one_line
        return ""

    async def _move(self, job: Job, recording_id: str) -> None:
        shelved = await take_from_shelf(self.db, self.libraries, recording_id)
        move = await asyncio.to_thread(plan_move, shelved, self.libraries, job)
        if not move.pairs:
            return
        job_id = str(job.id)
        await self._note(job_id, Current(recording_id, str(move.origin), str(move.new)))
        carrying = await asyncio.to_thread(Carrying, move.pairs)
        try:
            await asyncio.to_thread(_require_room, move)
            await self._carry(carrying, job_id)
            await self._write_down(job_id, move)
        except (Conflict, CaptureError, VerificationFailed, NotFound):
            # It stays where it is, or was deleted for good meanwhile.
            await asyncio.to_thread(carrying.take_back)
            raise
        await self._finish(job_id)

    async def _note(self, job_id: str, current: Current) -> None:
        async with self.db.begin() as session:
            job = await jobs.get_job(session, job_id, lock=True)
            job.current = msgspec.to_builtins(current)

    async def _carry(self, carrying: Carrying, job_id: str) -> None:
        """In a thread that stops with this activity. Raises Conflict, StorageFull,
        StorageUnwritable, VerificationFailed."""
        task = asyncio.create_task(asyncio.to_thread(carrying.run))
        try:
            while not task.done():
                await self._note_progress(job_id, carrying.share)
                await asyncio.wait({task}, timeout=BEAT_S)
            await task
        except OSError as error:
            raise storage_error(error, carrying.pairs[0].target.parent) from error
        finally:
            carrying.stop()
            await asyncio.gather(task, return_exceptions=True)

    async def _note_progress(self, job_id: str, share: float) -> None:
        try:
            async with self.db.begin() as session:
                (await jobs.get_job(session, job_id, lock=True)).progress = share
        except DependencyUnavailable:
            log.warning("progress not saved: the database is away", extra={"job_id": job_id})

    async def _write_down(self, job_id: str, move: Move) -> None:
        """Where it is from now on, and what is to go from where it was."""
        async with self.db.begin() as session:
            job = await jobs.get_job(session, job_id, lock=True)
            row = await recordings.get_recording(session, move.shelved.recording.id, lock=True)
            row.path = str(move.new)
            if row.report:
                row.report = _renamed(mapping(row.report), move)
            leftover = [str(pair.source.relative_to(move.origin)) for pair in move.pairs]
            job.current = {**job.current, "leftover": leftover}

    async def _finish(self, job_id: str) -> None:
        """What follows once it is written down: sidecars that name the file, and the old place."""
        async with self.db.begin() as session:
            current = _current(await jobs.get_job(session, job_id))
        if not current.leftover:
            return
        with suppress(NotFound):
            shelved = await take_from_shelf(self.db, self.libraries, current.id)
            await write_sidecars(self.db, self.images, shelved, mapping(shelved.recording.report))
        if current.origin in {str(root) for root in self.libraries}:
            await asyncio.to_thread(_remove, Path(current.origin), current.leftover)
        await self._note(job_id, Current())


def _current(job: Job) -> Current:
    return msgspec.convert(job.current, Current)


def plan_move(shelved: Shelved, libraries: Sequence[Path], job: Job) -> Move:
    """What goes where. Raises Conflict for a recording that cannot be moved now, InvalidInput."""
    row, options = shelved.recording, msgspec.convert(job.options, MoveOptions)
    begun = _current(job)
    begun = begun if begun.id == str(row.id) else Current()
    roots = {str(root): root for root in libraries}
    origin = roots.get(begun.origin) or _origin(row, libraries)
    target = roots.get(options.to or str(origin))
    if target is None:
        raise InvalidInput(f"{options.to!r} is not a library", hint="see /api/storage")
    old = Path(row.path or "")
    new = Path(begun.new or (_new_name(shelved, target, old) if options.rename else old))
    pairs = [
        Pair(path, _beside(target / new, origin / old, path))
        for path in final_files(origin, row)
        if path.is_file()
    ]
    if target != origin and row.parts_gone_at is not None:
        pairs += _storyboard(row, origin, target)
    moved = tuple(pair for pair in pairs if pair.source != pair.target)
    return Move(shelved, origin, old, target, new, moved)


def _require_room(move: Move) -> None:
    """As much stays free as recordings want there. Raises StorageFull."""
    if move.target != move.origin:
        missing = [pair.source for pair in move.pairs if not pair.target.exists()]
        needed = sum(path.stat().st_size for path in missing)
        check_room(move.target, Room.at(move.target).reserve_bytes + needed)


def _origin(row: Recording, libraries: Sequence[Path]) -> Path:
    if row.status not in CLOSED:
        raise Conflict("this recording is not finished", hint="wait until it is")
    here = where_it_is(libraries, row) if row.path else None
    if here is None:
        raise Conflict("this recording has no file here", hint="only finished files are moved")
    return libraries[here]


def _storyboard(row: Recording, origin: Path, target: Path) -> Iterator[Pair]:
    """Unless there is a newer one, as its steps always write to the first library."""
    if not row.directory:
        return
    folder = below(target, row.directory)
    for path in below(origin, row.directory).glob("storyboard*"):
        if path.is_file() and not (folder / path.name).exists():
            yield Pair(path, folder / path.name)


def _new_name(shelved: Shelved, target: Path, old: Path) -> Path:
    """By today's template, in the container that it has; with a number where that is taken."""
    wanted = shelved.name.with_name(f"{shelved.name.stem}{old.suffix}")
    free, number = wanted, 2
    while (target / free).exists() and free != old:
        free = wanted.with_name(f"{wanted.stem} ({number}){wanted.suffix}")
        number += 1
    return free


def _beside(new: Path, old: Path, path: Path) -> Path:
    """Where a file of the old stem goes, folders between them included."""
    first, *others = path.relative_to(old.parent).parts
    return new.parent.joinpath(_in_words_of(new.stem, old.stem, first), *others)


def _in_words_of(new_stem: str, old_stem: str, name: str) -> str:
    return new_stem + name.removeprefix(old_stem) if name.startswith(old_stem) else name


def _renamed(report: Mapping[str, Any], move: Move) -> dict[str, Any]:
    """The report with the names that its files have from now on."""
    names = {pair.source.name: pair.target.name for pair in move.pairs}
    told = report.get("files")
    files = [mapping(one) for one in told] if isinstance(told, list) else []
    named = [{**one, "name": names.get(one.get("name", ""), one.get("name"))} for one in files]
    return {**report, "files": named}


def _remove(root: Path, names: Sequence[str]) -> None:
    paths = [below(root, name) for name in names]
    for path in paths:
        remove_part(path)
    remove_empty_folders(root, paths)
