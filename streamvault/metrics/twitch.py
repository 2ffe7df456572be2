"""The figures about Twitch's API: calls, points, circuits, tokens."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ENDPOINTS = ("helix", "id", "eventsub", "gql", "usher")
"""Also the names of the circuits."""
OUTCOMES = ("ok", "refused", "rate_limited", "error")
"""`refused` is a sound answer with a 4xx status; `error` is all that counts against a circuit."""
CIRCUIT_STATES = ("closed", "open", "half-open")


class TwitchFigures:
    def __init__(self, registry: CollectorRegistry, prefix: str) -> None:
        self.latency = Histogram(
            f"{prefix}twitch_api_latency_seconds",
            "Duration of calls to Twitch",
            ["endpoint", "outcome"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.requests = Counter(
            f"{prefix}twitch_api_requests",
            "Calls to Twitch, by how they ended",
            ["endpoint", "outcome"],
            registry=registry,
        )
        self.remaining = Gauge(
            f"{prefix}twitch_ratelimit_remaining",
            "Points left in a bucket of Twitch's rate limit",
            ["bucket"],
            registry=registry,
        )
        self.limit = Gauge(
            f"{prefix}twitch_ratelimit_limit",
            "Points that a bucket of Twitch's rate limit holds when full",
            ["bucket"],
            registry=registry,
        )
        self.circuit_state = Gauge(
            f"{prefix}circuit_breaker_state",
            "1 for the state that a circuit is in",
            ["circuit", "state"],
            registry=registry,
        )
        self.circuit_transitions = Counter(
            f"{prefix}circuit_breaker_transitions",
            "Changes of a circuit's state",
            ["circuit", "to"],
            registry=registry,
        )
        self.circuit_rejected = Counter(
            f"{prefix}circuit_breaker_rejected",
            "Calls that were not made because the circuit was open",
            ["circuit"],
            registry=registry,
        )
        # No series before something is known: a token that nobody has is not an invalid one.
        self.token_valid = Gauge(
            f"{prefix}twitch_token_valid",
            "Whether a stored token works",
            ["kind"],
            registry=registry,
        )
        self.token_expires = Gauge(
            f"{prefix}twitch_token_expires_timestamp_seconds",
            "When a stored token ends",
            ["kind"],
            registry=registry,
        )
        self.clock_skew = Gauge(
            f"{prefix}clock_skew_seconds",
            "How far Twitch's clock is ahead of ours",
            registry=registry,
        )
        self._create_series()

    def note_call(self, endpoint: str, outcome: str, seconds: float) -> None:
        self.requests.labels(endpoint, outcome).inc()
        self.latency.labels(endpoint, outcome).observe(seconds)

    def note_points(self, bucket: str, limit: int, remaining: int) -> None:
        self.limit.labels(bucket).set(limit)
        self.remaining.labels(bucket).set(remaining)

    def note_circuit(self, circuit: str, state: str) -> None:
        self.circuit_transitions.labels(circuit, state).inc()
        self._show_circuit(circuit, state)

    def note_rejected(self, circuit: str) -> None:
        self.circuit_rejected.labels(circuit).inc()

    def note_skew(self, seconds: float) -> None:
        self.clock_skew.set(seconds)

    def note_token(self, kind: str, valid: bool, expires: float | None) -> None:
        """`expires` in seconds since 1970."""
        self.token_valid.labels(kind).set(valid)
        if expires is None:
            self.token_expires.remove_by_labels({"kind": kind})
        else:
            self.token_expires.labels(kind).set(expires)

    def forget_token(self, kind: str) -> None:
        self.token_valid.remove_by_labels({"kind": kind})
        self.token_expires.remove_by_labels({"kind": kind})

    def _create_series(self) -> None:
        for endpoint in ENDPOINTS:
            for outcome in OUTCOMES:
                self.latency.labels(endpoint, outcome)
                self.requests.labels(endpoint, outcome)
            for state in CIRCUIT_STATES:
                self.circuit_transitions.labels(endpoint, state)
            self.circuit_rejected.labels(endpoint)
            self._show_circuit(endpoint, "closed")

    def _show_circuit(self, circuit: str, shown: str) -> None:
        for state in CIRCUIT_STATES:
            self.circuit_state.labels(circuit, state).set(state == shown)
