"""Tokens over HTTP, at TWITCH_AUTH_URL: RFC 6749, RFC 8628 (device code), and Twitch's `/validate`.

Every call may raise TwitchRefused and TwitchUnavailable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from streamvault.errors import RateLimited, TokenInvalid, TwitchNotConfigured, TwitchRefused
from streamvault.settings import PREFIX, Secret
from streamvault.twitch.exchange import Call
from streamvault.twitch.gate import Gate
from streamvault.twitch.words import Priority

BUCKET = "id"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
SLOWER_S = 5.0  # RFC 8628, 3.5: add 5 s to the interval after `slow_down`

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TokenSet:
    access: str = field(repr=False)
    refresh: str = field(default="", repr=False)
    scopes: tuple[str, ...] = ()
    expires_in_s: int = 0
    """0 when Twitch does not say."""


@dataclass(frozen=True, slots=True)
class Validation:
    """`login` and `user_id` are empty for an app token."""

    login: str
    user_id: str
    scopes: tuple[str, ...]
    expires_in_s: int
    client_id: str


@dataclass(frozen=True, slots=True)
class DeviceCode:
    device_code: str = field(repr=False)
    user_code: str
    verification_uri: str
    interval_s: int
    expires_in_s: int


class _Token(msgspec.Struct):
    access_token: str
    refresh_token: str | None = None
    scope: list[str] | str | None = None
    expires_in: int | None = None


class _Validated(msgspec.Struct):
    client_id: str
    login: str | None = None
    user_id: str | None = None
    scopes: list[str] | None = None
    expires_in: int | None = None


class _Device(msgspec.Struct):
    device_code: str
    user_code: str
    verification_uri: str
    expires_in: int
    interval: int = 5


class OAuth:
    def __init__(
        self, gate: Gate, auth_url: str, client_id: str, client_secret: Secret | None
    ) -> None:
        self._gate = gate
        self._url = auth_url.rstrip("/")
        self._client_id = client_id
        self._client_secret = client_secret

    async def app_token(self) -> TokenSet:
        """Raises TwitchNotConfigured without a client secret."""
        form = {"grant_type": "client_credentials", **self._secret()}
        return await self._send("POST", "/token", _read_token, form)

    async def refresh(self, refresh_token: str) -> TokenSet:
        """The old refresh token may be dead afterwards. Raises TokenInvalid when it is refused."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        if self._client_secret:
            form |= self._secret()
        try:
            return await self._send("POST", "/token", _read_token, form)
        except TwitchRefused as error:
            # A wrong client secret is refused too, but says nothing about the token.
            if error.status == 401 or "refresh token" in str(error).lower():
                raise TokenInvalid(str(error), status=error.status) from None
            raise

    async def validate(self, token: str) -> Validation:
        """Raises TokenInvalid."""
        if not _fits_a_header(token):
            raise TokenInvalid("the token holds letters that no token has", status=401)
        headers = {"Authorization": f"OAuth {token}"}
        try:
            return await self._send("GET", "/validate", _read_validation, headers=headers)
        except TwitchRefused as error:
            if error.status != 401:
                raise
            raise TokenInvalid(str(error), status=401) from None

    async def begin_device(self, scopes: Sequence[str]) -> DeviceCode:
        return await self._send("POST", "/device", _read_device, {"scopes": " ".join(scopes)})

    async def poll_device(self, device_code: str, scopes: Sequence[str]) -> TokenSet | None:
        """None: nobody has answered yet. At most once per `interval_s`.

        Raises RateLimited when that was too often, its `retry_after_s` to be added to the interval,
        and TwitchRefused when the code is denied or no longer valid."""
        form = {
            "grant_type": DEVICE_GRANT,
            "device_code": device_code,
            "scopes": " ".join(scopes),
        }
        try:
            return await self._send("POST", "/token", _read_token, form)
        except TwitchRefused as error:
            if "authorization_pending" in str(error):
                return None
            if "slow_down" in str(error):
                raise RateLimited(str(error), retry_after_s=SLOWER_S) from None
            raise

    def authorize_url(self, state: str, redirect_uri: str, scopes: Sequence[str]) -> str:
        """Where a browser goes to be asked for consent."""
        query = {
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "scope": " ".join(scopes),
            "state": state,
        }
        return f"{self._url}/authorize?{urlencode(query)}"

    async def redeem(self, code: str, redirect_uri: str) -> TokenSet:
        """Raises TwitchNotConfigured without a client secret."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            **self._secret(),
        }
        return await self._send("POST", "/token", _read_token, form)

    async def revoke(self, token: str) -> None:
        await self._send("POST", "/revoke", lambda _: None, {"token": token})

    async def _send(
        self,
        method: str,
        path: str,
        read: Callable[[bytes], T],
        form: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> T:
        fields = None if form is None else {"client_id": self._client_id, **form}
        call = Call("id", method, f"{self._url}{path}", headers=headers or {}, form=fields)
        return await self._gate.send(call, read, BUCKET, Priority.START)

    def _secret(self) -> dict[str, str]:
        if self._client_secret is None:
            raise TwitchNotConfigured(
                "Twitch's application has no client secret",
                hint=f"set {PREFIX}TWITCH_CLIENT_SECRET",
            )
        return {"client_secret": self._client_secret.get_secret_value()}


def _read_token(body: bytes) -> TokenSet:
    found = msgspec.json.decode(body, type=_Token)
    if not _fits_a_header(found.access_token):
        raise msgspec.ValidationError("not a token")
    scope = found.scope or []
    scopes = scope.split() if isinstance(scope, str) else scope
    return TokenSet(
        found.access_token, found.refresh_token or "", tuple(scopes), found.expires_in or 0
    )


def _read_validation(body: bytes) -> Validation:
    found = msgspec.json.decode(body, type=_Validated)
    return Validation(
        found.login or "",
        found.user_id or "",
        tuple(found.scopes or ()),
        found.expires_in or 0,
        found.client_id,
    )


def _read_device(body: bytes) -> DeviceCode:
    found = msgspec.json.decode(body, type=_Device)
    return DeviceCode(
        found.device_code,
        found.user_code,
        found.verification_uri,
        found.interval,
        found.expires_in,
    )


def _fits_a_header(token: str) -> bool:
    """Else the error about the header would quote it."""
    return bool(token) and token.isascii() and token.isprintable() and " " not in token
