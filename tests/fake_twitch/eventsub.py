"""EventSub's middle: subscriptions and what they cost, and events on their way to them."""

from __future__ import annotations

import asyncio
import time
import uuid
import zlib
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from tests.fake_twitch.conduits import Conduit, Conduits, Shard
from tests.fake_twitch.disturbances import Disturbances
from tests.fake_twitch.eventsub_sockets import Session, Sockets
from tests.fake_twitch.eventsub_webhooks import Target, Webhooks
from tests.fake_twitch.eventsub_words import (
    BY_CLIENT,
    ENABLED,
    PENDING,
    TOO_MANY_FAILURES,
    VERIFICATION_FAILED,
    DeliveryLog,
    Message,
    Subscription,
)
from tests.fake_twitch.knobs import Knobs
from tests.fake_twitch.times import rfc3339
from tests.fake_twitch.tokens import Tokens
from tests.fake_twitch.world import Channel, World

Event = dict[str, Any]


@dataclass
class EventSub:
    world: World
    knobs: Knobs
    tokens: Tokens
    log: DeliveryLog
    webhooks: Webhooks
    sockets: Sockets
    conduits: Conduits
    disturbances: Disturbances
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.sockets.on_end, self.sockets.on_move = self._end_session, self._move_session
        self.conduits.on_disabled, self.conduits.on_gone = self._shard_disabled, self._conduit_gone

    # ---- what there is

    def of(self, client_id: str) -> list[Subscription]:
        return [s for s in self.subscriptions.values() if s.client_id == client_id]

    def in_session(self, session_id: str) -> list[Subscription]:
        everything = self.subscriptions.values()
        return [s for s in everything if s.transport.get("session_id") == session_id]

    def pool(self, client_id: str, user_id: str, method: str) -> tuple[list[Subscription], int]:
        """The subscriptions that share a budget, and how much it holds."""
        knobs = self.knobs
        if user_id:
            mine = [s for s in self.of(client_id) if s.user_id == user_id]
            return mine, knobs.websocket_cost
        own = [s for s in self.of(client_id) if not s.user_id]
        if not knobs.conduit_cost:
            return own, knobs.webhook_cost
        apart = [s for s in own if (s.method == "conduit") == (method == "conduit")]
        return apart, knobs.conduit_cost if method == "conduit" else knobs.webhook_cost

    def cost(self, client_id: str, kind: str, broadcaster: str) -> int:
        """Nothing for a broadcaster who authorised the application."""
        return int(kind not in BY_CLIENT and (client_id, broadcaster) not in self.tokens.grants)

    def total_cost(self, subscriptions: list[Subscription]) -> int:
        return sum(self.cost(s.client_id, s.type, s.broadcaster) for s in subscriptions if s.counts)

    def public(self, subscription: Subscription) -> dict[str, Any]:
        """As Twitch lists it: without its secret."""
        s = subscription
        transport = {k: v for k, v in s.transport.items() if k != "secret"}
        return {
            "id": s.id,
            "status": s.status,
            "type": s.type,
            "version": s.version,
            "condition": s.condition,
            "created_at": s.created_at,
            "transport": transport,
            "cost": self.cost(s.client_id, s.type, s.broadcaster),
        }

    def add(self, asked: dict[str, Any], client_id: str, user_id: str) -> Subscription:
        """A webhook begins by being verified."""
        is_webhook = asked["transport"]["method"] == "webhook"
        subscription = Subscription(
            id=str(uuid.uuid4()),
            type=asked["type"],
            version=asked["version"],
            condition=asked["condition"],
            transport=asked["transport"],
            client_id=client_id,
            user_id=user_id,
            status=PENDING if is_webhook else ENABLED,
            created_at=rfc3339(time.time()),
        )
        self.subscriptions[subscription.id] = subscription
        if is_webhook:
            self.later(self._verify(subscription))
        return subscription

    # ---- events

    def announce(self, channel: Channel, kind: str, event: Event | None = None) -> None:
        """Send what happened to everyone who asked; called by the world."""
        event = describe(channel, kind) | (event or {})
        self.publish(kind, "broadcaster_user_id", channel.user_id, event)

    def publish(self, kind: str, key: str, value: str, event: Event) -> None:
        for subscription in list(self.subscriptions.values()):
            wanted = subscription.type == kind and subscription.condition.get(key) == value
            if wanted and subscription.status == ENABLED:
                payload = {"subscription": self.public(subscription), "event": event}
                message = Message("notification", subscription, payload)
                login = self.tokens.login(subscription.broadcaster)
                self.later(self.disturbances.carry(message, login, self.send))

    async def send(self, message: Message, kind: str) -> None:
        subscription = message.subscription
        match subscription.method:
            case "webhook":
                if not await self._post(target_of(subscription.transport), message, kind):
                    self._give_up(subscription)
            case "websocket":
                await self._say(subscription.transport["session_id"], message, kind)
            case _:
                await self._through_conduit(message, kind)

    def revoke(self, subscription: Subscription, status: str) -> None:
        """It is over, and whoever listens is told why."""
        self.disable(subscription, status)
        payload = {"subscription": self.public(subscription)}
        self.later(self.send(Message("revocation", subscription, payload), ""))

    def disable(self, subscription: Subscription, status: str) -> None:
        if subscription.is_alive:
            subscription.status = status
            subscription.counts_until = time.time() + self.knobs.lingering_cost_s

    def disconnect(self, client_id: str, user_id: str) -> None:
        """A user removed the application from the account."""
        who = {"client_id": client_id, "user_id": user_id}
        login = self.tokens.login(user_id)
        self.publish(
            "user.authorization.revoke",
            "client_id",
            client_id,
            {**who, "user_login": login, "user_name": login.capitalize()},
        )
        for subscription in self.of(client_id):
            if subscription.is_alive and subscription.user_id == user_id:
                self.revoke(subscription, "authorization_revoked")

    def remove_user(self, user_id: str) -> None:
        for subscription in self.subscriptions.values():
            if subscription.is_alive and subscription.broadcaster == user_id:
                self.revoke(subscription, "user_removed")

    def later(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def reset(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        self.subscriptions.clear()
        self.disturbances.rules.clear()
        self.log.rows.clear()
        self.conduits.conduits.clear()
        for session in self.sockets.chosen():
            await session.close(4000)

    # ---- ways out

    async def _verify(self, subscription: Subscription) -> None:
        await asyncio.sleep(self.knobs.verify_after_s)
        payload = {"challenge": str(uuid.uuid4()), "subscription": self.public(subscription)}
        message = Message("webhook_callback_verification", subscription, payload)
        taken = await self.webhooks.verify(target_of(subscription.transport), message)
        if subscription.status == PENDING:
            subscription.status = ENABLED if taken else VERIFICATION_FAILED

    async def _post(self, target: Target, message: Message, kind: str) -> bool:
        """False only for a true message that nobody took."""
        if kind in ("forge", "stale"):
            await self.webhooks.send_false(target, message, kind)
            return True
        return await self.webhooks.deliver(target, message, kind)

    async def _say(self, session_id: str, message: Message, kind: str) -> bool:
        if kind in ("forge", "stale"):
            # Nobody can forge what comes over Twitch's own connection.
            return True
        row = self.log.begin(message, message.subscription.method, kind)
        said = await self.sockets.notify(session_id, message)
        row.status = 200 if said else 0
        return said

    async def _through_conduit(self, message: Message, kind: str) -> None:
        """One shard, chosen by the event; if that fails, one other."""
        conduit = self.conduits.conduits.get(message.subscription.transport["conduit_id"])
        for _ in range(2):
            up = conduit.up() if conduit else []
            if not conduit or not up:
                return
            shard = up[zlib.crc32(message.id.encode()) % len(up)]
            if await self._to_shard(shard, message, kind):
                return
            is_webhook = shard.transport["method"] == "webhook"
            status = TOO_MANY_FAILURES if is_webhook else "websocket_network_error"
            self.conduits.disable(conduit, shard, status)

    async def _to_shard(self, shard: Shard, message: Message, kind: str) -> bool:
        if shard.transport["method"] == "webhook":
            return await self._post(target_of(shard.transport), message, kind)
        return await self._say(shard.transport["session_id"], message, kind)

    def _give_up(self, subscription: Subscription) -> None:
        if subscription.is_alive:
            self.revoke(subscription, TOO_MANY_FAILURES)

    # ---- what sockets and conduits tell

    def _end_session(self, session: Session, status: str) -> None:
        for subscription in self.in_session(session.id):
            self.disable(subscription, status)
        self.conduits.end_session(session.id, status)

    def _move_session(self, old: str, new: str) -> None:
        for subscription in self.in_session(old):
            subscription.transport["session_id"] = new
        self.conduits.move_session(old, new)

    def _shard_disabled(self, conduit: Conduit, shard: Shard) -> None:
        about = shard.public()
        event = {"conduit_id": conduit.id, "shard_id": shard.id, "status": shard.status}
        event["transport"] = about["transport"]
        self.publish("conduit.shard.disabled", "client_id", conduit.client_id, event)

    def _conduit_gone(self, conduit: Conduit) -> None:
        for subscription in self.subscriptions.values():
            if subscription.transport.get("conduit_id") == conduit.id:
                self.disable(subscription, "conduit_deleted")


def target_of(transport: dict[str, str]) -> Target:
    return Target(transport["callback"], transport["secret"])


def describe(channel: Channel, kind: str) -> Event:
    """The event as Twitch writes it."""
    who = {
        "broadcaster_user_id": channel.user_id,
        "broadcaster_user_login": channel.login,
        "broadcaster_user_name": channel.name,
    }
    stream = channel.newest_stream
    if kind == "stream.online" and stream:
        started = rfc3339(stream.started_at)
        return {"id": stream.id, **who, "type": stream.options.kind, "started_at": started}
    if kind == "channel.update":
        category = {"category_id": channel.category_id, "category_name": channel.category}
        labels: list[str] = []
        more = {"title": channel.title, "language": channel.language}
        return {**who, **more, **category, "content_classification_labels": labels}
    return who
