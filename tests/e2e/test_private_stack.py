"""`record` without a running `up`: one recording is asked for, and one is made."""

from __future__ import annotations

import signal
from collections.abc import Callable

from tests.e2e.product import Up
from tests.fake_twitch.client import FakeTwitch


def test_a_stack_for_one_recording_looks_for_no_others(
    fake_twitch: FakeTwitch, own_up: Callable[..., Up]
) -> None:
    followed, asked = fake_twitch.channel(), fake_twitch.channel()
    up = own_up()
    up.follow(followed.login)
    up.stop()
    followed.online()
    asked.online()
    command = up.command("record", f"https://www.twitch.tv/{asked.login}")
    up.wait_for(lambda: len(list(up.library.rglob("part-0001.ts"))) > 0, "recording", 60)
    asked.await_segments(6)
    command.send_signal(signal.SIGINT)
    assert command.wait(120) == 0
    streamers = {path.relative_to(up.library).parts[0] for path in up.library.rglob("*.mp4")}
    assert {name.lower() for name in streamers} == {asked.login}
    assert len(list(up.library.rglob(".streamvault/*"))) == 1
