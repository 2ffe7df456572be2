"""How much room there is, what takes it, and how long it lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from fastapi import APIRouter
from pydantic import BaseModel

from api.deps import Deps
from streamvault.db import library
from streamvault.forecast import WEEK, WEEKS, make_forecast
from streamvault.hls.room import Room

router = APIRouter(prefix="/api/storage", tags=["system"])


class DiskItem(BaseModel):
    path: str
    available: bool
    """False while it cannot be asked: not mounted, or refused."""
    total_bytes: int
    free_bytes: int
    reserve_bytes: int
    """Recordings leave so much free."""


class LikelyItem(BaseModel):
    streamer_id: str
    name: str
    chance: float
    """1 for who is recorded now."""
    size_bytes: int
    """That it will still need."""


class Storage(BaseModel):
    disks: list[DiskItem]
    finished_bytes: int
    unfinished_bytes: int
    deleted_bytes: int
    """Deleted, but still there for a day; less when a recording waits for room."""
    bytes_per_day: int
    """Mean of the last seven days."""
    days_left: float | None
    """Null while nothing is recorded."""
    likely: list[LikelyItem]
    """Who will probably stream within the next 24 h."""
    needed_bytes: int
    """By them all."""
    enough: bool
    """Whether there is room for that."""


@router.get("")
async def show(deps: Deps) -> Storage:
    disks = await asyncio.to_thread(_look, deps.settings.libraries)
    room = sum(max(disk.free_bytes - disk.reserve_bytes, 0) for disk in disks)
    async with deps.db.begin() as session:
        held = await library.held_bytes(session)
        past = await library.past_recordings(session, WEEKS * WEEK)
    forecast = make_forecast(past, room, datetime.now(UTC))
    return Storage(
        disks=disks,
        finished_bytes=held.finished,
        unfinished_bytes=held.unfinished,
        deleted_bytes=held.deleted,
        bytes_per_day=round(forecast.bytes_per_day),
        days_left=None if forecast.days_left is None else round(forecast.days_left, 1),
        likely=[LikelyItem.model_validate(one, from_attributes=True) for one in forecast.likely],
        needed_bytes=forecast.needed_bytes,
        enough=forecast.needed_bytes <= room,
    )


def _look(libraries: Sequence[Path]) -> list[DiskItem]:
    """Two folders on one disk are one disk."""
    seen: dict[int, DiskItem] = {}
    for number, root in enumerate(libraries):
        device, item = _disk(root)
        seen.setdefault(-number - 1 if device is None else device, item)
    return list(seen.values())


def _disk(root: Path) -> tuple[int | None, DiskItem]:
    try:
        room, there = Room.at(root), root
        while not there.exists():
            there = there.parent
        device = there.stat().st_dev
    except OSError:
        return None, DiskItem(
            path=str(root), available=False, total_bytes=0, free_bytes=0, reserve_bytes=0
        )
    return device, DiskItem(
        path=str(root),
        available=True,
        total_bytes=room.size_bytes,
        free_bytes=room.free_bytes,
        reserve_bytes=room.reserve_bytes,
    )
