"""One service in the background, for commands and tests that need no supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Protocol, Self

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
            born = log.tell()
            self._process = subprocess.Popen(
                program.command,
                env=program.env,
                cwd=program.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if not self._becomes_ready(self._process):
            self.kill()
            self._explain(self._log.read_bytes()[born:].decode(errors="replace").strip())

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
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
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

    def _becomes_ready(self, process: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            # Asked again afterwards: the answer may have been that of another process.
            if self._service.ready() and process.poll() is None:
                return True
            time.sleep(PROBE_INTERVAL_S)
        return False

    def _explain(self, output: str) -> NoReturn:
        assert self._process is not None
        last = output.splitlines()[-1] if output else f"exit code {self._process.returncode}"
        raise DependencyUnavailable(
            f"{self._service.name} did not start: {last}", hint=self._service.failed(output)
        )
