"""TwitchAccess with a real database and the fake Twitch."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from activities.twitch_access import TwitchAccess
from streamvault.db import credentials
from streamvault.db.session import Database
from streamvault.errors import (
    CircuitOpen,
    Conflict,
    RateLimited,
    TokenInvalid,
    TwitchNotConfigured,
    TwitchRefused,
    TwitchUnavailable,
)
from streamvault.metrics.system import Metrics
from streamvault.settings import PREFIX, Settings, check_settings
from streamvault.twitch.oauth import TokenSet
from streamvault.twitch.tokens import USER
from tests.fake_twitch.client import FakeTwitch
from tests.fake_twitch.client_words import Application, UserToken

SHORT_S = 1.0
"""For calls that are to end by their time limit."""


@pytest.fixture
def twitch(fake_twitch: FakeTwitch) -> Iterator[FakeTwitch]:
    yield fake_twitch
    fake_twitch.reset()


@pytest.fixture
def app(twitch: FakeTwitch) -> Application:
    return twitch.application()


@pytest.fixture
def settings(app: Application, tmp_path: Path) -> Settings:
    return settings_of(app, tmp_path)


def settings_of(app: Application, data_dir: Path, **more: Any) -> Settings:
    env = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in app.env.items()
        if name.startswith(f"{PREFIX}TWITCH_") or name.endswith("ALLOW_INSECURE_TWITCH")
    }
    return check_settings({**env, "data_dir": data_dir, **more})


@asynccontextmanager
async def open_access(
    settings: Settings, database_url: str, **options: Any
) -> AsyncIterator[TwitchAccess]:
    """As one process has it."""
    db = Database(database_url, pool_size=5, max_overflow=5)
    access = TwitchAccess.open(settings, db, Metrics(), **options)
    yield access
    await access.close()
    await db.close()


@pytest.fixture
async def access(settings: Settings, database_url: str) -> AsyncIterator[TwitchAccess]:
    async with open_access(settings, database_url) as opened:
        yield opened


async def sign_in(access: TwitchAccess, token: UserToken) -> None:
    tokens = TokenSet(token.access_token, token.refresh_token, token.scopes, 14_400)
    await access.tokens.connect_user(tokens, await access.oauth.validate(token.access_token))


# ---- what Helix says


async def test_streamers_are_found_with_what_they_stream(
    twitch: FakeTwitch, access: TwitchAccess
) -> None:
    channel = twitch.channel(title="Speedrun", category="Chess", category_id="743")
    quiet = twitch.channel()
    stream_id = channel.online(speed=0)
    users = await access.helix.users(logins=[channel.login, quiet.login, "nobody_has_this"])
    assert {user.login for user in users} == {channel.login, quiet.login}
    (stream,) = await access.helix.streams([user.id for user in users])
    assert (stream.id, stream.user_login, stream.kind) == (stream_id, channel.login, "live")
    assert (stream.title, stream.category, stream.category_id) == ("Speedrun", "Chess", "743")
    assert abs(stream.started_at.timestamp() - time.time()) < 60
    told = await access.helix.channels([user.id for user in users])
    assert {c.login for c in told} == {channel.login, quiet.login}
    assert [game.name for game in await access.helix.games(["743"])] == ["Chess"]


async def test_all_of_a_thousand_are_asked_a_hundred_at_a_time(
    twitch: FakeTwitch, app: Application, access: TwitchAccess
) -> None:
    channels = twitch.channels(1_000, prefix="crowd")
    live = {started.user_id for started in twitch.go_live(channels[:230], speed=0)}
    with twitch.knobs(page_size=30, page_overlap=3):
        found = await access.helix.streams([channel.user_id for channel in channels])
    assert len(found) == 230
    assert {stream.user_id for stream in found} == live
    twitch.clear_calls()
    assert len(await access.helix.users(ids=[channel.user_id for channel in channels])) == 1_000
    assert len(twitch.calls("helix.users", app=app)) == 10


async def test_follows_of_all_pages_are_read_with_the_account(
    twitch: FakeTwitch, app: Application, access: TwitchAccess
) -> None:
    viewer = twitch.channel()
    followed = twitch.channels(25, prefix="followed")
    twitch.follow(viewer.login, followed)
    await sign_in(access, twitch.sign_in(viewer.login, app=app))
    with twitch.knobs(page_size=10):
        found = await access.helix.followed(viewer.user_id)
    assert {each.user_id for each in found} == {channel.user_id for channel in followed}


async def test_a_subscription_lives_from_creation_to_deletion(
    twitch: FakeTwitch, app: Application, access: TwitchAccess
) -> None:
    channel = twitch.channel()
    conduit = await access.helix.create_conduit(1)
    condition = {"broadcaster_user_id": channel.user_id}
    transport = {"method": "conduit", "conduit_id": conduit.id}
    made = await access.helix.create_subscription("stream.online", "1", condition, transport)
    assert made.items[0].conduit_id == conduit.id
    with pytest.raises(TwitchRefused) as refusal:
        await access.helix.create_subscription("stream.online", "1", condition, transport)
    assert refusal.value.status == 409
    listed = await access.helix.subscriptions()
    assert [each.id for each in listed.items] == [made.items[0].id]
    assert listed.max_total_cost == 10_000
    assert await access.helix.delete_subscription(made.items[0].id)
    assert not await access.helix.delete_subscription(made.items[0].id)
    assert await access.helix.conduits() == [conduit]
    assert await access.helix.assign_shard(conduit.id, "7", "no-session")
    assert await access.helix.delete_conduit(conduit.id)
    assert not await access.helix.delete_conduit(conduit.id)


# ---- what goes wrong


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("status", {"status": 500}),
        ("status", {"status": 503}),
        ("html", {}),
        ("hang", {"seconds": 20}),
        ("trickle", {"seconds": 20}),
        ("truncated", {}),
        ("reset", {}),
        ("empty", {}),
        ("wrong_type", {}),
    ],
)
async def test_every_way_to_fail_is_a_typed_error_in_time(
    twitch: FakeTwitch,
    app: Application,
    settings: Settings,
    database_url: str,
    kind: str,
    fields: dict[str, Any],
) -> None:
    """F15."""
    async with open_access(settings, database_url, total_s=SHORT_S) as access:
        await access.tokens.app()
        twitch.fault("helix", kind, client_id=app.client_id, **fields)
        started = time.monotonic()
        with pytest.raises(TwitchUnavailable):
            await access.helix.users(ids=["1"])
        assert time.monotonic() - started < 5 * SHORT_S
        twitch.clear_faults()
        assert await access.helix.users(ids=["1"]) == []


async def test_a_storm_of_503_opens_one_circuit_and_costs_five_calls(
    twitch: FakeTwitch, app: Application, access: TwitchAccess
) -> None:
    """F13, without the ten minutes."""
    await access.tokens.app()
    twitch.fault("helix", "status", status=503, client_id=app.client_id)
    for _ in range(5):
        with pytest.raises(TwitchUnavailable):
            await access.helix.users(ids=["1"])
    found = await asyncio.gather(
        *(access.helix.streams(["1"]) for _ in range(1_000)), return_exceptions=True
    )
    assert {type(each) for each in found} == {CircuitOpen}
    assert len(twitch.calls("helix", app=app)) == 5
    assert access.circuits()["helix"]["state"] == "open"
    assert 0 < access.circuits()["helix"]["retry_after_s"] <= 66
    assert await access.helix.conduits() == []


async def test_an_empty_bucket_is_not_asked_until_it_is_full(
    twitch: FakeTwitch, app: Application, access: TwitchAccess
) -> None:
    """F14, with the clock of Twitch an hour ahead."""
    await access.tokens.app()
    with twitch.knobs(points_per_min=20, full_after_s=5, date_skew_s=3600):
        found = await asyncio.gather(
            *(access.helix.users(ids=[str(n)]) for n in range(60)), return_exceptions=True
        )
        assert {type(each) for each in found} == {list, RateLimited}
        refused = [c for c in twitch.calls("helix", app=app) if c.status == 429]
        assert access.circuits()["helix"]["state"] == "closed"
        later = [await refusal(access) for _ in range(20)]
        # Of the last one: each answer that comes later knows of more points that were taken.
        wait_s = later[-1].retry_after_s
        assert 0 < wait_s <= 6
        assert [c for c in twitch.calls("helix", app=app) if c.status == 429] == refused
        await asyncio.sleep(wait_s)
        assert await access.helix.users(ids=["1"]) == []
    assert access.gate.clock_skew_s == pytest.approx(3600, abs=5)


async def refusal(access: TwitchAccess) -> RateLimited:
    with pytest.raises(RateLimited) as caught:
        await access.helix.users(ids=["1"])
    return caught.value


async def test_a_revoked_app_token_costs_one_new_one(
    twitch: FakeTwitch, app: Application, access: TwitchAccess
) -> None:
    """F16."""
    await access.helix.users(ids=["1"])
    twitch.revoke_app_tokens(app=app)
    twitch.clear_calls()
    found = await asyncio.gather(*(access.helix.users(ids=[str(n)]) for n in range(100)))
    assert found == [[]] * 100
    assert 1 <= len(twitch.calls("auth.token", app=app)) <= 2


async def test_two_processes_make_one_app_token(
    twitch: FakeTwitch, app: Application, settings: Settings, database_url: str
) -> None:
    async with AsyncExitStack() as stack:
        two = [
            await stack.enter_async_context(open_access(settings, database_url)) for _ in range(2)
        ]
        found = await asyncio.gather(*(each.tokens.app() for each in two for _ in range(10)))
    assert len(set(found)) == 1
    assert len(twitch.calls("auth.token", app=app)) == 1


async def test_two_processes_that_refresh_at_once_burn_no_token(
    twitch: FakeTwitch, app: Application, settings: Settings, database_url: str
) -> None:
    """The fake takes each refresh token once, as Twitch does."""
    viewer = twitch.channel()
    async with AsyncExitStack() as stack:
        two = [
            await stack.enter_async_context(open_access(settings, database_url)) for _ in range(2)
        ]
        await sign_in(two[0], twitch.sign_in(viewer.login, app=app))
        for _ in range(5):
            bad = await two[0].tokens.user()
            twitch.expire_tokens(viewer.login, app=app)
            twitch.clear_calls()
            found = await asyncio.gather(
                *(each.tokens.user_after(bad) for each in two for _ in range(20))
            )
            assert len(set(found)) == 1
            assert found[0] != bad
            assert len(twitch.calls("auth.token", app=app)) == 1
        assert (await two[1].oauth.validate(found[0])).login == viewer.login


async def test_an_expired_user_token_is_refreshed_on_the_way(
    twitch: FakeTwitch, app: Application, access: TwitchAccess
) -> None:
    viewer = twitch.channel()
    await sign_in(access, twitch.sign_in(viewer.login, app=app))
    twitch.expire_tokens(viewer.login, app=app)
    assert await access.helix.followed(viewer.user_id) == []


async def test_an_account_that_was_disconnected_is_marked_and_the_app_side_goes_on(
    twitch: FakeTwitch, app: Application, access: TwitchAccess, db: Database
) -> None:
    """F17."""
    viewer = twitch.channel()
    await sign_in(access, twitch.sign_in(viewer.login, app=app))
    twitch.disconnect(viewer.login, app=app)
    with pytest.raises(TokenInvalid):
        await access.helix.followed(viewer.user_id)
    asked = len(twitch.calls("auth", app=app))
    with pytest.raises(TokenInvalid):
        await access.helix.followed(viewer.user_id)
    assert len(twitch.calls("auth", app=app)) == asked
    async with db.begin() as session:
        told = (await credentials.describe_all(session))[USER]
    assert (told.valid, told.about["login"]) == (False, viewer.login)
    assert told.about["problem"]
    assert len(await access.helix.users(ids=[viewer.user_id])) == 1


@pytest.fixture
async def db(access: TwitchAccess) -> Database:
    return access.db


async def test_the_hourly_look_asks_about_each_token(
    twitch: FakeTwitch, app: Application, access: TwitchAccess, db: Database
) -> None:
    viewer = twitch.channel()
    await access.tokens.app()
    await sign_in(access, twitch.sign_in(viewer.login, app=app))
    await access.tokens.keep_browser_token(twitch.browser_token(viewer.login), None)
    await access.tokens.validate()
    async with db.begin() as session:
        told = await credentials.describe_all(session)
    assert {name for name, each in told.items() if each.valid and each.validated_at} == {
        "app_token",
        "user_token",
        "browser_token",
    }


async def test_a_wrong_client_secret_says_so(
    twitch: FakeTwitch, app: Application, tmp_path: Path, database_url: str
) -> None:
    wrong = settings_of(app, tmp_path, twitch_client_secret="wrong")
    async with open_access(wrong, database_url) as access:
        with pytest.raises(TwitchRefused, match="invalid client secret"):
            await access.helix.users(ids=["1"])
        async with access.db.begin() as session:
            told = await credentials.describe_all(session)
        assert not told["app_token"].valid


async def test_without_a_secret_helix_is_not_configured(
    twitch: FakeTwitch, app: Application, tmp_path: Path, database_url: str
) -> None:
    public = settings_of(app, tmp_path, twitch_client_secret=None)
    async with open_access(public, database_url) as access:
        assert not access.configured
        with pytest.raises(TwitchNotConfigured):
            await access.helix.users(ids=["1"])


# ---- secrets


async def test_no_secret_is_in_the_database_or_in_a_log(
    twitch: FakeTwitch,
    app: Application,
    access: TwitchAccess,
    db: Database,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    viewer = twitch.channel()
    token = twitch.sign_in(viewer.login, app=app)
    await sign_in(access, token)
    secrets = [
        token.access_token,
        token.refresh_token,
        app.client_secret,
        await access.tokens.app(),
        await access.eventsub_secret(),
    ]
    twitch.disconnect(viewer.login, app=app)
    with pytest.raises(TokenInvalid) as failure:
        await access.helix.followed(viewer.user_id)
    async with db.begin() as session:
        rows = await session.scalars(text("SELECT credentials::text FROM credentials"))
        stored = "\n".join(rows)
    for secret in secrets:
        assert len(secret) > 10
        assert secret not in stored
        assert secret not in caplog.text
        assert secret not in repr(access)
        assert secret not in f"{failure.value} {failure.value!r}"


async def test_another_key_loses_the_account_but_not_the_app_side(
    twitch: FakeTwitch, app: Application, tmp_path: Path, database_url: str
) -> None:
    viewer = twitch.channel()
    first, second = tmp_path / "first", tmp_path / "second"
    async with open_access(settings_of(app, first), database_url) as access:
        await access.tokens.app()
        await sign_in(access, twitch.sign_in(viewer.login, app=app))
    async with open_access(settings_of(app, second), database_url) as access:
        assert len(await access.helix.users(ids=[viewer.user_id])) == 1
        with pytest.raises(TokenInvalid, match="cannot be decrypted"):
            await access.tokens.user()


async def test_all_processes_share_one_secret_of_eventsub(
    settings: Settings, database_url: str
) -> None:
    async with AsyncExitStack() as stack:
        two = [
            await stack.enter_async_context(open_access(settings, database_url)) for _ in range(2)
        ]
        found = await asyncio.gather(*(each.eventsub_secret() for each in two for _ in range(5)))
        assert len(set(found)) == 1
        # What Twitch takes.
        assert found[0].isascii()
        assert 10 <= len(found[0]) <= 100
        assert await two[0].eventsub_secrets() == [found[0]]


async def test_while_a_secret_rotates_both_are_accepted(
    settings: Settings, database_url: str, access: TwitchAccess
) -> None:
    old = await access.eventsub_secret()
    new = await access.rotate_eventsub_secret()
    assert new != old
    async with open_access(settings, database_url) as other:
        assert await other.eventsub_secret() == new
        assert await other.eventsub_secrets() == [new, old]
        await other.forget_previous_secret()
    assert await access.eventsub_secrets() == [new]


async def test_a_secret_that_comes_to_be_set_takes_over_like_a_rotation(
    app: Application, tmp_path: Path, database_url: str, access: TwitchAccess
) -> None:
    made = await access.eventsub_secret()
    fixed = settings_of(app, tmp_path, eventsub_secret="0123456789abc")
    async with open_access(fixed, database_url) as access_then:
        assert await access_then.eventsub_secrets() == ["0123456789abc", made]
        assert await access_then.eventsub_secrets() == ["0123456789abc", made]
        with pytest.raises(Conflict):
            await access_then.rotate_eventsub_secret()


async def test_what_is_left_of_the_rate_limit_is_told_by_kind_of_token(
    access: TwitchAccess,
) -> None:
    await access.helix.users(ids=["1"])
    told = access.rate_limits()
    assert set(told) == {"app"}
    assert told["app"]["limit"] == 800
    assert told["app"]["remaining"] == 799
