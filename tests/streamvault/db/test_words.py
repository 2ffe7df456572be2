"""What PostgreSQL refuses comes from outside all the same, and costs nobody a recording."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from streamvault.db import inbox, library, recordings, streams
from streamvault.db.inbox import NewMessage
from streamvault.db.library import Wanted
from streamvault.db.models import InboxMessage
from streamvault.db.recordings import Detection, NewRecording
from streamvault.db.session import Database

REFUSED = ["a\0b", "a\ud800b", "a\udfffb"]


@pytest.mark.parametrize("title", REFUSED, ids=ascii)
async def test_a_stream_with_such_a_title_is_recorded(db: Database, title: str) -> None:
    async with db.begin() as session:
        row, _ = await recordings.open_recording(session, NewRecording("k", "x://", title=title))
        await recordings.note_detected(
            session, row.id, Detection(title, platform="fake", title=title, category=title)
        )
        await streams.add_channel_event(session, row.id, datetime.now(UTC), title, title)
        await recordings.update_recording(
            session, row.id, chapters=[{"start_s": 0, "title": title, "category": ""}]
        )
    async with db.begin() as session:
        row = await recordings.get_detail(session, row.id)
        assert (row.title, row.category, row.streamer_name) == ("a\ufffdb",) * 3
        assert [event.title for event in row.events] == ["a\ufffdb"]
        assert row.chapters == [{"start_s": 0, "title": "a\ufffdb", "category": ""}]
        page = await library.list_recordings(session, Wanted(q=title, category=title))
        assert [item.id for item in page.items] == [row.id]


@pytest.mark.parametrize("title", REFUSED, ids=ascii)
async def test_a_message_that_holds_one_is_kept(db: Database, title: str) -> None:
    payload = {"event": {"title": title, title: [title]}}
    message = NewMessage(
        message_id="m1",
        source="webhook",
        kind="notification",
        type="channel.update",
        subscription_id="s",
        sent_at=datetime.now(UTC),
        payload=payload,
    )
    other = replace(message, message_id="m2", payload={})
    async with db.begin() as session:
        # In one statement with others, which it must not spoil.
        assert await inbox.store_all(session, [message, other]) == {"m1", "m2"}
        found = select(InboxMessage).where(InboxMessage.message_id == "m1")
        row = await session.scalar(found)
    assert row and row.payload == {"event": {"title": "a\ufffdb", "a\ufffdb": ["a\ufffdb"]}}
