"""The fields of Twitch's bodies, by the types that the package twitchAPI declares for them.

What it does not declare comes from Twitch's reference: tokens, conduits and socket messages.
"""

from __future__ import annotations

import re
import typing
from datetime import datetime
from typing import Any

import pytest
from twitchAPI.object import api, eventsub
from twitchAPI.object.base import TwitchObject

from tests.fake_twitch.client import FakeTwitch
from tests.tests_of_the_fake.conftest import Caller, Hook, enable
from tests.tests_of_the_fake.test_eventsub_sockets import dial

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{9})?Z")
PRIVATE = {"email"}
"""Given only with a scope that nobody here asks for."""


def fits(value: Any, declared: Any) -> bool:
    origin = typing.get_origin(declared)
    if declared is datetime:
        return isinstance(value, str) and INSTANT.fullmatch(value) is not None
    if origin is list:
        return value is None or all(fits(each, typing.get_args(declared)[0]) for each in value)
    if origin is dict or declared is dict:
        return isinstance(value, dict)
    if isinstance(declared, type) and issubclass(declared, TwitchObject):
        return mismatches(value, declared) == []
    if declared in (str, int, bool):
        return type(value) is declared
    return isinstance(value, str)


def mismatches(body: dict[str, Any], shape: type[TwitchObject]) -> list[str]:
    """Fields that are missing, of another type, or unknown."""
    declared = typing.get_type_hints(shape)
    wrong = [name for name in declared if name not in body and name not in PRIVATE]
    wrong += [name for name in body if name not in declared]
    return wrong + [n for n, kind in declared.items() if n in body and not fits(body[n], kind)]


@pytest.mark.parametrize(
    ("path", "name", "shape"),
    [
        ("users", "id", api.TwitchUser),
        ("streams", "user_id", api.Stream),
        ("channels", "broadcaster_id", api.ChannelInformation),
        ("videos", "user_id", api.Video),
    ],
)
async def test_bodies_of_helix(
    helix: Caller, fake: FakeTwitch, path: str, name: str, shape: type[TwitchObject]
) -> None:
    channel = fake.channel(tags=["one"], title="Hello")
    channel.online(speed=0)
    (row,) = (await helix.ask(path, params={name: channel.user_id})).json()["data"]
    assert mismatches(row, shape) == []


async def test_bodies_of_games_and_follows(helix: Caller, fake: FakeTwitch) -> None:
    channel = fake.channel(category="Chess", category_id="743")
    (game,) = (await helix.ask("games", params={"id": "743"})).json()["data"]
    assert mismatches(game, api.Game) == []
    fan = fake.sign_in("admirer", app=helix.app)
    fake.follow("admirer", [channel])
    answer = await helix.ask(
        "channels/followed",
        token=fan.access_token,
        params={"user_id": fan.user_id, "broadcaster_id": channel.user_id},
    )
    (row,) = answer.json()["data"]
    assert mismatches(row, api.FollowedChannel) == []
    assert set(answer.json()) == {"total", "data", "pagination"}


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("stream.online", eventsub.StreamOnlineData),
        ("stream.offline", eventsub.StreamOfflineData),
        ("channel.update", eventsub.ChannelUpdateData),
    ],
)
async def test_bodies_of_events(
    helix: Caller, fake: FakeTwitch, hook: Hook, kind: str, shape: type[TwitchObject]
) -> None:
    channel = fake.channel()
    await enable(helix, hook, kind, channel)
    channel.online(speed=0)
    channel.change(title="New")
    channel.offline()
    body = (await hook.next()).json
    assert set(body) == {"subscription", "event"}
    assert mismatches(body["event"], shape) == []
    assert mismatches(body["subscription"], eventsub.Subscription) == []
    listed = (await helix.ask("eventsub/subscriptions")).json()
    assert set(listed) == {"data", "total", "total_cost", "max_total_cost", "pagination"}
    assert mismatches(listed["data"][0], api.EventSubSubscription) == []


async def test_bodies_of_conduits(helix: Caller, fake: FakeTwitch) -> None:
    made = (await helix.ask("eventsub/conduits", "POST", json={"shard_count": 2})).json()
    (conduit,) = made["data"]
    assert {name: type(value) for name, value in conduit.items()} == {"id": str, "shard_count": int}
    line = await dial(fake)
    shards = [{"id": "0", "transport": line.transport}, {"id": "9", "transport": line.transport}]
    body = {"conduit_id": conduit["id"], "shards": shards}
    answer = (await helix.ask("eventsub/conduits/shards", "PATCH", json=body)).json()
    assert set(answer["data"][0]) == {"id", "status", "transport"}
    transport = answer["data"][0]["transport"]
    assert set(transport) == {"method", "session_id", "connected_at"}
    assert set(answer["errors"][0]) == {"id", "message", "code"}
    listed = await helix.ask("eventsub/conduits/shards", params={"conduit_id": conduit["id"]})
    assert set(listed.json()) == {"data", "pagination"}
    await line.socket.close()


async def test_bodies_of_socket_messages(fake: FakeTwitch) -> None:
    line = await dial(fake)
    metadata = line.welcome["metadata"]
    assert set(metadata) == {"message_id", "message_type", "message_timestamp"}
    assert INSTANT.fullmatch(metadata["message_timestamp"])
    session = line.welcome["payload"]["session"]
    known = {"id", "status", "connected_at", "keepalive_timeout_seconds", "reconnect_url"}
    # And one that is not in the reference, as Twitch's own welcomes have.
    assert set(session) == known | {"recovery_url"}
    await line.socket.close()


async def test_bodies_of_tokens(helix: Caller, fake: FakeTwitch) -> None:
    user = fake.sign_in("ada", app=helix.app)
    validated = (await helix.validate(user.access_token)).json()
    assert set(validated) == {"client_id", "login", "scopes", "user_id", "expires_in"}
    renewed = await helix.id(
        "token",
        grant_type="refresh_token",
        refresh_token=user.refresh_token,
        client_secret=helix.app.client_secret,
    )
    fields = {"access_token", "refresh_token", "expires_in", "scope", "token_type"}
    assert set(renewed.json()) == fields
    assert renewed.json()["expires_in"] == 14_400
