"""What the roles of one worker process share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.browser_token import BrowserToken
from activities.proxies import ProxyBook
from activities.translate import TranslateErrors
from streamvault.contracts import BEAT_S
from streamvault.db.session import Database
from streamvault.playback.sources import Sources
from streamvault.settings import Settings, stable_host_id

# A stop is learnt in a heartbeat's reply, and heartbeats are throttled to this.
BEAT = timedelta(seconds=BEAT_S)
# A capture closes its part within a second or two; the rest is room for a slow disk.
DRAIN_TIME = timedelta(seconds=20)

# Workflow modules are loaded once. By default each workflow imports them anew from the disk, and an
# update under a running worker would mix old code with new.
WORKFLOW_RUNNER = SandboxedWorkflowRunner(
    restrictions=SandboxRestrictions.default.with_passthrough_modules(
        "workflows", "activities", "streamvault"
    )
)


class Parts:
    """What the roles share: one database pool and one way to look at sources."""

    def __init__(self, settings: Settings) -> None:
        assert settings.database_url is not None
        self.settings = settings
        self.host_id = stable_host_id(settings)
        self.db = Database(
            settings.database_url.get_secret_value(),
            pool_size=settings.db_pool_size or 5,
            max_overflow=settings.db_max_overflow or 10,
        )
        self.proxies = ProxyBook(self.db, settings)
        self.sources = Sources(
            ca_bundle=settings.ca_bundle,
            twitch_token=BrowserToken(settings, self.db),
            pool=self.proxies.pool,
            prepare=self.proxies.prepare,
        )
        self.own_figures: Callable[[], bytes] = bytes
        """The page of `/metrics`; empty while there are none."""


def new_worker(
    client: Client,
    queue: str,
    activities: list[Callable[..., Any]],
    *,
    slots: int,
    workflows: Sequence[type] = (),
) -> Worker:
    return Worker(
        client,
        task_queue=queue,
        workflows=workflows,
        activities=activities,
        workflow_runner=WORKFLOW_RUNNER,
        interceptors=[TranslateErrors()],
        max_concurrent_activities=slots,
        graceful_shutdown_timeout=DRAIN_TIME,
        max_heartbeat_throttle_interval=BEAT,
        default_heartbeat_throttle_interval=BEAT,
    )


async def stops_within(stop: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return False
    return True
