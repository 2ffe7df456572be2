"""Figures of `/metrics` about finding streams."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram

from streamvault.metrics.system import PREFIX

SOURCES = ("webhook", "conduit", "websocket", "poll")
DELAY_BUCKETS = (1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)


class DetectionFigures:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.delay = Histogram(
            f"{PREFIX}detection_delay_seconds",
            "From the start of a stream, as Twitch dates it, to the start of its recording",
            ["source"],
            buckets=DELAY_BUCKETS,
            registry=registry,
        )
        for source in SOURCES:
            self.delay.labels(source)
