"""A new user's first minutes: a fresh clone, an empty home, no caches, `./sv up`, one recording."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import QUICK, short_folder
from tests.e2e.pictures import decoded
from tests.e2e.product import ROOT, Up
from tests.fake_twitch.client import FakeTwitch

SET_UP_S = 400
NOBODY = 65534


@dataclass(frozen=True)
class User:
    uid: int
    python: str

    @property
    def prefix(self) -> tuple[str, ...]:
        if self.uid == os.getuid():
            return ()
        return ("setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups")


def root() -> User:
    return User(os.getuid(), sys.executable)


def nobody() -> User:
    """An ordinary user, with the system's Python, since ours may lie in a closed folder."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    python = "/usr/bin/python3"
    asks = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
    if subprocess.run([python, "-c", asks], capture_output=True).returncode:
        pytest.skip("the system's Python is too old or cannot make environments")
    return User(NOBODY, python)


@pytest.mark.timeout(SET_UP_S + 200)
@pytest.mark.parametrize("who", [root, nobody], ids=["this user", "an ordinary user"])
def test_from_a_fresh_clone_to_a_recording(
    who, fake_twitch: FakeTwitch, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    user = who()
    with short_folder() as folder:
        clone, home = folder / "clone", folder / "home"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        home.mkdir()
        ca = shutil.copy(fake_twitch.env["STREAMVAULT_CA_BUNDLE"], folder / "ca.pem")
        ca.chmod(0o644)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user.uid, user.uid, follow_symlinks=False)
        settings = fake_twitch.env | QUICK | {"STREAMVAULT_CA_BUNDLE": str(ca)}
        home_settings = {"HOME": str(home), "UV_CACHE_DIR": str(home / "cache")}
        command = (*user.prefix, user.python, str(clone / "sv"))
        up = Up(home / "vault", settings | home_settings, command)
        began = time.monotonic()
        try:
            up.start(SET_UP_S)
            ready_s = time.monotonic() - began
            channel = fake_twitch.channel()
            channel.online()
            recording = up.record(url=channel.url)
            up.wait_segments(recording["id"], 5)
            up.ask(recording, "stop")
            done = up.wait_status(recording["id"], "completed")
            stored = done["totals"]["segments_stored"]
            assert decoded(up.library / done["path"]) == decoded(channel.content(0, stored))
            assert up.stop() == 0
        finally:
            if up.process and up.process.poll() is None:
                up.process.kill()
        with capsys.disabled():
            print(f"\nfresh clone, uid {user.uid}: ready after {ready_s:.0f} s")
        _check_nothing_was_widened(home)


def _check_nothing_was_widened(home: Path) -> None:
    """No set-up step changes the permissions of what lies above it."""
    assert home.parent.stat().st_mode & 0o777 == 0o711
