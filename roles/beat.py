"""A worker's sign of life: a file with our pid, touched for as long as the event loop turns.

The supervisor takes the file for readiness, and kills a worker whose file is not touched any more:
a process that was stopped, or that hangs, holds its captures while the playlists move on.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

EVERY_S = 2.0


class Beat:
    """`DATA_DIR/run/worker-<roles>.ready`."""

    def __init__(self, data_dir: Path, roles: frozenset[str]) -> None:
        self.path = data_dir / "run" / f"worker-{'-'.join(sorted(roles))}.ready"

    async def keep_up(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(f"{os.getpid()}\n")
        log.info("worker ready", extra={"ready_file": self.path.name})
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                os.utime(self.path)
            except OSError as error:
                # Such as a disk that became read-only. The supervisor only counts a file it sees.
                log.warning("no sign of life", extra={"why": error.strerror})

    def end(self) -> None:
        self.path.unlink(missing_ok=True)
