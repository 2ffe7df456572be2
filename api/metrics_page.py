"""One page for the whole installation: the API's own figures and those of the workers beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from streamvault.metrics.server import fetch_metrics


async def whole_page(own: CollectorRegistry, ports: Mapping[str, int]) -> bytes:
    """In the text format 0.0.4. `ports`: the metrics ports of the workers on this host, by the
    name of the process, which becomes the label `process` of their series."""
    pages = await asyncio.gather(*(fetch_metrics(port) for port in ports.values()))
    families = {family.name: family for family in own.collect()}
    for process, page in zip(ports, pages, strict=True):
        for family in text_string_to_metric_families(page.decode(errors="replace")):
            _merge(families, family, process)
    return generate_latest(_Ready(families.values()))


def _merge(families: dict[str, Metric], family: Metric, process: str) -> None:
    known = families.get(family.name)
    if known is None:
        known = Metric(family.name, family.documentation, family.type, family.unit)
        families[family.name] = known
    for sample in family.samples:
        labels = {**sample.labels, "process": process}
        known.samples.append(sample._replace(labels=labels))


class _Ready(CollectorRegistry):
    """Families that are collected already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__()
        self._families = tuple(families)

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)
