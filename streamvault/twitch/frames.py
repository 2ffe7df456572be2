"""What EventSub says over a WebSocket. Unknown fields and kinds are let pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from streamvault.errors import InvalidInput
from streamvault.twitch.eventsub import Message, parse_message


@dataclass(frozen=True, slots=True)
class Welcome:
    """A session to subscribe for, within 10 s of this. After a reconnect that Twitch asked for,
    `carried` is true: the subscriptions came along, and nothing was missed."""

    session_id: str
    keepalive_s: float = 0.0
    """Something comes at least this often; 0 when Twitch does not say."""
    carried: bool = False


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Twitch wants us on another of its servers, by this address as it is; it holds a session."""

    url: str


@dataclass(frozen=True, slots=True)
class Other:
    """A keepalive, or something newer than this program."""

    kind: str


Frame = Welcome | Message | Reconnect | Other


class _Metadata(msgspec.Struct):
    message_type: str
    message_id: str = ""
    message_timestamp: str = ""


class _Envelope(msgspec.Struct):
    metadata: _Metadata
    payload: dict[str, Any] = {}


class _Session(msgspec.Struct):
    id: str
    keepalive_timeout_seconds: float | None = None
    reconnect_url: str | None = None


class _OfSession(msgspec.Struct):
    session: _Session


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def read_frame(text: str | bytes) -> Frame:
    """Raises InvalidInput for what is no message of EventSub."""
    try:
        return _frame(_ENVELOPE.decode(text))
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"no message of EventSub: {error}") from None


def _frame(envelope: _Envelope) -> Frame:
    metadata = envelope.metadata
    match metadata.message_type:
        case "session_welcome":
            session = msgspec.convert(envelope.payload, _OfSession).session
            return Welcome(session.id, session.keepalive_timeout_seconds or 0.0)
        case "session_reconnect":
            session = msgspec.convert(envelope.payload, _OfSession).session
            return Reconnect(session.reconnect_url or "")
        case "notification" | "revocation" as kind:
            time, payload = metadata.message_timestamp, envelope.payload
            return parse_message(kind, metadata.message_id, time, payload) or Other(kind)
        case kind:
            return Other(kind)
