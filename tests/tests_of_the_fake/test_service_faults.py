"""Faults of Helix, id and EventSub, and the log of what was asked."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from tests.fake_twitch.client import FakeTwitch
from tests.tests_of_the_fake.conftest import Caller
from tests.tests_of_the_fake.test_eventsub_rest import NOWHERE


async def test_the_log_knows_who_asked_what(helix: Caller, fake: FakeTwitch) -> None:
    begun = time.time()
    fake.clear_calls()
    await helix.ask("streams", params={"user_id": "1"})
    await helix.ask("users", token=fake.sign_in("ada", app=helix.app).access_token)
    await helix.ask("users", token="nonsense")
    await helix.ask("eventsub/subscriptions")
    await helix.app_token()
    await helix.validate(helix.token)
    calls = fake.calls("helix", since=begun)
    assert [(c.group, c.path, c.status) for c in calls] == [
        ("helix.streams", "/helix/streams", 200),
        ("helix.users", "/helix/users", 200),
        ("helix.users", "/helix/users", 401),
    ]
    assert [(c.token_kind, c.login) for c in calls] == [("app", ""), ("user", "ada"), ("", "")]
    assert calls[0].query == "user_id=1"
    assert calls[0].client_id == helix.app.client_id
    assert begun <= calls[0].at <= calls[1].at <= time.time()
    assert [c.group for c in fake.calls("eventsub")] == ["eventsub.subscriptions"]
    assert [c.group for c in fake.calls("auth")] == ["auth.token", "auth.validate"]
    assert len(fake.calls("helix.streams", app=helix.app)) == 1
    assert fake.calls(app=fake.application()) == []


def test_playback_is_in_the_log_too(fake: FakeTwitch, viewer: httpx.Client) -> None:
    channel = fake.channel()
    token = fake.browser_token("ada")
    variables = {"isLive": True, "login": channel.login}
    query = {"operationName": "PlaybackAccessToken", "variables": variables}
    headers = {"Authorization": f"OAuth {token}"}
    viewer.post("https://gql.twitch.tv/gql", json=query, headers=headers)
    viewer.get(f"https://usher.ttvnw.net/api/v2/channel/hls/{channel.login}.m3u8")
    (gql,) = fake.calls("gql")
    assert (gql.token_kind, gql.login, gql.status) == ("browser", "ada", 200)
    assert [call.status for call in fake.calls("usher")] == [403]


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
async def test_an_error_has_twitchs_body(helix: Caller, fake: FakeTwitch, status: int) -> None:
    fake.fault("helix.streams", "status", status=status, count=1)
    answer = await helix.ask("streams", params={"user_id": "1"})
    assert answer.status_code == answer.json()["status"] == status
    assert set(answer.json()) == {"error", "status", "message"}
    assert (await helix.ask("streams", params={"user_id": "1"})).status_code == 200


async def test_a_429_says_when(helix: Caller, fake: FakeTwitch) -> None:
    fake.fault("helix", "status", status=429, seconds=20)
    answer = await helix.ask("users", params={"id": "1"})
    assert answer.headers["ratelimit-remaining"] == "0"
    assert 19 <= int(answer.headers["ratelimit-reset"]) - time.time() <= 21


async def test_faults_keep_to_their_part(helix: Caller, fake: FakeTwitch) -> None:
    fake.fault("helix.streams", "status", status=500)
    fake.fault("eventsub", "status", status=502, method="POST")
    fake.fault("auth.validate", "status", status=503)
    assert (await helix.ask("users", params={"id": "1"})).status_code == 200
    assert (await helix.ask("streams", params={"user_id": "1"})).status_code == 500
    assert (await helix.ask("eventsub/subscriptions")).status_code == 200
    assert (await helix.subscribe("stream.online", fake.channel(), NOWHERE)).status_code == 502
    assert (await helix.validate(helix.token)).status_code == 503
    assert await helix.app_token()


async def test_a_whole_service_fails_with_all_its_parts(helix: Caller, fake: FakeTwitch) -> None:
    fake.fault("helix", "status", status=500)
    for path in ("users", "streams", "channels", "games", "videos"):
        assert (await helix.ask(path, params={"id": "1"})).status_code == 500
    assert (await helix.ask("eventsub/subscriptions")).status_code == 200


async def test_one_applications_faults(helix: Caller, fake: FakeTwitch) -> None:
    other = Caller(fake, fake.application(), helix.client)
    other.token = await other.app_token()
    fake.fault("helix", "status", status=500, client_id=other.app.client_id)
    assert (await other.ask("users", params={"id": "1"})).status_code == 500
    assert (await helix.ask("users", params={"id": "1"})).status_code == 200


@pytest.mark.parametrize(
    ("kind", "content"),
    [("html", b"<!DOCTYPE html>"), ("wrong_type", b'["this"'), ("empty", b"")],
)
async def test_bodies_that_are_no_answer(
    helix: Caller, fake: FakeTwitch, kind: str, content: bytes
) -> None:
    fake.fault("helix", kind, count=1)
    answer = await helix.ask("users", params={"id": "1"})
    assert answer.status_code == 200
    assert answer.content.startswith(content)
    assert b'"data"' not in answer.content


@pytest.mark.parametrize("kind", ["hang", "reset", "truncated"])
async def test_answers_that_break_off(helix: Caller, fake: FakeTwitch, kind: str) -> None:
    fake.fault("helix", kind, seconds=0.05, count=1)
    with pytest.raises(httpx.TransportError):
        await helix.ask("users", params={"id": "1"})
    assert fake.calls("helix.users")[-1].status == (200 if kind == "truncated" else 0)


async def test_a_slow_loris(helix: Caller, fake: FakeTwitch) -> None:
    fake.fault("helix", "trickle", seconds=30, count=1)
    with pytest.raises(TimeoutError):
        # Each byte comes soon enough for a read time-out, the whole does not.
        await asyncio.wait_for(helix.ask("users", params={"login": "ada"}), 0.5)


async def test_a_request_can_be_carried_out_though_its_answer_is_lost(
    helix: Caller, fake: FakeTwitch
) -> None:
    fake.set_knobs(verify_after_s=60)
    channel = fake.channel()
    fake.fault("eventsub", "status", status=500, count=1)
    assert (await helix.subscribe("stream.online", channel, NOWHERE)).status_code == 500
    assert fake.subscriptions(app=helix.app) == []
    fake.fault("eventsub", "status", status=500, count=1, applied=True)
    assert (await helix.subscribe("stream.online", channel, NOWHERE)).status_code == 500
    assert (await helix.subscribe("stream.online", channel, NOWHERE)).status_code == 409


def test_knobs_go_back(fake: FakeTwitch) -> None:
    with fake.knobs(webhook_cost=7):
        assert fake.call("GET", "/ctl/knobs")["webhook_cost"] == 7
    assert fake.call("GET", "/ctl/knobs")["webhook_cost"] == 10_000
    with pytest.raises(ValueError, match="no such knobs"):
        fake.set_knobs(nonsense=1)
