"""The files of a recording: final file, parts and their playlist, pictures, chapters."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response

from api.deps import Deps, Shared
from api.files import LibraryFile, library_file
from api.problems import Problem
from api.schemas import has_parts
from streamvault.db import recordings
from streamvault.db.models import Recording
from streamvault.errors import NotFound

router = APIRouter(prefix="/api/recordings/{recording_id}", tags=["media"])

HLS_TYPE = "application/vnd.apple.mpegurl"
VTT_TYPE = "text/vtt; charset=utf-8"
MEDIA_TYPES = {".mp4": "video/mp4", ".mkv": "video/x-matroska", ".m4a": "audio/mp4"}
PART_TYPES = {".ts": "video/mp2t", ".mp4": "video/mp4"}


@router.head("/playlist.m3u8", include_in_schema=False)
@router.get("/playlist.m3u8", response_class=Response)
async def playlist(recording_id: UUID, deps: Deps, request: Request) -> Response:
    """HLS over the parts, from the first second at any time; 410 when the parts are deleted."""
    row = await _recording(deps, recording_id)
    if row.parts_gone_at is not None:
        return _parts_gone(row, request)
    if row.directory is None:
        raise NotFound("nothing is recorded yet", hint="try again in a few seconds")
    text = await deps.playlists.read(str(row.id), row.directory)
    await _note_view(deps, row)
    headers = {"Cache-Control": "no-cache", "ETag": text.tag, "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == text.tag:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(text.compressed, media_type=HLS_TYPE, headers=headers)
    return Response(text.plain, media_type=HLS_TYPE, headers=headers)


@router.head("/parts/{name}", include_in_schema=False)
@router.get("/parts/{name}", response_class=Response)
async def part(
    recording_id: UUID,
    name: Annotated[str, Path(pattern=r"^part-\d{4,6}\.(ts|mp4)$")],
    deps: Deps,
    request: Request,
) -> Response:
    """One part, for the playlist's byte ranges."""
    row = await _recording(deps, recording_id)
    if not has_parts(row) and row.path is not None:
        return _parts_gone(row, request)
    if row.directory is None:
        raise NotFound("this recording has no files yet")
    await _note_view(deps, row)
    known = await deps.playlists.bytes_of(str(row.id), row.directory, name)
    path, media_type = f"{row.directory}/{name}", PART_TYPES[PurePosixPath(name).suffix]
    # Behind what the journal vouches for is a segment that is just being written.
    return await library_file(deps.settings.libraries, path, media_type, at_most=known)


@router.head("/media", include_in_schema=False)
@router.get("/media", response_class=Response)
async def media(recording_id: UUID, deps: Deps, download: bool = False) -> LibraryFile:
    """The final file, with Range; `download` asks the browser to save it."""
    row = await _recording(deps, recording_id)
    path = _final_path(row)
    await _note_view(deps, row)
    media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
    return await library_file(deps.settings.libraries, str(path), media_type, download=download)


@router.head("/poster.jpg", include_in_schema=False)
@router.get("/poster.jpg", response_class=Response)
async def poster(recording_id: UUID, deps: Deps) -> LibraryFile:
    row = await _recording(deps, recording_id)
    if row.path is None:
        return await _work_file(deps, row, "poster.jpg", "image/jpeg")
    return await _sidecar(deps, row, "-poster.jpg", "image/jpeg")


@router.head("/chapters.vtt", include_in_schema=False)
@router.get("/chapters.vtt", response_class=Response)
async def chapters(recording_id: UUID, deps: Deps) -> LibraryFile:
    row = await _recording(deps, recording_id)
    if row.path is None:
        return await _work_file(deps, row, "chapters.vtt", VTT_TYPE)
    return await _sidecar(deps, row, ".chapters.vtt", VTT_TYPE)


@router.head("/storyboard.vtt", include_in_schema=False)
@router.get("/storyboard.vtt", response_class=Response)
async def storyboard(recording_id: UUID, deps: Deps) -> LibraryFile:
    row = await _recording(deps, recording_id)
    return await _work_file(deps, row, "storyboard.vtt", VTT_TYPE)


@router.head("/storyboard-{sheet}.webp", include_in_schema=False)
@router.get("/storyboard-{sheet}.webp", response_class=Response)
async def storyboard_sheet(
    recording_id: UUID, sheet: Annotated[str, Path(pattern=r"^\d{1,6}$")], deps: Deps
) -> LibraryFile:
    """One picture of the storyboard, named by its VTT."""
    row = await _recording(deps, recording_id)
    return await _work_file(deps, row, f"storyboard-{sheet}.webp", "image/webp")


async def _recording(deps: Shared, recording_id: UUID) -> Recording:
    async with deps.db.begin() as session:
        return await recordings.get_recording(session, recording_id)


async def _note_view(deps: Shared, row: Recording) -> None:
    """What somebody watches is not deleted meanwhile."""
    if deps.playlists.is_news(str(row.id)):
        async with deps.db.begin() as session:
            await recordings.note_view(session, row.id)


async def _work_file(deps: Shared, row: Recording, name: str, media_type: str) -> LibraryFile:
    if row.directory is None:
        raise NotFound("this recording has no files yet")
    return await library_file(deps.settings.libraries, f"{row.directory}/{name}", media_type)


async def _sidecar(deps: Shared, row: Recording, ending: str, media_type: str) -> LibraryFile:
    path = _final_path(row)
    return await library_file(
        deps.settings.libraries, str(path.with_name(path.stem + ending)), media_type
    )


def _final_path(row: Recording) -> PurePosixPath:
    if not row.path:
        raise NotFound("this recording has no final file yet", hint="playlist.m3u8 plays its parts")
    return PurePosixPath(row.path)


def _parts_gone(row: Recording, request: Request) -> Problem:
    href = f"/api/recordings/{row.id}/media"
    return Problem(
        410,
        "The parts are gone",
        "they were deleted after the final file was verified",
        hint="play the final file",
        action={"label": "Play the file", "method": "GET", "href": href},
        headers={"Link": f'<{href}>; rel="alternate"'},
        scope=request.scope,
    )
