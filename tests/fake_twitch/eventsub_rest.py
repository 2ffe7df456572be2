"""/eventsub/subscriptions: who may subscribe to what, by which transport, and for how much."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fake_twitch.eventsub import EventSub
from tests.fake_twitch.eventsub_words import BY_CLIENT, VERSIONS, Subscription
from tests.fake_twitch.front import Denied, Front
from tests.fake_twitch.knobs import Knobs
from tests.fake_twitch.pages import page
from tests.fake_twitch.tokens import Token

PATH = "/helix/eventsub/subscriptions"
FILTERS = ("status", "type", "user_id", "subscription_id")
PAGE = 100
NO_SESSION = "websocket transport session does not exist or has already disconnected"


@dataclass
class Subscriptions:
    eventsub: EventSub
    knobs: Knobs

    def routes(self, front: Front) -> list[Route]:
        group = "eventsub.subscriptions"
        return [
            front.guarded(PATH, group, self.create, "POST"),
            front.guarded(PATH, group, self.show, "GET"),
            front.guarded(PATH, group, self.delete, "DELETE"),
        ]

    async def create(self, request: Request, token: Token) -> Response:
        asked = await read_json(request)
        method = asked.get("transport", {}).get("method")
        # User tokens are for sockets, the application's for everything else.
        if (method == "websocket") != bool(token.user_id):
            raise Denied(400, "invalid transport and auth combination")
        self._check_type(asked, token, method)
        self._check_transport(asked["transport"], token)
        self._check_room(asked, token)
        subscription = self.eventsub.add(asked, token.client_id, token.user_id)
        for session in self.eventsub.sockets.chosen(subscription.transport.get("session_id", "-")):
            session.used = True
        pool = self.eventsub.pool(token.client_id, token.user_id, method)
        return JSONResponse(self._answer([subscription], *pool), 202)

    async def show(self, request: Request, token: Token) -> Response:
        """The application's, or the sockets' of the user whose token it is."""
        query = request.query_params
        filters = [name for name in FILTERS if name in query]
        if len(filters) > 1:
            raise Denied(400, f"{' and '.join(filters)} are mutually exclusive")
        found = [s for s in self.eventsub.of(token.client_id) if s.user_id == token.user_id]
        if filters:
            found = [s for s in found if _fits(s, filters[0], query[filters[0]])]
        pool = self.eventsub.pool(token.client_id, token.user_id, "webhook")
        part = page(found, query, self.knobs, first=PAGE)
        return JSONResponse({**self._answer(part["data"], *pool), "pagination": part["pagination"]})

    async def delete(self, request: Request, token: Token) -> Response:
        if not (wanted := request.query_params.get("id", "")):
            raise Denied(400, 'The query parameter "id" is required')
        subscription = self.eventsub.subscriptions.get(wanted)
        if subscription is None or subscription.client_id != token.client_id:
            raise Denied(404, "subscription not found")
        del self.eventsub.subscriptions[wanted]
        return Response(status_code=204)

    def _answer(
        self, shown: Sequence[Subscription], pool: list[Subscription], budget: int
    ) -> dict[str, Any]:
        return {
            "data": [self.eventsub.public(subscription) for subscription in shown],
            "total": len(pool),
            "total_cost": self.eventsub.total_cost(pool),
            "max_total_cost": budget,
        }

    def _check_type(self, asked: dict[str, Any], token: Token, method: str) -> None:
        kind, version = asked.get("type", ""), asked.get("version", "")
        if version not in VERSIONS.get(kind, ()):
            raise Denied(400, "invalid subscription type and version")
        condition = asked.get("condition")
        if not isinstance(condition, dict):
            raise Denied(400, "condition is missing")
        if kind in BY_CLIENT:
            if condition.get("client_id") != token.client_id:
                raise Denied(403, "subscription missing proper authorization")
            if method == "websocket":
                raise Denied(400, "this type is not available by websocket")
        elif self.eventsub.world.by_id(condition.get("broadcaster_user_id", "")) is None:
            raise Denied(400, "invalid user id in condition")

    def _check_transport(self, transport: dict[str, str], token: Token) -> None:
        match transport["method"]:
            case "webhook":
                check_webhook(transport, self.knobs)
            case "websocket":
                self._check_session(transport.get("session_id", ""), token)
            case "conduit":
                wanted = transport.get("conduit_id", "")
                if self.eventsub.conduits.find(wanted, token.client_id) is None:
                    raise Denied(400, "conduit does not exist")
            case _:
                raise Denied(400, "invalid transport method")

    def _check_session(self, session_id: str, token: Token) -> None:
        if session_id not in self.eventsub.sockets.sessions:
            raise Denied(400, NO_SESSION)
        alive = [s for s in self.eventsub.in_session(session_id) if s.is_alive]
        if any((s.client_id, s.user_id) != (token.client_id, token.user_id) for s in alive):
            raise Denied(400, "a websocket transport cannot serve different users")
        if len(alive) >= self.knobs.subscriptions_per_socket:
            raise Denied(429, "number of subscriptions of the websocket transport exceeded")
        mine, _ = self.eventsub.pool(token.client_id, token.user_id, "websocket")
        sockets = {s.transport["session_id"] for s in mine if s.is_alive}
        if len(sockets | {session_id}) > self.knobs.sockets_per_user:
            raise Denied(429, "number of websocket transports limit exceeded")

    def _check_room(self, asked: dict[str, Any], token: Token) -> None:
        method, kind = asked["transport"]["method"], asked["type"]
        pool, budget = self.eventsub.pool(token.client_id, token.user_id, method)
        same = [s for s in pool if s.is_alive and _is_same(s, asked)]
        if any(_identity(s.transport) == _identity(asked["transport"]) for s in same):
            raise Denied(409, "subscription already exists")
        if len(same) >= self.knobs.same_condition:
            raise Denied(429, "maximum subscriptions with type and condition exceeded")
        broadcaster = asked["condition"].get("broadcaster_user_id", "")
        cost = self.eventsub.cost(token.client_id, kind, broadcaster)
        if self.eventsub.total_cost(pool) + cost > budget:
            raise Denied(429, "subscription cost exceeded")


def check_webhook(transport: dict[str, str], knobs: Knobs) -> None:
    """A conduit's shard has to keep the same rules."""
    callback, secret = urlsplit(transport.get("callback", "")), transport.get("secret", "")
    ports = (None, 443) if knobs.https_only else (callback.port,)
    schemes = ("https",) if knobs.https_only else ("https", "http")
    if callback.scheme not in schemes or callback.port not in ports or not callback.hostname:
        raise Denied(400, "invalid callback: it has to be https on port 443")
    if not secret.isascii() or not 10 <= len(secret) <= 100:
        raise Denied(400, "invalid secret: it has to be 10 to 100 ASCII characters")


async def read_json(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Denied(400, "the body has to be a JSON object")
    return body


def _is_same(known: Subscription, asked: dict[str, Any]) -> bool:
    thing = known.type, known.version, known.condition
    return thing == (asked["type"], asked["version"], asked["condition"])


def _identity(transport: dict[str, str]) -> list[str | None]:
    return [transport.get(key) for key in ("method", "callback", "session_id", "conduit_id")]


def _fits(subscription: Subscription, name: str, wanted: str) -> bool:
    found = {
        "status": [subscription.status],
        "type": [subscription.type],
        "subscription_id": [subscription.id],
        "user_id": list(subscription.condition.values()),
    }
    return wanted in found[name]
