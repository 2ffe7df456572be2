"""Connecting an account by a code that is entered at Twitch: API, Temporal and worker together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any

import httpx
import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.accounts import Accounts
from activities.translate import TranslateErrors
from activities.twitch_access import TwitchAccess
from api.app import create_app
from streamvault.contracts import DETECT_QUEUE, sign_in_workflow_id
from streamvault.db import sign_ins
from streamvault.db.session import Database
from streamvault.metrics.system import Metrics
from streamvault.settings import Settings
from tests.api.conftest import client_of
from tests.api.twitch_account import everything_stored, settings_of, status
from tests.fake_twitch.client import Application, FakeTwitch
from workflows.housekeeping import ConnectTwitch

ALICE = "alice_of_the_device"
INTERVAL_S = 1
# Only a test that fails waits this long.
PATIENCE_S = 40
PAUSE_S = 0.1


@pytest.fixture
def application(fake_twitch: FakeTwitch, request: pytest.FixtureRequest) -> Application:
    """One with a secret, unless the test's parameter says `public`."""
    fake_twitch.channel(ALICE)
    return fake_twitch.application(public=getattr(request, "param", "") == "public")


@pytest.fixture
def quick(fake_twitch: FakeTwitch) -> Any:
    with fake_twitch.knobs(device_interval_s=INTERVAL_S):
        yield


@pytest.fixture
def settings(
    make_settings: Callable[..., Settings],
    temporal_dev: WorkflowEnvironment,
    application: Application,
) -> Settings:
    return make_settings(
        **settings_of(application),
        temporal_address=temporal_dev.client.service_client.config.target_host,
        temporal_namespace=temporal_dev.client.namespace,
    )


@asynccontextmanager
async def worker(settings: Settings, client: Client) -> AsyncIterator[None]:
    """What a control worker does for sign-ins, with a database of its own."""
    assert settings.database_url
    db = Database(settings.database_url.get_secret_value(), pool_size=2)
    access = TwitchAccess.open(settings, db, Metrics())

    async def twitch() -> TwitchAccess:
        return access

    accounts = Accounts(db, twitch)
    async with Worker(
        client,
        task_queue=DETECT_QUEUE,
        workflows=[ConnectTwitch],
        activities=[accounts.await_sign_in],
        interceptors=[TranslateErrors()],
        graceful_shutdown_timeout=timedelta(seconds=PATIENCE_S),
        # Without a cache the next worker need not wait until the server gives this one up.
        max_cached_workflows=0,
    ):
        yield
    await access.close()
    await db.close()


async def begin(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.post("/api/twitch/device")
    assert answer.status_code == 202, answer.text
    begun: dict[str, Any] = answer.json()
    return begun


async def state_of(client: httpx.AsyncClient, begun: dict[str, Any]) -> str:
    answer = await client.get(f"/api/twitch/device/{begun['id']}")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["state"])


async def until(client: httpx.AsyncClient, begun: dict[str, Any], wanted: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await state_of(client, begun) == wanted:
                return
            await asyncio.sleep(PAUSE_S)


async def until_asked(fake: FakeTwitch, application: Application, times: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if len(fake.calls("auth.token", app=application)) >= times:
                return
            await asyncio.sleep(PAUSE_S)


def pauses(fake: FakeTwitch, application: Application) -> list[float]:
    """Seconds between two questions for a token."""
    calls = fake.calls("auth.token", app=application)
    return [later.at - earlier.at for earlier, later in pairwise(calls)]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("application", ["with a secret", "public"], indirect=True)
async def test_a_code_that_somebody_enters_connects_the_account(
    client: httpx.AsyncClient,
    db: Database,
    settings: Settings,
    temporal_dev: WorkflowEnvironment,
    fake_twitch: FakeTwitch,
    application: Application,
) -> None:
    async with worker(settings, temporal_dev.client):
        begun = await begin(client)
        assert begun["user_code"] in fake_twitch.user_codes(app=application)
        assert begun["verification_uri"].startswith("https://www.twitch.tv/activate")
        await until_asked(fake_twitch, application, 1)
        assert await state_of(client, begun) == "waiting"
        fake_twitch.approve_code(begun["user_code"], ALICE)
        await until(client, begun, "connected")
    account = (await status(client))["account"]
    assert (account["valid"], account["login"]) == (True, ALICE)
    assert account["scopes"] == ["user:read:follows"]
    assert all(pause >= INTERVAL_S * 0.99 for pause in pauses(fake_twitch, application))
    # Neither codes nor tokens stand in the database in the clear.
    assert begun["id"] not in await everything_stored(db)


@pytest.mark.usefixtures("quick")
async def test_no_secret_crosses_temporal(
    client: httpx.AsyncClient,
    settings: Settings,
    temporal_dev: WorkflowEnvironment,
    fake_twitch: FakeTwitch,
) -> None:
    async with worker(settings, temporal_dev.client):
        begun = await begin(client)
        fake_twitch.approve_code(begun["user_code"], ALICE)
        await until(client, begun, "connected")
        workflow_id = sign_in_workflow_id(sign_ins.id_of(begun["id"]))
        handle = temporal_dev.client.get_workflow_handle(workflow_id)
        await handle.result()
        history = (await handle.fetch_history()).to_json()
    # What crosses is the row's id, the interval, and the state.
    assert sign_ins.id_of(begun["id"])[:16] in history
    for secret in (begun["id"], begun["user_code"]):
        assert secret not in history
    assert "access_token" not in history and "device_code" not in history


@pytest.mark.usefixtures("quick")
async def test_whoever_says_no_is_told_so(
    client: httpx.AsyncClient,
    settings: Settings,
    temporal_dev: WorkflowEnvironment,
    fake_twitch: FakeTwitch,
) -> None:
    async with worker(settings, temporal_dev.client):
        denied, expired = await begin(client), await begin(client)
        fake_twitch.deny_code(denied["user_code"])
        fake_twitch.expire_code(expired["user_code"])
        await until(client, denied, "denied")
        await until(client, expired, "expired")
    assert not (await status(client))["account"]["set"]


async def test_a_twitch_that_wants_to_be_asked_less_often_is(
    client: httpx.AsyncClient,
    settings: Settings,
    temporal_dev: WorkflowEnvironment,
    fake_twitch: FakeTwitch,
    application: Application,
) -> None:
    with fake_twitch.knobs(device_interval_s=1):
        begun = await begin(client)
    with fake_twitch.knobs(device_interval_s=4):
        async with worker(settings, temporal_dev.client):
            await until_asked(fake_twitch, application, 2)
            fake_twitch.approve_code(begun["user_code"], ALICE)
            await until(client, begun, "connected")
    first, *later = pauses(fake_twitch, application)
    # RFC 8628: five seconds more from the first slow_down on, which came with the second question.
    assert first < 4 and later and all(pause >= 5.9 for pause in later)


@pytest.mark.usefixtures("quick")
async def test_the_waiting_outlives_api_and_worker(
    client: httpx.AsyncClient,
    settings: Settings,
    temporal_dev: WorkflowEnvironment,
    fake_twitch: FakeTwitch,
    application: Application,
) -> None:
    begun = await begin(client)
    async with worker(settings, temporal_dev.client):
        await until_asked(fake_twitch, application, 1)
    fake_twitch.approve_code(begun["user_code"], ALICE)
    api = create_app(settings)
    async with (
        api.router.lifespan_context(api),
        client_of(api) as other,
        worker(settings, temporal_dev.client),
    ):
        await until(other, begun, "connected")
        assert (await status(other))["account"]["login"] == ALICE


@pytest.mark.usefixtures("quick")
async def test_an_outage_of_twitch_does_not_end_the_waiting(
    client: httpx.AsyncClient,
    settings: Settings,
    temporal_dev: WorkflowEnvironment,
    fake_twitch: FakeTwitch,
    application: Application,
) -> None:
    async with worker(settings, temporal_dev.client):
        begun = await begin(client)
        fake_twitch.fault("auth.token", "status", status=503, count=2)
        await until_asked(fake_twitch, application, 2)
        fake_twitch.approve_code(begun["user_code"], ALICE)
        await until(client, begun, "connected")


async def test_a_sign_in_that_nobody_began_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"/api/twitch/device/{'x' * 43}")).status_code == 404
    assert (await client.get("/api/twitch/device/short")).status_code == 422


async def test_without_temporal_nothing_is_begun(
    make_settings: Callable[..., Settings], application: Application, fake_twitch: FakeTwitch
) -> None:
    api = create_app(make_settings(**settings_of(application)))
    async with api.router.lifespan_context(api), client_of(api) as client:
        assert (await client.post("/api/twitch/device")).status_code == 503
    assert fake_twitch.user_codes(app=application) == []
