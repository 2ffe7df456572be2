"""EventSub messages: whether one is genuine, and what it says. No I/O.

https://dev.twitch.tv/docs/eventsub/handling-webhook-events: the signature covers message id, time
and body, nothing else. So whatever is stored or acted on is read from the body, never from a header
that anybody on the way could have changed. Webhook and WebSocket carry the same bodies.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from streamvault.errors import InvalidInput

MAX_AGE = timedelta(minutes=10)
MAX_SKEW = timedelta(seconds=30)

ONLINE, OFFLINE, UPDATE = "stream.online", "stream.offline", "channel.update"
LIVE = "live"
"""The kind of stream that is recorded; the others are playlists, premieres, reruns, parties."""

_ALGORITHM = b"sha256="
# Exactly this form: the signature covers id, time and body without separators, and with a laxer one
# a signed message could be cut in other places, given another id, and be sent again as a new one.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_ID = re.compile(r"[!-~]{1,200}")
# No field of Twitch is longer; what is must not fill the database.
_LONGEST = 1_000
_ABOUT = ("id", "type", "version", "status")
_EVENT = (
    *("id", "type", "started_at", "title", "category_id", "category_name"),
    *("broadcaster_user_id", "broadcaster_user_login", "broadcaster_user_name"),
)


class Kind(StrEnum):
    VERIFICATION = "webhook_callback_verification"
    NOTIFICATION = "notification"
    REVOCATION = "revocation"


@dataclass(frozen=True, slots=True)
class Message:
    """`payload` holds the texts that we read, cleaned, in the places where Twitch has them."""

    id: str
    kind: Kind
    type: str
    """Of the subscription, such as `stream.online`."""
    subscription_id: str
    sent_at: datetime
    payload: dict[str, Any]
    challenge: str = ""


# ---- is it Twitch's?


def is_signed(
    message_id: bytes, timestamp: bytes, body: bytes, signature: bytes, secrets: Iterable[bytes]
) -> bool:
    """Whether one of the secrets made this signature; all of them as they came, as bytes."""
    signed = message_id + timestamp + body
    matches = False
    for secret in secrets:
        expected = _ALGORITHM + hmac.digest(secret, signed, "sha256").hex().encode()
        matches |= hmac.compare_digest(expected, signature)
    return matches


def is_fresh(sent_at: datetime, now: datetime) -> bool:
    return -MAX_SKEW <= now - sent_at <= MAX_AGE


# ---- what is it?


def parse_webhook(kind: bytes, message_id: bytes, timestamp: bytes, body: bytes) -> Message | None:
    """A message whose signature was found good; None for a kind of message that is new to us.

    Raises InvalidInput when it makes no sense."""
    try:
        payload = json.loads(body)
        texts = message_id.decode("ascii"), timestamp.decode("ascii")
    except (ValueError, RecursionError):
        raise InvalidInput("the message cannot be read") from None
    return parse_message(kind.decode("latin-1"), *texts, payload)


def parse_message(kind: str, message_id: str, timestamp: str, payload: Any) -> Message | None:
    """The same for a message of the WebSocket, whose envelope says kind, id and time."""
    sent_at = parse_time(timestamp)
    if kind not in tuple(Kind):
        return None
    about = payload.get("subscription") if isinstance(payload, dict) else None
    if not _ID.fullmatch(message_id) or not isinstance(about, dict):
        raise InvalidInput("the message has no id or says of no subscription")
    event, challenge = payload.get("event"), payload.get("challenge")
    if not _fits(Kind(kind), event, challenge):
        raise InvalidInput("the message is not what its header says")
    subscription: dict[str, Any] = _texts(about, _ABOUT)
    subscription["condition"] = _texts(about.get("condition"))
    kept: dict[str, Any] = {"subscription": subscription}
    if kind == Kind.NOTIFICATION:
        kept["event"] = _texts(event, _EVENT)
    return Message(
        id=message_id,
        kind=Kind(kind),
        type=subscription["type"],
        subscription_id=subscription["id"],
        sent_at=sent_at,
        payload=kept,
        challenge=challenge if isinstance(challenge, str) else "",
    )


def parse_time(text: str) -> datetime:
    """RFC 3339 with up to nine digits after the second, of which Python keeps six.

    Raises InvalidInput."""
    try:
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    raise InvalidInput(f"{text[:40]!r} is not a time")


def _fits(kind: Kind, event: Any, challenge: Any) -> bool:
    if kind == Kind.VERIFICATION:
        return isinstance(challenge, str) and event is None
    if kind == Kind.NOTIFICATION:
        return isinstance(event, dict) and challenge is None
    return event is None and challenge is None


def _texts(found: Any, names: Iterable[str] | None = None) -> dict[str, str]:
    """The texts of an object: all of them, or these names, empty where there is none."""
    known = found if isinstance(found, dict) else {}
    return {_clean(name): _clean(known.get(name, "")) for name in (names or list(known)[:10])}


def _clean(value: Any) -> str:
    """What PostgreSQL can hold: no NUL, no half of a surrogate pair."""
    text = value[:_LONGEST] if isinstance(value, str) else ""
    return text.replace("\0", "").encode(errors="replace").decode()


# ---- what does it say?


@dataclass(frozen=True, slots=True)
class StreamOnline:
    user_id: str
    login: str
    name: str
    stream_id: str
    kind: str
    """`live` is the only one that is recorded."""
    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class StreamOffline:
    user_id: str
    login: str
    name: str


@dataclass(frozen=True, slots=True)
class ChannelUpdate:
    user_id: str
    login: str
    name: str
    title: str
    category: str
    category_id: str


@dataclass(frozen=True, slots=True)
class Revocation:
    subscription_id: str
    type: str
    status: str
    """Twitch's reason, such as `authorization_revoked`; any text."""
    condition: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unknown:
    type: str


Event = StreamOnline | StreamOffline | ChannelUpdate | Revocation | Unknown


def parse_event(type_: str, payload: Mapping[str, Any]) -> Event:
    """What a Message's payload says. Unknown is also what lacks the id that it is about."""
    event = payload.get("event")
    if event is None:
        about = payload.get("subscription", {})
        return Revocation(
            _of(about, "id"), type_, _of(about, "status"), dict(about.get("condition", {}))
        )
    user_id = _of(event, "broadcaster_user_id")
    who = (user_id, _of(event, "broadcaster_user_login"), _of(event, "broadcaster_user_name"))
    if not user_id:
        return Unknown(type_)
    if type_ == ONLINE and _of(event, "id"):
        started_at = _moment(_of(event, "started_at"))
        return StreamOnline(*who, _of(event, "id"), _of(event, "type"), started_at)
    if type_ == OFFLINE:
        return StreamOffline(*who)
    if type_ == UPDATE:
        names = ("title", "category_name", "category_id")
        return ChannelUpdate(*who, *(_of(event, name) for name in names))
    return Unknown(type_)


def _of(known: Mapping[str, Any], name: str) -> str:
    return str(known.get(name, ""))


def _moment(text: str) -> datetime | None:
    try:
        return parse_time(text)
    except InvalidInput:
        return None
