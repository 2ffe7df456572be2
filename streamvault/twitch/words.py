"""What Twitch's API speaks of. Times are aware UTC; an empty text is what Twitch left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum


class Priority(IntEnum):
    """Who goes on asking while the points of the rate limit run out; START longest."""

    START = 0
    RECONCILE = 1
    SUBSCRIBE = 2
    PICTURES = 3


@dataclass(frozen=True, slots=True)
class User:
    id: str
    login: str
    name: str = ""
    avatar_url: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class LiveStream:
    """`kind` is `live`, or empty when Twitch is in doubt."""

    id: str
    user_id: str
    user_login: str
    user_name: str
    title: str
    category_id: str
    category: str
    started_at: datetime
    kind: str = "live"
    viewers: int = 0


@dataclass(frozen=True, slots=True)
class Channel:
    user_id: str
    login: str
    name: str
    title: str = ""
    category_id: str = ""
    category: str = ""


@dataclass(frozen=True, slots=True)
class Game:
    """`art_url` holds the placeholders `{width}` and `{height}`."""

    id: str
    name: str
    art_url: str = ""


@dataclass(frozen=True, slots=True)
class Video:
    id: str
    stream_id: str
    user_id: str
    title: str
    created_at: datetime
    url: str
    duration: timedelta


@dataclass(frozen=True, slots=True)
class Followed:
    user_id: str
    login: str
    name: str
    followed_at: datetime


@dataclass(frozen=True, slots=True)
class EventSubscription:
    """`status` is Twitch's word, such as `enabled`, also one that nobody knows yet."""

    id: str
    type: str
    version: str
    status: str
    condition: dict[str, str]
    method: str
    callback: str = ""
    session_id: str = ""
    conduit_id: str = ""
    cost: int = 0
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SubscriptionList:
    items: list[EventSubscription] = field(default_factory=list)
    total: int = 0
    total_cost: int = 0
    max_total_cost: int = 0


@dataclass(frozen=True, slots=True)
class Conduit:
    id: str
    shard_count: int


@dataclass(frozen=True, slots=True)
class Shard:
    id: str
    status: str
    method: str = ""
    session_id: str = ""
    callback: str = ""


@dataclass(frozen=True, slots=True)
class ShardError:
    id: str
    message: str
    code: str
