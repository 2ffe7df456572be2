"""Circuit breakers: after failures a group of Twitch's endpoints is left alone for a while.

One breaker per group and process, so that a failing one does not stop the others.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Protocol

from streamvault.errors import CircuitOpen

CIRCUITS = ("helix", "id", "eventsub", "gql", "usher")
FAILURES_TO_OPEN = 5
WINDOW_S = 30.0
WINDOW_CALLS = 20
WINDOW_FAILED = 0.5
OPEN_S = 60.0
OPEN_SPREAD = 0.1  # so that processes which failed together do not all come back together
PROBE_S = 10.0  # as long as a call may take
BESIDE_PROBE_S = (1.0, 5.0)


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Watcher(Protocol):
    """Hears of what the breakers do; `streamvault.metrics.twitch` counts it."""

    def note_circuit(self, circuit: str, state: str) -> None: ...

    def note_rejected(self, circuit: str) -> None: ...


@dataclass(frozen=True, slots=True)
class CircuitReport:
    """`retry_after_s` is 0 when calls go through."""

    state: str
    failures: int
    retry_after_s: float


class Permit:
    """Leave to make one call. Leaving the block without a verdict is neither success nor failure,
    except for a probe, whose circuit opens again."""

    def __init__(self, breaker: Breaker, generation: int, *, is_probe: bool) -> None:
        self.is_probe = is_probe
        self._breaker = breaker
        self._generation = generation
        self._open = True

    def succeeded(self) -> None:
        self._judge(True)

    def failed(self) -> None:
        self._judge(False)

    def __enter__(self) -> Permit:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.is_probe:
            # Else the circuit would wait for ever for a probe that was cancelled.
            self._judge(False)

    def _judge(self, success: bool) -> None:
        if self._open:
            self._open = False
            self._breaker.judge(self._generation, success=success)


class Breaker:
    """Of one group. May be used by several threads."""

    def __init__(
        self,
        circuit: str,
        watcher: Watcher | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.circuit = circuit
        self._watcher = watcher
        self._clock = clock
        self._uniform = uniform
        self._lock = threading.Lock()
        self._state = State.CLOSED
        # Grows with each change of state: a verdict about a call from before it is of no interest.
        self._generation = 0
        self._failures = 0
        self._recent: deque[tuple[float, bool]] = deque()
        self._until = 0.0
        """Open: when the next call may probe. Half-open: when the probe counts as failed."""

    @property
    def state(self) -> State:
        return self._state

    def admit(self) -> Permit:
        """Raises CircuitOpen, at once and without network."""
        with self._lock:
            now = self._clock()
            if self._state is State.HALF_OPEN and now >= self._until:
                self._open(self._until)
            if self._state is State.OPEN and now >= self._until:
                self._become(State.HALF_OPEN)
                self._until = now + PROBE_S
                return Permit(self, self._generation, is_probe=True)
            if self._state is State.CLOSED:
                return Permit(self, self._generation, is_probe=False)
            raise self._rejection(now)

    def judge(self, generation: int, *, success: bool) -> None:
        """The outcome of a call that was admitted in that generation."""
        with self._lock:
            now = self._clock()
            if generation != self._generation:
                return
            if self._state is State.HALF_OPEN:
                if success and now < self._until:
                    self._become(State.CLOSED)
                else:
                    self._open(min(now, self._until))
                return
            self._failures = 0 if success else self._failures + 1
            self._remember(now, success)
            if not success and self._is_too_much():
                self._open(now)

    def report(self) -> CircuitReport:
        with self._lock:
            waits = self._until - self._clock() if self._state is State.OPEN else 0.0
            return CircuitReport(str(self._state), self._failures, round(max(waits, 0.0), 1))

    def _remember(self, now: float, success: bool) -> None:
        self._recent.append((now, success))
        while self._recent[0][0] <= now - WINDOW_S:
            self._recent.popleft()

    def _is_too_much(self) -> bool:
        failed = sum(not success for _, success in self._recent)
        calls = len(self._recent)
        return self._failures >= FAILURES_TO_OPEN or (
            calls >= WINDOW_CALLS and failed >= WINDOW_FAILED * calls
        )

    def _open(self, at: float) -> None:
        self._become(State.OPEN)
        self._until = at + OPEN_S * self._uniform(1 - OPEN_SPREAD, 1 + OPEN_SPREAD)

    def _become(self, state: State) -> None:
        self._state = state
        self._generation += 1
        self._failures = 0
        self._recent.clear()
        if self._watcher:
            self._watcher.note_circuit(self.circuit, str(state))

    def _rejection(self, now: float) -> CircuitOpen:
        if self._watcher:
            self._watcher.note_rejected(self.circuit)
        wait_s = self._until - now
        if self._state is State.HALF_OPEN:
            wait_s = self._uniform(*BESIDE_PROBE_S)
        return CircuitOpen(
            f"Twitch's {self.circuit} is left alone after failures", retry_after_s=wait_s
        )


class Breakers:
    """One per group of endpoints."""

    def __init__(
        self, watcher: Watcher | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._breakers = {name: Breaker(name, watcher, clock=clock) for name in CIRCUITS}

    def of(self, circuit: str) -> Breaker:
        return self._breakers[circuit]

    def reports(self) -> dict[str, CircuitReport]:
        return {name: breaker.report() for name, breaker in self._breakers.items()}
