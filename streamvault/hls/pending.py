"""`pending.json`: segments that were listed and are not stored yet.

After a crash they are fetched first, even if the playlist has moved on. The file is a hint: it is
never synced, and one that cannot be read counts as empty.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from streamvault.hls.playlist import InitSection, Segment

PENDING_NAME = "pending.json"


def write_pending(directory: Path, segments: Sequence[Segment]) -> None:
    """Replace the list as a whole. Raises OSError."""
    new = directory / f"{PENDING_NAME}.new"
    content = json.dumps([asdict(s) for s in segments]).encode("ascii")
    # The addresses may hold tokens.
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    new.replace(directory / PENDING_NAME)


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
