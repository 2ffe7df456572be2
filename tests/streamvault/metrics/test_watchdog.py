"""What `/metrics` says of the watchdog."""

from __future__ import annotations

from dataclasses import fields

from prometheus_client import CollectorRegistry

from activities.neglected import Neglected
from activities.watchdog import Deeds
from streamvault.metrics import watchdog
from streamvault.metrics.watchdog import WatchdogFigures


def value_of(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"sv_{name}", labels)


def test_every_series_is_there_before_the_watchdog_said_anything() -> None:
    registry = CollectorRegistry()
    WatchdogFigures(registry, "sv_")
    for action in ("restarted", "adopted"):
        assert value_of(registry, "watchdog_actions_total", action=action) == 0
    for kind in ("live", "without_journal", "left"):
        assert value_of(registry, "watchdog_neglected", kind=kind) == 0
    for state in ("silent", "reconnecting"):
        assert value_of(registry, "recordings_troubled", state=state) == 0


def test_figures_are_those_of_the_fact_and_counters_never_fall() -> None:
    registry = CollectorRegistry()
    figures = WatchdogFigures(registry, "sv_")
    told = {"restarted": 3, "adopted": 1, "silent": 2, "neglected": {"live": ["alice", "bob"]}}
    figures.update(told)
    assert value_of(registry, "watchdog_actions_total", action="restarted") == 3
    assert value_of(registry, "watchdog_neglected", kind="live") == 2
    assert value_of(registry, "recordings_troubled", state="silent") == 2
    figures.update({"restarted": 0, "adopted": 0, "silent": 0})
    assert value_of(registry, "watchdog_actions_total", action="restarted") == 3
    assert value_of(registry, "watchdog_neglected", kind="live") == 0
    assert value_of(registry, "recordings_troubled", state="silent") == 0


def test_what_the_watchdog_tells_and_what_is_shown_have_the_same_names() -> None:
    assert set(watchdog.ACTIONS) == set(Deeds().counts)
    assert set(watchdog.KINDS) == {field.name for field in fields(Neglected)}
