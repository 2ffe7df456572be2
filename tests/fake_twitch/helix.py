"""Helix: what detection, look-up, follows and links to videos ask for."""

from __future__ import annotations

import io
import re
import zlib
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fake_twitch import bodies
from tests.fake_twitch.faults import Faults
from tests.fake_twitch.front import Denied, Front
from tests.fake_twitch.knobs import Knobs
from tests.fake_twitch.pages import page
from tests.fake_twitch.tokens import Token
from tests.fake_twitch.world import Channel, World

BATCH = 100
FOLLOWS_SCOPE = "user:read:follows"
LOGIN = re.compile(r"[A-Za-z0-9_]{1,25}")


@dataclass
class Helix:
    world: World
    faults: Faults
    knobs: Knobs
    follows: dict[str, dict[str, float]] = field(default_factory=dict)
    """User id of who follows, then of who is followed, and since when."""

    def routes(self, front: Front) -> list[Route]:
        nouns = {
            "users": (self.users, "users"),
            "streams": (self.streams, "streams"),
            "streams/followed": (self.followed_streams, "streams_followed"),
            "channels": (self.channels, "channels"),
            "channels/followed": (self.followed, "followed"),
            "games": (self.games, "games"),
            "videos": (self.videos, "videos"),
        }
        return [
            *(
                front.guarded(f"/helix/{noun}", f"helix.{part}", handler, "GET")
                for noun, (handler, part) in nouns.items()
            ),
            Route("/jtv_user_pictures/{name}", picture),
            Route("/ttv-boxart/{name}", picture),
        ]

    async def users(self, request: Request, token: Token) -> Response:
        query = request.query_params
        ids, logins = query.getlist("id"), query.getlist("login")
        if not ids and not logins and not token.user_id:
            raise Denied(400, "Must provide an ID, Login or OAuth Token")
        if len(ids) + len(logins) > BATCH:
            raise Denied(400, f"The parameters hold more than {BATCH} values")
        # One bad name spoils the whole call.
        if not all(map(LOGIN.fullmatch, logins)) or not all(map(str.isdigit, ids)):
            raise Denied(400, "Invalid username(s), email(s), or ID(s). Bad Identifiers.")
        asked = self._asked(ids, logins) if ids or logins else self._asked([token.user_id], [])
        return _data([bodies.user(channel, self.knobs.images_url) for channel in asked])

    async def streams(self, request: Request, _: Token) -> Response:
        query = request.query_params
        ids, logins = query.getlist("user_id"), query.getlist("user_login")
        if len(ids) > BATCH or len(logins) > BATCH:
            raise Denied(400, f"The parameter user_id or user_login holds more than {BATCH} values")
        everyone = list(self.world.channels.values())
        asked = self._asked(ids, logins) if ids or logins else everyone
        return JSONResponse(page(self._live(asked), query, self.knobs))

    async def followed_streams(self, request: Request, token: Token) -> Response:
        followed = self._follows(request.query_params, token)
        found = self._live([channel for channel, _ in followed])
        return JSONResponse(page(found, request.query_params, self.knobs, first=100))

    async def channels(self, request: Request, _: Token) -> Response:
        ids = request.query_params.getlist("broadcaster_id")
        if not ids or len(ids) > BATCH:
            raise Denied(400, 'The parameter "broadcaster_id" is missing or holds too many values')
        return _data([bodies.channel_information(c) for c in self._asked(ids, [])])

    async def followed(self, request: Request, token: Token) -> Response:
        query = request.query_params
        wanted = query.get("broadcaster_id")
        found = [
            bodies.followed(channel, since)
            for channel, since in self._follows(query, token)
            if wanted in (None, channel.user_id)
        ]
        return JSONResponse({"total": len(found), **page(found, query, self.knobs)})

    async def games(self, request: Request, _: Token) -> Response:
        query = request.query_params
        ids, names = query.getlist("id"), {name.lower() for name in query.getlist("name")}
        if (not ids and not names) or len(ids) + len(names) > BATCH:
            raise Denied(400, "The parameters id, name and igdb_id are missing or too many")
        found = [
            bodies.game(key, name, self.knobs.images_url)
            for key, name in self.world.categories.items()
            if key in ids or name.lower() in names
        ]
        return JSONResponse({"data": found, "pagination": {}})

    async def videos(self, request: Request, _: Token) -> Response:
        """`type` other than archive and all finds none, since nobody uploads here."""
        query = request.query_params
        ids, users = query.getlist("id"), query.getlist("user_id")
        if bool(ids) == bool(users) or len(users) > 1 or len(ids) > BATCH:
            raise Denied(400, "Exactly one of the parameters id, user_id and game_id is needed")
        asked = self._asked(users, []) if users else list(self.world.channels.values())
        found = [bodies.video(c, past) for c in asked for past in reversed(c.history)]
        if ids:
            found = [video for video in found if video["id"] in ids]
        if query.get("type", "all") not in ("all", "archive"):
            found = []
        return JSONResponse(page(found, query, self.knobs))

    def _live(self, asked: list[Channel]) -> list[dict[str, Any]]:
        found = [(channel, bodies.stream(channel, self.knobs.images_url)) for channel in asked]
        return [live for channel, live in found if live and not self._is_hidden(channel)]

    def _is_hidden(self, channel: Channel) -> bool:
        """A false empty for this channel alone."""
        rules = [rule for rule in self.faults.rules.values() if rule.kind == "absent"]
        hit = any(rule.channel == channel.login for rule in rules)
        return hit and self.faults.hit("helix.streams", channel.login) is not None

    def _follows(self, query: QueryParams, token: Token) -> list[tuple[Channel, float]]:
        if "user_id" not in query:
            raise Denied(400, 'Missing required parameter "user_id"')
        if not token.user_id or query["user_id"] != token.user_id:
            raise Denied(
                401, "The ID in user_id must match the user ID found in the request's OAuth token"
            )
        if FOLLOWS_SCOPE not in token.scopes:
            raise Denied(401, f"Missing scope: {FOLLOWS_SCOPE}")
        followed = self.follows.get(token.user_id, {})
        found = [(self.world.by_id(user_id), since) for user_id, since in followed.items()]
        return [(channel, since) for channel, since in found if channel]

    def _asked(self, ids: list[str], logins: list[str]) -> list[Channel]:
        """Whoever is not there is left out; asked for twice is found once."""
        found = [self.world.by_id(user_id) for user_id in ids]
        found += [self.world.channel(login) for login in logins]
        channels = list({c.user_id: c for c in found if c}.values())
        for channel in channels:
            channel.advance()
        return channels


def _data(found: list[dict[str, Any]]) -> Response:
    return JSONResponse({"data": found})


async def picture(request: Request) -> Response:
    """A small picture whose colour comes from its name."""
    name = request.path_params["name"]
    size = (50, 50) if name.endswith(".png") else (30, 40)
    colour = tuple(zlib.crc32(name.encode()) >> shift & 0xFF for shift in (0, 8, 16))
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG" if name.endswith(".png") else "JPEG")
    media_type = "image/png" if name.endswith(".png") else "image/jpeg"
    return Response(file.getvalue(), media_type=media_type)
