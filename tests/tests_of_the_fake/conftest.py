"""A viewer that reaches the fake as a player does: through the proxy, with TLS verified."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.fake_twitch.client import FakeChannel, FakeTwitch

TOKEN_QUERY = {
    "operationName": "PlaybackAccessToken",
    "extensions": {"persistedQuery": {"version": 1, "sha256Hash": "ed230aa1e33e07eebb8928"}},
}
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
