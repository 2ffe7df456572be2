"""An API whose Twitch is the fake one, with an application of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

from api.app import create_app
from streamvault.db.session import Database
from streamvault.settings import Settings
from streamvault.twitch.oauth import TokenSet, Validation
from tests.api.conftest import client_of
from tests.fake_twitch.client import FakeTwitch
from tests.fake_twitch.client_words import Application

WORDS = ("client_id", "client_secret", "helix_url", "auth_url")


@dataclass(frozen=True)
class TwitchClient:
    http: httpx.AsyncClient
    app: FastAPI
    fake: FakeTwitch
    application: Application

    @property
    def db(self) -> Database:
        database: Database = self.app.state.shared.db
        return database

    async def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return await self.http.post(path, json=body)

    async def connect(self, login: str) -> None:
        """As if that user had signed in."""
        token = self.fake.sign_in(login, app=self.application)
        access = await self.app.state.shared.twitch()
        scopes = tuple(token.scopes)
        await access.tokens.connect_user(
            TokenSet(token.access_token, token.refresh_token, scopes, 14_400),
            Validation(login, token.user_id, scopes, 14_400, self.application.client_id),
        )

    def helix_calls(self, noun: str) -> int:
        return len(self.fake.calls(f"helix.{noun}", app=self.application))


@asynccontextmanager
async def twitch_client(
    fake: FakeTwitch, make_settings: Callable[..., Settings]
) -> AsyncIterator[TwitchClient]:
    application = fake.application()
    named = {
        f"twitch_{word}": application.env[f"STREAMVAULT_TWITCH_{word.upper()}"] for word in WORDS
    }
    app = create_app(make_settings(**named, allow_insecure_twitch=True))
    async with app.router.lifespan_context(app), client_of(app) as http:
        yield TwitchClient(http, app, fake, application)
