"""One service in the background, for commands and tests that need no supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from streamvault.embedded.programs import Program
from streamvault.errors import DependencyUnavailable

READY_TIMEOUT_S = 60.0
PROBE_INTERVAL_S = 0.05


class Service(Protocol):
    """What can be started, probed and stopped. All of it may block."""

    @property
    def name(self) -> str: ...

    def prepare(self) -> None:
        """Whatever must exist before each start."""

    def program(self) -> Program: ...

    def ready(self) -> bool:
        """Whether it does its work; asked again and again, answers within seconds."""
        ...

    def failed(self, output: str) -> str:
        """A start ended early, having printed this; what was done about it, in words."""
        ...


class Background:
    """Start it in the main thread: the service dies with the thread that started it."""

    def __init__(self, service: Service, log: Path) -> None:
        self._service = service
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when the service is ready. Raises DependencyUnavailable with its last line."""
        self._service.prepare()
        program = self._service.program()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                program.command,
                env=program.env,
                cwd=program.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_ready(self._process)

    def stop(self) -> None:
        if self._process is None:
            return
        program = self._service.program()
        self._process.send_signal(program.stop_signal)
        try:
            self._process.wait(program.grace_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """`kill -9` for the process and everything it started in its session."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            # Asked again afterwards: the answer may have been that of another process.
            if self._service.ready() and process.poll() is None:
                return
            time.sleep(PROBE_INTERVAL_S)
        if process.poll() is None:
            self.kill()
        raise DependencyUnavailable(f"{self._service.name} did not start: {self._last_line()}")

    def _last_line(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return (
            lines[-1]
            if lines
            else f"it said nothing, exit code {self._process and self._process.returncode}"
        )
