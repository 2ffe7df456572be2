"""Streamers: whom we follow."""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

from fastapi import APIRouter, Response

from api.addresses import HLS, check_source_address, twitch_login
from api.deps import Cursor, Deps, Limit, Shared
from api.schemas import Listing, NewStreamer, StreamerChange, StreamerItem
from streamvault.db import streamers

router = APIRouter(prefix="/api/streamers", tags=["streamers"])


@router.post("", status_code=201, responses={200: {"model": StreamerItem}})
async def add(body: NewStreamer, deps: Deps, response: Response) -> StreamerItem:
    """Follow a streamer. 200 with the one we have if it is followed already."""
    new = await _describe(body, deps)
    async with deps.db.begin() as session:
        streamer, created = await streamers.add_streamer(session, new)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/api/streamers/{streamer.id}"
    return StreamerItem.of(streamer)


@router.get("")
async def list_all(deps: Deps, limit: Limit = 50, cursor: Cursor = None) -> Listing[StreamerItem]:
    async with deps.db.begin() as session:
        page = await streamers.list_streamers(session, limit=limit, cursor=cursor)
    return Listing(items=[StreamerItem.of(row) for row in page.items], next_cursor=page.next_cursor)


@router.get("/{streamer_id}")
async def show(streamer_id: str, deps: Deps) -> StreamerItem:
    async with deps.db.begin() as session:
        return StreamerItem.of(await streamers.get_streamer(session, streamer_id))


@router.patch("/{streamer_id}")
async def change(streamer_id: str, body: StreamerChange, deps: Deps) -> StreamerItem:
    """Only the keys that are given change."""
    async with deps.db.begin() as session:
        streamer = await streamers.get_streamer(session, streamer_id)
        for name, value in body.model_dump(exclude_none=True).items():
            setattr(streamer, name, value)
        return StreamerItem.of(streamer)


@router.delete("/{streamer_id}", status_code=204)
async def delete(streamer_id: str, deps: Deps) -> None:
    """Stop following; recordings stay."""
    async with deps.db.begin() as session:
        await streamers.delete_streamer(session, streamer_id)


async def _describe(body: NewStreamer, deps: Shared) -> streamers.NewStreamer:
    login = body.login or twitch_login(body.url or "")
    if login:
        return streamers.NewStreamer(
            platform="twitch",
            login=login.lower(),
            name=login,
            url=f"https://www.twitch.tv/{login.lower()}",
            quality=body.quality,
        )
    assert body.url
    url = await check_source_address(body.url, deps.settings)
    host = urlsplit(url.removeprefix(HLS)).hostname or ""
    # Paths tell upper from lower case, so the login of an address is a hash of it.
    digest = hashlib.sha256(url.encode()).hexdigest()[:10]
    return streamers.NewStreamer(
        platform="url", login=f"{host}-{digest}", name=host, url=url, quality=body.quality
    )
