"""Proxies: the ways that streams may be fetched by."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from fastapi import APIRouter, Response
from sqlalchemy.ext.asyncio import AsyncSession

from api.addresses import check_host
from api.deps import Deps, Shared
from api.schemas_proxies import (
    ENV_ID,
    NewProxy,
    Proxies,
    ProxyChange,
    ProxyItem,
    has_password,
    shown,
)
from streamvault.db import models, proxies, streamers
from streamvault.db.ids import uuid7
from streamvault.errors import Conflict

router = APIRouter(prefix="/api/proxies", tags=["proxies"])


@router.get("")
async def list_all(deps: Deps) -> Proxies:
    """In the order in which they are tried."""
    async with deps.db.begin() as session:
        rows = await proxies.list_proxies(session)
    fixed = ProxyItem.of_setting(deps.settings)
    items = [*([fixed] if fixed else []), *(ProxyItem.of(row) for row in rows)]
    return Proxies(items=items, default_policy=deps.settings.default_proxy_policy)


@router.post("", status_code=201)
async def add(body: NewProxy, deps: Deps, response: Response) -> ProxyItem:
    """It is looked at at once; see `ok` and `error` some seconds later."""
    row = models.Proxy(id=uuid7(), enabled=body.enabled, streamer_id=body.streamer_id)
    await _take_address(row, body.url.get_secret_value(), deps)
    row.name = body.name or urlsplit(row.shown).hostname or row.shown
    async with deps.db.begin() as session:
        await _check_streamer(session, body)
        await proxies.add_proxy(session, row, body.position)
        await session.refresh(row)
    response.headers["Location"] = f"/api/proxies/{row.id}"
    return ProxyItem.of(row)


@router.get("/{proxy_id}")
async def show(proxy_id: str, deps: Deps) -> ProxyItem:
    if proxy_id == ENV_ID and (fixed := ProxyItem.of_setting(deps.settings)):
        return fixed
    async with deps.db.begin() as session:
        return ProxyItem.of(await proxies.get_proxy(session, proxy_id))


@router.patch("/{proxy_id}")
async def change(proxy_id: str, body: ProxyChange, deps: Deps) -> ProxyItem:
    """Only the keys that are given change; without `url` the address stays."""
    _refuse_setting(proxy_id)
    given = body.model_fields_set
    async with deps.db.begin() as session:
        row = await proxies.get_proxy(session, proxy_id)
        if body.url is not None:
            await _take_address(row, body.url.get_secret_value(), deps)
            row.checked_at = row.ok = row.latency_ms = None
        if body.position is not None and body.position != row.position:
            await proxies.make_place(session, body.position)
            row.position = body.position
        if "streamer_id" in given:
            await _check_streamer(session, body)
            row.streamer_id = body.streamer_id
        row.name = body.name or row.name
        row.enabled = row.enabled if body.enabled is None else body.enabled
        await session.flush()
        return ProxyItem.of(row)


@router.delete("/{proxy_id}", status_code=204)
async def delete(proxy_id: str, deps: Deps) -> None:
    """Recordings that go through it take the next one."""
    _refuse_setting(proxy_id)
    async with deps.db.begin() as session:
        await proxies.delete_proxy(session, proxy_id)


@router.post("/{proxy_id}/check", status_code=202)
async def check(proxy_id: str, deps: Deps) -> ProxyItem:
    """Have the control worker look through it; the answer shows in `checked_at`, `ok`, `error`."""
    _refuse_setting(proxy_id)
    async with deps.db.begin() as session:
        row = await proxies.get_proxy(session, proxy_id)
        row.checked_at = None
        await session.flush()
        return ProxyItem.of(row)


async def _take_address(row: models.Proxy, url: str, deps: Shared) -> None:
    """Raises InvalidInput for a host that must not be asked."""
    await check_host(url, deps.settings)
    sealed = await asyncio.to_thread(_seal, deps, f"proxies.{row.id}", url)
    row.sealed, row.shown, row.has_password = sealed, shown(url), has_password(url)


def _seal(deps: Shared, place: str, url: str) -> str:
    from streamvault.secrets import load_keyring  # noqa: PLC0415  # memory of those who need it

    return load_keyring(deps.settings).seal(place, url)


async def _check_streamer(session: AsyncSession, body: NewProxy | ProxyChange) -> None:
    if body.streamer_id is not None:
        await streamers.get_streamer(session, body.streamer_id)


def _refuse_setting(proxy_id: str) -> None:
    if proxy_id == ENV_ID:
        raise Conflict(
            "this proxy comes from STREAMVAULT_STREAM_PROXY",
            hint="change it in the environment and restart",
        )
