from __future__ import annotations

import httpx
import pytest

from streamvault.errors import TwitchUnavailable
from streamvault.twitch.exchange import Call, exchange, open_http
from tests.fake_twitch.client import FakeTwitch


def call_to(fake: FakeTwitch) -> Call:
    return Call("helix", "GET", f"{fake.tls}/helix/users", (("id", "secret-query"),))


async def test_the_authorities_of_ca_bundle_are_trusted_beside_the_systems(
    fake_twitch: FakeTwitch,
) -> None:
    async with open_http(fake_twitch.ca_bundle) as http:
        answer = await exchange(http, call_to(fake_twitch), again=False)
    assert answer.status == 401


async def test_an_authority_that_nobody_named_is_not_trusted(fake_twitch: FakeTwitch) -> None:
    async with open_http() as http:
        with pytest.raises(TwitchUnavailable) as failure:
            await exchange(http, call_to(fake_twitch), again=True)
    assert "STREAMVAULT_CA_BUNDLE" in failure.value.hint
    assert "secret-query" not in failure.value.one_line


async def test_proxies_and_authorities_of_the_environment_are_ignored(
    fake_twitch: FakeTwitch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with open_http(fake_twitch.ca_bundle) as http:
        assert (await exchange(http, call_to(fake_twitch), again=False)).status == 401


async def test_nobody_there_is_told_with_the_place() -> None:
    call = Call("helix", "GET", "http://127.0.0.1:1/helix/users")
    async with open_http() as http:
        with pytest.raises(TwitchUnavailable, match=r"GET 127\.0\.0\.1/helix/users: "):
            await exchange(http, call, again=False)


async def test_a_redirect_is_not_followed() -> None:
    """The token would go along to wherever it leads."""
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(307, headers={"location": "https://elsewhere.test/"})

    async with open_http() as http:
        http._transport = httpx.MockTransport(handler)
        call = Call("helix", "GET", "https://helix.test/users", headers={"Authorization": "x"})
        assert (await exchange(http, call, again=True)).status == 307
    assert asked == ["helix.test"]
