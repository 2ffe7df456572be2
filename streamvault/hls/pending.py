"""`pending.json`: segments that were listed and are not stored yet.

After a crash they are fetched first, even if the playlist has moved on. The file is a hint: it is
never synced, and one that cannot be read counts as empty.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from streamvault.hls.playlist import InitSection, Segment

PENDING_NAME = "pending.json"
FIELDS = tuple(field.name for field in fields(Segment))


def write_pending(directory: Path, segments: Sequence[Segment]) -> None:
    """Replace the list as a whole. Raises OSError."""
    # Once per segment of every recording: pathlib and dataclasses.asdict made up most of it.
    name = f"{directory}/{PENDING_NAME}"
    content = json.dumps([_fields(s) for s in segments]).encode("ascii")
    # The addresses may hold tokens.
    fd = os.open(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if os.write(fd, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    finally:
        os.close(fd)
    os.replace(f"{name}.new", name)  # noqa: PTH105  # see above


def _fields(segment: Segment) -> dict[str, object]:
    content = {name: getattr(segment, name) for name in FIELDS}
    if segment.init is not None:
        content["init"] = asdict(segment.init)
    return content


def read_pending(directory: Path) -> tuple[Segment, ...]:
    """The list as it was last written; empty if there is none or it is damaged."""
    try:
        content = json.loads((directory / PENDING_NAME).read_bytes())
        return tuple(_segment(item) for item in content)
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return ()


def _segment(item: dict[str, Any]) -> Segment:
    init = item["init"]
    return Segment(
        **{
            **item,
            "init": init and InitSection(init["uri"], _byte_range(init["byte_range"])),
            "byte_range": _byte_range(item["byte_range"]),
        }
    )


def _byte_range(value: list[int] | None) -> tuple[int, int] | None:
    return None if value is None else (value[0], value[1])
