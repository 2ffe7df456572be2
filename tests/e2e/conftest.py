from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from streamvault.media.ffmpeg import find_ffmpeg
from tests.e2e.product import Up, running_up
from tests.fake_twitch.client import FakeChannel, FakeTwitch

# Short graces and looks, so that a test sees in seconds what takes minutes at home.
QUICK = {
    "STREAMVAULT_END_GRACE_S": "2",
    "STREAMVAULT_POLL_INTERVAL_S": "1",
    "STREAMVAULT_ALLOWED_NETWORKS": "127.0.0.0/8",
}


class Gate:
    """A real ffmpeg behind a gate: its remuxes can be held up, or made to fail."""

    def __init__(self, folder: Path) -> None:
        self._hold, self._fail = folder / "hold", folder / "fail"
        self._runs = folder / "runs"
        self.ffmpeg = folder / "ffmpeg"
        self.ffmpeg.write_text(
            "#!/bin/sh\n"
            'case "$*" in *map_metadata*)\n'
            f'  echo $$ >> "{self._runs}"\n'
            f'  while [ -e "{self._hold}" ]; do sleep 0.1; done\n'
            f'  [ -e "{self._fail}" ] && {{ echo "no such luck" >&2; exit 1; }};;\n'
            "esac\n"
            f'exec "{find_ffmpeg().path}" "$@"\n'
        )
        self.ffmpeg.chmod(0o755)

    @property
    def runs(self) -> int:
        """Remuxes that have come here."""
        return len(self._pids())

    def is_running(self) -> bool:
        return any(Path(f"/proc/{pid}").exists() for pid in self._pids())

    def _pids(self) -> list[str]:
        return self._runs.read_text().split() if self._runs.exists() else []

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Remuxes wait."""
        self._hold.touch()
        try:
            yield
        finally:
            self._hold.unlink()

    @contextmanager
    def failing(self) -> Iterator[None]:
        self._fail.touch()
        try:
            yield
        finally:
            self._fail.unlink(missing_ok=True)


@contextmanager
def short_folder() -> Iterator[Path]:
    """A short path that PostgreSQL's own account can enter."""
    folder = Path(tempfile.mkdtemp(prefix="sv-e2e-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def gate() -> Iterator[Gate]:
    with short_folder() as folder:
        yield Gate(folder)


@pytest.fixture(scope="session")
def shared_up(fake_twitch: FakeTwitch, gate: Gate) -> Iterator[Up]:
    """One running product for the tests that do not break it."""
    env = fake_twitch.env | QUICK | {"STREAMVAULT_FFMPEG": str(gate.ffmpeg)}
    with short_folder() as folder, running_up(folder / "vault", env) as up:
        yield up


@pytest.fixture
def own_up(fake_twitch: FakeTwitch) -> Iterator[Callable[..., Up]]:
    """Starts a product of the test's own, with settings of its own."""
    with ExitStack() as stack:

        def start(**env: str) -> Up:
            folder = stack.enter_context(short_folder())
            settings = {f"STREAMVAULT_{name}": value for name, value in env.items()}
            started: AbstractContextManager[Up] = running_up(
                folder / "vault", fake_twitch.env | QUICK | settings
            )
            return stack.enter_context(started)

        yield start


@pytest.fixture
def channel(fake_twitch: FakeTwitch) -> Iterator[FakeChannel]:
    """A channel of the test's own, live since three segments."""
    channel = fake_twitch.channel(title="First title", category="Chess")
    channel.online()
    channel.await_segments(3)
    yield channel
    fake_twitch.clear_faults()
