"""What can be set about the services while they run; the defaults are Twitch's own figures."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from tests.fake_twitch.faults import Refused

APP_TOKEN_S = 5_000_000
USER_TOKEN_S = 14_400


@dataclass
class Knobs:
    # Helix
    points_per_min: int = 800
    """Size of each bucket."""
    full_after_s: float = 60
    """An empty bucket is full again after that long."""
    page_size: int = 0
    """No page is longer; 0 leaves it to `first`."""
    page_overlap: int = 0
    """Each page begins with that many items of the page before, as Get Streams may do."""
    trailing_cursor: bool = False
    """The last page names a cursor too; what follows it is an empty page."""
    date_skew_s: float = 0
    """Twitch's clock is that far ahead: in `Date` and in `Ratelimit-Reset`."""
    images_url: str = "https://static-cdn.jtvnw.net"

    # id
    app_token_s: float = APP_TOKEN_S
    user_token_s: float = USER_TOKEN_S
    rotates: bool = True
    """A refresh token works once."""
    device_interval_s: float = 5
    device_expires_s: float = 1800
    approves: str = ""
    """Who approves every GET /oauth2/authorize: a login, `-` for a refusal, empty for a page."""

    # EventSub
    webhook_cost: int = 10_000
    """`max_total_cost` of an application."""
    websocket_cost: int = 10
    """The same of a user of an application."""
    conduit_cost: int = 0
    """The same of conduits; 0 puts them into the application's pool."""
    same_condition: int = 3
    sockets_per_user: int = 3
    subscriptions_per_socket: int = 300
    lingering_cost_s: float = 0
    """Subscriptions of a closed socket count that much longer."""
    verify_after_s: float = 0
    answer_within_s: float = 10
    redelivery_s: list[float] = field(default_factory=lambda: [1, 2, 4, 8, 16])
    """Pauses before each new attempt; after the last one the subscription fails."""
    https_only: bool = False
    """Callbacks have to be https on port 443, as Twitch demands."""
    keepalive_s: float = 0
    """0 leaves it to the client: `keepalive_timeout_seconds`, else 10."""
    subscribe_within_s: float = 10
    reconnect_grace_s: float = 30
    reconnect_keeps_id: bool = True
    conduits_per_app: int = 5
    conduit_gone_after_s: float = 259_200
    """A conduit of which every shard is down that long is deleted."""

    def change(self, changes: dict[str, Any]) -> None:
        known = {each.name for each in fields(self)}
        if unknown := set(changes) - known:
            raise Refused(f"no such knobs: {sorted(unknown)}; there are {sorted(known)}")
        for name, value in changes.items():
            setattr(self, name, value)

    def reset(self) -> None:
        self.change(vars(Knobs()))
