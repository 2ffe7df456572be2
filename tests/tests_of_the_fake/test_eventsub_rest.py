"""Subscriptions over REST: tokens, transports, costs and limits."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import websockets

from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.tests_of_the_fake.conftest import Caller

NOWHERE = {"method": "webhook", "callback": "http://127.0.0.1:9/eventsub", "secret": "0123456789"}


@contextlib.asynccontextmanager
async def session(fake: FakeTwitch) -> AsyncIterator[dict[str, str]]:
    """The transport of a socket that is open meanwhile."""
    url = fake.env["STREAMVAULT_TWITCH_EVENTSUB_WS_URL"]
    async with websockets.connect(url, proxy=None) as socket:
        welcome = json.loads(await socket.recv())
        yield {"method": "websocket", "session_id": welcome["payload"]["session"]["id"]}


def elsewhere(place: object) -> dict[str, str]:
    return {**NOWHERE, "callback": f"{NOWHERE['callback']}/{place}"}


def costs(answer: httpx.Response) -> tuple[int, int, int]:
    body: dict[str, Any] = answer.json()
    return body["total"], body["total_cost"], body["max_total_cost"]


async def test_what_a_new_subscription_looks_like(helix: Caller, fake: FakeTwitch) -> None:
    channel = fake.channel()
    answer = await helix.subscribe("stream.online", channel, NOWHERE)
    assert answer.status_code == 202
    made = answer.json()["data"][0]
    assert made["status"] == "webhook_callback_verification_pending"
    assert made["condition"] == {"broadcaster_user_id": channel.user_id}
    assert made["transport"] == {"method": "webhook", "callback": NOWHERE["callback"]}
    assert (made["type"], made["version"], made["cost"]) == ("stream.online", "1", 1)
    assert costs(answer) == (1, 1, 10_000)


async def test_each_transport_wants_its_kind_of_token(helix: Caller, fake: FakeTwitch) -> None:
    channel = fake.channel()
    user = fake.sign_in("ada", app=helix.app).access_token
    refused = await helix.subscribe("stream.online", channel, NOWHERE, token=user)
    assert refused.json()["message"] == "invalid transport and auth combination"
    async with session(fake) as transport:
        refused = await helix.subscribe("stream.online", channel, transport)
        assert (refused.status_code, refused.json()["error"]) == (400, "Bad Request")
        made = await helix.subscribe("stream.online", channel, transport, token=user)
        assert (made.status_code, costs(made)) == (202, (1, 1, 10))
        assert made.json()["data"][0]["status"] == "enabled"


@pytest.mark.parametrize(
    "change",
    [
        {"type": "stream.sideways"},
        {"version": "9"},
        {"condition": {"broadcaster_user_id": "1"}},
        {"condition": {}},
        {"transport": {"method": "webhook", "callback": "nonsense", "secret": "0123456789"}},
        {"transport": {**NOWHERE, "secret": "short"}},
        {"transport": {**NOWHERE, "secret": "ä" * 20}},
        {"transport": {"method": "conduit", "conduit_id": "none"}},
    ],
)
async def test_nonsense_is_refused(
    helix: Caller, fake: FakeTwitch, change: dict[str, object]
) -> None:
    body = {
        "type": "stream.online",
        "version": "1",
        "condition": {"broadcaster_user_id": fake.channel().user_id},
        "transport": NOWHERE,
        **change,
    }
    answer = await helix.ask("eventsub/subscriptions", "POST", json=body)
    assert (answer.status_code, answer.json()["status"]) == (400, 400)
    assert fake.subscriptions(app=helix.app) == []


async def test_callbacks_can_have_to_be_https(helix: Caller, fake: FakeTwitch) -> None:
    fake.set_knobs(https_only=True)
    assert (await helix.subscribe("stream.online", fake.channel(), NOWHERE)).status_code == 400
    secure = {**NOWHERE, "callback": "https://streams.invalid/eventsub"}
    assert (await helix.subscribe("stream.online", fake.channel(), secure)).status_code == 202


async def test_the_same_twice_is_a_conflict(helix: Caller, fake: FakeTwitch) -> None:
    fake.set_knobs(verify_after_s=60)
    channel = fake.channel()
    assert (await helix.subscribe("stream.online", channel, NOWHERE)).status_code == 202
    again = await helix.subscribe("stream.online", channel, NOWHERE)
    assert again.json() == {
        "error": "Conflict",
        "status": 409,
        "message": "subscription already exists",
    }
    assert (await helix.subscribe("stream.offline", channel, NOWHERE)).status_code == 202
    assert (await helix.subscribe("stream.online", fake.channel(), NOWHERE)).status_code == 202


async def test_three_of_a_kind_are_the_most(helix: Caller, fake: FakeTwitch) -> None:
    fake.set_knobs(verify_after_s=60)
    channel = fake.channel()
    for place in range(3):
        made = await helix.subscribe("stream.online", channel, elsewhere(place))
        assert made.status_code == 202
    refused = await helix.subscribe("stream.online", channel, elsewhere(3))
    assert refused.status_code == 429
    message = "maximum subscriptions with type and condition exceeded"
    assert refused.json()["message"] == message


async def test_the_budget_ends(helix: Caller, fake: FakeTwitch) -> None:
    fake.set_knobs(webhook_cost=2, verify_after_s=60)
    channel = fake.channel()
    for kind in ("stream.online", "stream.offline"):
        assert (await helix.subscribe(kind, channel, NOWHERE)).status_code == 202
    refused = await helix.subscribe("channel.update", channel, NOWHERE)
    assert (refused.status_code, refused.json()["error"]) == (429, "Too Many Requests")
    # Whoever authorised the application costs nothing.
    channel.authorise(helix.app)
    free = await helix.subscribe("channel.update", channel, NOWHERE)
    assert (free.json()["data"][0]["cost"], costs(free)) == (0, (3, 0, 2))


async def test_a_user_pays_ten_for_all_sockets(helix: Caller, fake: FakeTwitch) -> None:
    token = fake.sign_in("ada", app=helix.app).access_token
    channels = [fake.channel() for _ in range(11)]
    async with session(fake) as transport:
        for channel in channels[:10]:
            made = await helix.subscribe("stream.online", channel, transport, token=token)
        assert costs(made) == (10, 10, 10)
        over = await helix.subscribe("stream.online", channels[10], transport, token=token)
        assert over.status_code == 429
        fake.authorise("ada", app=helix.app)
        ada = fake.channel("ada")
        own = await helix.subscribe("stream.online", ada, transport, token=token)
        assert (own.status_code, own.json()["data"][0]["cost"]) == (202, 0)
        bob = fake.sign_in("bob", app=helix.app).access_token
        mixed = await helix.subscribe("stream.online", channels[10], transport, token=bob)
        assert mixed.status_code == 400
    async with session(fake) as transport:
        other = await helix.subscribe("stream.online", channels[10], transport, token=bob)
        assert costs(other) == (1, 1, 10)


async def test_a_user_has_three_sockets(helix: Caller, fake: FakeTwitch) -> None:
    token = fake.sign_in("ada", app=helix.app).access_token
    async with contextlib.AsyncExitStack() as stack:
        transports = [await stack.enter_async_context(session(fake)) for _ in range(4)]
        statuses = []
        for transport in transports:
            made = await helix.subscribe("stream.online", fake.channel(), transport, token=token)
            statuses.append(made.status_code)
        assert statuses == [202, 202, 202, 429]
        message = "number of websocket transports limit exceeded"
        assert made.json()["message"] == message


async def test_a_socket_holds_so_many_subscriptions(helix: Caller, fake: FakeTwitch) -> None:
    fake.set_knobs(subscriptions_per_socket=2)
    token = fake.sign_in("ada", app=helix.app).access_token
    async with session(fake) as transport:
        channel = fake.channel()
        statuses = [
            (await helix.subscribe(kind, channel, transport, token=token)).status_code
            for kind in ("stream.online", "stream.offline", "channel.update")
        ]
    assert statuses == [202, 202, 429]


async def test_a_session_that_is_not_there(helix: Caller, fake: FakeTwitch) -> None:
    token = fake.sign_in("ada", app=helix.app).access_token
    gone = {"method": "websocket", "session_id": "gone"}
    refused = await helix.subscribe("stream.online", fake.channel(), gone, token=token)
    assert refused.status_code == 400
    assert "does not exist" in refused.json()["message"]


async def test_the_list_comes_in_pages_oldest_first(helix: Caller, fake: FakeTwitch) -> None:
    fake.set_knobs(page_size=2, verify_after_s=60)
    channels = [fake.channel() for _ in range(5)]
    made = [await helix.subscribe("stream.online", c, NOWHERE) for c in channels]
    found, cursor = [], ""
    while True:
        params = {"after": cursor} if cursor else {}
        answer = await helix.ask("eventsub/subscriptions", params=params)
        assert costs(answer) == (5, 5, 10_000)
        found += [row["id"] for row in answer.json()["data"]]
        cursor = answer.json()["pagination"].get("cursor", "")
        if not cursor:
            break
    assert found == [answer.json()["data"][0]["id"] for answer in made]


async def test_one_filter_at_a_time(helix: Caller, fake: FakeTwitch) -> None:
    fake.set_knobs(verify_after_s=60)
    ada, bob = fake.channel(), fake.channel()
    first = (await helix.subscribe("stream.online", ada, NOWHERE)).json()["data"][0]["id"]
    second = (await helix.subscribe("stream.offline", bob, NOWHERE)).json()["data"][0]["id"]

    async def listed(**params: str) -> list[str]:
        answer = await helix.ask("eventsub/subscriptions", params=params)
        return [row["id"] for row in answer.json()["data"]]

    assert await listed(type="stream.online") == [first]
    assert await listed(user_id=bob.user_id) == [second]
    assert await listed(subscription_id=first) == [first]
    assert await listed(status="enabled") == []
    both = await helix.ask("eventsub/subscriptions", params={"type": "x", "status": "enabled"})
    assert both.status_code == 400


async def test_user_tokens_list_sockets_and_app_tokens_the_rest(
    helix: Caller, fake: FakeTwitch
) -> None:
    token, channel = fake.sign_in("ada", app=helix.app).access_token, fake.channel()
    await helix.subscribe("stream.online", channel, NOWHERE)
    async with session(fake) as transport:
        await helix.subscribe("stream.online", channel, transport, token=token)
        for asker, method in ((token, "websocket"), (helix.token, "webhook")):
            rows = (await helix.ask("eventsub/subscriptions", token=asker)).json()["data"]
            assert [row["transport"]["method"] for row in rows] == [method]


async def test_what_is_deleted_is_gone(helix: Caller, fake: FakeTwitch) -> None:
    made = await helix.subscribe("stream.online", fake.channel(), NOWHERE)
    params = {"id": made.json()["data"][0]["id"]}
    foreign = Caller(fake, fake.application(), helix.client)
    foreign.token = await foreign.app_token()
    assert (await foreign.ask("eventsub/subscriptions", "DELETE", params=params)).status_code == 404
    assert (await helix.ask("eventsub/subscriptions", "DELETE", params=params)).status_code == 204
    assert (await helix.ask("eventsub/subscriptions", "DELETE", params=params)).status_code == 404
    assert (await helix.ask("eventsub/subscriptions", "DELETE")).status_code == 400


async def test_subscriptions_of_a_closed_socket_can_count_a_while(
    helix: Caller, fake: FakeTwitch
) -> None:
    fake.set_knobs(lingering_cost_s=60)
    token = fake.sign_in("ada", app=helix.app).access_token
    channels: list[FakeChannel] = [fake.channel() for _ in range(6)]
    async with session(fake) as transport:
        for channel in channels:
            await helix.subscribe("stream.online", channel, transport, token=token)
    async with session(fake) as transport:
        statuses = [
            (await helix.subscribe("stream.online", c, transport, token=token)).status_code
            for c in channels
        ]
    assert statuses == [202] * 4 + [429] * 2
