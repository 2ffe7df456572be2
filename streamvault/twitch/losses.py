"""How an EventSub socket ends, and in which words that is told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from websockets.exceptions import ConnectionClosed


class Cause(StrEnum):
    """Why a socket was lost. Those with a number are Twitch's close codes."""

    NORMAL = "1000"
    GOING_AWAY = "1001"
    ABNORMAL = "1006"
    INTERNAL_ERROR = "4000"
    INBOUND_TRAFFIC = "4001"
    PING_PONG = "4002"
    UNUSED = "4003"
    GRACE_EXPIRED = "4004"
    NETWORK_TIMEOUT = "4005"
    NETWORK_ERROR = "4006"
    INVALID_RECONNECT = "4007"
    SILENCE = "silence"
    NO_WELCOME = "no_welcome"
    UNREACHABLE = "unreachable"
    ASKED = "asked"
    OTHER = "other"


OUR_BUGS = frozenset({Cause.INBOUND_TRAFFIC, Cause.UNUSED})
WORDS = {
    Cause.SILENCE: "nothing came for longer than Twitch promised",
    Cause.NO_WELCOME: "Twitch did not welcome the connection in time",
    Cause.UNREACHABLE: "the EventSub WebSocket cannot be reached",
    Cause.UNUSED: "nothing was subscribed for within 10 s",
    Cause.INBOUND_TRAFFIC: "Twitch says that we spoke",
}


@dataclass(frozen=True, slots=True)
class Ended:
    cause: Cause
    note: str


class NoSocket(Exception):
    """A connection that never came to its welcome."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended.note)
        self.ended = ended


def ended_by(error: ConnectionClosed) -> Ended:
    """What the close frame says; none at all is 1006."""
    if error.rcvd is None:
        return ended(Cause.ABNORMAL, "the connection broke")
    code, said = error.rcvd.code, " ".join(error.rcvd.reason.split())
    try:
        cause = Cause(str(code))
    except ValueError:
        cause = Cause.OTHER
    return ended(cause, f"closed with {code}{': ' if said else ''}{said[:100]}")


def ended(cause: Cause, note: str = "") -> Ended:
    words = WORDS.get(cause, "")
    return Ended(cause, f"{words} ({note})" if words and note else words or note)


def no_socket(cause: Cause, note: str = "") -> NoSocket:
    return NoSocket(ended(cause, note))


def name_of(error: Exception) -> str:
    """Without the address, which a reconnect fills with a session."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
