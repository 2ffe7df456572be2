"""Streamers: whom we follow."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Response
from sqlalchemy.ext.asyncio import AsyncSession

from api.addresses import twitch_login
from api.arrivals import describe
from api.deps import Cursor, Deps, Limit, Shared
from api.directory import look_up
from api.pasted import Entry
from api.schemas import Listing
from api.schemas_streamers import NewStreamer, StreamerChange, StreamerItem
from streamvault.db import preferences, streamers
from streamvault.db.models import Streamer
from streamvault.db.streamers import Figures

router = APIRouter(prefix="/api/streamers", tags=["streamers"])


@router.post("", status_code=201, responses={200: {"model": StreamerItem}})
async def add(body: NewStreamer, deps: Deps, response: Response) -> StreamerItem:
    """Follow a streamer. 200 with the one we have if it is followed already.

    Twitch is asked whether there is such a channel; if it cannot be asked, that is done later."""
    login = (body.login or twitch_login(body.url or "") or "").lower()
    directory = await look_up(deps, logins=[login] if login else [])
    entry = Entry(login, login=login) if login else Entry("", url=body.url or "")
    new = await describe(entry, directory, deps.settings, body.quality)
    async with deps.db.begin() as session:
        streamer, created = await streamers.add_streamer(session, new)
        response.status_code = 201 if created else 200
        response.headers["Location"] = f"/api/streamers/{streamer.id}"
        return await _item(session, streamer, deps)


@router.get("")
async def list_all(deps: Deps, limit: Limit = 50, cursor: Cursor = None) -> Listing[StreamerItem]:
    async with deps.db.begin() as session:
        page = await streamers.list_streamers(session, limit=limit, cursor=cursor)
        items = await _items(session, page.items, deps)
    return Listing(items=items, next_cursor=page.next_cursor)


@router.get("/{streamer_id}")
async def show(streamer_id: str, deps: Deps) -> StreamerItem:
    async with deps.db.begin() as session:
        return await _item(session, await streamers.get_streamer(session, streamer_id), deps)


@router.patch("/{streamer_id}")
async def change(streamer_id: str, body: StreamerChange, deps: Deps) -> StreamerItem:
    """Only the keys that are given change; null takes a setting back to its default."""
    async with deps.db.begin() as session:
        streamer = await streamers.get_streamer(session, streamer_id)
        body.apply(streamer)
        await session.flush()
        await streamers.tell_changed(session)
        return await _item(session, streamer, deps)


@router.delete("/{streamer_id}", status_code=204)
async def delete(streamer_id: str, deps: Deps) -> None:
    """Stop following; recordings stay."""
    async with deps.db.begin() as session:
        await streamers.delete_streamer(session, streamer_id)


async def _item(session: AsyncSession, streamer: Streamer, deps: Shared) -> StreamerItem:
    return (await _items(session, [streamer], deps))[0]


async def _items(
    session: AsyncSession, rows: Sequence[Streamer], deps: Shared
) -> list[StreamerItem]:
    figures = await streamers.sum_up(session, [row.id for row in rows])
    general = await preferences.get_preferences(session)
    return [
        StreamerItem.of(row, figures.get(row.id, Figures()), deps.settings, general) for row in rows
    ]
