"""What EventSub's parts hand to each other."""

from __future__ import annotations

import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from tests.fake_twitch.times import rfc3339

REMEMBERED = 500_000
ENABLED = "enabled"
PENDING = "webhook_callback_verification_pending"
VERIFICATION_FAILED = "webhook_callback_verification_failed"
TOO_MANY_FAILURES = "notification_failures_exceeded"
DISCONNECTED = "websocket_disconnected"

STATUS_BY_CODE = {
    4000: "websocket_internal_error",
    4001: "websocket_received_inbound_traffic",
    4002: "websocket_failed_ping_pong",
    4003: "websocket_connection_unused",
    4004: "websocket_failed_to_reconnect",
    4005: "websocket_network_timeout",
    4006: "websocket_network_error",
}
"""What becomes of subscriptions when a socket is closed with the code."""

VERSIONS = {
    "stream.online": ("1",),
    "stream.offline": ("1",),
    "channel.update": ("1", "2"),
    "user.authorization.grant": ("1",),
    "user.authorization.revoke": ("1",),
    "conduit.shard.disabled": ("1",),
}
BY_CLIENT = frozenset(
    {"user.authorization.grant", "user.authorization.revoke", "conduit.shard.disabled"}
)
"""Their condition names a client id instead of a broadcaster, and they cost nothing."""


@dataclass
class Subscription:
    id: str
    type: str
    version: str
    condition: dict[str, str]
    transport: dict[str, str]
    client_id: str
    user_id: str
    """Whose token it was made with; empty is the application's."""
    status: str
    created_at: str
    counts_until: float = 0
    """A disabled one costs that much longer (epoch seconds)."""

    @property
    def method(self) -> str:
        return self.transport["method"]

    @property
    def broadcaster(self) -> str:
        return self.condition.get("broadcaster_user_id", "")

    @property
    def is_alive(self) -> bool:
        return self.status in (ENABLED, PENDING)

    @property
    def counts(self) -> bool:
        return self.is_alive or time.time() < self.counts_until


@dataclass
class Message:
    """One message to one subscription; resent ones are the same message."""

    kind: str
    """`notification`, `revocation` or `webhook_callback_verification`."""
    subscription: Subscription
    payload: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    at: str = field(default_factory=lambda: rfc3339(time.time()))


@dataclass
class Delivery:
    """One attempt. `status` is the HTTP status, 200 for a socket, 0 without an answer."""

    at: float
    transport: str
    message_id: str
    message_type: str
    type: str
    subscription_id: str
    user_id: str
    """The broadcaster."""
    client_id: str
    retry: int = 0
    kind: str = ""
    """What was done to it: `forge`, `stale`, `duplicate`, `replay`, `drop`."""
    status: int = 0


@dataclass
class DeliveryLog:
    rows: deque[Delivery] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def begin(self, message: Message, transport: str, kind: str = "", retry: int = 0) -> Delivery:
        subscription = message.subscription
        row = Delivery(
            at=time.time(),
            transport=transport,
            message_id=message.id,
            message_type=message.kind,
            type=subscription.type,
            subscription_id=subscription.id,
            user_id=subscription.broadcaster,
            client_id=subscription.client_id,
            retry=retry,
            kind=kind,
        )
        self.rows.append(row)
        return row
