"""Applications, and the tokens that id.twitch.tv gave them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from tests.fake_twitch.faults import Refused
from tests.fake_twitch.knobs import Knobs
from tests.fake_twitch.world import Channel, World

CLIENT_ID = "fakeclientid000000000000000000"
CLIENT_SECRET = "fakeclientsecret00000000000000"
SITE_CLIENT_ID = "kimne78kx3ncx6brgo4mv6wki5h1ko"
"""Twitch's own web site, to which the tokens of browsers belong."""


@dataclass(frozen=True)
class Application:
    """One that is `public` has no secret."""

    client_id: str
    client_secret: str = ""
    public: bool = False


@dataclass
class Token:
    """An access token. `user_id` is empty for an application's own."""

    value: str
    client_id: str
    ends: float
    user_id: str = ""
    scopes: tuple[str, ...] = ()

    @property
    def left_s(self) -> float:
        return self.ends - time.time()

    @property
    def kind(self) -> str:
        if self.client_id == SITE_CLIENT_ID:
            return "browser"
        return "user" if self.user_id else "app"


@dataclass
class Refresh:
    value: str
    client_id: str
    user_id: str
    scopes: tuple[str, ...]


@dataclass
class Tokens:
    world: World
    knobs: Knobs
    applications: dict[str, Application] = field(default_factory=dict)
    access: dict[str, Token] = field(default_factory=dict)
    refreshes: dict[str, Refresh] = field(default_factory=dict)
    grants: set[tuple[str, str]] = field(default_factory=set)
    """Who authorised whom: client id and user id."""

    def __post_init__(self) -> None:
        self.applications[CLIENT_ID] = Application(CLIENT_ID, CLIENT_SECRET)

    def register(self, *, public: bool = False) -> Application:
        secret = "" if public else secrets.token_hex(15)
        application = Application(secrets.token_hex(15), secret, public)
        self.applications[application.client_id] = application
        return application

    def mint_app(self, client_id: str) -> Token:
        return self._mint(Token(_value(), client_id, time.time() + self.knobs.app_token_s))

    def sign_in(self, client_id: str, login: str, scopes: Iterable[str]) -> tuple[Token, Refresh]:
        """The user approves: both tokens, and from now on the application is authorised."""
        user_id = self.user(login).user_id
        self.grants.add((client_id, user_id))
        return self.mint_user(Refresh("", client_id, user_id, tuple(scopes)))

    def mint_user(self, grant: Refresh) -> tuple[Token, Refresh]:
        """A new access token with a new refresh token, or with the old one if it has a value."""
        ends = time.time() + self.knobs.user_token_s
        token = Token(_value(), grant.client_id, ends, grant.user_id, grant.scopes)
        refresh = Refresh(grant.value or _value(), grant.client_id, grant.user_id, grant.scopes)
        self.refreshes[refresh.value] = refresh
        return self._mint(token), refresh

    def mint_browser(self, login: str, left_s: float) -> Token:
        user_id = self.user(login).user_id
        return self._mint(Token(_value(), SITE_CLIENT_ID, time.time() + left_s, user_id))

    def find(self, connection: HTTPConnection, *schemes: str) -> Token | None:
        """The valid token that the request shows by one of the schemes."""
        scheme, _, value = connection.headers.get("authorization", "").partition(" ")
        token = self.access.get(value.strip())
        if token is None or scheme.lower() not in schemes or token.left_s <= 0:
            return None
        return token

    def user(self, login: str) -> Channel:
        """Whoever signs in has a channel; this makes it."""
        return self.world.channel(login) or self.world.add(login)

    def login(self, user_id: str) -> str:
        channel = self.world.by_id(user_id)
        return channel.login if channel else ""

    def expire(self, client_id: str, user_id: str) -> None:
        for token in self._of(client_id, user_id):
            token.ends = 0

    def revoke(self, client_id: str, user_id: str) -> None:
        """Access tokens alone."""
        for token in self._of(client_id, user_id):
            del self.access[token.value]

    def revoke_refreshes(self, user_id: str, client_id: str = "") -> None:
        for refresh in list(self.refreshes.values()):
            if refresh.user_id == user_id and client_id in ("", refresh.client_id):
                del self.refreshes[refresh.value]

    def application(self, client_id: str) -> Application:
        found = self.applications.get(client_id or CLIENT_ID)
        if found is None:
            raise Refused("no such application")
        return found

    def _of(self, client_id: str, user_id: str) -> list[Token]:
        return [
            token
            for token in self.access.values()
            if token.user_id == user_id and token.client_id == client_id
        ]

    def _mint(self, token: Token) -> Token:
        self.access[token.value] = token
        return token


def _value() -> str:
    return secrets.token_hex(15)
