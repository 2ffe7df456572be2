"""Starts the fake in a process of its own and talks to its control routes.

Calls are plain blocking ones to loopback, so that sync and async tests use them alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from tests.fake_twitch.client_services import ServicesClient
from tests.fake_twitch.client_words import Application, Started, Truth

ROOT = Path(__file__).parents[2]
READY_S = 60
"""The first start on a machine makes the pools."""


def shared_media_dir() -> Path:
    """Pools outlive a test run, since making them takes seconds."""
    return Path(tempfile.gettempdir()) / f"streamvault-fake-media-{os.getuid()}"


class FakeChannel:
    """A handle on one channel."""

    def __init__(self, fake: FakeTwitch, login: str, user_id: str) -> None:
        self.fake = fake
        self.user_id = user_id
        self._call_it(login)

    def _call_it(self, login: str) -> None:
        self.login = login
        self.url = f"https://www.twitch.tv/{login}"
        self.hls_url = f"{self.fake.plain}/hls/{login}.m3u8"
        self.master_url = f"{self.fake.plain}/hls/{login}/master.m3u8"
        self._path = f"/ctl/channels/{login}"

    def summary(self) -> dict[str, Any]:
        """Login, user_id, name, title, category, stream_id, segments and options."""
        summary: dict[str, Any] = self.fake.call("GET", self._path)
        return summary

    def change(self, **fields: Any) -> dict[str, Any]:
        """Title, category, category_id, name, description, language, tags, variants, `Options`."""
        summary: dict[str, Any] = self.fake.call("PUT", self._path, fields)
        return summary

    def act(self, action: str, **fields: Any) -> dict[str, Any]:
        summary: dict[str, Any] = self.fake.call("POST", f"{self._path}/{action}", fields)
        return summary

    def online(self, **options: Any) -> str:
        """Go live; answers the stream id."""
        return str(self.act("online", **options)["stream_id"])

    def offline(self, *, endlist: bool = True, linger_s: float = 30) -> None:
        self.act("offline", endlist=endlist, linger_s=linger_s)

    def rename(self, login: str) -> None:
        """The same account under another login; this handle goes with it."""
        self.act("rename", login=login)
        self._call_it(login)

    def remove(self) -> None:
        """The account is gone, and subscriptions to it are revoked."""
        self.act("remove")

    def announce(self, kind: str, /, **event: Any) -> None:
        """An EventSub event by itself, with these fields of it changed."""
        self.act("announce", kind=kind, event=event)

    def authorise(self, app: Application | None = None) -> None:
        """Subscriptions to this channel cost the application nothing."""
        self.fake.authorise(self.login, app=app)

    def unauthorise(self, app: Application | None = None) -> None:
        self.fake.unauthorise(self.login, app=app)

    def publish(self, count: int = 1) -> None:
        self.act("publish", count=count)

    def ad(self, segments: int, mark: str = "both") -> None:
        self.act("ad", segments=segments, mark=mark)

    def fault(self, target: str, kind: str, **fields: Any) -> int:
        """Add a fault for this channel alone; see `faults.Fault`."""
        return self.fake.fault(target, kind, channel=self.login, **fields)

    @property
    def segments(self) -> int:
        """How many are published."""
        return int(self.summary()["segments"])

    def truth(self, variant: str = "") -> list[Truth]:
        """Every published segment, ads included, oldest first."""
        rows = self.fake.call("GET", f"{self._path}/truth?variant={variant}")
        return [Truth(**row) for row in rows]

    def raw(self, number: int, variant: str = "") -> bytes:
        return self.fake.get(f"{self._path}/segments/{number}?variant={variant}").content

    def content(self, first: int = 0, end: int | None = None, variant: str = "") -> bytes:
        """The bytes of every content segment from `first` to `end` (exclusive), joined."""
        wanted = [t.number for t in self.truth(variant)[first:end] if not t.ad]
        return b"".join(self.raw(number, variant) for number in wanted)

    def await_segments(self, number: int, timeout_s: float = 60) -> None:
        """Blocks until that many are published."""
        deadline = time.monotonic() + timeout_s
        while self.segments < number:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.login} has {self.segments} segments, not {number}")
            time.sleep(0.05)


class FakeTwitch(ServicesClient):
    """The running fake. Use as a context manager, or `stop()` it."""

    def __init__(
        self,
        state_dir: Path,
        *arguments: str,
        media_dir: Path | None = None,
        inside: tuple[str, ...] = (),
    ) -> None:
        """`inside`: a command that runs it elsewhere, such as in a network of its own."""
        state_dir.mkdir(parents=True, exist_ok=True)
        self.state_dir = state_dir
        ready = state_dir / "ports.json"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.fake_twitch", "--state-dir", str(state_dir)]
        command += ["--port-file", str(ready), "--media-dir", str(media_dir or shared_media_dir())]
        self._log = (state_dir / "fake.log").open("wb")
        self.process = subprocess.Popen(
            [*inside, *command, *arguments], cwd=ROOT, stdout=self._log, stderr=self._log
        )
        addresses = self._await(ready)
        self.plain: str = addresses["plain"]
        self.tls: str = addresses["tls"]
        self.env: dict[str, str] = addresses["env"]
        self.proxy_url = self.env["STREAMVAULT_STREAM_PROXY"]
        self.ca_bundle = Path(self.env["STREAMVAULT_CA_BUNDLE"])
        self._client = httpx.Client(base_url=self.plain, timeout=30, trust_env=False)
        self._names = count(1)

    def __enter__(self) -> FakeTwitch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._client.close()
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()

    def channel(self, login: str = "", **fields: Any) -> FakeChannel:
        """A channel of its own for a test, unless a login is given; offline at first."""
        login = login or f"streamer{next(self._names)}"
        made = self.call("PUT", f"/ctl/channels/{login}", fields)
        return FakeChannel(self, login, made["user_id"])

    def channels(self, count: int, prefix: str = "many", **fields: Any) -> list[FakeChannel]:
        """Many at once: `prefix` and a number from 0 on."""
        body = {"count": count, "prefix": prefix, **fields}
        made = self.call("POST", "/ctl/bulk/channels", body)
        return [FakeChannel(self, login, user_id) for login, user_id in made.items()]

    def go_live(
        self, channels: Iterable[FakeChannel], *, over_s: float = 0, **options: Any
    ) -> list[Started]:
        """All of them, evenly spread over that time; answers when the last one is live."""
        body = {"logins": [c.login for c in channels], "over_s": over_s, **options}
        return [Started(**row) for row in self.call("POST", "/ctl/bulk/online", body)]

    def follow(self, login: str, channels: Iterable[FakeChannel]) -> None:
        """The user of that login follows these."""
        self.call("PUT", f"/ctl/follows/{login}", {"logins": [c.login for c in channels]})

    def unfollow(self, login: str, channels: Iterable[FakeChannel]) -> None:
        self.call("DELETE", f"/ctl/follows/{login}", {"logins": [c.login for c in channels]})

    def fault(self, target: str, kind: str, **fields: Any) -> int:
        answer = self.call("POST", "/ctl/faults", {"target": target, "kind": kind, **fields})
        return int(answer["id"])

    def clear_faults(self) -> None:
        self.call("DELETE", "/ctl/faults")

    @contextlib.contextmanager
    def proxy(self, *, mode: str = "ok", login: str = "") -> Iterator[None]:
        """The proxy in another mode for a while."""
        self.call("PUT", "/ctl/proxy", {"mode": mode, "login": login})
        try:
            yield
        finally:
            self.call("PUT", "/ctl/proxy", {"mode": "ok", "login": ""})

    def cut_connections(self) -> int:
        """End everything that is open through the proxy."""
        return int(self.call("PUT", "/ctl/proxy", {"cut": True})["cut"])

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.call("GET", "/ctl/state")
        return state

    def get(self, path: str) -> httpx.Response:
        answer = self._client.get(path)
        answer.raise_for_status()
        return answer

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._client.request(method, path, json=body)
        if answer.status_code == 400:
            raise ValueError(answer.json()["error"])
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def _await(self, ready: Path) -> dict[str, Any]:
        deadline = time.monotonic() + READY_S
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                log = Path(self._log.name).read_text()
                raise RuntimeError(f"the fake Twitch did not start: {log}")
            time.sleep(0.02)
        addresses: dict[str, Any] = json.loads(ready.read_text())
        return addresses
