"""The outermost frame of every request: Host, Origin, body type, security headers, trace id.

Listening on loopback does not keep a browser out: any page the user has open can send requests to
it, and with a name of its own that resolves to 127.0.0.1 it could read the answers, too.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import eventsub
from api.headers import HSTS, SECURITY_HEADERS
from api.problems import Problem
from streamvault.settings import Settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?")


@dataclass(frozen=True, slots=True)
class Rules:
    """Which names we answer to, and whose pages may change something."""

    hosts: frozenset[str]
    origins: frozenset[str]
    https: bool

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        base = urlsplit(settings.base_url)
        hosts = {*LOOPBACK_HOSTS, settings.host, *settings.allowed_hosts, base.hostname or ""}
        origins = set(settings.allowed_origins)
        if settings.base_url:
            origins.add(f"{base.scheme}://{base.netloc}")
        return cls(
            frozenset(host.lower().strip("[]") for host in hosts if host),
            frozenset(origin.lower().rstrip("/") for origin in origins),
            base.scheme == "https",
        )

    def knows_host(self, headers: Headers) -> bool:
        given = headers.getlist("host")
        match = _HOST.fullmatch(given[0].lower()) if len(given) == 1 else None
        return match is not None and match["name"].strip("[]") in self.hosts

    def trusts_origin(self, headers: Headers) -> bool:
        """Whether a request that changes something comes from a page of ours, or from no page.

        Scripts send neither header; browsers send at least one of them and no page can forge it."""
        origin = headers.get("origin", "").lower()
        site = headers.get("sec-fetch-site", "none").lower()
        if origin in self.origins:
            return True
        if origin and origin not in self._own_origins(headers):
            return False
        return site in {"same-origin", "none"}

    @staticmethod
    def _own_origins(headers: Headers) -> set[str]:
        host = headers["host"].lower()
        return {f"http://{host}", f"https://{host}"}


class Guard:
    """ASGI middleware; must be the outermost one."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self.app = app
        self.rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        trace_id = _trace_id(headers)
        scope.setdefault("state", {})["trace_id"] = trace_id
        refusal = self._refuse(scope, headers)
        if scope["type"] == "websocket" and refusal:
            await send({"type": "websocket.close", "code": 1008})
            return
        await (refusal or self.app)(scope, receive, self._with_headers(send, trace_id))

    def _refuse(self, scope: Scope, headers: Headers) -> Problem | None:
        if not self.rules.knows_host(headers):
            return Problem(
                400,
                "Unknown host name",
                "this server does not answer to the name in the Host header",
                hint="add the name to STREAMVAULT_ALLOWED_HOSTS",
                scope=scope,
            )
        if scope.get("method", "") in SAFE_METHODS or scope["path"] == eventsub.PATH:
            # Twitch's webhook proves itself by its signature, over whatever body it sends.
            return None
        if not self.rules.trusts_origin(headers):
            return Problem(
                403,
                "Foreign page",
                "a page of another origin may not change anything here",
                hint="add its origin to STREAMVAULT_ALLOWED_ORIGINS if it is yours",
                scope=scope,
            )
        if _has_body(headers) and not _is_json(headers):
            return Problem(
                415, "Unsupported Media Type", "the body must be application/json", scope=scope
            )
        return None

    def _with_headers(self, send: Send, trace_id: str) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers["X-Trace-Id"] = trace_id
                if self.rules.https:
                    headers.setdefault("Strict-Transport-Security", HSTS)
            await send(message)

        return send_with_headers


def _trace_id(headers: Headers) -> str:
    """The caller's W3C trace id if it sent one, so that its logs and ours can be joined."""
    match = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return match[1] if match else secrets.token_hex(16)


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _is_json(headers: Headers) -> bool:
    return headers.get("content-type", "").split(";")[0].strip().lower() == "application/json"
