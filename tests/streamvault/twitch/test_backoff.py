from __future__ import annotations

import asyncio
import itertools

import pytest

from streamvault.twitch.backoff import Pace, doubled_s, full_jitter_s


@pytest.mark.parametrize(
    ("attempts", "longest_s"),
    [(1, 1), (2, 2), (3, 4), (10, 512), (11, 900), (12, 900), (100_000, 900)],
)
def test_the_pause_doubles_from_1_s_to_15_min_with_full_jitter(
    attempts: int, longest_s: float
) -> None:
    assert doubled_s(attempts, 900) == longest_s
    assert full_jitter_s(attempts, 900, draw=lambda: 0.0) == 0
    assert full_jitter_s(attempts, 900, draw=lambda: 1.0) == longest_s
    drawn = [full_jitter_s(attempts, 900) for _ in range(200)]
    assert all(0 <= pause <= longest_s for pause in drawn)
    # Many that failed together spread out.
    assert max(drawn) - min(drawn) > longest_s / 2


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def test_turns_come_evenly_and_never_more_than_allowed() -> None:
    clock = Clock()
    pace = Pace(10, clock=clock, sleep=clock.sleep)
    times = []
    for _ in range(50):
        await pace.turn()
        times.append(clock.now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert times[0] == 100
    assert all(gap == pytest.approx(0.1) for gap in gaps)


async def test_a_turn_that_was_not_used_is_not_saved_up() -> None:
    clock = Clock()
    pace = Pace(10, clock=clock, sleep=clock.sleep)
    await pace.turn()
    clock.now += 60
    times = []
    for _ in range(3):
        await pace.turn()
        times.append(clock.now)
    assert times == [pytest.approx(160), pytest.approx(160.1), pytest.approx(160.2)]


async def test_turns_are_shared_by_all_who_wait() -> None:
    clock = Clock()
    asked: list[float] = []

    async def sleep(seconds: float) -> None:
        asked.append(seconds)

    pace = Pace(10, clock=clock, sleep=sleep)
    await asyncio.gather(*(pace.turn() for _ in range(4)))
    assert asked == [pytest.approx(0.1), pytest.approx(0.2), pytest.approx(0.3)]
