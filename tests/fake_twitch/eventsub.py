"""EventSub in short: subscriptions, the WebSocket transport, and signed webhooks."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.fake_twitch.world import Channel, World

SUBSCRIBE_WITHIN_S = 10
VERSIONS = {"stream.online": "1", "stream.offline": "1", "channel.update": "2"}


def rfc3339(at: float) -> str:
    """Nanoseconds and `Z`, as EventSub writes times."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


@dataclass
class Subscription:
    id: str
    type: str
    version: str
    condition: dict[str, str]
    transport: dict[str, str]
    status: str
    created_at: str

    def public(self) -> dict[str, Any]:
        transport = {k: v for k, v in self.transport.items() if k != "secret"}
        return {**self.__dict__, "transport": transport, "cost": 1}


@dataclass
class EventSub:
    """`sent` keeps what was delivered: transport, message type, subscription type."""

    world: World
    max_total_cost: int = 10_000
    keepalive_s: float = 10
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    sockets: dict[str, WebSocket] = field(default_factory=dict)
    sent: list[tuple[str, str, str]] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def routes(self) -> list[Route | WebSocketRoute]:
        path = "/helix/eventsub/subscriptions"
        return [
            Route(path, self.create, methods=["POST"]),
            Route(path, self.show, methods=["GET"]),
            Route(path, self.delete, methods=["DELETE"]),
            WebSocketRoute("/ws", self.socket),
        ]

    # ---- REST

    async def create(self, request: Request) -> Response:
        asked = await request.json()
        condition, transport = asked["condition"], asked["transport"]
        if VERSIONS.get(asked["type"]) != asked["version"]:
            return _error(400, "invalid subscription type and version")
        for known in self.subscriptions.values():
            if (known.type, known.condition) == (asked["type"], condition) and _same(
                known, transport
            ):
                return _error(409, "subscription already exists")
        is_webhook = transport["method"] == "webhook"
        if not is_webhook and transport.get("session_id") not in self.sockets:
            return _error(
                400, "websocket transport session does not exist or has already disconnected"
            )
        if len(self.subscriptions) >= self.max_total_cost:
            return _error(429, "subscription cost exceeded")
        status = "webhook_callback_verification_pending" if is_webhook else "enabled"
        subscription = Subscription(
            id=str(uuid.uuid4()),
            type=asked["type"],
            version=asked["version"],
            condition=condition,
            transport=transport,
            status=status,
            created_at=rfc3339(time.time()),
        )
        self.subscriptions[subscription.id] = subscription
        if is_webhook:
            self._later(self._verify(subscription))
        return JSONResponse(self._page([subscription]), 202)

    async def show(self, request: Request) -> Response:
        query = request.query_params
        found = [
            s
            for s in self.subscriptions.values()
            if query.get("type", s.type) == s.type and query.get("status", s.status) == s.status
        ]
        return JSONResponse({**self._page(found), "pagination": {}})

    async def delete(self, request: Request) -> Response:
        found = self.subscriptions.pop(request.query_params.get("id", ""), None)
        return Response(status_code=204) if found else _error(404, "subscription not found")

    def _page(self, found: list[Subscription]) -> dict[str, Any]:
        total = len(self.subscriptions)
        costs = {"total": total, "total_cost": total, "max_total_cost": self.max_total_cost}
        return {"data": [s.public() for s in found], **costs}

    # ---- events

    def announce(self, channel: Channel, kind: str) -> None:
        """Send what happened to everyone who asked; called by the world."""
        event = _event(channel, kind)
        for subscription in list(self.subscriptions.values()):
            wanted = subscription.condition.get("broadcaster_user_id") == channel.user_id
            if subscription.type == kind and wanted and subscription.status == "enabled":
                self._later(self._notify(subscription, event))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _notify(self, subscription: Subscription, event: dict[str, Any]) -> None:
        payload = {"subscription": subscription.public(), "event": event}
        if subscription.transport["method"] == "webhook":
            await self._post(subscription, "notification", payload)
            return
        socket = self.sockets.get(subscription.transport["session_id"])
        if socket:
            self.sent.append(("websocket", "notification", subscription.type))
            extra = {
                "subscription_type": subscription.type,
                "subscription_version": subscription.version,
            }
            await socket.send_json(_message("notification", payload, extra))

    async def _verify(self, subscription: Subscription) -> None:
        challenge = str(uuid.uuid4())
        payload = {"challenge": challenge, "subscription": subscription.public()}
        answer = await self._post(subscription, "webhook_callback_verification", payload)
        ok = answer is not None and answer.is_success and answer.text == challenge
        subscription.status = "enabled" if ok else "webhook_callback_verification_failed"

    async def _post(
        self, subscription: Subscription, kind: str, payload: dict[str, Any]
    ) -> httpx.Response | None:
        message_id, at = str(uuid.uuid4()), rfc3339(time.time())
        body = json.dumps(payload).encode()
        signed = hmac.new(
            subscription.transport["secret"].encode(),
            message_id.encode() + at.encode() + body,
            hashlib.sha256,
        )
        headers = {
            "Content-Type": "application/json",
            "Twitch-Eventsub-Message-Id": message_id,
            "Twitch-Eventsub-Message-Retry": "0",
            "Twitch-Eventsub-Message-Type": kind,
            "Twitch-Eventsub-Message-Signature": f"sha256={signed.hexdigest()}",
            "Twitch-Eventsub-Message-Timestamp": at,
            "Twitch-Eventsub-Subscription-Type": subscription.type,
            "Twitch-Eventsub-Subscription-Version": subscription.version,
        }
        self.sent.append(("webhook", kind, subscription.type))
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            try:
                url = subscription.transport["callback"]
                return await client.post(url, content=body, headers=headers)
            except httpx.HTTPError:
                return None

    # ---- WebSocket

    async def socket(self, socket: WebSocket) -> None:
        await socket.accept()
        session = uuid.uuid4().hex
        self.sockets[session] = socket
        try:
            await socket.send_json(_message("session_welcome", self._welcome(session)))
            await self._keep(session, socket)
        except WebSocketDisconnect:
            pass
        finally:
            self._forget(session)

    async def _keep(self, session: str, socket: WebSocket) -> None:
        """Keepalives until the client goes; it may say nothing, and has to subscribe soon."""
        deadline = time.monotonic() + SUBSCRIBE_WITHIN_S
        receiving = asyncio.create_task(socket.receive())
        try:
            while True:
                done, _ = await asyncio.wait({receiving}, timeout=self.keepalive_s)
                if done:
                    left = receiving.result()["type"] == "websocket.disconnect"
                    return None if left else await socket.close(4001)
                if time.monotonic() >= deadline and not self._of(session):
                    return await socket.close(4003)
                await socket.send_json(_message("session_keepalive", {}))
        finally:
            receiving.cancel()

    def _welcome(self, session: str) -> dict[str, Any]:
        return {
            "session": {
                "id": session,
                "status": "connected",
                "connected_at": rfc3339(time.time()),
                "keepalive_timeout_seconds": int(self.keepalive_s),
                "reconnect_url": None,
                "recovery_url": None,
            }
        }

    def _of(self, session: str) -> list[Subscription]:
        return [s for s in self.subscriptions.values() if s.transport.get("session_id") == session]

    def _forget(self, session: str) -> None:
        self.sockets.pop(session, None)
        for subscription in self._of(session):
            subscription.status = "websocket_disconnected"
            del self.subscriptions[subscription.id]


def _same(known: Subscription, transport: dict[str, str]) -> bool:
    keys = ("method", "callback", "session_id")
    return all(known.transport.get(key) == transport.get(key) for key in keys)


def _event(channel: Channel, kind: str) -> dict[str, Any]:
    who = {
        "broadcaster_user_id": channel.user_id,
        "broadcaster_user_login": channel.login,
        "broadcaster_user_name": channel.name,
    }
    if kind == "stream.online" and channel.stream:
        started = rfc3339(channel.stream.started_at)
        return {"id": channel.stream.id, **who, "type": "live", "started_at": started}
    if kind == "channel.update":
        category = {"category_id": channel.category_id, "category_name": channel.category}
        labels: list[str] = []
        more = {"title": channel.title, "language": "en", "content_classification_labels": labels}
        return {**who, **more, **category}
    return who


def _message(
    kind: str, payload: dict[str, Any], extra: dict[str, str] | None = None
) -> dict[str, Any]:
    metadata = {
        "message_id": str(uuid.uuid4()),
        "message_type": kind,
        "message_timestamp": rfc3339(time.time()),
        **(extra or {}),
    }
    return {"metadata": metadata, "payload": payload}


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": "Error", "status": status, "message": message}, status)
