"""Waiting for a person, and the hourly looks, among fake activities on a real Temporal server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from temporalio import activity
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from streamvault.contracts import DETECT_QUEUE, SignInInput, SignInState, TokensChecked
from workflows.housekeeping import CheckTokens, ConnectTwitch, RefreshPictures

ORDER = SignInInput("row-of-the-sign-in", 5.0)


@dataclass
class Cast:
    """Answers in turn; an exception is raised."""

    answers: list[SignInState | Exception] = field(default_factory=list)
    asked: list[SignInInput] = field(default_factory=list)
    looks: int = 0
    fails: int = 0

    @activity.defn(name="await_sign_in")
    async def await_sign_in(self, order: SignInInput) -> SignInState:
        self.asked.append(order)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @activity.defn(name="validate_tokens")
    async def validate_tokens(self) -> TokensChecked:
        self.looks += 1
        if self.looks <= self.fails:
            raise ApplicationError("Twitch cannot be reached", type="TwitchUnavailable")
        return TokensChecked(["account: of alice, not valid"])

    @activity.defn(name="refresh_pictures")
    async def refresh_pictures(self) -> int:
        return 3


@asynccontextmanager
async def worker(environment: WorkflowEnvironment, cast: Cast) -> AsyncIterator[None]:
    async with Worker(
        environment.client,
        task_queue=DETECT_QUEUE,
        workflows=[CheckTokens, ConnectTwitch, RefreshPictures],
        activities=[cast.await_sign_in, cast.validate_tokens, cast.refresh_pictures],
    ):
        yield


async def connect(environment: WorkflowEnvironment, cast: Cast) -> SignInState:
    async with worker(environment, cast):
        return await environment.client.execute_workflow(
            ConnectTwitch.run, ORDER, id=f"sign-in-{uuid.uuid4().hex}", task_queue=DETECT_QUEUE
        )


@pytest.mark.parametrize("end", ["connected", "denied", "expired", "failed"])
async def test_a_sign_in_ends_as_the_person_decides(
    temporal_skipping: WorkflowEnvironment, end: str
) -> None:
    cast = Cast([SignInState(end)])
    assert (await connect(temporal_skipping, cast)).state == end
    assert cast.asked == [ORDER]


async def test_a_worker_that_stops_gives_the_waiting_to_another_with_the_pause_it_learnt(
    temporal_skipping: WorkflowEnvironment,
) -> None:
    cast = Cast([SignInState("waiting", 15.0), SignInState("connected")])
    assert (await connect(temporal_skipping, cast)).state == "connected"
    assert cast.asked == [ORDER, SignInInput(ORDER.sign_in_id, 15.0)]


async def test_a_database_that_is_away_only_puts_it_off(
    temporal_skipping: WorkflowEnvironment,
) -> None:
    away = ApplicationError("the database cannot be reached", type="DependencyUnavailable")
    cast = Cast([away, away, SignInState("connected")])
    assert (await connect(temporal_skipping, cast)).state == "connected"
    assert len(cast.asked) == 3


async def test_what_cannot_be_helped_ends_it(temporal_skipping: WorkflowEnvironment) -> None:
    lost = ApplicationError("cannot be decrypted", type="SecretUnreadable", non_retryable=True)
    with pytest.raises(WorkflowFailureError):
        await connect(temporal_skipping, Cast([lost]))


@pytest.mark.parametrize(("fails", "ends_well"), [(5, True), (6, False)])
async def test_a_look_at_the_tokens_is_tried_six_times(
    temporal_skipping: WorkflowEnvironment, fails: int, ends_well: bool
) -> None:
    cast, workflow_id = Cast(fails=fails), f"tokens-{uuid.uuid4().hex}"
    async with worker(temporal_skipping, cast):
        looking = temporal_skipping.client.execute_workflow(
            CheckTokens.run, id=workflow_id, task_queue=DETECT_QUEUE
        )
        if ends_well:
            assert (await looking).problems == ["account: of alice, not valid"]
        else:
            with pytest.raises(WorkflowFailureError):
                await looking
    assert cast.looks == 6


async def test_pictures_are_refreshed(temporal_skipping: WorkflowEnvironment) -> None:
    async with worker(temporal_skipping, Cast()):
        await temporal_skipping.client.execute_workflow(
            RefreshPictures.run, id=f"pictures-{uuid.uuid4().hex}", task_queue=DETECT_QUEUE
        )
