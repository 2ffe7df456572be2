"""The playback sessions of a capture: the one at hand, and asking for another.

A session is asked for beside the work: the one at hand may go on listing meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from streamvault.errors import SourceUnavailable, StreamOffline, StreamVaultError
from streamvault.hls.download import Health
from streamvault.hls.ending import EndWatch
from streamvault.hls.order import Resolve, Routes
from streamvault.hls.thresholds import Thresholds
from streamvault.source import Playback, Wish


class Sessions:
    """`known`: the session of an earlier run, tried before a new one is asked for."""

    def __init__(
        self,
        wish: Callable[[], Wish],
        *,
        resolve: Resolve,
        routes: Routes | None,
        health: Health,
        watch: EndWatch,
        thresholds: Thresholds,
        known: Playback | None = None,
    ) -> None:
        self.known = known
        self.playback: Playback | None = None
        self.number = 0
        self.is_new = False
        """The one adopted last differs from the one before."""
        self.let_down = False
        """The proxy of the one at hand does not work."""
        self.replaced_let_down = False
        """The one at hand came in place of one whose proxy did not work."""
        self.goes_another_way = False
        """And it goes by another proxy, or by none: so that one was to blame."""
        self._wish = wish
        self._resolve = resolve
        self._routes = routes
        self._health = health
        self._watch = watch
        self._thresholds = thresholds
        self._asked: asyncio.Task[Playback] | None = None
        self._asked_at: float | None = None
        self._failures = 0

    @property
    def is_of_earlier_run(self) -> bool:
        """Nobody had to be asked for it yet."""
        return self.number == 1 and self._asked_at is None

    @property
    def failing(self) -> bool:
        """The last one that was asked for could not be had."""
        return self._failures > 0

    def drop(self) -> None:
        """The one at hand is of no use any more; another one is asked for at once."""
        self.known = self.playback = None
        self._asked_at = None

    def see_to(self, wanted: Callable[[], bool], wake: Callable[[], None]) -> Playback | None:
        """One that has just been got. `wake` is called when an answer has come.

        Raises permanent SourceErrors before anything was stored."""
        known, self.known = self.known, None
        if known is not None:
            return self._adopt(known)
        self._check_route()
        if self._asked is not None:
            return self._take_answer(self._asked) if self._asked.done() else None
        if self._is_due() and (self._is_poor() or wanted()):
            self._asked_at = time.monotonic()
            self._asked = asyncio.create_task(self._ask())
            self._asked.add_done_callback(lambda _: wake())
        return None

    def close(self) -> None:
        if self._asked is not None:
            self._asked.cancel()

    def _check_route(self) -> None:
        playback, health = self.playback, self._health
        if self._routes is None or playback is None or self.let_down or not playback.proxy_id:
            return
        if health.route_failures >= self._thresholds.proxy_failures:
            self.let_down = True
            self._routes.failed(playback.proxy_id, health.route_problem)

    def _is_poor(self) -> bool:
        playback, asked_at = self.playback, self._asked_at
        if playback is None or self.let_down:
            return True
        waited_s = 0.0 if asked_at is None else time.monotonic() - asked_at
        return not playback.complete and waited_s >= self._thresholds.better_s

    def _is_due(self) -> bool:
        if self._asked_at is None:
            return True
        every_s = self._thresholds.resolve_every_s
        if self.playback is None or self.let_down:
            first_s = self._thresholds.resolve_again_s
            every_s = min(first_s * 2.0 ** min(self._failures, 10), every_s)
        return time.monotonic() - self._asked_at >= every_s

    def _next_wish(self) -> Wish:
        avoid = self.playback.proxy_id if self.playback is not None and self.let_down else ""
        return replace(self._wish(), avoid=avoid)

    async def _ask(self) -> Playback:
        try:
            async with asyncio.timeout(self._thresholds.resolve_timeout_s):
                return await self._resolve(self._next_wish())
        except TimeoutError:
            raise SourceUnavailable("the stream's service does not answer") from None

    def _take_answer(self, asked: asyncio.Task[Playback]) -> Playback | None:
        self._asked = None
        try:
            playback = asked.result()
        except StreamOffline as error:
            self._failed(error)
            self._watch.saw_no_stream(time.monotonic())
        except StreamVaultError as error:
            self._failed(error)
        else:
            self._failures = 0
            return self._adopt(playback)
        return None

    def _failed(self, error: StreamVaultError) -> None:
        """Raises `error` where it is final: nothing is stored, and trying again cannot help."""
        if error.permanent and not self._health.stored:
            raise error
        self._failures += 1
        self._health.went_wrong(error.one_line, by_answer=error.permanent)

    def _adopt(self, playback: Playback) -> Playback:
        self.is_new = playback != self.playback
        self.number += self.is_new
        self.replaced_let_down, self.let_down = self.let_down, False
        before = self.playback.proxy_id if self.playback is not None else playback.proxy_id
        self.goes_another_way = self.replaced_let_down and before != playback.proxy_id
        self.playback = playback
        self._health.goes_by(playback.proxy_id)
        return playback
