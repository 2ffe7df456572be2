"""The API against a real Temporal server; small workflows stand in under the product's names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from temporalio import workflow
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from api.app import create_app
from streamvault.contracts import (
    CONTROL_QUEUE,
    PipelineStatus,
    Probed,
    ProbeInput,
    ProcessInput,
    RecordStreamInput,
    Status,
    processing_workflow_id,
    stream_workflow_id,
)
from streamvault.db import recordings, steps
from streamvault.db.session import Database
from streamvault.settings import Settings

from .conftest import Opened, client_of


@workflow.defn(name="ProbeSource")
class LiveForEver:
    @workflow.run
    async def run(self, order: ProbeInput) -> Probed:
        if "offline" in order.url:
            raise ApplicationError("nothing is live there", type="StreamOffline")
        login = order.url.rsplit("/", 1)[-1]
        return Probed("twitch", login, login.title(), f"id-{login}", "A title", "Chess")


@workflow.defn(name="RecordStream")
class UntilStopped:
    def __init__(self) -> None:
        self.stopped = ""
        self.restarts: list[str] = []

    @workflow.run
    async def run(self, order: RecordStreamInput) -> list[str]:
        await workflow.wait_condition(lambda: bool(self.stopped))
        return [*self.restarts, self.stopped]

    @workflow.signal
    def stop(self, reason: str) -> None:
        self.stopped = reason

    @workflow.signal
    def restart(self, reason: str) -> None:
        self.restarts.append(reason)

    @workflow.query
    def status(self) -> PipelineStatus:
        return PipelineStatus("record", "recording on here")


@workflow.defn(name="ProcessRecording")
class ParkedAtRemux:
    def __init__(self) -> None:
        self.decision = ""

    @workflow.run
    async def run(self, order: ProcessInput) -> list[str]:
        await workflow.wait_condition(lambda: bool(self.decision))
        if self.decision == "give_up":
            raise ApplicationError("given up", type="StepFailed.remux", non_retryable=True)
        return order.steps

    @workflow.update
    def retry(self, step: str) -> None:
        self.decision = "retry"

    @workflow.update
    def give_up(self, step: str) -> None:
        self.decision = "give_up"

    @workflow.update
    def skip(self, step: str) -> None:
        self.decision = "skip"

    @retry.validator
    def _only_remux(self, step: str) -> None:
        if step not in {"", "remux"}:
            raise ApplicationError(f"{step} is not parked")

    @workflow.query
    def status(self) -> PipelineStatus:
        return PipelineStatus("parked:remux", "no room", ["remux"], "no room")


@pytest.fixture(scope="module")
async def worker(temporal_dev: WorkflowEnvironment) -> AsyncIterator[None]:
    async with Worker(
        temporal_dev.client,
        task_queue=CONTROL_QUEUE,
        workflows=[LiveForEver, UntilStopped, ParkedAtRemux],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        yield


@pytest.fixture
def settings(make_settings: Callable[..., Settings], temporal_dev: WorkflowEnvironment) -> Settings:
    return make_settings(
        temporal_address=temporal_dev.client.service_client.config.target_host,
        temporal_namespace=temporal_dev.client.namespace,
        temporal_ui_url="http://127.0.0.1:8233",
    )


@pytest.fixture
def live_url() -> str:
    """A literal address, so that no name has to be resolved."""
    return f"https://8.8.8.8/{uuid4().hex[:8]}"


async def parked(db: Database, opened: Opened, temporal: WorkflowEnvironment) -> str:
    """A recording whose processing is parked at remux; its processing workflow's id."""
    recording_id = await opened(status="needs_attention", step="remux")
    async with db.begin() as session:
        await steps.set_step(session, recording_id, "remux", "parked", error="no room")
    workflow_id = processing_workflow_id(str(recording_id))
    await temporal.client.start_workflow(
        "ProcessRecording",
        ProcessInput(str(recording_id), "host-here-media"),
        id=workflow_id,
        task_queue=CONTROL_QUEUE,
    )
    return workflow_id


@pytest.mark.usefixtures("worker")
async def test_many_starts_of_one_stream_are_one_recording(
    client: httpx.AsyncClient, live_url: str
) -> None:
    answers = await asyncio.gather(
        *(client.post("/api/recordings", json={"url": live_url}) for _ in range(10))
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    recording = answers[0].json()
    login = live_url.rsplit("/", 1)[-1]
    assert recording["workflow_id"] == stream_workflow_id("twitch", f"id-{login}")
    assert (recording["status"], recording["title"]) == ("detecting", "A title")
    assert answers[0].headers["location"] == f"/api/recordings/{recording['id']}"


@pytest.mark.usefixtures("worker")
async def test_a_followed_streamer_is_recorded_in_its_quality(
    client: httpx.AsyncClient, live_url: str
) -> None:
    new = {"url": live_url, "quality": "720p60"}
    streamer = (await client.post("/api/streamers", json=new)).json()
    answer = await client.post("/api/recordings", json={"streamer_id": streamer["id"]})
    assert answer.status_code == 201
    assert answer.json()["streamer"]["id"] == streamer["id"]
    assert answer.json()["quality"] == "720p60"
    nobody = await client.post("/api/recordings", json={"streamer_id": str(uuid4())})
    assert nobody.status_code == 404


@pytest.mark.usefixtures("worker")
async def test_an_offline_stream_is_a_409_with_the_sources_words(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/recordings", json={"url": "https://8.8.8.8/offline"})
    assert (answer.status_code, answer.json()["title"]) == (409, "The stream is offline")
    assert answer.json()["detail"] == "nothing is live there"
    assert (await client.get("/api/recordings")).json()["items"] == []


@pytest.mark.usefixtures("worker")
async def test_stop_and_restart_reach_the_workflow(
    client: httpx.AsyncClient, live_url: str, temporal_dev: WorkflowEnvironment
) -> None:
    recording = (await client.post("/api/recordings", json={"url": live_url})).json()
    where = f"/api/recordings/{recording['id']}"
    for action in ("restart", "stop"):
        answer = await client.post(f"{where}/{action}")
        assert answer.status_code == 202
        assert answer.json()["action"] == action
    handle = temporal_dev.client.get_workflow_handle(recording["workflow_id"])
    assert await handle.result() == ["asked for by a person", "stopped"]
    late = await client.post(f"{where}/stop")
    assert (late.status_code, late.json()["hint"]) == (409, "it has ended already")


@pytest.mark.usefixtures("worker")
async def test_a_pipeline_shows_its_steps_and_its_own_words(
    client: httpx.AsyncClient,
    db: Database,
    opened: Opened,
    temporal_dev: WorkflowEnvironment,
) -> None:
    workflow_id = await parked(db, opened, temporal_dev)
    shown = (await client.get(f"/api/pipelines/{workflow_id}")).json()
    assert shown["parked"] == ["remux"]
    assert len(shown["steps"]) == 7
    assert shown["live"] == {
        "stage": "parked:remux",
        "detail": "no room",
        "parked": ["remux"],
        "error": "no room",
    }
    assert shown["processing_temporal_url"] == (
        f"http://127.0.0.1:8233/namespaces/{temporal_dev.client.namespace}/workflows/{workflow_id}"
    )
    by_stream = (await client.get(f"/api/pipelines/{shown['workflow_id']}")).json()
    assert by_stream["recording_id"] == shown["recording_id"]
    assert by_stream["live"] is None  # its RecordStream was never started here
    listed = (await client.get("/api/pipelines?status=needs_attention")).json()["items"]
    assert [item["processing_workflow_id"] for item in listed] == [workflow_id]

    letters = (await client.get("/api/dead-letters")).json()["items"]
    assert [(letter["id"], letter["step"], letter["error"]) for letter in letters] == [
        (workflow_id, "remux", "no room")
    ]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("by", ["stream", "processing"])
async def test_retry_reaches_what_is_parked(
    client: httpx.AsyncClient,
    db: Database,
    opened: Opened,
    temporal_dev: WorkflowEnvironment,
    by: str,
) -> None:
    workflow_id = await parked(db, opened, temporal_dev)
    asked = workflow_id if by == "processing" else f"stream-url-{workflow_id.split('-', 1)[1]}"
    wrong = await client.post(f"/api/pipelines/{asked}/retry", json={"step": "chapters"})
    assert (wrong.status_code, wrong.json()["detail"]) == (409, "chapters is not parked")
    right = await client.post(f"/api/pipelines/{asked}/retry")
    assert (right.status_code, right.json()["workflow_id"]) == (202, workflow_id)
    assert await temporal_dev.client.get_workflow_handle(workflow_id).result()
    late = await client.post(f"/api/pipelines/{asked}/retry")
    assert late.status_code == 409


@pytest.mark.usefixtures("worker")
async def test_what_was_given_up_starts_again_where_it_failed(
    client: httpx.AsyncClient, db: Database, opened: Opened, temporal_dev: WorkflowEnvironment
) -> None:
    workflow_id = await parked(db, opened, temporal_dev)
    where = f"/api/pipelines/{workflow_id}"
    assert (await client.post(f"{where}/give-up", json={})).status_code == 202
    handle = temporal_dev.client.get_workflow_handle(workflow_id)
    with pytest.raises(Exception, match="Workflow execution failed"):
        await handle.result()
    recording_id = UUID(workflow_id.removeprefix("recording-"))
    async with db.begin() as session:
        await recordings.set_status(session, recording_id, Status.FAILED, step="remux")
        await steps.set_step(session, recording_id, "remux", "failed", error="given up")
        await steps.set_step(session, recording_id, "chapters", "done")

    assert (await client.post(f"{where}/skip")).status_code == 409
    assert (await client.post(f"{where}/retry")).status_code == 202
    assert (await client.post(f"{where}/skip")).status_code == 202
    assert await handle.result() == ["remux", "thumbnails", "sidecars", "notify"]


@pytest.mark.usefixtures("worker")
async def test_a_finished_recording_can_be_processed_again(
    client: httpx.AsyncClient, opened: Opened, temporal_dev: WorkflowEnvironment
) -> None:
    recording_id = await opened(status="completed", holds_source=False)
    where = f"/api/recordings/{recording_id}/process"
    begun = await client.post(where, json={"steps": ["sidecars", "thumbnails"]})
    assert begun.status_code == 202
    assert (await client.post(where, json={"steps": ["sidecars"]})).status_code == 409
    workflow_id = begun.json()["workflow_id"]
    await client.post(f"/api/pipelines/{workflow_id}/skip")
    handle = temporal_dev.client.get_workflow_handle(workflow_id)
    assert await handle.result() == ["thumbnails", "sidecars"]


async def test_unknown_pipelines_are_not_found(client: httpx.AsyncClient) -> None:
    for workflow_id in ("stream-twitch-0", f"recording-{uuid4()}", "recording-x", "x" * 500):
        for answer in (
            await client.get(f"/api/pipelines/{workflow_id}"),
            await client.post(f"/api/pipelines/{workflow_id}/retry"),
        ):
            assert answer.status_code == 404


async def test_a_pipeline_that_never_began_waits_for_nobody(
    client: httpx.AsyncClient, opened: Opened
) -> None:
    recording_id = await opened(status="needs_attention")
    answer = await client.post(f"/api/pipelines/recording-{recording_id}/retry")
    assert answer.status_code == 409


async def test_ready_means_database_and_temporal(app: FastAPI) -> None:
    async with client_of(app) as client:
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        assert "streamvault_temporal_up 1.0" in (await client.get("/metrics")).text


async def test_temporal_may_come_after_the_api(
    make_settings: Callable[..., Settings], opened: Opened
) -> None:
    away = create_app(make_settings(temporal_address="127.0.0.1:1"))
    recording_id = await opened()
    async with client_of(away) as client:
        answer = await client.post(f"/api/recordings/{recording_id}/stop")
        assert answer.status_code == 503
        assert answer.json()["title"] == "A part of StreamVault cannot be reached"
        # What the database knows is shown all the same.
        shown = await client.get(f"/api/pipelines/recording-{recording_id}")
        assert (shown.status_code, shown.json()["live"]) == (200, None)
    await away.state.shared.db.close()
