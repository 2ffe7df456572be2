"""A finished recording against its report: is the file still what was recorded?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from temporalio import activity

from activities.library import Shelved, stored_chapters, take_from_shelf
from activities.progress import beating
from streamvault.contracts import FileCheck, Verified
from streamvault.db import captured
from streamvault.db.models import mapping
from streamvault.db.session import Database
from streamvault.errors import Conflict, MediaError
from streamvault.media import chapters
from streamvault.media.ffmpeg import Ffmpeg
from streamvault.media.receipt import expected_from_json
from streamvault.media.verify import verify

BEAT_S = 5.0
BESIDE = (".nfo", ".report.json", ".chapters.vtt")


@dataclass(frozen=True)
class Verifying:
    db: Database
    libraries: tuple[Path, ...]
    ffmpeg: Ffmpeg

    @activity.defn
    async def verify(self, recording_id: str) -> Verified:
        """Read the file once more, or the parts where these are all there is; the result goes with
        the recording. Nothing is touched.

        Raises NotFound, and Conflict for a recording of which there is neither."""
        shelved = await take_from_shelf(self.db, self.libraries, recording_id)
        async with beating(BEAT_S):
            checks = await self._checks(shelved)
        found = Verified(all(check.passed for check in checks), checks)
        async with self.db.begin() as session:
            await captured.save_verification(session, recording_id, asdict(found))
        return found

    async def _checks(self, shelved: Shelved) -> list[FileCheck]:
        files = mapping(shelved.recording.report).get("files", [])
        if not files and shelved.timeline.parts:
            problems = await asyncio.to_thread(shelved.problems_of_parts)
            told = "; ".join(problems) or f"{len(shelved.parts)} parts"
            return [FileCheck("parts", not problems, told)]
        if not files:
            raise Conflict(
                "this recording has no finished file", hint="there is nothing to compare with"
            )
        checks: list[FileCheck] = []
        for told in files:
            checks += await self._check_file(shelved, told)
        checks += await _check_chapters(shelved, len(files))
        return [*checks, *await asyncio.to_thread(lambda: [*_check_beside(shelved)])]

    async def _check_file(self, shelved: Shelved, told: Mapping[str, Any]) -> list[FileCheck]:
        path = shelved.final.with_name(told["name"])
        try:
            size = (await asyncio.to_thread(path.stat)).st_size
        except OSError as error:
            return [FileCheck(f"{path.name}: there", False, error.strerror or "not there")]
        note = f"{size:,} bytes, {told['size_bytes']:,} when it was made"
        checks = [FileCheck(f"{path.name}: size", size == told["size_bytes"], note)]
        if "expected" not in told:
            return [
                *checks,
                FileCheck("content", False, "its report was written by an older release"),
            ]
        found = await verify(path, expected_from_json(told["expected"]), self.ffmpeg)
        return [*checks, *(FileCheck(c.name, c.ok, c.detail) for c in found.checks)]


async def _check_chapters(shelved: Shelved, files: int) -> list[FileCheck]:
    """Of several files each has its share, which their stream hashes do not cover."""
    if files > 1:
        return []
    wanted = stored_chapters(shelved.recording)
    try:
        differing = chapters.differences(wanted, await chapters.read_back(shelved.final))
    except MediaError as error:
        return [FileCheck("chapters", False, error.one_line)]
    return [FileCheck("chapters", not differing, "; ".join(differing) or f"{len(wanted)} chapters")]


def _check_beside(shelved: Shelved) -> Iterator[FileCheck]:
    for ending in BESIDE:
        path = shelved.beside(ending)
        there = path.exists()
        yield FileCheck(ending, there, path.name if there else f"{path.name} is not there")
