"""Avatars and the art of categories, from our own cache: nobody's browser has to ask Twitch."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from api.deps import Deps, Shared
from api.files import LibraryFile, library_file
from streamvault.db import pictures, streamers
from streamvault.errors import NotFound

router = APIRouter(prefix="/api", tags=["pictures"])

HOUR, YEAR = 3600, 365 * 24 * 3600

Version = Annotated[str, Query(max_length=64)]


@router.head("/streamers/{streamer_id}/avatar", include_in_schema=False)
@router.get("/streamers/{streamer_id}/avatar", response_class=Response)
async def avatar(streamer_id: str, deps: Deps, v: Version = "") -> LibraryFile:
    """`v` is the picture's name, as `avatar` of a streamer gives it: that one never changes."""
    async with deps.db.begin() as session:
        row = await streamers.get_streamer(session, streamer_id)
    return await _picture(deps, row.image, v)


@router.head("/categories/{category_id}/art", include_in_schema=False)
@router.get("/categories/{category_id}/art", response_class=Response)
async def category_art(
    category_id: Annotated[str, Path(max_length=64)], deps: Deps, v: Version = ""
) -> LibraryFile:
    async with deps.db.begin() as session:
        row = await pictures.get_category(session, category_id)
    return await _picture(deps, row.image, v)


async def _picture(deps: Shared, image: str, version: str) -> LibraryFile:
    if not image:
        raise NotFound("there is no picture yet", hint="new ones are fetched once an hour")
    folder = deps.settings.data_dir / pictures.FOLDER
    answer = await library_file((folder,), image, "image/webp")
    is_this = image.partition(".")[0] == version
    keep = f"max-age={YEAR}, immutable" if is_this else f"max-age={HOUR}"
    answer.headers["Cache-Control"] = f"private, {keep}"
    return answer
