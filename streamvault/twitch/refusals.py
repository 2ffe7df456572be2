"""What it means when Twitch does not take a subscription."""

from __future__ import annotations

from enum import Enum, auto

from streamvault.errors import TwitchRefused

# A session also ends to be one of ours when another user signs in.
PLACES = ("session", "conduit", "websocket transport")


class Meaning(Enum):
    EXISTS = auto()
    """To be looked up and adopted."""
    NO_ROOM = auto()
    """Cost or number is used up: no further one is taken either."""
    STALE = auto()
    """The session or conduit that it was to be sent to is not there for us."""
    NO_TOKEN = auto()
    TOO_MANY_ALIKE = auto()
    """So many exist of this type for this channel already, whoever made them."""
    NOT_HERE = auto()
    """This transport takes none at all."""
    NOT_THIS = auto()
    """It is about this one alone; another one may be taken."""


def meaning_of(error: TwitchRefused) -> Meaning:
    """By status, and by Twitch's words where one status has several meanings."""
    said = str(error).lower()
    match error.status:
        case 409:
            return Meaning.EXISTS
        case 401:
            return Meaning.NO_TOKEN
        case 429 if "type and condition" in said:
            return Meaning.TOO_MANY_ALIKE
        case 429 if "transports limit" in said:
            return Meaning.NOT_HERE
        case 429:
            return Meaning.NO_ROOM
        case 400 | 404 if any(noun in said for noun in PLACES):
            return Meaning.STALE
        case _:
            return Meaning.NOT_THIS
