"""The part of the client that is about Helix, id and EventSub."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

from tests.fake_twitch.client_words import (
    Application,
    Call,
    Delivery,
    Socket,
    TokenInfo,
    UserToken,
)

FOLLOWS = ("user:read:follows",)


class ServicesClient:
    """`app` is the application that a call is about; without one it is that of `env`, or all."""

    env: dict[str, str]

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        raise NotImplementedError

    def application(self, *, public: bool = False) -> Application:
        """A new one: tokens, points, subscriptions, conduits and calls of its own."""
        made = self.call("POST", "/ctl/applications", {"public": public})
        named = {
            "STREAMVAULT_TWITCH_CLIENT_ID": made["client_id"],
            "STREAMVAULT_TWITCH_CLIENT_SECRET": made["client_secret"],
        }
        return Application(made["client_id"], made["client_secret"], self.env | named)

    @contextlib.contextmanager
    def knobs(self, **changes: Any) -> Iterator[None]:
        """Set for a while; see `knobs.Knobs`."""
        before = self.call("PUT", "/ctl/knobs", changes)
        try:
            yield
        finally:
            self.call("PUT", "/ctl/knobs", before)

    def set_knobs(self, **changes: Any) -> None:
        self.call("PUT", "/ctl/knobs", changes)

    def reset(self) -> None:
        """As at the start, but channels, applications and tokens stay."""
        self.call("POST", "/ctl/reset")

    # ---- log

    def calls(
        self, group: str = "", *, app: Application | None = None, since: float = 0
    ) -> list[Call]:
        """Oldest first. A group holds its parts: `helix` those of `helix.streams`."""
        query = urlencode({"group": group, "since": since, **_of(app)})
        return [Call(**row) for row in self.call("GET", f"/ctl/calls?{query}")]

    def clear_calls(self) -> None:
        self.call("DELETE", "/ctl/calls")

    # ---- tokens

    def sign_in(
        self, login: str, scopes: Iterable[str] = FOLLOWS, *, app: Application | None = None
    ) -> UserToken:
        """The user approves the application, without any flow."""
        made = self._tokens("sign_in", login=login, scopes=list(scopes), **_of(app))
        return UserToken(**{**made, "scopes": tuple(made["scopes"])})

    def browser_token(self, login: str, expires_in_s: float = 5_000_000) -> str:
        """As Twitch's own web site has it."""
        return str(self._tokens("browser", login=login, expires_in_s=expires_in_s)["access_token"])

    def user_codes(self, *, app: Application | None = None) -> list[str]:
        """Of the device flows that wait for somebody."""
        codes: list[str] = self.call("GET", f"/ctl/codes?{urlencode(_of(app))}")
        return codes

    def approve_code(self, user_code: str, login: str) -> None:
        self.call("POST", f"/ctl/codes/{user_code}/approve", {"login": login})

    def deny_code(self, user_code: str) -> None:
        self.call("POST", f"/ctl/codes/{user_code}/deny")

    def expire_code(self, user_code: str) -> None:
        self.call("POST", f"/ctl/codes/{user_code}/expire")

    def revoke_app_tokens(self, *, app: Application | None = None) -> None:
        """Of every application if none is given."""
        self.call("DELETE", f"/ctl/tokens?{urlencode(_of(app))}")

    def expire_tokens(self, login: str = "", *, app: Application | None = None) -> None:
        """Access tokens of the user, or those of the application itself."""
        self._tokens("expire", login=login, **_of(app))

    def revoke_refresh_tokens(self, login: str) -> None:
        self._tokens("revoke_refreshes", login=login)

    def disconnect(self, login: str, *, app: Application | None = None) -> None:
        """The user removes the application: tokens die, subscriptions are revoked."""
        self._tokens("disconnect", login=login, **_of(app))

    def authorise(self, login: str, *, app: Application | None = None) -> None:
        """From now on subscriptions to the user cost nothing; no token is made."""
        self._tokens("authorise", login=login, **_of(app))

    def unauthorise(self, login: str, *, app: Application | None = None) -> None:
        self._tokens("unauthorise", login=login, **_of(app))

    def tokens(self) -> list[TokenInfo]:
        return [TokenInfo(**row) for row in self.call("GET", "/ctl/tokens")]

    def drain(self, points: float = 0, *, login: str = "", app: Application | None = None) -> None:
        """Leave that many points in the application's bucket, or in that of its user."""
        self.call("PUT", "/ctl/buckets", {"points": points, "login": login, **_of(app)})

    # ---- EventSub

    def subscriptions(self, *, app: Application | None = None) -> list[dict[str, Any]]:
        """As Twitch lists them, with `client_id` and `user_id`; disabled ones too."""
        found: list[dict[str, Any]] = self.call("GET", f"/ctl/subscriptions?{urlencode(_of(app))}")
        return found

    def revoke(self, subscription_id: str, status: str = "authorization_revoked") -> None:
        self.call("POST", f"/ctl/subscriptions/{subscription_id}/revoke", {"status": status})

    def disturb(self, kind: str, **fields: Any) -> int:
        """Add a rule for notifications on their way; see `disturbances.Disturbance`."""
        return int(self.call("POST", "/ctl/disturbances", {"kind": kind, **fields})["id"])

    def clear_disturbances(self) -> None:
        self.call("DELETE", "/ctl/disturbances")

    def deliveries(self, *, app: Application | None = None, type: str = "") -> list[Delivery]:
        """Every attempt, oldest first."""
        query = urlencode({"type": type, **_of(app)})
        return [Delivery(**row) for row in self.call("GET", f"/ctl/deliveries?{query}")]

    def replay(self, message_id: str) -> int:
        """A webhook message once more, byte for byte; the status, 0 without an answer."""
        return int(self.call("POST", f"/ctl/deliveries/{message_id}/replay")["status"])

    def sockets(self) -> list[Socket]:
        return [Socket(**row) for row in self.call("GET", "/ctl/sockets")]

    def close_sockets(self, code: int = 4000, session_id: str = "") -> None:
        query = urlencode({"code": code, "session_id": session_id})
        self.call("DELETE", f"/ctl/sockets?{query}")

    def cut_sockets(self, session_id: str = "") -> None:
        """Without a close frame."""
        self.call("POST", "/ctl/sockets/cut", {"session_id": session_id})

    def silence_sockets(self, on: bool = True, session_id: str = "") -> None:
        """Open, but nothing comes any more: neither keepalives nor messages."""
        self.call("POST", "/ctl/sockets/silence", {"session_id": session_id, "on": on})

    def reconnect_sockets(self, session_id: str = "") -> None:
        """Ask to reconnect; `Knobs.reconnect_grace_s` later the old connection is closed."""
        self.call("POST", "/ctl/sockets/reconnect", {"session_id": session_id})

    def conduits(self, *, app: Application | None = None) -> list[dict[str, Any]]:
        """With `client_id` and `shards`."""
        found: list[dict[str, Any]] = self.call("GET", f"/ctl/conduits?{urlencode(_of(app))}")
        return found

    def lose_shard(
        self, conduit_id: str, shard_id: str, status: str = "websocket_network_error"
    ) -> None:
        path = f"/ctl/conduits/{conduit_id}/shards/{shard_id}"
        self.call("DELETE", f"{path}?{urlencode({'status': status})}")

    def lose_conduit(self, conduit_id: str) -> None:
        self.call("DELETE", f"/ctl/conduits/{conduit_id}")

    def _tokens(self, action: str, **body: Any) -> Any:
        return self.call("POST", f"/ctl/tokens/{action}", body)


def _of(app: Application | None) -> dict[str, str]:
    return {"client_id": app.client_id} if app else {}
