"""The catalog made anew from the files: real rows, reports as the pipeline writes them."""

from __future__ import annotations

import json
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from temporalio.testing import ActivityEnvironment

from activities.adopting import Adopting
from activities.media import Media
from api.schemas import RecordingDetail
from streamvault.contracts import Adopted, Status, Step, StepInput, StepState
from streamvault.db import captured, facts, recordings, steps, streamers
from streamvault.db.ids import uuid7
from streamvault.db.models import Recording
from streamvault.db.recordings import Detection, NewRecording
from streamvault.db.session import Database
from streamvault.db.streamers import NewStreamer
from streamvault.media.ffmpeg import Ffmpeg

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
MANY = 200
# The database's own, or made anew at a later time.
NOT_COMPARED = ("steps", "locked", "watched", "position_s")


@pytest.fixture
def libraries(tmp_path: Path) -> tuple[Path, Path]:
    made = (tmp_path / "one", tmp_path / "two")
    for root in made:
        root.mkdir()
    return made


@pytest.fixture
def media(db: Database, libraries: tuple[Path, Path], tmp_path: Path) -> Media:
    # Sidecars need no ffmpeg.
    return Media(db, libraries, Ffmpeg(Path("/nowhere"), "0"), tmp_path)


@pytest.fixture
def adopting(db: Database, libraries: tuple[Path, Path]) -> Adopting:
    return Adopting(db, libraries)


async def finished(
    db: Database, media: Media, root: Path, number: int, chance: random.Random
) -> str:
    """A recording as it stands when its pipeline is done, with a report that the pipeline wrote."""
    began = NOON - timedelta(hours=number)
    title, stream_id = f"Night {number} \u2014 100% & <more>", str(4711 + number)
    files = [{"name": f"Alice - {number}.mp4", "size_bytes": 5, "duration_s": 60.0 + number}]
    report = {
        "recording_id": "",
        "streamer": "Alice",
        "title": title,
        "started_at": began.isoformat(),
        "totals": {"segments_expected": 30, "segments_stored": 29, "segments_lost": 1},
        "gaps": [{"start_s": 4.0, "duration_s": 2.0, "cause": "network", "at": began.isoformat()}],
        "ads": [{"start_s": 9.0, "duration_s": 3.0, "kind": "midroll"}],
        "parts": [
            {"number": 1, "file": "part-0001.ts", "size_bytes": 5, "duration_s": 60.0,
             "began_at": began.isoformat(), "crc32": "0badcafe"},
        ],
        "files": files,
    }  # fmt: skip
    async with db.begin() as session:
        new = NewRecording(f"twitch:{stream_id}", "https://www.twitch.tv/alice", platform="twitch",
                           title=title, workflow_id=f"stream-twitch-{stream_id}")  # fmt: skip
        row, _ = await recordings.open_recording(session, new)
        folder = f"Alice/Season 2026/.streamvault/{row.id}"
        await recordings.note_detected(
            session,
            row.id,
            Detection("Alice", "twitch", "alice", None, stream_id, title, "Chess", folder),
        )
        await recordings.allocate_episode(session, row.id, "Alice", began.date())
        report["recording_id"] = str(row.id)
        chapters = [
            {"start_s": 0.0, "title": title, "category": "Chess"},
            {"start_s": chance.uniform(1, 50), "title": "b", "category": ""},
        ]
        await recordings.update_recording(
            session,
            row.id,
            status=str(Status.COMPLETED),
            step=str(Step.NOTIFY),
            holds_source=False,
            started_at=began,
            ended_at=began + timedelta(seconds=60 + number),
            path=f"Alice/Season 2026/Alice - {number}.mp4",
            size_bytes=5,
            duration_s=60.0 + number,
            bitrate_bps=chance.randint(1, 9_000_000),
            variant="1080p60",
            codec="avc1.64002A",
            parts_gone_at=began,
            chapters=chapters,
            report=report,
            totals=report["totals"],
        )
        await captured.replace_parts_and_gaps(
            session,
            row.id,
            [captured.PartRow(1, "part-0001.ts", 5, 60.0, began, "0badcafe")],
            [captured.GapRow(4.0, 2.0, "network", began)],
            [captured.AdRow(9.0, 3.0, "midroll")],
            report["totals"],  # type: ignore[arg-type]
        )
        for step in Step:
            await steps.set_step(session, row.id, step, StepState.DONE)
    final = root / f"Alice/Season 2026/Alice - {number}.mp4"
    final.parent.mkdir(parents=True, exist_ok=True)
    final.write_bytes(b"12345")
    await ActivityEnvironment().run(media.sidecars, StepInput(str(row.id)))
    return str(row.id)


async def shown(db: Database, recording_id: str) -> dict[str, Any]:
    """As the API shows it, with its report."""
    async with db.begin() as session:
        row = await recordings.get_detail(session, recording_id)
        told: dict[str, Any] = RecordingDetail.of(row).model_dump(mode="json")
        assert {step.state for step in row.steps} == {"done"} and len(row.steps) == len(Step)
    return {k: v for k, v in told.items() if k not in NOT_COMPARED} | {"report": row.report}


async def lose_everything(db: Database) -> None:
    async with db.begin() as session:
        await session.execute(text("TRUNCATE recordings, streams, streamers, facts CASCADE"))


async def adopt(adopting: Adopting) -> Adopted:
    found: Adopted = await ActivityEnvironment().run(adopting.adopt)
    return found


async def test_a_library_of_two_hundred_outlives_its_database(
    db: Database, media: Media, adopting: Adopting, libraries: tuple[Path, Path]
) -> None:
    chance = random.Random(5)
    ids = [await finished(db, media, libraries[n % 2], n, chance) for n in range(MANY)]
    before = {recording_id: await shown(db, recording_id) for recording_id in ids}
    files = sorted(path for root in libraries for path in root.rglob("*"))
    await lose_everything(db)

    assert await adopt(adopting) == Adopted(added=MANY)

    assert {recording_id: await shown(db, recording_id) for recording_id in ids} == before
    assert sorted(path for root in libraries for path in root.rglob("*")) == files
    assert await adopt(adopting) == Adopted(known=MANY), "again it does nothing"
    async with db.begin() as session:
        fact = await facts.get_fact(session, facts.ADOPTED)
    assert fact and fact.value["known"] == MANY


@pytest.fixture
async def one(db: Database, media: Media, libraries: tuple[Path, Path]) -> tuple[str, Path]:
    recording_id = await finished(db, media, libraries[0], 1, random.Random(1))
    return recording_id, libraries[0] / "Alice/Season 2026/Alice - 1.mp4"


async def row_of(db: Database, recording_id: str) -> Recording:
    async with db.begin() as session:
        return await recordings.get_recording(session, recording_id)


async def test_who_is_followed_again_has_his_recordings(
    db: Database, adopting: Adopting, one: tuple[str, Path]
) -> None:
    await lose_everything(db)
    async with db.begin() as session:
        new = NewStreamer("twitch", "Alice", "Alice", "https://www.twitch.tv/alice")
        streamer, _ = await streamers.add_streamer(session, new)
    await adopt(adopting)
    assert (await row_of(db, one[0])).streamer_id == streamer.id


async def test_files_that_somebody_moved_are_found(
    db: Database, adopting: Adopting, one: tuple[str, Path], libraries: tuple[Path, Path]
) -> None:
    recording_id, final = one
    target = libraries[1] / "Elsewhere"
    target.mkdir()
    for path in final.parent.glob("Alice - 1*"):
        path.rename(target / path.name.replace("Alice - 1", "Renamed"))
    assert await adopt(adopting) == Adopted(moved=1)
    assert (await row_of(db, recording_id)).path == "Elsewhere/Renamed.mp4"
    await lose_everything(db)
    assert await adopt(adopting) == Adopted(added=1)
    assert (await row_of(db, recording_id)).path == "Elsewhere/Renamed.mp4"


async def test_a_file_that_is_nowhere_is_named_and_never_taken_for_verified(
    db: Database, adopting: Adopting, one: tuple[str, Path]
) -> None:
    recording_id, final = one
    final.unlink()
    told = await adopt(adopting)
    assert told.missing == [f"{recording_id}: Alice/Season 2026/Alice - 1.mp4"]
    await lose_everything(db)
    told = await adopt(adopting)
    assert (told.added, len(told.missing)) == (1, 1)
    row = await row_of(db, recording_id)
    assert row.verification and row.verification["ok"] is False


async def test_a_number_of_the_day_that_is_taken_by_now_holds_up_nothing(
    db: Database, adopting: Adopting, one: tuple[str, Path]
) -> None:
    await lose_everything(db)
    async with db.begin() as session:
        new, _ = await recordings.open_recording(session, NewRecording("k", "x://"))
        day = (NOON - timedelta(hours=1)).date()
        assert await recordings.allocate_episode(session, new.id, "Alice", day) == 1
    assert await adopt(adopting) == Adopted(added=1)
    assert (await row_of(db, one[0])).episode is None


async def test_a_file_of_another_size_is_never_taken_for_verified(
    db: Database, adopting: Adopting, one: tuple[str, Path]
) -> None:
    one[1].write_bytes(b"123")
    await lose_everything(db)
    assert await adopt(adopting) == Adopted(added=1)
    row = await row_of(db, one[0])
    assert row.verification and row.verification["problem"].endswith("has 3 bytes, not 5")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"recording_id": "../../etc"}, "recording_id"),
        ({"started_at": "yesterday"}, "started_at"),
        ({"files": [{"name": "x.mp4", "size_bytes": "many", "duration_s": 1}]}, "size_bytes"),
        ({"catalog": {"directory": "../../../etc"}}, "no path in a library"),
        ({"gaps": [{"start_s": 1, "duration_s": 1, "cause": "aliens"}]}, "ck_gaps_cause"),
    ],
    ids=str,
)
async def test_a_damaged_report_is_named_and_holds_up_no_other(
    db: Database, adopting: Adopting, one: tuple[str, Path], change: dict[str, Any], problem: str
) -> None:
    report = one[1].with_suffix(".report.json")
    bad = {**json.loads(report.read_text()), "recording_id": str(uuid7()), **change}
    report.with_name("bad.report.json").write_text(json.dumps(bad))
    report.with_name("cut.report.json").write_text(report.read_text()[:100])
    report.with_name("link.report.json").symlink_to("/etc/passwd")
    os.mkfifo(report.with_name("pipe.txt"))
    await lose_everything(db)
    told = await adopt(adopting)
    assert told.added == 1
    assert len(told.problems) == 2
    assert any(problem in line for line in told.problems), told.problems
