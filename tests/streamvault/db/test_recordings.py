from __future__ import annotations

import asyncio
from datetime import date
from uuid import UUID

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.exc import InvalidRequestError

from streamvault.contracts import STEPS, Status, url_workflow_id
from streamvault.db import library, recordings, steps, streamers
from streamvault.db.library import Wanted
from streamvault.db.models import Recording, Stream
from streamvault.db.recordings import Detection, NewRecording
from streamvault.db.session import Database
from streamvault.errors import InvalidInput, NotFound


def source(key: str = "hls://origin/live.m3u8", **more: object) -> NewRecording:
    return NewRecording(source_key=key, source_url=key, **more)  # type: ignore[arg-type]


async def opened(db: Database, key: str = "a", **more: object) -> UUID:
    async with db.begin() as session:
        recording, _ = await recordings.open_recording(session, source(key, **more))
        return recording.id


async def test_a_hundred_starts_at_once_are_one_recording(db: Database) -> None:
    async def start() -> tuple[UUID, bool]:
        async with db.begin() as session:
            recording, created = await recordings.open_recording(session, source())
            return recording.id, created

    results = await asyncio.gather(*(start() for _ in range(100)))

    assert len({recording_id for recording_id, _ in results}) == 1
    assert sum(created for _, created in results) == 1
    async with db.begin() as session:
        assert await session.scalar(select(func.count()).select_from(Recording)) == 1


async def test_a_new_recording_has_its_seven_steps_waiting(db: Database) -> None:
    recording_id = await opened(db)
    async with db.begin() as session:
        detail = await recordings.get_detail(session, str(recording_id))
    assert {step.name for step in detail.steps} == set(STEPS)
    assert {step.state for step in detail.steps} == {"waiting"}
    assert detail.workflow_id == url_workflow_id(str(recording_id))
    assert recording_id.version == 7


async def test_a_closed_recording_frees_its_source(db: Database) -> None:
    first = await opened(db)
    async with db.begin() as session:
        await recordings.set_status(session, first, Status.COMPLETED, ended=True)
    second = await opened(db, continues_id=first)
    assert second != first
    async with db.begin() as session:
        latest = await recordings.latest_of_source(session, "a")
        assert latest and latest.id == second and latest.continues_id == first


async def test_processing_a_closed_recording_again_does_not_need_its_source(db: Database) -> None:
    first = await opened(db)
    async with db.begin() as session:
        await recordings.set_status(session, first, Status.COMPLETED)
    second = await opened(db)
    async with db.begin() as session:
        await recordings.set_status(session, first, Status.PROCESSING, step="thumbnails")
        reopened = await recordings.get_recording(session, first)
    assert (reopened.status, reopened.step) == ("processing", "thumbnails")
    assert await opened(db) == second


async def test_the_end_of_the_capture_is_noted_once(db: Database) -> None:
    recording_id = await opened(db)
    ends = []
    for status in (Status.PROCESSING, Status.COMPLETED):
        async with db.begin() as session:
            await recordings.set_status(session, recording_id, status, ended=True)
            ends.append((await recordings.get_recording(session, recording_id)).ended_at)
    assert ends[0] is not None and ends[0] == ends[1]


async def test_a_recording_that_records_again_has_not_ended(db: Database) -> None:
    recording_id = await opened(db)
    async with db.begin() as session:
        await recordings.set_status(session, recording_id, Status.PROCESSING, ended=True)
        await recordings.set_status(session, recording_id, Status.RECORDING)
        assert (await recordings.get_recording(session, recording_id)).ended_at is None


@pytest.mark.parametrize("recording_id", ["0" * 32, "no-uuid", "../../etc/passwd", ""])
async def test_what_does_not_exist_is_not_found(db: Database, recording_id: str) -> None:
    async with db.begin() as session:
        for ask in (recordings.get_recording, recordings.get_detail):
            with pytest.raises(NotFound):
                await ask(session, recording_id)
        with pytest.raises(NotFound):
            await recordings.set_status(session, recording_id, Status.FAILED)
        with pytest.raises(NotFound):
            await steps.set_step(session, recording_id, "remux", "running")


async def test_detection_attaches_the_stream_and_the_streamer_we_follow(db: Database) -> None:
    async with db.begin() as session:
        streamer, _ = await streamers.add_streamer(
            session,
            streamers.NewStreamer("twitch", "alice", "alice", "https://www.twitch.tv/alice"),
        )
    recording_id = await opened(db)
    seen = Detection(
        streamer_name="Alice",
        platform="twitch",
        streamer_login="ALICE",
        platform_user_id="77",
        platform_stream_id="4711",
        title="First",
        category="Chess",
        directory=".streamvault/x",
    )
    for _ in range(2):  # an activity may run twice
        async with db.begin() as session:
            await recordings.note_detected(session, recording_id, seen)
    async with db.begin() as session:
        detail = await recordings.get_detail(session, recording_id)
        assert await session.scalar(select(func.count()).select_from(Stream)) == 1
        known = await streamers.get_streamer(session, streamer.id)
    assert detail.stream and detail.stream.platform_stream_id == "4711"
    assert detail.streamer_id == streamer.id
    assert (detail.title, detail.category, detail.directory) == ("First", "Chess", ".streamvault/x")
    assert (known.name, known.platform_user_id) == ("Alice", "77")


async def test_detection_without_a_title_keeps_the_one_known(db: Database) -> None:
    recording_id = await opened(db, title="From the webhook")
    async with db.begin() as session:
        await recordings.note_detected(session, recording_id, Detection(streamer_name="Origin"))
        found = await recordings.get_recording(session, recording_id)
    assert (found.title, found.streamer_name, found.stream_id) == (
        "From the webhook",
        "Origin",
        None,
    )


async def test_episode_numbers_count_by_series_and_day(db: Database) -> None:
    ids = [await opened(db, key) for key in "abcdefgh"]

    async def allocate(recording_id: UUID, series: str = "Alice") -> int:
        async with db.begin() as session:
            return await recordings.allocate_episode(
                session, recording_id, series, date(2026, 11, 25)
            )

    numbers = await asyncio.gather(*(allocate(recording_id) for recording_id in ids[:6]))
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]
    assert await allocate(ids[0], "Renamed") == numbers[0]
    assert await allocate(ids[6], "alice") == 7  # one folder on file systems without case
    assert await allocate(ids[7], "Bob") == 1


async def test_pages_follow_each_other_without_gap_or_double(db: Database) -> None:
    ids = [await opened(db, f"key-{n}") for n in range(7)]
    seen: list[UUID] = []
    cursor = None
    async with db.begin() as session:
        while True:
            page = await library.list_recordings(session, limit=3, cursor=cursor)
            seen += [item.id for item in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
            await recordings.open_recording(session, source(f"later-{cursor}"))
    assert sorted(seen) == sorted(ids)
    assert len(seen) == 7


async def test_the_list_filters_by_status_streamer_and_words(db: Database) -> None:
    async with db.begin() as session:
        alice, _ = await streamers.add_streamer(
            session, streamers.NewStreamer("twitch", "alice", "Alice", "https://t/alice")
        )
    one = await opened(db, "1", title="100% chess_night", streamer_id=alice.id)
    two = await opened(db, "2", title="Cooking", streamer_name="Bob", category="Chess")
    async with db.begin() as session:
        await recordings.set_status(session, two, Status.FAILED)

        async def found(**filters: object) -> list[UUID]:
            page = await library.list_recordings(session, Wanted(**filters))  # type: ignore[arg-type]
            return [item.id for item in page.items]

        assert await found() == [two, one]
        assert await found(status=["failed"]) == [two]
        assert await found(streamer_id=str(alice.id)) == [one]
        assert await found(q="CHESS") == [two, one]
        assert await found(q="bob chess") == [two]
        # The signs of LIKE are letters like any other.
        assert await found(q="100%") == [one]
        assert await found(q="%") == [one]
        assert await found(q="chess_n") == [one]
        assert await found(q="_") == [one]


@pytest.mark.parametrize("cursor", ["x", "ÄÖÜ", "AAAA", "'; drop table recordings; --"])
async def test_a_cursor_that_is_not_ours_is_refused(db: Database, cursor: str) -> None:
    async with db.begin() as session:
        with pytest.raises(InvalidInput):
            await library.list_recordings(session, cursor=cursor)


async def test_a_list_takes_as_many_statements_for_many_rows_as_for_one(db: Database) -> None:
    statements: list[str] = []
    event.listen(
        db.engine.sync_engine,
        "before_cursor_execute",
        lambda _c, _cur, statement, *_: statements.append(statement),
    )
    sent = []
    for key in "abc":
        recording_id = await opened(db, key)
        async with db.begin() as session:
            await recordings.note_detected(
                session,
                recording_id,
                Detection("A", "twitch", "a", platform_stream_id=key, title=key),
            )
        async with db.begin() as session:
            statements.clear()
            page = await library.list_recordings(session, with_steps=True)
            assert [len(item.steps) for item in page.items] == [7] * len(page.items)
            assert all(item.stream for item in page.items)
            sent.append(len(statements))
    assert sent == [3, 3, 3]
    # What a list does not load is an error, not one more query per row.
    with pytest.raises(InvalidRequestError):
        _ = page.items[0].parts
