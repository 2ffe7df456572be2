"""Every call to the Temporal client that the API makes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import quote

from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from activities.engine import connect_temporal, temporal_away
from streamvault.contracts import PipelineStatus
from streamvault.errors import Conflict, DependencyUnavailable
from streamvault.settings import Settings

CONNECT_TIMEOUT_S = 5
RPC_TIMEOUT = timedelta(seconds=5)
# A query is an extra on a page that the database already answers.
QUERY_TIMEOUT = timedelta(seconds=2)
# Handlers decide at once; a longer wait means that no worker is there to decide.
UPDATE_TIMEOUT_S = 10

# Ended without having done its work: it may be started again.
UNFINISHED = frozenset(
    {
        WorkflowExecutionStatus.FAILED,
        WorkflowExecutionStatus.TIMED_OUT,
        WorkflowExecutionStatus.TERMINATED,
        WorkflowExecutionStatus.CANCELED,
    }
)


class Temporal:
    """Connects at the first call, and again at the next one after a failure."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def client(self) -> Client:
        """Raises DependencyUnavailable. A client that lost its server reconnects by itself."""
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
        return self._client

    async def is_up(self) -> bool:
        try:
            client = await self.client()
            return await client.service_client.check_health(timeout=RPC_TIMEOUT)
        except (DependencyUnavailable, RPCError):
            return False

    async def signal(self, workflow_id: str, name: str, reason: str) -> None:
        """`stop` or `restart` for a RecordStream. Raises Conflict when it does not run."""
        client = await self.client()
        async with _errors_of(workflow_id):
            handle = client.get_workflow_handle(workflow_id)
            await handle.signal(name, reason, rpc_timeout=RPC_TIMEOUT)

    async def update(self, workflow_id: str, name: str, step: str) -> None:
        """`retry`, `skip` or `give_up` for what is parked ("" = whatever is).

        Raises Conflict with the workflow's own words when it refuses."""
        client = await self.client()
        async with _errors_of(workflow_id), asyncio.timeout(UPDATE_TIMEOUT_S):
            handle = client.get_workflow_handle(workflow_id)
            await handle.execute_update(name, step)

    async def execution_status(self, workflow_id: str) -> WorkflowExecutionStatus | None:
        """How the newest run of this id stands; None when there is none (any more)."""
        client = await self.client()
        try:
            async with _errors_of(workflow_id):
                handle = client.get_workflow_handle(workflow_id)
                return (await handle.describe(rpc_timeout=RPC_TIMEOUT)).status
        except Conflict:
            return None

    async def pipeline_status(self, workflow_id: str) -> PipelineStatus | None:
        """What the workflow says of itself; None when nobody is there to answer."""
        try:
            client = await self.client()
            handle = client.get_workflow_handle(workflow_id)
            status: PipelineStatus = await handle.query(
                "status", result_type=PipelineStatus, rpc_timeout=QUERY_TIMEOUT
            )
        except (
            DependencyUnavailable,
            RPCError,
            WorkflowQueryFailedError,
            WorkflowQueryRejectedError,
        ):
            return None
        return status

    def link(self, workflow_id: str) -> str | None:
        """The page of a workflow in the Temporal UI, if its address is known."""
        base = self._settings.temporal_ui_url.rstrip("/")
        if not base:
            return None
        namespace = quote(self._settings.temporal_namespace, safe="")
        return f"{base}/namespaces/{namespace}/workflows/{quote(workflow_id, safe='')}"

    async def _connect(self) -> Client:
        if not self._settings.temporal_address:
            raise DependencyUnavailable(
                "Temporal's address is not known", hint="set STREAMVAULT_TEMPORAL_ADDRESS"
            )
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await connect_temporal(self._settings)
        except TimeoutError:
            raise DependencyUnavailable("Temporal does not answer") from None


@asynccontextmanager
async def _errors_of(workflow_id: str) -> AsyncIterator[None]:
    """Temporal's errors as ours."""
    try:
        yield
    except WorkflowUpdateFailedError as error:
        cause = error.cause
        said = cause.message if isinstance(cause, ApplicationError) else str(cause)
        raise Conflict(said) from None
    except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
        raise DependencyUnavailable(
            "no worker answered in time", hint="is the control worker running?"
        ) from None
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            raise Conflict(
                f"the pipeline {workflow_id} is not running", hint="it has ended already"
            ) from None
        raise temporal_away(error) from None
