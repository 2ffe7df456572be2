"""What the client answers with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Truth:
    """One published segment, as the fake knows it; see `Control.truth`."""

    number: int
    stream_id: str
    at: float
    pdt: str
    duration_s: int
    ad: bool
    discontinuity: bool
    title: str
    category: str
    size: int
    sha256: str
    crc32: int
    first_frame: int
    fetched: int


@dataclass(frozen=True)
class Started:
    """One of those that `go_live` brought up; `at` is epoch seconds."""

    login: str
    user_id: str
    stream_id: str
    at: float


@dataclass(frozen=True)
class Call:
    """One request to a service; `at` is epoch seconds, status 0 is never answered."""

    at: float
    group: str
    method: str
    path: str
    query: str
    client_id: str
    token_kind: str
    login: str
    status: int


@dataclass(frozen=True)
class Delivery:
    """One attempt to deliver a message; see `eventsub_words.Delivery`."""

    at: float
    transport: str
    message_id: str
    message_type: str
    type: str
    subscription_id: str
    user_id: str
    client_id: str
    retry: int
    kind: str
    status: int


@dataclass(frozen=True)
class Socket:
    session_id: str
    user_id: str
    subscriptions: int
    connected_at: float


@dataclass(frozen=True)
class Application:
    """`env` is what `up` needs to be this application."""

    client_id: str
    client_secret: str
    env: dict[str, str]


@dataclass(frozen=True)
class UserToken:
    access_token: str
    refresh_token: str
    user_id: str
    login: str
    scopes: tuple[str, ...]


@dataclass(frozen=True)
class TokenInfo:
    kind: str
    client_id: str
    login: str
    valid: bool
