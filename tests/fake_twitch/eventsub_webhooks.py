"""Webhooks: signed, verified by a challenge, and sent again until they are taken."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
import time
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from tests.fake_twitch.disturbances import STALE_S
from tests.fake_twitch.eventsub_words import Delivery, DeliveryLog, Message
from tests.fake_twitch.faults import Refused
from tests.fake_twitch.knobs import Knobs
from tests.fake_twitch.times import rfc3339

CONNECTIONS = 100
REMEMBERED = 10_000


def sign(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """The value of Twitch-Eventsub-Message-Signature."""
    signed = message_id.encode() + timestamp.encode() + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Target:
    callback: str
    secret: str


@dataclass(frozen=True)
class Sent:
    """What went over the wire, to send it once more."""

    target: Target
    message: Message
    headers: dict[str, str]
    body: bytes


@dataclass
class Webhooks:
    knobs: Knobs
    log: DeliveryLog
    authority: Path
    """Callbacks may show a certificate of ours, beside those that the system trusts."""
    sent: dict[str, Sent] = field(default_factory=dict)
    """The newest true copies by message id."""

    def __post_init__(self) -> None:
        trust = ssl.create_default_context()
        trust.load_verify_locations(self.authority)
        limits = httpx.Limits(max_connections=CONNECTIONS)
        self._client = httpx.AsyncClient(verify=trust, trust_env=False, limits=limits)

    async def verify(self, target: Target, message: Message) -> bool:
        """Whether the callback gave the challenge back, as plain text and with 2xx."""
        answer = await self._post(self._pack(target, message), "")
        if answer is None or not answer.is_success:
            return False
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip()
        return media_type == "text/plain" and answer.text == str(message.payload["challenge"])

    async def deliver(self, target: Target, message: Message, kind: str) -> bool:
        """Send it until it is taken; False when even the last attempt failed."""
        sent = self._pack(target, message)
        self.sent[message.id] = sent
        while len(self.sent) > REMEMBERED:
            del self.sent[next(iter(self.sent))]
        for retry, pause_s in enumerate([0.0, *self.knobs.redelivery_s]):
            await asyncio.sleep(pause_s)
            if await self.attempt(sent, kind, retry):
                return True
        return False

    async def attempt(self, sent: Sent, kind: str, retry: int = 0) -> bool:
        answer = await self._post(sent, kind, retry)
        return answer is not None and answer.is_success

    async def send_false(self, target: Target, message: Message, kind: str) -> None:
        """A copy that nobody may believe: `forge` or `stale`."""
        copy = replace(message, id=str(uuid.uuid4()))
        if kind == "stale":
            copy.at = rfc3339(time.time() - STALE_S)
        else:
            target = replace(target, secret="somebody else's secret")
        await self.attempt(self._pack(target, copy), kind)

    async def replay(self, message_id: str) -> int:
        """The same bytes once more; the status, 0 without an answer."""
        if message_id not in self.sent:
            raise Refused("no such webhook message was sent")
        answer = await self._post(self.sent[message_id], "replay")
        return answer.status_code if answer else 0

    def _pack(self, target: Target, message: Message) -> Sent:
        body = json.dumps(message.payload).encode()
        subscription = message.subscription
        headers = {
            "Content-Type": "application/json",
            "Twitch-Eventsub-Message-Id": message.id,
            "Twitch-Eventsub-Message-Type": message.kind,
            "Twitch-Eventsub-Message-Signature": sign(target.secret, message.id, message.at, body),
            "Twitch-Eventsub-Message-Timestamp": message.at,
            "Twitch-Eventsub-Subscription-Type": subscription.type,
            "Twitch-Eventsub-Subscription-Version": subscription.version,
        }
        return Sent(target, message, headers, body)

    async def _post(self, sent: Sent, kind: str, retry: int = 0) -> httpx.Response | None:
        row: Delivery = self.log.begin(sent.message, "webhook", kind, retry)
        headers = {**sent.headers, "Twitch-Eventsub-Message-Retry": str(retry)}
        wait_s = self.knobs.answer_within_s
        try:
            answer = await self._client.post(
                sent.target.callback, content=sent.body, headers=headers, timeout=wait_s
            )
        except httpx.HTTPError:
            return None
        row.status = answer.status_code
        return answer
