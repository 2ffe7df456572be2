"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from streamvault.errors import StorageFull, StorageUnwritable


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write through a hidden temporary name in the same directory, durable when this returns.

    Raises OSError.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    put_in_place(temporary, path)


def put_in_place(temporary: Path, final: Path) -> None:
    """Rename over `final`, the bytes durable before the name and the name before this returns."""
    _sync(temporary, os.O_RDWR)
    temporary.replace(final)
    _sync(final.parent, os.O_RDONLY)


def storage_error(error: OSError, directory: Path) -> StorageFull | StorageUnwritable:
    """What an OSError from writing into `directory` means for a person."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageFull(f"no room left in {directory}", hint="make room, then retry")
    return StorageUnwritable(f"{directory}: {error.strerror or error}")


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
