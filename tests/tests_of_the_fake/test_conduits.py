"""Conduits: shards, their loss, and what comes through them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.tests_of_the_fake.conftest import Caller, Hook, status, until
from tests.tests_of_the_fake.test_eventsub_sockets import Line, dial

SHARDS = "eventsub/conduits/shards"


async def make(helix: Caller, shard_count: int = 1) -> str:
    answer = await helix.ask("eventsub/conduits", "POST", json={"shard_count": shard_count})
    assert answer.status_code == 200
    made = answer.json()["data"][0]
    assert made == {"id": made["id"], "shard_count": shard_count}
    return str(made["id"])


async def assign(
    helix: Caller, conduit_id: str, shards: dict[str, dict[str, str]]
) -> httpx.Response:
    listed = [{"id": shard_id, "transport": shards[shard_id]} for shard_id in shards]
    body = {"conduit_id": conduit_id, "shards": listed}
    return await helix.ask(SHARDS, "PATCH", json=body)


async def shard_statuses(helix: Caller, conduit_id: str, **params: str) -> dict[str, str]:
    answer = await helix.ask(SHARDS, params={"conduit_id": conduit_id, **params})
    return {shard["id"]: shard["status"] for shard in answer.json()["data"]}


async def listen(helix: Caller, channel: FakeChannel) -> tuple[str, Line, str]:
    """A conduit with one socket, and a subscription by it."""
    conduit_id, line = await make(helix), await dial(helix.fake)
    assigned = await assign(helix, conduit_id, {"0": line.transport})
    assert (assigned.status_code, assigned.json()["errors"]) == (202, [])
    transport = {"method": "conduit", "conduit_id": conduit_id}
    made = await helix.subscribe("stream.online", channel, transport)
    assert made.json()["data"][0]["status"] == "enabled"
    assert made.json()["max_total_cost"] == 10_000
    return conduit_id, line, str(made.json()["data"][0]["id"])


async def test_a_life_of_a_conduit(helix: Caller, fake: FakeTwitch) -> None:
    conduit_id = await make(helix, 3)
    assert len((await helix.ask("eventsub/conduits")).json()["data"]) == 1
    assert list(await shard_statuses(helix, conduit_id)) == ["0", "1", "2"]
    body = {"id": conduit_id, "shard_count": 2}
    shrunk = await helix.ask("eventsub/conduits", "PATCH", json=body)
    assert (shrunk.status_code, shrunk.json()["data"]) == (200, [body])
    assert list(await shard_statuses(helix, conduit_id)) == ["0", "1"]
    params = {"id": conduit_id}
    assert (await helix.ask("eventsub/conduits", "DELETE", params=params)).status_code == 204
    assert (await helix.ask("eventsub/conduits", "DELETE", params=params)).status_code == 404
    assert (await helix.ask("eventsub/conduits", "PATCH", json=body)).status_code == 404


async def test_what_is_not_allowed(helix: Caller, fake: FakeTwitch) -> None:
    for count in (0, 20_001, "one", None):
        answer = await helix.ask("eventsub/conduits", "POST", json={"shard_count": count})
        assert answer.status_code == 400
    for _ in range(5):
        await make(helix)
    sixth = await helix.ask("eventsub/conduits", "POST", json={"shard_count": 1})
    assert sixth.status_code == 429
    user = fake.sign_in("ada", app=helix.app).access_token
    assert (await helix.ask("eventsub/conduits", token=user)).status_code == 401
    foreign = Caller(fake, fake.application(), helix.client)
    foreign.token = await foreign.app_token()
    params = {"conduit_id": fake.conduits(app=helix.app)[0]["id"]}
    assert (await foreign.ask(SHARDS, params=params)).status_code == 404


async def test_events_come_through_a_socket(helix: Caller, fake: FakeTwitch) -> None:
    channel = fake.channel()
    conduit_id, line, _ = await listen(helix, channel)
    stream_id = channel.online(speed=0)
    message = await line.next()
    assert message["payload"]["event"]["id"] == stream_id
    transport = {"method": "conduit", "conduit_id": conduit_id}
    assert message["payload"]["subscription"]["transport"] == transport
    await line.socket.close()


async def test_being_a_shard_counts_as_used(helix: Caller, fake: FakeTwitch) -> None:
    fake.set_knobs(subscribe_within_s=0.5, keepalive_s=0.2)
    conduit_id, line = await make(helix), await dial(fake)
    await assign(helix, conduit_id, {"0": line.transport})
    for _ in range(4):
        assert (await line.next())["metadata"]["message_type"] == "session_keepalive"
    await line.socket.close()


async def test_a_202_can_hold_failures(helix: Caller, fake: FakeTwitch) -> None:
    conduit_id, line = await make(helix, 2), await dial(fake)
    gone = {"method": "websocket", "session_id": "gone"}
    shards = {"0": line.transport, "1": gone, "7": line.transport}
    answer = await assign(helix, conduit_id, shards)
    assert answer.status_code == 202
    assert [shard["id"] for shard in answer.json()["data"]] == ["0"]
    errors: list[dict[str, Any]] = answer.json()["errors"]
    assert [set(error) for error in errors] == [{"id", "message", "code"}] * 2
    assert [error["id"] for error in errors] == ["1", "7"]
    assert "range" in errors[1]["message"]
    assert await shard_statuses(helix, conduit_id, status="enabled") == {"0": "enabled"}
    await line.socket.close()


async def test_subscriptions_outlive_a_shard(helix: Caller, fake: FakeTwitch) -> None:
    channel = fake.channel()
    conduit_id, line, found = await listen(helix, channel)
    fake.cut_sockets(line.session_id)
    lost = {"0": "websocket_network_error"}
    await until(lambda: shards_of(fake, conduit_id) == lost, "lost")
    assert status(helix, found) == "enabled"
    channel.online(speed=0)
    line = await dial(fake)
    await assign(helix, conduit_id, {"0": line.transport})
    channel.announce("stream.online", id="later")
    # What happened while no shard was there is lost.
    assert (await line.next())["payload"]["event"]["id"] == "later"
    await line.socket.close()


async def test_another_shard_takes_over(helix: Caller, fake: FakeTwitch, hook: Hook) -> None:
    fake.set_knobs(redelivery_s=[])
    channel, conduit_id, line = fake.channel(), await make(helix, 2), await dial(fake)
    await assign(helix, conduit_id, {"0": line.transport, "1": hook.transport})
    assert (await hook.next()).kind == "webhook_callback_verification"
    up = {"0": "enabled", "1": "enabled"}
    await until(lambda: shards_of(fake, conduit_id) == up, "up")
    transport = {"method": "conduit", "conduit_id": conduit_id}
    await helix.subscribe("stream.online", channel, transport)
    hook.answers = [500] * 30
    # Which of the two gets a message is chance, until the webhook has failed.
    sent = 0
    while shards_of(fake, conduit_id)["1"] == "enabled":
        channel.announce("stream.online", id=str(sent))
        message = await line.next() if sent < 30 else pytest.fail("the webhook was never chosen")
        assert message["payload"]["event"]["id"] == str(sent)
        sent += 1
    assert shards_of(fake, conduit_id)["1"] == "notification_failures_exceeded"
    await line.socket.close()


async def test_the_loss_of_a_shard_is_told(helix: Caller, fake: FakeTwitch, hook: Hook) -> None:
    conduit_id, line = await make(helix, 2), await dial(fake)
    await assign(helix, conduit_id, {"0": line.transport})
    body = {
        "type": "conduit.shard.disabled",
        "version": "1",
        "condition": {"client_id": helix.app.client_id},
        "transport": hook.transport,
    }
    made = await helix.ask("eventsub/subscriptions", "POST", json=body)
    assert made.json()["data"][0]["cost"] == 0
    await hook.next()
    await until(lambda: status(helix, made.json()["data"][0]["id"]) == "enabled", "enabled")
    fake.lose_shard(conduit_id, "0", "websocket_failed_ping_pong")
    event = (await hook.next()).json["event"]
    assert (event["conduit_id"], event["shard_id"]) == (conduit_id, "0")
    assert event["status"] == "websocket_failed_ping_pong"
    assert event["transport"]["session_id"] == line.session_id
    await line.socket.close()


async def test_a_conduit_without_shards_is_deleted_in_the_end(
    helix: Caller, fake: FakeTwitch
) -> None:
    fake.set_knobs(conduit_gone_after_s=0.3)
    conduit_id, line, found = await listen(helix, fake.channel())
    await line.socket.close()
    await until(lambda: status(helix, found) == "conduit_deleted", "deleted")
    assert (await helix.ask("eventsub/conduits")).json()["data"] == []
    transport = {"method": "conduit", "conduit_id": conduit_id}
    again = await helix.subscribe("stream.online", fake.channel(), transport)
    assert again.status_code == 400


async def test_a_conduit_can_have_a_budget_of_its_own(helix: Caller, fake: FakeTwitch) -> None:
    fake.set_knobs(conduit_cost=1)
    conduit_id = await make(helix)
    transport = {"method": "conduit", "conduit_id": conduit_id}
    made = await helix.subscribe("stream.online", fake.channel(), transport)
    assert (made.status_code, made.json()["max_total_cost"]) == (202, 1)
    assert (await helix.subscribe("stream.online", fake.channel(), transport)).status_code == 429


async def test_a_shard_moves_with_its_reconnect(helix: Caller, fake: FakeTwitch) -> None:
    fake.set_knobs(reconnect_keeps_id=False)
    channel = fake.channel()
    conduit_id, old, _ = await listen(helix, channel)
    fake.reconnect_sockets(old.session_id)
    url = (await old.next())["payload"]["session"]["reconnect_url"]
    new = await dial(fake, "?" + url.partition("?")[2])
    await old.socket.close()
    assert await shard_statuses(helix, conduit_id) == {"0": "enabled"}
    channel.online(speed=0)
    assert (await new.next())["metadata"]["message_type"] == "notification"
    await new.socket.close()


def shards_of(fake: FakeTwitch, conduit_id: str) -> dict[str, str]:
    conduit = next(each for each in fake.conduits() if each["id"] == conduit_id)
    return {shard["id"]: shard["status"] for shard in conduit["shards"]}
