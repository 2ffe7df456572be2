"""The proxy and the process itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.fake_twitch.client import ROOT, FakeTwitch, shared_media_dir


def test_the_proxy_knows_twitch_alone(viewer: httpx.Client) -> None:
    with pytest.raises(httpx.ProxyError, match="502"):
        viewer.get("https://www.example.org/")


def test_the_proxy_serves_plain_http_too(fake_twitch: FakeTwitch) -> None:
    channel = fake_twitch.channel(speed=0)
    channel.online()
    with httpx.Client(proxy=fake_twitch.proxy_url, trust_env=False) as client:
        assert client.get(channel.hls_url).text.startswith("#EXTM3U")


def test_a_proxy_that_refuses_or_wants_a_password(
    fake_twitch: FakeTwitch,
) -> None:
    def fails(proxy: str) -> bool:
        with (
            httpx.Client(proxy=proxy, verify=False, trust_env=False) as client,
            suppress(httpx.ProxyError),
        ):
            client.get("https://usher.ttvnw.net/")
            return False
        return True

    with fake_twitch.proxy(mode="refuse"):
        assert fails(fake_twitch.proxy_url)
    with fake_twitch.proxy(login="me:secret"):
        assert fails(fake_twitch.proxy_url)
        assert not fails(fake_twitch.proxy_url.replace("//", "//me:secret@"))
    assert not fails(fake_twitch.proxy_url)


def test_the_fake_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.fake_twitch.client import FakeTwitch\n"
        f"fake = FakeTwitch(Path({str(tmp_path)!r}), media_dir=Path({str(shared_media_dir())!r}))\n"
        "print(fake.process.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    fake = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    with suppress(psutil.NoSuchProcess):
        fake.wait(timeout=20)
    assert not fake.is_running()


def test_channels_can_be_live_from_the_start(tmp_path: Path) -> None:
    with FakeTwitch(tmp_path, "--live", "ada", "--live", "bob", "--profile", "180p") as fake:
        channels = fake.state()["channels"]
        assert {login for login, about in channels.items() if about["stream_id"]} == {"ada", "bob"}
