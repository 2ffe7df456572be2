"""Recordings moved: real rows, two file systems, and an end at every moment."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities import moving as moving_module
from activities.moving import Moving
from streamvault.contracts import JobDone, Status
from streamvault.db import jobs, preferences, recordings
from streamvault.db.library import Wanted
from streamvault.db.models import Job, Recording
from streamvault.db.recordings import NewRecording
from streamvault.db.session import Database
from streamvault.errors import DependencyUnavailable
from streamvault.hls.room import Room
from streamvault.media.carrying import Carrying

STEM = "Alice/Season 2026/Alice - S2026E112701 - Night"
NEW_STEM = "Night S2026E112701"
RENAMED = f"Alice/{NEW_STEM}"
BESIDE = (".mp4", " - part 2.mp4", ".nfo", "-poster.jpg", ".chapters.vtt", ".report.json")


class Killed(BaseException):
    """What no handler takes."""


@pytest.fixture
def libraries(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="streamvault-test-") as folder:
        (tmp_path / "one").mkdir()
        yield tmp_path / "one", Path(folder)


@pytest.fixture
def moving(db: Database, libraries: tuple[Path, Path], tmp_path: Path) -> Moving:
    return Moving(db, libraries, tmp_path / "images")


async def shelve(db: Database, root: Path, stem: str = STEM, **columns: object) -> str:
    """A finished recording of two files with everything beside them."""
    final = root / f"{stem}.mp4"
    final.parent.mkdir(parents=True, exist_ok=True)
    for ending in BESIDE:
        final.with_name(f"{final.stem}{ending}").write_text(f"{stem}{ending}")
    pictures = final.with_name(f"{final.stem}.trickplay") / "320 - 10x10"
    pictures.mkdir(parents=True)
    (pictures / "0.jpg").write_bytes(b"0")
    async with db.begin() as session:
        row, _ = await recordings.open_recording(session, NewRecording(stem, f"x://{stem}"))
        work = f"Alice/Season 2026/.streamvault/{row.id}"
        files = [{"name": f"{final.stem}{end}", "size_bytes": 1} for end in BESIDE[:2]]
        values: dict[str, object] = {
            "status": str(Status.COMPLETED),
            "streamer_name": "Alice",
            "title": "Night",
            "started_at": datetime(2026, 11, 27, 12, tzinfo=UTC),
            "holds_source": False,
            "path": f"{stem}.mp4",
            "directory": work,
            "size_bytes": 2,
            "parts_gone_at": row.created_at,
            "report": {"files": files},
            **columns,
        }
        await recordings.update_recording(session, row.id, **values)
    (root / work).mkdir(parents=True)
    (root / work / "storyboard.vtt").write_text("WEBVTT")
    return str(row.id)


async def order(db: Database, ids: list[str], **options: Any) -> str:
    async with db.begin() as session:
        job = await jobs.add_job(session, "move", Wanted(ids=ids), options)
        return str(job.id)


async def run(moving: Moving, job_id: str) -> JobDone:
    done: JobDone = await ActivityEnvironment().run(moving.run_move, job_id)
    return done


async def get(db: Database, recording_id: str) -> Recording:
    async with db.begin() as session:
        return await recordings.get_recording(session, recording_id)


async def job_of(db: Database, job_id: str) -> Job:
    async with db.begin() as session:
        return await jobs.get_job(session, job_id)


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


async def test_everything_of_it_goes_to_the_other_library_and_back(
    db: Database, moving: Moving, libraries: tuple[Path, Path]
) -> None:
    one, two = libraries
    recording_id = await shelve(db, one)
    before = names(one)
    assert await run(moving, await order(db, [recording_id], to=str(two))) == JobDone(1)
    assert set(before) <= set(names(two))
    assert (two / f"{STEM}.mp4").read_text() == f"{STEM}.mp4"
    # Not even a folder stays.
    assert list(one.iterdir()) == []
    assert (await get(db, recording_id)).path == f"{STEM}.mp4"

    assert await run(moving, await order(db, [recording_id], to=str(one))) == JobDone(1)
    assert set(before) <= set(names(one))
    assert names(two) == []


async def test_a_new_name_is_everywhere_where_the_old_one_was(
    db: Database, moving: Moving, libraries: tuple[Path, Path]
) -> None:
    one, _ = libraries
    recording_id = await shelve(db, one)
    async with db.begin() as session:
        await preferences.save_preferences(session, {"naming": "{streamer}/{title} {episode}"})
    assert await run(moving, await order(db, [recording_id], rename=True)) == JobDone(1)
    row = await get(db, recording_id)
    assert row.path == f"{RENAMED}.mp4"
    assert (one / f"{RENAMED}.mp4").read_text() == f"{STEM}.mp4"
    assert (one / f"{RENAMED} - part 2.mp4").read_text() == f"{STEM} - part 2.mp4"
    assert (one / f"{RENAMED}.trickplay/320 - 10x10/0.jpg").exists()
    report = json.loads((one / f"{RENAMED}.report.json").read_text())
    assert [f["name"] for f in report["files"]] == [f"{NEW_STEM}.mp4", f"{NEW_STEM} - part 2.mp4"]
    assert row.report is not None and row.report["files"] == report["files"]
    assert f"<thumb>{NEW_STEM}-poster.jpg</thumb>" in (one / f"{RENAMED}.nfo").read_text()
    assert not [name for name in names(one) if "Alice - S2026" in name]
    # Again there is nothing to do, and no second name.
    await run(moving, await order(db, [recording_id], rename=True))
    assert (await get(db, recording_id)).path == f"{RENAMED}.mp4"


async def test_a_name_that_is_taken_gets_a_number(
    db: Database, moving: Moving, libraries: tuple[Path, Path]
) -> None:
    one, _ = libraries
    (one / "Alice").mkdir()
    (one / f"{RENAMED}.mp4").write_text("of somebody else")
    recording_id = await shelve(db, one)
    async with db.begin() as session:
        await preferences.save_preferences(session, {"naming": "{streamer}/{title} {episode}"})
    await run(moving, await order(db, [recording_id], rename=True))
    assert (await get(db, recording_id)).path == f"{RENAMED} (2).mp4"
    assert (one / f"{RENAMED}.mp4").read_text() == "of somebody else"


async def test_what_cannot_be_moved_is_named_and_holds_up_nobody(
    db: Database, moving: Moving, libraries: tuple[Path, Path]
) -> None:
    one, two = libraries
    good = await shelve(db, one)
    running = await shelve(db, one, "Bob/b", status="recording")
    in_the_way = await shelve(db, one, "Carol/c")
    (two / "Carol").mkdir()
    (two / "Carol/c.mp4").write_text("of somebody else")
    gone = await shelve(db, one, "Dave/d")
    (one / "Dave/d.mp4").unlink()
    everything = [good, running, in_the_way, gone]
    job_id = await order(db, everything, to=str(two))
    assert await run(moving, job_id) == JobDone(1, 3)
    failed = {one["id"]: one["problem"] for one in (await job_of(db, job_id)).failed}
    assert "not finished" in failed[running]
    assert "another c.mp4" in failed[in_the_way]
    assert "no file here" in failed[gone]
    assert (one / "Carol/c.mp4").read_text() == "Carol/c.mp4"
    assert (two / f"{STEM}.mp4").exists()


async def test_a_library_that_is_none_moves_nothing(
    db: Database, moving: Moving, libraries: tuple[Path, Path]
) -> None:
    recording_id = await shelve(db, libraries[0])
    job_id = await order(db, [recording_id], to="/etc")
    assert await run(moving, job_id) == JobDone(0, 1)
    assert "is not a library" in (await job_of(db, job_id)).failed[0]["problem"]


async def test_without_room_for_it_and_for_recordings_nothing_is_begun(
    db: Database,
    moving: Moving,
    libraries: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording_id = await shelve(db, libraries[0])
    full = Room(free_bytes=1000, size_bytes=100_000_000_000, free_files=1000)
    monkeypatch.setattr(Room, "at", lambda _: full)
    job_id = await order(db, [recording_id], to=str(libraries[1]))
    assert await run(moving, job_id) == JobDone(0, 1)
    assert "are free" in (await job_of(db, job_id)).failed[0]["problem"]
    assert (names(libraries[1]), len(names(libraries[0]))) == ([], 8)


async def test_what_fails_halfway_leaves_nothing_in_the_new_place(
    db: Database, moving: Moving, libraries: tuple[Path, Path]
) -> None:
    one, two = libraries
    recording_id = await shelve(db, one)
    in_the_way = two / f"{STEM}.nfo"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("of somebody else")
    assert await run(moving, await order(db, [recording_id], to=str(two))) == JobDone(0, 1)
    assert names(two) == [f"{STEM}.nfo"]
    assert (one / f"{STEM}.mp4").exists()


async def test_a_database_that_is_away_fails_no_recording_and_leaves_no_thread(
    db: Database,
    moving: Moving,
    libraries: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording_id = await shelve(db, libraries[0])
    job_id = await order(db, [recording_id], to=str(libraries[1]))

    def away(*_: object) -> None:
        raise DependencyUnavailable("the database is away")

    with monkeypatch.context() as patched:
        patched.setattr(Moving, "_write_down", away)
        with pytest.raises(DependencyUnavailable):
            await run(moving, job_id)
    assert (await job_of(db, job_id)).failed == []
    assert await run(moving, job_id) == JobDone(1)


async def test_who_waits_for_another_move_is_not_taken_for_dead(
    db: Database, moving: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving_module, "BEAT_S", 0.01)
    beats: list[object] = []
    environment = ActivityEnvironment()
    environment.on_heartbeat = lambda *details: beats.append(details)
    async with moving.one_at_a_time:
        task = asyncio.create_task(environment.run(moving.run_move, await order(db, [])))
        async with asyncio.timeout(10):
            while len(beats) < 3:  # noqa: ASYNC110  # a heartbeat sets no event
                await asyncio.sleep(0.01)
    await task


@pytest.mark.parametrize(
    "options", [{"to": "other"}, {"rename": True}, {"to": "other", "rename": True}], ids=str
)
@pytest.mark.parametrize("origin", [0, 1])
@pytest.mark.parametrize("moment", range(6))
async def test_killed_at_any_moment_it_goes_on_and_loses_nothing(
    db: Database,
    moving: Moving,
    libraries: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    moment: int,
    origin: int,
    options: dict[str, Any],
) -> None:
    other = libraries[1 - origin]
    options = options | ({"to": str(other)} if "to" in options else {})
    recording_id = await shelve(db, libraries[origin])
    async with db.begin() as session:
        await preferences.save_preferences(session, {"naming": "{streamer}/{title} {episode}"})
    job_id = await order(db, [recording_id], **options)

    with monkeypatch.context() as patched:
        die_at(patched, moment)
        with pytest.raises(Killed):
            await run(moving, job_id)
    row = await get(db, recording_id)
    contents = [root / str(row.path) for root in libraries if (root / str(row.path)).exists()]
    assert {path.read_text() for path in contents} == {f"{STEM}.mp4"}

    assert await run(moving, job_id) == JobDone(1)
    name = f"{RENAMED}.mp4" if "rename" in options else f"{STEM}.mp4"
    assert (await get(db, recording_id)).path == name
    final = (other if "to" in options else libraries[origin]) / name
    everything = [root / name for root in libraries for name in names(root)]
    films = [path for path in everything if path.suffix == ".mp4"]
    assert sorted(films) == sorted([final, final.with_stem(f"{final.stem} - part 2")])
    assert final.read_text() == f"{STEM}.mp4"
    assert (await job_of(db, job_id)).current["leftover"] == []


def die_at(patched: pytest.MonkeyPatch, moment: int) -> None:
    """0 to 2: before that file is placed; 3: before it is written down; 4: before the sidecars;
    5: before anything is taken away."""
    place, placed = Carrying._place, iter(range(100))

    def dying(self: Carrying, pair: Any) -> None:
        if next(placed) == moment:
            raise Killed
        place(self, pair)

    def dies(*_: object, **__: object) -> None:
        raise Killed

    if moment < 3:
        patched.setattr(Carrying, "_place", dying)
    elif moment == 3:
        patched.setattr(Moving, "_write_down", dies)
    elif moment == 4:
        patched.setattr(moving_module, "write_sidecars", dies)
    else:
        patched.setattr(moving_module, "remove_part", dies)
