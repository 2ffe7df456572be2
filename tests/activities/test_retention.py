"""What goes from a library: real rows, real files, a real Temporal server."""

from __future__ import annotations

import random
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities.retention import Retention, make_plan
from streamvault.contracts import Status, SweepInput, Swept
from streamvault.db import facts, library, preferences, recordings, streamers
from streamvault.db.models import Recording
from streamvault.db.recordings import NewRecording
from streamvault.db.session import Database
from streamvault.db.streamers import NewStreamer
from streamvault.errors import Conflict, NotFound

Shelve = Callable[..., Awaitable[Recording]]
DAY = timedelta(days=1)
BESIDE = (".mp4", ".nfo", "-poster.jpg", ".chapters.vtt", ".report.json")


@pytest.fixture
def libraries(tmp_path: Path) -> tuple[Path, Path]:
    made = (tmp_path / "one", tmp_path / "two")
    for root in made:
        root.mkdir()
    return made


@pytest.fixture
def retention(
    db: Database, temporal_dev: WorkflowEnvironment, libraries: tuple[Path, Path]
) -> Retention:
    return Retention(db, temporal_dev.client, libraries)


@pytest.fixture
def shelve(db: Database, libraries: tuple[Path, Path]) -> Shelve:
    """A finished recording and its files."""

    async def put(
        name: str = "", *, days: float = 0, size: int = 1000, disk: int = 0, **columns: object
    ) -> Recording:
        stem = name or uuid.uuid4().hex
        values: dict[str, object] = {
            "status": str(Status.COMPLETED),
            "holds_source": False,
            "streamer_name": "Alice",
            "path": f"Alice/Season 2026/{stem}.mp4",
            "directory": f"Alice/Season 2026/.streamvault/{stem}",
            "size_bytes": size,
            "started_at": datetime.now(UTC) - days * DAY,
            **columns,
        }
        final = libraries[disk] / f"Alice/Season 2026/{stem}.mp4"
        work = libraries[disk] / f"Alice/Season 2026/.streamvault/{stem}"
        work.mkdir(parents=True)
        for ending in BESIDE:
            final.with_name(stem + ending).write_bytes(b"x")
        trickplay = final.with_name(f"{stem}.trickplay") / "320 - 10x10"
        trickplay.mkdir(parents=True)
        (trickplay / "0.jpg").write_bytes(b"x")
        for inside in ("storyboard.vtt", "storyboard-0.webp"):
            (work / inside).write_bytes(b"x")
        async with db.begin() as session:
            row, _ = await recordings.open_recording(session, NewRecording(stem, f"x://{stem}"))
            await recordings.update_recording(session, row.id, **values)
            await session.refresh(row)
            return row

    return put


async def sweep(retention: Retention, *, room_wanted: bool = False) -> Swept:
    swept: Swept = await ActivityEnvironment().run(
        retention.sweep, SweepInput("", room_wanted=room_wanted)
    )
    return swept


async def prefer(db: Database, **wishes: object) -> None:
    async with db.begin() as session:
        await preferences.save_preferences(session, wishes)


async def left(db: Database) -> set[uuid.UUID]:
    async with db.begin() as session:
        return {row.id for row in await library.with_files(session)}


def files(*roots: Path) -> list[Path]:
    return sorted(path for root in roots for path in root.rglob("*"))


async def test_what_is_too_old_goes_with_all_its_files(
    db: Database, retention: Retention, shelve: Shelve, libraries: tuple[Path, Path]
) -> None:
    old, young = await shelve("old [1]*", days=31), await shelve("young", days=29)
    await prefer(db, retention_days=30)

    assert await sweep(retention) == Swept(1, 1000)

    assert await left(db) == {young.id}
    names = [path.name for path in files(*libraries) if "old" in path.name]
    assert names == []
    assert (libraries[0] / (young.path or "")).exists()
    async with db.begin() as session:
        fact = await facts.get_fact(session, facts.RETENTION)
        with pytest.raises(NotFound):
            await recordings.get_recording(session, old.id)
    assert fact and fact.value["recordings"] == 1


async def test_an_empty_library_has_no_empty_folders(
    db: Database, retention: Retention, shelve: Shelve, libraries: tuple[Path, Path]
) -> None:
    await shelve(days=9, disk=1)
    await prefer(db, retention_days=1)
    await sweep(retention)
    assert files(*libraries) == []


@pytest.mark.parametrize(
    "columns",
    [
        {"locked": True},
        {"watched_at": "now"},
        {"status": "failed"},
        {"path": None},
        {"path": None, "report": {"container": "parts"}, "verification": {"ok": False}},
        {"verification": {"ok": False}},
        {"status": "recording"},
        {"status": "processing"},
        {"status": "needs_attention"},
    ],
    ids=str,
)
async def test_what_is_locked_watched_unfinished_or_not_verified_stays(
    db: Database, retention: Retention, shelve: Shelve, columns: dict[str, object]
) -> None:
    if "watched_at" in columns:
        columns = {"watched_at": datetime.now(UTC)}
    row = await shelve(days=99, **columns)
    await prefer(db, retention_days=1, library_bytes=1)
    assert await sweep(retention) == Swept()
    assert await left(db) == {row.id}


async def test_what_was_meant_to_stay_in_parts_goes_by_the_same_rules(
    db: Database, retention: Retention, shelve: Shelve
) -> None:
    await shelve(days=99, path=None, report={"container": "parts", "files": []})
    await prefer(db, retention_days=1)
    assert await sweep(retention) == Swept(1, 1000)
    assert await left(db) == set()


async def test_a_preview_is_what_the_run_deletes(
    db: Database, retention: Retention, shelve: Shelve, libraries: tuple[Path, Path]
) -> None:
    """Random libraries of several streamers on two disks, under random rules."""
    chance = random.Random(27)
    for round_ in range(6):
        for name in ("alice", "bob"):
            async with db.begin() as session:
                streamer, _ = await streamers.add_streamer(
                    session, NewStreamer("twitch", f"{name}{round_}", name, f"x://{name}{round_}")
                )
                streamer.retention_count = chance.choice([None, 0, 2])
                streamer.retention_days = chance.choice([None, 0, 5])
            for _ in range(chance.randint(2, 7)):
                await shelve(
                    days=chance.uniform(0, 12),
                    size=chance.randint(1, 2000),
                    disk=chance.randint(0, 1),
                    streamer_id=streamer.id,
                    locked=chance.random() < 0.2,
                )
        await prefer(
            db,
            retention_days=chance.choice([0, 6]),
            retention_bytes=chance.choice([0, 4000]),
            library_bytes=chance.choice([0, 6000]),
        )
        before = await left(db)
        async with db.begin() as session:
            told = {goes.recording.id for goes in (await make_plan(session, libraries)).goes}
        swept = await sweep(retention)
        assert before - await left(db) == told
        assert swept.recordings == len(told)
    assert await left(db), "the rules must not have emptied it, or nothing was compared"


async def test_room_is_made_on_the_disk_that_wants_it(
    db: Database,
    retention: Retention,
    shelve: Shelve,
    libraries: tuple[Path, Path],
) -> None:
    # No disk has an exabyte free: everything that may go does.
    await shelve(days=2)
    locked = await shelve(days=3, locked=True)
    await prefer(db, min_free_bytes=2**53)
    assert (await sweep(retention)).recordings == 1
    assert await left(db) == {locked.id}


async def test_what_a_person_deleted_goes_when_its_day_is_over(
    db: Database, retention: Retention, shelve: Shelve, libraries: tuple[Path, Path]
) -> None:
    row = await shelve()
    async with db.begin() as session:
        await library.delete_recording(session, row.id, "by a person", DAY)
    assert await sweep(retention) == Swept()
    assert (libraries[0] / (row.path or "")).exists()
    async with db.begin() as session:
        await recordings.update_recording(
            session, row.id, purge_at=datetime.now(UTC) - timedelta(seconds=1)
        )
    assert (await sweep(retention)).recordings == 1
    assert files(*libraries) == []


async def test_every_file_of_several_goes_and_a_name_of_before_is_another_recordings(
    db: Database, retention: Retention, shelve: Shelve, libraries: tuple[Path, Path]
) -> None:
    folder = libraries[0] / "Alice/Season 2026"
    several = [{"name": "two.mp4"}, {"name": "two - part 2.mp4"}]
    await shelve("two", days=9, report={"files": several})
    (folder / "two - part 2.mp4").write_bytes(b"x")
    await shelve("renamed", days=9, report={"files": [{"name": "other.mp4"}]})
    await shelve("other")
    await prefer(db, retention_days=1)
    assert (await sweep(retention)).recordings == 2
    assert sorted(path.name for path in folder.glob("*.mp4")) == ["other.mp4"]


async def test_a_recording_that_waits_for_room_has_what_was_deleted_go_at_once(
    db: Database, retention: Retention, shelve: Shelve
) -> None:
    deleted, kept = await shelve(), await shelve()
    async with db.begin() as session:
        await library.delete_recording(session, deleted.id, "by a person", DAY)
    assert (await sweep(retention, room_wanted=True)).recordings == 1
    assert await left(db) == {kept.id}


async def test_it_comes_back_until_then_and_not_afterwards(db: Database, shelve: Shelve) -> None:
    row = await shelve()
    async with db.begin() as session:
        await library.delete_recording(session, row.id, "by a person", DAY)
        again = await library.undelete_recording(session, row.id)
        assert (again.deleted_at, again.purge_at) == (None, None)
        await library.delete_recording(session, row.id, "by a person", DAY)
        await library.delete_recording(session, row.id, "by a person", DAY)
        with pytest.raises(Conflict, match="too late"):
            await library.undelete_recording(session, row.id)


async def test_somebody_who_watches_a_deleted_one_sees_it_to_the_end(
    db: Database, retention: Retention, shelve: Shelve
) -> None:
    row = await shelve(watched_at=datetime.now(UTC))
    async with db.begin() as session:
        await library.delete_recording(session, row.id, "by a person", timedelta())
    assert await sweep(retention) == Swept()
    async with db.begin() as session:
        past = datetime.now(UTC) - timedelta(hours=1)
        await recordings.update_recording(session, row.id, watched_at=past)
    assert (await sweep(retention)).recordings == 1


@pytest.mark.parametrize("told", ["../outside.mp4", "/etc/outside.mp4", "a/../../outside.mp4"])
async def test_a_damaged_row_deletes_nothing_outside_and_holds_up_nobody(
    db: Database, retention: Retention, shelve: Shelve, libraries: tuple[Path, Path], told: str
) -> None:
    outside = libraries[0].parent / "outside.mp4"
    outside.write_bytes(b"x")
    bad = await shelve(path=told, deleted_at=datetime.now(UTC), purge_at=datetime.now(UTC))
    good = await shelve(days=9)
    await prefer(db, retention_days=1)
    swept = await sweep(retention)
    assert swept.recordings == 1 and len(swept.problems) == 1
    assert str(bad.id) in swept.problems[0] and "damaged" in swept.problems[0]
    assert outside.exists()
    assert good.id not in await left(db)


async def test_with_a_disk_away_its_recordings_are_not_forgotten(
    db: Database, retention: Retention, shelve: Shelve, libraries: tuple[Path, Path]
) -> None:
    row = await shelve(deleted_at=datetime.now(UTC), purge_at=datetime.now(UTC), disk=1)
    libraries[1].rename(libraries[1].with_name("unplugged"))
    swept = await sweep(retention)
    assert swept.recordings == 0 and "mounted" in swept.problems[0]
    libraries[1].with_name("unplugged").rename(libraries[1])
    assert (await sweep(retention)).recordings == 1
    assert row.id not in await left(db)


async def test_what_was_interrupted_after_the_files_went_is_finished(
    db: Database, retention: Retention, shelve: Shelve, libraries: tuple[Path, Path]
) -> None:
    row = await shelve(deleted_at=datetime.now(UTC), purge_at=datetime.now(UTC))
    for path in files(libraries[0]):
        if path.is_file():
            path.unlink()
    assert (await sweep(retention)).recordings == 1
    assert row.id not in await left(db)
