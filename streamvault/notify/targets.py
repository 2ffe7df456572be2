"""Sending to notification targets through Apprise; a target is known by a name, not its URL."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from streamvault.errors import SettingsError, StreamVaultError

if TYPE_CHECKING:
    from apprise import Apprise


class DeliveryFailed(StreamVaultError):
    """The target did not take the message; worth another try."""

    permanent = False
    title = "The notification was not delivered"


@dataclass(frozen=True, slots=True)
class Message:
    title: str
    body: str
    failure: bool = False
    path: str = "/"
    """Of our own page that tells more."""
    tag: str = ""
    """A later message of the same tag replaces this one where it is still shown."""


class Targets:
    """The targets of one installation, by name."""

    def __init__(self, urls: list[str]) -> None:
        """Raises SettingsError for an address that Apprise does not know."""
        self._urls = {target_name(url): url for url in urls}
        for number, url in enumerate(urls, start=1):
            if _sender(url) is None:
                raise SettingsError(
                    f"STREAMVAULT_NOTIFY_TARGETS: entry {number} is no address that Apprise knows"
                )

    @property
    def names(self) -> list[str]:
        return list(self._urls)

    async def send(self, name: str, message: Message) -> None:
        """Raises DeliveryFailed; its text never holds the target's address."""
        url = self._urls.get(name)
        if url is None:
            raise DeliveryFailed(f"the target {name} is not in the settings any more")
        if not await asyncio.to_thread(_send, url, message):
            raise DeliveryFailed(f"{name} did not take the message")


def target_name(url: str) -> str:
    """`json-3fa9c1`: the kind, and enough of a digest to tell two of a kind apart."""
    return f"{urlsplit(url).scheme}-{hashlib.sha256(url.encode()).hexdigest()[:6]}"


def _send(url: str, message: Message) -> bool:
    sender = _sender(url)
    kind = "failure" if message.failure else "success"
    return bool(sender and sender.notify(title=message.title, body=message.body, notify_type=kind))


def _sender(url: str) -> Apprise | None:
    """None for an address that Apprise does not know. It loads its many kinds at the first use, so
    that those who are not told anything need not carry it."""
    import apprise  # noqa: PLC0415  # see above

    sender = apprise.Apprise()
    return sender if sender.add(url) else None
