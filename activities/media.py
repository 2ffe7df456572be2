"""From parts to the library: remux, pictures, chapters, sidecars. Each can be run again."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.client import Client

from activities.library import Shelved, take_from_shelf
from activities.progress import Report, reporting, step_of
from activities.removal import TRICKPLAY
from activities.sidecars import write_sidecars
from activities.tidying import COVER_NAME, is_watched, remove_parts
from streamvault.contracts import Step, StepDone, StepInput
from streamvault.db import captured
from streamvault.db.models import mapping
from streamvault.db.session import Database
from streamvault.errors import Conflict, VerificationFailed
from streamvault.media import chapters as chapter_text
from streamvault.media.chapters import Chapter
from streamvault.media.ffmpeg import Ffmpeg
from streamvault.media.files import write_atomic
from streamvault.media.previews import make_poster, make_storyboard, make_trickplay
from streamvault.media.receipt import expected_to_json
from streamvault.media.remux import RemuxOrder, RemuxResult, remux


@dataclass(frozen=True)
class Media:
    db: Database
    libraries: tuple[Path, ...]
    ffmpeg: Ffmpeg
    images: Path
    """Where avatars are kept."""
    ad_chapters: bool = False
    """Ad breaks are chapters too."""
    client: Client | None = None
    """By which the workflow hears how far its step is."""
    one_remux: asyncio.Lock = field(default_factory=asyncio.Lock, compare=False)
    """A remux is bound by the disk, so a second one at once would only slow both."""

    @activity.defn
    async def remux(self, order: StepInput) -> StepDone:
        """Write the final file and verify it; the parts stay until the sidecars are written."""
        async with step_of(self.db, order.recording_id, Step.REMUX):
            shelved = await self._shelved(order)
            if not shelved.has_parts:
                return _finished_before(shelved)
            if shelved.stays_in_parts:
                return await self._keep_parts(order, shelved)
            async with self._reporting(order, Step.REMUX) as report, self.one_remux:
                results = await self._write_final(shelved, report)
            await self._save_final(shelved, results)
            return StepDone(_in_words(results))

    async def _shelved(self, order: StepInput) -> Shelved:
        return await take_from_shelf(
            self.db, self.libraries, order.recording_id, ad_chapters=self.ad_chapters
        )

    def _reporting(self, order: StepInput, step: Step) -> AbstractAsyncContextManager[Report]:
        return reporting(self.db, self.client, order.recording_id, step)

    async def _write_final(self, shelved: Shelved, report: Report) -> list[RemuxResult]:
        cover = shelved.work / COVER_NAME
        poster = await make_poster(shelved.pictures_from, cover)
        order = RemuxOrder(
            parts=shelved.parts,
            output=shelved.final,
            chapters=shelved.new_chapters,
            tags=_tags(shelved),
            cover=cover if poster else None,
            keep_holes=shelved.wishes.keep_holes,
            attempt=activity.info().attempt,
        )
        return await remux(
            order, self.ffmpeg, lambda p: report.note(p.percent / 100, p.speed, p.eta_s)
        )

    async def _keep_parts(self, order: StepInput, shelved: Shelved) -> StepDone:
        """These are what stays, and read once more as a file would be."""
        async with self._reporting(order, Step.REMUX):
            problems = await asyncio.to_thread(shelved.problems_of_parts)
            if problems:
                raise VerificationFailed("; ".join(problems[:3]), hint="the other parts are good")
            await make_poster(shelved.pictures_from, shelved.work / COVER_NAME)
        async with self.db.begin() as session:
            await captured.save_chapters(
                session, shelved.recording.id, [_chapter_row(c) for c in shelved.new_chapters]
            )
            # That they are as they came is what a skipped remux does not say.
            told = {**_report(shelved, []), "container": "parts"}
            await captured.save_report(session, shelved.recording.id, told)
        return StepDone(f"{len(shelved.parts)} parts as they came, their checksums equal")

    async def _save_final(self, shelved: Shelved, results: list[RemuxResult]) -> None:
        first = results[0]
        async with self.db.begin() as session:
            await captured.save_final_file(
                session,
                shelved.recording.id,
                captured.FinalFile(
                    path=str(first.path.relative_to(shelved.shelf)),
                    size_bytes=sum(result.size_bytes for result in results),
                    duration_s=sum(result.duration_s for result in results),
                    codec=shelved.recording.codec or " ".join(first.expected.codecs.values()),
                ),
            )
            await captured.save_chapters(
                session, shelved.recording.id, [_chapter_row(c) for c in first.chapters]
            )
            await captured.save_report(session, shelved.recording.id, _report(shelved, results))

    @activity.defn
    async def thumbnails(self, order: StepInput) -> StepDone:
        """Poster beside the file, storyboard in the working folder."""
        async with step_of(self.db, order.recording_id, Step.THUMBNAILS):
            shelved = await self._shelved(order)
            trickplay = shelved.wishes.trickplay and shelved.recording.path
            async with self._reporting(order, Step.THUMBNAILS) as report:
                await self._place_poster(shelved)
                half = 0.5 if trickplay else 1.0
                board = await make_storyboard(
                    shelved.pictures_from, shelved.work, lambda share: report.note(share * half)
                )
                if trickplay:
                    await make_trickplay(
                        shelved.pictures_from,
                        shelved.beside(TRICKPLAY),
                        lambda share: report.note(0.5 + share * 0.5),
                    )
            return StepDone(f"{board.tiles} pictures" if board else "no picture in this recording")

    async def _place_poster(self, shelved: Shelved) -> None:
        chosen, poster = shelved.work / COVER_NAME, shelved.beside("-poster.jpg")
        if chosen.exists():
            write_atomic(poster, await asyncio.to_thread(chosen.read_bytes))
        else:
            await make_poster(shelved.pictures_from, poster)

    @activity.defn
    async def chapters(self, order: StepInput) -> StepDone:
        """`.chapters.vtt`, and a look whether the file itself has the same chapters."""
        async with step_of(self.db, order.recording_id, Step.CHAPTERS):
            shelved = await self._shelved(order)
            wanted = shelved.chapters
            write_atomic(shelved.beside(".chapters.vtt"), chapter_text.webvtt(wanted))
            if shelved.recording.path and not _in_several_files(shelved):
                found = await chapter_text.read_back(shelved.final)
                if differing := chapter_text.differences(wanted, found):
                    raise VerificationFailed("; ".join(differing[:3]))
            return StepDone(f"{len(wanted)} chapters")

    @activity.defn
    async def sidecars(self, order: StepInput) -> StepDone:
        """NFO and report; then, if the final file is verified, the parts go."""
        async with step_of(self.db, order.recording_id, Step.SIDECARS):
            shelved = await self._shelved(order)
            report = mapping(shelved.recording.report) or _report(shelved, [])
            await write_sidecars(self.db, self.images, shelved, report)
            if not shelved.recording.path:
                return StepDone("report written; the parts stay, since there is no final file")
            if shelved.has_parts and is_watched(shelved.recording):
                return StepDone("NFO and report written; the parts stay while somebody watches")
            if shelved.has_parts:
                await remove_parts(self.db, shelved)
            return StepDone("NFO and report written, parts removed")


def _in_several_files(shelved: Shelved) -> bool:
    return len(mapping(shelved.recording.report).get("files", [])) > 1


def _finished_before(shelved: Shelved) -> StepDone:
    if shelved.recording.path and shelved.final.exists():
        return StepDone("the final file is there already")
    raise Conflict("the parts of this recording are gone", hint="nothing is left to remux")


def _tags(shelved: Shelved) -> dict[str, str]:
    row = shelved.recording
    return {
        "title": row.title,
        "artist": row.streamer_name,
        "show": row.streamer_name,
        "genre": row.category,
        "date": row.started_at.astimezone(UTC).isoformat(timespec="seconds"),
        "comment": row.source_url if row.stream_id else "",
    }


def _chapter_row(chapter: Chapter) -> dict[str, Any]:
    return {
        "start_s": round(chapter.start_s, 3),
        "title": chapter.title,
        "category": chapter.category,
    }


def _report(shelved: Shelved, results: list[RemuxResult]) -> dict[str, Any]:
    row = shelved.recording
    return {
        "recording_id": str(row.id),
        "streamer": row.streamer_name,
        "title": row.title,
        "started_at": row.started_at.astimezone(UTC).isoformat(),
        **shelved.timeline.as_report(),
        "container": results[0].path.suffix.lstrip(".") if results else "",
        "holes": "kept" if shelved.wishes.keep_holes and results else "closed",
        "files": [_file_report(result) for result in results],
    }


def _file_report(result: RemuxResult) -> dict[str, Any]:
    return {
        "name": result.path.name,
        "size_bytes": result.size_bytes,
        "duration_s": round(result.duration_s, 3),
        "video": result.video,
        "audio": result.audio,
        "packets": result.expected.packets,
        "source_stream_hash": result.expected.stream_hash,
        "file_stream_hash": result.verification.stream_hash,
        "stream_hash_form": result.expected.hash_form,
        "checks": [asdict(check) for check in result.verification.checks],
        "expected": expected_to_json(
            replace(result.expected, holes=result.verification.holes or result.expected.holes)
        ),
        "passes": result.passes,
        "command": result.command,
        "warnings": list(result.warnings),
    }


def _in_words(results: list[RemuxResult]) -> str:
    size = sum(result.size_bytes for result in results) / 1e9
    minutes = sum(result.duration_s for result in results) / 60
    equal = all(r.expected.stream_hash == r.verification.stream_hash for r in results)
    return f"{size:.2f} GB, {minutes:.1f} min, stream hash {'equal' if equal else 'not compared'}"
