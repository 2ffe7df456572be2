"""id.twitch.tv: how tokens come, change and go."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.fake_twitch.client import FakeTwitch
from tests.fake_twitch.client_words import Application
from tests.tests_of_the_fake.conftest import Caller

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
REDIRECT = "http://localhost:7777/api/twitch/callback"
SCOPE = "user:read:follows"


def refused(answer: httpx.Response, status: int, message: str) -> bool:
    """Errors of id carry exactly these two fields."""
    return answer.status_code == status and answer.json() == {"status": status, "message": message}


async def test_a_secret_buys_an_app_token(helix: Caller) -> None:
    grant = {"grant_type": "client_credentials"}
    right = {"client_secret": helix.app.client_secret}
    answer = (await helix.id("token", **grant, **right)).json()
    assert set(answer) == {"access_token", "expires_in", "token_type"}
    assert (answer["token_type"], answer["expires_in"]) == ("bearer", 5_000_000)
    wrong = await helix.id("token", **grant, client_secret="wrong")
    assert refused(wrong, 403, "invalid client secret")
    assert refused(await helix.id("token", **grant), 400, "missing client secret")
    other = await helix.id("token", **grant, **right, client_id="nobody")
    assert refused(other, 400, "invalid client")


async def test_app_tokens_expire_and_are_revoked(helix: Caller, fake: FakeTwitch) -> None:
    about = (await helix.validate(helix.token)).json()
    assert (about["client_id"], about["scopes"]) == (helix.app.client_id, [])
    assert "user_id" not in about
    fake.expire_tokens(app=helix.app)
    assert refused(await helix.validate(helix.token), 401, "invalid access token")
    assert (await helix.ask("users", params={"id": "1"})).status_code == 401
    helix.token = await helix.app_token()
    assert (await helix.ask("users", params={"id": "1"})).status_code == 200
    fake.revoke_app_tokens(app=helix.app)
    assert (await helix.ask("users", params={"id": "1"})).status_code == 401


async def test_an_app_token_can_live_shortly(helix: Caller, fake: FakeTwitch) -> None:
    with fake.knobs(app_token_s=0.2):
        token = await helix.app_token()
    assert (await helix.validate(token)).status_code == 200
    await asyncio.sleep(0.25)
    assert (await helix.validate(token)).status_code == 401


async def test_a_refresh_token_works_once(helix: Caller, fake: FakeTwitch) -> None:
    first = fake.sign_in("ada", app=helix.app)
    second = (await refresh(helix, first.refresh_token)).json()
    assert second["scope"] == [SCOPE]
    assert second["refresh_token"] != first.refresh_token
    assert refused(await refresh(helix, first.refresh_token), 400, "Invalid refresh token")
    for token in (first.access_token, second["access_token"]):
        assert (await helix.validate(token)).json()["login"] == "ada"
    assert (await refresh(helix, second["refresh_token"])).status_code == 200


async def test_a_refresh_token_can_be_kept(helix: Caller, fake: FakeTwitch) -> None:
    signed_in = fake.sign_in("ada", app=helix.app)
    with fake.knobs(rotates=False):
        again = (await refresh(helix, signed_in.refresh_token)).json()
    assert again["refresh_token"] == signed_in.refresh_token


async def test_a_lost_answer_burns_the_refresh_token(helix: Caller, fake: FakeTwitch) -> None:
    signed_in = fake.sign_in("ada", app=helix.app)
    fake.fault("auth.token", "reset", count=1, applied=True)
    with pytest.raises(httpx.TransportError):
        await refresh(helix, signed_in.refresh_token)
    assert (await refresh(helix, signed_in.refresh_token)).status_code == 400


async def test_user_tokens_expire_and_refresh_tokens_are_revoked(
    helix: Caller, fake: FakeTwitch
) -> None:
    signed_in = fake.sign_in("ada", app=helix.app)
    fake.expire_tokens("ada", app=helix.app)
    assert (await helix.validate(signed_in.access_token)).status_code == 401
    fake.revoke_refresh_tokens("ada")
    assert (await refresh(helix, signed_in.refresh_token)).status_code == 400


async def test_other_applications_cannot_use_a_refresh_token(
    helix: Caller, fake: FakeTwitch
) -> None:
    foreign = fake.sign_in("ada", app=fake.application())
    assert (await refresh(helix, foreign.refresh_token)).status_code == 400


async def test_a_device_is_let_in(helix: Caller, fake: FakeTwitch) -> None:
    fake.set_knobs(device_interval_s=0)
    device = (await helix.id("device", scopes=SCOPE)).json()
    assert set(device) == {
        "device_code",
        "expires_in",
        "interval",
        "user_code",
        "verification_uri",
    }
    assert device["expires_in"] == 1800
    assert device["user_code"] in device["verification_uri"]
    assert refused(await poll(helix, device), 400, "authorization_pending")
    assert fake.user_codes(app=helix.app) == [device["user_code"]]
    fake.approve_code(device["user_code"], "ada")
    answer = (await poll(helix, device)).json()
    assert (await helix.validate(answer["access_token"])).json()["login"] == "ada"
    assert (await refresh(helix, answer["refresh_token"])).status_code == 200
    assert refused(await poll(helix, device), 400, "invalid device code")


async def test_a_device_that_asks_too_often(helix: Caller) -> None:
    device = (await helix.id("device", scopes=SCOPE)).json()
    assert device["interval"] == 5
    assert refused(await poll(helix, device), 400, "authorization_pending")
    assert refused(await poll(helix, device), 400, "slow_down")


async def test_devices_that_are_denied_or_late(helix: Caller, fake: FakeTwitch) -> None:
    denied = (await helix.id("device", scopes=SCOPE)).json()
    fake.deny_code(denied["user_code"])
    assert refused(await poll(helix, denied), 400, "access_denied")
    late = (await helix.id("device", scopes=SCOPE)).json()
    fake.expire_code(late["user_code"])
    assert refused(await poll(helix, late), 400, "invalid device code")


async def test_a_public_client_has_no_secret(helix: Caller, fake: FakeTwitch) -> None:
    helix.app = fake.application(public=True)
    assert helix.app.client_secret == ""
    device = (await helix.id("device", scopes=SCOPE)).json()
    fake.approve_code(device["user_code"], "ada")
    answer = (await poll(helix, device)).json()
    assert (await refresh(helix, answer["refresh_token"])).status_code == 200
    grant = {"grant_type": "client_credentials", "client_secret": "any"}
    assert (await helix.id("token", **grant)).status_code == 403


async def test_a_browser_comes_back_with_a_code(helix: Caller, fake: FakeTwitch) -> None:
    fake.set_knobs(approves="ada")
    back = await authorize(helix)
    assert back.headers["location"].startswith(f"{REDIRECT}?")
    given = parse_qs(urlsplit(back.headers["location"]).query)
    assert (given["state"], given["scope"]) == (["s t&te"], [SCOPE])
    answer = (await redeem(helix, given["code"][0])).json()
    assert (await helix.validate(answer["access_token"])).json()["login"] == "ada"
    again = await redeem(helix, given["code"][0])
    assert refused(again, 400, "Invalid authorization code")


async def test_a_code_belongs_to_its_redirect_and_its_application(
    helix: Caller, fake: FakeTwitch
) -> None:
    fake.set_knobs(approves="ada")
    for other in ({"redirect_uri": "http://localhost/other"}, {"client_id": "fake"}):
        given = parse_qs(urlsplit((await authorize(helix)).headers["location"]).query)
        assert (await redeem(helix, given["code"][0], **other)).status_code == 400


async def test_a_user_who_says_no_or_has_yet_to_log_in(helix: Caller, fake: FakeTwitch) -> None:
    assert "Log in to Twitch" in (await authorize(helix)).text
    fake.set_knobs(approves="-")
    given = parse_qs(urlsplit((await authorize(helix)).headers["location"]).query)
    assert (given["error"], given["state"]) == (["access_denied"], ["s t&te"])


async def test_a_token_can_be_revoked_by_its_owner(helix: Caller, fake: FakeTwitch) -> None:
    signed_in = fake.sign_in("ada", app=helix.app)
    assert (await helix.id("revoke", token=signed_in.access_token)).status_code == 200
    assert (await helix.validate(signed_in.access_token)).status_code == 401
    assert (await refresh(helix, signed_in.refresh_token)).status_code == 400
    again = await helix.id("revoke", token=signed_in.access_token)
    assert refused(again, 400, "Invalid token")


async def test_a_browsers_own_token_is_twitchs_own(helix: Caller, fake: FakeTwitch) -> None:
    token = fake.browser_token("ada", expires_in_s=1000)
    about = (await helix.validate(token)).json()
    assert (about["login"], about["client_id"]) == ("ada", "kimne78kx3ncx6brgo4mv6wki5h1ko")
    assert 990 < about["expires_in"] <= 1000


async def test_the_list_of_tokens_shows_none(helix: Caller, fake: FakeTwitch) -> None:
    mine = [token for token in fake.tokens() if token.client_id == helix.app.client_id]
    assert [(token.kind, token.valid) for token in mine] == [("app", True)]
    assert helix.token not in repr(fake.tokens())


async def refresh(helix: Caller, token: str) -> httpx.Response:
    secret = {"client_secret": helix.app.client_secret} if helix.app.client_secret else {}
    return await helix.id("token", grant_type="refresh_token", refresh_token=token, **secret)


async def poll(helix: Caller, device: dict[str, Any]) -> httpx.Response:
    return await helix.id("token", grant_type=DEVICE_GRANT, device_code=device["device_code"])


async def authorize(helix: Caller) -> httpx.Response:
    app: Application = helix.app
    return await helix.client.get(
        f"{helix.fake.env['STREAMVAULT_TWITCH_AUTH_URL']}/authorize",
        params={
            "response_type": "code",
            "client_id": app.client_id,
            "redirect_uri": REDIRECT,
            "scope": SCOPE,
            "state": "s t&te",
        },
    )


async def redeem(helix: Caller, code: str, **other: str) -> httpx.Response:
    fields = {
        "grant_type": "authorization_code",
        "client_secret": helix.app.client_secret,
        "code": code,
        "redirect_uri": REDIRECT,
    }
    return await helix.id("token", **{**fields, **other})
