"""One supervised process: its start up to readiness, its end, its output."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import deque

from streamvault.embedded.background import PROBE_INTERVAL_S, READY_TIMEOUT_S, Service
from streamvault.embedded.output import Output
from streamvault.embedded.programs import Program
from streamvault.errors import DependencyUnavailable, SettingsError

WRONG_SETTING = 2  # exit code of our own commands: trying again cannot help
_TAIL_LINES = 20
_TAIL_TIMEOUT_S = 1.0


class NotReady(DependencyUnavailable):
    """A start that ended or hung before it was ready."""


class Child:
    def __init__(self, service: Service, output: Output) -> None:
        self.service = service
        self.name = service.name
        self.ready = asyncio.Event()
        self.stopped_by_us = False
        self._output = output
        self._program: Program | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._copying: asyncio.Task[None] | None = None
        self._beat: float | None = None
        self._looks = 0
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    @property
    def pid(self) -> int | None:
        alive = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process and alive else None

    @property
    def outdated(self) -> bool:
        """Whether it runs with a command line or an environment that is another now."""
        return self.pid is not None and self._program != self.service.program()

    def looks_without_beat(self) -> int:
        """How often this was asked since its beat last changed, while it is ready."""
        beat = self._beat_at() if self.ready.is_set() else None
        if beat is None or beat != self._beat:
            self._beat, self._looks = beat, 0
        else:
            self._looks += 1
        return self._looks

    def _beat_at(self) -> float | None:
        if self._program is None or self._program.beat is None:
            return None
        try:
            return self._program.beat.stat().st_mtime
        except OSError:
            return None

    async def start(self) -> None:
        """Returns when it is ready. Raises NotReady, or SettingsError when no try can help."""
        self.stopped_by_us = False
        await asyncio.to_thread(self.service.prepare)
        self._program = self.service.program()
        self._tail.clear()
        self._process, printed = await spawn(self._program)
        process = self._process
        copying = asyncio.create_task(self._output.copy(self.name, printed, self._tail))
        self._copying = copying
        if await self._becomes_ready(process):
            self.ready.set()
            return
        self.kill()
        await _drain(process, copying)
        last = self._tail[-1] if self._tail else describe_end(process.returncode)
        if process.returncode == WRONG_SETTING:
            # Its own command has put its name in front, as ours will.
            raise SettingsError(last.removeprefix("streamvault: "))
        done = await asyncio.to_thread(self.service.failed, "\n".join(self._tail))
        raise NotReady(f"{self.name} did not start: {last}", hint=done)

    async def end(self) -> str:
        """Wait for its end and say how it ended; what it left behind is killed."""
        assert self._process
        await self._process.wait()
        self.ready.clear()
        self.kill()
        return describe_end(self._process.returncode)

    async def stop(self) -> None:
        """Ask it to end and wait as long as its program says, then kill it."""
        process, program, copying = self._process, self._program, self._copying
        if process is None or program is None or process.returncode is not None:
            return
        self.stopped_by_us = True
        self.ready.clear()
        process.send_signal(program.stop_signal)
        try:
            await asyncio.wait_for(process.wait(), program.grace_s)
        except TimeoutError:
            self._output.line(self.name, f"did not stop within {program.grace_s:g} s: killed")
        kill_session(process)
        await _drain(process, copying)

    def kill(self) -> None:
        if self._process:
            kill_session(self._process)

    async def _becomes_ready(self, process: asyncio.subprocess.Process) -> bool:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while process.returncode is None and time.monotonic() < deadline:
            # Asked again afterwards: the answer may have been that of another process.
            if await asyncio.to_thread(self.service.ready) and process.returncode is None:
                return True
            await asyncio.sleep(PROBE_INTERVAL_S)
        return False


async def _drain(process: asyncio.subprocess.Process, copying: asyncio.Task[None] | None) -> None:
    """The last lines; not for ever, since a grandchild may hold the pipe open."""
    await process.wait()
    if copying:
        await asyncio.wait({copying}, timeout=_TAIL_TIMEOUT_S)


async def spawn(program: Program) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
    """The process, and what it prints.

    The pipe is ours: with asyncio's own, some versions of Python see the end of a process only when
    its last grandchild has closed that pipe."""
    readable, writable = os.pipe()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(readable, "rb", 0)
    )
    try:
        process = await asyncio.create_subprocess_exec(
            *program.command,
            env=program.env,
            cwd=program.cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=writable,
            stderr=writable,
            # The terminal's Ctrl-C reaches only the supervisor, which stops in order.
            start_new_session=True,
        )
    finally:
        os.close(writable)
    return process, reader


def kill_session(process: asyncio.subprocess.Process) -> None:
    """The process and what it left behind, such as an ffmpeg."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def describe_end(code: int | None) -> str:
    if code is not None and code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"ended with code {code}"
