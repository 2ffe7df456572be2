"""A throw-away StreamVault beside a fake Twitch: everything can be seen without an account."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from streamvault.embedded.ports import free_ports, is_free
from streamvault.embedded.programs import Program
from streamvault.embedded.stack import Stack
from streamvault.errors import InvalidInput
from streamvault.settings import PREFIX, Settings, load_settings

STREAMERS = ("ada", "bob")
PORT = 8080
_HTTP_TIMEOUT_S = 30
# The user's own settings stay out of it: a demo must not reach a real database or library.
_KEPT = {"FFMPEG", "POSTGRES_BIN_DIR", "TEMPORAL_BIN", "LOG_LEVEL", "LOG_FORMAT"}


class Demo:
    """The fake Twitch as a service, and the folder of it all, gone at the end.

    Raises InvalidInput outside a clone, since the fake is part of the tests."""

    name = "twitch"

    def __init__(self, root: Path) -> None:
        if not (root / "tests" / "fake_twitch").is_dir():
            raise InvalidInput("the demo runs from a clone of the project only")
        self._root = root

    def __enter__(self) -> Self:
        for name in [n for n in os.environ if n.startswith(PREFIX)]:
            if name.removeprefix(PREFIX) not in _KEPT:
                del os.environ[name]
        os.environ[f"{PREFIX}ENV_FILE"] = ""
        self._folder = Path(tempfile.mkdtemp(prefix="streamvault-demo-"))
        self._folder.chmod(0o711)
        self.data_dir = self._folder / "data"
        self._port_file = self._folder / "twitch.json"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def settings(self) -> Settings:
        port = PORT if is_free("127.0.0.1", PORT) else free_ports(1)[0]
        return load_settings(env_file=Path(os.devnull), data_dir=self.data_dir, port=port)

    def env(self) -> dict[str, str]:
        """What points StreamVault to the fake; known once it is ready."""
        found: dict[str, str] = self._addresses()["env"]
        # A person who looks around should not have to wait for the grace of an ended stream.
        return found | {f"{PREFIX}END_GRACE_S": "10"}

    def prepare(self) -> None:
        self._port_file.unlink(missing_ok=True)

    def program(self) -> Program:
        argv = [sys.executable, "-m", "tests.fake_twitch", "--state-dir", str(self._folder)]
        # A new title each minute, so that the recordings get chapters.
        argv += ["--port-file", str(self._port_file), "--retitle-s", "60"]
        for login in STREAMERS:
            argv += ["--live", login]
        return Program(tuple(argv), cwd=self._root)

    def ready(self) -> bool:
        return self._port_file.exists()

    def failed(self, output: str) -> str:
        return ""

    def begin(self, stack: Stack) -> str:
        """Follow the streamers and record them; what to look at, in words."""
        host = stack.api_url.removeprefix("http://")
        for login in STREAMERS:
            streamer = _post(host, "/api/streamers", {"login": login})
            _post(host, "/api/recordings", {"streamer_id": streamer["id"]})
        return (
            f"{' and '.join(STREAMERS)} are live and being recorded\n"
            f"{stack.greeting()}\n"
            f"recordings: {stack.api_url}/api/recordings\n"
            f"files: {self.data_dir / 'recordings'}, removed at the end\n"
            f"the fake Twitch: {self._addresses()['plain']}/ctl/state"
        )

    def _addresses(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._port_file.read_text())
        return found


def _post(host: str, path: str, body: dict[str, str]) -> dict[str, Any]:
    """Raises InvalidInput with the API's own words."""
    connection = http.client.HTTPConnection(host, timeout=_HTTP_TIMEOUT_S)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if answer.status >= http.HTTPStatus.BAD_REQUEST:
        raise InvalidInput(f"the API refused {path}: {text}")
    found: dict[str, Any] = json.loads(text)
    return found
