"""A disk that takes no more: nothing that is stored is torn, and the reason is said."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import short_folder
from tests.e2e.pictures import decoded
from tests.e2e.product import Up
from tests.fake_twitch.client import FakeTwitch

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")

# 16 MB stay free at the end of a recording, and a stream of 6 Mbit/s fills the rest in seconds.
DISK_MB = 28


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
    own_up: Callable[..., Up], fake_twitch: FakeTwitch
) -> None:
    with short_folder() as folder, small_disk(folder) as disk:
        up = own_up(RECORDINGS_DIR=str(disk))
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
        going_on = up.wait_segments(recording["id"], stored + 3)
        assert (going_on["status"], going_on["reason"]) == ("recording", "")
        channel.offline()
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


def _source(profile: str) -> dict[str, object]:
    return {"name": "360p30", "profile": profile, "source": True}
