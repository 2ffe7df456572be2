from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from streamvault.db import facts, streamers
from streamvault.db.session import Database
from streamvault.db.streamers import NewStreamer
from streamvault.db.subscriptions import (
    SubscriptionNote,
    channels_mark,
    channels_to_hear,
    forget,
    mark_status,
    merge_fact,
    notes_by_key,
    save_notes,
)

LATER = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOTE = SubscriptionNote("7", "stream.online", "s1", "conduit", "enabled", 2, LATER, "an error")


async def test_a_note_is_read_as_it_was_written(db: Database) -> None:
    async with db.begin() as session:
        await save_notes(session, [NOTE, SubscriptionNote("8", "stream.online")])
    async with db.begin() as session:
        notes = await notes_by_key(session)
    assert notes[NOTE.key] == NOTE
    assert notes["8", "stream.online"].status == ""


async def test_a_later_note_takes_the_place_of_the_earlier_one(db: Database) -> None:
    changed = replace(NOTE, status="user_removed", attempts=3)
    async with db.begin() as session:
        await save_notes(session, [NOTE])
        await save_notes(session, [changed])
    async with db.begin() as session:
        assert await notes_by_key(session) == {NOTE.key: changed}


async def test_thousands_are_saved_and_forgotten(db: Database) -> None:
    notes = [replace(NOTE, user_id=str(number)) for number in range(3_000)]
    async with db.begin() as session:
        await save_notes(session, notes)
        await save_notes(session, [])
    async with db.begin() as session:
        assert len(await notes_by_key(session)) == 3_000
        await forget(session, [note.key for note in notes[1:]])
    async with db.begin() as session:
        assert set(await notes_by_key(session)) == {notes[0].key}


async def test_a_revocation_is_kept_by_twitchs_id(db: Database) -> None:
    async with db.begin() as session:
        await save_notes(session, [NOTE])
        assert await mark_status(session, "s1", "authorization_revoked")
        assert not await mark_status(session, "unknown", "authorization_revoked")
    async with db.begin() as session:
        assert (await notes_by_key(session))[NOTE.key].status == "authorization_revoked"


async def test_only_enabled_streamers_with_an_id_of_twitchs_are_heard(db: Database) -> None:
    async with db.begin() as session:
        for login, user_id in (("alice", "7"), ("bob", None), ("carol", "5"), ("dave", "6")):
            new = NewStreamer(
                "twitch", login, login, f"https://www.twitch.tv/{login}", user_id=user_id
            )
            added, _ = await streamers.add_streamer(session, new)
            added.enabled = login != "dave"
        other = NewStreamer("url", "x", "x", "https://example.org/x", user_id="9")
        await streamers.add_streamer(session, other)
    async with db.begin() as session:
        assert await channels_to_hear(session) == ["7", "5"]
        before = await channels_mark(session)
        alice = await streamers.find_streamer(session, "twitch", "alice")
        assert alice is not None
        alice.name = "Alice with a capital"
        await session.flush()
        assert await channels_mark(session) == before
        alice.enabled = False
        await session.flush()
        assert await channels_to_hear(session) == ["5"]
        assert await channels_mark(session) not in (before, "")


async def test_several_write_their_part_of_one_fact(db: Database) -> None:
    for part in ({"a": 1, "b": {"x": 1}}, {"b": {"y": 2}}, {"c": None}):
        async with db.begin() as session:
            await merge_fact(session, "eventsub", part)
    async with db.begin() as session:
        fact = await facts.get_fact(session, "eventsub")
    assert fact is not None
    assert fact.value == {"a": 1, "b": {"y": 2}, "c": None}
