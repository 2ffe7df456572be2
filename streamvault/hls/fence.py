"""Who may write a recording's directory: a lock, and a number that only grows.

The lock keeps two live processes apart. The number tells which of them is wanted: it is written
into the lock file, also by one that has to wait, and a holder that reads a higher one than its own
closes its files and goes. A holder that does not, because it was stopped or its machine hangs, is
left with the file it locked while a new one takes its name: when it wakes, it sees that and writes
nothing more. Whoever took over writes a journal and a part of its own, so that what the other one
may still have had in hand can hit neither.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from pathlib import Path
from typing import TypeVar

from streamvault.errors import CaptureBusy, CaptureLocked, CaptureReplaced

T = TypeVar("T")
LOCK_NAME = ".lock"
LOOK_S = 0.2
_DIGITS = 32


class Claim(Enum):
    """How one comes to a directory that another process may hold."""

    NEW = auto()
    WAITING = auto()
    """The holder was told to go."""
    FORCED = auto()
    """It had its time."""


class Fence:
    """Made by `take`; held until `release`."""

    def __init__(self, path: Path, fd: int, number: int, *, taken_over: bool) -> None:
        self.taken_over = taken_over
        """The holder before may still believe that the directory is its own."""
        self._path = path
        self._fd = fd
        self._number = number

    @classmethod
    def take(cls, directory: Path, number: int | None, claim: Claim = Claim.NEW) -> Fence:
        """Lock the directory. None is above every number.

        Raises CaptureReplaced when a higher number was seen, CaptureLocked when another process
        with this one holds the lock, CaptureBusy when one with a lower number does, OSError.
        """
        path = directory / LOCK_NAME
        fd = _open(path)
        try:
            known = _read(fd)
            number = known + 1 if number is None else number
            if known > number:
                raise CaptureReplaced(f"{directory}: a newer attempt records here")
            held = not _lock(fd)
            if held and known == number and claim is Claim.NEW:
                raise CaptureLocked(f"{directory}: another process records here")
            _write(fd, number)
            if held:
                if claim is not Claim.FORCED:
                    raise CaptureBusy(f"{directory}: another process still records here")
                fd = _replace(path, fd, number)
            return cls(path, fd, number, taken_over=held)
        except BaseException:
            os.close(fd)
            raise

    def check(self) -> None:
        """Raises CaptureReplaced when the directory is wanted by a newer attempt. Cheap."""
        if _read(self._fd) > self._number:
            raise CaptureReplaced("a newer attempt takes this recording over")

    def grow(self, number: int) -> None:
        """A newer attempt found us at work, and leaves it to us."""
        if number > self._number:
            self._number = number
            if _read(self._fd) < number:
                _write(self._fd, number)

    @property
    def is_ours(self) -> bool:
        """Whether the files may still be put in order before they are closed."""
        try:
            return self._path.stat().st_ino == os.fstat(self._fd).st_ino
        except OSError:
            return False

    def release(self) -> None:
        os.close(self._fd)


async def when_free(take: Callable[[Claim], Awaitable[T]], patience_s: float) -> T:
    """`take` until it succeeds: by force once the holder had its time to go."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    claim = Claim.NEW
    while True:
        try:
            return await take(claim)
        except CaptureBusy:
            await asyncio.sleep(LOOK_S)
        claim = Claim.WAITING if loop.time() < deadline else Claim.FORCED


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(fd: int) -> int:
    text = os.pread(fd, _DIGITS, 0).strip()
    return int(text) if text.isdigit() else 0


def _write(fd: int, number: int) -> None:
    # Longer than before, or as long: numbers only grow, so that no reader sees a mixture that is
    # cut off.
    os.ftruncate(fd, os.pwrite(fd, b"%d\n" % number, 0))


def _replace(path: Path, old: int, number: int) -> int:
    """A lock file of our own under the name of the one that another process holds."""
    new = path.with_name(f"{LOCK_NAME}.{os.getpid()}")
    new.unlink(missing_ok=True)
    fd = _open(new)
    try:
        _lock(fd)
        _write(fd, number)
        new.replace(path)
    except OSError:
        os.close(fd)
        raise
    os.close(old)
    return fd
