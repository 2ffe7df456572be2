"""What runs for ever, once in an installation: the poll, and the news from Twitch."""

from __future__ import annotations

from collections.abc import Mapping

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.engine import temporal_away
from streamvault.contracts import (
    CONTROL_QUEUE,
    DETECT_LIVE_ID,
    DETECT_QUEUE,
    EVENTSUB_ID,
    INBOX_ID,
    WATCHDOG_ID,
)
from streamvault.settings import Settings

# Workflows import activities, so their classes cannot be imported here.
POLL = {DETECT_LIVE_ID: "DetectLive"}
NEWS = {INBOX_ID: "WorkOffInbox", EVENTSUB_ID: "KeepEventSub"}
WATCHDOG = {WATCHDOG_ID: "KeepWatch"}
NO_APPLICATION = "no Twitch application is set up any more"


async def ensure_watchdog(client: Client) -> None:
    """Raises DependencyUnavailable."""
    try:
        await _start(client, WATCHDOG, CONTROL_QUEUE)
    except RPCError as error:
        raise temporal_away(error) from None


async def ensure_watches(client: Client, settings: Settings) -> None:
    """Start what is wanted and does not run yet; end what lost its Twitch application.

    Raises DependencyUnavailable."""
    wanted = {**POLL, **(NEWS if settings.twitch_client_id else {})}
    try:
        await _start(client, wanted, DETECT_QUEUE)
        for workflow_id in NEWS.keys() - wanted.keys():
            await _end(client, workflow_id)
    except RPCError as error:
        raise temporal_away(error) from None


async def _start(client: Client, wanted: Mapping[str, str], queue: str) -> None:
    for workflow_id, workflow in wanted.items():
        await client.start_workflow(
            workflow,
            id=workflow_id,
            task_queue=queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )


async def _end(client: Client, workflow_id: str) -> None:
    try:
        await client.get_workflow_handle(workflow_id).terminate(NO_APPLICATION)
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
