"""Everything that needs a person in one list, and what a person can do about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import select
from temporalio import workflow
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from api.app import create_app
from streamvault.contracts import CONTROL_QUEUE, NotifyInput, notification_workflow_id
from streamvault.db import dead_letters, inbox, notifications, steps
from streamvault.db.inbox import NewMessage
from streamvault.db.models import DeadLetter, InboxMessage, Notification
from streamvault.db.session import Database
from streamvault.settings import Settings

from .conftest import Opened, client_of

WHERE = "/api/dead-letters"


@workflow.defn(name="DeliverNotification")
class Delivered:
    @workflow.run
    async def run(self, order: NotifyInput) -> str:
        return order.notification_id


@pytest.fixture
async def worker(temporal_dev: WorkflowEnvironment) -> AsyncIterator[None]:
    async with Worker(
        temporal_dev.client,
        task_queue=CONTROL_QUEUE,
        workflows=[Delivered],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        yield


@pytest.fixture
def settings(make_settings: Callable[..., Settings], temporal_dev: WorkflowEnvironment) -> Settings:
    return make_settings(
        temporal_address=temporal_dev.client.service_client.config.target_host,
        temporal_namespace=temporal_dev.client.namespace,
    )


async def dead_message(db: Database, id_: str = "m-1") -> None:
    """A webhook message that was given up."""
    message = NewMessage(
        id_, "webhook", "notification", "stream.online", "s", datetime.now(UTC), {"event": {}}
    )
    async with db.begin() as session:
        await inbox.store(session, message)
        row_id = await session.scalar(select(InboxMessage.id).filter_by(message_id=id_))
        assert row_id is not None
        await inbox.bury(session, row_id, "no answer")
        await dead_letters.add_letter(
            session, "inbox", id_, title="stream.online of alice", error="no answer", attempts=5
        )


async def dead_notification(db: Database, recording_id: UUID) -> str:
    async with db.begin() as session:
        [row_id] = await notifications.queue_notifications(
            session, recording_id, "recording.finished", ["json-3fa9c1"]
        )
        await notifications.mark_notification(session, row_id, "failed", "no answer")
        await dead_letters.add_letter(
            session,
            "notification",
            str(row_id),
            title="recording.finished to json-3fa9c1",
            error="no answer",
            attempts=5,
        )
    return str(row_id)


async def parked(db: Database, opened: Opened, key: str = "k") -> str:
    recording_id = await opened(key, status="needs_attention", step="remux", title="speedrun")
    async with db.begin() as session:
        await steps.set_step(session, recording_id, "remux", "parked", error="no room", attempt=3)
    return f"recording-{recording_id}"


async def listed(client: httpx.AsyncClient, query: str = "") -> list[dict[str, str]]:
    answer = await client.get(f"{WHERE}{query}")
    assert answer.status_code == 200
    items: list[dict[str, str]] = answer.json()["items"]
    return items


async def the_letter(client: httpx.AsyncClient) -> str:
    [letter] = await listed(client)
    return f"{WHERE}/{letter['id']}"


async def test_every_kind_is_in_one_list_newest_first(
    client: httpx.AsyncClient, db: Database, opened: Opened
) -> None:
    workflow_id = await parked(db, opened)
    await dead_message(db)
    await dead_notification(db, await opened("done", status="completed", holds_source=False))
    shown = await listed(client)
    assert [letter["kind"] for letter in shown] == ["notification", "inbox", "pipeline"]
    message, pipeline = shown[1], shown[2]
    assert (message["title"], message["error"], message["attempts"]) == (
        "stream.online of alice",
        "no answer",
        5,
    )
    assert message["recording_id"] is None and message["since"]
    assert (pipeline["id"], pipeline["step"], pipeline["error"], pipeline["attempts"]) == (
        workflow_id,
        "remux",
        "no room",
        3,
    )
    assert pipeline["title"] == "speedrun" and pipeline["status"] == "needs_attention"
    for kind in ("notification", "inbox", "pipeline"):
        assert [letter["kind"] for letter in await listed(client, f"?kind={kind}")] == [kind]
    two = await listed(client, "?kind=inbox&kind=pipeline")
    assert [letter["kind"] for letter in two] == ["inbox", "pipeline"]
    assert (await client.get(f"{WHERE}?kind=other")).status_code == 422


async def test_pages_go_through_both_tables(
    client: httpx.AsyncClient, db: Database, opened: Opened
) -> None:
    made = []
    for number in range(4):
        made.append(await parked(db, opened, f"k{number}"))
        await dead_message(db, f"m-{number}")
    seen: list[str] = []
    cursor = ""
    for _ in range(4):
        page = (await client.get(f"{WHERE}?limit=3{cursor}")).json()
        seen += [f"{letter['kind']} {letter['title'] and letter['id']}" for letter in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen)) == 8
    assert [kind.split()[0] for kind in seen] == ["inbox", "pipeline"] * 4
    assert [kind.split()[1] for kind in seen[1::2]] == made[::-1]


async def test_a_message_is_tried_again_once(client: httpx.AsyncClient, db: Database) -> None:
    await dead_message(db)
    where = await the_letter(client)
    answer = await client.post(f"{where}/retry")
    assert answer.status_code == 202
    assert (answer.json()["kind"], answer.json()["action"]) == ("inbox", "retry")
    async with db.begin() as session:
        row = (await session.scalars(select(InboxMessage))).one()
    assert (row.state, row.attempts) == ("waiting", 0)
    assert await listed(client) == []
    again = await client.post(f"{where}/retry")
    assert (again.status_code, again.json()["detail"]) == (
        409,
        "this dead letter was retried already",
    )


async def test_a_message_that_is_gone_cannot_be_tried_again(
    client: httpx.AsyncClient, db: Database
) -> None:
    await dead_message(db)
    async with db.begin() as session:
        await session.delete((await session.scalars(select(InboxMessage))).one())
    where = await the_letter(client)
    answer = await client.post(f"{where}/retry")
    assert (answer.status_code, answer.json()["hint"]) == (404, "discard this letter")
    assert len(await listed(client)) == 1
    assert (await client.post(f"{where}/discard", json={"reason": "gone"})).status_code == 202
    assert await listed(client) == []


@pytest.mark.usefixtures("worker")
async def test_a_notification_is_delivered_after_all(
    client: httpx.AsyncClient, db: Database, opened: Opened, temporal_dev: WorkflowEnvironment
) -> None:
    row_id = await dead_notification(db, await opened(status="completed"))
    answer = await client.post(f"{await the_letter(client)}/retry")
    assert answer.status_code == 202
    handle = temporal_dev.client.get_workflow_handle(notification_workflow_id(row_id))
    assert await handle.result() == row_id
    async with db.begin() as session:
        row = (await session.scalars(select(Notification))).one()
    assert (row.state, row.error, row.ended_at) == ("queued", "", None)
    assert await listed(client) == []


async def test_what_cannot_be_started_stays_a_dead_letter(
    make_settings: Callable[..., Settings], db: Database, opened: Opened
) -> None:
    await dead_notification(db, await opened(status="completed"))
    away = create_app(make_settings(temporal_address="127.0.0.1:1"))
    async with client_of(away) as client:
        where = await the_letter(client)
        assert (await client.post(f"{where}/retry")).status_code == 503
        assert len(await listed(client)) == 1
    await away.state.shared.db.close()
    async with db.begin() as session:
        assert [row.state for row in await session.scalars(select(Notification))] == ["failed"]


async def test_discarding_takes_a_reason_and_keeps_it(
    client: httpx.AsyncClient, db: Database
) -> None:
    await dead_message(db)
    where = await the_letter(client)
    for bad in ({}, {"reason": ""}, {"reason": "  "}, {"reason": "x" * 501}, {"why": "no"}):
        assert (await client.post(f"{where}/discard", json=bad)).status_code == 422
    answer = await client.post(f"{where}/discard", json={"reason": " nobody streams any more "})
    assert (answer.status_code, answer.json()["action"]) == (202, "discard")
    async with db.begin() as session:
        row = (await session.scalars(select(DeadLetter))).one()
    assert (row.state, row.reason) == ("discarded", "nobody streams any more")
    assert await listed(client) == []
    assert (await client.post(f"{where}/retry")).status_code == 409


async def test_pipelines_are_decided_by_their_workflows(
    client: httpx.AsyncClient, db: Database, opened: Opened
) -> None:
    workflow_id = await parked(db, opened)
    for action in ("retry", "discard"):
        answer = await client.post(f"{WHERE}/{workflow_id}/{action}", json={"reason": "a test"})
        # No workflow runs here, so there is nobody to decide.
        assert answer.status_code == 409
        assert "is not waiting for anybody" in answer.json()["detail"]


async def test_what_is_not_there_is_not_found(client: httpx.AsyncClient) -> None:
    for unknown in (str(uuid4()), f"recording-{uuid4()}", "x", "stream-twitch-0"):
        assert (await client.post(f"{WHERE}/{unknown}/retry")).status_code == 404
        answer = await client.post(f"{WHERE}/{unknown}/discard", json={"reason": "a test"})
        assert answer.status_code == 404
