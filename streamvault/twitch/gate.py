"""The one way to Twitch's HTTP: rate limit, then circuit breaker, then the call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import httpx
import msgspec

from streamvault.errors import (
    RateLimited,
    TokenInvalid,
    TwitchError,
    TwitchRefused,
    TwitchUnavailable,
)
from streamvault.twitch.breaker import Breakers, Permit
from streamvault.twitch.exchange import TOTAL_S, Answer, Call, exchange
from streamvault.twitch.limiter import Limiter, date_of
from streamvault.twitch.words import Priority

AT_ONCE = 6  # per circuit: a group that hangs must not take the others' connections
LONGEST_MESSAGE = 200

T = TypeVar("T")


class Watcher(Protocol):
    """Hears of each call; `streamvault.metrics.twitch` counts it."""

    def note_call(self, endpoint: str, outcome: str, seconds: float) -> None: ...

    def note_skew(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Bearer:
    """Where a token comes from. `after` gives another one than the bad one, once Twitch has
    answered it with 401; calls with either share `bucket` of the rate limit."""

    bucket: str
    current: Callable[[], Awaitable[str]]
    after: Callable[[str], Awaitable[str]]


class Gate:
    """`total_s` is how long one call may take, its second try included."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        breakers: Breakers,
        limiter: Limiter,
        watcher: Watcher | None = None,
        *,
        total_s: float = TOTAL_S,
    ) -> None:
        self._http = http
        self._breakers = breakers
        self._limiter = limiter
        self._watcher = watcher
        self._total_s = total_s
        self._slots: dict[str, asyncio.Semaphore] = {}
        self.clock_skew_s: float | None = None
        """How far Twitch's clock is ahead of ours, about a second exact; None before any answer."""

    async def send_as(
        self,
        bearer: Bearer,
        call: Call,
        read: Callable[[bytes], T],
        priority: Priority = Priority.RECONCILE,
    ) -> T:
        """`send` with a token, and once more with another one if Twitch answers 401.

        Raises TokenInvalid when that one is not accepted either."""
        token = await bearer.current()
        try:
            return await self.send(_signed(call, token), read, bearer.bucket, priority)
        except TwitchRefused as error:
            if error.status != 401:
                raise
        token = await bearer.after(token)
        try:
            return await self.send(_signed(call, token), read, bearer.bucket, priority)
        except TwitchRefused as error:
            if error.status != 401:
                raise
            raise TokenInvalid(f"{error}, also to a fresh token", status=401) from None

    async def send(
        self,
        call: Call,
        read: Callable[[bytes], T],
        bucket: str,
        priority: Priority,
    ) -> T:
        """What `read` makes of the body of a 2xx answer; it may raise msgspec.DecodeError.

        Raises TwitchRefused, TwitchUnavailable."""
        async with self._slot(call.circuit):
            self._limiter.check(bucket, priority)
            with (
                self._breakers.of(call.circuit).admit() as permit,
                self._limiter.point(bucket),
            ):
                return await self._judged(call, read, bucket, permit)

    async def _judged(
        self, call: Call, read: Callable[[bytes], T], bucket: str, permit: Permit
    ) -> T:
        """A cancelled call gets neither verdict nor figure."""
        started = time.monotonic()
        try:
            answer = await exchange(
                self._http, call, again=not permit.is_probe, total_s=self._total_s
            )
            self._learn(answer, bucket)
            found = self._understand(call, answer, read, bucket)
        except TwitchError as error:
            self._note(call, permit, _outcome(error), started)
            raise
        self._note(call, permit, "ok", started)
        return found

    def _note(self, call: Call, permit: Permit, outcome: str, started: float) -> None:
        # Whatever says no is alive: only silence and nonsense count against a circuit.
        if outcome == "error":
            permit.failed()
        else:
            permit.succeeded()
        if self._watcher:
            self._watcher.note_call(call.circuit, outcome, time.monotonic() - started)

    def _learn(self, answer: Answer, bucket: str) -> None:
        self._limiter.learn(bucket, answer.headers)
        date = date_of(answer.headers)
        if date is None:
            return
        # Date has whole seconds, cut off.
        self.clock_skew_s = date + 0.5 - time.time()
        if self._watcher:
            self._watcher.note_skew(self.clock_skew_s)

    def _understand(self, call: Call, answer: Answer, read: Callable[[bytes], T], bucket: str) -> T:
        if 200 <= answer.status < 300:
            try:
                return read(answer.body)
            except (msgspec.DecodeError, UnicodeDecodeError):
                text = f"{call.name} answers with something else than was asked for"
                raise TwitchUnavailable(text) from None
        message = call.without_secrets(_message(answer.body))
        text = f"{call.name} answers {answer.status}{': ' if message else ''}{message}"
        if answer.status == 429 and not call.is_limit(message):
            wait_s = self._limiter.sleep(bucket, answer.headers)
            raise RateLimited(text, retry_after_s=round(wait_s, 1))
        if 400 <= answer.status < 500:
            raise TwitchRefused(text, status=answer.status)
        raise TwitchUnavailable(text)

    @asynccontextmanager
    async def _slot(self, circuit: str) -> AsyncIterator[None]:
        slots = self._slots.setdefault(circuit, asyncio.Semaphore(AT_ONCE))
        try:
            async with asyncio.timeout(self._total_s):
                await slots.acquire()
        except TimeoutError:
            raise TwitchUnavailable(f"too many calls wait for Twitch's {circuit}") from None
        try:
            yield
        finally:
            slots.release()


def _signed(call: Call, token: str) -> Call:
    return replace(call, headers=call.headers | {"Authorization": f"Bearer {token}"})


def _outcome(error: TwitchError) -> str:
    if isinstance(error, RateLimited):
        return "rate_limited"
    return "refused" if isinstance(error, TwitchRefused) else "error"


def _message(body: bytes) -> str:
    """Twitch's own words, as one line; empty when the body is not one of its error bodies."""
    try:
        said = msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    words = said.get("message") or said.get("error_description") or said.get("error") or ""
    line = " ".join(str(words).split())
    return "".join(letter for letter in line if letter.isprintable())[:LONGEST_MESSAGE]
