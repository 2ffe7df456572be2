from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from streamvault.errors import RateLimited, TwitchRefused, TwitchUnavailable
from streamvault.twitch.tokens import APP, USER, StoredToken
from streamvault.twitch.words import (
    Channel,
    Conduit,
    EventSubscription,
    Followed,
    Game,
    LiveStream,
    Shard,
    ShardError,
    User,
    Video,
)
from tests.streamvault.twitch.twitch_api import Api, Twitch, api, said


@pytest.fixture
def twitch() -> Twitch:
    return Twitch()


@pytest.fixture
async def our(twitch: Twitch) -> AsyncIterator[Api]:
    async with api(twitch) as made:
        made.store.kept[APP] = StoredToken("the-app-token")
        made.store.kept[USER] = StoredToken("the-user-token")
        yield made


# The bodies are the examples of Twitch's reference, shortened.
USER_BODY = {
    "id": "141981764",
    "login": "twitchdev",
    "display_name": "TwitchDev",
    "type": "",
    "broadcaster_type": "partner",
    "description": "Supporting third-party developers.",
    "profile_image_url": "https://static-cdn.jtvnw.net/jtv_user_pictures/8a6381c7.png",
    "view_count": 5980557,
    "created_at": "2016-12-14T20:32:28Z",
}
STREAM_BODY = {
    "id": "123456789",
    "user_id": "98765",
    "user_login": "sandysanderman",
    "user_name": "SandySanderman",
    "game_id": "494131",
    "game_name": "Little Nightmares",
    "type": "live",
    "title": "hablamos y le damos a Little Nightmares 1",
    "tags": ["Español"],
    "viewer_count": 78365,
    "started_at": "2021-03-10T15:04:21Z",
    "language": "es",
    "thumbnail_url": "https://static-cdn.jtvnw.net/live-{width}x{height}.jpg",
    "tag_ids": [],
    "is_mature": False,
}


async def test_users_are_read_as_twitch_says_them(twitch: Twitch, our: Api) -> None:
    twitch.answers["GET /users"] = {"data": [USER_BODY]}
    assert await our.helix.users(ids=["141981764"]) == [
        User(
            id="141981764",
            login="twitchdev",
            name="TwitchDev",
            avatar_url="https://static-cdn.jtvnw.net/jtv_user_pictures/8a6381c7.png",
            description="Supporting third-party developers.",
        )
    ]
    call = twitch.calls[-1]
    assert call.headers["authorization"] == "Bearer the-app-token"
    assert call.headers["client-id"] == "a-client-id-of-a-test"


async def test_streams_are_read_as_twitch_says_them(twitch: Twitch, our: Api) -> None:
    twitch.answers["GET /streams"] = {"data": [STREAM_BODY], "pagination": {"cursor": ""}}
    assert await our.helix.streams(["98765"]) == [
        LiveStream(
            id="123456789",
            user_id="98765",
            user_login="sandysanderman",
            user_name="SandySanderman",
            title="hablamos y le damos a Little Nightmares 1",
            category_id="494131",
            category="Little Nightmares",
            started_at=datetime(2021, 3, 10, 15, 4, 21, tzinfo=UTC),
            kind="live",
            viewers=78365,
        )
    ]


async def test_channels_games_and_videos_are_read_as_twitch_says_them(
    twitch: Twitch, our: Api
) -> None:
    twitch.answers["GET /channels"] = {
        "data": [
            {
                "broadcaster_id": "141981764",
                "broadcaster_login": "twitchdev",
                "broadcaster_name": "TwitchDev",
                "broadcaster_language": "en",
                "game_id": "509670",
                "game_name": "Science & Technology",
                "title": "TwitchDev Monthly Update",
                "delay": 0,
                "tags": ["DevsInTheKnow"],
            }
        ]
    }
    twitch.answers["GET /games"] = {
        "data": [
            {
                "id": "33214",
                "name": "Fortnite",
                "box_art_url": "https://cdn.test/33214-{width}x{height}.jpg",
                "igdb_id": "1905",
            }
        ]
    }
    video = {
        "id": "335921245",
        "stream_id": None,
        "user_id": "141981764",
        "title": "Twitch Developers 101",
        "created_at": "2018-11-14T21:30:18Z",
        "url": "https://www.twitch.tv/videos/335921245",
        "type": "archive",
        "duration": "3m21s",
        "muted_segments": [{"duration": 30, "offset": 120}],
    }
    twitch.answers["GET /videos"] = {
        "data": [video, {**video, "id": "2", "stream_id": "9", "duration": "3h8m33s"}],
        "pagination": {},
    }
    assert await our.helix.channels(["141981764"]) == [
        Channel(
            "141981764",
            "twitchdev",
            "TwitchDev",
            "TwitchDev Monthly Update",
            "509670",
            "Science & Technology",
        )
    ]
    assert await our.helix.games(["33214"]) == [
        Game("33214", "Fortnite", "https://cdn.test/33214-{width}x{height}.jpg")
    ]
    first, second = await our.helix.videos("141981764")
    assert first == Video(
        "335921245",
        "",
        "141981764",
        "Twitch Developers 101",
        datetime(2018, 11, 14, 21, 30, 18, tzinfo=UTC),
        "https://www.twitch.tv/videos/335921245",
        timedelta(minutes=3, seconds=21),
    )
    assert (second.stream_id, second.duration) == ("9", timedelta(hours=3, minutes=8, seconds=33))
    assert dict(twitch.calls[-1].url.params) == {
        "user_id": "141981764",
        "type": "archive",
        "first": "100",
    }


async def test_a_hundred_go_into_one_call_as_repeated_parameters(twitch: Twitch, our: Api) -> None:
    def echo(request: httpx.Request) -> dict[str, Any]:
        ids = request.url.params.get_list("id")
        logins = request.url.params.get_list("login")
        return {"data": [{"id": i, "login": i} for i in ids + logins]}

    twitch.answers["GET /users"] = echo
    ids = [str(n) for n in range(250)]
    found = await our.helix.users(ids=[*ids, *ids], logins=["Alice", "alice", "Bob"])
    assert [user.id for user in found] == [*ids, "alice", "bob"]
    sizes = [len(call.url.params.multi_items()) for call in twitch.calls]
    assert sizes == [100, 100, 52]


async def test_nothing_asked_is_nothing_called(twitch: Twitch, our: Api) -> None:
    assert await our.helix.users() == []
    assert await our.helix.streams([]) == []
    assert twitch.calls == []


async def test_streams_come_once_although_pages_overlap(twitch: Twitch, our: Api) -> None:
    """The next page begins with the last stream of this one, as Twitch warns it may."""
    everybody = [{**STREAM_BODY, "id": f"s{n}", "user_id": str(n)} for n in range(10)]

    def pages(request: httpx.Request) -> dict[str, Any]:
        assert request.url.params["first"] == "100"
        assert len(request.url.params.get_list("user_id")) == 10
        start = int(request.url.params.get("after", "0"))
        more = {"cursor": str(start + 3)} if start + 4 < 10 else {}
        return {"data": everybody[start : start + 4], "pagination": more}

    twitch.answers["GET /streams"] = pages
    found = await our.helix.streams([str(n) for n in range(10)])
    assert [stream.id for stream in found] == [f"s{n}" for n in range(10)]
    assert twitch.count("/streams") == 3


async def test_a_cursor_after_the_last_page_does_not_keep_it_asking(
    twitch: Twitch, our: Api
) -> None:
    def pages(request: httpx.Request) -> dict[str, Any]:
        data = [] if "after" in request.url.params else [STREAM_BODY]
        return {"data": data, "pagination": {"cursor": "next"}}

    twitch.answers["GET /streams"] = pages
    assert len(await our.helix.streams(["98765"])) == 1
    assert twitch.count("/streams") == 2


async def test_a_list_of_subscriptions_without_an_end_is_no_list(twitch: Twitch, our: Api) -> None:
    """Half a list would make the other half look as if nobody had subscribed."""
    twitch.answers["GET /eventsub/subscriptions"] = {
        "data": [],
        "total": 0,
        "pagination": {"cursor": "again"},
    }
    with pytest.raises(TwitchUnavailable):
        await our.helix.subscriptions()
    assert twitch.count("/eventsub/subscriptions") == 2


async def test_follows_are_asked_for_with_the_users_token(twitch: Twitch, our: Api) -> None:
    twitch.answers["GET /channels/followed"] = {
        "total": 1,
        "data": [
            {
                "broadcaster_id": "11111",
                "broadcaster_login": "userloginname",
                "broadcaster_name": "UserDisplayName",
                "followed_at": "2022-05-24T22:22:08Z",
            }
        ],
        "pagination": {},
    }
    assert await our.helix.followed("123456") == [
        Followed(
            "11111",
            "userloginname",
            "UserDisplayName",
            datetime(2022, 5, 24, 22, 22, 8, tzinfo=UTC),
        )
    ]
    assert twitch.calls[-1].headers["authorization"] == "Bearer the-user-token"


SUBSCRIPTION = {
    "id": "26b1c993-bfcf-44d9-b876-379dacafe75a",
    "status": "enabled",
    "type": "stream.online",
    "version": "1",
    "condition": {"broadcaster_user_id": "1234"},
    "created_at": "2020-11-10T20:08:33.12345678Z",
    "transport": {"method": "webhook", "callback": "https://this-is-a-callback.com"},
    "cost": 1,
}


async def test_subscriptions_of_all_pages_come_with_the_sums(twitch: Twitch, our: Api) -> None:
    by_socket = {
        **SUBSCRIPTION,
        "id": "2",
        "status": "a word of next year",
        "transport": {
            "method": "websocket",
            "session_id": "AQoQexAWVYKSTIu4ec_2VAxyuhAB",
            "connected_at": "2020-11-10T14:32:18.730260295Z",
        },
        "cost": 0,
    }
    sums = {"total": 2, "total_cost": 1, "max_total_cost": 10_000}

    def pages(request: httpx.Request) -> dict[str, Any]:
        if request.url.params.get("after") == "page-2":
            return {"data": [by_socket], "pagination": {}, **sums}
        return {"data": [SUBSCRIPTION], "pagination": {"cursor": "page-2"}, **sums}

    twitch.answers["GET /eventsub/subscriptions"] = pages
    found = await our.helix.subscriptions(type="stream.online")
    assert (found.total, found.total_cost, found.max_total_cost) == (2, 1, 10_000)
    first, second = found.items
    assert first == EventSubscription(
        id="26b1c993-bfcf-44d9-b876-379dacafe75a",
        type="stream.online",
        version="1",
        status="enabled",
        condition={"broadcaster_user_id": "1234"},
        method="webhook",
        callback="https://this-is-a-callback.com",
        cost=1,
        created_at=datetime(2020, 11, 10, 20, 8, 33, 123457, tzinfo=UTC),
    )
    assert (second.method, second.session_id) == ("websocket", "AQoQexAWVYKSTIu4ec_2VAxyuhAB")
    assert second.status == "a word of next year"
    assert twitch.calls[0].url.params["type"] == "stream.online"


async def test_a_subscription_is_made_with_the_token_that_its_transport_needs(
    twitch: Twitch, our: Api
) -> None:
    answer = {"data": [SUBSCRIPTION], "total": 1, "total_cost": 1, "max_total_cost": 10_000}
    twitch.answers["POST /eventsub/subscriptions"] = httpx.Response(202, json=answer)
    condition = {"broadcaster_user_id": "1234"}
    for user, token in ((False, "the-app-token"), (True, "the-user-token")):
        made = await our.helix.create_subscription(
            "stream.online", "1", condition, {"method": "websocket", "session_id": "s"}, user=user
        )
        assert made.items[0].id == SUBSCRIPTION["id"]
        assert made.max_total_cost == 10_000
        assert twitch.calls[-1].headers["authorization"] == f"Bearer {token}"


@pytest.mark.parametrize(
    "message",
    [
        "maximum subscriptions with type and condition exceeded",
        "number of websocket transports limit exceeded",
        "subscription would exceed the total cost",
        "You have reached the limit of conduits",
    ],
)
async def test_a_429_about_the_limits_of_subscriptions_leaves_the_bucket_awake(
    twitch: Twitch, our: Api, message: str
) -> None:
    twitch.answers["POST /eventsub/subscriptions"] = said(429, message)
    twitch.answers["GET /users"] = {"data": []}
    with pytest.raises(TwitchRefused, match=message) as refusal:
        await our.helix.create_subscription("stream.online", "1", {}, {"method": "webhook"})
    assert refusal.value.status == 429
    assert await our.helix.users(ids=["1"]) == []


async def test_a_429_about_an_empty_bucket_is_that_also_for_a_subscription(
    twitch: Twitch, our: Api
) -> None:
    twitch.answers["POST /eventsub/subscriptions"] = said(429, "Too Many Requests")
    with pytest.raises(RateLimited):
        await our.helix.create_subscription("stream.online", "1", {}, {"method": "webhook"})
    with pytest.raises(RateLimited):
        await our.helix.users(ids=["1"])
    assert len(twitch.calls) == 1


async def test_a_duplicate_is_told_by_its_status(twitch: Twitch, our: Api) -> None:
    twitch.answers["POST /eventsub/subscriptions"] = said(409, "subscription already exists")
    with pytest.raises(TwitchRefused) as refusal:
        await our.helix.create_subscription("stream.online", "1", {}, {"method": "webhook"})
    assert refusal.value.status == 409


async def test_what_is_gone_was_not_deleted(twitch: Twitch, our: Api) -> None:
    twitch.answers["DELETE /eventsub/subscriptions"] = httpx.Response(204)
    assert await our.helix.delete_subscription("1")
    del twitch.answers["DELETE /eventsub/subscriptions"]
    assert not await our.helix.delete_subscription("1")
    assert not await our.helix.delete_conduit("1")
    assert await our.helix.update_conduit("1", 2) is None


async def test_conduits_and_their_shards_are_read_as_twitch_says_them(
    twitch: Twitch, our: Api
) -> None:
    conduit = {"id": "bfcfc993-26b1-b876-44d9-afe75a379dac", "shard_count": 1}
    twitch.answers["GET /eventsub/conduits"] = {"data": [conduit]}
    twitch.answers["POST /eventsub/conduits"] = {"data": [conduit]}
    twitch.answers["PATCH /eventsub/conduits"] = {"data": [{**conduit, "shard_count": 2}]}
    shards = [
        {
            "id": "0",
            "status": "enabled",
            "transport": {"method": "webhook", "callback": "https://some-callback.com"},
        },
        {
            "id": "1",
            "status": "websocket_disconnected",
            "transport": {"method": "websocket", "session_id": "ad1c9fc3", "disconnected_at": ""},
        },
    ]
    twitch.answers["GET /eventsub/conduits/shards"] = {"data": shards, "pagination": {}}
    expected = Conduit("bfcfc993-26b1-b876-44d9-afe75a379dac", 1)
    assert await our.helix.conduits() == [expected]
    assert await our.helix.create_conduit(1) == expected
    assert await our.helix.update_conduit(expected.id, 2) == Conduit(expected.id, 2)
    assert await our.helix.shards(expected.id) == [
        Shard("0", "enabled", "webhook", callback="https://some-callback.com"),
        Shard("1", "websocket_disconnected", "websocket", session_id="ad1c9fc3"),
    ]


async def test_an_accepted_assignment_may_still_hold_failures(twitch: Twitch, our: Api) -> None:
    failed = {
        "id": "3",
        "message": "The shard id is outside the conduit's range",
        "code": "invalid_parameter",
    }
    body = {"data": [], "errors": [failed]}
    twitch.answers["PATCH /eventsub/conduits/shards"] = httpx.Response(202, json=body)
    assert await our.helix.assign_shard("c", "3", "session") == [
        ShardError("3", "The shard id is outside the conduit's range", "invalid_parameter")
    ]
