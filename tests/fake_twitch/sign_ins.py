"""Sign-ins on their way: device codes and authorization codes."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field

from tests.fake_twitch.faults import Refused

LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
CODE_LIVES_S = 600


@dataclass
class DeviceCode:
    """`state` is `waiting`, `denied`, or the login that approved."""

    value: str
    user_code: str
    client_id: str
    scopes: tuple[str, ...]
    ends: float
    state: str = "waiting"
    asked_at: float = 0


@dataclass
class AuthorizationCode:
    value: str
    client_id: str
    redirect_uri: str
    login: str
    scopes: tuple[str, ...]
    ends: float


@dataclass
class SignIns:
    devices: dict[str, DeviceCode] = field(default_factory=dict)
    """By device code."""
    codes: dict[str, AuthorizationCode] = field(default_factory=dict)

    def begin_device(self, client_id: str, scopes: tuple[str, ...], lives_s: float) -> DeviceCode:
        user_code = "".join(secrets.choice(LETTERS) for _ in range(8))
        device = DeviceCode(
            secrets.token_urlsafe(30), user_code, client_id, scopes, time.time() + lives_s
        )
        self.devices[device.value] = device
        return device

    def by_user_code(self, user_code: str) -> DeviceCode:
        for device in self.devices.values():
            if device.user_code == user_code:
                return device
        raise Refused(
            f"no such user code; there are {[d.user_code for d in self.devices.values()]}"
        )

    def begin_code(
        self, client_id: str, redirect_uri: str, login: str, scopes: tuple[str, ...]
    ) -> AuthorizationCode:
        ends = time.time() + CODE_LIVES_S
        code = AuthorizationCode(
            secrets.token_hex(15), client_id, redirect_uri, login, scopes, ends
        )
        self.codes[code.value] = code
        return code

    def take_code(self, value: str) -> AuthorizationCode | None:
        """A code works once."""
        code = self.codes.pop(value, None)
        return code if code and time.time() < code.ends else None
