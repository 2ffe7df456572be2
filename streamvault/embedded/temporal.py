"""The embedded Temporal server: one process with a SQLite file, on loopback only.

PostgreSQL is the source of truth, so this file is disposable: a server that cannot read it gets a
fresh one, and the workflows that should run are started again.
"""

from __future__ import annotations

import subprocess
import time
from functools import cached_property
from pathlib import Path

from streamvault.embedded.binaries import find_temporal
from streamvault.embedded.places import make_folders
from streamvault.embedded.ports import free_ports, is_open
from streamvault.embedded.programs import Program

SEARCH_ATTRIBUTES = {
    "SvStreamer": "Keyword",
    "SvStage": "Keyword",
    "SvHost": "Keyword",
    "SvNeedsAttention": "Bool",
}
RETENTION = "90d"  # a new namespace has 24 h: the dead-letter list would empty itself every day
UI_PATH = "/temporal"
_UNREADABLE = ("SQL logic error", "file is not a database", "disk image is malformed")
_PROBE_TIMEOUT_S = 5  # whatever listens on our port may never answer


class TemporalServer:
    """One embedded server; run it by the supervisor or by `Background`."""

    name = "temporal"

    def __init__(
        self, data_dir: Path, binary: Path | None = None, *, namespace: str = "streamvault"
    ) -> None:
        self._folder = data_dir.absolute() / "temporal"
        self._setting = binary
        self._namespace = namespace
        self._ports: list[int] = []

    @property
    def address(self) -> str:
        """`host:port`; the same over restarts unless another program took the port."""
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def ui_url(self) -> str:
        return f"http://127.0.0.1:{self._ports[1]}{UI_PATH}/"

    @property
    def database(self) -> Path:
        return self._folder / "temporal.db"

    def prepare(self) -> None:
        make_folders(self._folder, 0o700)
        if not self._ports:
            self._ports = free_ports(3)

    def program(self) -> Program:
        front, ui, metrics = (str(port) for port in self._ports)
        argv = [str(self._binary), "server", "start-dev", "--db-filename", str(self.database)]
        argv += ["--namespace", self._namespace, "--ip", "127.0.0.1", "--port", front]
        argv += ["--ui-port", ui, "--ui-public-path", UI_PATH, "--ui-disable-news-fetch"]
        argv += ["--metrics-port", metrics, "--log-level", "error", "--log-format", "json"]
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
            argv += ["--sqlite-pragma", pragma]
        for name, kind in SEARCH_ATTRIBUTES.items():
            argv += ["--search-attribute", f"{name}={kind}"]
        # Killed with us, not asked: an old server must not write the file that the next one opens.
        return Program(tuple(argv), env=self._env)

    def ready(self) -> bool:
        """Whether the namespace is there; its retention is set by the same call."""
        if not is_open("127.0.0.1", self._ports[0]):
            return False
        argv = [str(self._binary), "operator", "namespace", "update", "--address", self.address]
        argv += ["--namespace", self._namespace, "--retention", RETENTION]
        try:
            done = subprocess.run(
                argv, env=self._env, capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def failed(self, output: str) -> str:
        """Make the next start another try: new ports, and a new file if this one is unreadable."""
        self._ports = free_ports(3)
        if not any(sign in output for sign in _UNREADABLE):
            return "trying other ports"
        aside = self.database.with_name(f"temporal.db.bak-{time.strftime('%Y%m%d-%H%M%S')}")
        for suffix in ("", "-wal", "-shm"):
            part = Path(f"{self.database}{suffix}")
            if part.exists():
                part.rename(f"{aside}{suffix}")
        return f"cannot read its file: moved to {aside}, starting with a fresh one"

    @cached_property
    def _binary(self) -> Path:
        return find_temporal(self._setting)

    @property
    def _env(self) -> dict[str, str]:
        # Neither TEMPORAL_… variables nor a configuration file of the user's own Temporal.
        return {"PATH": "/usr/bin:/bin", "HOME": str(self._folder)}
