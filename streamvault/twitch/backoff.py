"""Pauses that grow from try to try, and a budget of calls per second."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

MOST_DOUBLINGS = 30  # beyond every cap; keeps the power small


def doubled_s(attempts: int, cap_s: float, first_s: float = 1.0) -> float:
    """`first_s` after one failed try, twice that after two, …, never more than `cap_s`."""
    return min(cap_s, first_s * float(2 ** min(max(attempts, 1) - 1, MOST_DOUBLINGS)))


def full_jitter_s(
    attempts: int,
    cap_s: float,
    *,
    first_s: float = 1.0,
    draw: Callable[[], float] = random.random,
) -> float:
    """Anything from 0 to the doubled pause, so that many that failed together spread out."""
    return doubled_s(attempts, cap_s, first_s) * draw()


class Pace:
    """At most `per_s` turns a second, evenly: a burst would meet Twitch's own limit."""

    def __init__(
        self,
        per_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._spacing_s = 1 / per_s
        self._clock = clock
        self._sleep = sleep
        self._next_at = 0.0

    async def turn(self) -> None:
        """Wait for the next turn; whoever asks first goes first."""
        now = self._clock()
        mine = max(now, self._next_at)
        self._next_at = mine + self._spacing_s
        if mine > now:
            await self._sleep(mine - now)
