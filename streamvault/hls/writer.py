"""File work off the event loop: one writer thread per disk, and one that makes things durable.

A blocking write in the event loop would stall every recording of the process at once, so all of it
happens here, in order per disk. What waits in memory is bounded for all recordings together.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, takewhile
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from streamvault.errors import CaptureError, StorageFull, StorageUnwritable
from streamvault.hls.memory import give_back_memory

T = TypeVar("T")

SYNC_EVERY_S = 10.0
"""A power cut loses at most this much; 10 s cost 0.4 ms of CPU per segment."""
QUEUE_BYTES = 48 * 1024 * 1024
"""Handed to writer threads and not written yet."""
AHEAD_BYTES = 16 * 1024 * 1024
"""Segments fetched ahead, waiting for their turn."""
STORAGE_ERRORS = (StorageFull, StorageUnwritable)
FULL = {errno.ENOSPC, errno.EDQUOT}
TOO_MANY_FILES = {errno.EMFILE, errno.ENFILE}


def storage_error(error: OSError, directory: Path) -> CaptureError:
    """The typed error for a failed file operation below `directory`."""
    text = f"{directory}: {error.strerror or error}"
    if error.errno in FULL:
        return StorageFull(text, hint="free some space, the recording then goes on")
    if error.errno in TOO_MANY_FILES:
        return StorageUnwritable(text, hint="raise the limit of open files (ulimit -n)")
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


class _Job:
    """What the writer thread has to do, and who waits for it, if anybody."""

    __slots__ = ("_done", "_error", "_loop", "_result", "_work")

    def __init__(
        self,
        work: Callable[[], object],
        loop: asyncio.AbstractEventLoop,
        done: asyncio.Future[Any] | None = None,
    ) -> None:
        self._work = work
        self._loop = loop
        self._done = done
        self._result: object = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """On the writer thread."""
        if self._done is not None and self._done.cancelled():
            return
        with self:
            self._result = self._work()
        if (self._done or self._error) and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell)

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        # Whatever it is: it is for who waits, and the thread has to go on for all the others.
        self._error = error
        return True

    def _tell(self) -> None:
        if self._done is None:
            assert self._error is not None
            raise self._error
        if self._done.done():
            return
        if self._error is None:
            self._done.set_result(self._result)
        else:
            self._done.set_exception(self._error)


class Disk:
    """The two threads of one file system. To be used on the event loop alone."""

    def __init__(self, name: str, sync_every_s: float = SYNC_EVERY_S) -> None:
        self._jobs: list[_Job] = []
        self._handed_over: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._about_to = False
        self._watched: set[Syncable] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._writer = threading.Thread(target=self._work, name=f"write-{name}", daemon=True)
        self._syncer = threading.Thread(
            target=self._sync_all, args=(sync_every_s,), name=f"sync-{name}", daemon=True
        )
        self._writer.start()
        self._syncer.start()

    async def run(self, job: Callable[[], T]) -> T:
        """Run a job after all those posted before it."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._jobs.append(_Job(job, loop, done))
        self._hand_over_soon(loop)
        return await done

    def post(self, job: Callable[[], None]) -> None:
        """Queue a job that keeps its own errors."""
        self.later(job)
        self._hand_over_soon(asyncio.get_running_loop())

    def later(self, job: Callable[[], None]) -> None:
        """The same, but at the latest together with the next job of any recording."""
        self._jobs.append(_Job(job, asyncio.get_running_loop()))

    def _hand_over_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not at once: the thread would wake up only to wait for the interpreter's lock.
        if not self._about_to:
            self._about_to = True
            loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._about_to = False
        jobs, self._jobs = self._jobs, []
        self._handed_over.put(jobs)

    def _work(self) -> None:
        while self._one_round():
            pass

    def _one_round(self) -> bool:
        """A function of its own, so that no variable keeps a written segment while it waits."""
        jobs = self._handed_over.get()
        for job in jobs or ():
            job.run()
        return jobs is not None

    def watch(self, files: Syncable) -> None:
        """Sync these every few seconds until `unwatch`."""
        with self._lock:
            self._watched.add(files)

    def unwatch(self, files: Syncable) -> None:
        with self._lock:
            self._watched.discard(files)

    def close(self) -> None:
        """Wait for what was queued, then end the threads."""
        self._stop.set()
        self._hand_over()
        self._handed_over.put(None)
        self._writer.join()
        self._syncer.join()

    def _sync_all(self, every_s: float) -> None:
        resident_floor = 0
        while not self._stop.wait(every_s):
            with self._lock:
                watched = tuple(self._watched)
            for files in watched:
                files.sync()
            resident_floor = give_back_memory(resident_floor)


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


def _device(directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    return directory.stat().st_dev
