from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import event, func, select, text

from streamvault.contracts import Status
from streamvault.db import recordings, streamers, streams
from streamvault.db.models import Streamer
from streamvault.db.recordings import NewRecording
from streamvault.db.session import Database
from streamvault.db.streamers import NewStreamer, Profile

DAY = timedelta(days=1)


def on_twitch(login: str, user_id: str | None = None) -> NewStreamer:
    return NewStreamer("twitch", login, login, f"https://www.twitch.tv/{login}", user_id=user_id)


async def follow(db: Database, login: str, user_id: str | None = None) -> UUID:
    async with db.begin() as session:
        row, _ = await streamers.add_streamer(session, on_twitch(login, user_id))
        return row.id


async def tell(db: Database, streamer_id: UUID, user_id: str, login: str) -> bool:
    async with db.begin() as session:
        profile = Profile(user_id, login, login.upper(), "https://cdn.example/x.png")
        return await streamers.note_profile(session, streamer_id, profile)


async def see(db: Database, streamer_id: UUID, name: str, user_id: str | None) -> Streamer:
    async with db.begin() as session:
        await streamers.note_seen(session, streamer_id, name=name, user_id=user_id)
    return await row_of(db, streamer_id)


async def row_of(db: Database, streamer_id: UUID) -> Streamer:
    async with db.begin() as session:
        return await streamers.get_streamer(session, streamer_id)


async def everybody(db: Database) -> dict[str, str | None]:
    """Login to the platform's id."""
    async with db.begin() as session:
        rows = await session.execute(select(Streamer.login, Streamer.platform_user_id))
        return dict(rows.all())


async def due(db: Database) -> list[UUID]:
    async with db.begin() as session:
        return [row.id for row in await streamers.due_profiles(session, DAY, limit=100)]


async def recorded(db: Database, streamer_id: UUID, key: str, **columns: object) -> UUID:
    async with db.begin() as session:
        new = NewRecording(key, f"https://example.org/{key}", streamer_id=streamer_id)
        recording, _ = await recordings.open_recording(session, new)
        if columns:
            await recordings.update_recording(session, recording.id, **columns)
        return recording.id


# ---- adding


async def test_many_who_add_the_same_at_once_get_one_streamer(db: Database) -> None:
    ids = await asyncio.gather(*(follow(db, "alice", "7") for _ in range(20)))
    assert len(set(ids)) == 1
    assert await everybody(db) == {"alice": "7"}


async def test_adding_what_was_added_by_name_alone_completes_it(db: Database) -> None:
    first = await follow(db, "alice")
    assert await due(db) == [first]
    assert await follow(db, "Alice", "7") == first
    assert await everybody(db) == {"alice": "7"}
    assert await due(db) == []


async def test_adding_somebody_under_a_new_name_renames_him(db: Database) -> None:
    first = await follow(db, "alice", "7")
    assert await follow(db, "alicia", "7") == first
    assert await everybody(db) == {"alicia": "7"}


async def test_adding_who_took_a_name_leaves_the_one_who_had_it(db: Database) -> None:
    former = await follow(db, "alice", "7")
    newer = await follow(db, "alice", "8")
    assert newer != former
    row = await row_of(db, former)
    assert (row.platform_user_id, row.problem) == (
        "7",
        "its name on Twitch has changed, and the new one is not known yet",
    )
    assert row.login.startswith("_") and row.url.endswith(row.login)
    assert (await row_of(db, newer)).login == "alice"
    # The one without a name is looked up before anybody else.
    assert await due(db) == [former]


# ---- renames


async def test_a_rename_is_followed_by_the_id(db: Database) -> None:
    streamer_id = await follow(db, "alice", "7")
    assert await tell(db, streamer_id, "7", "Alicia")
    row = await row_of(db, streamer_id)
    assert (row.login, row.name, row.url) == ("alicia", "ALICIA", "https://www.twitch.tv/alicia")
    assert row.avatar_url == "https://cdn.example/x.png"
    assert not await tell(db, streamer_id, "7", "Alicia"), "the second time it is no news"


async def test_two_who_swap_their_names_both_keep_their_rows(db: Database) -> None:
    alice, bob = await follow(db, "alice", "7"), await follow(db, "bob", "8")
    assert await tell(db, alice, "7", "bob")
    assert (await row_of(db, bob)).login.startswith("_")
    assert await tell(db, bob, "8", "alice")
    assert await everybody(db) == {"bob": "7", "alice": "8"}
    assert (await row_of(db, bob)).problem == ""


async def test_a_row_known_by_name_alone_becomes_one_with_its_account(db: Database) -> None:
    """Followed since long under the old name; the new one was added while Twitch was away."""
    known, by_name = await follow(db, "alice", "7"), await follow(db, "alicia")
    recording_id = await recorded(db, by_name, "a")
    assert await tell(db, known, "7", "alicia")
    assert await everybody(db) == {"alicia": "7"}
    async with db.begin() as session:
        assert (await recordings.get_recording(session, recording_id)).streamer_id == known


async def test_the_row_with_the_id_stays_whichever_is_looked_at_first(db: Database) -> None:
    known, by_name = await follow(db, "alice", "7"), await follow(db, "alicia")
    recording_id = await recorded(db, by_name, "a")
    async with db.begin() as session:
        await streams.note_stream(session, "twitch", "4711", streamer_id=by_name)
    assert await tell(db, by_name, "7", "alicia")
    assert await everybody(db) == {"alicia": "7"}
    async with db.begin() as session:
        assert (await recordings.get_recording(session, recording_id)).streamer_id == known
        streamer_of_stream = await session.scalar(text("SELECT streamer_id FROM streams"))
    assert streamer_of_stream == known


async def test_a_profile_of_another_account_changes_nothing(db: Database) -> None:
    alice, bob = await follow(db, "alice", "7"), await follow(db, "bob", "8")
    assert not await tell(db, alice, "8", "bobby")
    assert not await tell(db, alice, "9", "alice")
    assert await everybody(db) == {"alice": "7", "bob": "8"}
    assert (await row_of(db, bob)).name == "bob"


async def test_renames_and_additions_at_once_end_without_an_error(db: Database) -> None:
    ids = [await follow(db, f"name{n}", str(n)) for n in range(6)]
    turns = [tell(db, ids[n], str(n), f"name{(n + 1) % 6}") for n in range(6)]
    added = [follow(db, f"name{n}", str(n + 100)) for n in range(3)]
    await asyncio.gather(*turns, *added)
    for n, streamer_id in enumerate(ids):
        await tell(db, streamer_id, str(n), f"new{n}")
    found = await everybody(db)
    assert {found[f"new{n}"] for n in range(6)} == set("012345")
    assert len(found) == 9


async def test_a_profile_that_is_not_found_is_told_and_asked_again(db: Database) -> None:
    streamer_id = await follow(db, "alice")
    async with db.begin() as session:
        await streamers.note_no_profile(session, streamer_id, "nobody knows it")
    assert (await row_of(db, streamer_id)).problem == "nobody knows it"
    assert await due(db) == []
    async with db.begin() as session:
        await session.execute(text("UPDATE streamers SET profile_at = now() - interval '25 h'"))
    assert await due(db) == [streamer_id]
    assert await tell(db, streamer_id, "7", "alice")
    assert (await row_of(db, streamer_id)).problem == ""


# ---- what a recording sees


async def test_a_sighting_fills_in_name_and_id(db: Database) -> None:
    streamer_id = await follow(db, "alice")
    row = await see(db, streamer_id, "Alice", "7")
    assert (row.name, row.platform_user_id) == ("Alice", "7")
    row = await see(db, streamer_id, "", None)
    assert (row.name, row.platform_user_id) == ("Alice", "7")


async def test_a_sighting_never_takes_an_account_from_another_row(db: Database) -> None:
    await follow(db, "alice", "7")
    by_name = await follow(db, "alicia")
    row = await see(db, by_name, "Alicia", "7")
    assert row.platform_user_id is None
    assert by_name in await due(db)


async def test_a_sighting_of_another_account_asks_for_a_look_instead(db: Database) -> None:
    streamer_id = await follow(db, "alice", "7")
    row = await see(db, streamer_id, "Somebody Else", "8")
    assert (row.name, row.platform_user_id) == ("alice", "7")
    assert await due(db) == [streamer_id]


async def test_a_detection_survives_a_clash_of_ids(db: Database) -> None:
    await follow(db, "alice", "7")
    by_name = await follow(db, "alicia")
    recording_id = await recorded(db, by_name, "a")
    seen = recordings.Detection("Alicia", "twitch", "alicia", "7", "4711", "A title")
    async with db.begin() as session:
        await recordings.note_detected(session, recording_id, seen)
        row = await recordings.get_recording(session, recording_id)
        assert (row.title, row.streamer_id) == ("A title", by_name)


# ---- live or not, and what the channel says


async def test_live_is_news_once_per_stream(db: Database) -> None:
    streamer_id = await follow(db, "alice", "7")
    began = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)

    async def live(stream_id: str, at: datetime | None = began) -> bool:
        async with db.begin() as session:
            return await streamers.note_live(session, str(streamer_id), stream_id, at)

    async def over() -> bool:
        async with db.begin() as session:
            return await streamers.note_not_live(session, streamer_id)

    assert not await over()
    assert await live("1") and not await live("1")
    row = await row_of(db, streamer_id)
    assert (row.live_stream_id, row.live_since) == ("1", began)
    assert await live("2", None)
    row = await row_of(db, streamer_id)
    assert row.live_since and row.live_since > began
    assert await over() and not await over()
    row = await row_of(db, streamer_id)
    assert (row.live_stream_id, row.live_since) == ("", None)
    assert await live("", began) and not await live("", began), "a source without stream ids"


async def test_a_channel_that_says_the_same_is_not_written(db: Database) -> None:
    streamer_id = await follow(db, "alice", "7")
    said = {"title": "Chess", "category": "Chess", "category_id": "743"}
    written: list[str] = []
    event.listen(
        db.engine.sync_engine,
        "after_cursor_execute",
        lambda _c, cursor, statement, *_: (
            written.append(statement)
            if statement.startswith("UPDATE") and cursor.rowcount
            else None
        ),
    )
    for expected in (True, False, False):
        async with db.begin() as session:
            assert await streamers.note_channel(session, streamer_id, **said) is expected
    assert len(written) == 1
    async with db.begin() as session:
        assert await streamers.note_channel(session, streamer_id, **{**said, "title": ""})


async def test_what_is_said_of_somebody_deleted_is_no_news(db: Database) -> None:
    gone = await follow(db, "alice", "7")
    async with db.begin() as session:
        await streamers.delete_streamer(session, gone)
    async with db.begin() as session:
        assert not await streamers.note_live(session, gone, "1", None)
        assert not await streamers.note_not_live(session, gone)
        profile = Profile("7", "alice", "Alice")
        assert not await streamers.note_profile(session, gone, profile)
        await streamers.note_seen(session, gone, name="Alice", user_id="7")
        await streamers.note_no_profile(session, gone, "gone")


# ---- lists


async def test_the_poll_sees_who_is_enabled_in_the_order_of_adding(db: Database) -> None:
    alice, bob, carol = [await follow(db, name) for name in ("alice", "bob", "carol")]
    async with db.begin() as session:
        await streamers.add_streamer(session, NewStreamer("url", "x-1", "x", "https://x.example/"))
        (await streamers.get_streamer(session, bob)).enabled = False
        (await streamers.get_streamer(session, carol)).filters = {"title_deny": ["rerun"]}
        await streamers.note_live(session, carol, "1", None)
    async with db.begin() as session:
        found = await streamers.list_enabled(session, "twitch")
        assert [row.id for row in found] == [alice, carol]
        assert [row.platform for row in await streamers.list_enabled(session)] == [
            *("twitch", "twitch"),
            "url",
        ]
    assert (found[1].login, found[1].user_id, found[1].live_stream_id) == ("carol", None, "1")
    assert found[1].filters == {"title_deny": ["rerun"]}
    assert found[0].live_since is None


async def test_an_account_is_found_by_its_id_on_its_platform(db: Database) -> None:
    alice = await follow(db, "alice", "7")
    async with db.begin() as session:
        found = await streamers.find_by_user_id(session, "twitch", "7")
        assert found and found.id == alice
        assert await streamers.find_by_user_id(session, "other", "7") is None
        assert await streamers.find_by_user_id(session, "twitch", "8") is None
        known = await streamers.find_known(session, "twitch", logins=["ALICE"], user_ids=["9"])
        assert [row.id for row in known] == [alice]


async def test_recordings_are_summed_up_per_streamer(db: Database) -> None:
    alice, bob, carol = [await follow(db, name) for name in ("alice", "bob", "carol")]
    first = datetime(2026, 1, 1, tzinfo=UTC)
    done = {"status": Status.COMPLETED, "holds_source": False}
    await recorded(db, alice, "1", size_bytes=3_000_000_000, started_at=first, **done)
    second = await recorded(db, alice, "2", size_bytes=5, started_at=first + DAY)
    await recorded(db, bob, "3", size_bytes=7, started_at=first, **done)
    async with db.begin() as session:
        figures = await streamers.sum_up(session, [alice, bob, carol])
    assert figures[alice] == streamers.Figures(2, 3_000_000_005, first + DAY, second)
    assert figures[bob] == streamers.Figures(1, 7, first, None)
    assert carol not in figures


async def test_the_database_holds_the_login_rule_as_well(db: Database) -> None:
    with pytest.raises(Exception, match="ck_streamers_twitch_login"):
        await follow(db, "../x")
    async with db.begin() as session:
        assert await session.scalar(select(func.count()).select_from(Streamer)) == 0
