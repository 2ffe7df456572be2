from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate

import pytest

from streamvault.errors import RateLimited
from streamvault.metrics.system import Metrics
from streamvault.twitch.limiter import Limiter
from streamvault.twitch.words import Priority

TWITCH_EPOCH = 1_700_000_000


class Clocks:
    """Ours stands for both clocks of the process; Twitch's is `skew` ahead of it."""

    def __init__(self) -> None:
        self.now = 5_000.0
        self.skew = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return TWITCH_EPOCH + self.now

    def headers(self, remaining: int, reset_in_s: int, limit: int = 800) -> Mapping[str, str]:
        twitch = int(self.wall() + self.skew)
        return {
            "date": formatdate(twitch, usegmt=True),
            "ratelimit-limit": str(limit),
            "ratelimit-remaining": str(remaining),
            "ratelimit-reset": str(twitch + reset_in_s),
        }


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def limiter(clocks: Clocks) -> Limiter:
    return Limiter(clock=clocks.monotonic, wall_clock=clocks.wall)


def answered(limiter: Limiter, headers: Mapping[str, str], bucket: str = "app") -> None:
    limiter.check(bucket, Priority.START)
    with limiter.point(bucket):
        limiter.learn(bucket, headers)


def refused(limiter: Limiter, headers: Mapping[str, str], bucket: str = "app") -> None:
    limiter.check(bucket, Priority.START)
    with limiter.point(bucket):
        limiter.learn(bucket, headers)
        limiter.sleep(bucket, headers)


def allowed(limiter: Limiter, bucket: str = "app") -> set[Priority]:
    found = set()
    for priority in Priority:
        try:
            limiter.check(bucket, priority)
        except RateLimited:
            continue
        found.add(priority)
    return found


START, RECONCILE, SUBSCRIBE, PICTURES = Priority


@pytest.mark.parametrize(
    ("remaining", "going_on"),
    [
        (240, {START, RECONCILE, SUBSCRIBE, PICTURES}),  # 30 % of 800
        (239, {START, RECONCILE, SUBSCRIBE}),
        (120, {START, RECONCILE, SUBSCRIBE}),  # 15 %
        (119, {START, RECONCILE}),
        (40, {START, RECONCILE}),  # 5 %
        (39, {START}),
        (1, {START}),
        (0, set()),
    ],
)
def test_each_priority_stops_at_its_share(
    limiter: Limiter, clocks: Clocks, remaining: int, going_on: set[Priority]
) -> None:
    answered(limiter, clocks.headers(remaining, 30))
    assert allowed(limiter) == going_on
    clocks.now += 30
    assert allowed(limiter) == set(Priority)


def test_a_429_puts_the_whole_bucket_to_sleep_until_reset(limiter: Limiter, clocks: Clocks) -> None:
    refused(limiter, clocks.headers(0, 40))
    with pytest.raises(RateLimited) as refusal:
        limiter.check("app", START)
    assert refusal.value.retry_after_s == pytest.approx(40)
    clocks.now += 39.9
    assert allowed(limiter) == set()
    clocks.now += 0.1
    assert allowed(limiter) == set(Priority)


def test_buckets_do_not_know_of_each_other(limiter: Limiter, clocks: Clocks) -> None:
    refused(limiter, clocks.headers(0, 40))
    assert allowed(limiter, "user") == set(Priority)


@pytest.mark.parametrize("skew", [-7200.0, -5.0, 5.0, 7200.0])
def test_reset_is_read_against_the_date_of_the_answer(
    limiter: Limiter, clocks: Clocks, skew: float
) -> None:
    clocks.skew = skew
    refused(limiter, clocks.headers(0, 25))
    with pytest.raises(RateLimited) as refusal:
        limiter.check("app", START)
    assert refusal.value.retry_after_s == pytest.approx(25)


def test_an_answer_without_date_is_read_by_our_clock(limiter: Limiter, clocks: Clocks) -> None:
    headers = {"ratelimit-reset": str(int(clocks.wall()) + 12)}
    refused(limiter, headers)
    with pytest.raises(RateLimited) as refusal:
        limiter.check("app", START)
    assert refusal.value.retry_after_s == pytest.approx(12)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "soon"}, 60),
        ({}, 60),
        ({"retry-after": "9999999"}, 300),
        ({"retry-after": "0"}, 1),
    ],
)
def test_a_429_without_reset_sleeps_as_long_as_it_says(
    limiter: Limiter, headers: dict[str, str], wait_s: float
) -> None:
    refused(limiter, headers)
    with pytest.raises(RateLimited) as refusal:
        limiter.check("app", START)
    assert refusal.value.retry_after_s == wait_s


def test_a_late_answer_does_not_end_the_sleep(limiter: Limiter, clocks: Clocks) -> None:
    before = clocks.headers(500, 60)
    limiter.check("app", RECONCILE)
    with limiter.point("app"):
        refused(limiter, clocks.headers(0, 40))
        limiter.learn("app", before)
    assert allowed(limiter) == set()


def test_calls_on_their_way_hold_their_points(limiter: Limiter, clocks: Clocks) -> None:
    """Of a bucket of 100, at most 100 go out before the first answer comes back."""
    answered(limiter, clocks.headers(100, 60, limit=100))
    held = []
    for _ in range(300):
        try:
            limiter.check("app", START)
        except RateLimited:
            break
        point = limiter.point("app")
        point.__enter__()
        held.append(point)
    assert len(held) == 100
    # The first is answered: 99 are left as Twitch saw it then, and 99 are on their way.
    limiter.learn("app", clocks.headers(99, 60, limit=100))
    held.pop().__exit__(None, None, None)
    assert allowed(limiter) == set()


def test_calls_that_are_never_answered_still_cost_points(limiter: Limiter, clocks: Clocks) -> None:
    answered(limiter, clocks.headers(3, 60))
    for _ in range(3):
        limiter.check("app", START)
        with pytest.raises(TimeoutError), limiter.point("app"):
            raise TimeoutError
    assert allowed(limiter) == set()


def test_what_is_left_is_shown_by_kind_of_token(clocks: Clocks) -> None:
    metrics = Metrics()
    limiter = Limiter(metrics.twitch, clock=clocks.monotonic, wall_clock=clocks.wall)
    answered(limiter, clocks.headers(799, 60), "app")
    with limiter.point("id"):
        limiter.learn("id", {})
    told = limiter.reports()
    assert set(told) == {"app"}
    assert (told["app"].limit, told["app"].remaining) == (800, 799)
    sample = metrics.registry.get_sample_value
    assert sample("streamvault_twitch_ratelimit_remaining", {"bucket": "app"}) == 799
    assert sample("streamvault_twitch_ratelimit_limit", {"bucket": "app"}) == 800
    assert sample("streamvault_twitch_ratelimit_remaining", {"bucket": "id"}) is None
