"""Ids that sort by time of creation: the list's order and its cursor come from the id alone."""

from __future__ import annotations

import secrets
import time
from uuid import UUID

from streamvault.errors import NotFound


def uuid7() -> UUID:
    """A random UUID whose first 48 bits are Unix milliseconds (RFC 9562 §5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76  # version
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant
    return UUID(int=value)


def as_uuid(value: str | UUID, noun: str = "recording") -> UUID:
    """Raises NotFound for text that is no UUID: nothing can have such an id."""
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except ValueError:
        raise NotFound(f"there is no {noun} {value[:64]!r}") from None
