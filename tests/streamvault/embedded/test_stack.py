"""What `up` is put together from, and what its children are told."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from streamvault.db.migrate import head
from streamvault.embedded import runfile
from streamvault.embedded.runfile import only_supervisor, running
from streamvault.embedded.stack import Stack, newest_revision
from streamvault.embedded.supervisor import State
from streamvault.errors import Conflict, SettingsError
from streamvault.settings import Settings, check_settings

CLI = Path(__file__).parents[3] / "cli.py"
SECRET_URL = "postgresql+asyncpg://ada:secret@db.example/streamvault"


def settings(data_dir: Path, **values: object) -> Settings:
    return check_settings({"data_dir": data_dir, **values})


def names(stack: Stack) -> list[list[str]]:
    return [[service.name for service in stage.services] for stage in stack.stages()]


def test_the_revision_read_off_the_files_is_the_one_alembic_wants() -> None:
    assert newest_revision() == head()


def test_servers_come_before_what_needs_them_and_the_recorder_is_alone(tmp_path: Path) -> None:
    assert names(Stack(settings(tmp_path), CLI)) == [
        ["postgres", "temporal"],
        ["api", "worker-recorder", "worker-control-processor"],
    ]


def test_a_server_of_ones_own_is_not_started_and_its_password_not_written_down(
    tmp_path: Path,
) -> None:
    own = settings(tmp_path, database_url=SECRET_URL, temporal_address="temporal.example:7233")
    stack = Stack(own, CLI)
    assert names(stack)[0] == []
    found = stack.running(State({"api": 1}, ready=True, generation=1))
    assert found.temporal_address == "temporal.example:7233"
    runfile.write(tmp_path, found)
    assert "secret" not in (tmp_path / "run.json").read_text()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"STREAMVAULT_PORT: {port} on 127.0.0.1 is taken"):
            Stack(settings(tmp_path, port=port), CLI).check_port()


def test_run_json_counts_only_while_its_writer_lives(tmp_path: Path) -> None:
    stack = Stack(settings(tmp_path), CLI)
    written = stack.running(State({}, ready=True, generation=3))
    with only_supervisor(tmp_path):
        runfile.write(tmp_path, written)
        assert running(tmp_path) == written
        assert (tmp_path / "run.json").stat().st_mode & 0o077 == 0
        with pytest.raises(Conflict, match=f"process {os.getpid()}"), only_supervisor(tmp_path):
            pass
    # As after a kill: the file is there, the lock is not.
    runfile.write(tmp_path, written)
    assert running(tmp_path) is None
    assert running(tmp_path / "nowhere") is None
