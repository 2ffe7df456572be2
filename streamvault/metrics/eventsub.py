"""The figures about EventSub's messages, by whatever transport they came."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

TYPES = ("stream.online", "stream.offline", "channel.update", "revocation", "verification", "other")
"""What is not known to be one of the first, because it is refused or unheard of, is `other`."""
RESULTS = (
    "accepted",
    "duplicate",
    "bad_signature",
    "stale",
    "malformed",
    "ignored",
    "unavailable",
)
"""`unavailable`: sound, but could not be stored, so that Twitch has to send it again."""
# Twitch gives "a few seconds"; the alert looks at one.
ACK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class EventSubFigures:
    def __init__(self, registry: CollectorRegistry, prefix: str) -> None:
        self.messages = Counter(
            f"{prefix}eventsub_messages",
            "Messages of EventSub, by what became of them",
            ["type", "result"],
            registry=registry,
        )
        self.ack = Histogram(
            f"{prefix}eventsub_ack_seconds",
            "From the arrival of a genuine webhook to its answer",
            buckets=ACK_BUCKETS,
            registry=registry,
        )
        for type_ in TYPES:
            for result in RESULTS:
                self.messages.labels(type_, result)

    def note(self, type_: str, result: str) -> None:
        """`type_` may be anything that a message calls itself."""
        self.messages.labels(type_ if type_ in TYPES else "other", result).inc()
