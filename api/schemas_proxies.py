"""JSON of proxies. Their addresses come in and never go out again: they may hold a password."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, SecretStr, StringConstraints

from api.schemas import Body
from streamvault.db import models
from streamvault.settings import Settings

SCHEMES = ("http", "https", "socks5", "socks5h")
TAKES = "takes an address such as http://user:password@host:3128 or socks5h://host:1080"
ENV_ID = "env"


def _check_address(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    try:
        parts = urlsplit(text)
        good = parts.scheme in SCHEMES and bool(parts.hostname) and bool(parts.port)
    except ValueError:
        good = False
    bare = good and parts.path in ("", "/") and not (parts.query or parts.fragment)
    if not bare or not text.isprintable() or " " in text:
        raise ValueError(TAKES)
    return secret


ProxyAddress = Annotated[SecretStr, Field(max_length=1024), AfterValidator(_check_address)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Position = Annotated[int, Field(ge=0, le=10_000)]


class NewProxy(Body):
    url: ProxyAddress
    """http, https, socks5 or socks5h (which resolves names at the proxy), with a port."""
    name: Name | None = None
    """Its host by default."""
    enabled: bool = True
    position: Position | None = None
    """Its place in the order; the last one by default."""
    streamer_id: UUID | None = None
    """The only streamer that it is for."""


class ProxyChange(Body):
    """Only the keys that are given change."""

    url: ProxyAddress | None = None
    name: Name | None = None
    enabled: bool | None = None
    position: Position | None = None
    streamer_id: UUID | None = None


class ProxyItem(BaseModel):
    id: str
    name: str
    shown: str
    """Scheme, host and port; the rest is write-only."""
    has_password: bool
    enabled: bool
    position: int
    streamer_id: UUID | None
    origin: Literal["environment", "stored"]
    """What comes from STREAM_PROXY cannot be changed here; it is the first in order."""
    ok: bool | None
    """Whether the last look through it went well; null before the first."""
    latency_ms: int | None
    error: str
    checked_at: datetime | None

    @classmethod
    def of(cls, row: models.Proxy) -> ProxyItem:
        return cls(
            id=str(row.id),
            name=row.name,
            shown=row.shown,
            has_password=row.has_password,
            enabled=row.enabled,
            position=row.position,
            streamer_id=row.streamer_id,
            origin="stored",
            ok=row.ok,
            latency_ms=row.latency_ms,
            error=row.error,
            checked_at=row.checked_at,
        )

    @classmethod
    def of_setting(cls, settings: Settings) -> ProxyItem | None:
        if settings.proxy_url is None:
            return None
        return cls(
            id=ENV_ID,
            name="STREAM_PROXY",
            shown=shown(settings.proxy_url),
            has_password=has_password(settings.proxy_url),
            enabled=True,
            position=0,
            streamer_id=None,
            origin="environment",
            ok=None,
            latency_ms=None,
            error="",
            checked_at=None,
        )


class Proxies(BaseModel):
    items: list[ProxyItem]
    next_cursor: None = None
    """There is one page."""
    default_policy: str
    """Of streamers that have none of their own."""


def shown(url: str) -> str:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port}" if parts.port else f"{parts.scheme}://{host}"


def has_password(url: str) -> bool:
    return urlsplit(url).password is not None
