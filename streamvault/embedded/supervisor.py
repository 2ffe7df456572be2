"""Start in order, keep alive, stop in order: the one process behind `up`.

It imports neither the database's nor Temporal's client: it lives as long as they do, and small.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from streamvault.embedded.background import Service
from streamvault.embedded.child import Child, NotReady, describe_end, kill_session, spawn
from streamvault.embedded.output import Output
from streamvault.embedded.programs import Program
from streamvault.errors import StreamVaultError

BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
# One that had become ready did its work, and each second of a recorder's absence is one less of the
# 30 s that a live playlist lists.
MAX_BACKOFF_AFTER_READY_S = 2.0
STEADY_S = 60.0  # a life this long means that the last fault is over
FIRST_TRIES = 5  # until the stack was ready once, a person waits for an answer
BEAT_LOOK_S = 2.0
HUNG_LOOKS = 8
"""So many looks at a child without a beat, and it hangs. Looks are counted, not seconds: when all
of us stood still, as a laptop does, nobody is to blame."""
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ME = "streamvault"


def no_job() -> Program | None:
    return None


@dataclass(frozen=True)
class Stage:
    """Services that start side by side once every earlier stage is ready and the job is done."""

    services: Sequence[Service]
    job: Callable[[], Program | None] = no_job


@dataclass(frozen=True)
class State:
    """What others may know of the children; `generation` counts completed restarts."""

    pids: dict[str, int]
    ready: bool
    generation: int


class Supervisor:
    """SIGINT, SIGTERM and SIGHUP stop it, SIGUSR1 restarts the last stage with the code on disk."""

    def __init__(
        self,
        stages: Sequence[Stage],
        changed: Callable[[State], None],
        beat_look_s: float = BEAT_LOOK_S,
    ) -> None:
        names = [service.name for stage in stages for service in stage.services]
        self._output = Output([_ME, *names])
        self._stages = stages
        self._children = [[Child(s, self._output) for s in stage.services] for stage in stages]
        self._keeping: dict[Child, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._changed = changed
        self._beat_look_s = beat_look_s
        self._stopping = asyncio.Event()
        self._restarting = False
        self._ready = False
        self._generation = 1

    async def run(self, greeting: Callable[[], str]) -> None:
        """Returns after an ordered stop. Raises SettingsError or NotReady when it cannot start."""
        self._listen_to_signals()
        try:
            await self._until_stopped(self._start_all())
            if not self._stopping.is_set():
                self._ready = True
                self._note_change()
                self._say(await asyncio.to_thread(greeting))
                await self._until_stopped(self._watch())
        finally:
            await self._stop_all()
            self._output.close()

    def _say(self, text: str) -> None:
        for line in text.splitlines():
            self._output.line(_ME, line)

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self._ask_to_stop)
        loop.add_signal_handler(signal.SIGUSR1, self._ask_to_restart)

    @property
    def _all(self) -> list[Child]:
        return [child for stage in self._children for child in stage]

    # ---- start and keep

    async def _start_all(self) -> None:
        for stage, children in zip(self._stages, self._children, strict=True):
            await self._run_job(stage)
            for child in children:
                self._keeping[child] = asyncio.create_task(self._keep(child))
            await self._until_ready(children)

    async def _until_ready(self, children: list[Child]) -> None:
        keeping = [self._keeping[child] for child in children]
        for child in children:
            ready = asyncio.create_task(child.ready.wait())
            await asyncio.wait({ready, *keeping}, return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            for task in keeping:
                if task.done():
                    await task

    async def _keep(self, child: Child) -> None:
        """Start, wait for the end, start again. Raises what ends the very first start."""
        pause, failures = BACKOFF_S, 0
        while True:
            born, longest = time.monotonic(), MAX_BACKOFF_S
            try:
                await child.start()
                failures, longest = 0, MAX_BACKOFF_AFTER_READY_S
                self._note_change()
                self._renew_outdated()
                said = await child.end()
            except StreamVaultError as error:
                failures += 1
                said = error.one_line
                if not self._ready and (error.permanent or failures >= FIRST_TRIES):
                    raise
            if child.stopped_by_us:
                continue
            if time.monotonic() - born > STEADY_S:
                pause = BACKOFF_S
            pause = min(pause, longest)
            self._output.line(child.name, f"{said}; starts again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_BACKOFF_S)

    async def _run_job(self, stage: Stage) -> None:
        program = await asyncio.to_thread(stage.job)
        if program is None:
            return
        tail: deque[str] = deque(maxlen=1)
        process, printed = await spawn(program)
        try:
            await self._output.copy(_ME, printed, tail)
            code = await process.wait()
        finally:
            kill_session(process)
        if code:
            raise NotReady(tail[-1] if tail else describe_end(code))

    async def _watch(self) -> None:
        await asyncio.gather(*self._keeping.values(), self._end_the_hung())

    async def _end_the_hung(self) -> None:
        while True:
            await asyncio.sleep(self._beat_look_s)
            for child in self._all:
                if child.looks_without_beat() >= HUNG_LOOKS:
                    self._output.line(child.name, "hangs: killed")
                    child.kill()

    def _renew_outdated(self) -> None:
        for child in self._all:
            if child.ready.is_set() and child.outdated:
                self._output.line(child.name, "starts again, since an address changed")
                self._in_background(child.stop())

    def _note_change(self) -> None:
        pids = {child.name: child.pid for child in self._all if child.pid}
        self._changed(State(pids, self._ready, self._generation))

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # ---- restart

    def _ask_to_restart(self) -> None:
        if self._ready and not self._restarting:
            self._restarting = True
            self._in_background(self._restart())

    async def _restart(self) -> None:
        """One after another, so that something always answers; the servers stay."""
        self._say("restarting")
        try:
            await self._run_job(self._stages[-1])
            for child in self._children[-1]:
                await child.stop()
                await child.ready.wait()
            self._generation += 1
            self._note_change()
            self._say("restarted")
        except NotReady as error:
            self._say(f"not restarted: {error.one_line}")
        finally:
            self._restarting = False

    # ---- stop

    def _ask_to_stop(self) -> None:
        if self._stopping.is_set():
            self._say("killing")
            for child in self._all:
                child.kill()
            return
        self._say("stopping; once more kills")
        self._stopping.set()

    async def _until_stopped(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            await task
        task.cancel()

    async def _stop_all(self) -> None:
        """In reverse. The tasks end first, or they would start again what stops here."""
        tasks = [*self._background, *self._keeping.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for stage in reversed(self._children):
            await asyncio.gather(*(child.stop() for child in stage))
