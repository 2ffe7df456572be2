"""Slowing down those who guess. In the database, so that a restart forgets nothing and several API
processes count together. They never commit.

Each failure doubles the wait after some free ones; nobody is ever locked out for good. What is
counted by: an account, an address (a /64 of IPv6), a device that has signed in before. A known
device is counted by itself, so that strangers cannot keep an account's owner out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.models_access import Throttle

FREE_TRIES = 5
FIRST_WAIT_S = 10.0
LONGEST_WAIT_S = 300.0
KEPT = timedelta(minutes=30)


async def take_try(session: AsyncSession, keys: Sequence[str]) -> float:
    """0 for a try that may be made now, which counts as failed until `forgive`: of many at once
    only the free ones are looked at. Else the seconds to wait.

    Also forgets what is old, so that the table is as small as the last half hour."""
    now = datetime.now(UTC)
    await _forget_old(session, now)
    fresh = [{"key": k, "failures": 0, "free_at": now, "forgotten_at": now + KEPT} for k in keys]
    await session.execute(insert(Throttle).values(fresh).on_conflict_do_nothing())
    # In one order, so that two at a time never wait for each other.
    mine = select(Throttle).where(Throttle.key.in_(keys)).order_by(Throttle.key).with_for_update()
    rows = (await session.scalars(mine)).all()
    wait_s = max(((row.free_at - now).total_seconds() for row in rows), default=0.0)
    if wait_s > 0:
        return wait_s
    for row in rows:
        row.failures += 1
        row.free_at = now + timedelta(seconds=_wait_after(row.failures))
        row.forgotten_at = now + KEPT
    await session.flush()
    return 0.0


async def forgive(session: AsyncSession, keys: Sequence[str]) -> None:
    """The last try was a good one."""
    await session.execute(delete(Throttle).where(Throttle.key.in_(keys)))


async def _forget_old(session: AsyncSession, now: datetime) -> None:
    old = select(Throttle.key).where(Throttle.forgotten_at < now).with_for_update(skip_locked=True)
    await session.execute(delete(Throttle).where(Throttle.key.in_(old)))


def _wait_after(failures: int) -> float:
    if failures < FREE_TRIES:
        return 0.0
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(failures - FREE_TRIES, 20))
