"""The control routes (`/ctl/…`, JSON): change what is live, break things, and ask for the truth."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fake_twitch.eventsub import EventSub
from tests.fake_twitch.faults import Refused
from tests.fake_twitch.helix import Helix
from tests.fake_twitch.origin import Origin
from tests.fake_twitch.playlists import find_variant, iso
from tests.fake_twitch.proxy import Proxy
from tests.fake_twitch.world import Channel, Slot, Variant

Body = dict[str, Any]


@dataclass
class Control:
    origin: Origin
    helix: Helix
    eventsub: EventSub
    proxy: Proxy

    def routes(self) -> list[Route]:
        channel = "/ctl/channels/{login}"
        return [
            Route("/ctl/state", _checked(self.state)),
            Route(channel, _checked(self.put), methods=["PUT"]),
            Route(f"{channel}/truth", _checked(self.truth)),
            Route(f"{channel}/segments/{{number:int}}", _checked(self.raw)),
            Route(f"{channel}/{{action}}", _checked(self.act), methods=["POST"]),
            Route("/ctl/faults", _checked(self.add_fault), methods=["POST"]),
            Route("/ctl/faults", _checked(self.drop_faults), methods=["DELETE"]),
            Route("/ctl/proxy", _checked(self.set_proxy), methods=["PUT"]),
            Route("/ctl/tokens", _checked(self.drop_tokens), methods=["DELETE"]),
            Route("/ctl/sockets", _checked(self.close_sockets), methods=["DELETE"]),
        ]

    async def state(self, _: Request) -> Response:
        world = self.origin.world
        for channel in world.channels.values():
            channel.advance()
        return JSONResponse(
            {
                "channels": {c.login: _summary(c) for c in world.channels.values()},
                "requests": dict(self.origin.seen),
                "helix_calls": self.helix.calls,
                "tunnels": dict(self.proxy.tunnels),
                "sessions": len(world.sessions),
                "subscriptions": [s.public() for s in self.eventsub.subscriptions.values()],
                "sockets": len(self.eventsub.sockets),
                "events": self.eventsub.sent,
                "faults": [asdict(fault) for fault in self.origin.faults.rules.values()],
            }
        )

    async def put(self, request: Request) -> Response:
        """Create or change: `title`, `category`, `category_id`, `variants`, any of `Options`."""
        body = await _body(request)
        channel = self.origin.world.add(request.path_params["login"])
        channel.advance()
        if "variants" in body:
            channel.variants = tuple(Variant(**variant) for variant in body.pop("variants"))
        await self.warm(channel)
        described: Body = {
            k: body.pop(k) for k in ("title", "category", "category_id") if k in body
        }
        channel.configure(**body)
        if described:
            now = {
                "title": channel.title,
                "category": channel.category,
                "category_id": channel.category_id,
            }
            channel.describe(**{**now, **described})
        return JSONResponse(_summary(channel))

    async def act(self, request: Request) -> Response:
        channel = self._channel(request)
        body, action = await _body(request), request.path_params["action"]
        actions: dict[str, Callable[..., None]] = {
            "online": lambda **b: self._online(channel, **b),
            "offline": channel.go_offline,
            "publish": lambda count=1: channel.publish(count),
            "pause": channel.pause,
            "resume": channel.resume,
            "ad": lambda segments=3, mark="both": channel.start_ads(segments, mark),
            "discontinuity": lambda pts_jump_s=0.0, date_jump_s=0.0: channel.break_time(
                pts_jump_s, date_jump_s
            ),
            "expire_sessions": lambda: self._expire(channel),
            "reset_sequence": lambda: self._reset(channel),
        }
        if action not in actions:
            raise Refused(f"actions are {sorted(actions)}")
        if action == "online":
            await self.warm(channel)
        actions[action](**body)
        return JSONResponse(_summary(channel))

    async def truth(self, request: Request) -> Response:
        """All published segments, channel-wide ads too; `?variant=`, the source by default."""
        channel = self._channel(request)
        variant = request.query_params.get("variant", "")
        slots = list(channel.slots)
        return JSONResponse(
            await asyncio.to_thread(lambda: [self._describe(channel, s, variant) for s in slots])
        )

    async def raw(self, request: Request) -> Response:
        channel = self._channel(request)
        slot = channel.slot(request.path_params["number"])
        if slot is None:
            raise Refused("not published yet")
        variant = request.query_params.get("variant") or _source(slot)
        body = self.origin.body(channel.login, variant, slot, slot.ad is not None)
        return Response(body, media_type="application/octet-stream")

    async def add_fault(self, request: Request) -> Response:
        fault = self.origin.faults.add(**await _body(request))
        return JSONResponse(asdict(fault), 201)

    async def drop_faults(self, _: Request) -> Response:
        self.origin.faults.rules.clear()
        return Response(status_code=204)

    async def set_proxy(self, request: Request) -> Response:
        """`mode`, `login`; `cut` ends what is open."""
        body = await _body(request)
        self.proxy.mode = body.get("mode", self.proxy.mode)
        self.proxy.login = body.get("login", self.proxy.login)
        return JSONResponse({"cut": self.proxy.cut() if body.get("cut") else 0})

    async def drop_tokens(self, _: Request) -> Response:
        self.helix.tokens.clear()
        return Response(status_code=204)

    async def close_sockets(self, request: Request) -> Response:
        code = int(request.query_params.get("code", "4000"))
        for socket in list(self.eventsub.sockets.values()):
            await socket.close(code)
        return Response(status_code=204)

    def _channel(self, request: Request) -> Channel:
        channel = self.origin.world.channel(request.path_params["login"])
        if channel is None:
            raise Refused("no such channel; PUT it first")
        return channel

    async def warm(self, channel: Channel) -> None:
        """ffmpeg makes a pool in seconds; nothing else has to wait for it."""
        for profile in [*(variant.profile for variant in channel.variants), "ad"]:
            await asyncio.to_thread(self.origin.pools.__getitem__, profile)

    def _online(self, channel: Channel, stream_id: str = "", **options: Any) -> None:
        """`stream_id` "same" comes back under the old id; the rest are options of the stream."""
        if channel.stream:
            raise Refused("already online")
        if stream_id == "same":
            stream_id = channel.ending.stream.id if channel.ending else ""
        channel.go_online(replace(channel.options, **options), stream_id)

    def _expire(self, channel: Channel) -> None:
        for session in self.origin.world.sessions.values():
            if session.channel is channel:
                session.expires = 0

    def _reset(self, channel: Channel) -> None:
        for session in self.origin.world.sessions.values():
            if session.channel is channel:
                session.reset_at = len(channel.slots)

    def _describe(self, channel: Channel, slot: Slot, variant: str) -> Body:
        name = variant or _source(slot)
        data = self.origin.body(channel.login, name, slot, slot.ad is not None)
        pool = self.origin.pools["ad" if slot.ad else find_variant(slot, name).profile]
        return {
            "number": slot.number,
            "stream_id": slot.stream_id,
            "at": slot.at,
            "pdt": iso(slot.at),
            "duration_s": slot.duration_s,
            "ad": slot.ad is not None,
            "discontinuity": slot.discontinuity,
            "title": slot.title,
            "category": slot.category,
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "crc32": zlib.crc32(data),
            "first_frame": pool.frame_number(slot.unit),
            "fetched": self.origin.fetched[channel.login, name, slot.number],
        }


def _checked(
    handler: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """A request that makes no sense is answered with 400 and the reason."""

    async def checked(request: Request) -> Response:
        try:
            return await handler(request)
        except (Refused, TypeError, KeyError) as error:
            return JSONResponse({"error": str(error)}, 400)

    return checked


async def _body(request: Request) -> Body:
    body = await request.json() if await request.body() else {}
    if not isinstance(body, dict):
        raise Refused("takes a JSON object")
    return body


def _source(slot: Slot) -> str:
    return next((v.name for v in slot.variants if v.source), slot.variants[0].name)


def _summary(channel: Channel) -> Body:
    stream = channel.stream
    return {
        "login": channel.login,
        "user_id": channel.user_id,
        "name": channel.name,
        "title": channel.title,
        "category": channel.category,
        "stream_id": stream.id if stream else None,
        "segments": len(channel.slots),
        "options": asdict(stream.options if stream else channel.options),
    }
