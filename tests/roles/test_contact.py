from __future__ import annotations

import asyncio
import uuid

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from roles.contact import Polled, until_cut_off
from tests.proxies import relay_to


@activity.defn
async def nothing() -> None: ...


async def client_of(environment: WorkflowEnvironment) -> Client:
    target = environment.client.service_client.config.target_host
    return await Client.connect(target, identity=f"worker-{uuid.uuid4()}")


async def test_a_worker_that_polls_is_heard_of(temporal_dev: WorkflowEnvironment) -> None:
    client, queue = await client_of(temporal_dev), Polled(f"q-{uuid.uuid4()}")
    async with Worker(client, task_queue=queue.name, activities=[nothing]):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(until_cut_off(client, queue, patience_s=1.5, look_s=0.2), 5)


async def test_one_that_does_not_is_cut_off_though_others_poll(
    temporal_dev: WorkflowEnvironment,
) -> None:
    client, queue = await client_of(temporal_dev), Polled(f"q-{uuid.uuid4()}")
    other = await client_of(temporal_dev)
    async with Worker(other, task_queue=queue.name, activities=[nothing]):
        await asyncio.wait_for(until_cut_off(client, queue, patience_s=1.5, look_s=0.2), 20)


async def test_while_temporal_is_away_nobody_is_cut_off(temporal_dev: WorkflowEnvironment) -> None:
    target = temporal_dev.client.service_client.config.target_host
    with relay_to(f"tcp://{target}") as relay:
        client = await Client.connect(f"127.0.0.1:{relay.port}")
        relay.become("dead")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                until_cut_off(client, Polled("q"), patience_s=0.5, look_s=0.1), 3
            )
