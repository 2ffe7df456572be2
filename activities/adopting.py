"""The catalog from the library: what a lost database knew stands in the reports beside the files.

Nothing in the library is changed. What is in the database already stays as it is, but a file that
was moved by hand is found again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from activities.progress import beating
from activities.removal import below, where_it_is
from activities.tidying import REPORT_OF_PARTS
from activities.timeline_rows import save_timeline
from activities.told import ABOUT, COLUMNS, Told
from streamvault.contracts import Adopted, Status, Step, url_workflow_id
from streamvault.db import captured, facts, library, recordings, streamers, streams
from streamvault.db.models import Recording
from streamvault.db.session import Database
from streamvault.errors import InvalidInput, StreamVaultError
from streamvault.hls.journal import JOURNAL_NAME, read_journal
from streamvault.hls.timeline import Timeline

log = logging.getLogger(__name__)

BEAT_S = 5.0
ENDING = ".report.json"
MOST_BYTES = 32 * 1024 * 1024
QUIET_S = 600.0
WORK = ".streamvault"
MOST_TOLD = 100
"""Lines for people; more of them nobody reads."""


@dataclass(frozen=True, slots=True)
class Lying:
    """A report and where it was found."""

    root: Path
    path: Path
    text: bytes

    def read(self) -> Told:
        """Raises InvalidInput."""
        try:
            return msgspec.json.decode(self.text, type=Told)
        except msgspec.MsgspecError as error:
            raise InvalidInput(f"{self.path}: {error}", hint="this report is damaged") from None

    @property
    def is_of_parts(self) -> bool:
        return self.path.name == REPORT_OF_PARTS

    @property
    def stem(self) -> str:
        return self.path.name.removesuffix(ENDING)


@dataclass(slots=True)
class _Count:
    known: int = 0
    added: int = 0
    moved: int = 0
    taken_up: int = 0
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Adopting:
    db: Database
    libraries: tuple[Path, ...]

    @activity.defn
    async def adopt(self) -> Adopted:
        """Every report in the library has its row; what has a row but no file is named."""
        count = _Count()
        async with beating(BEAT_S):
            for lying in await asyncio.to_thread(lambda: list(_find(self.libraries, count))):
                await self._take_in(lying, count)
            for orphan in await asyncio.to_thread(lambda: list(_find_orphans(self.libraries))):
                await self._take_up(orphan, count)
            async with self.db.begin() as session:
                rows = await library.with_files(session)
            count.missing = await asyncio.to_thread(_missing, rows, self.libraries)
        adopted = Adopted(
            known=count.known,
            added=count.added,
            moved=count.moved,
            taken_up=count.taken_up,
            missing=count.missing[:MOST_TOLD],
            problems=count.problems[:MOST_TOLD],
        )
        async with self.db.begin() as session:
            await facts.put_fact(session, facts.ADOPTED, msgspec.to_builtins(adopted))
        return adopted

    async def _take_in(self, lying: Lying, count: _Count) -> None:
        try:
            told = lying.read()
            try:
                await self._note(lying, told, count)
            except IntegrityError:
                # Since the database was lost another recording has got its number of the day.
                told.catalog.episode = told.catalog.series = None
                await self._note(lying, told, count)
        except (StreamVaultError, IntegrityError) as error:
            why = _in_words(error)
            log.warning("not adopted", extra={"report": str(lying.path), "why": why})
            count.problems.append(f"{lying.path.name}: {why}")

    async def _take_up(self, orphan: Orphan, count: _Count) -> None:
        """The watchdog finds that nobody has its processing in hand, and starts it. What has a
        report with it stays in parts."""
        if (lying := await asyncio.to_thread(orphan.report)) is not None:
            await self._take_in(lying, count)
            return
        timeline = await asyncio.to_thread(orphan.timeline)
        if not timeline.parts:
            return
        async with self.db.begin() as session:
            if await session.get(Recording, orphan.id) is None:
                told = await asyncio.to_thread(orphan.about)
                row = _row_of_parts(orphan, timeline, told)
                row.streamer_id = await _streamer_of(session, told)
                row.stream_id = await _stream_of(session, told, row.streamer_id)
                session.add(row)
                await session.flush()
                await recordings.add_steps(session, orphan.id)
                await save_timeline(session, str(orphan.id), timeline)
                for event in told.events:
                    await streams.add_channel_event(
                        session, row.id, event.at, event.title, event.category
                    )
                count.taken_up += 1

    async def _note(self, lying: Lying, told: Told, count: _Count) -> None:
        async with self.db.begin() as session:
            row = await session.get(Recording, told.recording_id, with_for_update=True)
            if row is None:
                await _add(session, lying, told)
                count.added += 1
            elif await asyncio.to_thread(_was_moved, row, lying, told, self.libraries):
                row.path = _path_of(lying, told)
                count.moved += 1
            else:
                count.known += 1


def _in_words(error: StreamVaultError | IntegrityError) -> str:
    if isinstance(error, StreamVaultError):
        return error.one_line
    # asyncpg's error, which names the constraint, is the cause of SQLAlchemy's.
    name = getattr(getattr(error.orig, "__cause__", None), "constraint_name", "")
    return f"the database refuses it ({name or 'a constraint'})"


def _find(libraries: Sequence[Path], count: _Count) -> Iterator[Lying]:
    """Every report; links are not followed."""
    for root in libraries:
        for folder, _, names in os.walk(root):
            for name in sorted(names):
                path = Path(folder, name)
                if not name.endswith(ENDING) or path.is_symlink():
                    continue
                try:
                    if path.stat().st_size <= MOST_BYTES:
                        yield Lying(root, path, path.read_bytes())
                except OSError as error:
                    count.problems.append(f"{name}: {error.strerror}")


@dataclass(frozen=True, slots=True)
class Orphan:
    """A working folder with parts, of which no file was made yet."""

    id: UUID
    root: Path
    folder: Path

    @property
    def place(self) -> str:
        return str(self.folder.relative_to(self.root))

    def about(self) -> Told:
        """By an older release, or damaged: whose it is says the place at least."""
        try:
            return msgspec.json.decode((self.folder / ABOUT).read_bytes(), type=Told)
        except (OSError, msgspec.MsgspecError):
            streamer = Path(self.place).parts[0]
            return Told(self.id, streamer, title="", started_at=datetime.now(UTC))

    def report(self) -> Lying | None:
        path = self.folder / REPORT_OF_PARTS
        try:
            return Lying(self.root, path, path.read_bytes())
        except OSError:
            return None

    def timeline(self) -> Timeline:
        return Timeline(read_journal(self.folder / JOURNAL_NAME).records)


def _find_orphans(libraries: Sequence[Path]) -> Iterator[Orphan]:
    """Those that nothing was written to for a while: they are not being recorded."""
    before = time.time() - QUIET_S
    for root in libraries:
        for journal in root.glob(f"**/{WORK}/*/{JOURNAL_NAME}"):
            try:
                recording_id = UUID(journal.parent.name)
                quiet = journal.stat().st_mtime < before
            except (ValueError, OSError):
                continue
            if quiet and not journal.parent.is_symlink():
                yield Orphan(recording_id, root, journal.parent)


def _row_of_parts(orphan: Orphan, timeline: Timeline, told: Told) -> Recording:
    """How much there is say the parts."""
    first, last = timeline.parts[0], timeline.parts[-1]
    known = told.catalog
    return Recording(
        id=orphan.id,
        source_key=f"adopted:{orphan.id}",
        source_url=known.source_url,
        holds_source=True,
        workflow_id=url_workflow_id(str(orphan.id)),
        status=str(Status.PROCESSING),
        step=str(Step.REMUX),
        streamer_name=told.streamer,
        streamer_login=known.streamer_login,
        platform=known.platform,
        title=told.title,
        category=known.category,
        quality=known.quality,
        started_by=known.started_by,
        started_at=datetime.fromtimestamp(first.start_wall_s, UTC),
        ended_at=datetime.fromtimestamp(last.start_wall_s + last.span_s, UTC),
        directory=orphan.place,
        variant=last.variant,
        codec=last.codecs,
        size_bytes=timeline.size_bytes,
        duration_s=timeline.duration_s,
    )


def _path_of(lying: Lying, told: Told) -> str | None:
    """Of the file beside the report; files that were renamed together keep the same stem."""
    if not told.files:
        return None
    ending = Path(told.files[0].name).suffix
    return str((lying.path.parent / f"{lying.stem}{ending}").relative_to(lying.root))


def _was_moved(row: Recording, lying: Lying, told: Told, libraries: Sequence[Path]) -> bool:
    path = _path_of(lying, told)
    if path is None or row.path is None or not (lying.root / path).exists():
        return False
    return not any(below(root, row.path).exists() for root in libraries)


async def _add(session: AsyncSession, lying: Lying, told: Told) -> None:
    known = told.catalog
    row = Recording(
        id=told.recording_id,
        source_key=_source_key(told),
        source_url=known.source_url,
        holds_source=False,
        status=str(Status.COMPLETED if told.files or lying.is_of_parts else Status.FAILED),
        step=str(Step.NOTIFY),
        streamer_name=told.streamer,
        title=told.title,
        started_at=told.started_at,
        totals=told.totals,
        report=msgspec.json.decode(lying.text),
        path=_path_of(lying, told),
        size_bytes=sum(file.size_bytes for file in told.files) or told.size_bytes,
        duration_s=sum(file.duration_s for file in told.files) or told.duration_s,
        created_at=told.started_at,
        **{name: getattr(known, name) for name in COLUMNS},
    )
    row.workflow_id = row.workflow_id or url_workflow_id(str(row.id))
    await _see_to_files(row, lying, told)
    row.streamer_id = await _streamer_of(session, told)
    row.stream_id = await _stream_of(session, told, row.streamer_id)
    session.add(row)
    await session.flush()
    await recordings.add_steps(session, row.id, done_at=known.ended_at or told.started_at)
    await captured.replace_parts_and_gaps(session, row.id, *_accounts(told), told.totals)


async def _see_to_files(row: Recording, lying: Lying, told: Told) -> None:
    """Retention deletes nothing that is not as its report says."""
    problem = await asyncio.to_thread(_problem_of_files, lying, told)
    if problem:
        row.verified_at = datetime.now(UTC)
        row.verification = {"ok": False, "checks": [], "problem": problem}
    if lying.is_of_parts:
        row.directory = str(lying.path.parent.relative_to(lying.root))
    work = below(lying.root, row.directory) if row.directory else None
    has_parts = work is not None and await asyncio.to_thread((work / JOURNAL_NAME).exists)
    row.parts_gone_at = None if has_parts else datetime.now(UTC)


def _problem_of_files(lying: Lying, told: Told) -> str:
    for number, file in enumerate(told.files):
        first = _path_of(lying, told) if number == 0 else None
        path = lying.root / first if first else lying.path.with_name(Path(file.name).name)
        if not path.exists():
            return f"{path.name} is missing"
        if (size := path.stat().st_size) != file.size_bytes:
            return f"{path.name} has {size} bytes, not {file.size_bytes}"
    return ""


def _source_key(told: Told) -> str:
    known = told.catalog
    if known.stream_id:
        return f"{known.platform}:{known.stream_id}"
    return known.source_url or f"adopted:{told.recording_id}"


async def _streamer_of(session: AsyncSession, told: Told) -> UUID | None:
    """Nobody is followed because of what was recorded once."""
    known = told.catalog
    if not known.platform or not known.streamer_login:
        return None
    found = await streamers.find_streamer(session, known.platform, known.streamer_login)
    return found.id if found else None


async def _stream_of(session: AsyncSession, told: Told, streamer_id: UUID | None) -> UUID | None:
    known = told.catalog
    if not known.stream_id:
        return None
    return await streams.note_stream(
        session,
        known.platform,
        known.stream_id,
        streamer_id=streamer_id,
        title=told.title,
        category=known.category,
    )


def _accounts(
    told: Told,
) -> tuple[list[captured.PartRow], list[captured.GapRow], list[captured.AdRow]]:
    return (
        [
            captured.PartRow(
                part.number, part.file, part.size_bytes, part.duration_s, part.began_at,
                part.crc32 or "",
            )
            for part in told.parts
        ],
        [captured.GapRow(gap.start_s, gap.duration_s, gap.cause, gap.at) for gap in told.gaps],
        [captured.AdRow(ad.start_s, ad.duration_s, ad.kind) for ad in told.ads],
    )  # fmt: skip


def _missing(rows: Sequence[Recording], libraries: Sequence[Path]) -> list[str]:
    found = []
    for row in rows:
        try:
            gone = row.path is not None and where_it_is(libraries, row) is None
        except InvalidInput:
            gone = True
        if gone:
            found.append(f"{row.id}: {row.path}")
    return found
