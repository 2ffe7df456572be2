"""Helix, id, EventSub, the proxy and the process itself."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import websockets

from tests.fake_twitch.client import ROOT, FakeChannel, FakeTwitch, shared_media_dir

SECRET = "a-secret-of-some-length"


@pytest.fixture(scope="module")
def helix(fake_twitch: FakeTwitch) -> Iterator[httpx.Client]:
    env = fake_twitch.env
    client_id = env["STREAMVAULT_TWITCH_CLIENT_ID"]
    token = httpx.post(
        f"{env['STREAMVAULT_TWITCH_AUTH_URL']}/token",
        data={
            "client_id": client_id,
            "client_secret": env["STREAMVAULT_TWITCH_CLIENT_SECRET"],
            "grant_type": "client_credentials",
        },
        trust_env=False,
    ).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}", "Client-Id": client_id}
    url = env["STREAMVAULT_TWITCH_HELIX_URL"]
    with httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
        yield client


def test_helix_knows_who_is_live(helix: httpx.Client, fake_twitch: FakeTwitch) -> None:
    channel = fake_twitch.channel(title="Hello", category="Chess", category_id="743")
    user = helix.get("/users", params={"login": channel.login}).json()["data"][0]
    assert helix.get("/streams", params={"user_id": user["id"]}).json()["data"] == []
    stream_id = channel.online(speed=0)
    stream = helix.get("/streams", params={"user_id": user["id"]}).json()["data"][0]
    assert (stream["id"], stream["title"], stream["game_name"]) == (stream_id, "Hello", "Chess")
    about = helix.get("/channels", params={"broadcaster_id": user["id"]})
    assert about.json()["data"][0]["game_id"] == "743"
    assert helix.get("/games", params={"id": "743"}).json()["data"][0]["name"] == "Chess"
    assert int(about.headers["Ratelimit-Limit"]) == 800


def test_helix_asks_for_a_token(helix: httpx.Client) -> None:
    answer = helix.get("/users", headers={"Authorization": "Bearer nonsense"})
    assert answer.status_code == 401


def subscription(kind: str, user_id: str, transport: dict[str, str]) -> dict[str, Any]:
    version = "2" if kind == "channel.update" else "1"
    condition = {"broadcaster_user_id": user_id}
    return {"type": kind, "version": version, "condition": condition, "transport": transport}


def user_id(channel: FakeChannel) -> str:
    return str(channel.fake.state()["channels"][channel.login]["user_id"])


async def test_eventsub_by_websocket(helix: httpx.Client, fake_twitch: FakeTwitch) -> None:
    channel = fake_twitch.channel(speed=0)
    url = fake_twitch.env["STREAMVAULT_TWITCH_EVENTSUB_WS_URL"]
    async with websockets.connect(url, proxy=None) as socket:
        welcome = json.loads(await socket.recv())
        session = welcome["payload"]["session"]["id"]
        transport = {"method": "websocket", "session_id": session}
        for kind in ("stream.online", "channel.update", "stream.offline"):
            body = subscription(kind, user_id(channel), transport)
            for status in (202, 409):
                answer = await asyncio.to_thread(helix.post, "/eventsub/subscriptions", json=body)
                assert answer.status_code == status
        stream_id = channel.online()
        online = json.loads(await socket.recv())
        assert online["metadata"]["subscription_type"] == "stream.online"
        assert online["payload"]["event"]["id"] == stream_id
        channel.change(title="New")
        assert json.loads(await socket.recv())["payload"]["event"]["title"] == "New"
        channel.offline()
        offline = json.loads(await socket.recv())
        assert offline["payload"]["event"]["broadcaster_user_login"] == channel.login


async def test_eventsub_by_webhook(helix: httpx.Client, fake_twitch: FakeTwitch) -> None:
    channel = fake_twitch.channel(speed=0)
    received: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()

    async def hook(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[1:]
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        body = await reader.readexactly(int(headers["content-length"]))
        challenge = json.loads(body).get("challenge", "").encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(challenge)}"
        writer.write(head.encode() + b"\r\nConnection: close\r\n\r\n" + challenge)
        await writer.drain()
        writer.close()
        await received.put((headers, body))

    server = await asyncio.start_server(hook, "127.0.0.1", 0)
    async with server:
        callback = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/eventsub"
        transport = {"method": "webhook", "callback": callback, "secret": SECRET}
        body = subscription("stream.online", user_id(channel), transport)
        answer = await asyncio.to_thread(helix.post, "/eventsub/subscriptions", json=body)
        assert answer.json()["data"][0]["status"] == "webhook_callback_verification_pending"
        headers, _ = await received.get()
        assert headers["twitch-eventsub-message-type"] == "webhook_callback_verification"
        await asyncio.to_thread(_await_enabled, helix, answer.json()["data"][0]["id"])
        await asyncio.to_thread(channel.online)
        headers, raw = await received.get()
    signed = headers["twitch-eventsub-message-id"].encode() + _timestamp(headers) + raw
    expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert headers["twitch-eventsub-message-signature"] == f"sha256={expected}"
    assert json.loads(raw)["event"]["broadcaster_user_login"] == channel.login


def _timestamp(headers: dict[str, str]) -> bytes:
    # Header values were lowered for the look-up; the signature is over the original letters.
    return headers["twitch-eventsub-message-timestamp"].upper().encode()


def _await_enabled(helix: httpx.Client, subscription_id: str) -> None:
    while True:
        enabled = helix.get("/eventsub/subscriptions", params={"status": "enabled"}).json()["data"]
        if any(found["id"] == subscription_id for found in enabled):
            return


def test_the_proxy_knows_twitch_alone(viewer: httpx.Client) -> None:
    with pytest.raises(httpx.ProxyError, match="502"):
        viewer.get("https://www.example.org/")


def test_the_proxy_serves_plain_http_too(fake_twitch: FakeTwitch) -> None:
    channel = fake_twitch.channel(speed=0)
    channel.online()
    with httpx.Client(proxy=fake_twitch.proxy_url, trust_env=False) as client:
        assert client.get(channel.hls_url).text.startswith("#EXTM3U")


def test_a_proxy_that_refuses_or_wants_a_password(
    fake_twitch: FakeTwitch,
) -> None:
    def fails(proxy: str) -> bool:
        with (
            httpx.Client(proxy=proxy, verify=False, trust_env=False) as client,
            suppress(httpx.ProxyError),
        ):
            client.get("https://usher.ttvnw.net/")
            return False
        return True

    with fake_twitch.proxy(mode="refuse"):
        assert fails(fake_twitch.proxy_url)
    with fake_twitch.proxy(login="me:secret"):
        assert fails(fake_twitch.proxy_url)
        assert not fails(fake_twitch.proxy_url.replace("//", "//me:secret@"))
    assert not fails(fake_twitch.proxy_url)


def test_the_fake_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.fake_twitch.client import FakeTwitch\n"
        f"fake = FakeTwitch(Path({str(tmp_path)!r}), media_dir=Path({str(shared_media_dir())!r}))\n"
        "print(fake.process.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    fake = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    with suppress(psutil.NoSuchProcess):
        fake.wait(timeout=20)
    assert not fake.is_running()


def test_channels_can_be_live_from_the_start(tmp_path: Path) -> None:
    with FakeTwitch(tmp_path, "--live", "ada", "--live", "bob", "--profile", "180p") as fake:
        channels = fake.state()["channels"]
        assert {login for login, about in channels.items() if about["stream_id"]} == {"ada", "bob"}
