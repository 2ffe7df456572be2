"""From a finished recording to a message at a local HTTP endpoint, through Apprise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import select, text
from temporalio.common import RetryPolicy
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities.catalog import Catalog
from activities.notify import FINISHED, Notify
from activities.pushes import Pushes
from streamvault.contracts import NotifyInput, Status, notification_workflow_id
from streamvault.db import captured, dead_letters, notifications, recordings
from streamvault.db.models import DeadLetter, Notification
from streamvault.db.recordings import NewRecording
from streamvault.db.session import Database
from streamvault.notify.targets import DeliveryFailed, Message, Targets, target_name
from streamvault.settings import check_settings
from tests.browser import Browser, PushService
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


@pytest.fixture
def pushes(db: Database, database_url: str, tmp_path: Path) -> Pushes:
    return Pushes(db, check_settings({"data_dir": tmp_path, "database_url": database_url}))


def notify_of(db: Database, *urls: str, pushes: Pushes | None = None) -> Notify:
    return Notify(db, Targets(list(urls)), pushes or Pushes(db, check_settings({})))


async def announce(
    stage: Stage, db: Database, *urls: str, pushes: Pushes | None = None
) -> list[Notification]:
    """Run the last step of the pipeline, and wait for what it set going."""
    catalog, notify = Catalog(db), notify_of(db, *urls, pushes=pushes)
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
    notify, row_id = notify_of(db, endpoint.url), await queued(db, recording_id, name)
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
    notify, row_id = notify_of(db, endpoint.url), await queued(db, recording_id, name)
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
        await deliver(notify_of(db), row_id, attempt=5)
    assert [row.state for row in await all_rows(db)] == ["failed"]


async def test_missing_seconds_are_part_of_the_message(
    db: Database, endpoint: Endpoint, recording_id: str
) -> None:
    async with db.begin() as session:
        await recordings.update_recording(session, recording_id, totals={"gap_s": 12.0})
    row_id = await queued(db, recording_id, target_name(endpoint.url))
    await deliver(notify_of(db, endpoint.url), row_id)
    assert endpoint.received[0]["message"].endswith("12 s are missing, see the report")


@pytest.fixture
async def push_service() -> AsyncIterator[PushService]:
    async with PushService.open() as service:
        yield service


async def test_a_browser_reads_what_a_finished_recording_says(
    stage: Stage, db: Database, push_service: PushService, pushes: Pushes, recording_id: str
) -> None:
    browser = Browser(push_service.endpoint("one"))
    await pushes.subscribe(browser.subscription)
    again = Browser(push_service.endpoint("two"))
    for _ in range(2):
        await pushes.subscribe(again.subscription)
    rows = await announce(stage, db, pushes=pushes)
    assert [(row.state, row.attempts) for row in rows] == [("sent", 1), ("sent", 1)]
    [got] = [call for call in push_service.calls if call.path.endswith("one")]
    assert browser.read(got.body) == {
        "title": "Alice: recording finished",
        "body": "speedrun\n60 min, 2.90 GB",
        "url": f"/watch/{recording_id}",
        "tag": recording_id,
    }
    claims = got.check_sender(await pushes.public_key())
    assert claims["aud"] == push_service.origin
    assert "example.com" in claims["sub"]


async def test_a_browser_that_has_left_is_asked_once_and_forgotten(
    stage: Stage, db: Database, push_service: PushService, pushes: Pushes
) -> None:
    push_service.answer = 410
    await pushes.subscribe(Browser(push_service.endpoint("gone")).subscription)
    [row] = await announce(stage, db, pushes=pushes)
    assert len(push_service.calls) == 1
    assert (row.state, row.error) == ("failed", "the browser has ended its subscription")
    assert await pushes.names() == []
    assert await letters(db) == []


@pytest.mark.parametrize("answer", [429, 500, 503])
async def test_a_push_service_in_trouble_is_asked_again(
    db: Database, push_service: PushService, pushes: Pushes, recording_id: str, answer: int
) -> None:
    push_service.answer = answer
    await pushes.subscribe(Browser(push_service.endpoint("secret-path")).subscription)
    [name] = await pushes.names()
    row_id, notify = await queued(db, recording_id, name), notify_of(db, pushes=pushes)
    with pytest.raises(DeliveryFailed, match=f"the push service answered {answer}"):
        await deliver(notify, row_id)
    push_service.answer = 201
    await deliver(notify, row_id, attempt=2)
    assert [row.state for row in await all_rows(db)] == ["sent"]
    push_service.answer = 500
    with pytest.raises(DeliveryFailed) as failed:
        await pushes.send(name, Message("t", "b"))
    assert "secret-path" not in str(failed.value)


async def test_what_the_table_holds_reaches_no_browser(
    db: Database, push_service: PushService, pushes: Pushes
) -> None:
    await pushes.subscribe(Browser(push_service.endpoint("secret-path")).subscription)
    await pushes.public_key()
    async with db.begin() as session:
        rows = await session.execute(text("SELECT * FROM push_subscriptions"))
        keys = await session.execute(text("SELECT * FROM credentials"))
        held = f"{rows.all()} {keys.all()}"
    assert "secret-path" not in held and "PRIVATE KEY" not in held


async def test_a_browser_that_the_key_does_not_open_ends_as_a_dead_letter(
    db: Database, push_service: PushService, pushes: Pushes, recording_id: str
) -> None:
    """Row F49: the secret is lost, the pipeline is not."""
    await pushes.subscribe(Browser(push_service.endpoint("one")).subscription)
    [name] = await pushes.names()
    async with db.begin() as session:
        await session.execute(text("UPDATE push_subscriptions SET sealed = 'damaged'"))
    row_id = await queued(db, recording_id, name)
    with pytest.raises(DeliveryFailed, match="cannot be decrypted"):
        await deliver(notify_of(db, pushes=pushes), row_id, attempt=5)
    assert [row.state for row in await all_rows(db)] == ["failed"]
    [letter] = await letters(db)
    assert "cannot be decrypted" in letter.error and push_service.calls == []
