"""Our side of Twitch's API in front of a handler of the test, or of the fake."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from streamvault.metrics.system import Metrics
from streamvault.settings import Secret
from streamvault.twitch.breaker import Breakers
from streamvault.twitch.gate import Gate
from streamvault.twitch.helix import Helix
from streamvault.twitch.limiter import Limiter
from streamvault.twitch.oauth import OAuth
from streamvault.twitch.tokens import StoredToken, Tokens

HELIX = "https://helix.test/helix"
AUTH = "https://id.test/oauth2"
CLIENT_ID = "a-client-id-of-a-test"
CLIENT_SECRET = "canary-client-secret"

Handler = Callable[[httpx.Request], httpx.Response]


@dataclass
class MemoryStore:
    """A credential store with a lock per name, whose changes count once the lock is given back."""

    kept: dict[str, StoredToken] = field(default_factory=dict)
    locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def read(self, name: str) -> StoredToken | None:
        return self.kept.get(name)

    @asynccontextmanager
    async def locked(self, name: str) -> AsyncIterator[Held]:
        async with self.locks[name]:
            held = Held(self.kept.get(name))
            yield held
            if held.token:
                self.kept[name] = held.token

    async def delete(self, name: str) -> None:
        self.kept.pop(name, None)


@dataclass
class Held:
    token: StoredToken | None

    async def write(self, token: StoredToken) -> None:
        self.token = token

    async def mark_invalid(self, problem: str) -> None:
        self.token = replace(self.token or StoredToken(""), valid=False, problem=problem)


@dataclass
class Api:
    http: httpx.AsyncClient
    gate: Gate
    oauth: OAuth
    tokens: Tokens
    helix: Helix
    store: MemoryStore
    metrics: Metrics
    breakers: Breakers
    limiter: Limiter


@asynccontextmanager
async def api(
    handler: Handler | None = None,
    *,
    helix_url: str = HELIX,
    auth_url: str = AUTH,
    total_s: float = 2.0,
    store: MemoryStore | None = None,
    clock: Callable[[], float] | None = None,
    client_id: str = CLIENT_ID,
    client_secret: str = CLIENT_SECRET,
) -> AsyncIterator[Api]:
    """Without a handler it speaks HTTP; `clock` is that of breakers and tokens."""
    metrics = Metrics()
    clocks: dict[str, Any] = {"clock": clock} if clock else {}
    transport = httpx.MockTransport(handler) if handler else None
    async with httpx.AsyncClient(transport=transport, trust_env=False) as http:
        breakers = Breakers(metrics.twitch, **clocks)
        limiter = Limiter(metrics.twitch, **clocks)
        gate = Gate(http, breakers, limiter, metrics.twitch, total_s=total_s)
        oauth = OAuth(gate, auth_url, client_id, Secret(client_secret))
        store = store or MemoryStore()
        tokens = Tokens(oauth, store, metrics.twitch, **clocks)
        helix = Helix(gate, tokens, helix_url, client_id)
        yield Api(http, gate, oauth, tokens, helix, store, metrics, breakers, limiter)
        await tokens.close()


class Twitch:
    """A handler that gives out app tokens `app-1`, `app-2`, … and answers the rest by path.

    `answers` maps `METHOD /path` to a body, a response, or a function of the request."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = answers
        self.calls: list[httpx.Request] = []
        self.dead: set[str] = set()
        """Tokens that are answered with 401."""
        self.made = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request)
        what = f"{request.method} {request.url.path.removeprefix('/helix').removeprefix('/oauth2')}"
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if what != "POST /token" and scheme and token in self.dead:
            return said(401, "Invalid OAuth token")
        answer = self.answers.get(what)
        if answer is None and what == "POST /token":
            self.made += 1
            answer = {"access_token": f"app-{self.made}", "expires_in": 5_000_000}
        if callable(answer):
            answer = answer(request)
        if answer is None:
            return said(404, f"nothing at {what}")
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    def count(self, path: str) -> int:
        return sum(call.url.path.endswith(path) for call in self.calls)


def said(status: int, message: str, **headers: str) -> httpx.Response:
    """One of Twitch's error bodies."""
    body = {"error": "Some Name", "status": status, "message": message}
    return httpx.Response(
        status, content=json.dumps(body), headers={"content-type": "application/json", **headers}
    )


def form(request: httpx.Request) -> dict[str, str]:
    return dict(httpx.QueryParams(request.content.decode()))
