"""The untouched streamlink is the independent reader of what the fake serves."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.fake_twitch.frames import expected_numbers, frame_numbers
from tests.tests_of_the_fake.conftest import until


async def record(fake: FakeTwitch, channel: FakeChannel, target: Path, *options: str) -> str:
    """Runs the command line until the stream ends, which goes on once it is there; its log."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "streamlink", "--no-config", "--http-proxy", fake.proxy_url),
        *("--hls-live-restart", "--stream-segmented-queue-deadline", "30"),
        *options,
        *("-o", str(target), channel.url, "best"),
        env={**os.environ, "REQUESTS_CA_BUNDLE": str(fake.ca_bundle)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    reading = asyncio.create_task(process.communicate())
    # However long it takes to start, nothing leaves the window meanwhile.
    await until(lambda: reading.done() or has_joined(fake, channel), "it joins")
    channel.change(speed=4)
    out, _ = await reading
    assert process.returncode == 0, out.decode()
    return out.decode()


def has_joined(fake: FakeTwitch, channel: FakeChannel) -> bool:
    return any(f"/{channel.login}.m3u8" in call.path for call in fake.calls("usher"))


async def test_what_streamlink_records_is_what_was_published(
    fake_twitch: FakeTwitch, tmp_path: Path
) -> None:
    channel = fake_twitch.channel()
    channel.online(speed=0, length=16)
    target = tmp_path / "recorded.ts"
    log = await record(fake_twitch, channel, target)

    assert "Found matching plugin twitch" in log
    assert target.read_bytes() == channel.content()
    assert frame_numbers(target) == expected_numbers(channel.truth()[0].first_frame, 16 * 30)


async def test_streamlink_sees_the_ads_and_leaves_them_out(
    fake_twitch: FakeTwitch, tmp_path: Path
) -> None:
    channel = fake_twitch.channel()
    channel.online(backlog=4, speed=0, length=16)
    channel.ad(3)
    target = tmp_path / "recorded.ts"
    log = await record(fake_twitch, channel, target)

    assert sum(segment.ad for segment in channel.truth()) == 3
    assert "Detected advertisement break of 3 seconds" in log
    assert target.read_bytes() == channel.content()
