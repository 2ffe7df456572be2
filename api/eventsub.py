"""`POST /eventsub`: Twitch's webhook.

A plain ASGI application, since anybody may post here: what is not signed has to cost next to
nothing. One row is stored before the answer, and nothing else is done: no call to Twitch, no start.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from api.problems import RETRY_AFTER_S, Problem
from streamvault.db.inbox import NewMessage
from streamvault.db.inbox_writer import InboxWriter
from streamvault.errors import (
    DependencyUnavailable,
    InvalidInput,
    StreamVaultError,
    TwitchNotConfigured,
)
from streamvault.metrics.eventsub import EventSubFigures
from streamvault.twitch import eventsub
from streamvault.twitch.eventsub import Kind, Message

log = logging.getLogger(__name__)

PATH = "/eventsub"
SOURCE = "webhook"
LARGEST = 64 * 1024
BODY_WITHIN_S = 5.0  # a body of a few hundred bytes comes with its headers
# Each may hold a body of 64 KiB.
MOST_AT_ONCE = 1_000

SECRETS_KEPT_S = 60.0
# Secrets rotate: a signature that fits none has them looked up again, but a flood of forged ones
# must not become a flood of queries.
SECRETS_ASKED_EVERY_S = 1.0
SECRETS_RETRY_S = 1.0
SECRETS_WITHIN_S = 2.0
# One line per minute and kind of refusal: whoever forges messages must not fill the log.
LOGGED_EVERY_S = 60.0

_PREFIX = b"twitch-eventsub-message-"
_READ = (b"id", b"timestamp", b"signature", b"type")


class EventSubWebhook:
    """`secrets` gives all that Twitch may sign with: while they rotate, the former one as well."""

    def __init__(
        self, url: str, secrets: Callable[[], Awaitable[list[str]]], figures: EventSubFigures
    ) -> None:
        self._writer = InboxWriter(url)
        self._secrets = SecretCache(secrets)
        self._figures = figures
        self._at_once = 0
        self._logged: dict[str, float] = {}

    @property
    def route(self) -> Route:
        return Route(PATH, self, methods=["POST"], include_in_schema=False)

    async def close(self) -> None:
        await self._writer.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._at_once >= MOST_AT_ONCE:
            await _away(scope, "too many requests at once")(scope, receive, send)
            return
        self._at_once += 1
        try:
            answer = await self._answer(scope, receive)
        except ClientDisconnect:
            return
        finally:
            self._at_once -= 1
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        begun = time.perf_counter()
        headers = _headers(scope)
        try:
            async with asyncio.timeout(BODY_WITHIN_S):
                body = await _read(scope, receive)
        except TimeoutError:
            return self._refuse(scope, 408, "malformed", "the body did not come in time")
        if body is None:
            return self._refuse(scope, 413, "malformed", f"the body is over {LARGEST} bytes")
        try:
            if not await self._is_signed(headers, body):
                return self._refuse(scope, 403, "bad_signature", "the signature does not fit")
            answer = await self._genuine(scope, headers, body)
        except DependencyUnavailable as error:
            self._figures.note("other", "unavailable")
            answer = _away(scope, str(error))
        self._figures.ack.observe(time.perf_counter() - begun)
        return answer

    async def _is_signed(self, headers: dict[bytes, bytes], body: bytes) -> bool:
        id_, timestamp, signature, _ = (headers.get(name, b"") for name in _READ)
        secrets = await self._secrets.get(SECRETS_KEPT_S)
        if eventsub.is_signed(id_, timestamp, body, signature, secrets):
            return True
        fresher = await self._secrets.get(SECRETS_ASKED_EVERY_S)
        if fresher == secrets:
            return False
        return eventsub.is_signed(id_, timestamp, body, signature, fresher)

    async def _genuine(self, scope: Scope, headers: dict[bytes, bytes], body: bytes) -> Response:
        id_, timestamp, _, kind = (headers.get(name, b"") for name in _READ)
        try:
            message = eventsub.parse_webhook(kind, id_, timestamp, body)
        except InvalidInput as error:
            return self._refuse(scope, 400, "malformed", str(error))
        if message is None:
            self._figures.note("other", "ignored")
            return Response(status_code=204)
        if not eventsub.is_fresh(message.sent_at, datetime.now(UTC)):
            # Twitch sends in time, so this is a replay, or our own clock is wrong.
            return self._refuse(scope, 403, "stale", "the message is too old, or from the future")
        return await self._take(message)

    async def _take(self, message: Message) -> Response:
        if message.kind == Kind.VERIFICATION:
            self._figures.note("verification", "accepted")
            return PlainTextResponse(message.challenge)
        name = message.type if message.kind == Kind.NOTIFICATION else message.kind.value
        event = eventsub.parse_event(message.type, message.payload)
        if isinstance(event, eventsub.Unknown):
            result = "ignored"
        else:
            result = "accepted" if await self._writer.store(_row(message)) else "duplicate"
        self._figures.note(name, result)
        return Response(status_code=204)

    def _refuse(self, scope: Scope, status: int, result: str, why: str) -> Response:
        self._figures.note("other", result)
        now = time.monotonic()
        if now >= self._logged.get(why, 0.0):
            self._logged[why] = now + LOGGED_EVERY_S
            log.warning("webhook refused", extra={"why": why, "status": status})
        # What is left of the body is not worth reading.
        close = {"Connection": "close"} if status in (408, 413) else None
        return Problem(status, "Webhook refused", why, scope=scope, headers=close)


class SecretCache:
    """Asked for once in a while, by one caller at a time; kept while nobody answers."""

    def __init__(self, load: Callable[[], Awaitable[list[str]]]) -> None:
        self._load = load
        self._known: tuple[bytes, ...] | None = None
        self._asked_at = -math.inf
        self._asking = asyncio.Lock()

    async def get(self, age_s: float) -> tuple[bytes, ...]:
        """No older than `age_s`, if they can be had. Raises DependencyUnavailable without any."""
        if self._is_due(age_s):
            async with self._asking:
                if self._is_due(age_s):
                    await self._ask()
        if self._known is None:
            raise DependencyUnavailable("the secret of the webhook is not known")
        return self._known

    def _is_due(self, age_s: float) -> bool:
        wanted = SECRETS_RETRY_S if self._known is None else age_s
        return time.monotonic() - self._asked_at >= wanted

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(SECRETS_WITHIN_S):
                self._known = tuple(secret.encode() for secret in await self._load())
        except TwitchNotConfigured:
            # Nothing can be genuine.
            self._known = ()
        except (StreamVaultError, SQLAlchemyError, OSError) as error:
            log.warning("the webhook's secret cannot be read", extra={"why": str(error)})
        finally:
            self._asked_at = time.monotonic()


def _headers(scope: Scope) -> dict[bytes, bytes]:
    """Those of EventSub's message, lower case and without their prefix; none that came twice."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name.startswith(_PREFIX):
            short = name[len(_PREFIX) :]
            found[short] = b"" if short in found else value
    return found


async def _read(scope: Scope, receive: Receive) -> bytes | None:
    """The body; None when it is larger than allowed, whatever its length was said to be."""
    said = dict(scope["headers"]).get(b"content-length", b"0")
    if not said.isdigit() or int(said) > LARGEST:
        return None
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > LARGEST:
            return None
        if not message.get("more_body", False):
            return body


def _row(message: Message) -> NewMessage:
    return NewMessage(
        message_id=message.id,
        source=SOURCE,
        kind=message.kind,
        type=message.type,
        subscription_id=message.subscription_id,
        sent_at=message.sent_at,
        payload=message.payload,
    )


def _away(scope: Scope, why: str) -> Response:
    """Twitch comes again."""
    retry = {"Retry-After": RETRY_AFTER_S}
    return Problem(503, DependencyUnavailable.title, why, scope=scope, headers=retry)
