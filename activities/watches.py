"""What runs for ever, once in an installation: the poll, and the news from Twitch."""

from __future__ import annotations

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.engine import temporal_away
from streamvault.contracts import DETECT_LIVE_ID, DETECT_QUEUE, EVENTSUB_ID, INBOX_ID
from streamvault.settings import Settings

# Workflows import activities, so their classes cannot be imported here.
POLL = {DETECT_LIVE_ID: "DetectLive"}
NEWS = {INBOX_ID: "WorkOffInbox", EVENTSUB_ID: "KeepEventSub"}
NO_APPLICATION = "no Twitch application is set up any more"


async def ensure_watches(client: Client, settings: Settings) -> None:
    """Start what is wanted and does not run yet; end what lost its Twitch application.

    Raises DependencyUnavailable."""
    wanted = {**POLL, **(NEWS if settings.twitch_client_id else {})}
    try:
        for workflow_id, workflow in wanted.items():
            await client.start_workflow(
                workflow,
                id=workflow_id,
                task_queue=DETECT_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            )
        for workflow_id in NEWS.keys() - wanted.keys():
            await _end(client, workflow_id)
    except RPCError as error:
        raise temporal_away(error) from None


async def _end(client: Client, workflow_id: str) -> None:
    try:
        await client.get_workflow_handle(workflow_id).terminate(NO_APPLICATION)
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
