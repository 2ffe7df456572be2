"""Whether a part still holds what the journal says was written to it."""

from __future__ import annotations

from pathlib import Path

from isal.isal_zlib import crc32

from streamvault.hls.timeline import PartSpan

_CHUNK = 1 << 20


def problem_of_part(folder: Path, part: PartSpan) -> str:
    """In words, empty if there is none; one full read. A part whose records do not adjoin has no
    checksum of its own, and is only measured."""
    path = folder / part.file_name
    try:
        size, crc = _read(path)
    except OSError as error:
        return f"{part.file_name}: {error.strerror}"
    if size != part.size_bytes:
        return f"{part.file_name} has {size} bytes, {part.size_bytes} were recorded"
    if part.crc is not None and crc != part.crc:
        return f"{part.file_name} has the checksum {crc:08x}, recorded was {part.crc:08x}"
    return ""


def _read(path: Path) -> tuple[int, int]:
    size, value = 0, 0
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            value = crc32(piece, value)
            size += len(piece)
    return size, value
