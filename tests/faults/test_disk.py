"""Disks that are full, read-only, broken or slow: rows F30 to F32.

Nothing that is stored is torn, the reason is said, and what is mended is gone on with by itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.conftest import Gate, short_folder
from tests.e2e.pictures import decoded
from tests.e2e.product import Up
from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.faults.accounts import account, recovery_s, table_line, wait_stored

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")

# 16 MB stay free at the end of a recording, and a stream of 6 Mbit/s fills the rest in seconds.
DISK_MB = 28


Note = Callable[[str, str], None]
WRITES = "pwritev,pwritev2,pwrite64"
SYNCS = "fdatasync,fsync"


@contextmanager
def injected(pid: int, calls: str, how: str) -> Iterator[None]:
    """While it lasts, these system calls of a process fail or are slow (strace(1), tampering)."""
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid)]
    command += ["-e", f"trace={calls}", "-e", f"inject={calls}:{how}"]
    tracer = subprocess.Popen(command)
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGTERM)
        tracer.wait(30)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=0755", "tmpfs", str(disk)], check=True
    )
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.timeout(400)
def test_a_full_disk_parks_the_recording_and_room_lets_it_go_on(
    own_up: Callable[..., Up], fake_twitch: FakeTwitch, gate: Gate, record_property: Note
) -> None:
    with short_folder() as folder, small_disk(folder) as disk:
        up = own_up(RECORDINGS_DIR=str(disk), FFMPEG=str(gate.ffmpeg))
        up.library = disk
        channel = fake_twitch.channel(variants=[_source("6mbit")])
        channel.online()
        recording = up.record(url=channel.url)
        parked = up.wait_status(recording["id"], "needs_attention", timeout_s=90)
        assert "free" in parked["reason"] or "full" in parked["reason"], parked["reason"]
        stored = parked["totals"]["segments_stored"]
        assert up.parts(recording["id"]) == channel.content(0, stored)

        subprocess.run(["mount", "-o", "remount,size=400m", str(disk)], check=True)
        # Nobody has to say so.
        back_s = recovery_s(up, recording["id"], channel)
        going_on = up.wait_segments(recording["id"], stored + 3)
        # Half an hour of it would not fit.
        assert (going_on["status"], "little room" in going_on["reason"]) == ("recording", True)
        with gate.closed():
            channel.offline()
            up.wait_status(recording["id"], "processing")
            found = account(up, recording["id"], channel)
        assert found.is_honest
        record_property(
            "fault", table_line("F30", "the disk is full, and is given room", found, back_s)
        )
        done = up.wait_status(recording["id"], "completed")
        lost = done["totals"]["segments_lost"]
        assert done["totals"]["segments_stored"] + lost == channel.segments
        assert [gap["cause"] for gap in done["gaps"]] == (["disk"] if lost else [])


@pytest.mark.timeout(300)
def test_with_a_second_library_a_full_disk_stops_nothing(
    own_up: Callable[..., Up], fake_twitch: FakeTwitch
) -> None:
    with short_folder() as folder, small_disk(folder) as disk:
        second = folder / "second"
        second.mkdir()
        up = own_up(RECORDINGS_DIR=str(disk), RECORDINGS_DIR_2=str(second))
        up.library = disk
        channel = fake_twitch.channel(variants=[_source("6mbit")])
        channel.online()
        recording_id = str(up.record(url=channel.url)["id"])
        up.wait_for(lambda: any(second.rglob("part-0002.ts")), "spilt", 60)
        so_far = up.recording(recording_id)["totals"]["segments_stored"]
        up.wait_segments(recording_id, so_far + 9)
        assert up.recording(recording_id)["status"] == "recording"
        # It plays across both disks.
        listed = up.call("GET", f"/api/recordings/{recording_id}/playlist.m3u8").text
        names = dict.fromkeys(line for line in listed.splitlines() if line.startswith("parts/"))
        assert list(names) == ["parts/part-0001.ts", "parts/part-0002.ts"]
        for name in names:
            assert up.call("GET", f"/api/recordings/{recording_id}/{name}").status_code == 200
        # And goes on there after a crash.
        killed = up.kill("worker-recorder")
        up.wait_for(lambda: up.pids.get("worker-recorder", killed) != killed, "restarted", 60)
        so_far = up.recording(recording_id)["totals"]["segments_stored"]
        up.wait_segments(recording_id, so_far + 4)
        channel.offline()
        done = up.wait_status(recording_id, "completed", timeout_s=150)
        assert (done["totals"]["segments_lost"], done["gaps"]) == (0, [])
        # The file is where it finds room.
        assert decoded(second / done["path"]) == decoded(channel.content())
        assert up.call("GET", f"/api/recordings/{recording_id}/media").status_code == 200


@pytest.mark.timeout(300)
def test_a_read_only_library_says_so_and_records_nothing(
    own_up: Callable[..., Up], fake_twitch: FakeTwitch
) -> None:
    with short_folder() as folder, small_disk(folder) as disk:
        up = own_up(RECORDINGS_DIR=str(disk))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        channel = fake_twitch.channel()
        channel.online()
        recording = up.record(url=channel.url)
        parked = up.wait_status(recording["id"], "needs_attention", timeout_s=60)
        assert "read-only" in parked["reason"].lower(), parked["reason"]
        command = up.command("record", channel.url)
        _, err = command.communicate(timeout=60)
        assert command.returncode == 1
        assert "read-only" in err.lower()

        # Mended, it records by itself.
        subprocess.run(["mount", "-o", "remount,rw,size=400m", str(disk)], check=True)
        up.wait_segments(recording["id"], 3)
        up.ask(recording, "stop")
        done = up.wait_status(recording["id"], "completed")
        assert decoded(disk / done["path"])["video"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.timeout(300)
def test_a_broken_or_a_slow_disk_costs_nothing_and_is_named(
    own_up: Callable[..., Up], channel: FakeChannel, gate: Gate, record_property: Note
) -> None:
    up = own_up(FFMPEG=str(gate.ffmpeg))
    recording = up.record(url=channel.url)
    recording_id = str(recording["id"])
    wait_stored(up, recording_id, 5)
    recorder = up.pids["worker-recorder"]

    with injected(recorder, SYNCS, "delay_enter=2000000"):
        wait_stored(up, recording_id, channel.segments + 8)
    slow_sync_s = recovery_s(up, recording_id, channel)
    with injected(recorder, WRITES, "delay_enter=4000000"):
        time.sleep(20)
    slow_s = recovery_s(up, recording_id, channel)
    assert up.recording(recording_id)["totals"]["segments_lost"] == 0

    with injected(recorder, WRITES, "error=EIO"):
        parked = up.wait_status(recording_id, "needs_attention", timeout_s=60)
        assert "Input/output error" in parked["reason"]
        assert up.get("/api/health")["status"] == "degraded"
    broken_s = recovery_s(up, recording_id, channel)
    with gate.closed():
        channel.offline()
        up.wait_status(recording_id, "processing")
        found = account(up, recording_id, channel)
    note = partial(record_property, "fault")
    note(table_line("F31", "EIO of every write, until it is parked", found, broken_s))
    note(table_line("F32", "each sync takes 2 s", found, slow_sync_s))
    note(table_line("F32", "each write takes 4 s, for 20 s", found, slow_s))
    assert found.is_honest
    assert found.lost == ()
    up.wait_status(recording_id, "completed", timeout_s=120)


def _source(profile: str) -> dict[str, object]:
    return {"name": "360p30", "profile": profile, "source": True}
