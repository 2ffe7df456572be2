"""What all control routes share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fake_twitch.faults import Refused

Body = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]


def control(path: str, handler: Handler, method: str = "GET") -> Route:
    """A request that makes no sense is answered with 400 and the reason."""

    async def checked(request: Request) -> Response:
        try:
            return await handler(request)
        except (Refused, TypeError, KeyError) as error:
            return JSONResponse({"error": str(error)}, 400)

    return Route(path, checked, methods=[method])


async def read_body(request: Request) -> Body:
    body = await request.json() if await request.body() else {}
    if not isinstance(body, dict):
        raise Refused("takes a JSON object")
    return body


def done() -> Response:
    return Response(status_code=204)
