"""The control routes (`/ctl/…`, JSON): change what is live, break things, and ask for the truth."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fake_twitch.control_requests import Body, control, done, read_body
from tests.fake_twitch.faults import Refused
from tests.fake_twitch.origin import Origin
from tests.fake_twitch.playlists import find_variant, iso
from tests.fake_twitch.proxy import Proxy
from tests.fake_twitch.services import Services
from tests.fake_twitch.streams import Slot, Variant
from tests.fake_twitch.world import Channel

DESCRIPTION = ("title", "category", "category_id")
ACCOUNT = ("name", "description", "language", "tags")


@dataclass
class Control:
    origin: Origin
    services: Services
    proxy: Proxy
    _warm: set[str] = field(default_factory=set)

    def routes(self) -> list[Route]:
        channel = "/ctl/channels/{login}"
        return [
            control("/ctl/state", self.state),
            control("/ctl/bulk/channels", self.add_many, "POST"),
            control("/ctl/bulk/online", self.go_live, "POST"),
            control(channel, self.show),
            control(channel, self.put, "PUT"),
            control(f"{channel}/truth", self.truth),
            control(f"{channel}/segments/{{number:int}}", self.raw),
            control(f"{channel}/{{action}}", self.act, "POST"),
            control("/ctl/faults", self.add_fault, "POST"),
            control("/ctl/faults", self.drop_faults, "DELETE"),
            control("/ctl/proxy", self.set_proxy, "PUT"),
        ]

    async def state(self, _: Request) -> Response:
        world, eventsub = self.origin.world, self.services.eventsub
        for channel in world.channels.values():
            channel.advance()
        return JSONResponse(
            {
                "channels": {c.login: _summary(c) for c in world.channels.values()},
                "requests": dict(self.origin.seen),
                "helix_calls": len(self.services.calls.find("helix")),
                "tunnels": dict(self.proxy.tunnels),
                "sessions": len(world.sessions),
                "subscriptions": [eventsub.public(s) for s in eventsub.subscriptions.values()],
                "sockets": len(eventsub.sockets.sessions),
                "events": [(r.transport, r.message_type, r.type) for r in eventsub.log.rows],
                "faults": [asdict(fault) for fault in self.origin.faults.rules.values()],
            }
        )

    async def show(self, request: Request) -> Response:
        return JSONResponse(_summary(self._channel(request)))

    async def put(self, request: Request) -> Response:
        """Create or change: `title` and the like, `variants`, any of `Options`."""
        body = await read_body(request)
        channel = self.origin.world.add(request.path_params["login"])
        channel.advance()
        if "variants" in body:
            channel.variants = tuple(Variant(**variant) for variant in body.pop("variants"))
        await self.warm(channel)
        _change(channel, body)
        return JSONResponse(_summary(channel))

    async def add_many(self, request: Request) -> Response:
        """`count` channels that are called `prefix` and a number."""
        body = await read_body(request)
        count, prefix = body.pop("count"), body.pop("prefix")
        channels = [self.origin.world.add(f"{prefix}{number}") for number in range(count)]
        for channel in channels:
            _change(channel, dict(body))
        return JSONResponse({channel.login: channel.user_id for channel in channels})

    async def go_live(self, request: Request) -> Response:
        """`logins`, evenly spread over `over_s` seconds; the rest are options of the streams."""
        body = await read_body(request)
        logins, over_s = body.pop("logins"), body.pop("over_s", 0)
        channels = [self.origin.world.channels[login] for login in logins]
        for channel in channels:
            await self.warm(channel)
        started, begun = [], asyncio.get_running_loop().time()
        for place, channel in enumerate(channels):
            due = begun + over_s * place / len(channels)
            await asyncio.sleep(max(0, due - asyncio.get_running_loop().time()))
            self._online(channel, **body)
            summary = _summary(channel)
            about = {key: summary[key] for key in ("login", "user_id", "stream_id")}
            started.append({**about, "at": channel.changed_at})
        return JSONResponse(started)

    async def act(self, request: Request) -> Response:
        channel = self._channel(request)
        body, action = await read_body(request), request.path_params["action"]
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
            "announce": lambda kind, event: self._announce(channel, kind, event),
            "rename": lambda login: self.origin.world.rename(channel, login),
            "remove": lambda: self._remove(channel),
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
        fault = self.origin.faults.add(**await read_body(request))
        return JSONResponse(asdict(fault), 201)

    async def drop_faults(self, _: Request) -> Response:
        self.origin.faults.rules.clear()
        return done()

    async def set_proxy(self, request: Request) -> Response:
        """`mode`, `login`; `cut` ends what is open."""
        body = await read_body(request)
        self.proxy.mode = body.get("mode", self.proxy.mode)
        self.proxy.login = body.get("login", self.proxy.login)
        return JSONResponse({"cut": self.proxy.cut() if body.get("cut") else 0})

    def _channel(self, request: Request) -> Channel:
        channel = self.origin.world.channel(request.path_params["login"])
        if channel is None:
            raise Refused("no such channel; PUT it first")
        return channel

    async def warm(self, channel: Channel) -> None:
        """ffmpeg makes a pool in seconds; nothing else has to wait for it."""
        for profile in {*(variant.profile for variant in channel.variants), "ad"} - self._warm:
            await asyncio.to_thread(self.origin.pools.__getitem__, profile)
            self._warm.add(profile)

    def _online(self, channel: Channel, stream_id: str = "", **options: Any) -> None:
        """`stream_id` "same" comes back under the old id; the rest are options of the stream."""
        if channel.stream:
            raise Refused("already online")
        if stream_id == "same":
            stream_id = channel.ending.stream.id if channel.ending else ""
        channel.go_online(replace(channel.options, **options), stream_id)

    def _announce(self, channel: Channel, kind: str, event: Body) -> None:
        self.services.eventsub.announce(channel, kind, event)

    def _remove(self, channel: Channel) -> None:
        """The account is gone; so are subscriptions to it."""
        self.services.eventsub.remove_user(channel.user_id)
        self.origin.world.remove(channel)

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


def _change(channel: Channel, body: Body) -> None:
    """A new description is announced."""
    described = {key: body.pop(key) for key in DESCRIPTION if key in body}
    for key in ACCOUNT:
        if key in body:
            setattr(channel, key, tuple(body[key]) if key == "tags" else body[key])
            del body[key]
    channel.configure(**body)
    if described:
        now = {key: getattr(channel, key) for key in DESCRIPTION}
        channel.describe(**{**now, **described})


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
