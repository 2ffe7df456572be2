"""The figures about what we asked EventSub for, and about the socket it is heard through."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

CLOSE_CODES = ("1000", "1001", "1006", *(str(code) for code in range(4000, 4008)))
CAUSES = (*CLOSE_CODES, "silence", "no_welcome", "unreachable", "asked", "other")
"""Why a socket was replaced; `asked` is Twitch's own wish, without a loss."""
OTHER = "other"
STATUSES = (
    "enabled",
    "webhook_callback_verification_pending",
    "webhook_callback_verification_failed",
    "notification_failures_exceeded",
    "authorization_revoked",
    "moderator_removed",
    "user_removed",
    "version_removed",
    "beta_maintenance",
    "websocket_disconnected",
    "websocket_failed_ping_pong",
    "websocket_received_inbound_traffic",
    "websocket_connection_unused",
    "websocket_internal_error",
    "websocket_network_timeout",
    "websocket_network_error",
    "websocket_failed_to_reconnect",
    OTHER,
)


class SocketFigures:
    def __init__(self, registry: CollectorRegistry, prefix: str) -> None:
        self._connected = Gauge(
            f"{prefix}eventsub_ws_connected",
            "Whether the EventSub WebSocket has been welcomed",
            registry=registry,
        )
        self._reconnects = Counter(
            f"{prefix}eventsub_ws_reconnects",
            "Times that the EventSub WebSocket was replaced, by close code or cause",
            ["code"],
            registry=registry,
        )
        for cause in CAUSES:
            self._reconnects.labels(cause)

    def note_connected(self, connected: bool) -> None:
        self._connected.set(connected)

    def note_replaced(self, cause: str) -> None:
        self._reconnects.labels(cause if cause in CAUSES else OTHER).inc()


class SubscriptionFigures:
    def __init__(self, registry: CollectorRegistry, prefix: str) -> None:
        self._by_status = Gauge(
            f"{prefix}eventsub_subscriptions",
            "Subscriptions of ours that Twitch lists, by status",
            ["status"],
            registry=registry,
        )
        self._desired = Gauge(
            f"{prefix}eventsub_subscriptions_desired",
            "Subscriptions that the transport in use should hold; 0 when polling",
            registry=registry,
        )
        for status in STATUSES:
            self._by_status.labels(status)

    def note(self, by_status: Mapping[str, int], desired: int) -> None:
        counts = dict.fromkeys(STATUSES, 0)
        for status, count in by_status.items():
            counts[status if status in counts else OTHER] += count
        for status, count in counts.items():
            self._by_status.labels(status).set(count)
        self._desired.set(desired)
