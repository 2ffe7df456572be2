"""Connections with Twitch that somebody has begun. They never commit.

A row is known by the SHA-256 of what the browser holds, so that a copy of the table lets nobody
finish a sign-in. `place` is where the sealed part opens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.models import SignIn

DEVICE, CODE = "device", "code"
WAITING, CONNECTED, DENIED, EXPIRED, FAILED = (
    "waiting",
    "connected",
    "denied",
    "expired",
    "failed",
)
SEALED_PLACE = "sign_ins.sealed"

# Whoever asks how a sign-in ended does so soon.
KEPT = timedelta(days=1)
# Anybody's page can make a browser begin one; the oldest make room.
MOST_OF_A_KIND = 50


def id_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


async def begin(
    session: AsyncSession,
    secret: str,
    kind: str,
    *,
    expires_at: datetime,
    about: Mapping[str, Any] | None = None,
    sealed: str = "",
) -> str:
    """The row's id. Also clears away what nobody will ask for any more."""
    await _clear_away(session, kind)
    row = SignIn(
        id=id_of(secret), kind=kind, sealed=sealed, about=dict(about or {}), expires_at=expires_at
    )
    session.add(row)
    await session.flush()
    return row.id


async def find(session: AsyncSession, row_id: str) -> SignIn | None:
    return await session.scalar(select(SignIn).where(SignIn.id == row_id))


async def take(session: AsyncSession, secret: str, kind: str) -> SignIn | None:
    """The sign-in, which is gone by that: nobody else gets it, now or later. None also for one
    that has expired."""
    taken = delete(SignIn).where(SignIn.id == id_of(secret), SignIn.kind == kind).returning(SignIn)
    row = await session.scalar(taken)
    return row if row is not None and row.expires_at > datetime.now(UTC) else None


async def settle(session: AsyncSession, row_id: str, state: str, error: str = "") -> None:
    """How it ended; what was sealed is not needed any more. Ended once, it stays so."""
    row = await find(session, row_id)
    if row is not None and row.state == WAITING:
        row.state, row.error, row.sealed = state, error, ""
        await session.flush()


async def _clear_away(session: AsyncSession, kind: str) -> None:
    await session.execute(delete(SignIn).where(SignIn.expires_at < datetime.now(UTC) - KEPT))
    kept = (
        select(SignIn.id)
        .where(SignIn.kind == kind)
        .order_by(SignIn.expires_at.desc())
        .limit(MOST_OF_A_KIND - 1)
    )
    await session.execute(delete(SignIn).where(SignIn.kind == kind, SignIn.id.not_in(kept)))
