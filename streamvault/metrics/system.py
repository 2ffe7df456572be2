"""The figures of `/metrics`, prefix `streamvault_`. Label values come from closed sets: no ids,
titles or addresses.

Every series exists from the start with the value 0, since an alert on an increase does not see the
first value of a series that was not there before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Gauge, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from streamvault.contracts import STEPS
from streamvault.metrics.twitch import TwitchFigures
from streamvault.metrics.watchdog import WatchdogFigures

PREFIX = "streamvault_"
# The library would add a gauge with the time of creation to each counter and histogram.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no type here

QUEUES = ("processing", "notifications")


class Metrics:
    """One registry for one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.system = SystemFigures()
        self.registry.register(self.system)
        self.connections_used = Gauge(
            f"{PREFIX}database_connection_pool_used",
            "Database connections of this process that are in use",
            registry=self.registry,
        )
        self.connections_allowed = Gauge(
            f"{PREFIX}database_connection_pool_size",
            "Database connections that this process may open, overflow included",
            registry=self.registry,
        )
        self.database_up = Gauge(
            f"{PREFIX}database_up", "Whether the database answers", registry=self.registry
        )
        self.temporal_up = Gauge(
            f"{PREFIX}temporal_up", "Whether Temporal answers", registry=self.registry
        )
        self.twitch = TwitchFigures(self.registry, PREFIX)
        self.watchdog = WatchdogFigures(self.registry, PREFIX)

    def exposition(self) -> bytes:
        """The text format 0.0.4 of Prometheus."""
        return generate_latest(self.registry)


class SystemFigures:
    """What the database says of the whole system; the last known figures while it is away."""

    def __init__(self) -> None:
        self._active = 0
        self._needing_attention = 0
        self._watchdog_at = 0.0
        self._queues = dict.fromkeys(QUEUES, 0)
        self._failures = {str(step): 0 for step in STEPS}

    def update(
        self,
        *,
        active: int,
        needing_attention: int,
        failures: Mapping[str, int],
        queues: Mapping[str, int],
        watchdog_at: float = 0.0,
    ) -> None:
        """`failures` counts by the step that failed, `queues` by a name of QUEUES; `watchdog_at` is
        when the watchdog last looked, in epoch seconds."""
        self._watchdog_at = watchdog_at
        self._active = active
        self._needing_attention = needing_attention
        for queue in QUEUES:
            self._queues[queue] = queues.get(queue, 0)
        for step in self._failures:
            # A counter never falls, although failed recordings may be deleted.
            self._failures[step] = max(self._failures[step], failures.get(step, 0))

    def collect(self) -> Iterator[Metric]:
        # The first name is fixed from outside; the second is what the naming rules ask for.
        for name in ("active_recordings_total", "active_recordings"):
            yield _gauge(name, "Recordings that are being captured", self._active)
        yield _gauge(
            "recordings_needing_attention",
            "Recordings that wait for a person",
            self._needing_attention,
        )
        yield _gauge(
            "watchdog_last_look_timestamp_seconds",
            "When the watchdog last looked after the recordings; 0: never",
            self._watchdog_at,
        )
        failures = CounterMetricFamily(
            f"{PREFIX}recording_failures",
            "Recordings that failed, by the step that failed",
            labels=["reason"],
        )
        for step, count in self._failures.items():
            failures.add_metric([step], count)
        yield failures
        queues = GaugeMetricFamily(
            f"{PREFIX}background_queue_size", "Work that is not finished yet", labels=["queue"]
        )
        for queue, size in self._queues.items():
            queues.add_metric([queue], size)
        yield queues


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}{name}", documentation, value=value)
