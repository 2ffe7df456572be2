"""All captures of one recorder process, and what must outlive it.

One small file per unfinished capture says what is recorded where, so that the next process goes on
by itself at its start. These files hold playlist addresses with tokens: folder 0700, files 0600.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from streamvault.contracts import CaptureEnd
from streamvault.errors import CaptureLocked, CaptureReplaced, InvalidInput, SourceError
from streamvault.hls.capture import Capture
from streamvault.hls.fence import Claim, when_free
from streamvault.hls.fetch import Fetcher
from streamvault.hls.files import RecordingFiles
from streamvault.hls.journal import JOURNAL_NAME
from streamvault.hls.order import (
    CaptureOrder,
    OpenReader,
    Resolve,
    Routes,
    StreamOf,
    Surroundings,
)
from streamvault.hls.records import Ended
from streamvault.hls.thresholds import Thresholds
from streamvault.hls.timeline import Timeline
from streamvault.hls.writer import Disks, storage_error
from streamvault.source import Playback, Transport

log = logging.getLogger(__name__)

ORPHAN_GRACE_S = 60.0
RESUMED_GRACE_S = 900.0
"""A capture that goes on by itself waits this long for its workflow: longer than Temporal is away
in an upgrade."""
FINAL = {CaptureEnd.ENDED, CaptureEnd.STOPPED, CaptureEnd.NOTHING}
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class _State:
    """What is on disk about one unfinished capture."""

    order: CaptureOrder
    attempt: str = ""
    playback: Playback | None = None


class Captures:
    """`attach` is the one way in: it finds the running capture, or goes on from the journal."""

    def __init__(
        self,
        state_dir: Path,
        *,
        resolve: Resolve,
        open_reader: OpenReader,
        fetcher: Fetcher,
        disks: Disks | None = None,
        thresholds: Thresholds | None = None,
        min_free_bytes: int | None = None,
        stream_of: StreamOf | None = None,
        routes: Routes | None = None,
        libraries: tuple[Path, ...] = (),
    ) -> None:
        self._around = Surroundings(
            resolve, open_reader, fetcher, disks or Disks(), thresholds or Thresholds(),
            min_free_bytes, stream_of, routes, libraries,
        )  # fmt: skip
        self._states = _StateFiles(state_dir)
        self._running: dict[str, Capture] = {}
        self._orphans: dict[str, asyncio.TimerHandle] = {}
        self._stale: dict[str, str] = {}
        self._draining: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Lock()

    def get(self, recording_id: str) -> Capture | None:
        """The capture that runs now; None: there is none in this process."""
        return self._running.get(recording_id)

    @property
    def running(self) -> tuple[Capture, ...]:
        return tuple(self._running.values())

    async def attach(self, order: CaptureOrder) -> Capture:
        """The running capture of this recording, or a new one that goes on from its journal.

        Raises CaptureLocked for a fence below the one seen last, StorageFull or
        StorageUnwritable when the state cannot be kept.
        """
        async with self._opening:
            capture = self._running.get(order.recording_id)
            if capture is not None:
                if order.fence < capture.order.fence:
                    raise CaptureLocked("a newer attempt watches this recording")
                session = max(order.session, capture.order.session)
                newer = replace(capture.order, fence=order.fence, session=session)
                # In this order: a number in the lock file that no state knows would lock us out
                # after a crash.
                await self._states.store(order.recording_id, order=newer)
                capture.take_order(newer)
            else:
                capture = await self._start(_State(order))
            self._cancel_orphan(order.recording_id)
            return capture

    async def resume_all(self) -> list[Capture]:
        """At the start of the process: go on with every unfinished capture whose lock is free."""
        resumed = []
        async with self._opening:
            for state in await self._states.read_all():
                recording_id = state.order.recording_id
                if state.attempt:
                    self._stale[recording_id] = state.attempt
                if recording_id not in self._running:
                    resumed.append(await self._start(state))
                    self.detach(recording_id, RESUMED_GRACE_S)
        return resumed

    def detach(self, recording_id: str, grace_s: float = ORPHAN_GRACE_S) -> None:
        """Nobody watches this capture: drain it after the grace, unless somebody attaches."""
        self._cancel_orphan(recording_id)
        if recording_id in self._running:
            loop = asyncio.get_running_loop()
            self._orphans[recording_id] = loop.call_later(grace_s, self._abandon, recording_id)

    def remember_attempt(self, recording_id: str, token: str) -> None:
        """Keep an attempt's token, to be found by the next process."""
        self._stale.pop(recording_id, None)
        self._states.change(recording_id, attempt=token)

    def stale_attempts(self) -> dict[str, str]:
        """Tokens of attempts that a former process left behind, by recording."""
        return dict(self._stale)

    async def seal(self, recording_id: str, directory: Path, reason: str) -> Timeline:
        """Write the end of a recording, stopping its capture; again and again with one result.

        Raises CaptureLocked, StorageFull, StorageUnwritable.
        """
        capture = self._running.get(recording_id)
        if capture is not None:
            capture.stop(reason)
            await asyncio.wait({capture.task})
        async with self._opening:
            timeline = Timeline()
            # Nothing was stored where there is no journal; a folder is not made to find that out.
            if await asyncio.to_thread((directory / JOURNAL_NAME).exists):
                disk = await self._around.disks.of(directory)
                timeline = await when_free(
                    lambda claim: disk.run(partial(_seal, directory, reason, claim)),
                    self._around.thresholds.takeover_s,
                )
            await self._states.remove(recording_id)
        return timeline

    async def drain_all(self) -> None:
        """Close everything for the next process to go on, then end the writer threads."""
        for recording_id in tuple(self._orphans):
            self._cancel_orphan(recording_id)
        await asyncio.gather(*(capture.drain() for capture in self.running))
        await asyncio.gather(*self._draining)
        await self._states.close()
        await asyncio.to_thread(self._around.disks.close)

    async def _start(self, state: _State) -> Capture:
        recording_id = state.order.recording_id
        known = await self._readdressed(state, await self._states.keep(state))

        async def remember(playback: Playback) -> None:
            self._states.change(recording_id, playback=playback)

        capture = Capture(state.order, self._around, known=known, remember=remember)
        self._running[recording_id] = capture
        capture.task.add_done_callback(lambda _: self._ended(capture))
        return capture

    async def _readdressed(self, state: _State, known: Playback | None) -> Playback | None:
        routes = self._around.routes
        if known is None or routes is None:
            return known
        return await routes.readdressed(known, state.order.wish())

    def _ended(self, capture: Capture) -> None:
        recording_id = capture.order.recording_id
        if self._running.get(recording_id) is capture:
            del self._running[recording_id]
            self._cancel_orphan(recording_id)
        if _is_final(capture.task):
            self._states.forget(recording_id)
        elif _is_replaced(capture.task):
            self._states.forget(recording_id, up_to_fence=capture.order.fence)

    def _abandon(self, recording_id: str) -> None:
        self._orphans.pop(recording_id, None)
        capture = self._running.get(recording_id)
        if capture is not None:
            log.warning("nobody watches this capture", extra={"recording_id": recording_id})
            task = asyncio.create_task(capture.drain())
            self._draining.add(task)
            task.add_done_callback(self._draining.discard)

    def _cancel_orphan(self, recording_id: str) -> None:
        timer = self._orphans.pop(recording_id, None)
        if timer is not None:
            timer.cancel()


def _is_final(task: asyncio.Task[Any]) -> bool:
    """Whether there is nothing to go on with at the next start."""
    if task.cancelled():
        return False
    error = task.exception()
    if error is not None:
        return isinstance(error, SourceError) and error.permanent
    return task.result().end in FINAL


def _is_replaced(task: asyncio.Task[Any]) -> bool:
    return not task.cancelled() and isinstance(task.exception(), CaptureReplaced)


def _seal(directory: Path, reason: str, claim: Claim) -> Timeline:
    files = RecordingFiles.open(directory, fence=None, min_free_bytes=0, claim=claim)
    timeline = Timeline(files.recovery.records)
    if files.recovery.finished:
        files.close()
        return timeline
    # Later runs count by the clock, so this end is above all before it and below all to come.
    end = Ended(time.time(), reason, CaptureEnd.ENDED, int(time.time() * 1000))
    for record in files.close(end):
        timeline.feed(record)
    return timeline


# ---- the state files


class _StateFiles:
    """Read and written on one thread of their own, in order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, _State] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="capture-state")

    async def read_all(self) -> list[_State]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read_all)

    async def keep(self, state: _State) -> Playback | None:
        """Write a state, keeping what an older file of it knows; returns the playback session."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(self._keep, state))

    def change(self, recording_id: str, **fields: Any) -> None:
        """Change a state that is kept; one that was removed meanwhile stays so."""
        self._thread.submit(self._change, recording_id, fields)

    async def store(self, recording_id: str, **fields: Any) -> None:
        """The same, and it is there afterwards."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._change, recording_id, fields)

    def forget(self, recording_id: str, up_to_fence: int | None = None) -> None:
        """That of a newer attempt, which another process may have written, stays."""
        self._thread.submit(self._forget, recording_id, up_to_fence)

    async def remove(self, recording_id: str) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, partial(self._remove, recording_id))

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)

    def _path(self, recording_id: str) -> Path:
        if not _ID.fullmatch(recording_id):
            raise InvalidInput("a recording id is letters, digits, dots, dashes and underscores")
        return self._folder / f"{recording_id}.json"

    def _read_all(self) -> list[_State]:
        states = (_read(path) for path in sorted(self._folder.glob("*.json")))
        return [state for state in states if state is not None]

    def _keep(self, state: _State) -> Playback | None:
        path = self._path(state.order.recording_id)
        with self._typed_errors():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            old = _read(path)
            if old is not None and state.playback is None:
                state = replace(state, attempt=old.attempt, playback=old.playback)
            self._write(path, state)
        self._known[state.order.recording_id] = state
        return state.playback

    def _change(self, recording_id: str, fields: dict[str, Any]) -> None:
        state = self._known.get(recording_id)
        if state is None:
            return
        self._known[recording_id] = replace(state, **fields)
        try:
            self._write(self._path(recording_id), self._known[recording_id])
        except OSError as error:
            # The recording itself is not touched; only a resume would have to ask again.
            log.warning("capture state not kept", extra={"why": error.strerror})

    def _forget(self, recording_id: str, up_to_fence: int | None) -> None:
        kept = _read(self._path(recording_id))
        if kept is None or up_to_fence is None or kept.order.fence <= up_to_fence:
            self._remove(recording_id)

    def _remove(self, recording_id: str) -> None:
        self._known.pop(recording_id, None)
        with self._typed_errors():
            self._path(recording_id).unlink(missing_ok=True)

    def _write(self, path: Path, state: _State) -> None:
        new = path.with_suffix(".new")
        content = asdict(replace(state, playback=_without_address(state.playback)))
        content["order"]["directory"] = str(state.order.directory)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(content, file)
        new.replace(path)

    @contextmanager
    def _typed_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error(error, self._folder) from None


def _without_address(playback: Playback | None) -> Playback | None:
    """Its proxy's address may hold a password; with the proxy's id it is found again."""
    if playback is None or playback.proxy is None:
        return playback
    return replace(playback, proxy=None) if playback.proxy_id else None


def _read(path: Path) -> _State | None:
    """None: there is no such file, or it is damaged. A capture's journal tells the rest."""
    try:
        content = json.loads(path.read_bytes())
        order, playback = content["order"], content["playback"]
        order["directory"] = Path(order["directory"])
        order["codecs"] = tuple(order.get("codecs", ()))
        if playback is not None:
            playback["transport"] = Transport(playback["transport"])
            playback = Playback(**playback)
        return _State(CaptureOrder(**order), content["attempt"], playback)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
