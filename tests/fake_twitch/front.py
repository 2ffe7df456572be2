"""What stands before every handler of Helix, id and EventSub: log, faults, tokens and points."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.fake_twitch.buckets import Buckets
from tests.fake_twitch.calls import Call, CallLog
from tests.fake_twitch.faults import Fault, Faults, answer
from tests.fake_twitch.knobs import Knobs
from tests.fake_twitch.tokens import Token, Tokens

Handler = Callable[[Request], Awaitable[Response]]
Guarded = Callable[[Request, Token], Awaitable[Response]]


class Denied(Exception):
    """A handler's way to an error answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def problem(status: int, message: str) -> Response:
    """An error as Helix writes it."""
    body = {"error": HTTPStatus(status).phrase, "status": status, "message": message}
    return JSONResponse(body, status)


@dataclass
class Front:
    knobs: Knobs
    faults: Faults
    calls: CallLog
    tokens: Tokens
    buckets: Buckets

    def open(self, path: str, group: str, handler: Handler, method: str) -> Route:
        """A route of id.twitch.tv, which looks at tokens itself."""

        async def served(request: Request) -> Response:
            call = self._begin(group, request)
            return await self._end(call, request, handler)

        return Route(path, served, methods=[method])

    def guarded(self, path: str, group: str, handler: Guarded, method: str) -> Route:
        """A route of Helix: `Client-Id`, a bearer token that fits it, and a point of its bucket."""

        async def served(request: Request) -> Response:
            call = self._begin(group, request)
            return await self._end(call, request, lambda r: self._pass(r, handler))

        return Route(path, served, methods=[method])

    def _begin(self, group: str, request: Request) -> Call:
        call = self.calls.begin(group, request)
        request.state.call = call
        return call

    async def _end(self, call: Call, request: Request, handler: Handler) -> Response:
        fault = self.faults.hit_call(call.group, call.method, call.client_id)
        usual = Response() if fault and not fault.carries_out else await handler(request)
        given = await answer(fault, usual)
        if fault and fault.kind == "status":
            given = self._failed(fault, given)
        return call.end(fault, given)

    def _failed(self, fault: Fault, given: Response) -> Response:
        if not fault.body:
            given = problem(fault.status, "")
        if fault.status == 429:
            reset = math.ceil(time.time() + self.knobs.date_skew_s + fault.seconds)
            given.headers["Ratelimit-Limit"] = str(self.knobs.points_per_min)
            given.headers["Ratelimit-Remaining"] = "0"
            given.headers["Ratelimit-Reset"] = str(reset)
        return given

    async def _pass(self, request: Request, handler: Guarded) -> Response:
        try:
            token = self._token(request)
        except Denied as denied:
            return problem(denied.status, str(denied))
        owner = token.client_id, token.user_id
        if self.buckets.take(owner):
            try:
                given = await handler(request, token)
            except Denied as denied:
                given = problem(denied.status, str(denied))
        else:
            given = problem(429, "")
        given.headers.update(self.buckets.headers(owner))
        return given

    def _token(self, request: Request) -> Token:
        if "authorization" not in request.headers:
            raise Denied(401, "OAuth token is missing")
        if not (client_id := request.headers.get("client-id", "")):
            raise Denied(401, "Client ID is missing")
        token = self.tokens.find(request, "bearer")
        if token is None:
            raise Denied(401, "Invalid OAuth token")
        if token.client_id != client_id:
            raise Denied(401, "Client ID and OAuth token do not match")
        return token


class Clock:
    """Puts `Date` on every answer; that of Helix and id comes from Twitch's skewed clock."""

    def __init__(self, app: ASGIApp, knobs: Knobs) -> None:
        self.app = app
        self.knobs = knobs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        skewed = scope["path"].startswith(("/helix", "/oauth2"))
        skew_s = self.knobs.date_skew_s if skewed else 0

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(time.time() + skew_s, usegmt=True)
                MutableHeaders(scope=message)["date"] = date
            await send(message)

        return await self.app(scope, receive, dated)
