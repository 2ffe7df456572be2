"""From a finished recording to a message at a local HTTP endpoint, through Apprise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import select
from temporalio.common import RetryPolicy
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities.catalog import Catalog
from activities.notify import FINISHED, Notify
from streamvault.contracts import NotifyInput, Status, notification_workflow_id
from streamvault.db import captured, dead_letters, notifications, recordings
from streamvault.db.models import DeadLetter, Notification
from streamvault.db.recordings import NewRecording
from streamvault.db.session import Database
from streamvault.notify.targets import DeliveryFailed, Targets, target_name
from tests.workflows.stage import Stage


@dataclass
class Endpoint:
    """What a person's own server would be: it takes JSON, or answers with an error."""

    url: str = ""
    answer: int = 200
    received: list[dict[str, Any]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.received.append(await request.json())
        return web.Response(status=self.answer)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    app = web.Application()
    app.router.add_post("/{path:.*}", endpoint.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    endpoint.url = f"json://{host}:{port}/hook"
    yield endpoint
    await runner.cleanup()


@pytest.fixture
async def recording_id(db: Database) -> str:
    async with db.begin() as session:
        new = NewRecording("k", "https://o/", streamer_name="Alice", title="speedrun")
        recording, _ = await recordings.open_recording(session, new)
        final = captured.FinalFile("alice.mp4", 2_900_000_000, 3_600.0)
        await captured.save_final_file(session, recording.id, final)
        await recordings.set_status(session, recording.id, Status.COMPLETED)
        return str(recording.id)


@pytest.fixture
async def stage(temporal_dev: WorkflowEnvironment, recording_id: str) -> AsyncIterator[Stage]:
    stage = Stage(temporal_dev, recording_id=recording_id)
    yield stage
    await stage.close()


async def announce(stage: Stage, db: Database, *urls: str) -> list[Notification]:
    """Run the last step of the pipeline, and wait for what it set going."""
    catalog, notify = Catalog(db), Notify(db, Targets(list(urls)))
    stage.instead["control"] = [
        *(catalog.set_status, catalog.set_step, notify.announce, notify.deliver)
    ]
    await stage.work(["control"])
    await stage.process(["notify"])
    await stage.processing.result()
    rows = await all_rows(db)
    for row in rows:
        await stage.client.get_workflow_handle(notification_workflow_id(str(row.id))).result()
    await stage.rest(["control"])
    return await all_rows(db)


async def all_rows(db: Database) -> list[Notification]:
    async with db.begin() as session:
        return list(await session.scalars(select(Notification).order_by(Notification.id)))


async def letters(db: Database) -> list[DeadLetter]:
    async with db.begin() as session:
        return list((await dead_letters.list_letters(session, cursor=None)).items)


async def queued(db: Database, recording_id: str, target: str) -> str:
    async with db.begin() as session:
        [row_id] = await notifications.queue_notifications(
            session, recording_id, FINISHED, [target]
        )
        return str(row_id)


async def deliver(notify: Notify, notification_id: str, attempt: int = 1) -> None:
    """One attempt of five."""
    environment = ActivityEnvironment()
    environment.info = replace(
        environment.info, attempt=attempt, retry_policy=RetryPolicy(maximum_attempts=5)
    )
    await environment.run(notify.deliver, NotifyInput(notification_id))


async def test_a_finished_recording_is_announced_at_every_target(
    stage: Stage, db: Database, endpoint: Endpoint
) -> None:
    first, second = endpoint.url, f"{endpoint.url}/second"
    rows = await announce(stage, db, first, second)
    assert {(row.target, row.state, row.attempts) for row in rows} == {
        (target_name(first), "sent", 1),
        (target_name(second), "sent", 1),
    }
    assert len(endpoint.received) == 2
    message = endpoint.received[0]
    assert message["title"] == "Alice: recording finished"
    assert message["message"] == "speedrun\n60 min, 2.90 GB"
    assert message["type"] == "success"


async def test_nothing_is_said_twice(stage: Stage, db: Database, endpoint: Endpoint) -> None:
    for _ in range(2):
        await announce(stage, db, endpoint.url)
    assert len(endpoint.received) == 1
    assert [row.attempts for row in await all_rows(db)] == [1]


async def test_without_targets_the_pipeline_just_ends(stage: Stage, db: Database) -> None:
    assert await announce(stage, db) == []


async def test_a_target_that_fails_is_queued_until_its_last_attempt(
    db: Database, endpoint: Endpoint, recording_id: str
) -> None:
    endpoint.answer = 500
    name = target_name(endpoint.url)
    notify, row_id = Notify(db, Targets([endpoint.url])), await queued(db, recording_id, name)
    for attempt, state in ((1, "queued"), (4, "queued"), (5, "failed")):
        with pytest.raises(DeliveryFailed, match=f"{name} did not take the message"):
            await deliver(notify, row_id, attempt)
        [row] = await all_rows(db)
        assert (row.state, row.error) == (state, f"{name} did not take the message")
        assert len(await letters(db)) == (state == "failed")
    assert row.attempts == 3 and row.ended_at is not None
    [letter] = await letters(db)
    assert (letter.kind, dead_letters.key_of(letter)) == ("notification", row_id)
    assert letter.title == f"{FINISHED} to {name}"
    assert (letter.error, letter.attempts) == (row.error, 5)


async def test_a_target_that_recovers_gets_the_message(
    db: Database, endpoint: Endpoint, recording_id: str
) -> None:
    endpoint.answer = 503
    name = target_name(endpoint.url)
    notify, row_id = Notify(db, Targets([endpoint.url])), await queued(db, recording_id, name)
    with pytest.raises(DeliveryFailed):
        await deliver(notify, row_id)
    endpoint.answer = 200
    await deliver(notify, row_id, attempt=2)
    [row] = await all_rows(db)
    assert (row.state, row.error, row.attempts) == ("sent", "", 2)
    await deliver(notify, row_id, attempt=3)
    assert len(endpoint.received) == 2


async def test_a_target_that_left_the_settings_is_named(db: Database, recording_id: str) -> None:
    row_id = await queued(db, recording_id, "json-3fa9c1")
    with pytest.raises(DeliveryFailed, match="json-3fa9c1 is not in the settings any more"):
        await deliver(Notify(db, Targets([])), row_id, attempt=5)
    assert [row.state for row in await all_rows(db)] == ["failed"]


async def test_missing_seconds_are_part_of_the_message(
    db: Database, endpoint: Endpoint, recording_id: str
) -> None:
    async with db.begin() as session:
        await recordings.update_recording(session, recording_id, totals={"gap_s": 12.0})
    row_id = await queued(db, recording_id, target_name(endpoint.url))
    await deliver(Notify(db, Targets([endpoint.url])), row_id)
    assert endpoint.received[0]["message"].endswith("12 s are missing, see the report")
