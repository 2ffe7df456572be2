from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from streamvault.errors import CircuitOpen
from streamvault.metrics.system import Metrics
from streamvault.twitch.breaker import CIRCUITS, Breaker, Breakers, Permit

OPEN_S = 60


class Reference:
    """The table of the circuit breaker, word for word, without any of our code."""

    def __init__(self) -> None:
        self.state, self.generation = "closed", 0
        self.calls: list[tuple[float, bool]] = []
        self.until = 0.0

    def change(self, state: str, until: float = 0.0) -> None:
        self.state, self.until, self.calls = state, until, []
        self.generation += 1

    def admits(self, now: float, spread: float) -> bool:
        if self.state == "half-open" and now >= self.until:
            self.change("open", self.until + OPEN_S * spread)
        if self.state == "open" and now >= self.until:
            self.change("half-open", now + 10)
            return True
        return self.state == "closed"

    def hear(self, now: float, generation: int, ok: bool, spread: float) -> None:
        if generation != self.generation:
            return
        self.calls.append((now, ok))
        last_five = [good for _, good in self.calls[-5:]]
        recent = [good for at, good in self.calls if at > now - 30]
        too_many = len(recent) >= 20 and recent.count(False) * 2 >= len(recent)
        if self.state == "half-open" and ok and now < self.until:
            self.change("closed")
        elif self.state == "half-open":
            self.change("open", min(now, self.until) + OPEN_S * spread)
        elif not ok and (last_five == [False] * 5 or too_many):
            self.change("open", now + OPEN_S * spread)


class CircuitMachine(RuleBasedStateMachine):
    permits: Bundle[tuple[Permit, int]] = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.now, self.spread = 1_000.0, 1.0
        self.breaker = Breaker("helix", clock=lambda: self.now, uniform=self.uniform)
        self.reference = Reference()

    def uniform(self, low: float, high: float) -> float:
        return min(max(self.spread, low), high)

    @rule(seconds=st.one_of(st.floats(0, 3), st.sampled_from([10, 30, 54, 60, 66, 90])))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(spread=st.floats(0.9, 1.1))
    def spread_differs(self, spread: float) -> None:
        self.spread = spread

    @rule(target=permits)
    def call(self) -> Any:
        admitted = self.reference.admits(self.now, self.spread)
        try:
            permit = self.breaker.admit()
        except CircuitOpen as refusal:
            assert not admitted
            assert 0 < refusal.retry_after_s <= OPEN_S * 1.1
            return None, 0
        assert admitted
        assert permit.is_probe == (self.reference.state == "half-open")
        return permit, self.reference.generation

    @rule(given=consumes(permits), ok=st.booleans())
    def end(self, given: tuple[Permit | None, int], ok: bool) -> None:
        permit, generation = given
        if permit is None:
            return
        with permit:
            if ok:
                permit.succeeded()
            else:
                permit.failed()
        self.reference.hear(self.now, generation, ok, self.spread)

    @rule(given=consumes(permits))
    def cancel(self, given: tuple[Permit | None, int]) -> None:
        permit, generation = given
        if permit is None:
            return
        with permit:
            pass
        if permit.is_probe:
            self.reference.hear(self.now, generation, False, self.spread)

    @invariant()
    def the_state_is_that_of_the_table(self) -> None:
        assert str(self.breaker.state) == self.reference.state


TestCircuit = CircuitMachine.TestCase
TestCircuit.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("helix", clock=clock, uniform=lambda low, high: (low + high) / 2)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.admit().failed()


def test_the_fifth_failure_in_a_row_opens(breaker: Breaker) -> None:
    fail(breaker, 4)
    breaker.admit().succeeded()
    fail(breaker, 4)
    assert breaker.state == "closed"
    fail(breaker, 1)
    assert breaker.state == "open"
    with pytest.raises(CircuitOpen) as refusal:
        breaker.admit()
    assert refusal.value.retry_after_s == 60


def test_half_of_twenty_calls_opens_without_five_in_a_row(breaker: Breaker) -> None:
    for _ in range(10):
        assert breaker.state == "closed"
        breaker.admit().succeeded()
        breaker.admit().failed()
    assert breaker.state == "open"


def test_failures_older_than_the_window_do_not_count_as_half(
    breaker: Breaker, clock: Clock
) -> None:
    for _ in range(40):
        breaker.admit().succeeded()
        clock.now += 4
        breaker.admit().failed()
    assert breaker.state == "closed"


def test_one_probe_goes_through_and_its_success_closes(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    clock.now = 60
    probe = breaker.admit()
    with pytest.raises(CircuitOpen) as refusal:
        breaker.admit()
    assert 1 <= refusal.value.retry_after_s <= 5
    probe.succeeded()
    assert breaker.state == "closed"


def test_a_failing_service_is_probed_once_a_minute_without_growing_pauses(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 5)
    probes = 0
    for _ in range(10 * 60):
        clock.now += 1
        try:
            permit = breaker.admit()
        except CircuitOpen:
            continue
        probes += 1
        permit.failed()
    assert probes == 10


def test_a_cancelled_probe_gives_its_permit_back(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    clock.now = 60
    with pytest.raises(KeyboardInterrupt), breaker.admit():
        raise KeyboardInterrupt
    assert breaker.state == "open"
    clock.now = 120
    breaker.admit().succeeded()
    assert breaker.state == "closed"


def test_a_probe_that_never_ends_gives_way_after_ten_seconds(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 5)
    clock.now = 60
    lost = breaker.admit()
    clock.now = 70 + 60
    breaker.admit().succeeded()
    assert breaker.state == "closed"
    lost.failed()
    assert breaker.report().failures == 0


def test_late_results_of_an_older_generation_are_ignored(breaker: Breaker, clock: Clock) -> None:
    late = [breaker.admit() for _ in range(8)]
    fail(breaker, 5)
    late.pop().succeeded()
    assert breaker.state == "open"
    clock.now = 60
    probe = breaker.admit()
    late.pop().succeeded()
    late.pop().failed()
    assert breaker.state == "half-open"
    probe.succeeded()
    for permit in late:
        permit.failed()
    assert breaker.state == "closed"


def test_a_verdict_counts_once(breaker: Breaker) -> None:
    permit = breaker.admit()
    for _ in range(5):
        permit.failed()
    assert breaker.state == "closed"


def test_one_group_that_fails_does_not_stop_the_others() -> None:
    breakers = Breakers()
    fail(breakers.of("eventsub"), 5)
    for name in CIRCUITS:
        if name != "eventsub":
            breakers.of(name).admit().succeeded()
    assert {name for name, told in breakers.reports().items() if told.state == "open"} == {
        "eventsub"
    }


def test_each_process_comes_back_at_a_time_of_its_own() -> None:
    clock = Clock()
    waits = set()
    for _ in range(50):
        breaker = Breaker("gql", clock=clock)
        fail(breaker, 5)
        waits.add(breaker.report().retry_after_s)
    assert len(waits) > 10
    assert min(waits) >= 54
    assert max(waits) <= 66


def test_the_figures_show_one_state_and_count_what_was_refused(clock: Clock) -> None:
    metrics = Metrics()
    breaker = Breaker("helix", metrics.twitch, clock=clock, uniform=lambda low, high: low)
    fail(breaker, 5)
    for _ in range(3):
        with pytest.raises(CircuitOpen):
            breaker.admit()

    def figure(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"streamvault_{name}", labels)

    assert figure("circuit_breaker_state", circuit="helix", state="open") == 1
    assert figure("circuit_breaker_state", circuit="helix", state="closed") == 0
    assert figure("circuit_breaker_transitions_total", circuit="helix", to="open") == 1
    assert figure("circuit_breaker_rejected_total", circuit="helix") == 3
    assert figure("circuit_breaker_state", circuit="usher", state="closed") == 1
