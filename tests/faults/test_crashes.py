"""SIGKILL for every process while a stream is recorded: the parts stay the source's bytes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import Gate
from tests.e2e.pictures import decoded
from tests.e2e.product import Up
from tests.fake_twitch.client import FakeChannel

RECORDER = "worker-recorder"


@pytest.fixture
def up(own_up: Callable[..., Up], gate: Gate) -> Up:
    return own_up(FFMPEG=str(gate.ffmpeg))


@pytest.mark.timeout(600)
def test_a_kill_of_every_other_process_leaves_the_recording_alone(
    up: Up, channel: FakeChannel, gate: Gate
) -> None:
    recording = up.record(url=channel.url)
    for name in ("postgres", "temporal", "api"):
        so_far = up.wait_segments(recording["id"], 1)["totals"]["segments_stored"]
        recorder = up.pids[RECORDER]
        killed = up.kill(name)
        up.wait_for(lambda n=name, k=killed: _is_back(up, n, k), f"{name} restarted", 60)
        up.wait_segments(recording["id"], so_far + 3)
        assert up.pids[RECORDER] == recorder
    _finish_and_compare(up, recording, channel, gate)
    done = up.recording(recording["id"])
    assert done["totals"]["restarts"] == 0
    attempts = {step["name"]: step["attempt"] for step in done["steps"]}
    assert attempts["record"] == 1


@pytest.mark.timeout(600)
def test_a_killed_supervisor_leaves_nothing_behind_and_the_next_one_goes_on(
    up: Up, channel: FakeChannel, gate: Gate, record_property: Callable[[str, str], None]
) -> None:
    recording = up.record(url=channel.url)
    up.wait_segments(recording["id"], 4)
    children = up.pids
    assert up.process is not None
    up.process.send_signal(signal.SIGKILL)
    up.process.wait()
    up.wait_for(lambda: not any(_is_alive(pid) for pid in children.values()), "no orphans", 10)
    up.start()
    up.wait_segments(recording["id"], 10)
    _finish_and_compare(up, recording, channel, gate)
    words = "the supervisor is killed, the rest survives"
    record_property(
        "fault", f"F2    {words:46} lost   0  no orphan, one writer, bytes as the source's"
    )


def _finish_and_compare(
    up: Up, recording: dict[str, Any], channel: FakeChannel, gate: Gate
) -> None:
    """End the stream; the parts are the source's bytes, and so are the pictures of the file."""
    so_far = up.wait_segments(recording["id"], 1)["totals"]["segments_stored"]
    up.wait_segments(recording["id"], so_far + 2)
    with gate.closed():
        channel.offline()
        ended = up.wait_status(recording["id"], "processing")
        assert (ended["totals"]["segments_lost"], ended["gaps"]) == (0, [])
        assert up.parts(recording["id"]) == channel.content()
    done = up.wait_status(recording["id"], "completed", timeout_s=150)
    assert decoded(up.library / done["path"]) == decoded(channel.content())


def _is_back(up: Up, name: str, killed: int) -> bool:
    running = up.running
    return bool(running["ready"]) and running["pids"].get(name, killed) != killed


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
