"""The whole product as a user runs it: `up` in a process of its own, seen through its doors."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx

ROOT = Path(__file__).parents[2]
OWN_COMMAND = (sys.executable, str(ROOT / "cli.py"))
READY_S = 60
STOP_S = 60


class Up:
    """`up` on a data folder of its own. It can be killed and started again."""

    def __init__(
        self, data_dir: Path, env: dict[str, str], command: tuple[str, ...] = OWN_COMMAND
    ) -> None:
        self._command = command
        self.data_dir = data_dir
        self.library = data_dir / "recordings"
        self.log = data_dir.with_suffix(".log")
        self._env = clean_env() | {"STREAMVAULT_DATA_DIR": str(data_dir), "STREAMVAULT_PORT": "0"}
        self._env |= env
        self.process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(trust_env=False, timeout=30)

    def start(self, ready_s: float = READY_S) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._command, "up"], env=self._env, stdout=log, stderr=log
            )
        self.wait_for(lambda: self.is_ready, "ready", ready_s)

    @property
    def is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"`up` ended with {self.process.returncode}:\n{self.tail()}")
        try:
            running = self.running
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        return bool(running["ready"]) and running["pid"] == self.process.pid

    @property
    def running(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data_dir / "run.json").read_text())
        return found

    @property
    def pids(self) -> dict[str, int]:
        pids: dict[str, int] = self.running["pids"]
        return pids

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_S)

    def kill(self, name: str) -> int:
        """SIGKILL one of the supervised processes; its pid."""
        pid = self.pids[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    def command(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """Another verb on the same data folder."""
        return subprocess.Popen(
            [*self._command, *arguments],
            env=self._env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    # ---- through the API

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        return self.http.request(method, self.running["api"] + path, json=body)

    def get(self, path: str) -> dict[str, Any]:
        answer = self.call("GET", path)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        found: dict[str, Any] = answer.json()
        return found

    def follow(self, login: str, quality: str = "best") -> str:
        answer = self.call("POST", "/api/streamers", {"login": login, "quality": quality})
        assert answer.status_code in {200, 201}, answer.text
        return str(answer.json()["id"])

    def record(self, **body: str) -> dict[str, Any]:
        answer = self.call("POST", "/api/recordings", dict(body))
        assert answer.status_code in {200, 201}, answer.text
        started: dict[str, Any] = answer.json()
        return started

    def ask(self, recording: dict[str, Any], what: str) -> None:
        """`stop` or `restart`."""
        answer = self.call("POST", f"/api/recordings/{recording['id']}/{what}")
        assert answer.status_code == 202, answer.text

    def recording(self, recording_id: str) -> dict[str, Any]:
        return self.get(f"/api/recordings/{recording_id}")

    def wait_status(self, recording_id: str, *wanted: str, timeout_s: float = 90) -> dict[str, Any]:
        return self.wait_recording(
            recording_id, lambda r: r["status"] in wanted, " or ".join(wanted), timeout_s
        )

    def wait_recording(
        self,
        recording_id: str,
        until: Callable[[dict[str, Any]], bool],
        what: str,
        timeout_s: float = 90,
    ) -> dict[str, Any]:
        """Poll until it is so; a failure shows the recording and the log."""
        deadline = time.monotonic() + timeout_s
        seen: dict[str, Any] = {}
        while time.monotonic() < deadline:
            try:
                seen = self.recording(recording_id)
            except (httpx.HTTPError, AssertionError, FileNotFoundError):
                time.sleep(0.2)  # a process is just being restarted
                continue
            if until(seen):
                return seen
            time.sleep(0.1)
        raise AssertionError(f"not {what} within {timeout_s} s:\n{seen}\n{self.tail()}")

    def wait_segments(self, recording_id: str, count: int, timeout_s: float = 90) -> dict[str, Any]:
        return self.wait_recording(
            recording_id,
            lambda r: (r["totals"] or {}).get("segments_stored", 0) >= count,
            f"{count} segments",
            timeout_s,
        )

    def wait_unplayable(self, recording_id: str) -> None:
        """Until the parts are gone: not by asking for the playlist, which is one more viewer."""
        self.wait_for(lambda: not self.recording(recording_id)["playable"]["hls"], "gone", 60)

    def wait_for(self, done: Callable[[], bool], what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline:
                raise AssertionError(f"not {what} within {timeout_s} s:\n{self.tail()}")
            time.sleep(0.05)

    def forget_viewers(self, recording_id: str) -> None:
        """As if whoever played the parts had gone two minutes ago."""
        statement = "UPDATE recordings SET watched_at = now() - interval '2 minutes' WHERE id = $1"
        asyncio.run(self._execute(statement, recording_id))

    def forget(self, recording_id: str) -> None:
        """As if the database had lost it."""
        asyncio.run(self._execute("DELETE FROM recordings WHERE id = $1", recording_id))

    async def _execute(self, statement: str, *values: object) -> None:
        url = self.running["database_url"].replace("postgresql+asyncpg", "postgresql")
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statement, *values)
        finally:
            await connection.close()

    def parts(self, recording_id: str) -> bytes:
        """Every part in order, as it lies on the disk."""
        (folder,) = self.library.rglob(f".streamvault/{recording_id}")
        return b"".join(path.read_bytes() for path in sorted(folder.glob("part-*.ts")))

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def running_up(data_dir: Path, env: dict[str, str]) -> AbstractContextManager[Up]:
    return stopped_afterwards(Up(data_dir, env))


@contextmanager
def stopped_afterwards(up: Up) -> Iterator[Up]:
    up.start()
    try:
        yield up
    finally:
        up.http.close()
        assert up.process is not None
        if up.process.poll() is None:
            up.process.send_signal(signal.SIGTERM)
            up.process.wait(STOP_S)


def clean_env() -> dict[str, str]:
    """Without settings of the machine the tests run on."""
    return {k: v for k, v in os.environ.items() if not k.startswith("STREAMVAULT_")}
