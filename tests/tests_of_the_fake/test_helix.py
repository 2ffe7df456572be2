"""Helix by its own rules: who may ask, how much, and what comes back."""

from __future__ import annotations

import asyncio
import time
from email.utils import parsedate_to_datetime

import httpx
import pytest

from tests.fake_twitch.client import FakeTwitch
from tests.fake_twitch.client_words import Application
from tests.tests_of_the_fake.conftest import Caller


async def test_it_knows_who_is_live(helix: Caller, fake: FakeTwitch) -> None:
    channel = fake.channel(title="Hello", category="Chess", category_id="743")
    user = (await helix.ask("users", params={"login": channel.login})).json()["data"][0]
    assert user["id"] == channel.user_id
    of_user = {"user_id": user["id"]}
    assert (await helix.ask("streams", params=of_user)).json()["data"] == []
    stream_id = channel.online(speed=0)
    stream = (await helix.ask("streams", params=of_user)).json()["data"][0]
    assert (stream["id"], stream["title"], stream["game_name"]) == (stream_id, "Hello", "Chess")
    about = await helix.ask("channels", params={"broadcaster_id": user["id"]})
    assert about.json()["data"][0]["game_id"] == "743"
    assert (await helix.ask("games", params={"id": "743"})).json()["data"][0]["name"] == "Chess"


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("authorization", "OAuth token is missing"),
        ("client-id", "Client ID is missing"),
        ("token", "Invalid OAuth token"),
        ("match", "Client ID and OAuth token do not match"),
    ],
)
async def test_it_wants_a_token_and_its_client_id(
    helix: Caller, fake: FakeTwitch, missing: str, message: str
) -> None:
    headers = {"authorization": f"Bearer {helix.token}", "client-id": helix.app.client_id}
    headers.pop(missing, None)
    if missing == "token":
        headers["authorization"] = "Bearer nonsense"
    if missing == "match":
        headers["client-id"] = fake.application().client_id
    url = f"{fake.env['STREAMVAULT_TWITCH_HELIX_URL']}/users"
    answer = await helix.client.get(url, params={"login": "ada"}, headers=headers)
    assert answer.status_code == 401
    assert answer.json() == {"error": "Unauthorized", "status": 401, "message": message}


async def test_an_unknown_user_is_simply_absent(helix: Caller, fake: FakeTwitch) -> None:
    channel = fake.channel()
    params = [("login", "nobody_at_all"), ("login", channel.login), ("id", "1")]
    found = (await helix.ask("users", params=params)).json()["data"]
    assert [user["id"] for user in found] == [channel.user_id]


@pytest.mark.parametrize("login", ["with space", "-rf", "a" * 26, "jürgen"])
async def test_one_bad_login_spoils_the_whole_call(helix: Caller, login: str) -> None:
    answer = await helix.ask("users", params=[("login", "ada"), ("login", login)])
    assert (answer.status_code, answer.json()["error"]) == (400, "Bad Request")


@pytest.mark.parametrize(
    ("path", "name"), [("users", "id"), ("streams", "user_id"), ("channels", "broadcaster_id")]
)
async def test_no_more_than_100_at_once(helix: Caller, path: str, name: str) -> None:
    ids = [(name, str(number)) for number in range(101)]
    assert (await helix.ask(path, params=ids[:100])).status_code == 200
    assert (await helix.ask(path, params=ids)).status_code == 400


async def test_a_rename_keeps_the_id(helix: Caller, fake: FakeTwitch) -> None:
    channel = fake.channel()
    before, user_id = channel.login, channel.user_id
    channel.rename(f"{before}_2")
    params = [("login", before), ("login", channel.login)]
    found = (await helix.ask("users", params=params)).json()["data"]
    assert [(user["id"], user["login"]) for user in found] == [(user_id, f"{before}_2")]
    assert fake.channel(before).user_id != user_id


async def test_pages_follow_each_other(helix: Caller, fake: FakeTwitch) -> None:
    channels = fake.channels(7, prefix="paged")
    fake.go_live(channels, speed=0)
    params = [("user_id", channel.user_id) for channel in channels]
    with fake.knobs(page_size=3):
        pages = await all_pages(helix, "streams", params)
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [live["user_login"] for page in pages for live in page] == [c.login for c in channels]


async def test_pages_that_overlap_and_end_with_an_empty_one(
    helix: Caller, fake: FakeTwitch
) -> None:
    channels = fake.channels(4, prefix="paged")
    for channel in channels:
        if channel.summary()["stream_id"] is None:
            channel.online(speed=0)
    params = [("user_id", channel.user_id) for channel in channels]
    with fake.knobs(page_size=2, page_overlap=1, trailing_cursor=True):
        pages = await all_pages(helix, "streams", params)
    names = [[live["user_login"] for live in page] for page in pages]
    first, second, third, fourth = (channel.login for channel in channels)
    assert names == [[first, second], [second, third, fourth], [fourth]]


async def test_20_streams_are_a_page_unless_100_are_asked_for(
    helix: Caller, fake: FakeTwitch
) -> None:
    channels = fake.channels(30, prefix="twenty")
    fake.go_live(channels, speed=0)
    params = [("user_id", channel.user_id) for channel in channels]
    assert len((await helix.ask("streams", params=params)).json()["data"]) == 20
    whole = await helix.ask("streams", params=[*params, ("first", "100")])
    assert (len(whole.json()["data"]), whole.json()["pagination"]) == (30, {})
    assert (await helix.ask("streams", params=[("first", "101")])).status_code == 400


async def test_get_streams_learns_late(helix: Caller, fake: FakeTwitch) -> None:
    channel = fake.channel(helix_lag_s=30)
    channel.online(speed=0)
    assert await live_logins(helix, channel.user_id) == []
    channel.change(helix_lag_s=0)
    assert await live_logins(helix, channel.user_id) == [channel.login]
    channel.change(helix_lag_s=30)
    channel.offline()
    assert await live_logins(helix, channel.user_id) == [channel.login]


async def test_false_empties_for_one_and_for_all(helix: Caller, fake: FakeTwitch) -> None:
    ada, bob = fake.channel(), fake.channel()
    fake.go_live([ada, bob], speed=0)
    ada.fault("helix.streams", "absent", count=1)
    assert await live_logins(helix, ada.user_id, bob.user_id) == [bob.login]
    assert await live_logins(helix, ada.user_id, bob.user_id) == [ada.login, bob.login]
    fake.fault("helix.streams", "absent", count=1)
    assert await live_logins(helix, ada.user_id, bob.user_id) == []
    assert await live_logins(helix, ada.user_id, bob.user_id) == [ada.login, bob.login]


async def test_800_points_that_come_back_by_the_second(helix: Caller, fake: FakeTwitch) -> None:
    answer = await helix.ask("users", params={"id": "1"})
    assert (answer.headers["ratelimit-limit"], answer.headers["ratelimit-remaining"]) == (
        "800",
        "799",
    )
    # So slowly that nothing comes back during the test.
    fake.set_knobs(full_after_s=6000)
    fake.drain(1, app=helix.app)
    assert (await helix.ask("users", params={"id": "1"})).status_code == 200
    refused = await helix.ask("users", params={"id": "1"})
    assert refused.status_code == 429
    assert refused.json() == {"error": "Too Many Requests", "status": 429, "message": ""}
    assert refused.headers["ratelimit-remaining"] == "0"
    # An empty bucket is full after that long, told in whole seconds.
    assert 5990 < int(refused.headers["ratelimit-reset"]) - time.time() <= 6001


async def test_the_bucket_fills_again(helix: Caller, fake: FakeTwitch) -> None:
    with fake.knobs(points_per_min=10, full_after_s=0.5):
        for _ in range(10):
            await helix.ask("users", params={"id": "1"})
        answer = await helix.ask("users", params={"id": "1"})
        reset = int(answer.headers["ratelimit-reset"])
        await asyncio.sleep(max(0, reset - time.time()))
        assert (await helix.ask("users", params={"id": "1"})).status_code == 200


async def test_users_and_applications_have_buckets_of_their_own(
    helix: Caller, fake: FakeTwitch
) -> None:
    token = fake.sign_in("ada", app=helix.app).access_token
    fake.drain(app=helix.app)
    assert (await helix.ask("users", params={"id": "1"})).status_code == 429
    assert (await helix.ask("users", token=token)).status_code == 200
    fake.drain(login="ada", app=helix.app)
    assert (await helix.ask("users", token=token)).status_code == 429


async def test_twitchs_clock_can_be_off(helix: Caller, fake: FakeTwitch) -> None:
    with fake.knobs(date_skew_s=300):
        answer = await helix.ask("users", params={"id": "1"})
    told = parsedate_to_datetime(answer.headers["date"]).timestamp()
    assert 298 < told - time.time() < 302
    assert len(answer.headers.get_list("date")) == 1
    assert int(answer.headers["ratelimit-reset"]) - told < 3


async def test_follows_are_for_the_user_alone(helix: Caller, fake: FakeTwitch) -> None:
    channels = fake.channels(3, prefix="followed")
    fake.follow("fan", channels)
    fake.go_live([c for c in channels if c.summary()["stream_id"] is None], speed=0)
    fan = fake.sign_in("fan", app=helix.app)
    mine = {"user_id": fan.user_id}
    answer = await helix.ask("channels/followed", token=fan.access_token, params=mine)
    assert answer.json()["total"] == 3
    found = {row["broadcaster_login"] for row in answer.json()["data"]}
    assert found == {channel.login for channel in channels}
    live = await helix.ask("streams/followed", token=fan.access_token, params=mine)
    assert {row["user_login"] for row in live.json()["data"]} == found
    other = {"user_id": channels[0].user_id}
    for token, params in ((fan.access_token, other), (helix.token, mine)):
        answer = await helix.ask("channels/followed", token=token, params=params)
        assert answer.status_code == 401
    without = fake.sign_in("fan", scopes=(), app=helix.app).access_token
    answer = await helix.ask("channels/followed", token=without, params=mine)
    assert answer.json()["message"] == "Missing scope: user:read:follows"


async def test_a_stream_becomes_a_video(helix: Caller, fake: FakeTwitch) -> None:
    channel = fake.channel(title="First")
    first = channel.online(speed=0)
    channel.offline()
    channel.change(title="Second")
    second = channel.online(speed=0)
    params = {"user_id": channel.user_id, "type": "archive"}
    found = (await helix.ask("videos", params=params)).json()["data"]
    assert [(video["stream_id"], video["title"]) for video in found] == [
        (second, "Second"),
        (first, "First"),
    ]
    by_id = await helix.ask("videos", params={"id": found[1]["id"]})
    assert by_id.json()["data"][0]["stream_id"] == first


async def test_pictures_are_pictures(helix: Caller, fake: FakeTwitch) -> None:
    channel = fake.channel()
    with fake.knobs(images_url=fake.plain):
        user = (await helix.ask("users", params={"login": channel.login})).json()["data"][0]
    answer = await helix.client.get(user["profile_image_url"])
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")


async def test_a_thousand_channels_and_fifty_of_them_live_within_a_second(
    helix: Caller, fake: FakeTwitch
) -> None:
    channels = fake.channels(1000, prefix="crowd")
    started = await asyncio.to_thread(fake.go_live, channels[:50], over_s=1, speed=0)
    assert len({one.stream_id for one in started}) == 50
    assert started[-1].at - started[0].at < 1.5
    of_them = [("user_id", one.user_id) for one in started]
    live = await helix.ask("streams", params=[("first", "100"), *of_them])
    assert {row["id"] for row in live.json()["data"]} == {one.stream_id for one in started}


async def live_logins(helix: Caller, *user_ids: str) -> list[str]:
    params = [("user_id", user_id) for user_id in user_ids]
    answer = await helix.ask("streams", params=params)
    return [stream["user_login"] for stream in answer.json()["data"]]


async def all_pages(
    helix: Caller, path: str, params: list[tuple[str, str]]
) -> list[list[dict[str, str]]]:
    pages, cursor = [], ""
    while True:
        after = [("after", cursor)] if cursor else []
        answer: httpx.Response = await helix.ask(path, params=[*params, *after])
        pages.append(answer.json()["data"])
        cursor = answer.json()["pagination"].get("cursor", "")
        if not cursor:
            return pages


async def test_applications_do_not_share_points(helix: Caller, fake: FakeTwitch) -> None:
    other: Application = fake.application()
    fake.drain(app=other)
    assert (await helix.ask("users", params={"id": "1"})).status_code == 200
