from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from streamvault.errors import RateLimited, TokenInvalid, TwitchNotConfigured, TwitchRefused
from streamvault.twitch.oauth import OAuth
from tests.streamvault.twitch.twitch_api import CLIENT_ID, CLIENT_SECRET, Api, Twitch, api, form


def said(status: int, message: str) -> httpx.Response:
    return httpx.Response(status, json={"status": status, "message": message})


@pytest.fixture
def twitch() -> Twitch:
    return Twitch()


@pytest.fixture
async def our(twitch: Twitch) -> AsyncIterator[Api]:
    async with api(twitch) as made:
        yield made


async def test_an_app_token_is_asked_for_with_id_and_secret_in_the_body(
    twitch: Twitch, our: Api
) -> None:
    token = await our.oauth.app_token()
    assert (token.access, token.expires_in_s) == ("app-1", 5_000_000)
    assert form(twitch.calls[0]) == {
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "grant_type": "client_credentials",
    }
    assert twitch.calls[0].url.query == b""


async def test_a_refreshed_token_may_come_with_a_new_refresh_token(
    twitch: Twitch, our: Api
) -> None:
    twitch.answers["POST /token"] = {
        "access_token": "1ssjqsqfy6bads1ws7m03gras79zfr",
        "refresh_token": "eyJfMzUtNDU0OC4MWYwLTQ5MDY5ODY4NGNlMSJ9%asdfasdf=",
        "scope": ["channel:read:subscriptions", "channel:manage:polls"],
        "token_type": "bearer",
        "expires_in": 14_400,
    }
    token = await our.oauth.refresh("old+refresh/token=")
    assert token.refresh == "eyJfMzUtNDU0OC4MWYwLTQ5MDY5ODY4NGNlMSJ9%asdfasdf="
    assert token.scopes == ("channel:read:subscriptions", "channel:manage:polls")
    assert form(twitch.calls[0])["refresh_token"] == "old+refresh/token="


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (said(400, "Invalid refresh token"), TokenInvalid),
        (said(401, "Invalid refresh token"), TokenInvalid),
        (said(401, ""), TokenInvalid),
        (said(400, "missing client secret"), TwitchRefused),
        (said(403, "invalid client secret"), TwitchRefused),
    ],
)
async def test_only_a_refusal_of_the_refresh_token_says_that_it_is_dead(
    twitch: Twitch, our: Api, answer: httpx.Response, error: type[TwitchRefused]
) -> None:
    twitch.answers["POST /token"] = answer
    with pytest.raises(TwitchRefused) as failure:
        await our.oauth.refresh("old")
    assert type(failure.value) is error


async def test_a_token_is_validated_with_the_scheme_that_twitch_wants(
    twitch: Twitch, our: Api
) -> None:
    twitch.answers["GET /validate"] = {
        "client_id": "wbmytr93xzw8zbg0p1izqyzzc5mbiz",
        "login": "twitchdev",
        "scopes": ["channel:read:subscriptions"],
        "user_id": "141981764",
        "expires_in": 5_520_838,
    }
    said = await our.oauth.validate("a-token")
    assert (said.login, said.user_id, said.expires_in_s) == ("twitchdev", "141981764", 5_520_838)
    assert twitch.calls[0].headers["authorization"] == "OAuth a-token"


async def test_an_app_token_validates_without_a_user(twitch: Twitch, our: Api) -> None:
    twitch.answers["GET /validate"] = {"client_id": "x", "scopes": None, "expires_in": 60}
    assert (await our.oauth.validate("a-token")).login == ""


async def test_a_token_that_is_refused_is_not_valid(twitch: Twitch, our: Api) -> None:
    twitch.answers["GET /validate"] = said(401, "invalid access token")
    with pytest.raises(TokenInvalid):
        await our.oauth.validate("a-token")


async def test_the_device_flow_runs_from_code_to_token(twitch: Twitch, our: Api) -> None:
    twitch.answers["POST /device"] = {
        "device_code": "ike3GM8QIdYZs43KdrWPIO36LofILoCyFEzjlQ91",
        "expires_in": 1800,
        "interval": 5,
        "user_code": "ABCDEFGH",
        "verification_uri": "https://www.twitch.tv/activate?public=true&device-code=ABCDEFGH",
    }
    code = await our.oauth.begin_device(["user:read:follows"])
    assert (code.user_code, code.interval_s, code.expires_in_s) == ("ABCDEFGH", 5, 1800)
    assert "ike3GM8" not in repr(code)
    twitch.answers["POST /token"] = said(400, "authorization_pending")
    assert await our.oauth.poll_device(code.device_code, ["user:read:follows"]) is None
    twitch.answers["POST /token"] = {"access_token": "u", "refresh_token": "r", "expires_in": 9}
    token = await our.oauth.poll_device(code.device_code, ["user:read:follows"])
    assert token
    assert (token.access, token.refresh) == ("u", "r")
    assert form(twitch.calls[-1]) == {
        "client_id": CLIENT_ID,
        "device_code": code.device_code,
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "scopes": "user:read:follows",
    }


async def test_a_poll_that_comes_too_fast_is_told_to_wait_longer(twitch: Twitch, our: Api) -> None:
    twitch.answers["POST /token"] = said(400, "slow_down")
    with pytest.raises(RateLimited) as refusal:
        await our.oauth.poll_device("code", [])
    assert refusal.value.retry_after_s == 5  # RFC 8628, 3.5


@pytest.mark.parametrize("message", ["invalid device code", "access_denied", "expired_token"])
async def test_a_device_code_that_is_over_is_refused_in_twitchs_words(
    twitch: Twitch, our: Api, message: str
) -> None:
    twitch.answers["POST /token"] = said(400, message)
    with pytest.raises(TwitchRefused, match=message):
        await our.oauth.poll_device("code", [])


async def test_the_address_for_consent_holds_what_the_callback_needs(our: Api) -> None:
    address = urlsplit(our.oauth.authorize_url("s+t/a=te", "https://us.test/cb?x=1", ["a:b", "c"]))
    assert (
        f"{address.scheme}://{address.netloc}{address.path}" == "https://id.test/oauth2/authorize"
    )
    assert parse_qs(address.query) == {
        "client_id": [CLIENT_ID],
        "redirect_uri": ["https://us.test/cb?x=1"],
        "response_type": ["code"],
        "scope": ["a:b c"],
        "state": ["s+t/a=te"],
    }


async def test_a_code_is_redeemed_and_a_token_revoked(twitch: Twitch, our: Api) -> None:
    twitch.answers["POST /token"] = {"access_token": "u", "scope": "a b"}
    assert (await our.oauth.redeem("the-code", "https://us.test/cb")).scopes == ("a", "b")
    assert form(twitch.calls[-1])["redirect_uri"] == "https://us.test/cb"
    twitch.answers["POST /revoke"] = httpx.Response(200, text="")
    await our.oauth.revoke("u")
    assert form(twitch.calls[-1]) == {"client_id": CLIENT_ID, "token": "u"}


async def test_without_a_secret_only_the_device_flow_is_open(twitch: Twitch, our: Api) -> None:
    public = OAuth(our.gate, "https://id.test/oauth2/", "public-client", None)
    for refused in (public.app_token(), public.redeem("c", "https://us.test/")):
        with pytest.raises(TwitchNotConfigured, match="no client secret"):
            await refused
    assert twitch.calls == []
    twitch.answers["POST /token"] = {"access_token": "u", "refresh_token": "r"}
    await public.refresh("old")
    assert "client_secret" not in form(twitch.calls[0])


@pytest.mark.parametrize(
    "body",
    [
        {"access_token": ""},
        {"access_token": "line\nbreak"},
        {"access_token": 7},
        {"token": "x"},
        {"access_token": "x", "expires_in": "soon"},
    ],
)
async def test_a_body_without_a_usable_token_is_no_token(
    twitch: Twitch, our: Api, body: dict[str, Any]
) -> None:
    twitch.answers["POST /token"] = body
    with pytest.raises(Exception, match="something else than was asked for"):
        await our.oauth.app_token()
    assert our.breakers.of("id").report().failures == 1


async def test_signing_in_that_fails_leaves_helix_alone(twitch: Twitch, our: Api) -> None:
    twitch.answers["POST /token"] = httpx.Response(503)
    for _ in range(5):
        with pytest.raises(Exception, match="503"):
            await our.oauth.app_token()
    states = {name: told.state for name, told in our.breakers.reports().items()}
    assert states["id"] == "open"
    assert states["helix"] == "closed"
