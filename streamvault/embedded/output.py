"""What the children print, line by line, with their name in front.

A terminal that is paused must not hold up a recorder that wants to log: lines go through a thread
of their own, and the oldest wait while new ones are counted and dropped.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections import deque

_MAX_WAITING = 10_000
_MAX_LINE = 8192
_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93)


class Output:
    """Prefixed lines on standard output."""

    def __init__(self, names: list[str]) -> None:
        self._width = max(len(name) for name in names)
        colour = sys.stdout.isatty()
        self._colours = {n: c for n, c in zip(names, _COLOURS * 4, strict=False) if colour}
        self._waiting: queue.Queue[str | None] = queue.Queue(_MAX_WAITING)
        self._dropped = 0
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()

    def line(self, name: str, text: str) -> None:
        """Never blocks."""
        prefix = f"{name:{self._width}} | "
        if name in self._colours:
            prefix = f"\x1b[{self._colours[name]}m{prefix}\x1b[0m"
        try:
            self._waiting.put_nowait(f"{prefix}{text}\n")
        except queue.Full:
            self._dropped += 1

    async def copy(self, name: str, stream: asyncio.StreamReader, tail: deque[str]) -> None:
        """Print what comes until the end; the last lines stay in `tail`."""
        rest = b""
        while chunk := await stream.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _MAX_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._take(name, line, tail)
        if rest:
            self._take(name, rest, tail)

    def close(self, timeout_s: float = 2.0) -> None:
        """Print what is waiting, unless nobody reads."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._writer.join(timeout_s)

    def _take(self, name: str, line: bytes, tail: deque[str]) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        tail.append(text)
        self.line(name, text)

    def _write(self) -> None:
        while (text := self._waiting.get()) is not None:
            if self._dropped:
                text = f"… {self._dropped} lines were dropped, nobody read them\n{text}"
                self._dropped = 0
            try:
                sys.stdout.write(text)
                sys.stdout.flush()
            except OSError:
                # The terminal is gone; SIGHUP is on its way and stops us in order.
                return
