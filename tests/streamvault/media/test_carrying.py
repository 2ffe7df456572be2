"""Files to another place, on one file system and to another one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamvault.errors import Conflict, VerificationFailed
from streamvault.media import carrying
from streamvault.media.carrying import Carrying, Pair, Stopped

CONTENT = os.urandom(3 * 1024 * 1024)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "old" / "film.mp4"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """On another file system than pytest's folders."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="streamvault-test-") as folder:
        yield Path(folder)


@pytest.fixture(params=["here", "elsewhere"])
def target(request: pytest.FixtureRequest, tmp_path: Path, elsewhere: Path) -> Path:
    root = tmp_path if request.param == "here" else elsewhere
    return root / "new" / "film.mp4"


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_it_is_there_with_its_date_and_still_where_it_was(source: Path, target: Path) -> None:
    work = Carrying([Pair(source, target)])
    work.run()
    assert target.read_bytes() == source.read_bytes() == CONTENT
    assert target.stat().st_mtime == 1_700_000_000
    assert work.share == 1
    assert names(target.parent) == [target.name]


def test_again_it_changes_nothing(source: Path, target: Path) -> None:
    Carrying([Pair(source, target)]).run()
    before = target.stat().st_ino
    again = Carrying([Pair(source, target)])
    again.run()
    assert (target.stat().st_ino, again.made, again.share) == (before, [], 1)


def test_what_is_in_the_way_is_left_alone(source: Path, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"of somebody else")
    with pytest.raises(Conflict, match="another film"):
        Carrying([Pair(source, target)]).run()
    assert target.read_bytes() == b"of somebody else"


def test_what_is_not_wanted_any_more_is_taken_back(source: Path, target: Path) -> None:
    work = Carrying([Pair(source, target)])
    work.run()
    work.take_back()
    assert not target.exists()
    assert source.read_bytes() == CONTENT


def test_a_disk_that_returns_other_bytes_is_found_out(
    source: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = elsewhere / "film.mp4"
    real = os.fsync

    def broken(fd: int) -> None:
        real(fd)
        os.pwrite(fd, b"\0\0\0\0", 1_000_000)

    monkeypatch.setattr(carrying.os, "fsync", broken)
    with pytest.raises(VerificationFailed, match="reads differently"):
        Carrying([Pair(source, target)]).run()
    assert names(elsewhere) == []
    assert source.read_bytes() == CONTENT


def test_a_copy_that_is_stopped_leaves_nothing(source: Path, elsewhere: Path) -> None:
    work = Carrying([Pair(source, elsewhere / "film.mp4")])
    work.stop()
    with pytest.raises(Stopped):
        work.run()
    assert names(elsewhere) == []
