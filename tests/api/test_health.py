"""The doctor's list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio import activity, workflow
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities import checkup
from api.app import create_app
from streamvault.contracts import CONTROL_QUEUE, DETECT_QUEUE, RECORD_QUEUE
from streamvault.db import credentials, facts, recordings, streamers
from streamvault.db.models import DeadLetter, InboxMessage
from streamvault.db.session import Database
from streamvault.embedded.postgres import Postgres
from streamvault.settings import Settings
from tests.api.conftest import Opened, client_of

WITHOUT_TWITCH = ("twitch_api", "app_token", "account", "eventsub", "subscriptions", "clock")


@workflow.defn
class Nothing:
    @workflow.run
    async def run(self) -> None:
        return


@activity.defn
async def nothing() -> None:
    return


@pytest.fixture
async def workers(temporal_dev: WorkflowEnvironment) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for queue in (CONTROL_QUEUE, RECORD_QUEUE, DETECT_QUEUE):
            worker = Worker(
                temporal_dev.client,
                task_queue=queue,
                activities=[nothing],
                workflows=[Nothing] if queue == CONTROL_QUEUE else [],
                workflow_runner=UnsandboxedWorkflowRunner(),
            )
            await stack.enter_async_context(worker)
        yield


@pytest.fixture
def make(
    make_settings: Callable[..., Settings], temporal_dev: WorkflowEnvironment
) -> Callable[..., Settings]:
    """Settings of an installation whose Temporal runs."""

    def made(**overrides: Any) -> Settings:
        address = temporal_dev.client.service_client.config.target_host
        namespace = temporal_dev.client.namespace
        return make_settings(temporal_address=address, temporal_namespace=namespace, **overrides)

    return made


@pytest.fixture
def settings(make: Callable[..., Settings]) -> Settings:
    return make()


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "KEPT_S", 0.0)


async def health_of(client: httpx.AsyncClient) -> tuple[str, dict[str, dict[str, str]]]:
    answer = await client.get("/api/health")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return found["status"], {check["name"]: check for check in found["checks"]}


async def state_of(client: httpx.AsyncClient, name: str) -> str:
    return (await health_of(client))[1][name]["state"]


async def state(db: Database, name: str, **value: Any) -> None:
    async with db.begin() as session:
        await facts.put_fact(session, name, value)


async def follow(db: Database) -> None:
    async with db.begin() as session:
        new = streamers.NewStreamer("url", "origin", "origin", "https://origin.example.org/a.m3u8")
        await streamers.add_streamer(session, new)


@pytest.mark.usefixtures("workers")
async def test_an_installation_without_twitch_that_works_is_ok(
    client: httpx.AsyncClient, db: Database
) -> None:
    await state(db, facts.POLL, helix=False, why="no Twitch application is set up")
    await state(db, facts.WATCHDOG, recordings=0, silent=0, restarted=0, adopted=0)
    await follow(db)
    status, checks = await health_of(client)
    assert status == "ok", checks
    assert {name for name, check in checks.items() if check["state"] == "off"} == {
        *WITHOUT_TWITCH,
        *("browser_token", "proxies"),
    }
    assert {name for name, check in checks.items() if check["state"] == "ok"} == {
        "watchdog",
        *("database", "temporal", "workers", "storage", "inbox", "dead_letters", "poll"),
    }
    assert "STREAMVAULT_TWITCH_CLIENT_ID" in checks["twitch_api"]["hint"]


async def test_while_nobody_is_followed_nobody_has_to_look(client: httpx.AsyncClient) -> None:
    _, checks = await health_of(client)
    assert (checks["poll"]["state"], checks["poll"]["note"]) == ("off", "nobody is followed")


async def test_queues_that_nobody_polls_are_told(
    client: httpx.AsyncClient, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await follow(db)
    # The server remembers for some minutes those who polled in the tests before.
    monkeypatch.setattr(checkup, "POLLED_WITHIN", timedelta(0))
    status, checks = await health_of(client)
    assert status == "down"
    assert checks["workers"]["note"] == "nobody polls control, record, detect"


async def test_a_database_that_is_away_is_told_and_the_rest_too(
    client: httpx.AsyncClient, db: Database, postgres: Postgres
) -> None:
    await db.close()
    name = db.engine.url.database
    postgres.query(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false", "postgres")
    status, checks = await health_of(client)
    assert status == "down"
    assert (checks["database"]["state"], checks["detection"]["state"]) == ("error", "error")
    assert (checks["temporal"]["state"], checks["storage"]["state"]) == ("ok", "ok")


async def test_a_temporal_that_is_away_is_told(make_settings: Callable[..., Settings]) -> None:
    app = create_app(make_settings(temporal_address="127.0.0.1:1"))
    async with app.router.lifespan_context(app), client_of(app) as client:
        status, checks = await health_of(client)
    assert (status, checks["database"]["state"]) == ("down", "ok")
    assert (checks["temporal"]["state"], checks["workers"]["state"]) == ("error", "error")


async def test_what_waits_too_long_or_for_a_person_is_told(
    client: httpx.AsyncClient, db: Database, opened: Opened
) -> None:
    assert await state_of(client, "inbox") == await state_of(client, "dead_letters") == "ok"
    long_ago = datetime.now(UTC) - timedelta(minutes=5)
    parked = await opened("parked")
    async with db.begin() as session:
        session.add(
            InboxMessage(
                message_id="m",
                source="webhook",
                kind="notification",
                type="stream.online",
                sent_at=long_ago,
                received_at=long_ago,
                payload={},
            )
        )
        session.add(DeadLetter(kind="inbox", key="k", title="a message"))
        await recordings.update_recording(session, parked, status="needs_attention")
    _, checks = await health_of(client)
    assert checks["inbox"]["state"] == "warning"
    assert checks["dead_letters"]["note"] == "2 need a person"


async def test_a_library_that_is_not_there_yet_has_the_room_of_its_disk(
    make: Callable[..., Settings], tmp_path: Path
) -> None:
    app = create_app(make(recordings_dir=tmp_path / "not" / "there"))
    async with app.router.lifespan_context(app), client_of(app) as client:
        assert "GB are free" in (await health_of(client))[1]["storage"]["note"]


# ---- with a Twitch application


@pytest.fixture
async def followed(make: Callable[..., Settings]) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(make(twitch_client_id="someclient", twitch_client_secret="somesecret"))
    async with app.router.lifespan_context(app), client_of(app) as client:
        yield client


async def test_a_worker_that_has_said_nothing_yet_is_told(followed: httpx.AsyncClient) -> None:
    _, checks = await health_of(followed)
    assert {name: checks[name]["state"] for name in ("eventsub", "poll", "app_token")} == {
        "eventsub": "warning",
        "poll": "error",
        "app_token": "warning",
    }


async def test_a_state_is_known_since_it_was_first_seen(
    followed: httpx.AsyncClient, db: Database
) -> None:
    seen = []
    for skew_s in (0, 1, 10, 0):
        await state(db, facts.CLOCK, skew_s=skew_s)
        seen.append((await health_of(followed))[1]["clock"])
    assert [check["state"] for check in seen] == ["ok", "ok", "warning", "ok"]
    first, same, warned, back = [check["since"] for check in seen]
    assert first == same < warned < back


async def test_circuits_transport_and_clock_are_judged_by_what_the_worker_says(
    followed: httpx.AsyncClient, db: Database
) -> None:
    await state(db, facts.CIRCUITS, eventsub={"state": "open", "retry_after_s": 50, "failures": 0})
    await state(
        db,
        facts.EVENTSUB,
        transport="poll",
        wanted="conduit",
        reason="Twitch refuses the conduit (403)",
        desired=6,
        by_status={"enabled": 4},
    )
    await state(db, facts.CLOCK, skew_s=-12.0)
    status, checks = await health_of(followed)
    assert status in ("degraded", "down")
    assert "eventsub failed" in checks["twitch_api"]["note"]
    assert checks["eventsub"]["note"].endswith("Twitch refuses the conduit (403)")
    assert checks["subscriptions"]["note"] == "4 of 6 are enabled"
    assert checks["clock"]["note"] == "12 s ahead of Twitch's"


async def test_tokens_are_told_without_showing_them(
    followed: httpx.AsyncClient, db: Database
) -> None:
    async with db.begin() as session:
        month = datetime.now(UTC) + timedelta(days=30, hours=1)
        await credentials.write(session, "app_token", "sealedapp", expires_at=month)
        about = {"login": "alice"}
        await credentials.write(session, "user_token", "sealeduser", about=about)
        await credentials.mark_invalid(session, "user_token", "Invalid refresh token")
        soon = datetime.now(UTC) + timedelta(days=3, hours=1)
        await credentials.write(session, "browser_token", "sealedbrowser", expires_at=soon)
    _, checks = await health_of(followed)
    assert checks["app_token"]["note"] == "valid for 30 days"
    assert (checks["account"]["state"], checks["account"]["note"]) == (
        "error",
        "of alice, not valid: Invalid refresh token",
    )
    assert checks["browser_token"]["state"] == "warning"
    assert "sealed" not in str(checks)
