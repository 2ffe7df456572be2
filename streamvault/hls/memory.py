"""How a recorder process treats its memory: the same few objects and blocks, again and again."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

KEPT_BYTES = 4 * 1024 * 1024
FREE_BYTES = 2 * 1024 * 1024
"""May stay with the process though nothing uses it: a little more than a segment."""


def keep_freed_memory() -> None:
    """Let glibc keep up to twice this much freed memory: segments come and go, and giving their
    pages back each time doubled the time spent in the kernel. It raises its limits by itself when
    a large block is freed (mallopt(3), M_MMAP_THRESHOLD); elsewhere this does nothing."""
    block = bytearray(KEPT_BYTES)
    del block


def _find_malloc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None  # not glibc
    return trim


_malloc_trim = _find_malloc_trim()


def give_back_memory(floor_bytes: int) -> int:
    """Free pages between blocks stay with the process otherwise: with 25 recordings, 60 MB after
    they all had caught up at once (malloc_trim(3)).

    Done when that much more is resident than the last time, which is returned: pages that are
    given back and taken again with each segment cost a single recording 5 % of its CPU."""
    if _malloc_trim is None or _resident_bytes() < floor_bytes + FREE_BYTES:
        return floor_bytes
    _malloc_trim(0)
    return _resident_bytes()


def _resident_bytes() -> int:
    """proc(5): the second field of statm, in pages. Where there is malloc_trim, there is this."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
