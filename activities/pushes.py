"""Browsers as notification targets: kept sealed, written to, forgotten when they have left."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID

from streamvault.db import credentials, pushes
from streamvault.db.ids import uuid7
from streamvault.db.models import PushSubscription
from streamvault.db.session import Database
from streamvault.errors import NotFound, SecretUnreadable
from streamvault.notify.targets import DeliveryFailed, Message
from streamvault.settings import Settings

if TYPE_CHECKING:
    import httpx

    from streamvault.notify.push import Sender, Subscription
    from streamvault.secrets import Keyring

NAME = "push-"
VAPID_KEY = "vapid_key"
# A push service wants somebody to write to, and Apple's refuses what looks like no address.
NOBODY = "mailto:streamvault@example.com"


@dataclass
class Pushes:
    """What takes memory is loaded at the first use: most installations have no such target."""

    db: Database
    settings: Settings
    _keyring: Keyring | None = field(default=None, repr=False)
    _sender: Sender | None = field(default=None, repr=False)
    _http: httpx.AsyncClient | None = field(default=None, repr=False)

    async def names(self) -> list[str]:
        """As notification targets."""
        async with self.db.begin() as session:
            return [f"{NAME}{row.id}" for row in await pushes.list_subscriptions(session)]

    async def subscribe(self, subscription: Subscription) -> PushSubscription:
        """The row by which the browser is known from now on, the same each time it asks."""
        keyring = await self._load_keyring()
        told = {
            "endpoint": subscription.endpoint,
            "p256dh": subscription.p256dh.hex(),
            "auth": subscription.auth.hex(),
        }
        digest = hashlib.sha256(subscription.endpoint.encode()).hexdigest()
        async with self.db.begin() as session:
            row_id = await pushes.id_for(session, digest, uuid7())
            sealed = keyring.seal(_place(row_id), json.dumps(told))
            shown = urlsplit(subscription.endpoint).hostname or ""
            return await pushes.write(session, row_id, sealed=sealed, shown=shown)

    async def send(self, name: str, message: Message) -> None:
        """Raises DeliveryFailed, which is permanent when the browser has left; it is forgotten."""
        from streamvault.notify.push import SubscriptionGone  # noqa: PLC0415  # see above
        from streamvault.twitch.exchange import open_http  # noqa: PLC0415

        subscription_id = name.removeprefix(NAME)
        subscription = await self._open(subscription_id)
        sender = await self._load_sender()
        if self._http is None:
            self._http = await asyncio.to_thread(open_http, self.settings.ca_bundle)
        try:
            await sender.send(self._http, subscription, message)
        except SubscriptionGone:
            await self._forget(subscription_id)
            raise

    async def public_key(self) -> str:
        """What the page hands to `PushManager.subscribe()`."""
        from streamvault.notify.push import public_key  # noqa: PLC0415  # see above

        return public_key((await self._load_sender()).key)

    async def _open(self, subscription_id: str) -> Subscription:
        from streamvault.notify.push import Subscription, SubscriptionGone  # noqa: PLC0415

        async with self.db.begin() as session:
            row = await pushes.get(session, subscription_id)
        if row is None:
            raise SubscriptionGone("the browser has ended its subscription")
        keyring = await self._load_keyring()
        try:
            told = json.loads(keyring.open(_place(row.id), row.sealed))
        except SecretUnreadable as error:
            # Worth a person's attention: the key may come back, and then it can be delivered.
            raise DeliveryFailed(error.one_line) from None
        return Subscription(
            told["endpoint"], bytes.fromhex(told["p256dh"]), bytes.fromhex(told["auth"])
        )

    async def _forget(self, subscription_id: str) -> None:
        try:
            async with self.db.begin() as session:
                await pushes.delete(session, subscription_id)
        except NotFound:
            pass  # another message found out at the same time

    async def _load_sender(self) -> Sender:
        """With the key that is made once, whichever process is first."""
        from streamvault.notify.push import Sender, load_key, new_key  # noqa: PLC0415

        if self._sender is None:
            keyring, place = await self._load_keyring(), f"credentials.{VAPID_KEY}"
            async with self.db.begin() as session:
                kept = await credentials.read(session, VAPID_KEY)
                kept = kept or await credentials.lock(session, VAPID_KEY)
                pem = keyring.open(place, kept.sealed) if kept.sealed else new_key()
                if not kept.sealed:
                    await credentials.write(session, VAPID_KEY, keyring.seal(place, pem))
            self._sender = Sender(load_key(pem), self.settings.base_url or NOBODY)
        return self._sender

    async def _load_keyring(self) -> Keyring:
        from streamvault.secrets import load_keyring  # noqa: PLC0415  # see above

        if self._keyring is None:
            self._keyring = await asyncio.to_thread(load_keyring, self.settings)
        return self._keyring


def _place(row_id: UUID) -> str:
    return f"push_subscriptions.{row_id}"


def is_browser(target: str) -> bool:
    return target.startswith(NAME)
