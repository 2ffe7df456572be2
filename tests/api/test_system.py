from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamvault.contracts import STEPS, Status
from streamvault.db import notifications, recordings
from streamvault.db.session import Database
from streamvault.metrics.system import PREFIX, Metrics

from .conftest import Opened

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name.removeprefix(PREFIX), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_series_is_there_before_anything_happened() -> None:
    found = samples(Metrics().exposition().decode())
    assert found["active_recordings_total", ()] == 0
    assert found["active_recordings", ()] == 0
    assert {labels for name, labels in found if name == "recording_failures_total"} == {
        (("reason", str(step)),) for step in STEPS
    }
    assert found["background_queue_size", (("queue", "notifications"),)] == 0
    assert found["database_connection_pool_used", ()] == 0
    latency = {labels for name, labels in found if name == "twitch_api_latency_seconds_count"}
    assert (("endpoint", "helix"), ("outcome", "ok")) in latency
    assert not [name for name, _ in found if name.endswith("_created")]
    assert len(found) < 10_000


def test_a_counter_does_not_fall_when_rows_are_deleted() -> None:
    metrics = Metrics()
    for failures in ({"remux": 3}, {}):
        metrics.system.update(active=0, needing_attention=0, failures=failures, queues={})
    found = samples(metrics.exposition().decode())
    assert found["recording_failures_total", (("reason", "remux"),)] == 3


async def test_metrics_count_what_the_database_holds(
    client: httpx.AsyncClient, db: Database, opened: Opened
) -> None:
    await opened("a")
    failed, stopped, busy = [await opened(key) for key in "bcd"]
    async with db.begin() as session:
        await recordings.set_status(session, failed, Status.FAILED, step="record", reason="gone")
        await recordings.set_status(
            session, stopped, Status.FAILED, step="record", reason="stopped"
        )
        await recordings.set_status(session, busy, Status.PROCESSING)
        await notifications.queue_notifications(session, failed, "failed", ["x", "y"])
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = samples(answer.text)
    assert found["active_recordings_total", ()] == found["active_recordings", ()] == 1
    assert found["recording_failures_total", (("reason", "record"),)] == 1
    assert found["background_queue_size", (("queue", "processing"),)] == 1
    assert found["background_queue_size", (("queue", "notifications"),)] == 2
    assert found["database_connection_pool_size", ()] == 5 + 50
    assert (found["database_up", ()], found["temporal_up", ()]) == (1, 0)


async def test_health_says_nothing_of_the_inside(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    # The database answers, but no Temporal is configured here.
    ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert set(ready.json()) == {"type", "title", "status", "trace_id"}


async def test_the_first_page_says_where_things_are(
    client: httpx.AsyncClient, opened: Opened
) -> None:
    title = '<script>alert("x")</script>'
    recording_id = await opened(title=title, path="A/A.mp4")
    page = await client.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.headers["content-type"].startswith("text/html")
    assert f'href="/api/recordings/{recording_id}/media"' in page.text
    assert "<script" not in page.text
    places = (await client.get("/")).json()
    for name, path in places.items():
        assert (await client.get(path)).status_code == 200, name


async def test_no_page_needs_a_script_from_elsewhere(client: httpx.AsyncClient) -> None:
    for path in ("/docs", "/redoc"):
        assert (await client.get(path)).status_code == 404
    described = (await client.get("/openapi.json")).json()
    assert "/api/recordings/{recording_id}/media" in described["paths"]


@pytest.mark.parametrize("path", ["/healthz/", "/api/recordings/"])
async def test_a_slash_too_many_is_not_redirected(front: httpx.AsyncClient, path: str) -> None:
    assert (await front.get(path)).status_code == 404
