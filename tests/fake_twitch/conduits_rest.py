"""/eventsub/conduits and its shards."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fake_twitch.conduits import Conduit, Shard
from tests.fake_twitch.eventsub import EventSub
from tests.fake_twitch.eventsub_rest import NO_SESSION, PAGE, check_webhook, read_json
from tests.fake_twitch.eventsub_webhooks import Target
from tests.fake_twitch.eventsub_words import (
    ENABLED,
    PENDING,
    VERIFICATION_FAILED,
    Message,
    Subscription,
)
from tests.fake_twitch.front import Denied, Front
from tests.fake_twitch.knobs import Knobs
from tests.fake_twitch.pages import page
from tests.fake_twitch.tokens import Token

PATH = "/helix/eventsub/conduits"
MOST_SHARDS = 20_000


@dataclass
class ConduitRoutes:
    eventsub: EventSub
    knobs: Knobs

    def routes(self, front: Front) -> list[Route]:
        group, shards = "eventsub.conduits", "eventsub.shards"
        return [
            front.guarded(PATH, group, self.show, "GET"),
            front.guarded(PATH, group, self.create, "POST"),
            front.guarded(PATH, group, self.resize, "PATCH"),
            front.guarded(PATH, group, self.delete, "DELETE"),
            front.guarded(f"{PATH}/shards", shards, self.show_shards, "GET"),
            front.guarded(f"{PATH}/shards", shards, self.assign, "PATCH"),
        ]

    async def show(self, _: Request, token: Token) -> Response:
        return _data([conduit.public() for conduit in self._mine(token)])

    async def create(self, request: Request, token: Token) -> Response:
        mine = self._mine(token)
        count = _shard_count(await read_json(request))
        if len(mine) >= self.knobs.conduits_per_app:
            raise Denied(429, "conduit limit exceeded")
        return _data([self.eventsub.conduits.create(token.client_id, count).public()])

    async def resize(self, request: Request, token: Token) -> Response:
        body = await read_json(request)
        count = _shard_count(body)
        conduit = self._find(str(body.get("id", "")), token)
        conduit.resize(count)
        return _data([conduit.public()])

    async def delete(self, request: Request, token: Token) -> Response:
        self.eventsub.conduits.delete(self._find(request.query_params.get("id", ""), token))
        return Response(status_code=204)

    async def show_shards(self, request: Request, token: Token) -> Response:
        query = request.query_params
        conduit = self._find(query.get("conduit_id", ""), token)
        found = [
            shard.public()
            for shard in conduit.shards
            if query.get("status", shard.status) == shard.status
        ]
        return JSONResponse(page(found, query, self.knobs, first=PAGE))

    async def assign(self, request: Request, token: Token) -> Response:
        """202 even if some of the shards were refused."""
        body = await read_json(request)
        conduit = self._find(str(body.get("conduit_id", "")), token)
        done: list[dict[str, Any]] = []
        errors: list[dict[str, str]] = []
        for asked in body.get("shards", []):
            shard_id = str(asked.get("id", ""))
            try:
                done.append(self._assign(conduit, shard_id, asked.get("transport", {})).public())
            except Denied as denied:
                error = {"id": shard_id, "message": str(denied), "code": "invalid_parameter"}
                errors.append(error)
        return JSONResponse({"data": done, "errors": errors}, 202)

    def _assign(self, conduit: Conduit, shard_id: str, transport: dict[str, str]) -> Shard:
        shard = conduit.shard(shard_id)
        if shard is None:
            raise Denied(400, "The shard id is outside of the conduit's range")
        if transport.get("method") == "websocket":
            self._take_session(transport.get("session_id", ""))
            self.eventsub.conduits.assign(conduit, shard, dict(transport), ENABLED)
        elif transport.get("method") == "webhook":
            check_webhook(transport, self.knobs)
            self.eventsub.conduits.assign(conduit, shard, dict(transport), PENDING)
            self.eventsub.later(self._verify(conduit, shard))
        else:
            raise Denied(400, "invalid transport method")
        return shard

    def _take_session(self, session_id: str) -> None:
        found = self.eventsub.sockets.chosen(session_id) if session_id else []
        if not found:
            raise Denied(400, NO_SESSION)
        found[0].used = True

    async def _verify(self, conduit: Conduit, shard: Shard) -> None:
        target = Target(shard.transport["callback"], shard.transport["secret"])
        about = Subscription(
            id=conduit.id,
            type="conduit.shard",
            version="1",
            condition={"conduit_id": conduit.id},
            transport=dict(shard.transport),
            client_id=conduit.client_id,
            user_id="",
            status=PENDING,
            created_at="",
        )
        payload = {"challenge": str(uuid.uuid4()), "subscription": self.eventsub.public(about)}
        message = Message("webhook_callback_verification", about, payload)
        taken = await self.eventsub.webhooks.verify(target, message)
        shard.status = ENABLED if taken else VERIFICATION_FAILED

    def _mine(self, token: Token) -> list[Conduit]:
        if token.user_id:
            raise Denied(401, "an app access token is needed")
        self.eventsub.conduits.delete_dead()
        return self.eventsub.conduits.of(token.client_id)

    def _find(self, conduit_id: str, token: Token) -> Conduit:
        self._mine(token)
        if not conduit_id:
            raise Denied(400, "the conduit's id is missing")
        conduit = self.eventsub.conduits.find(conduit_id, token.client_id)
        if conduit is None:
            raise Denied(404, "conduit not found")
        return conduit


def _shard_count(body: dict[str, Any]) -> int:
    count = body.get("shard_count")
    if not isinstance(count, int) or not 1 <= count <= MOST_SHARDS:
        raise Denied(400, f"shard_count has to be from 1 to {MOST_SHARDS}")
    return count


def _data(found: list[dict[str, Any]]) -> Response:
    return JSONResponse({"data": found})
