"""Recordings: start, list, show, stop, restart, report, process again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response

from activities import starts
from activities.jobs import UNDO_FOR
from api.addresses import check_source_address
from api.deps import Deps, Shared
from api.schemas import (
    Accepted,
    Listing,
    ProcessAgain,
    RecordingDetail,
    RecordingItem,
    StartRecording,
    has_parts,
)
from api.schemas_library import (
    BulkAction,
    FacetList,
    JobItem,
    ListPage,
    ListQuery,
    MoveTo,
    Position,
    RecordingChange,
)
from streamvault.contracts import (
    PROCESSING_STEPS,
    Status,
    Step,
    media_queue,
    processing_workflow_id,
    verify_workflow_id,
)
from streamvault.db import jobs, library, recordings, streamers
from streamvault.db.library import Wanted
from streamvault.db.models import Recording, mapping
from streamvault.errors import Conflict, InvalidInput
from streamvault.settings import stable_host_id

router = APIRouter(prefix="/api/recordings", tags=["recordings"])


@router.post("", status_code=201, responses={200: {"model": RecordingDetail}})
async def start(body: StartRecording, deps: Deps, response: Response) -> RecordingDetail:
    """Record what is live now. 201 for a new recording, 200 if this stream is recorded already."""
    url, quality = await _what_to_record(body, deps)
    recording_id, created = await starts.start_recording(
        await deps.temporal.client(),
        deps.db,
        url=url,
        quality=quality,
        started_by="person",
        streamer_id=str(body.streamer_id) if body.streamer_id else None,
    )
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/api/recordings/{recording_id}"
    return await _detail(deps, recording_id)


@router.get("")
async def list_all(deps: Deps, asked: Annotated[ListPage, Query()]) -> Listing[RecordingItem]:
    """`q` finds parts of words in title, streamer and category; `status` may be repeated. `deleted`
    shows what was deleted and can still be had back."""
    async with deps.db.begin() as session:
        page = await library.list_recordings(
            session, asked.read(), limit=asked.limit, cursor=asked.cursor, sort=asked.sort
        )
    return Listing(
        items=[RecordingItem.of(row) for row in page.items], next_cursor=page.next_cursor
    )


@router.get("/facets")
async def facets(deps: Deps, asked: Annotated[ListQuery, Query()]) -> FacetList:
    """How many there are of what, and how large; of the same that a list with these would show."""
    async with deps.db.begin() as session:
        return FacetList.of(await library.count_facets(session, asked.read()))


@router.post("/bulk", status_code=202)
async def bulk(body: BulkAction, deps: Deps, response: Response) -> JobItem:
    """One action on many. It goes on when everything is restarted meanwhile; see `/api/jobs`."""
    if body.move is not None:
        return await _start_move(deps, response, body.wanted(), body.move)
    return await _start_job(deps, response, body.action, body.wanted())


@router.get("/{recording_id}")
async def show(recording_id: str, deps: Deps) -> RecordingDetail:
    return await _detail(deps, recording_id)


@router.patch("/{recording_id}")
async def change(recording_id: str, body: RecordingChange, deps: Deps) -> RecordingDetail:
    """Lock it against deleting, or note that it was watched."""
    async with deps.db.begin() as session:
        await library.mark(session, recording_id, **body.model_dump(exclude_unset=True))
    return await _detail(deps, recording_id)


@router.put("/{recording_id}/position", status_code=204)
async def set_position(recording_id: str, body: Position, deps: Deps) -> None:
    """Where somebody is in watching it. While this comes, nothing deletes the file."""
    async with deps.db.begin() as session:
        await library.mark(session, recording_id, position_s=body.s)


@router.delete("/{recording_id}")
async def delete(recording_id: str, deps: Deps) -> RecordingDetail:
    """Out of every list at once; its files stay for 24 h, in which `undelete` brings it back. Of a
    deleted one the files go now. 409 while it is recorded or processed, or locked."""
    async with deps.db.begin() as session:
        row = await library.delete_recording(session, recording_id, "by a person", UNDO_FOR)
        now = row.purge_at is not None and row.purge_at <= datetime.now(UTC)
    if now:
        client = await deps.temporal.client()
        await starts.start_sweep(client, stable_host_id(deps.settings))
    return await _detail(deps, recording_id)


@router.post("/{recording_id}/move", status_code=202)
async def move(recording_id: UUID, body: MoveTo, deps: Deps, response: Response) -> JobItem:
    """Its files to another library, or to the name of today's template; see `/api/jobs`."""
    async with deps.db.begin() as session:
        row = await recordings.get_recording(session, recording_id)
    if row.path is None:
        raise Conflict("this recording has no finished file", hint="only finished files are moved")
    return await _start_move(deps, response, Wanted(ids=[str(row.id)]), body)


@router.post("/{recording_id}/undelete")
async def undelete(recording_id: str, deps: Deps) -> RecordingDetail:
    """409 when it is too late."""
    async with deps.db.begin() as session:
        await library.undelete_recording(session, recording_id)
    return await _detail(deps, recording_id)


@router.post("/{recording_id}/stop", status_code=202)
async def stop(recording_id: str, deps: Deps) -> Accepted:
    """End the recording and finish its file. Asked again it changes nothing."""
    return await _signal(deps, recording_id, "stop", "stopped")


@router.post("/{recording_id}/restart", status_code=202)
async def restart(recording_id: str, deps: Deps) -> Accepted:
    """Begin a new playback session in the same recording."""
    return await _signal(deps, recording_id, "restart", "asked for by a person")


@router.get("/{recording_id}/report")
async def report(recording_id: str, deps: Deps) -> dict[str, Any]:
    """The integrity report; of a running recording what is known so far."""
    async with deps.db.begin() as session:
        row = await recordings.get_detail(session, recording_id)
    if told := mapping(row.report):
        return {**told, "verified": _verified(row)}
    detail = RecordingDetail.of(row).model_dump(mode="json")
    return {
        "recording_id": detail["id"],
        "final": False,
        **{name: detail[name] for name in ("totals", "gaps", "ads", "parts")},
    }


@router.post("/{recording_id}/verify", status_code=202)
async def verify(recording_id: str, deps: Deps) -> Accepted:
    """Compare the finished file with its report, or parts that are kept with their checksums; what
    is found stands in the report afterwards."""
    async with deps.db.begin() as session:
        row = await recordings.get_recording(session, recording_id)
    if row.path is None and not (row.status == Status.COMPLETED and has_parts(row)):
        raise Conflict("this recording has no finished file", hint="wait until it is completed")
    client = await deps.temporal.client()
    await starts.start_verifying(client, row, stable_host_id(deps.settings))
    return Accepted(
        workflow_id=verify_workflow_id(str(row.id)), recording_id=row.id, action="verify"
    )


@router.post("/{recording_id}/process", status_code=202)
async def process(recording_id: str, body: ProcessAgain, deps: Deps) -> Accepted:
    """Run processing steps again. 409 while it is recorded, and for remux without parts."""
    async with deps.db.begin() as session:
        row = await recordings.get_recording(session, recording_id)
    steps = _steps_to_run(row, [*body.steps])
    client = await deps.temporal.client()
    await starts.start_processing(client, row, stable_host_id(deps.settings), steps)
    return Accepted(
        workflow_id=processing_workflow_id(str(row.id)), recording_id=row.id, action="process"
    )


async def _start_move(deps: Shared, response: Response, wanted: Wanted, order: MoveTo) -> JobItem:
    libraries = [str(root) for root in deps.settings.libraries]
    if order.to and order.to not in libraries:
        raise InvalidInput(
            f"{order.to!r} is not a library", hint=f"the libraries are {', '.join(libraries)}"
        )
    queue = media_queue(stable_host_id(deps.settings))
    return await _start_job(deps, response, "move", wanted, order.model_dump(), queue)


async def _start_job(
    deps: Shared,
    response: Response,
    action: str,
    wanted: Wanted,
    options: dict[str, Any] | None = None,
    queue: str = "",
) -> JobItem:
    client = await deps.temporal.client()
    async with deps.db.begin() as session:
        item = JobItem.of(await jobs.add_job(session, action, wanted, options))
    await starts.start_job(client, str(item.id), queue)
    response.headers["Location"] = f"/api/jobs/{item.id}"
    return item


async def _what_to_record(body: StartRecording, deps: Shared) -> tuple[str, str]:
    if body.url:
        return await check_source_address(body.url, deps.settings), body.quality or "best"
    async with deps.db.begin() as session:
        streamer = await streamers.get_streamer(session, str(body.streamer_id))
    if streamer.platform != "twitch":
        # What its name resolves to may have changed since it was added.
        await check_source_address(streamer.url, deps.settings)
    return streamer.url, body.quality or streamer.quality


async def _detail(deps: Shared, recording_id: str) -> RecordingDetail:
    async with deps.db.begin() as session:
        return RecordingDetail.of(await recordings.get_detail(session, recording_id))


async def _signal(
    deps: Shared, recording_id: str, name: Literal["stop", "restart"], reason: str
) -> Accepted:
    async with deps.db.begin() as session:
        row = await recordings.get_recording(session, recording_id)
    await deps.temporal.signal(row.workflow_id, name, reason)
    return Accepted(workflow_id=row.workflow_id, recording_id=row.id, action=name)


def _verified(row: Recording) -> dict[str, Any] | None:
    """None: not since the file was made."""
    if row.verified_at is None:
        return None
    return {"at": row.verified_at.isoformat(), **mapping(row.verification)}


def _steps_to_run(row: Recording, asked: list[str]) -> list[str]:
    if row.status in {Status.DETECTING, Status.RECORDING, Status.RECONNECTING}:
        raise Conflict("this recording is still running", hint="stop it first")
    if row.parts_gone_at is not None and Step.REMUX in asked:
        raise Conflict(
            "the parts of this recording were deleted after its file was verified",
            hint="leave remux out; the other steps use the final file",
        )
    steps = asked or [
        step for step in PROCESSING_STEPS if step != Step.REMUX or row.parts_gone_at is None
    ]
    return [str(step) for step in PROCESSING_STEPS if step in steps]
