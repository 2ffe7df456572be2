"""`record URL`: one live stream through the same durable pipeline, watched from the terminal."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from temporalio.service import RPCError

from activities.starts import start_recording
from commands.reach import Reach, reach
from streamvault.contracts import Status, StepState
from streamvault.db import recordings
from streamvault.db.models import Recording, mapping
from streamvault.embedded.runfile import Running
from streamvault.errors import DependencyUnavailable, InvalidInput, StreamVaultError
from streamvault.settings import Settings

LOOK_EVERY_S = 0.5
LINE_EVERY_S = 10.0  # without a terminal: a line now and then, not a display
SIDECARS = (".nfo", "-poster.jpg", ".chapters.vtt", ".report.json")


class RecordingFailed(StreamVaultError):
    """The recording ended without a file."""


async def record(
    settings: Settings, running: Running, url: str, quality: str, output: Path | None
) -> None:
    """Record until the stream ends or Ctrl-C stops it, then print the finished file.

    Raises StreamVaultError: what went wrong, in one line."""
    async with reach(settings, running) as there:
        recording_id, created = await start_recording(
            there.client, there.db, url=url, quality=quality, started_by="cli"
        )
        finished = await _Watch(there, recording_id, created).until_finished()
    for path in _delivered(settings.libraries, finished, output):
        print(path)


def prepare_output(output: Path) -> None:
    """Raises InvalidInput before anything is recorded that could not be put there."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"--output {output}: {error.strerror}") from None
    if not os.access(output, os.W_OK | os.X_OK):
        raise InvalidInput(f"--output {output}: no permission to write there")


class _Watch:
    """One recording on the terminal."""

    def __init__(self, there: Reach, recording_id: str, created: bool) -> None:
        self._there = there
        self._id = recording_id
        self._console = Console(stderr=True)
        self._stopping = asyncio.Event()
        if not created:
            self._console.print("this stream is being recorded already; watching that recording")

    async def until_finished(self) -> Recording:
        """Raises RecordingFailed; a second Ctrl-C leaves the recording to the stack."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._stopping.set)
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        stopper = asyncio.create_task(self._stop_when_asked())
        show = self._show_live if self._console.is_terminal else self._show_lines
        try:
            return await show()
        finally:
            stopper.cancel()
            loop.remove_signal_handler(signal.SIGINT)
            loop.remove_signal_handler(signal.SIGTERM)

    async def _stop_when_asked(self) -> None:
        await self._stopping.wait()
        # From here on Ctrl-C is the terminal's again, for whoever does not want to wait.
        loop = asyncio.get_running_loop()
        loop.remove_signal_handler(signal.SIGINT)
        self._console.print("stopping; the file is being finished (Ctrl-C again: do not wait)")
        async with self._there.db.begin() as session:
            row = await recordings.get_recording(session, self._id)
        handle = self._there.client.get_workflow_handle(row.workflow_id)
        try:
            await handle.signal("stop", "stopped")
        except RPCError as error:
            self._console.print(f"the stop did not get through: {error.status.name.lower()}")

    async def _show_live(self) -> Recording:
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            return await self._follow(lambda row: live.update(_display(row), refresh=True))

    async def _show_lines(self) -> Recording:
        last = datetime.min.replace(tzinfo=UTC)
        stage = ""

        def show(row: Recording) -> None:
            nonlocal last, stage
            now = datetime.now(UTC)
            if (now - last).total_seconds() >= LINE_EVERY_S or row.status != stage:
                last, stage = now, row.status
                self._console.print(_line(row), soft_wrap=True, highlight=False)

        return await self._follow(show)

    async def _follow(self, show: Callable[[Recording], None]) -> Recording:
        while True:
            row = await self._row()
            if row is not None:
                show(row)
                if row.status == Status.COMPLETED:
                    return row
                _raise_if_over(row)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _row(self) -> Recording | None:
        """None while the database is away: the recording does not need it."""
        try:
            async with self._there.db.begin() as session:
                return await recordings.get_detail(session, self._id)
        except DependencyUnavailable:
            return None


def _raise_if_over(row: Recording) -> None:
    if row.status == Status.FAILED:
        raise RecordingFailed(row.reason or "the recording failed")
    if row.status == Status.NEEDS_ATTENTION:
        raise RecordingFailed(
            f"{row.step} needs attention: {row.reason}",
            hint=f"what is recorded is kept; mend it and retry the pipeline of {row.id}",
        )


def _display(row: Recording) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("[bold]" + (row.streamer_name or row.source_url), row.title)
    for name, value in _figures(row).items():
        table.add_row(name, value)
    return table


def _line(row: Recording) -> str:
    return " · ".join(f"{name} {value}" for name, value in _figures(row).items())


def _figures(row: Recording) -> dict[str, str]:
    totals = mapping(row.totals)
    elapsed = int(((row.ended_at or datetime.now(UTC)) - row.started_at).total_seconds())
    lost = totals.get("segments_lost", 0)
    gaps = f"{len(row.gaps)} ({totals.get('gap_s', 0):.0f} s)" if row.gaps else "none"
    return {
        "stage": f"{row.status}, {_stage(row)}",
        "elapsed": f"{elapsed // 3600}:{elapsed // 60 % 60:02}:{elapsed % 60:02}",
        "size": f"{row.size_bytes / 1e6:.1f} MB",
        "bitrate": f"{row.bitrate_bps / 1e6:.2f} Mbit/s",
        "segments": f"{totals.get('segments_stored', 0)}, {lost} lost",
        "gaps": gaps,
    }


def _stage(row: Recording) -> str:
    """The step under way, with how far it is."""
    for step in row.steps:
        if step.state in {StepState.RUNNING, StepState.RETRYING, StepState.PARKED}:
            share = f" {step.progress:.0%}" if step.progress else ""
            return f"{step.name} {step.state}{share}"
    return row.step


def _delivered(libraries: Sequence[Path], row: Recording, output: Path | None) -> list[Path]:
    """The finished file, in the folder that was asked for."""
    first = libraries[0]
    if row.path is None:
        raise RecordingFailed(
            "there is no final file", hint=f"the parts are in {first / (row.directory or '')}"
        )
    library = next((root for root in libraries if (root / row.path).exists()), first)
    names = [f["name"] for f in mapping(row.report).get("files", [])] or [Path(row.path).name]
    folder = (library / row.path).parent
    if output is None:
        return [folder / name for name in names]
    for name in names:
        _place(folder / name, output)
    stem = Path(row.path).stem
    for ending in SIDECARS:
        if (beside := folder / f"{stem}{ending}").exists():
            _place(beside, output)
    return [output / name for name in names]


def _place(source: Path, folder: Path) -> None:
    """A second name for the file, or a copy on another file system."""
    target = folder / source.name
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
