"""Files brought to another place, on this file system or on another one, and compared there.

A file is whole before its name is. Nothing is taken away: that is for whoever knows that the new
place has been written down.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from streamvault.errors import Conflict, VerificationFailed
from streamvault.media.files import put_in_place

CHUNK = 4 * 1024 * 1024
# Where there are no hard links, or not from here to there.
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EINVAL}


class Stopped(Exception):
    """Somebody called `stop`."""


@dataclass(frozen=True, slots=True)
class Pair:
    source: Path
    target: Path


class Carrying:
    """Runs in a thread of its own; `stop` and the figures are for others."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs
        self.made: list[Path] = []
        """What was not there before."""
        self.total_bytes = sum(pair.source.stat().st_size for pair in pairs)
        self._done_bytes = 0
        self._stop = Event()

    @property
    def share(self) -> float:
        """From 0 to 1; what is copied counts when it was read back."""
        return min(self._done_bytes / self.total_bytes, 1.0) if self.total_bytes else 0.0

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        """Again, it goes on where it was. Raises Conflict for a name that something else has,
        VerificationFailed, Stopped, OSError."""
        for pair in self.pairs:
            self._place(pair)

    def take_back(self) -> None:
        """What was made is not wanted any more."""
        for path in self.made:
            path.unlink(missing_ok=True)

    def _place(self, pair: Pair) -> None:
        source, target = pair.source, pair.target
        if target.exists():
            self._require_same(pair)
        elif not self._link(pair):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._copy(source, target)
            self.made.append(target)

    def _require_same(self, pair: Pair) -> None:
        if not pair.target.samefile(pair.source) and self._hash(pair.source) != self._hash(
            pair.target
        ):
            raise Conflict(
                f"there is another {pair.target.name} in {pair.target.parent}",
                hint="move or rename that one first",
            )
        self._count(pair.source)

    def _link(self, pair: Pair) -> bool:
        pair.target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(pair.source, pair.target, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NO_LINK:
                return False
            raise
        self.made.append(pair.target)
        self._count(pair.source)
        return True

    def _count(self, source: Path) -> None:
        self._done_bytes += source.stat().st_size

    def _copy(self, source: Path, target: Path) -> None:
        temporary = target.with_name(f".{target.name}.moving")
        try:
            read = hashlib.blake2b()
            with source.open("rb") as old, temporary.open("wb") as new:
                for chunk in self._chunks(old.fileno()):
                    read.update(chunk)
                    new.write(chunk)
                new.flush()
                os.fsync(new.fileno())
                # What is compared is to come from the disk.
                os.posix_fadvise(new.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if self._hash(temporary, counted=True) != read.digest():
                raise VerificationFailed(
                    f"{target.name} reads differently from {target.parent}",
                    hint="is that disk sound? the file is still where it was",
                )
            shutil.copystat(source, temporary)
            put_in_place(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def _hash(self, path: Path, *, counted: bool = False) -> bytes:
        found = hashlib.blake2b()
        with path.open("rb") as file:
            for chunk in self._chunks(file.fileno()):
                found.update(chunk)
                self._done_bytes += len(chunk) if counted else 0
        return found.digest()

    def _chunks(self, fd: int) -> Iterator[bytes]:
        while chunk := os.read(fd, CHUNK):
            if self._stop.is_set():
                raise Stopped
            yield chunk
