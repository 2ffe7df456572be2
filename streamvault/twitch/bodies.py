"""Bodies of Helix as the words of `words.py`. Fields that nobody knows are ignored.

What does not fit raises msgspec.DecodeError."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from streamvault.twitch.words import (
    Channel,
    Conduit,
    EventSubscription,
    Followed,
    Game,
    LiveStream,
    Shard,
    ShardError,
    SubscriptionList,
    User,
    Video,
)

T = TypeVar("T")

# Our name of a field: Twitch's. A dot goes one level down; what is not here has the same name.
_NAMES: dict[type, dict[str, str]] = {
    User: {"name": "display_name", "avatar_url": "profile_image_url"},
    LiveStream: {
        "category_id": "game_id",
        "category": "game_name",
        "kind": "type",
        "viewers": "viewer_count",
    },
    Channel: {
        "user_id": "broadcaster_id",
        "login": "broadcaster_login",
        "name": "broadcaster_name",
        "category_id": "game_id",
        "category": "game_name",
    },
    Game: {"art_url": "box_art_url"},
    Followed: {
        "user_id": "broadcaster_id",
        "login": "broadcaster_login",
        "name": "broadcaster_name",
    },
    EventSubscription: {
        name: f"transport.{name}" for name in ("method", "callback", "session_id", "conduit_id")
    },
    Shard: {name: f"transport.{name}" for name in ("method", "callback", "session_id")},
}


class _Pagination(msgspec.Struct):
    cursor: str | None = None


class _Body(msgspec.Struct):
    data: list[dict[str, Any]]
    pagination: _Pagination = msgspec.field(default_factory=_Pagination)
    total: int = 0
    total_cost: int = 0
    max_total_cost: int = 0
    errors: list[dict[str, Any]] = []


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`cursor` is empty on the last one."""

    items: list[T]
    cursor: str = ""


def page_of(kind: type[T]) -> Callable[[bytes], Page[T]]:
    def read(body: bytes) -> Page[T]:
        found = msgspec.json.decode(body, type=_Body)
        items = [word(kind, item) for item in found.data]
        return Page(items, found.pagination.cursor or "")

    return read


def read_subscriptions(body: bytes) -> tuple[SubscriptionList, str]:
    """The subscriptions of one page with the sums over all of them, and the next page's cursor."""
    found = msgspec.json.decode(body, type=_Body)
    items = [word(EventSubscription, item) for item in found.data]
    sums = found.total, found.total_cost, found.max_total_cost
    return SubscriptionList(items, *sums), found.pagination.cursor or ""


def read_conduits(body: bytes) -> list[Conduit]:
    return page_of(Conduit)(body).items


def read_shard_errors(body: bytes) -> list[ShardError]:
    found = msgspec.json.decode(body, type=_Body)
    return [word(ShardError, item) for item in found.errors]


def read_nothing(body: bytes) -> None:
    if body.strip():
        raise msgspec.DecodeError("a body where none belongs")


def word(kind: type[T], item: dict[str, Any]) -> T:
    """Raises msgspec.ValidationError."""
    names = _NAMES.get(kind, {})
    fields = {name: _at(item, names.get(name, name)) for name in kind.__dataclass_fields__}  # type: ignore[attr-defined]  # all words are dataclasses
    if kind is Video:
        # Null when the stream was not recorded whole.
        fields["stream_id"] = fields["stream_id"] or ""
        fields["duration"] = f"PT{fields['duration']}".upper()  # 3h8m33s, as ISO 8601 has it
    return msgspec.convert({k: v for k, v in fields.items() if v is not None}, kind)


def _at(item: dict[str, Any], path: str) -> Any:
    """None where the item does not say, as Twitch's null."""
    outer, _, inner = path.rpartition(".")
    if not outer:
        return item.get(path)
    found = item.get(outer)
    return found.get(inner) if isinstance(found, dict) else None
