"""What `up` runs, put together from the settings: two servers, the migrations, API and workers."""

from __future__ import annotations

import http.client
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamvault.embedded.background import Service
from streamvault.embedded.places import make_folders
from streamvault.embedded.ports import free_ports, is_free
from streamvault.embedded.postgres import Postgres
from streamvault.embedded.programs import Program
from streamvault.embedded.runfile import Running
from streamvault.embedded.supervisor import Stage, State
from streamvault.embedded.temporal import TemporalServer
from streamvault.errors import SettingsError
from streamvault.settings import PREFIX, Settings

API = "api"
WORKER_ROLES = ("recorder", "control,processor")  # recording apart from everything that can be busy
API_GRACE_S = 30.0
WORKER_GRACE_S = 120.0  # captures close their parts, an ffmpeg may finish
MIGRATIONS = Path(__file__).parents[1] / "db" / "migrations" / "versions"
_REVISION = re.compile(r"""^revision\b.*=\s*["'](\w+)["']""", re.MULTILINE)
_DOWN_REVISION = re.compile(r"""^down_revision\b.*=\s*["'](\w+)["']""", re.MULTILINE)
_HTTP_TIMEOUT_S = 2


@dataclass(frozen=True)
class Command:
    """One of our own processes as a service of the supervisor."""

    name: str
    arguments: tuple[str, ...]
    env: Callable[[], dict[str, str]]
    probe: Callable[[], bool]
    grace_s: float
    before: Callable[[], None] = lambda: None
    beat: Path | None = None

    def prepare(self) -> None:
        self.before()

    def program(self) -> Program:
        command = (sys.executable, *self.arguments)
        return Program(command, env=self.env(), grace_s=self.grace_s, beat=self.beat)

    def ready(self) -> bool:
        return self.probe()

    def failed(self, output: str) -> str:
        return ""


class Stack:
    """`cli` is the file of the console command; `extra_env` is asked at each start of a child."""

    def __init__(
        self, settings: Settings, cli: Path, extra_env: Callable[[], dict[str, str]] = dict
    ) -> None:
        self._settings = settings
        self._cli = str(cli)
        self._extra_env = extra_env
        self.data_dir = settings.data_dir.absolute()
        self._port = settings.port or free_ports(1)[0]
        workers = [_worker_name(role) for role in WORKER_ROLES]
        self._metrics = dict(zip(workers, free_ports(len(workers)), strict=True))
        self._postgres = (
            None if settings.database_url else Postgres(self.data_dir, settings.postgres_bin_dir)
        )
        self._temporal = (
            None
            if settings.temporal_address
            else TemporalServer(
                self.data_dir, settings.temporal_bin, namespace=settings.temporal_namespace
            )
        )

    @property
    def api_url(self) -> str:
        host = self._settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    @property
    def temporal_ui(self) -> str:
        return self._temporal.ui_url if self._temporal else self._settings.temporal_ui_url

    def check_port(self) -> None:
        """Raises SettingsError when another program listens where the API should."""
        host = "127.0.0.1" if self._settings.host == "localhost" else self._settings.host
        if not is_free(host, self._port):
            raise SettingsError(
                f"{PREFIX}PORT: {self._port} on {host} is taken by another program",
                hint="stop that one or choose another port",
            )

    def greeting(self) -> str:
        """Where everything is, for the person at the terminal."""
        return f"ready: {self.api_url}/\nTemporal UI: {self.temporal_ui}"

    def stages(self, *, beside: Sequence[Service] = ()) -> list[Stage]:
        """`beside` starts together with the servers, such as a demo's source of streams."""
        servers = [server for server in (self._postgres, self._temporal) if server]
        ours = [self._api(), *(self._worker(role) for role in WORKER_ROLES)]
        return [Stage([*servers, *beside]), Stage(ours, job=self._migrations)]

    def running(self, state: State) -> Running:
        """What `run.json` says."""
        ready_servers = bool(state.pids)
        return Running(
            pid=os.getpid(),
            api=self.api_url,
            temporal_address=self._temporal_address if ready_servers else "",
            temporal_namespace=self._settings.temporal_namespace,
            temporal_ui=self.temporal_ui if ready_servers else "",
            database_url=self._postgres.url() if self._postgres else "",
            generation=state.generation,
            ready=state.ready,
            pids=state.pids,
            metrics_ports=self._metrics,
        )

    @property
    def _temporal_address(self) -> str:
        return self._temporal.address if self._temporal else self._settings.temporal_address

    def _env(self, **extra: str) -> dict[str, str]:
        ours = {
            "DATA_DIR": str(self.data_dir),
            "RECORDINGS_DIR": str(self._settings.library.absolute()),
            "PORT": str(self._port),
            "TEMPORAL_ADDRESS": self._temporal_address,
            "TEMPORAL_UI_URL": self.temporal_ui,
            **extra,
        }
        if self._postgres:
            ours["DATABASE_URL"] = self._postgres.url()
        if not self._settings.log_format:
            # The child writes to our pipe, but we may write to a terminal.
            ours["LOG_FORMAT"] = "console" if sys.stdout.isatty() else "json"
        ours_by_name = {PREFIX + name: value for name, value in ours.items()}
        return os.environ | self._extra_env() | ours_by_name

    def _api(self) -> Command:
        return Command(
            API, (self._cli, "api"), self._env, lambda: _answers(self.api_url), API_GRACE_S
        )

    def _worker(self, role: str) -> Command:
        name = _worker_name(role)
        port = str(self._metrics[name])
        ready = _ReadyFile(self.data_dir / "run" / f"{name}.ready")
        return Command(
            name,
            (self._cli, "worker", "--role", role),
            lambda: self._env(METRICS_PORT=port),
            ready.is_there,
            WORKER_GRACE_S,
            ready.remove,
            ready.path,
        )

    def _migrations(self) -> Program | None:
        if self._postgres and _is_current(self._postgres):
            return None
        return Program((sys.executable, self._cli, "db", "upgrade"), env=self._env())


@dataclass(frozen=True)
class _ReadyFile:
    """A worker writes it once Temporal has answered."""

    path: Path

    def remove(self) -> None:
        make_folders(self.path.parent, 0o700)
        self.path.unlink(missing_ok=True)

    def is_there(self) -> bool:
        return self.path.exists()


def _worker_name(role: str) -> str:
    """As the worker itself names its ready file."""
    return f"worker-{'-'.join(sorted(role.split(',')))}"


def _answers(url: str) -> bool:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=_HTTP_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _is_current(postgres: Postgres) -> bool:
    """Ask the database itself: a restored dump may be older than this data folder."""
    if not postgres.query("SELECT to_regclass('alembic_version')"):
        return False
    return postgres.query("SELECT version_num FROM alembic_version") == newest_revision()


def newest_revision() -> str:
    """The revision that this release needs, read off the files.

    Importing alembic for it would take half a second of every start."""
    texts = [path.read_text() for path in MIGRATIONS.glob("*.py")]
    named: set[str] = {name for text in texts for name in _REVISION.findall(text)}
    replaced: set[str] = {name for text in texts for name in _DOWN_REVISION.findall(text)}
    (newest,) = named - replaced
    return newest
