"""Whether a worker still gets work. One that does not, while Temporal is well, is restarted.

Clients have been seen that never came back after an outage of the server, without a word. The
server knows best: it remembers when each worker last asked for work.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

log = logging.getLogger(__name__)

# A worker asks again at least once a minute, and the server forgets it five minutes later.
PATIENCE_S = 180.0
LOOK_S = 30.0
RPC_LIMIT = timedelta(seconds=5)


@dataclass(frozen=True)
class Polled:
    """A queue that this process must poll at all times: one whose slots never all are taken."""

    name: str
    kind: TaskQueueType.ValueType = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY


async def until_cut_off(
    client: Client, queue: Polled, *, patience_s: float = PATIENCE_S, look_s: float = LOOK_S
) -> None:
    """Returns once the server has not heard of us for the patience, though it answers."""
    heard_at = monotonic()
    while monotonic() - heard_at < patience_s:
        await asyncio.sleep(look_s)
        try:
            if await _is_heard_of(client, queue, patience_s):
                heard_at = monotonic()
        except RPCError as error:
            # It is away itself: nothing that a restart of ours could help.
            log.info("Temporal does not answer", extra={"why": error.status.name})
            heard_at = monotonic()
    log.error("Temporal is well, but has not heard of this worker", extra={"queue": queue.name})


async def _is_heard_of(client: Client, queue: Polled, within_s: float) -> bool:
    found = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=queue.name),
            task_queue_type=queue.kind,
        ),
        timeout=RPC_LIMIT,
    )
    ours = [poller for poller in found.pollers if poller.identity == client.identity]
    if not ours:
        return False
    # By the server's own clock, which stamped them: the latest of all is about now.
    latest = max(poller.last_access_time.ToDatetime() for poller in found.pollers)
    newest = max(poller.last_access_time.ToDatetime() for poller in ours)
    return (latest - newest).total_seconds() < within_s
