"""The package twitchAPI takes Helix and id of the fake for those of Twitch."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from twitchAPI.oauth import CodeFlow, refresh_access_token, revoke_token, validate_token
from twitchAPI.twitch import Twitch
from twitchAPI.type import (
    InvalidRefreshTokenException,
    TwitchAPIException,
    TwitchBackendException,
    UnauthorizedException,
    VideoType,
)

from tests.fake_twitch.client import FakeTwitch
from tests.fake_twitch.client_words import Application
from tests.tests_of_the_fake.conftest import PATIENCE_S, until
from tests.tests_of_the_fake.their_client import SCOPES, authenticate, sign_in, twitch

__all__ = ["twitch"]


async def test_it_reads_users_and_channels(twitch: Twitch, fake: FakeTwitch) -> None:
    channel = fake.channel(
        title="Hello", category="Chess", category_id="743", description="About me", tags=["calm"]
    )
    (user,) = [u async for u in twitch.get_users(logins=[channel.login, "nobody_at_all"])]
    assert (user.id, user.login, user.description) == (
        channel.user_id,
        channel.login,
        "About me",
    )
    assert user.display_name == channel.login.capitalize()
    assert user.created_at == datetime(2020, 1, 1, tzinfo=UTC)
    (about,) = await twitch.get_channel_information([channel.user_id])
    assert (about.title, about.game_name, about.game_id) == ("Hello", "Chess", "743")
    assert about.tags == ["calm"]
    (game,) = [game async for game in twitch.get_games(game_ids=["743"])]
    assert (game.id, game.name) == ("743", "Chess")


async def test_it_reads_all_pages_of_live_streams(twitch: Twitch, fake: FakeTwitch) -> None:
    channels = fake.channels(25, prefix="pages")
    started = fake.go_live(channels, speed=0)
    fake.set_knobs(page_size=10)
    found = [
        stream
        async for stream in twitch.get_streams(user_id=[c.user_id for c in channels], first=100)
    ]
    assert [stream.id for stream in found] == [one.stream_id for one in started]
    assert {stream.type for stream in found} == {"live"}
    assert all(datetime.now(UTC) - stream.started_at < timedelta(minutes=1) for stream in found)


async def test_it_reads_follows(twitch: Twitch, fake: FakeTwitch, app: Application) -> None:
    channels = fake.channels(5, prefix="liked")
    fake.follow("reader", channels)
    user_id = await sign_in(twitch, fake, app, "reader")
    fake.set_knobs(page_size=2)
    followed = await twitch.get_followed_channels(user_id)
    assert followed.total == 5
    logins = [channel.login for channel in channels]
    assert [channel.broadcaster_login async for channel in followed] == logins
    (first,) = fake.go_live(channels[:1], speed=0)
    live = [stream async for stream in twitch.get_followed_streams(user_id)]
    assert [stream.id for stream in live] == [first.stream_id]


async def test_it_reads_videos(twitch: Twitch, fake: FakeTwitch) -> None:
    channel = fake.channel(title="Once")
    stream_id = channel.online(speed=0)
    channel.offline()
    found = twitch.get_videos(user_id=channel.user_id, video_type=VideoType.ARCHIVE)
    assert [(video.stream_id, video.title) async for video in found] == [(stream_id, "Once")]


async def test_it_knows_the_tokens(twitch: Twitch, fake: FakeTwitch, app: Application) -> None:
    user = fake.sign_in("ada", app=app)
    auth = twitch.auth_base_url
    assert (await validate_token(user.access_token, auth_base_url=auth))["login"] == "ada"
    renewed = await refresh_access_token(
        user.refresh_token, app.client_id, app.client_secret, auth_base_url=auth
    )
    with pytest.raises(InvalidRefreshTokenException):
        await refresh_access_token(
            user.refresh_token, app.client_id, app.client_secret, auth_base_url=auth
        )
    assert await revoke_token(app.client_id, renewed[0], auth_base_url=auth)
    assert (await validate_token(renewed[0], auth_base_url=auth))["status"] == 401


async def test_it_signs_in_by_device_code(
    twitch: Twitch, fake: FakeTwitch, app: Application
) -> None:
    # It asks every second, whatever interval it was told.
    fake.set_knobs(device_interval_s=1)
    flow = CodeFlow(twitch, SCOPES, auth_base_url=twitch.auth_base_url)
    code, address = await flow.get_code()
    assert code in address
    waiting = asyncio.create_task(flow.wait_for_auth_complete())
    await until(lambda: len(fake.calls("auth.token", app=app)) >= 2, "it asks")
    fake.approve_code(code, "ada")
    token, refresh = await asyncio.wait_for(waiting, PATIENCE_S)
    await twitch.set_user_authentication(token, SCOPES, refresh)


async def test_it_understands_refusals(twitch: Twitch, fake: FakeTwitch, app: Application) -> None:
    login = fake.channel().login
    fake.fault("helix.users", "status", status=500)
    with pytest.raises(TwitchBackendException):
        _ = [user async for user in twitch.get_users(logins=[login])]
    fake.clear_faults()
    with pytest.raises(TwitchAPIException, match="Bad Request"):
        _ = [user async for user in twitch.get_users(logins=["not a login"])]
    fake.revoke_app_tokens(app=app)
    twitch.auto_refresh_auth = False
    with pytest.raises(UnauthorizedException, match="Invalid OAuth token"):
        _ = [user async for user in twitch.get_users(logins=[login])]
    await authenticate(twitch)
    assert [user.login async for user in twitch.get_users(logins=[login])] == [login]
