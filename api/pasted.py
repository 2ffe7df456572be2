"""What people paste: lists of logins, @names and addresses, with whatever stands around them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from api.addresses import LOGIN, TWITCH_HOSTS

MAX_SHOWN = 200
# What stands in front of the lines of a list: "-", "*", "•", "12.", "3)".
_BULLET = re.compile(r"[-*+–—•‣◦▪·]+|\d{1,4}[.)]")
_BETWEEN = re.compile(r"[\s,;]+")
_AROUND = "<>()[]\"'“”„‘’\u200b\ufeff"
_PAGES_OF_A_CHANNEL = frozenset({"about", "clips", "home", "schedule", "videos"})
_NO_CHANNELS = frozenset(
    {"directory", "downloads", "jobs", "p", "popout", "search", "settings", "store", "videos"}
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One of a list; exactly one of `login`, `url` and `problem` is set."""

    input: str
    """As it was pasted, cut to a length that can be shown."""
    login: str = ""
    """On Twitch, in lower case."""
    url: str = ""
    """Any other source; not checked yet."""
    problem: str = ""

    @property
    def key(self) -> str:
        """The same for entries that mean the same."""
        return self.login or self.url or self.input


def read_list(text: str) -> list[Entry]:
    """The entries in order, each as often as it stands there."""
    return [read_entry(piece) for piece in _pieces(text)]


def read_entry(piece: str) -> Entry:
    shown, text = piece[:MAX_SHOWN], piece.strip(_AROUND + " ")
    if LOGIN.fullmatch(text.removeprefix("@")):
        return Entry(shown, login=text.removeprefix("@").lower())
    if "://" not in text and text.lower().split("/")[0] in TWITCH_HOSTS:
        text = f"https://{text}"
    if "://" not in text:
        return Entry(shown, problem="is neither a login on Twitch nor an address")
    return _read_address(shown, text)


def _pieces(text: str) -> Iterator[str]:
    for piece in _BETWEEN.split(text):
        if piece and not _BULLET.fullmatch(piece):
            yield piece.lstrip("•‣◦▪·")


def _read_address(shown: str, url: str) -> Entry:
    try:
        parts = urlsplit(url)
        is_twitch = parts.hostname in TWITCH_HOSTS and parts.scheme in {"http", "https"}
    except ValueError:
        return Entry(shown, problem="is an address that cannot be read")
    if not is_twitch:
        return Entry(shown, url=url)
    if parts.username is not None or parts.password is not None:
        return Entry(shown, problem="holds a user name or password")
    login, *rest = parts.path.strip("/").split("/")
    is_channel = LOGIN.fullmatch(login) and login.lower() not in _NO_CHANNELS
    if is_channel and (not rest or set(rest) <= _PAGES_OF_A_CHANNEL):
        return Entry(shown, login=login.lower())
    return Entry(shown, problem="is a page of Twitch, but not a channel's")
