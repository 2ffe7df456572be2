"""Figures of `/metrics` about the watchdog, from what it last told the database.

When it last looked stands in `SystemFigures`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

ACTIONS = ("restarted", "adopted")
KINDS = ("live", "without_journal", "left")
STATES = ("silent", "reconnecting")


class WatchdogFigures:
    """The last known figures while the database is away; zeros before the first."""

    def __init__(self, registry: CollectorRegistry, prefix: str) -> None:
        self._prefix = prefix
        self._actions = dict.fromkeys(ACTIONS, 0)
        self._neglected = dict.fromkeys(KINDS, 0)
        self._states = dict.fromkeys(STATES, 0)
        registry.register(self)

    def update(self, told: Mapping[str, Any]) -> None:
        """`told`: the value of the fact `watchdog`."""
        for action in ACTIONS:
            # A counter never falls, although the fact may be lost with its database.
            self._actions[action] = max(self._actions[action], int(told.get(action, 0)))
        neglected = told.get("neglected", {})
        for kind in KINDS:
            self._neglected[kind] = len(neglected.get(kind, ()))
        for state in STATES:
            self._states[state] = int(told.get(state, 0))

    def collect(self) -> Iterator[Metric]:
        actions = CounterMetricFamily(
            f"{self._prefix}watchdog_actions",
            "What the watchdog did to recordings that stood still, or that nobody ran",
            labels=["action"],
        )
        for action, count in self._actions.items():
            actions.add_metric([action], count)
        yield actions
        yield self._gauge(
            "watchdog_neglected", "What nobody looks after, by kind", "kind", self._neglected
        )
        yield self._gauge(
            "recordings_troubled",
            "Recordings whose recorder does not tell, or that look for their source",
            "state",
            self._states,
        )

    def _gauge(
        self, name: str, documentation: str, label: str, values: Mapping[str, int]
    ) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"{self._prefix}{name}", documentation, labels=[label])
        for value, count in values.items():
            family.add_metric([value], count)
        return family
