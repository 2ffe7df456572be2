"""libcurl's multi interface on the event loop.

pycurl brings AsyncCurlMulti for this. It lets the loop watch every socket and time every step of
each transfer, which cost as much as the rest of a playlist poll; here the loop watches one
descriptor and keeps one timer for all of them.
"""

from __future__ import annotations

import asyncio
import selectors
from contextlib import suppress

import pycurl


class Transfers:
    """Bound to the event loop of the first transfer."""

    def __init__(self, max_connections: int) -> None:
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, max_connections)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        # Its values for reading and writing are those of POLL_IN, POLL_OUT, CSELECT_IN and _OUT.
        self._sockets = selectors.DefaultSelector()
        self._watched: dict[int, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[pycurl.Curl, asyncio.Future[None]] = {}
        self._due: float | None = None
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0

    @property
    def closed(self) -> bool:
        return self._multi.closed

    async def perform(self, curl: pycurl.Curl) -> None:
        """Raises pycurl.error."""
        loop = self._loop or self._bind()
        done: asyncio.Future[None] = loop.create_future()
        self._multi.add_handle(curl)
        self._waiting[curl] = done
        try:
            # What libcurl would ask the timer for: the request leaves at once.
            self._act(pycurl.SOCKET_TIMEOUT, 0)
            await done
        finally:
            if self._waiting.pop(curl, None) is not None:
                self._remove(curl)

    def pause(self, curl: pycurl.Curl, state: int) -> None:
        # One that is finished, and only not been told so yet, cannot be paused and need not be.
        with suppress(pycurl.error):
            curl.pause(state)
        self._set_timer()

    def close(self) -> None:
        """Transfers that are under way are cancelled."""
        if self.closed:
            return
        for curl, done in self._waiting.items():
            self._remove(curl)
            done.cancel()
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None:
            self._loop.remove_reader(self._sockets.fileno())
        self._multi.close()
        self._sockets.close()

    def _bind(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sockets.fileno(), self._on_ready)
        return self._loop

    def _act(self, socket: int, events: int) -> None:
        try:
            _, running = self._multi.socket_action(socket, events)
        except pycurl.error as error:
            # It is about all of them, and libcurl tells nobody else.
            for curl in list(self._waiting):
                self._finish(curl, error)
            return
        if running < len(self._waiting):
            self._take_finished()
        self._set_timer()

    def _take_finished(self) -> None:
        _, finished, failed = self._multi.info_read()
        for curl in finished:
            self._finish(curl, None)
        for curl, code, text in failed:
            self._finish(curl, pycurl.error(code, text))

    def _finish(self, curl: pycurl.Curl, error: pycurl.error | None) -> None:
        done = self._waiting.pop(curl, None)
        if done is None:
            return
        self._remove(curl)
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def _remove(self, curl: pycurl.Curl) -> None:
        # What cannot be removed is not there.
        with suppress(pycurl.error):
            self._multi.remove_handle(curl)

    # ---- what the loop says

    def _on_ready(self) -> None:
        for key, events in self._sockets.select(0):
            self._act(key.fd, events)

    def _on_time(self) -> None:
        self._timer = None
        if self._due is None or self._loop is None:
            return
        if self._due <= self._loop.time():
            self._due = None
            self._act(pycurl.SOCKET_TIMEOUT, 0)
        else:
            self._set_timer()

    # ---- what libcurl says

    def _on_socket(self, what: int, socket: int, _multi: object, _data: object) -> None:
        wanted = 0 if what == pycurl.POLL_REMOVE else what
        before = self._watched.pop(socket, 0)
        if wanted:
            self._watched[socket] = wanted
        if wanted and not before:
            self._sockets.register(socket, wanted)
        elif before and not wanted:
            self._sockets.unregister(socket)
        elif before != wanted:
            self._sockets.modify(socket, wanted)

    def _on_timer(self, timeout_ms: int) -> None:
        assert self._loop is not None
        self._due = None if timeout_ms < 0 else self._loop.time() + timeout_ms / 1000

    def _set_timer(self) -> None:
        """A timer that fires early sets itself anew, so most changes need none."""
        due, timer = self._due, self._timer
        if due is None or self._loop is None:
            if timer is not None and not self._waiting:
                timer.cancel()
                self._timer = None
            return
        if timer is not None:
            if self._timer_at <= due:
                return
            timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(due, self._on_time), due
