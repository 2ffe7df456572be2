"""The WebSocket transport: sessions, keepalives, reconnects and every way to end."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from tests.fake_twitch.calls import CallLog
from tests.fake_twitch.eventsub_words import DISCONNECTED, STATUS_BY_CODE, Message
from tests.fake_twitch.faults import Fault, Faults
from tests.fake_twitch.knobs import Knobs
from tests.fake_twitch.times import rfc3339

KEEPALIVE_S = 10
INVALID_RECONNECT = 4007


@dataclass(eq=False)
class Session:
    """One connection. `used` is true once it has a subscription or is a conduit's shard."""

    id: str
    socket: WebSocket
    keepalive_s: float
    connected_at: float
    used: bool = False
    silent: bool = False
    sent_at: float = 0
    """Monotonic."""
    closed_with: int = 0
    replaced: bool = False
    """Its reconnect has been welcomed, so that it has nothing left to say."""

    async def send(self, kind: str, payload: dict[str, Any], **metadata: str) -> None:
        if self.silent or self.socket.application_state is not WebSocketState.CONNECTED:
            return
        about = {"message_id": str(uuid.uuid4()), "message_timestamp": rfc3339(time.time())}
        message = {"metadata": {"message_type": kind, **about, **metadata}, "payload": payload}
        self.sent_at = time.monotonic()
        try:
            await self.socket.send_json(message)
        except (WebSocketDisconnect, RuntimeError):
            # It went in this very moment; whoever reads from it will notice.
            pass

    async def close(self, code: int) -> None:
        self.closed_with = self.closed_with or code
        if self.socket.application_state is WebSocketState.CONNECTED:
            await self.socket.close(code)

    def about(self, status: str, reconnect_url: str | None, keepalive: bool) -> dict[str, Any]:
        return {
            "session": {
                "id": self.id,
                "status": status,
                "connected_at": rfc3339(self.connected_at),
                "keepalive_timeout_seconds": int(self.keepalive_s) if keepalive else None,
                "reconnect_url": reconnect_url,
                "recovery_url": None,
            }
        }


@dataclass
class Sockets:
    """`on_end` learns of a session that is over, and the status that its subscriptions get."""

    knobs: Knobs
    faults: Faults
    calls: CallLog
    on_end: Callable[[Session, str], None] = lambda _session, _status: None
    on_move: Callable[[str, str], None] = lambda _old, _new: None
    """A session goes on under another id."""
    sessions: dict[str, Session] = field(default_factory=dict)
    _reconnects: dict[str, tuple[Session, float]] = field(default_factory=dict)
    """By the token in the address: who may come back, and until when (monotonic)."""

    def routes(self) -> list[WebSocketRoute]:
        return [WebSocketRoute("/ws", self.serve)]

    async def serve(self, socket: WebSocket) -> None:
        call = self.calls.begin("eventsub.ws", socket)
        fault = self.faults.hit_call("eventsub.ws", "GET", "")
        if fault and fault.kind != "hang":
            call.status = fault.status if fault.kind == "status" else 0
            return await _refuse(socket, fault)
        await socket.accept()
        call.status = 101
        if fault:
            return await _say_nothing(socket, fault.seconds)
        token = socket.query_params.get("reconnect", "")
        before = self._who_comes_back(token) if token else None
        if token and before is None:
            return await socket.close(INVALID_RECONNECT)
        session = self._begin(socket, before)
        try:
            await session.send("session_welcome", session.about("connected", None, True))
            if before:
                before.replaced = True
            await self._keep(session)
        except WebSocketDisconnect:
            pass
        finally:
            self._end(session)
        return None

    async def notify(self, session_id: str, message: Message) -> bool:
        """False when nobody is there any more."""
        session = self.sessions.get(session_id)
        if session is None:
            return False
        subscription = message.subscription
        about = {
            "subscription_type": subscription.type,
            "subscription_version": subscription.version,
        }
        ids = {"message_id": message.id, "message_timestamp": message.at}
        await session.send(message.kind, message.payload, **ids, **about)
        return True

    async def reconnect(self, session: Session) -> None:
        """Ask the client to come back by another address; it has `reconnect_grace_s` for it."""
        token = uuid.uuid4().hex
        grace_s = self.knobs.reconnect_grace_s
        self._reconnects[token] = (session, time.monotonic() + grace_s)
        url = f"{session.socket.url.replace(query='')}?reconnect={token}"
        await session.send("session_reconnect", session.about("reconnecting", url, False))
        await asyncio.sleep(grace_s)
        self._reconnects.pop(token, None)
        await session.close(4004)

    def cut(self, session: Session) -> None:
        """The connection is gone without a close frame."""
        session.closed_with = 4006
        _abort(session.socket)

    def chosen(self, session_id: str = "") -> list[Session]:
        """The one that is named, else all."""
        if not session_id:
            return list(self.sessions.values())
        return [self.sessions[session_id]] if session_id in self.sessions else []

    def _who_comes_back(self, token: str) -> Session | None:
        session, until = self._reconnects.pop(token, (None, 0.0))
        lives = session is not None and self.sessions.get(session.id) is session
        return session if lives and time.monotonic() < until else None

    def _begin(self, socket: WebSocket, before: Session | None) -> Session:
        keeps = before is not None and self.knobs.reconnect_keeps_id
        session = Session(
            id=before.id if before and keeps else uuid.uuid4().hex,
            socket=socket,
            keepalive_s=self.knobs.keepalive_s or _asked_keepalive(socket),
            connected_at=time.time(),
            used=before is not None and before.used,
        )
        self.sessions[session.id] = session
        if before and not keeps:
            self.on_move(before.id, session.id)
        return session

    async def _keep(self, session: Session) -> None:
        """Keepalives until the client goes; it may say nothing, and has to subscribe soon."""
        deadline = time.monotonic() + self.knobs.subscribe_within_s
        receiving = asyncio.create_task(session.socket.receive())
        try:
            while True:
                due = session.sent_at + session.keepalive_s
                wake = due if session.used else min(due, deadline)
                pause_s = max(0.01, wake - time.monotonic())
                done, _ = await asyncio.wait({receiving}, timeout=pause_s)
                if done:
                    left = receiving.result()["type"] == "websocket.disconnect"
                    return None if left else await session.close(4001)
                now = time.monotonic()
                if now >= deadline and not session.used:
                    return await session.close(4003)
                if now >= session.sent_at + session.keepalive_s:
                    session.sent_at = now
                    if not session.replaced:
                        await session.send("session_keepalive", {})
        finally:
            receiving.cancel()

    def _end(self, session: Session) -> None:
        if self.sessions.get(session.id) is not session:
            return
        del self.sessions[session.id]
        if not session.replaced:
            self.on_end(session, STATUS_BY_CODE.get(session.closed_with, DISCONNECTED))


def _asked_keepalive(socket: WebSocket) -> float:
    """The nearest of 10 to 600 s."""
    asked = socket.query_params.get("keepalive_timeout_seconds", str(KEEPALIVE_S))
    return max(10, min(600, int(asked))) if asked.isdigit() else KEEPALIVE_S


async def _refuse(socket: WebSocket, fault: Fault) -> None:
    if fault.kind == "reset":
        _abort(socket)
    else:
        await socket.send_denial_response(Response(fault.body, fault.status))


async def _say_nothing(socket: WebSocket, seconds: float) -> None:
    """Connected, but the welcome never comes."""
    try:
        await asyncio.wait_for(socket.receive(), seconds)
    except TimeoutError:
        await socket.close(4000)


def _abort(socket: WebSocket) -> None:
    # ASGI knows no way to say this; in uvicorn `receive` is a method of what has the transport.
    socket._receive.__self__.transport.abort()  # type: ignore[attr-defined]
