"""What an activity's error becomes in Temporal, seen from the workflow's side of a real server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.translate import TranslateErrors
from streamvault.errors import (
    FetchFailed,
    SourceUnavailable,
    StorageFull,
    StreamOffline,
    StreamVaultError,
)

QUEUE = "translate"
THREE_TRIES = RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=3)


@workflow.defn(sandboxed=False)  # a test's imports are none of a workflow's
class OneCall:
    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_activity_method(
            Failing.work, start_to_close_timeout=timedelta(seconds=10), retry_policy=THREE_TRIES
        )


@dataclass
class Failing:
    errors: list[Exception] = field(default_factory=list)
    attempts: int = 0

    @activity.defn
    async def work(self) -> str:
        self.attempts += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@dataclass
class Bench:
    client: Client
    failing: Failing
    last_id: str = ""

    async def run(self, *errors: Exception) -> str:
        self.failing.errors = list(errors)
        self.last_id = f"translate-{uuid.uuid4().hex}"
        return await self.client.execute_workflow(OneCall.run, id=self.last_id, task_queue=QUEUE)

    async def fail(self, *errors: Exception) -> ApplicationError:
        with pytest.raises(WorkflowFailureError) as failed:
            await self.run(*errors)
        assert isinstance(failed.value.cause, ActivityError)
        assert isinstance(failed.value.cause.cause, ApplicationError)
        return failed.value.cause.cause


@pytest.fixture
async def bench(temporal_dev: WorkflowEnvironment) -> AsyncIterator[Bench]:
    failing = Failing()
    async with Worker(
        temporal_dev.client,
        task_queue=QUEUE,
        workflows=[OneCall],
        activities=[failing.work],
        interceptors=[TranslateErrors()],
    ):
        yield Bench(temporal_dev.client, failing)


async def test_a_permanent_error_is_tried_once(bench: Bench) -> None:
    error = await bench.fail(StreamOffline("alice is offline", hint="wait for her"))
    assert bench.failing.attempts == 1
    assert (error.type, error.message) == ("StreamOffline", "alice is offline: wait for her")
    assert error.non_retryable


@pytest.mark.parametrize("kind", [SourceUnavailable, StorageFull])
async def test_a_passing_error_is_tried_again(bench: Bench, kind: type[StreamVaultError]) -> None:
    assert await bench.run(kind("not now"), kind("not yet")) == "done"
    assert bench.failing.attempts == 3


async def test_the_last_error_keeps_its_type(bench: Bench) -> None:
    error = await bench.fail(*[FetchFailed("HTTP 503", status=503) for _ in range(3)])
    assert (error.type, error.message) == ("FetchFailed", "HTTP 503")
    assert bench.failing.attempts == 3


async def test_no_credential_and_no_inner_error_is_stored(bench: Bench) -> None:
    error = StreamOffline("GET https://u:pass@origin/live.m3u8?sig=abc&token=5ecret was refused")
    error.__cause__ = ValueError("token=5ecret")
    stored = await bench.fail(error)
    assert stored.message == "GET https://***@origin/live.m3u8?sig=***&token=*** was refused"
    assert stored.cause is None
    history = await bench.client.get_workflow_handle(bench.last_id).fetch_history()
    assert "5ecret" not in history.to_json()


async def test_other_errors_pass_untouched(bench: Bench) -> None:
    error = await bench.fail(*[ValueError("a bug")] * 3)
    assert (error.type, error.message) == ("ValueError", "a bug")
