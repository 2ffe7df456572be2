"""The one door to a recording: webhook, poll, command line and a person's click all pass it."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from temporalio.client import Client, WorkflowFailureError
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.engine import temporal_away
from activities.wishes import wish_of
from streamvault.contracts import (
    ADOPT_ID,
    CONTROL_QUEUE,
    PROCESSING_STEPS,
    RETENTION_ID,
    JobInput,
    Probed,
    ProbeInput,
    ProcessInput,
    RecordStreamInput,
    Status,
    Step,
    SweepInput,
    VerifyInput,
    job_workflow_id,
    media_queue,
    processing_workflow_id,
    stream_workflow_id,
    verify_workflow_id,
)
from streamvault.db import recordings, streamers
from streamvault.db.models import Recording
from streamvault.db.session import Database
from streamvault.errors import (
    Conflict,
    DependencyUnavailable,
    StoppedByPerson,
    StreamVaultError,
    error_named,
)
from streamvault.source import Wish

# Workflows import activities, so their classes cannot be imported here.
RECORD_STREAM = "RecordStream"
PROCESS_RECORDING = "ProcessRecording"
VERIFY_RECORDING = "VerifyRecording"
PROBE_SOURCE = "ProbeSource"
RUN_JOB = "RunJob"
SWEEP_LIBRARY = "SweepLibrary"
ADOPT_LIBRARY = "AdoptLibrary"
SV_STAGE = SearchAttributeKey.for_keyword("SvStage")
SV_STREAMER = SearchAttributeKey.for_keyword("SvStreamer")

BY_PEOPLE = frozenset({"person", "cli"})
STOPPED = "stopped"  # the reason of a recording that a person ended
PROBE_TIMEOUT = timedelta(seconds=45)  # somebody waits for the answer


async def start_recording(
    client: Client,
    db: Database,
    *,
    url: str,
    quality: str = "best",
    started_by: str = "person",
    streamer_id: str | None = None,
) -> tuple[str, bool]:
    """The id of the recording of what is live at `url` now, and whether this call began it.

    Raises InvalidInput, SourceError (nothing is live there), Conflict (a person stopped it and the
    caller is an automatic source; or its file is just being finished), DependencyUnavailable."""
    async with db.begin() as session:
        followed = await streamers.find_by_url(session, url)
    seen = await probe(client, wish_of(followed, url))
    return await start_seen(
        client, db, seen, url=url, quality=quality, started_by=started_by, streamer_id=streamer_id
    )


async def start_seen(
    client: Client,
    db: Database,
    seen: Probed,
    *,
    url: str,
    quality: str,
    started_by: str,
    streamer_id: str | None,
    grace_s: float = 0.0,
    live_since: datetime | None = None,
) -> tuple[str, bool]:
    """The same for what somebody has just looked at. Within `grace_s` of a streamer's last stream a
    new one continues it; what was stopped before `live_since` was another stream.

    Raises Conflict, DependencyUnavailable."""
    async with db.begin() as session:
        if streamer_id is None:
            known = await streamers.find_seen(
                session, seen.platform, seen.login, seen.platform_user_id
            )
            streamer_id = str(known.id) if known else None
        key = f"{seen.platform}:{seen.stream_id}" if seen.stream_id else f"url:{url}"
        before = await recordings.before_this(session, key, streamer_id, grace_s)
        if started_by not in BY_PEOPLE:
            _respect_stop(before, key, live_since)
        new = _describe(seen, key, url, quality, started_by, streamer_id, before)
        recording, created = await recordings.open_recording(session, new)
    if created and before is not None and before.is_open:
        await _tell_replaced(client, before)
    # Also for a recording that was open already: its start may have been lost between the commit
    # and this call, and a start that is no news costs nothing.
    await _start_workflow(client, recording)
    if not created and recording.status == Status.PROCESSING:
        await _record_again(client, recording)
    return str(recording.id), created


async def probe(client: Client, wish: Wish) -> Probed:
    """What a worker sees at an address. Raises the SourceError that the worker met."""
    name = hashlib.sha256(wish.url.encode()).hexdigest()[:16]
    try:
        seen: Probed = await client.execute_workflow(
            PROBE_SOURCE,
            ProbeInput(wish.url, wish.proxy_policy, wish.streamer_id),
            id=f"probe-{name}",
            task_queue=CONTROL_QUEUE,
            execution_timeout=PROBE_TIMEOUT,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            result_type=Probed,
        )
        return seen
    except WorkflowFailureError as error:
        raise as_ours(error) from None
    except RPCError as error:
        raise temporal_away(error) from None


async def start_processing(
    client: Client,
    recording: Recording,
    host_id: str,
    steps: list[str] | None = None,
    *,
    again: bool = True,
) -> None:
    """Run steps of a finished recording (again); all of them by default.

    Raises Conflict while its pipeline runs, DependencyUnavailable."""
    handle_id = processing_workflow_id(str(recording.id))
    try:
        await client.start_workflow(
            PROCESS_RECORDING,
            ProcessInput(
                recording_id=str(recording.id),
                queue=media_queue(host_id),
                streamer=recording.streamer_name,
                title=recording.title,
                steps=steps or [str(step) for step in PROCESSING_STEPS],
                again=again,
                reason=recording.reason if recording.reason == STOPPED else "",
            ),
            id=handle_id,
            task_queue=CONTROL_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            static_summary=_summary(recording),
        )
    except WorkflowAlreadyStartedError:
        raise Conflict(
            "this recording is being processed already", hint=f"see the pipeline {handle_id}"
        ) from None
    except RPCError as error:
        raise temporal_away(error) from None


async def start_verifying(client: Client, recording: Recording, host_id: str) -> None:
    """Compare a finished file with its report; one that is under way already does for both.

    Raises DependencyUnavailable."""
    try:
        await client.start_workflow(
            VERIFY_RECORDING,
            VerifyInput(str(recording.id), media_queue(host_id)),
            id=verify_workflow_id(str(recording.id)),
            task_queue=CONTROL_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            static_summary=_summary(recording),
        )
    except RPCError as error:
        raise temporal_away(error) from None


async def start_job(client: Client, job_id: str, queue: str = "") -> None:
    """`queue`: of the host whose files it moves. Raises DependencyUnavailable."""
    await _start_once(client, RUN_JOB, JobInput(job_id, queue), job_workflow_id(job_id))


async def start_sweep(client: Client, host_id: str) -> None:
    """Remove what is to go now; one that is under way will do. Raises DependencyUnavailable."""
    await _start_once(
        client, SWEEP_LIBRARY, SweepInput(media_queue(host_id)), f"{RETENTION_ID}-now"
    )


async def start_adopting(client: Client, host_id: str) -> None:
    """Look through the library; one under way will do. Raises DependencyUnavailable."""
    await _start_once(client, ADOPT_LIBRARY, SweepInput(media_queue(host_id)), ADOPT_ID)


async def _start_once(client: Client, workflow: str, order: object, workflow_id: str) -> None:
    try:
        await client.start_workflow(
            workflow,
            order,
            id=workflow_id,
            task_queue=CONTROL_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        )
    except RPCError as error:
        raise temporal_away(error) from None


def _respect_stop(before: Recording | None, key: str, live_since: datetime | None) -> None:
    if before is None or before.source_key != key or before.reason != STOPPED:
        return
    if live_since is None or before.started_at >= live_since:
        raise StoppedByPerson(
            "a person stopped this stream", hint="start it by hand to record it again"
        )


def _describe(
    seen: Probed,
    key: str,
    url: str,
    quality: str,
    started_by: str,
    streamer_id: str | None,
    before: Recording | None,
) -> recordings.NewRecording:
    return recordings.NewRecording(
        source_key=key,
        source_url=url,
        quality=quality,
        started_by=started_by,
        platform=seen.platform,
        streamer_id=streamer_id,
        streamer_login=seen.login or None,
        streamer_name=seen.name,
        title=seen.title,
        category=seen.category,
        workflow_id=stream_workflow_id(seen.platform, seen.stream_id) if seen.stream_id else "",
        continues_id=before.id if before and seen.stream_id else None,
    )


async def _tell_replaced(client: Client, before: Recording) -> None:
    """The streamer's former stream is over, whatever its witnesses say; its capture would take the
    new one for it."""
    try:
        await client.get_workflow_handle(before.workflow_id).signal("replaced")
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise temporal_away(error) from None


async def adopt_recording(client: Client, recording: Recording) -> None:
    """Go on with a recording whose workflow is gone. Raises DependencyUnavailable."""
    await _start_workflow(client, recording, adopted=True)


async def adopt_processing(client: Client, recording: Recording, host_id: str) -> None:
    """The same for one whose parts were being made a file of.

    Raises Conflict when somebody else was faster, DependencyUnavailable."""
    await start_processing(client, recording, host_id, again=False)


async def _start_workflow(client: Client, recording: Recording, *, adopted: bool = False) -> None:
    try:
        await client.start_workflow(
            RECORD_STREAM,
            RecordStreamInput(
                recording_id=str(recording.id),
                source_url=recording.source_url,
                quality=recording.quality,
                started_by=recording.started_by,
                adopted=adopted,
            ),
            id=recording.workflow_id,
            task_queue=CONTROL_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            static_summary=_summary(recording),
            static_details=f"{recording.source_url}\n\nrecording `{recording.id}`",
            search_attributes=TypedSearchAttributes(
                [
                    SearchAttributePair(SV_STAGE, str(Step.DETECT)),
                    SearchAttributePair(SV_STREAMER, recording.streamer_name),
                ]
            ),
        )
    except RPCError as error:
        raise temporal_away(error) from None


async def _record_again(client: Client, recording: Recording) -> None:
    """The stream is live while its earlier part is being processed: go on in the same recording."""
    if recording.path:
        raise Conflict(
            "the file of this stream's recording is just being finished",
            hint="try again in a moment; it then becomes a recording that continues this one",
        )
    try:
        handle = client.get_workflow_handle(recording.workflow_id)
        await handle.signal("restart", "seen live again")
    except RPCError as error:
        raise temporal_away(error) from None


def _summary(recording: Recording) -> str:
    return f"{recording.streamer_name}: {recording.title}"[:200]


def as_ours(error: WorkflowFailureError) -> StreamVaultError:
    """The worker's error, out of the wrapping that Temporal put around it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ApplicationError) and cause.type:
            return error_named(cause.type)(cause.message)
        cause = cause.__cause__
    return DependencyUnavailable(
        "no worker looked at this address in time", hint="is the worker running?"
    )
