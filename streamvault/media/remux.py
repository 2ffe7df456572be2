"""From parts to the final file in one pass: index in front, chapters, tags, cover and source hash.

The file gets its name only after it was checked. A remux is never resumed, always begun again.
"""

from __future__ import annotations

import asyncio
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from streamvault.errors import RemuxFailed, StorageFull, StorageUnwritable
from streamvault.media.chapters import Chapter, ffmetadata, on_clock, slice_chapters
from streamvault.media.ffmpeg import Ffmpeg, Progress, RunResult, describe_exit, run
from streamvault.media.files import put_in_place, storage_error, write_atomic
from streamvault.media.probe import probe_parts
from streamvault.media.receipt import (
    RemuxResult,
    expected_from_json,
    expected_to_json,
    name_in_receipt,
    read_receipt,
    write_receipt,
)
from streamvault.media.remux_plan import (
    MATROSKA,
    Files,
    OutputPlan,
    PartFile,
    ProbedPart,
    arguments,
    clock_of,
    ffconcat,
    group_parts,
    index_bytes,
    slices_arguments,
)
from streamvault.media.streamhash import SLICES, read_hashes
from streamvault.media.verify import Expected, Verification, verify

__all__ = [
    "PartFile",
    "RemuxOrder",
    "RemuxProgress",
    "RemuxResult",
    "expected_from_json",
    "expected_to_json",
    "remux",
]

SPACE_SHARE = 1.02
SPACE_SPARE_BYTES = 64 * 1024 * 1024
PATIENT_FROM_ATTEMPT = 3  # what failed twice gets other options: longer probing, two passes
_INDEX_TOO_SMALL = re.compile(r"reserved_moov_size is too small")
_NOT_WRITABLE = re.compile(r"Permission denied|Read-only file system")
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")


@dataclass(frozen=True, slots=True)
class RemuxOrder:
    parts: Sequence[PartFile]
    """In order; all on this host."""
    output: Path
    """The final name, `.mp4` or `.mkv`; a second file, if streams change, is `… - part 2`."""
    chapters: Sequence[Chapter] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    """Names that both containers know: title, artist, date, comment, description, genre, show, …"""
    cover: Path | None = None
    """A JPEG."""
    keep_holes: bool = True
    """Leave the time in which nothing was recorded, so that chapters and chat keep to the clock."""
    expected_media_s: float | None = None
    """Length by the journal with the holes kept; by default worked out from the parts."""
    full_check: bool = True
    """Compare stream hashes, too: one more read. Needed before parts may be deleted."""
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class RemuxProgress:
    percent: float
    speed: float | None
    """Media seconds per second."""
    eta_s: float | None
    bytes_written: int


ProgressCallback = Callable[[RemuxProgress], None]


async def remux(
    order: RemuxOrder, ffmpeg: Ffmpeg, on_progress: ProgressCallback | None = None
) -> list[RemuxResult]:
    """Write and verify the final file, or several where codec, size or sound change.

    Idempotent: a finished file made from the same order is returned as it is. `on_progress` is
    called every second. Raises RemuxFailed, VerificationFailed, StorageFull, StorageUnwritable,
    MediaError when a part cannot be read.
    """
    _require_parts(order.parts)
    facts = await probe_parts([part.path for part in order.parts])
    parts = [ProbedPart(file, seen) for file, seen in zip(order.parts, facts, strict=True)]
    plans = group_parts(parts, keep_holes=order.keep_holes)
    order = replace(order, chapters=on_clock(order.chapters, clock_of(plans)))
    reporter = _Reporter(plans, on_progress, checks=order.full_check)
    results = []
    for number, plan in enumerate(plans, start=1):
        results.append(await _Job(order, plan, number, len(plans), ffmpeg, reporter).result())
        reporter.finish(plan)
    return results


class _Job:
    """One output file of an order."""

    def __init__(
        self,
        order: RemuxOrder,
        plan: OutputPlan,
        number: int,
        outputs: int,
        ffmpeg: Ffmpeg,
        reporter: _Reporter,
    ) -> None:
        self._order, self._plan, self._ffmpeg, self._reporter = order, plan, ffmpeg, reporter
        self._single = outputs == 1
        self._final = order.output
        if number > 1:
            self._final = order.output.with_stem(f"{order.output.stem} - part {number}")
        self._receipt = order.parts[0].path.with_name(f"remux-{number}.json")
        end_s = plan.clock_s + plan.duration_s
        self._chapters = slice_chapters(order.chapters, plan.clock_s, end_s)
        self._metadata = ffmetadata(order.tags, self._chapters)

    @property
    def _temporary(self) -> Path:
        final = self._final
        return final.with_name(f".{final.stem}.part-{self._order.attempt}{final.suffix}")

    async def result(self) -> RemuxResult:
        self._final = await asyncio.to_thread(self._own_name)
        if finished := read_receipt(self._receipt, self._fingerprint(), self._final):
            return finished
        self._prepare()
        try:
            with tempfile.TemporaryDirectory(prefix="streamvault-") as scratch:
                result = await self._mux(self._write_inputs(Path(scratch)))
            await asyncio.to_thread(self._put_in_place, result)
        except OSError as error:
            raise storage_error(error, self._final.parent) from error
        finally:
            self._temporary.unlink(missing_ok=True)
        return result

    def _own_name(self) -> Path:
        """Never that of a file which no remux of these parts made: the recording that it belongs to
        may be unknown to a database that was lost."""
        made = name_in_receipt(self._receipt)
        if made is not None and made.parent == self._final.parent:
            return made
        free, number = self._final, 2
        while free.exists():
            free = self._final.with_stem(f"{self._final.stem} ({number})")
            number += 1
        return free

    def _put_in_place(self, result: RemuxResult) -> None:
        # The receipt comes first: without the file it is worth nothing, the file without it would
        # be made again.
        write_atomic(self._receipt, write_receipt(result, self._fingerprint()))
        put_in_place(self._temporary, self._final)

    def _prepare(self) -> None:
        """A clean directory with enough room in it, and something to put there."""
        if not self._plan.codecs:
            name = self._plan.pieces[0].part.file.path.name
            raise RemuxFailed(f"{name} holds neither picture nor sound")
        directory = self._final.parent
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for stale in directory.glob(f".{glob.escape(self._final.stem)}.part-*"):
                stale.unlink(missing_ok=True)
            free = shutil.disk_usage(directory).free
        except OSError as error:
            raise storage_error(error, directory) from error
        needed = int(self._plan.size_bytes * SPACE_SHARE) + SPACE_SPARE_BYTES
        if free < needed:
            raise StorageFull(
                f"{free / 1e9:.2f} GB free in {directory}, the remux needs {needed / 1e9:.2f} GB",
                hint="make room, then retry; the parts are kept",
            )

    def _write_inputs(self, scratch: Path) -> Files:
        files = Files(
            concat=scratch / "parts.ffconcat",
            metadata=scratch / "meta.ffmeta",
            cover=self._order.cover,
            output=self._temporary,
            hashes=scratch / "source.hash",
        )
        files.concat.write_bytes(os.fsencode(ffconcat(self._plan)))
        files.metadata.write_text(self._metadata, encoding="utf-8")
        return files

    async def _mux(self, files: Files) -> RemuxResult:
        cover_bytes = files.cover.stat().st_size if files.cover else 0
        room = index_bytes(self._plan, self._chapters, cover_bytes)
        patient = self._order.attempt >= PATIENT_FROM_ATTEMPT
        done, args = await self._pass(files, None if patient else room)
        passes = 2 if patient and self._final.suffix != MATROSKA else 1
        # ffmpeg 5 has overwritten the first pictures with its index by then, and exits with 0.
        if _INDEX_TOO_SMALL.search(done.log_tail):
            done, args = await self._pass(files, None)
            passes = 2
        self._require_success(done)
        expected = self._expected(done, read_hashes(files.hashes))
        verification = await self._verify(expected)
        if verification.only_the_hash_differs and expected.hash_form != SLICES:
            expected = await self._expected_slices(expected, files)
            verification = await self._verify(expected)
        verification.raise_if_bad()
        command = f"ffmpeg {self._ffmpeg.version}: {_without_paths(args)}"
        return RemuxResult(
            path=self._final,
            size_bytes=self._temporary.stat().st_size,
            duration_s=expected.duration_s,
            expected=replace(expected, holes=verification.holes),
            verification=verification,
            chapters=tuple(self._order.chapters),
            video=self._plan.video_words,
            audio=self._plan.audio_words,
            passes=passes,
            command=command,
            warnings=done.warnings,
        )

    async def _verify(self, expected: Expected) -> Verification:
        return await verify(
            self._temporary,
            expected,
            self._ffmpeg,
            full=self._order.full_check,
            on_progress=self._reporter.checking,
        )

    async def _expected_slices(self, expected: Expected, files: Files) -> Expected:
        """The start codes changed their habit after the sample: only the slices can be compared."""
        files.hashes.unlink()
        done = await run(self._ffmpeg, slices_arguments(self._plan, files))
        self._require_success(done)
        return replace(expected, stream_hash=read_hashes(files.hashes), hash_form=SLICES)

    async def _pass(self, files: Files, moov_size: int | None) -> tuple[RunResult, list[str]]:
        patient = self._order.attempt >= PATIENT_FROM_ATTEMPT
        args = arguments(self._plan, files, moov_size=moov_size, patient=patient)
        done = await run(self._ffmpeg, args, on_progress=self._reporter.muxing, watch=files.output)
        return done, args

    def _require_success(self, done: RunResult) -> None:
        if done.returncode == 0:
            return
        directory = self._final.parent
        if _NO_SPACE.search(done.log_tail):
            raise StorageFull(f"no room left in {directory}", hint="make room, then retry")
        if _NOT_WRITABLE.search(done.log_tail) and not self._temporary.exists():
            raise StorageUnwritable(f"{directory} cannot be written")
        # What is not ffmpeg's own complaint, such as a library that is missing, is the last line.
        last_line = done.log_tail.strip().rpartition("\n")[2]
        last = "; ".join(done.warnings[-3:]) or last_line or "it gave no reason"
        raise RemuxFailed(f"ffmpeg: {describe_exit(done.returncode)}: {last}")

    def _expected(self, done: RunResult, hashes: dict[str, str]) -> Expected:
        known = self._order.expected_media_s if self._single else None
        codecs = self._plan.codecs
        return Expected(
            packets={kind: done.packets_read.get(kind, 0) for kind in codecs},
            duration_s=self._plan.duration_s if known is None else known,
            stream_hash=hashes,
            codecs=codecs,
            hash_form=self._plan.hash_form,
            non_monotonic=done.non_monotonic,
            parts=self._plan.source_parts,
        )

    def _fingerprint(self) -> str:
        """Of everything that the file depends on."""
        order, cover = self._order, self._order.cover
        facts = [
            *((p.part.file.path.name, p.part.file.size_bytes) for p in self._plan.pieces),
            ffconcat(self._plan),
            self._metadata,
            hashlib.sha256(cover.read_bytes()).hexdigest() if cover else "",
            order.full_check,
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


class _Reporter:
    """Progress over all outputs. Checking reads the file once more and counts as a fifth."""

    CHECK_SHARE = 0.2

    def __init__(
        self, plans: Sequence[OutputPlan], callback: ProgressCallback | None, *, checks: bool
    ) -> None:
        self._callback = callback
        self._mux_share = 1.0 - self.CHECK_SHARE if checks else 1.0
        self._plans = list(plans)
        self._total = sum(plan.size_bytes for plan in plans) or 1
        self._done_bytes = 0
        self._written = 0
        self._share = 0.0
        self._began = time.monotonic()

    def muxing(self, progress: Progress) -> None:
        self._written = progress.total_size
        part = min(progress.total_size / (self._plans[0].size_bytes or 1), 1.0)
        self._report(part * self._mux_share, progress.speed)

    def checking(self, progress: Progress) -> None:
        part = min((progress.out_time_s or 0.0) / (self._plans[0].duration_s or 1.0), 1.0)
        self._report(self._mux_share + part * (1.0 - self._mux_share), progress.speed)

    def finish(self, plan: OutputPlan) -> None:
        self._plans = self._plans[1:]
        self._done_bytes += plan.size_bytes
        if not self._plans and self._callback:
            self._callback(RemuxProgress(100.0, None, 0.0, self._written))

    def _report(self, part: float, speed: float | None) -> None:
        share = min((self._done_bytes + part * self._plans[0].size_bytes) / self._total, 0.999)
        # A second check begins where the first one did.
        share = self._share = max(self._share, share)
        elapsed = time.monotonic() - self._began
        eta_s = elapsed * (1.0 - share) / share if share > 0.01 else None
        if self._callback:
            self._callback(RemuxProgress(share * 100, speed, eta_s, self._written))


def _require_parts(parts: Sequence[PartFile]) -> None:
    """Every byte of the journal is there. Raises RemuxFailed."""
    if not parts:
        raise RemuxFailed("there is no part to make a file from")
    for part in parts:
        try:
            size = part.path.stat().st_size
        except OSError as error:
            raise RemuxFailed(f"{part.path.name}: {error.strerror}") from error
        if size < part.size_bytes:
            raise RemuxFailed(f"{part.path.name} has {size} of {part.size_bytes} bytes recorded")


def _without_paths(args: Sequence[str]) -> str:
    return " ".join(f"file:{Path(arg).name}" if arg.startswith("file:") else arg for arg in args)
