"""A viewer that reaches the fake as a player does, and a client of its services."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.fake_twitch.client_words import Application

TOKEN_QUERY = {
    "operationName": "PlaybackAccessToken",
    "extensions": {"persistedQuery": {"version": 1, "sha256Hash": "ed230aa1e33e07eebb8928"}},
}
PATIENCE_S = 20
Join = Callable[[FakeChannel], str]


@pytest.fixture(scope="session")
def viewer(fake_twitch: FakeTwitch) -> Iterator[httpx.Client]:
    trust = ssl.create_default_context(cafile=str(fake_twitch.ca_bundle))
    with httpx.Client(proxy=fake_twitch.proxy_url, verify=trust, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def join(viewer: httpx.Client) -> Join:
    """A new playback session: the address of its first variant's playlist."""

    def new_session(channel: FakeChannel) -> str:
        query = {**TOKEN_QUERY, "variables": {"isLive": True, "login": channel.login}}
        answer = viewer.post("https://gql.twitch.tv/gql", json=query).json()
        token = answer["data"]["streamPlaybackAccessToken"]
        master = viewer.get(
            f"https://usher.ttvnw.net/api/v2/channel/hls/{channel.login}.m3u8",
            params={"token": token["value"], "sig": token["signature"]},
        )
        master.raise_for_status()
        return next(line for line in master.text.splitlines() if not line.startswith("#"))

    return new_session


@pytest.fixture
def fake(fake_twitch: FakeTwitch) -> Iterator[FakeTwitch]:
    """As new afterwards."""
    yield fake_twitch
    fake_twitch.reset()


@pytest.fixture
def app(fake: FakeTwitch) -> Application:
    return fake.application()


@dataclass
class Caller:
    """Helix and id, asked with one application's client id."""

    fake: FakeTwitch
    app: Application
    client: httpx.AsyncClient
    token: str = ""

    async def id(self, path: str, **fields: str) -> httpx.Response:
        """POST of a form."""
        base = self.fake.env["STREAMVAULT_TWITCH_AUTH_URL"]
        form = {"client_id": self.app.client_id, **fields}
        return await self.client.post(f"{base}/{path}", data=form)

    async def app_token(self) -> str:
        grant = {"client_secret": self.app.client_secret, "grant_type": "client_credentials"}
        answer = await self.id("token", **grant)
        return str(answer.json()["access_token"])

    async def validate(self, token: str) -> httpx.Response:
        base = self.fake.env["STREAMVAULT_TWITCH_AUTH_URL"]
        return await self.client.get(
            f"{base}/validate", headers={"Authorization": f"OAuth {token}"}
        )

    async def ask(
        self, path: str, method: str = "GET", *, token: str = "", **more: Any
    ) -> httpx.Response:
        """By the application's own token, unless another is given."""
        headers = {
            "Authorization": f"Bearer {token or self.token}",
            "Client-Id": self.app.client_id,
        }
        base = self.fake.env["STREAMVAULT_TWITCH_HELIX_URL"]
        return await self.client.request(method, f"{base}/{path}", headers=headers, **more)

    async def subscribe(
        self, kind: str, channel: FakeChannel, transport: dict[str, str], *, token: str = ""
    ) -> httpx.Response:
        body = {
            "type": kind,
            "version": "2" if kind == "channel.update" else "1",
            "condition": {"broadcaster_user_id": channel.user_id},
            "transport": transport,
        }
        return await self.ask("eventsub/subscriptions", "POST", token=token, json=body)


@pytest_asyncio.fixture
async def helix(fake: FakeTwitch, app: Application) -> AsyncIterator[Caller]:
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client:
        caller = Caller(fake, app, client)
        caller.token = await caller.app_token()
        yield caller


@dataclass
class Received:
    headers: dict[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        return self.headers["twitch-eventsub-message-type"]

    @property
    def json(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.body)
        return body


@dataclass
class Hook:
    """A webhook's receiver. `answers` are the next statuses for what is no challenge; then 204."""

    url: str = ""
    secret: str = "a-secret-of-some-length"
    answers: list[int] = field(default_factory=list)
    challenge: str = "right"
    """Or `wrong`, or `html`."""
    received: asyncio.Queue[Received] = field(default_factory=asyncio.Queue)

    @property
    def transport(self) -> dict[str, str]:
        return {"method": "webhook", "callback": self.url, "secret": self.secret}

    async def next(self) -> Received:
        return await asyncio.wait_for(self.received.get(), PATIENCE_S)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[1:]
        pairs = (line.split(": ", 1) for line in lines if line)
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers["content-length"]))
        status, text, media_type = self._answer(json.loads(body).get("challenge"))
        head = f"HTTP/1.1 {status} OK\r\nContent-Type: {media_type}\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode())
        await writer.drain()
        writer.close()
        await self.received.put(Received(headers, body))

    def _answer(self, challenge: str | None) -> tuple[int, str, str]:
        if challenge is None:
            return (self.answers.pop(0) if self.answers else 200), "", "text/plain"
        text = "something else" if self.challenge == "wrong" else challenge
        return 200, text, "text/html" if self.challenge == "html" else "text/plain"


@pytest_asyncio.fixture
async def hook() -> AsyncIterator[Hook]:
    hook = Hook()
    server = await asyncio.start_server(hook.serve, "127.0.0.1", 0)
    async with server:
        hook.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/eventsub"
        yield hook


async def until(met: Callable[[], bool], what: str) -> None:
    """Asks the fake again and again; for what it does by itself."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while not await asyncio.to_thread(met):
        assert asyncio.get_running_loop().time() < deadline, f"never: {what}"
        await asyncio.sleep(0.01)


async def enable(helix: Caller, hook: Hook, kind: str, channel: FakeChannel) -> str:
    """A webhook subscription whose challenge has been answered; its id."""
    made = await helix.subscribe(kind, channel, hook.transport)
    subscription_id = str(made.json()["data"][0]["id"])
    assert (await hook.next()).kind == "webhook_callback_verification"
    await until(lambda: status(helix, subscription_id) == "enabled", "enabled")
    return subscription_id


def status(helix: Caller, subscription_id: str) -> str:
    found = helix.fake.subscriptions(app=helix.app)
    return next((str(s["status"]) for s in found if s["id"] == subscription_id), "")
