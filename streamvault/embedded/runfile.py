"""One supervisor per data folder, and what the others need to know about it.

`DATA_DIR/.lock` is held as long as the supervisor lives, however it dies. `DATA_DIR/run.json` says
where everything is; it counts only while the lock is held.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from streamvault.embedded.places import make_folders
from streamvault.errors import Conflict

_LOCK_TRIES = 10
_LOCK_PAUSE_S = 0.1  # a look by `running()` holds the lock for a moment


@dataclass(frozen=True, slots=True)
class Running:
    """A running `up`. `database_url` is empty for a server of one's own: it may hold a password."""

    pid: int
    api: str
    temporal_address: str
    temporal_namespace: str
    temporal_ui: str
    database_url: str = ""
    generation: int = 1
    """Counts completed restarts."""
    ready: bool = False
    pids: dict[str, int] = field(default_factory=dict)
    metrics_ports: dict[str, int] = field(default_factory=dict)


@contextmanager
def only_supervisor(data_dir: Path) -> Iterator[None]:
    """Hold the data folder. Raises Conflict when another supervisor does."""
    make_folders(data_dir, 0o711 if os.geteuid() == 0 else 0o700)
    with (data_dir / ".lock").open("a") as lock:
        if not _take(lock.fileno(), tries=_LOCK_TRIES):
            found = read(data_dir)
            who = f" (process {found.pid})" if found else ""
            raise Conflict(
                f"StreamVault already runs on {data_dir}{who}",
                hint="stop it first, or set STREAMVAULT_DATA_DIR to another folder",
            )
        try:
            yield
        finally:
            _path(data_dir).unlink(missing_ok=True)


def write(data_dir: Path, running: Running) -> None:
    path = _path(data_dir)
    fresh = path.with_suffix(".tmp")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(asdict(running), indent=1))
    fresh.rename(path)


def running(data_dir: Path) -> Running | None:
    """The supervisor that runs on this data folder now, if there is one."""
    try:
        with (data_dir / ".lock").open("a") as lock:
            if _take(lock.fileno(), tries=1):
                return None
    except FileNotFoundError:
        return None
    return read(data_dir)


def read(data_dir: Path) -> Running | None:
    """What was written last; for children of the supervisor, which live no longer than it does."""
    try:
        return Running(**json.loads(_path(data_dir).read_text()))
    except FileNotFoundError:
        return None


def _take(lock: int, tries: int) -> bool:
    for left in reversed(range(tries)):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if left:
                time.sleep(_LOCK_PAUSE_S)
        else:
            return True
    return False


def _path(data_dir: Path) -> Path:
    return data_dir / "run.json"
