"""File work off the event loop: one writer thread per disk, and one that makes things durable.

A blocking write in the event loop would stall every recording of the process at once, so all of it
happens here, in order per disk. What waits in memory is bounded for all recordings together.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Protocol, TypeVar

from streamvault.errors import CaptureError, StorageFull, StorageUnwritable

T = TypeVar("T")

SYNC_EVERY_S = 10.0
"""A power cut loses at most this much; 10 s cost 0.4 ms of CPU per segment."""
QUEUE_BYTES = 48 * 1024 * 1024
"""Handed to writer threads and not written yet."""
AHEAD_BYTES = 16 * 1024 * 1024
"""Segments fetched ahead, waiting for their turn."""
STORAGE_ERRORS = (StorageFull, StorageUnwritable)
FULL = {errno.ENOSPC, errno.EDQUOT}


def storage_error(error: OSError, directory: Path) -> CaptureError:
    """The typed error for a failed file operation below `directory`."""
    text = f"{directory}: {error.strerror or error}"
    if error.errno in FULL:
        return StorageFull(text, hint="free some space, the recording then goes on")
    return StorageUnwritable(text, hint="check that the folder exists and may be written")


class Budget:
    """Bytes of media in memory, of all recordings together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        return self._used

    def take(self, size: int, *, force: bool = False) -> bool:
        """Take `size` bytes; False, and nothing taken, when they do not fit."""
        with self._lock:
            if not force and self._used and self._used + size > self._limit:
                return False
            self._used += size
            return True

    def give(self, size: int) -> None:
        with self._lock:
            self._used -= size


@dataclass(frozen=True, slots=True)
class Batch:
    """Adjoining pieces of a segment as the network brought them; joining them would be a copy."""

    pieces: list[bytes]
    size: int

    def start(self, size: int) -> bytes:
        """The first `size` bytes."""
        if len(self.pieces[0]) >= size:
            return self.pieces[0][:size]
        needed = 1 + sum(1 for _ in takewhile(size.__gt__, accumulate(map(len, self.pieces))))
        return b"".join(self.pieces[:needed])[:size]


class Syncable(Protocol):
    def sync(self) -> None: ...


class Disk:
    """The two threads of one file system."""

    def __init__(self, name: str, sync_every_s: float = SYNC_EVERY_S) -> None:
        self._writer = ThreadPoolExecutor(1, thread_name_prefix=f"write-{name}")
        self._later: list[Callable[[], None]] = []
        self._watched: set[Syncable] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._syncer = threading.Thread(
            target=self._sync_all, args=(sync_every_s,), name=f"sync-{name}", daemon=True
        )
        self._syncer.start()

    async def run(self, job: Callable[[], T]) -> T:
        """Run a job after all those posted before it."""
        before = self._take_later()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, _run_in_order, before, job)

    def post(self, job: Callable[[], None]) -> None:
        """Queue a job that keeps its own errors."""
        self._writer.submit(_run_in_order, self._take_later(), job)

    def later(self, job: Callable[[], None]) -> None:
        """The same, but at the latest together with the next job of any recording."""
        self._later.append(job)

    def _take_later(self) -> list[Callable[[], None]]:
        jobs, self._later = self._later, []
        return jobs

    def watch(self, files: Syncable) -> None:
        """Sync these every few seconds until `unwatch`."""
        with self._lock:
            self._watched.add(files)

    def unwatch(self, files: Syncable) -> None:
        with self._lock:
            self._watched.discard(files)

    def close(self) -> None:
        self._stop.set()
        self._writer.shutdown(wait=True)
        self._syncer.join()

    def _sync_all(self, every_s: float) -> None:
        while not self._stop.wait(every_s):
            with self._lock:
                watched = tuple(self._watched)
            for files in watched:
                files.sync()
            _give_back_memory()


class Disks:
    """The disks that recordings of this process are on."""

    def __init__(
        self,
        *,
        sync_every_s: float = SYNC_EVERY_S,
        queue_bytes: int = QUEUE_BYTES,
        ahead_bytes: int = AHEAD_BYTES,
    ) -> None:
        self.queue = Budget(queue_bytes)
        self.ahead = Budget(ahead_bytes)
        self._sync_every_s = sync_every_s
        self._disks: dict[int, Disk] = {}

    async def of(self, directory: Path) -> Disk:
        """The disk of a folder, which is made if missing.

        Raises StorageFull or StorageUnwritable.
        """
        try:
            device = await asyncio.to_thread(_device, directory)
        except OSError as error:
            raise storage_error(error, directory) from None
        if device not in self._disks:
            self._disks[device] = Disk(str(len(self._disks)), self._sync_every_s)
        return self._disks[device]

    def close(self) -> None:
        """Wait for what is queued, then end the threads."""
        for disk in self._disks.values():
            disk.close()
        self._disks.clear()


def _find_malloc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None  # not glibc
    return trim


_malloc_trim = _find_malloc_trim()


def _give_back_memory() -> None:
    """Free pages between blocks stay with the process otherwise: with 25 recordings, 60 MB after
    they all had caught up at once (malloc_trim(3))."""
    if _malloc_trim is not None:
        _malloc_trim(0)


def _run_in_order(before: list[Callable[[], None]], job: Callable[[], T]) -> T:
    for earlier in before:
        earlier()
    return job()


def _device(directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    return directory.stat().st_dev
