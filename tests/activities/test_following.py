from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select, text

from activities.following import NO_SUCH_ACCOUNT, NO_SUCH_LOGIN, Following
from activities.twitch_access import TwitchAccess
from streamvault.db import streamers
from streamvault.db.models import Streamer
from streamvault.db.session import Database
from streamvault.db.streamers import NewStreamer
from tests.activities.twitch_access import Twitch, open_twitch
from tests.fake_twitch.client import FakeTwitch


@pytest.fixture
async def twitch(fake_twitch: FakeTwitch, db: Database, tmp_path: Path) -> AsyncIterator[Twitch]:
    async with open_twitch(fake_twitch, db, tmp_path) as opened:
        yield opened


@pytest.fixture
def following(db: Database, twitch: Twitch) -> Following:
    return Following(db, twitch.door)


async def follow(db: Database, login: str) -> UUID:
    async with db.begin() as session:
        new = NewStreamer("twitch", login, login, f"https://www.twitch.tv/{login}")
        row, _ = await streamers.add_streamer(session, new)
        return row.id


async def row_of(db: Database, streamer_id: UUID) -> Streamer:
    async with db.begin() as session:
        return await streamers.get_streamer(session, streamer_id)


async def a_day_later(db: Database) -> None:
    async with db.begin() as session:
        await session.execute(
            text("UPDATE streamers SET profile_at = profile_at - interval '25 h'")
        )


async def test_who_was_added_by_name_alone_gets_id_name_and_avatar(
    db: Database, twitch: Twitch, following: Following
) -> None:
    channel = twitch.fake.channel(name="A Name")
    streamer_id = await follow(db, channel.login)
    await following.complete_profiles()
    row = await row_of(db, streamer_id)
    assert (row.platform_user_id, row.name, row.problem) == (channel.user_id, "A Name", "")
    assert row.avatar_url.startswith("https://")


async def test_a_profile_is_asked_for_once_a_day(
    db: Database, twitch: Twitch, following: Following
) -> None:
    for channel in twitch.fake.channels(120, "daily"):
        await follow(db, channel.login)
    for _ in range(3):
        await following.complete_profiles()
    assert twitch.calls("users") == 2, "100 and 20"
    await a_day_later(db)
    await following.complete_profiles()
    assert twitch.calls("users") == 4


async def test_a_login_that_is_gone_while_its_id_lives_was_renamed(
    db: Database, twitch: Twitch, following: Following
) -> None:
    channel = twitch.fake.channel()
    streamer_id = await follow(db, channel.login)
    await following.complete_profiles()
    channel.rename(f"{channel.login}_renamed")
    await a_day_later(db)
    await following.complete_profiles()
    row = await row_of(db, streamer_id)
    assert (row.login, row.platform_user_id) == (channel.login, channel.user_id)
    assert row.url == channel.url


async def test_an_account_that_is_gone_is_told_and_keeps_its_row(
    db: Database, twitch: Twitch, following: Following
) -> None:
    channel = twitch.fake.channel()
    streamer_id = await follow(db, channel.login)
    await following.complete_profiles()
    channel.remove()
    await a_day_later(db)
    await following.complete_profiles()
    row = await row_of(db, streamer_id)
    assert (row.login, row.problem, row.enabled) == (channel.login, NO_SUCH_ACCOUNT, True)


async def test_a_login_that_never_was_is_told_and_asked_again_the_next_day(
    db: Database, twitch: Twitch, following: Following
) -> None:
    streamer_id = await follow(db, "not_there_yet_17")
    for _ in range(3):
        await following.complete_profiles()
    assert (await row_of(db, streamer_id)).problem == NO_SUCH_LOGIN
    assert twitch.calls("users") == 1
    channel = twitch.fake.channel("not_there_yet_17")
    await a_day_later(db)
    await following.complete_profiles()
    row = await row_of(db, streamer_id)
    assert (row.platform_user_id, row.problem) == (channel.user_id, "")


async def test_two_who_swapped_their_logins_are_both_right_after_one_call(
    db: Database, twitch: Twitch, following: Following
) -> None:
    one, two = twitch.fake.channel(), twitch.fake.channel()
    first, second = await follow(db, one.login), await follow(db, two.login)
    await following.complete_profiles()
    one_before, two_before = one.login, two.login
    one.rename(f"{one_before}_on_its_way")
    two.rename(one_before)
    one.rename(two_before)
    await a_day_later(db)
    await following.complete_profiles()
    assert ((await row_of(db, first)).login, (await row_of(db, second)).login) == (
        two_before,
        one_before,
    )
    assert (await row_of(db, first)).platform_user_id == one.user_id


async def test_a_name_taken_by_somebody_new_leads_to_both(
    db: Database, twitch: Twitch, following: Following
) -> None:
    """The one who had it is looked up in the same call, though he was not due."""
    former = twitch.fake.channel()
    name = former.login
    first = await follow(db, name)
    await following.complete_profiles()
    former.rename(f"{name}_b")
    newer = twitch.fake.channel(name)
    async with db.begin() as session:
        new = NewStreamer("twitch", name, name, newer.url, user_id=newer.user_id)
        second, created = await streamers.add_streamer(session, new)
    assert created
    await following.complete_profiles()
    assert (await row_of(db, first)).login == f"{name}_b"
    assert (await row_of(db, second.id)).login == name
    assert [(await row_of(db, one)).problem for one in (first, second.id)] == ["", ""]


@pytest.mark.parametrize("kind", ["status", "reset", "wrong_type"])
async def test_while_twitch_is_away_nothing_changes(
    db: Database, twitch: Twitch, following: Following, kind: str
) -> None:
    channel = twitch.fake.channel()
    streamer_id = await follow(db, channel.login)
    twitch.fault("helix.users", kind, **({"status": 500} if kind == "status" else {}))
    await following.complete_profiles()
    row = await row_of(db, streamer_id)
    assert (row.platform_user_id, row.profile_at, row.problem) == (None, None, "")
    twitch.fake.clear_faults()
    await following.complete_profiles()
    assert (await row_of(db, streamer_id)).platform_user_id == channel.user_id


async def test_without_a_twitch_application_nobody_is_asked(db: Database) -> None:
    async def none() -> TwitchAccess | None:
        return None

    await follow(db, "alice")
    await Following(db, none).complete_profiles()
    async with db.begin() as session:
        assert await session.scalar(select(Streamer.profile_at)) is None


async def test_addresses_elsewhere_are_not_looked_up(
    db: Database, twitch: Twitch, following: Following
) -> None:
    async with db.begin() as session:
        new = NewStreamer("url", "x.example-1", "x.example", "https://x.example/live")
        await streamers.add_streamer(session, new)
    await following.complete_profiles()
    assert twitch.calls("users") == 0
