"""The connection with Twitch over HTTP: by way of Twitch's page, the browser token, the status."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from streamvault.db import facts
from streamvault.db.session import Database
from streamvault.settings import Settings
from tests.api.conftest import client_of
from tests.api.twitch_account import LOCALHOST, everything_stored, settings_of, status
from tests.fake_twitch.client import Application, FakeTwitch

ALICE = "alice_of_the_account"


@pytest.fixture
def application(fake_twitch: FakeTwitch) -> Application:
    fake_twitch.channel(ALICE)
    return fake_twitch.application()


@pytest.fixture
def settings(make_settings: Callable[..., Settings], application: Application) -> Settings:
    return make_settings(**settings_of(application))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app, LOCALHOST) as made:
        yield made


async def at_twitch(fake: FakeTwitch, location: str, approves: str = ALICE) -> str:
    """The address to which Twitch sends the browser back."""
    with fake.knobs(approves=approves):
        async with httpx.AsyncClient(trust_env=False) as browser:
            answer = await browser.get(location)
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


async def begin(client: httpx.AsyncClient) -> str:
    answer = await client.get("/api/twitch/login")
    assert answer.status_code == 302
    return answer.headers["location"]


async def connect(client: httpx.AsyncClient, fake: FakeTwitch) -> httpx.Response:
    return await client.get(await at_twitch(fake, await begin(client)))


# ---- by way of Twitch's page


async def test_an_account_is_connected_by_way_of_twitchs_page(
    client: httpx.AsyncClient, fake_twitch: FakeTwitch
) -> None:
    answer = await connect(client, fake_twitch)
    assert (answer.status_code, answer.headers["location"]) == (302, "/")
    account = (await status(client))["account"]
    assert (account["set"], account["valid"], account["login"]) == (True, True, ALICE)
    assert account["scopes"] == ["user:read:follows"] and account["expires_at"]


async def test_what_the_browser_is_given_is_long_bound_and_hidden_from_scripts(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/api/twitch/login")
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    assert query["redirect_uri"] == [f"{LOCALHOST}/api/twitch/callback"]
    # 43 letters of 6 bits hold 256 bits.
    assert len(query["state"][0]) >= 43
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Max-Age=600" in cookie
    assert query["state"][0] not in cookie


async def test_the_redirect_uri_comes_from_the_settings_and_never_from_the_host_header(
    make_settings: Callable[..., Settings], application: Application
) -> None:
    public = make_settings(**settings_of(application), base_url="https://vault.example.org")
    app = create_app(public)
    async with app.router.lifespan_context(app), client_of(app, LOCALHOST) as client:
        moved = await client.get("/api/twitch/login")
        assert moved.headers["location"].startswith("https://vault.example.org/api/twitch/login")
        # A proxy in front may not pass the name on: the second time it has to do.
        answer = await client.get("/api/twitch/login?moved=true")
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    assert query["redirect_uri"] == ["https://vault.example.org/api/twitch/callback"]
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-") and "Secure" in cookie and "Path=/" in cookie


async def test_by_the_name_127_0_0_1_the_browser_is_sent_to_localhost_first(app: FastAPI) -> None:
    async with client_of(app, "http://127.0.0.1:8080") as client:
        answer = await client.get("/api/twitch/login")
    assert answer.headers["location"] == f"{LOCALHOST}/api/twitch/login?moved=true"
    assert "set-cookie" not in answer.headers


async def test_a_state_counts_once(client: httpx.AsyncClient, fake_twitch: FakeTwitch) -> None:
    back = await at_twitch(fake_twitch, await begin(client))
    cookies = dict(client.cookies)
    assert (await client.get(back)).status_code == 302
    client.cookies.update(cookies)
    again = await client.get(back)
    assert again.status_code == 403
    assert again.headers["content-type"] == "application/problem+json"


async def test_a_code_counts_once(client: httpx.AsyncClient, fake_twitch: FakeTwitch) -> None:
    first = await at_twitch(fake_twitch, await begin(client))
    assert (await client.get(first)).status_code == 302
    replayed = parse_qs(urlsplit(first).query)["code"][0]
    second = parse_qs(urlsplit(await begin(client)).query)["state"][0]
    answer = await client.get("/api/twitch/callback", params={"code": replayed, "state": second})
    assert answer.status_code == 403
    assert "Invalid authorization code" in answer.json()["detail"]


async def test_a_state_of_another_browser_is_refused_and_used_up(
    app: FastAPI, client: httpx.AsyncClient, fake_twitch: FakeTwitch
) -> None:
    back = await at_twitch(fake_twitch, await begin(client))
    async with client_of(app, LOCALHOST) as victim:
        await begin(victim)
        assert (await victim.get(back)).status_code == 403
    assert (await client.get(back)).status_code == 403
    assert not (await status(client))["account"]["set"]


@pytest.mark.parametrize("query", [{}, {"code": "x"}, {"code": "x", "state": "made-up"}])
async def test_a_callback_that_nobody_began_is_refused_without_asking_twitch(
    client: httpx.AsyncClient,
    fake_twitch: FakeTwitch,
    application: Application,
    query: dict[str, str],
) -> None:
    await begin(client)
    assert (await client.get("/api/twitch/callback", params=query)).status_code == 403
    assert fake_twitch.calls("auth.token", app=application) == []


async def test_whoever_says_no_at_twitch_is_told_so(
    client: httpx.AsyncClient, fake_twitch: FakeTwitch
) -> None:
    back = await at_twitch(fake_twitch, await begin(client), approves="-")
    answer = await client.get(back)
    assert (answer.status_code, answer.json()["detail"]) == (403, "access was refused at Twitch")
    assert answer.json()["action"]["href"] == "/api/twitch/login"


async def test_while_twitch_is_away_a_sign_in_is_put_off(
    client: httpx.AsyncClient, fake_twitch: FakeTwitch
) -> None:
    back = await at_twitch(fake_twitch, await begin(client))
    fake_twitch.fault("auth.token", "status", status=503)
    try:
        answer = await client.get(back)
    finally:
        fake_twitch.clear_faults()
    assert answer.status_code == 503
    assert (await connect(client, fake_twitch)).status_code == 302


async def test_without_a_secret_only_the_code_is_offered(
    make_settings: Callable[..., Settings], fake_twitch: FakeTwitch
) -> None:
    app = create_app(make_settings(**settings_of(fake_twitch.application(public=True))))
    async with app.router.lifespan_context(app), client_of(app, LOCALHOST) as client:
        answer = await client.get("/api/twitch/login")
        assert (answer.status_code, answer.json()["title"]) == (409, "Twitch is not set up")
        found = await status(client)
        assert (found["configured"], found["can_redirect"]) == (True, False)


async def test_a_forgotten_account_is_forgotten_by_twitch_too(
    client: httpx.AsyncClient, fake_twitch: FakeTwitch, application: Application
) -> None:
    await connect(client, fake_twitch)
    assert (await client.delete("/api/twitch/account")).status_code == 204
    assert not (await status(client))["account"]["set"]
    mine = [t for t in fake_twitch.tokens() if t.client_id == application.client_id]
    assert not any(token.valid for token in mine if token.kind == "user")
    assert (await client.delete("/api/twitch/account")).status_code == 204


async def test_an_account_is_forgotten_also_while_twitch_is_away(
    client: httpx.AsyncClient, fake_twitch: FakeTwitch
) -> None:
    await connect(client, fake_twitch)
    fake_twitch.fault("auth.revoke", "reset")
    try:
        assert (await client.delete("/api/twitch/account")).status_code == 204
    finally:
        fake_twitch.clear_faults()
    assert not (await status(client))["account"]["set"]


# ---- the browser token


async def put_token(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.put("/api/twitch/browser-token", json={"token": token})


@pytest.mark.parametrize("pasted", ["{}", "  {}\n", "OAuth {}", "oauth:{}", "auth-token={};"])
async def test_a_browser_token_is_checked_kept_and_never_shown(
    client: httpx.AsyncClient, db: Database, fake_twitch: FakeTwitch, pasted: str
) -> None:
    token = fake_twitch.browser_token(ALICE, expires_in_s=90_000)
    answer = await put_token(client, pasted.format(token))
    assert answer.status_code == 200, answer.text
    stored = (await status(client))["browser_token"]
    assert (stored["valid"], stored["checked"], stored["login"]) == (True, True, ALICE)
    assert token not in answer.text + str(stored) + await everything_stored(db)
    assert (await client.delete("/api/twitch/browser-token")).status_code == 204
    assert not (await status(client))["browser_token"]["set"]


async def test_a_token_that_twitch_does_not_know_is_refused_and_the_old_one_stays(
    client: httpx.AsyncClient, fake_twitch: FakeTwitch
) -> None:
    await put_token(client, fake_twitch.browser_token(ALICE))
    answer = await put_token(client, "nosuchtoken0000000000000000000")
    assert answer.status_code == 422
    assert "nosuchtoken" not in answer.text
    assert (await status(client))["browser_token"]["valid"]


@pytest.mark.parametrize(
    "token", ["", "short", "x" * 201, None, "tökentökentöken", "a b c d e f g"]
)
async def test_what_cannot_be_a_token_is_refused_without_repeating_it(
    client: httpx.AsyncClient, token: str | None
) -> None:
    answer = await client.put("/api/twitch/browser-token", json={"token": token})
    assert answer.status_code == 422
    assert not token or token not in answer.text


async def test_while_twitch_is_away_a_browser_token_is_kept_as_not_checked(
    client: httpx.AsyncClient, fake_twitch: FakeTwitch
) -> None:
    token = fake_twitch.browser_token(ALICE)
    fake_twitch.fault("auth.validate", "status", status=503)
    try:
        answer = await put_token(client, token)
    finally:
        fake_twitch.clear_faults()
    assert answer.status_code == 200
    assert answer.json()["note"].startswith("stored without a check: ")
    stored = (await status(client))["browser_token"]
    assert (stored["set"], stored["checked"]) == (True, False)


async def test_a_browser_token_needs_no_application(
    make_settings: Callable[..., Settings], application: Application, fake_twitch: FakeTwitch
) -> None:
    without = settings_of(application) | {"twitch_client_id": "", "twitch_client_secret": None}
    app = create_app(make_settings(**without))
    async with app.router.lifespan_context(app), client_of(app, LOCALHOST) as client:
        assert (await put_token(client, fake_twitch.browser_token(ALICE))).status_code == 200
        found = await status(client)
        assert (found["configured"], found["browser_token"]["valid"]) == (False, True)
        assert (await client.delete("/api/twitch/browser-token")).status_code == 204
        assert (await client.post("/api/twitch/device")).status_code == 409


# ---- the status


async def test_the_status_of_a_new_installation_is_empty(client: httpx.AsyncClient) -> None:
    found = await status(client)
    assert (found["configured"], found["can_redirect"]) == (True, True)
    assert not any(found[name]["set"] for name in ("app_token", "account", "browser_token"))
    assert (found["transport"], found["last_poll"], found["rate_limit"]) == (None, None, {})


async def test_the_status_shows_what_the_worker_found_out(
    client: httpx.AsyncClient, db: Database
) -> None:
    async with db.begin() as session:
        open_circuit = {"state": "open", "failures": 0, "retry_after_s": 41.5}
        await facts.put_fact(session, facts.CIRCUITS, {"helix": open_circuit})
        bucket = {"limit": 800, "remaining": 780, "reset_in_s": 12.0}
        await facts.put_fact(session, facts.RATELIMIT, {"app": bucket})
        eventsub = {"transport": "websocket", "wanted": "conduit", "reason": "refused (403)"}
        eventsub |= {"cost": 9, "max_cost": 10, "desired": 9, "by_status": {"enabled": 9}}
        await facts.put_fact(session, facts.EVENTSUB, eventsub)
        poll = {"streamers": 3, "live": 1, "helix": True, "why": ""}
        await facts.put_fact(session, facts.POLL, poll)
    found = await status(client)
    assert found["circuits"] == {"worker": {"helix": open_circuit}, "api": {}}
    assert found["rate_limit"] == {"app": bucket}
    transport = found["transport"]
    assert (transport["transport"], transport["reason"]) == ("websocket", "refused (403)")
    assert (transport["cost"], transport["max_cost"]) == (9, 10)
    assert transport["subscriptions"] == {"enabled": 9}
    assert (found["last_poll"]["streamers"], found["last_poll"]["live"]) == (3, 1)


async def test_the_status_shows_this_processs_own_circuits(
    client: httpx.AsyncClient, fake_twitch: FakeTwitch
) -> None:
    fake_twitch.fault("auth.validate", "status", status=500)
    try:
        for _ in range(5):
            await put_token(client, fake_twitch.browser_token(ALICE))
    finally:
        fake_twitch.clear_faults()
    # Five failures in a row open a circuit.
    assert (await status(client))["circuits"]["api"]["id"]["state"] == "open"
