"""Processes that are killed, stopped and replaced while streams are recorded: F1 to F6, F42, F46.

What a recording holds is compared with its source, byte for byte."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from tests.e2e.conftest import Gate
from tests.e2e.product import Up
from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.faults.accounts import account, recovery_s, table_line, wait_stored

RECORDER, CONTROL = "worker-recorder", "worker-control-processor"
SEED = 20261126
STREAMS = 4
VICTIMS = {RECORDER: 8, "temporal": 4, "postgres": 4, CONTROL: 2, "supervisor": 2}
"""Of each twenty kills."""
RESTARTS = 20
ADOPTED_S = 60
Note = Callable[[str, str], None]


@pytest.fixture
def up(own_up: Callable[..., Up], gate: Gate) -> Up:
    return own_up(FFMPEG=str(gate.ffmpeg))


def live(fake: FakeTwitch) -> FakeChannel:
    channel = fake.channel()
    channel.online()
    channel.await_segments(3)
    return channel


@pytest.mark.timeout(1800)
def test_twenty_kills_of_everything_cost_four_streams_nothing(
    up: Up, fake_twitch: FakeTwitch, gate: Gate, record_property: Note, kills: int
) -> None:
    channels = [live(fake_twitch) for _ in range(STREAMS)]
    ids = [str(up.record(url=channel.url)["id"]) for channel in channels]
    for recording_id in ids:
        wait_stored(up, recording_id, 4)
    chance = random.Random(SEED)
    twenty = [name for name, times in VICTIMS.items() for _ in range(times)]
    for name in chance.sample(twenty * (kills // 20), kills):
        time.sleep(chance.uniform(0.1, 2.0))
        _kill(up, name)
    for recording_id, channel in zip(ids, channels, strict=True):
        wait_stored(up, recording_id, channel.segments + 2)
    with gate.closed():
        for channel in channels:
            channel.offline()
        for recording_id, channel in zip(ids, channels, strict=True):
            up.wait_status(recording_id, "processing", timeout_s=120)
            found = account(up, recording_id, channel)
            record_property("fault", table_line("F1", f"{kills} kills of everything", found, 0))
            assert (found.lost, found.foreign_bytes, found.told_gap_s) == ((), 0, 0), found
    for recording_id in ids:
        up.wait_status(recording_id, "completed", timeout_s=120)
    assert len(up.get("/api/recordings?limit=50")["items"]) == STREAMS


@pytest.mark.timeout(1800)
def test_twenty_graceful_restarts_of_the_recorder_cost_nothing(
    up: Up, fake_twitch: FakeTwitch, gate: Gate, record_property: Note
) -> None:
    channel = live(fake_twitch)
    recording_id = str(up.record(url=channel.url)["id"])
    wait_stored(up, recording_id, 4)
    chance = random.Random(SEED)
    slowest_s = 0.0
    for _ in range(RESTARTS):
        time.sleep(chance.uniform(0.5, 2.0))
        began, recorder = time.monotonic(), up.pids[RECORDER]
        os.kill(recorder, signal.SIGTERM)
        _wait_back(up, RECORDER, recorder)
        wait_stored(up, recording_id, channel.segments)
        slowest_s = max(slowest_s, time.monotonic() - began)
    _finish(
        up, recording_id, channel, gate, record_property, "F46", "20 graceful restarts", slowest_s
    )


@pytest.mark.timeout(1800)
def test_what_stands_still_or_is_lost_costs_nothing(
    up: Up, fake_twitch: FakeTwitch, gate: Gate, record_property: Note, hang_s: int
) -> None:
    """In one recording, one after the other: a recorder that is stopped, Temporal that hangs for
    a while, PostgreSQL that does, and Temporal's store gone for good."""
    channel = live(fake_twitch)
    recording_id = str(up.record(url=channel.url)["id"])
    wait_stored(up, recording_id, 4)
    for row, words, play in (
        ("F3", "the recorder is stopped", _stop_recorder),
        ("F4", f"Temporal hangs for {hang_s} s", lambda up: _hang(up, "temporal", hang_s)),
        ("F6", "PostgreSQL hangs for 20 s", lambda up: _hang(up, "postgres", 20)),
        ("F5", "Temporal loses its store", lambda up: _lose_store(up, recording_id)),
    ):
        back_s = play(up) + recovery_s(up, recording_id, channel)
        totals = up.recording(recording_id)["totals"]
        lost, gap_s = totals["segments_lost"], totals["gap_s"]
        record_property(
            "fault",
            f"{row:5} {words:46} lost {lost:3}  gap {gap_s:.1f} s  back after {back_s:5.1f} s",
        )
        assert (lost, gap_s) == (0, 0), (row, totals)
    _finish(up, recording_id, channel, gate, record_property, "F3-F6", "after all of these", 0)
    assert len(up.get("/api/recordings?limit=50")["items"]) == 1


@pytest.mark.timeout(1800)
def test_two_recorders_on_one_queue_never_write_together(
    up: Up, fake_twitch: FakeTwitch, gate: Gate, record_property: Note
) -> None:
    channel = live(fake_twitch)
    recording_id = str(up.record(url=channel.url)["id"])
    wait_stored(up, recording_id, 4)
    chance = random.Random(SEED)
    with _second_recorder(up) as second:
        for _ in range(3):
            time.sleep(chance.uniform(1, 4))
            recorder = up.kill(RECORDER)
            _wait_back(up, RECORDER, recorder)
            wait_stored(up, recording_id, channel.segments)
            second()
            wait_stored(up, recording_id, channel.segments)
    wait_stored(up, recording_id, channel.segments + 2)
    with gate.closed():
        channel.offline()
        up.wait_status(recording_id, "processing", timeout_s=120)
        found = account(up, recording_id, channel)
        record_property("fault", table_line("F42", "two recorders, six kills", found, 0))
        # How long they hand it to and fro nobody promises; that they never write together is.
        assert found.is_honest, found
    up.wait_status(recording_id, "completed", timeout_s=120)


def _finish(
    up: Up, recording_id: str, channel: FakeChannel, gate: Gate, note: Note, row: str, words: str,
    back_s: float,
) -> None:  # fmt: skip
    wait_stored(up, recording_id, channel.segments + 2)
    with gate.closed():
        channel.offline()
        up.wait_status(recording_id, "processing", timeout_s=120)
        found = account(up, recording_id, channel)
        note("fault", table_line(row, words, found, back_s))
        assert (found.lost, found.foreign_bytes, found.told_gap_s) == ((), 0, 0), found
    up.wait_status(recording_id, "completed", timeout_s=120)


# ---- what is done to the processes


def _kill(up: Up, name: str) -> None:
    if name == "supervisor":
        assert up.process is not None
        up.process.kill()
        up.process.wait()
        up.start()
        return
    _wait_back(up, name, up.kill(name))


def _wait_back(up: Up, name: str, killed: int) -> None:
    def is_back() -> bool:
        running = up.running
        return bool(running["ready"]) and running["pids"].get(name, killed) != killed

    up.wait_for(is_back, f"{name} restarted", 60)


def _stop_recorder(up: Up) -> float:
    """As a debugger, or a machine that hangs, would: the supervisor has to notice."""
    recorder, began = up.pids[RECORDER], time.monotonic()
    os.kill(recorder, signal.SIGSTOP)
    _wait_back(up, RECORDER, recorder)
    return time.monotonic() - began


def _hang(up: Up, name: str, seconds: float) -> float:
    group = os.getpgid(up.pids[name])
    os.killpg(group, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.killpg(group, signal.SIGCONT)
    return 0.0


def _lose_store(up: Up, recording_id: str) -> float:
    workflow_id = str(up.recording(recording_id)["workflow_id"])
    for path in (up.data_dir / "temporal").glob("temporal.db*"):
        path.unlink()
    killed, began = up.kill("temporal"), time.monotonic()
    _wait_back(up, "temporal", killed)
    while not asyncio.run(_is_run(up, workflow_id)):
        assert time.monotonic() - began < 5 * ADOPTED_S, up.tail()
        time.sleep(0.5)
    return time.monotonic() - began


async def _is_run(up: Up, workflow_id: str) -> bool:
    client = await Client.connect(
        up.running["temporal_address"], namespace=up.running["temporal_namespace"]
    )
    try:
        found = await client.get_workflow_handle(workflow_id).describe()
    except RPCError:
        return False
    return found.status is WorkflowExecutionStatus.RUNNING


@contextmanager
def _second_recorder(up: Up) -> Iterator[Callable[[], None]]:
    """Another one on the same folders and queues; what it yields kills it and starts the next."""
    running = up.running

    def start() -> subprocess.Popen[str]:
        return up.command(
            "worker",
            "--role",
            "recorder",
            STREAMVAULT_DATABASE_URL=running["database_url"],
            STREAMVAULT_TEMPORAL_ADDRESS=running["temporal_address"],
        )

    process = start()

    def again() -> None:
        nonlocal process
        process.kill()
        process.wait()
        process = start()

    try:
        yield again
    finally:
        process.kill()
        process.wait()
