"""Room on the disks of a library: how much must stay free, and how long the rest lasts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from streamvault.errors import StorageFull

SMALLEST_RESERVE_BYTES = 16 * 1024 * 1024
"""The last records of every journal must always fit."""
LARGEST_RESERVE_BYTES = 2 * 1024**3
"""What databases and other programs on the same disk need to go on."""
RESERVED_SHARE = 0.02
AGAIN = 1.5
"""Recording goes on above this many reserves, so that it does not stop again at once."""
LITTLE_BYTES = 10 * 1024**3
LITTLE_SHARE = 0.1
LITTLE_S = 30 * 60.0


@dataclass(frozen=True, slots=True)
class Room:
    """A file system as statvfs(3) tells of it, for an ordinary user."""

    free_bytes: int
    size_bytes: int
    free_files: int

    @classmethod
    def at(cls, folder: Path) -> Room:
        """Of the folder, or of the nearest one above it that exists. Raises OSError."""
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        stat = os.statvfs(folder)
        # Some file systems, such as btrfs, make inodes as needed and count none.
        files = stat.f_favail if stat.f_files else 2**31
        return cls(stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize, files)

    @property
    def reserve_bytes(self) -> int:
        share = int(self.size_bytes * RESERVED_SHARE)
        return min(max(share, SMALLEST_RESERVE_BYTES), LARGEST_RESERVE_BYTES)

    def lasts_s(self, bytes_per_s: float) -> float:
        """Until the reserve is reached, at this rate."""
        left = max(self.free_bytes - self.reserve_bytes, 0)
        return left / bytes_per_s if bytes_per_s > 0 else float("inf")

    def is_little(self, bytes_per_s: float = 0.0) -> bool:
        """Whether somebody should know: little in every sense, or half an hour at this rate."""
        few = self.free_bytes < min(LITTLE_BYTES, LITTLE_SHARE * self.size_bytes)
        return few or self.lasts_s(bytes_per_s) < LITTLE_S


def check_room(folder: Path, min_free_bytes: int | None = None) -> None:
    """Raises StorageFull when less than the reserve, or than `min_free_bytes`, is free; OSError
    when the folder cannot be asked."""
    room = Room.at(folder)
    needed = room.reserve_bytes if min_free_bytes is None else min_free_bytes
    if room.free_bytes < needed:
        raise StorageFull(
            f"{folder}: less than {needed // 1024**2} MB are free",
            hint="free some space, the recording then goes on",
        )
    if not room.free_files and needed:
        raise StorageFull(f"{folder}: no more files can be made", hint="delete some files")


def has_room(folder: Path) -> bool:
    """Whether a recording that stopped for want of room, or of permission, may go on."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        room = Room.at(folder)
    except OSError:
        return False
    enough = room.free_bytes >= AGAIN * room.reserve_bytes and room.free_files > 0
    # access(2) says no on a file system that is mounted read-only, also to root.
    return enough and os.access(folder, os.W_OK | os.X_OK)
