"""Helix and id.twitch.tv in short: what detection, look-up and sign-in ask for."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fake_twitch.eventsub import rfc3339
from tests.fake_twitch.faults import Faults, answer
from tests.fake_twitch.world import Channel, World

CLIENT_ID = "fakeclientid000000000000000000"
CLIENT_SECRET = "fakeclientsecret00000000000000"
POINTS_PER_MIN = 800
APP_TOKEN_S = 5_000_000

Handler = Callable[[Request], Awaitable[Response]]


@dataclass
class Helix:
    """`tokens` maps each access token to when it ends (epoch seconds)."""

    world: World
    faults: Faults
    tokens: dict[str, float] = field(default_factory=dict)
    calls: int = 0
    _points: float = POINTS_PER_MIN
    _filled_at: float = field(default_factory=time.monotonic)

    def routes(self) -> list[Route]:
        nouns = {
            "users": self.users,
            "streams": self.streams,
            "channels": self.channels,
            "games": self.games,
            "videos": self.videos,
        }
        return [
            *(Route(f"/helix/{noun}", self._guarded(handler)) for noun, handler in nouns.items()),
            Route("/oauth2/token", self.token, methods=["POST"]),
            Route("/oauth2/validate", self.validate),
        ]

    async def users(self, request: Request) -> Response:
        query = request.query_params
        return _data([_user(c) for c in self._asked(query.getlist("id"), query.getlist("login"))])

    async def streams(self, request: Request) -> Response:
        query = request.query_params
        asked = self._asked(query.getlist("user_id"), query.getlist("user_login"))
        first = int(query.get("first", "20"))
        live = [stream for channel in asked if (stream := _stream(channel))]
        return JSONResponse({"data": live[:first], "pagination": {}})

    async def channels(self, request: Request) -> Response:
        asked = self._asked(request.query_params.getlist("broadcaster_id"), [])
        return _data([_channel(channel) for channel in asked])

    async def games(self, request: Request) -> Response:
        wanted = set(request.query_params.getlist("id"))
        known = {c.category_id: c.category for c in self.world.channels.values()}
        art = "https://static-cdn.jtvnw.net/ttv-boxart/{}-{{width}}x{{height}}.jpg"
        found = [
            {"id": key, "name": name, "box_art_url": art.format(key), "igdb_id": ""}
            for key, name in known.items()
            if key in wanted
        ]
        return _data(found)

    async def videos(self, _: Request) -> Response:
        return JSONResponse({"data": [], "pagination": {}})

    async def token(self, request: Request) -> Response:
        body = (await request.body()).decode()
        fields = {**dict(request.query_params), **_form(body)}
        known = fields.get("client_id") == CLIENT_ID, fields.get("client_secret") == CLIENT_SECRET
        usual: Response
        if not all(known):
            usual = JSONResponse({"status": 403, "message": "invalid client secret"}, 403)
        elif fields.get("grant_type") != "client_credentials":
            usual = JSONResponse({"status": 400, "message": "unsupported grant type"}, 400)
        else:
            token = secrets.token_hex(15)
            self.tokens[token] = time.time() + APP_TOKEN_S
            answer_ = {"access_token": token, "expires_in": APP_TOKEN_S, "token_type": "bearer"}
            usual = JSONResponse(answer_)
        return await answer(self.faults.hit("auth"), usual)

    async def validate(self, request: Request) -> Response:
        left = self._left(request, ("OAuth ", "Bearer "))
        usual = JSONResponse({"client_id": CLIENT_ID, "scopes": [], "expires_in": int(left)})
        if left <= 0:
            usual = JSONResponse({"status": 401, "message": "invalid access token"}, 401)
        return await answer(self.faults.hit("auth"), usual)

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            self.calls += 1
            if self._left(request, ("Bearer ",)) <= 0 or "client-id" not in request.headers:
                error = {"error": "Unauthorized", "status": 401, "message": "Invalid OAuth token"}
                return JSONResponse(error, 401)
            usual = await handler(request) if self._take_point() else _too_many()
            usual.headers["Ratelimit-Limit"] = str(POINTS_PER_MIN)
            usual.headers["Ratelimit-Remaining"] = str(int(self._points))
            usual.headers["Ratelimit-Reset"] = str(int(time.time()) + 1)
            return await answer(self.faults.hit("helix"), usual)

        return guarded

    def _take_point(self) -> bool:
        now = time.monotonic()
        refill = (now - self._filled_at) * POINTS_PER_MIN / 60
        self._points = min(POINTS_PER_MIN, self._points + refill)
        self._filled_at = now
        if self._points < 1:
            return False
        self._points -= 1
        return True

    def _left(self, request: Request, schemes: tuple[str, ...]) -> float:
        header = request.headers.get("authorization", "")
        for scheme in schemes:
            if header.startswith(scheme):
                return self.tokens.get(header.removeprefix(scheme), 0) - time.time()
        return 0

    def _asked(self, ids: list[str], logins: list[str]) -> list[Channel]:
        wanted = {login.lower() for login in logins}
        found = [c for c in self.world.channels.values() if c.user_id in ids or c.login in wanted]
        for channel in found:
            channel.advance()
        return found


def _data(found: list[dict[str, Any]]) -> Response:
    return JSONResponse({"data": found})


def _form(body: str) -> dict[str, str]:
    return dict(parse_qsl(body))


def _too_many() -> Response:
    return JSONResponse({"error": "Too Many Requests", "status": 429, "message": ""}, 429)


def _user(channel: Channel) -> dict[str, Any]:
    return {
        "id": channel.user_id,
        "login": channel.login,
        "display_name": channel.name,
        "type": "",
        "broadcaster_type": "",
        "description": "",
        "profile_image_url": f"https://static-cdn.jtvnw.net/jtv_user_pictures/{channel.login}.png",
        "offline_image_url": "",
        "created_at": "2020-01-01T00:00:00Z",
    }


def _stream(channel: Channel) -> dict[str, Any] | None:
    """What Get Streams says; it learns of a change `helix_lag_s` later."""
    lag = channel.options.helix_lag_s
    behind = time.time() < channel.changed_at + lag
    ended = channel.ending.stream if channel.ending else None
    stream = (None if channel.stream else ended) if behind else channel.stream
    if stream is None:
        return None
    return {
        "id": stream.id,
        "user_id": channel.user_id,
        "user_login": channel.login,
        "user_name": channel.name,
        "game_id": channel.category_id,
        "game_name": channel.category,
        "type": "live",
        "title": channel.title,
        "tags": [],
        "viewer_count": 1,
        "started_at": rfc3339(stream.started_at)[:19] + "Z",
        "language": "en",
        "thumbnail_url": f"https://static-cdn.jtvnw.net/live/{channel.login}-{{width}}x{{height}}.jpg",
        "is_mature": False,
    }


def _channel(channel: Channel) -> dict[str, Any]:
    return {
        "broadcaster_id": channel.user_id,
        "broadcaster_login": channel.login,
        "broadcaster_name": channel.name,
        "broadcaster_language": "en",
        "game_id": channel.category_id,
        "game_name": channel.category,
        "title": channel.title,
        "tags": [],
        "content_classification_labels": [],
    }
