from __future__ import annotations

from datetime import UTC, datetime

from streamvault.contracts import Status
from streamvault.db import captured, recordings
from streamvault.db.captured import AdRow, FinalFile, GapRow, PartRow, Progress
from streamvault.db.recordings import NewRecording
from streamvault.db.session import Database

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


async def opened(db: Database) -> str:
    async with db.begin() as session:
        recording, _ = await recordings.open_recording(session, NewRecording("k", "https://o/"))
        return str(recording.id)


async def test_progress_moves_between_recording_and_reconnecting(db: Database) -> None:
    recording_id = await opened(db)
    for status, why in (("recording", ""), ("reconnecting", "nothing new"), ("recording", "")):
        totals = {"gap_s": 0}
        progress = Progress(4_000_000, 8.0, 4_000_000, "1080p60", "avc1", totals, status, why)
        async with db.begin() as session:
            await captured.save_progress(session, recording_id, progress)
            found = await recordings.get_recording(session, recording_id)
            await session.refresh(found)
            assert (found.status, found.reason) == (status, why)
    assert (found.size_bytes, found.duration_s, found.variant) == (4_000_000, 8.0, "1080p60")


async def test_a_late_report_does_not_take_a_recording_out_of_processing(db: Database) -> None:
    recording_id = await opened(db)
    async with db.begin() as session:
        await captured.save_progress(session, recording_id, Progress(10, 1.0, variant="720p"))
        await recordings.set_status(session, recording_id, Status.PROCESSING, step="remux")
    async with db.begin() as session:
        await captured.save_progress(session, recording_id, Progress(20, 2.0, reason="late"))
    async with db.begin() as session:
        found = await recordings.get_recording(session, recording_id)
    assert (found.status, found.step, found.size_bytes) == ("processing", "remux", 20)
    assert (found.variant, found.reason) == ("720p", "")


async def test_a_recording_that_waited_for_room_records_again(db: Database) -> None:
    recording_id = await opened(db)
    async with db.begin() as session:
        await recordings.set_status(
            session, recording_id, Status.NEEDS_ATTENTION, step="record", reason="the disk is full"
        )
    async with db.begin() as session:
        await captured.save_progress(session, recording_id, Progress(20, 2.0))
    async with db.begin() as session:
        found = await recordings.get_recording(session, recording_id)
    assert (found.status, found.step, found.reason) == ("recording", "record", "")


async def test_the_journals_view_replaces_the_one_before(db: Database) -> None:
    recording_id = await opened(db)
    parts = [PartRow(1, "part-0001.ts", 100, 10.0, NOON), PartRow(2, "part-0002.ts", 50, 5.0)]
    gaps = [GapRow(10.0, 4.0, "network", NOON), GapRow(20.0, 1.0, "source")]
    for count in (1, 2, 2):
        async with db.begin() as session:
            await captured.replace_parts_and_gaps(
                session,
                recording_id,
                parts[:count],
                gaps[:count],
                [AdRow(3.0, 30.0, "midroll")],
                {"segments_lost": count},
            )
    async with db.begin() as session:
        detail = await recordings.get_detail(session, recording_id)
    assert [(p.number, p.name, p.size_bytes) for p in detail.parts] == [
        (1, "part-0001.ts", 100),
        (2, "part-0002.ts", 50),
    ]
    assert [(g.start_s, g.cause) for g in detail.gaps] == [(10.0, "network"), (20.0, "source")]
    assert [(a.start_s, a.duration_s, a.kind) for a in detail.ads] == [(3.0, 30.0, "midroll")]
    assert detail.totals == {"segments_lost": 2}


async def test_the_final_file_sets_size_duration_and_bitrate(db: Database) -> None:
    recording_id = await opened(db)
    final = FinalFile("A/Season 2026/A.mp4", 3_000_000, 4.0, "h264")
    async with db.begin() as session:
        await captured.save_final_file(session, recording_id, final)
        await captured.mark_parts_gone(session, recording_id)
        await captured.save_chapters(session, recording_id, [{"start_s": 0, "title": "T"}])
        await captured.save_report(session, recording_id, {"checks": []})
    async with db.begin() as session:
        found = await recordings.get_recording(session, recording_id)
    assert (found.path, found.size_bytes, found.codec) == (final.path, 3_000_000, "h264")
    assert found.bitrate_bps == 3_000_000 * 8 // 4
    assert found.parts_gone_at is not None
    assert found.chapters == [{"start_s": 0, "title": "T"}]
    assert found.report == {"checks": []}
