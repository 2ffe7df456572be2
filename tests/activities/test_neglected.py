"""What should have somebody who looks after it, and has nobody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from activities.neglected import Neglected, find_neglected
from streamvault.contracts import Status
from streamvault.db import captured, recordings, streamers, watch
from streamvault.db.session import Database
from streamvault.hls.journal import JOURNAL_NAME

KEY = "twitch:9000"


@pytest.fixture
async def alice(db: Database) -> UUID:
    """Live for ten minutes, and nobody records her."""
    async with db.begin() as session:
        new = streamers.NewStreamer("twitch", "alice", "Alice", "https://www.twitch.tv/alice")
        row, _ = await streamers.add_streamer(session, new)
        await streamers.note_live(session, row.id, "9000", ago(minutes=10))
        return row.id


def ago(**since: float) -> datetime:
    return datetime.now(UTC) - timedelta(**since)


async def record(db: Database, alice: UUID | None = None, **columns: Any) -> str:
    """A recording that began nine minutes ago, with these columns."""
    async with db.begin() as session:
        new = recordings.NewRecording(KEY, "https://www.twitch.tv/alice", streamer_id=alice)
        row, _ = await recordings.open_recording(session, new)
        columns = {"started_at": ago(minutes=9), "created_at": ago(minutes=9), **columns}
        await recordings.update_recording(session, row.id, **columns)
        return str(row.id)


async def found(db: Database, library: Path | None = None) -> Neglected:
    async with db.begin() as session:
        rows = await watch.unfinished(session)
    return await find_neglected(db, rows, library)


async def test_who_is_live_and_not_recorded_is_named(db: Database, alice: UUID) -> None:
    assert (await found(db)).live == ["alice"]
    await record(db, alice, status=Status.RECORDING)
    assert (await found(db)).live == []


async def test_who_has_just_gone_live_is_given_a_moment(db: Database, alice: UUID) -> None:
    async with db.begin() as session:
        await streamers.note_live(session, alice, "9001", ago(seconds=60))
    assert (await found(db)).live == []


async def test_a_recording_that_is_only_processed_is_none_of_the_stream_that_runs(
    db: Database, alice: UUID
) -> None:
    await record(db, alice, status=Status.PROCESSING, ended_at=ago(minutes=5))
    assert (await found(db)).live == ["alice"]


@pytest.mark.parametrize(
    "columns",
    [
        {"status": Status.FAILED, "reason": "stopped", "ended_s_ago": 300},
        {"status": Status.COMPLETED, "ended_s_ago": 30},
        {"status": Status.NEEDS_ATTENTION, "step": "record"},
    ],
    ids=["a person stopped it", "it has just ended", "it waits for room"],
)
async def test_some_have_a_reason_not_to_be_recorded(
    db: Database, alice: UUID, columns: dict[str, Any]
) -> None:
    # The parameters are read long before the test runs.
    if (ended_s_ago := columns.pop("ended_s_ago", None)) is not None:
        columns["ended_at"] = ago(seconds=ended_s_ago)
    await record(db, alice, **columns)
    assert (await found(db)).live == []


async def test_a_stream_that_the_filters_refuse_is_not_missed(db: Database, alice: UUID) -> None:
    async with db.begin() as session:
        row = await streamers.get_streamer(session, alice)
        row.title, row.filters = "a rerun", {"title_deny": ["rerun"]}
    assert (await found(db)).live == []
    async with db.begin() as session:
        (await streamers.get_streamer(session, alice)).title = "brand new"
    assert (await found(db)).live == ["alice"]


async def test_a_folder_without_a_journal_is_named_where_the_folder_is(
    db: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "alice" / "parts"
    recording_id = await record(
        db, status=Status.RECORDING, duration_s=60.0, directory="alice/parts"
    )
    assert (await found(db, tmp_path)).without_journal == []  # another host's
    folder.mkdir(parents=True)
    assert (await found(db, tmp_path)).without_journal == [recording_id]
    (folder / JOURNAL_NAME).touch()
    assert (await found(db, tmp_path)).without_journal == []


async def test_of_what_is_processed_the_journal_may_be_gone(db: Database, tmp_path: Path) -> None:
    (tmp_path / "alice").mkdir()
    await record(db, status=Status.PROCESSING, duration_s=60.0, directory="alice")
    assert (await found(db, tmp_path)).without_journal == []


async def test_parts_of_a_recording_that_failed_long_ago_are_told(db: Database) -> None:
    recording_id = await record(db, status=Status.FAILED, ended_at=ago(hours=2))
    assert (await found(db)).left == []  # it holds nothing
    async with db.begin() as session:
        part = captured.PartRow(1, "part-0001.ts", 4_000, 8.0)
        await captured.replace_parts_and_gaps(session, recording_id, [part], [], [], {})
    assert (await found(db)).left == [recording_id]
    async with db.begin() as session:
        await captured.mark_parts_gone(session, recording_id)
    assert (await found(db)).left == []
