"""A stack for a command: the one that runs on the data folder, else a private one for its time."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamvault.embedded import runfile
from streamvault.embedded.background import READY_TIMEOUT_S, Background
from streamvault.embedded.places import make_folders
from streamvault.embedded.programs import Program
from streamvault.embedded.runfile import Running
from streamvault.errors import DependencyUnavailable
from streamvault.settings import PREFIX, Settings

_STOP_GRACE_S = 180.0  # a worker alone may take 120
_LOOK_INTERVAL_S = 0.1


class _PrivateUp:
    """`up` on any free port, as a service of its own session: Ctrl-C does not reach it."""

    name = "streamvault"

    def __init__(self, data_dir: Path, cli: Path) -> None:
        self._data_dir = data_dir
        self._cli = cli

    def prepare(self) -> None:
        make_folders(self._data_dir, 0o711 if os.geteuid() == 0 else 0o700)

    def program(self) -> Program:
        ours = {
            "DATA_DIR": str(self._data_dir),
            "PORT": "0",
            # Whoever wants one recording does not want those of all streamers that are live.
            "DETECTION": "false",
        }
        return Program(
            (sys.executable, str(self._cli), "up"),
            env=os.environ | {PREFIX + name: value for name, value in ours.items()},
            stop_signal=signal.SIGTERM,
            grace_s=_STOP_GRACE_S,
        )

    def ready(self) -> bool:
        found = runfile.running(self._data_dir)
        return found is not None and found.ready

    def failed(self, output: str) -> str:
        return ""


@contextmanager
def attached(settings: Settings, cli: Path) -> Iterator[Running]:
    """Call it from the main thread. Raises DependencyUnavailable with what stopped the start.

    What a private stack prints is in `DATA_DIR/run/private.log`."""
    data_dir = settings.data_dir.absolute()
    if runfile.running(data_dir):
        yield _wait_until_ready(data_dir)
        return
    log = data_dir / "run" / "private.log"
    make_folders(log.parent, 0o700)
    with Background(_PrivateUp(data_dir, cli), log):
        yield _wait_until_ready(data_dir)


def _wait_until_ready(data_dir: Path) -> Running:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        found = runfile.running(data_dir)
        if found and found.ready:
            return found
        time.sleep(_LOOK_INTERVAL_S)
    raise DependencyUnavailable(f"StreamVault on {data_dir} does not get ready")
