"""Control routes of EventSub (`/ctl/…`): disturb deliveries, break sockets, look at the log."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fake_twitch.control_requests import control, done, read_body
from tests.fake_twitch.eventsub import EventSub
from tests.fake_twitch.eventsub_sockets import Session
from tests.fake_twitch.faults import Refused


@dataclass
class EventSubControl:
    eventsub: EventSub

    def routes(self) -> list[Route]:
        return [
            control("/ctl/subscriptions", self.subscriptions),
            control("/ctl/subscriptions/{id}/revoke", self.revoke, "POST"),
            control("/ctl/disturbances", self.disturb, "POST"),
            control("/ctl/disturbances", self.calm, "DELETE"),
            control("/ctl/deliveries", self.deliveries),
            control("/ctl/deliveries/{id}/replay", self.replay, "POST"),
            control("/ctl/sockets", self.sockets),
            control("/ctl/sockets", self.close_sockets, "DELETE"),
            control("/ctl/sockets/{action}", self.act, "POST"),
            control("/ctl/conduits", self.conduits),
            control("/ctl/conduits/{id}", self.lose_conduit, "DELETE"),
            control("/ctl/conduits/{id}/shards/{shard}", self.lose_shard, "DELETE"),
        ]

    async def subscriptions(self, request: Request) -> Response:
        wanted = request.query_params.get("client_id", "")
        return JSONResponse(
            [
                {**self.eventsub.public(s), "client_id": s.client_id, "user_id": s.user_id}
                for s in self.eventsub.subscriptions.values()
                if wanted in ("", s.client_id)
            ]
        )

    async def revoke(self, request: Request) -> Response:
        body = await read_body(request)
        subscription = self.eventsub.subscriptions[request.path_params["id"]]
        self.eventsub.revoke(subscription, body.get("status", "authorization_revoked"))
        return done()

    async def disturb(self, request: Request) -> Response:
        rule = self.eventsub.disturbances.add(**await read_body(request))
        return JSONResponse(asdict(rule), 201)

    async def calm(self, _: Request) -> Response:
        self.eventsub.disturbances.rules.clear()
        return done()

    async def deliveries(self, request: Request) -> Response:
        query = request.query_params
        client_id, kind = query.get("client_id", ""), query.get("type", "")
        return JSONResponse(
            [
                asdict(row)
                for row in self.eventsub.log.rows
                if client_id in ("", row.client_id) and kind in ("", row.type)
            ]
        )

    async def replay(self, request: Request) -> Response:
        status = await self.eventsub.webhooks.replay(request.path_params["id"])
        return JSONResponse({"status": status})

    async def sockets(self, _: Request) -> Response:
        return JSONResponse([self._describe(s) for s in self.eventsub.sockets.chosen()])

    async def close_sockets(self, request: Request) -> Response:
        code = int(request.query_params.get("code", "4000"))
        for session in self._chosen(request.query_params.get("session_id", "")):
            await session.close(code)
        return done()

    async def act(self, request: Request) -> Response:
        """`cut`, `reconnect`, or `silence` with `on`."""
        body, action = await read_body(request), request.path_params["action"]
        sockets = self.eventsub.sockets
        for session in self._chosen(body.get("session_id", "")):
            match action:
                case "cut":
                    sockets.cut(session)
                case "reconnect":
                    self.eventsub.later(sockets.reconnect(session))
                case "silence":
                    session.silent = bool(body.get("on", True))
                case _:
                    raise Refused("actions are cut, reconnect and silence")
        return done()

    async def conduits(self, request: Request) -> Response:
        wanted = request.query_params.get("client_id", "")
        return JSONResponse(
            [
                {
                    **conduit.public(),
                    "client_id": conduit.client_id,
                    "shards": [shard.public() for shard in conduit.shards],
                }
                for conduit in self.eventsub.conduits.conduits.values()
                if wanted in ("", conduit.client_id)
            ]
        )

    async def lose_conduit(self, request: Request) -> Response:
        conduits = self.eventsub.conduits
        conduits.delete(conduits.conduits[request.path_params["id"]])
        return done()

    async def lose_shard(self, request: Request) -> Response:
        conduit = self.eventsub.conduits.conduits[request.path_params["id"]]
        shard = conduit.shard(request.path_params["shard"])
        if shard is None:
            raise Refused("no such shard")
        status = request.query_params.get("status", "websocket_network_error")
        self.eventsub.conduits.disable(conduit, shard, status)
        return done()

    def _chosen(self, session_id: str) -> list[Session]:
        found = self.eventsub.sockets.chosen(session_id)
        if session_id and not found:
            raise Refused("no such session")
        return found

    def _describe(self, session: Session) -> dict[str, object]:
        found = [s for s in self.eventsub.in_session(session.id) if s.is_alive]
        return {
            "session_id": session.id,
            "user_id": found[0].user_id if found else "",
            "subscriptions": len(found),
            "connected_at": session.connected_at,
        }
