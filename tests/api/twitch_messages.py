"""Messages as Twitch posts them: signed over id, time and body."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

SECRET = "a secret of ours"
PREFIX = "Twitch-Eventsub-Message-"


def written(at: datetime) -> str:
    """RFC 3339 with the nine digits that Twitch sends."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


@dataclass(frozen=True)
class Post:
    body: bytes
    kind: str = "notification"
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    age: timedelta = timedelta(0)
    secret: str = SECRET
    changed: dict[str, str | bytes | None] = field(default_factory=dict)
    """Headers to send instead; None leaves one out."""

    @property
    def headers(self) -> dict[str, str | bytes]:
        at = written(datetime.now(UTC) - self.age)
        digest = hmac.new(
            self.secret.encode(), self.id.encode() + at.encode() + self.body, hashlib.sha256
        )
        headers: dict[str, Any] = {
            f"{PREFIX}Id": self.id,
            f"{PREFIX}Retry": "0",
            f"{PREFIX}Type": self.kind,
            f"{PREFIX}Signature": f"sha256={digest.hexdigest()}",
            f"{PREFIX}Timestamp": at,
            "Twitch-Eventsub-Subscription-Type": "stream.online",
            "Twitch-Eventsub-Subscription-Version": "1",
            "Content-Type": "application/json",
        }
        headers |= {f"{PREFIX}{name}": value for name, value in self.changed.items()}
        return {name: value for name, value in headers.items() if value is not None}

    def with_(self, **changes: Any) -> Post:
        return replace(self, **changes)


def subscription(type_: str, status: str = "enabled") -> dict[str, Any]:
    return {
        "id": "f1c2a387-161a-49f9-a165-0f21d7a4e1c4",
        "status": status,
        "type": type_,
        "version": "1",
        "condition": {"broadcaster_user_id": "1337"},
        "transport": {"method": "webhook", "callback": "https://vault.example/eventsub"},
        "created_at": "2026-03-11T10:11:12.634234626Z",
        "cost": 0,
    }


def online(user_id: str = "1337", **more: Any) -> Post:
    event = {
        "id": "9001",
        "broadcaster_user_id": user_id,
        "broadcaster_user_login": "cool_user",
        "broadcaster_user_name": "Cool_User",
        "type": "live",
        "started_at": "2026-03-11T10:11:12.123Z",
        **more,
    }
    return notification("stream.online", event)


def notification(type_: str, event: dict[str, Any]) -> Post:
    return Post(json.dumps({"subscription": subscription(type_), "event": event}).encode())


def verification(challenge: str) -> Post:
    pending = subscription("stream.online", "webhook_callback_verification_pending")
    body = json.dumps({"challenge": challenge, "subscription": pending}).encode()
    return Post(body, "webhook_callback_verification")


def revocation(status: str = "authorization_revoked") -> Post:
    body = json.dumps({"subscription": subscription("stream.online", status)}).encode()
    return Post(body, "revocation")
