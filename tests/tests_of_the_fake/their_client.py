"""Somebody else's client of Twitch, the package twitchAPI, pointed at the fake."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import pytest_asyncio
from twitchAPI.twitch import Twitch
from twitchAPI.type import AuthScope

from tests.fake_twitch.client import FakeTwitch
from tests.fake_twitch.client_words import Application

SCOPES = [AuthScope.USER_READ_FOLLOWS]


@pytest_asyncio.fixture
async def twitch(fake: FakeTwitch, app: Application) -> AsyncIterator[Twitch]:
    twitch = Twitch(
        app.client_id,
        app.client_secret,
        authenticate_app=False,
        base_url=f"{fake.env['STREAMVAULT_TWITCH_HELIX_URL']}/",
        auth_base_url=f"{fake.env['STREAMVAULT_TWITCH_AUTH_URL']}/",
    )
    await authenticate(twitch)
    yield twitch
    await twitch.close()  # type: ignore[no-untyped-call]


async def authenticate(twitch: Twitch) -> None:
    """It reads the answer after it has closed the connection, and misses it now and then."""
    for _ in range(50):
        with suppress(RuntimeError):
            return await twitch.authenticate_app([])
    raise AssertionError("it never got a token")


async def sign_in(twitch: Twitch, fake: FakeTwitch, app: Application, login: str) -> str:
    """The user's id."""
    user = fake.sign_in(login, app=app)
    await twitch.set_user_authentication(user.access_token, SCOPES, user.refresh_token)
    return user.user_id
