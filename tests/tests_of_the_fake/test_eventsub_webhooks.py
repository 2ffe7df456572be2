"""Webhooks: challenge, signature, redelivery, and everything that can go wrong on the way."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from datetime import datetime

import pytest

from tests.fake_twitch.client import FakeTwitch
from tests.fake_twitch.client_words import Delivery
from tests.tests_of_the_fake.conftest import Caller, Hook, Received, enable, status, until

SEVEN = {
    "twitch-eventsub-message-id",
    "twitch-eventsub-message-retry",
    "twitch-eventsub-message-type",
    "twitch-eventsub-message-signature",
    "twitch-eventsub-message-timestamp",
    "twitch-eventsub-subscription-type",
    "twitch-eventsub-subscription-version",
}


def is_signed(message: Received, secret: str) -> bool:
    """The rule of Twitch's page: id, timestamp and raw body, without separators."""
    headers = message.headers
    signed = (
        headers["twitch-eventsub-message-id"] + headers["twitch-eventsub-message-timestamp"]
    ).encode() + message.body
    expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return headers["twitch-eventsub-message-signature"] == f"sha256={expected}"


def age_s(message: Received) -> float:
    at = datetime.fromisoformat(message.headers["twitch-eventsub-message-timestamp"])
    return time.time() - at.timestamp()


async def test_a_challenge_comes_first(helix: Caller, fake: FakeTwitch, hook: Hook) -> None:
    made = await helix.subscribe("stream.online", fake.channel(), hook.transport)
    subscription = made.json()["data"][0]
    message = await hook.next()
    assert set(message.headers) >= SEVEN
    assert message.kind == "webhook_callback_verification"
    assert is_signed(message, hook.secret)
    assert message.json["subscription"] == subscription
    await until(lambda: status(helix, subscription["id"]) == "enabled", "enabled")


@pytest.mark.parametrize("challenge", ["wrong", "html"])
async def test_a_challenge_that_is_not_met(
    helix: Caller, fake: FakeTwitch, hook: Hook, challenge: str
) -> None:
    hook.challenge = challenge
    made = await helix.subscribe("stream.online", fake.channel(), hook.transport)
    failed = "webhook_callback_verification_failed"
    found = made.json()["data"][0]["id"]
    await until(lambda: status(helix, found) == failed, "failed")
    # What failed costs nothing and stands in nobody's way.
    hook.challenge = "right"
    await enable(helix, hook, "stream.online", fake.channel())
    listed = await helix.ask("eventsub/subscriptions")
    assert (listed.json()["total"], listed.json()["total_cost"]) == (2, 1)


async def test_events_arrive_signed(helix: Caller, fake: FakeTwitch, hook: Hook) -> None:
    channel = fake.channel(title="Hello", category="Chess", category_id="743")
    for kind in ("stream.online", "stream.offline", "channel.update"):
        await enable(helix, hook, kind, channel)
    stream_id = channel.online(speed=0)
    online = await hook.next()
    channel.change(title="New")
    update = await hook.next()
    channel.offline()
    offline = await hook.next()
    for message in (online, update, offline):
        assert is_signed(message, hook.secret)
        stamp = message.headers["twitch-eventsub-message-timestamp"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", stamp)
        assert abs(age_s(message)) < 10
    who = {
        "broadcaster_user_id": channel.user_id,
        "broadcaster_user_login": channel.login,
        "broadcaster_user_name": channel.login.capitalize(),
    }
    event = online.json["event"]
    started = datetime.fromisoformat(event.pop("started_at"))
    assert abs(started.timestamp() - time.time()) < 20
    assert event == who | {"id": stream_id, "type": "live"}
    assert update.json["event"] == who | {
        "title": "New",
        "language": "en",
        "category_id": "743",
        "category_name": "Chess",
        "content_classification_labels": [],
    }
    assert offline.json["event"] == who
    assert update.headers["twitch-eventsub-subscription-version"] == "2"


async def test_only_their_own_channel_is_told(helix: Caller, fake: FakeTwitch, hook: Hook) -> None:
    await enable(helix, hook, "stream.online", fake.channel())
    other = fake.channel()
    other.online(speed=0)
    assert fake.deliveries(app=helix.app, type="stream.online")[1:] == []


async def test_a_message_comes_again_until_it_is_taken(
    helix: Caller, fake: FakeTwitch, hook: Hook
) -> None:
    fake.set_knobs(redelivery_s=[0.01] * 5)
    channel = fake.channel()
    subscription_id = await enable(helix, hook, "stream.online", channel)
    hook.answers = [500, 503, 403]
    channel.online(speed=0)
    messages = [await hook.next() for _ in range(4)]
    retries = [message.headers["twitch-eventsub-message-retry"] for message in messages]
    assert retries == ["0", "1", "2", "3"]
    assert len({message.headers["twitch-eventsub-message-id"] for message in messages}) == 1
    await until(lambda: notified(helix)[-1].status == 200, "taken")
    assert [row.status for row in notified(helix)] == [500, 503, 403, 200]
    assert status(helix, subscription_id) == "enabled"


async def test_after_five_more_attempts_the_subscription_is_lost(
    helix: Caller, fake: FakeTwitch, hook: Hook
) -> None:
    fake.set_knobs(redelivery_s=[0.01] * 5)
    channel = fake.channel()
    subscription_id = await enable(helix, hook, "stream.online", channel)
    hook.answers = [500] * 6
    channel.online(speed=0)
    kinds = [(await hook.next()).kind for _ in range(7)]
    assert kinds == ["notification"] * 6 + ["revocation"]
    assert status(helix, subscription_id) == "notification_failures_exceeded"
    channel.offline()
    channel.online(speed=0)
    assert len(notified(helix)) == 6


async def test_a_receiver_that_is_away(helix: Caller, fake: FakeTwitch, hook: Hook) -> None:
    fake.set_knobs(redelivery_s=[0.01])
    channel = fake.channel()
    subscription_id = await enable(helix, hook, "stream.online", channel)
    url = fake.subscriptions(app=helix.app)[0]["transport"]["callback"]
    assert url == hook.url
    # Nobody answers in so short a time.
    fake.set_knobs(answer_within_s=0.000_001)
    channel.online(speed=0)
    lost = "notification_failures_exceeded"
    await until(lambda: status(helix, subscription_id) == lost, "lost")
    assert {row.status for row in notified(helix)} == {0}


async def test_dropped_messages(helix: Caller, fake: FakeTwitch, hook: Hook) -> None:
    channel = fake.channel()
    await enable(helix, hook, "stream.online", channel)
    await enable(helix, hook, "stream.offline", channel)
    fake.disturb("drop", type="stream.online")
    channel.online(speed=0)
    channel.offline()
    message = await hook.next()
    assert message.headers["twitch-eventsub-subscription-type"] == "stream.offline"
    assert [(row.kind, row.status) for row in notified(helix, "stream.online")] == [("drop", 0)]


async def test_doubled_messages(helix: Caller, fake: FakeTwitch, hook: Hook) -> None:
    channel = fake.channel()
    await enable(helix, hook, "stream.online", channel)
    fake.disturb("duplicate", copies=4, count=1)
    channel.online(speed=0)
    messages = [await hook.next() for _ in range(5)]
    assert len({message.headers["twitch-eventsub-message-id"] for message in messages}) == 1
    assert len({message.body for message in messages}) == 1


async def test_reordered_messages(helix: Caller, fake: FakeTwitch, hook: Hook) -> None:
    channel = fake.channel()
    await enable(helix, hook, "stream.online", channel)
    await enable(helix, hook, "stream.offline", channel)
    fake.disturb("reorder", seconds=20)
    channel.online(speed=0)
    channel.offline()
    kinds = [(await hook.next()).headers["twitch-eventsub-subscription-type"] for _ in range(2)]
    assert kinds == ["stream.offline", "stream.online"]


async def test_a_held_message_goes_in_the_end(helix: Caller, fake: FakeTwitch, hook: Hook) -> None:
    channel = fake.channel()
    await enable(helix, hook, "stream.online", channel)
    fake.disturb("reorder", seconds=0.05)
    channel.online(speed=0)
    assert (await hook.next()).kind == "notification"


async def test_delayed_messages(helix: Caller, fake: FakeTwitch, hook: Hook) -> None:
    channel = fake.channel()
    await enable(helix, hook, "stream.online", channel)
    fake.disturb("delay", seconds=0.3)
    channel.online(speed=0)
    message = await hook.next()
    # The timestamp is that of the event.
    assert age_s(message) >= 0.3


@pytest.mark.parametrize("instead", [False, True])
async def test_forged_messages(helix: Caller, fake: FakeTwitch, hook: Hook, instead: bool) -> None:
    channel = fake.channel()
    await enable(helix, hook, "stream.online", channel)
    fake.disturb("forge", instead=instead)
    hook.answers = [403]
    channel.online(speed=0)
    forged = await hook.next()
    assert not is_signed(forged, hook.secret)
    await until(lambda: notified(helix)[0].status == 403, "refused")
    assert notified(helix)[0].kind == "forge"
    if not instead:
        true = await hook.next()
        assert is_signed(true, hook.secret)
        assert (
            true.headers["twitch-eventsub-message-id"]
            != (forged.headers["twitch-eventsub-message-id"])
        )


async def test_stale_messages(helix: Caller, fake: FakeTwitch, hook: Hook) -> None:
    channel = fake.channel()
    await enable(helix, hook, "stream.online", channel)
    fake.disturb("stale")
    channel.online(speed=0)
    stale, true = await hook.next(), await hook.next()
    assert is_signed(stale, hook.secret)
    assert age_s(stale) > 600
    assert age_s(true) < 10


async def test_disturbances_are_about_a_channel(
    helix: Caller, fake: FakeTwitch, hook: Hook
) -> None:
    ada, bob = fake.channel(), fake.channel()
    for channel in (ada, bob):
        await enable(helix, hook, "stream.online", channel)
    fake.disturb("drop", channel=ada.login)
    fake.go_live([ada, bob], speed=0)
    message = await hook.next()
    assert message.json["event"]["broadcaster_user_id"] == bob.user_id
    fake.clear_disturbances()
    ada.announce("stream.online", type="rerun")
    assert (await hook.next()).json["event"]["type"] == "rerun"


async def test_a_message_can_be_replayed(helix: Caller, fake: FakeTwitch, hook: Hook) -> None:
    channel = fake.channel()
    await enable(helix, hook, "stream.online", channel)
    channel.online(speed=0)
    first = await hook.next()
    message_id = first.headers["twitch-eventsub-message-id"]
    hook.answers = [204]
    # The receiver runs in this loop, so the fake has to be asked beside it.
    assert await asyncio.to_thread(fake.replay, message_id) == 204
    again = await hook.next()
    assert (again.headers, again.body) == (first.headers, first.body)


async def test_revocations_say_why(helix: Caller, fake: FakeTwitch, hook: Hook) -> None:
    channel, other = fake.channel(), fake.channel()
    first = await enable(helix, hook, "stream.online", channel)
    second = await enable(helix, hook, "stream.online", other)
    fake.revoke(first, "version_removed")
    message = await hook.next()
    assert message.kind == "revocation"
    assert is_signed(message, hook.secret)
    assert set(message.json) == {"subscription"}
    assert message.json["subscription"]["status"] == "version_removed"
    other.remove()
    message = await hook.next()
    assert message.json["subscription"]["id"] == second
    assert message.json["subscription"]["status"] == "user_removed"


async def test_a_user_who_leaves_is_announced(helix: Caller, fake: FakeTwitch, hook: Hook) -> None:
    user = fake.sign_in("ada", app=helix.app)
    body = {
        "type": "user.authorization.revoke",
        "version": "1",
        "condition": {"client_id": helix.app.client_id},
        "transport": hook.transport,
    }
    made = await helix.ask("eventsub/subscriptions", "POST", json=body)
    assert made.json()["data"][0]["cost"] == 0
    await hook.next()
    found = made.json()["data"][0]["id"]
    await until(lambda: status(helix, found) == "enabled", "enabled")
    fake.disconnect("ada", app=helix.app)
    event = (await hook.next()).json["event"]
    assert event == {
        "client_id": helix.app.client_id,
        "user_id": user.user_id,
        "user_login": "ada",
        "user_name": "Ada",
    }
    assert (await helix.validate(user.access_token)).status_code == 401


def notified(helix: Caller, kind: str = "") -> list[Delivery]:
    rows = helix.fake.deliveries(app=helix.app, type=kind)
    return [row for row in rows if row.message_type == "notification"]
