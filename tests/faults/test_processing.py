"""What befalls the making of a file, row F36: no source byte is lost, nothing half made is seen."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Gate, short_folder
from tests.e2e.pictures import decoded
from tests.e2e.product import Up
from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.faults.test_disk import small_disk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")

SEGMENTS = 8
# A remux wants 64 MB to spare, so that a disk is full for it while there is still some room.
ENOUGH = "remount,rw,size=400m"


@dataclass
class House:
    up: Up
    disk: Path
    gate: Gate

    def mount(self, options: str) -> None:
        subprocess.run(["mount", "-o", options, str(self.disk)], check=True)

    def recorded(self, channel: FakeChannel) -> str:
        """A stream that is over, with its remux at the gate."""
        channel.online()
        recording_id = str(self.up.record(url=channel.url)["id"])
        self.up.wait_segments(recording_id, SEGMENTS)
        before = self.gate.runs
        channel.offline()
        self.up.wait_for(lambda: self.gate.runs > before, "at the gate", 60)
        return recording_id

    def parked(self, recording_id: str, channel: FakeChannel) -> dict[str, Any]:
        """It says why, has all it had, and shows nothing half made."""
        row = self.up.wait_status(recording_id, "needs_attention", timeout_s=90)
        assert self.up.parts(recording_id) == channel.content()
        assert (row["path"], self.films(recording_id)) == (None, [])
        return row

    def retried(self, row: dict[str, Any], channel: FakeChannel) -> None:
        answer = self.up.call("POST", f"/api/pipelines/{row['workflow_id']}/retry")
        assert answer.status_code in {200, 202}, answer.text
        self.finished(row["id"], channel)

    def finished(self, recording_id: str, channel: FakeChannel, timeout_s: float = 60) -> None:
        done = self.up.wait_status(recording_id, "completed", timeout_s=timeout_s)
        assert decoded(self.disk / done["path"]) == decoded(channel.content())
        assert self.films(recording_id) == [Path(done["path"]).name]

    def films(self, recording_id: str) -> list[str]:
        """Of its streamer; what is being written has a dot in front."""
        folder = self.disk / self.up.recording(recording_id)["streamer"]["name"]
        names = (path.name for path in folder.rglob("*.mp4") if ".streamvault" not in path.parts)
        return sorted(names)


@pytest.fixture
def house(own_up: Callable[..., Up]) -> Iterator[House]:
    with short_folder() as folder, small_disk(folder) as disk:
        gate = Gate(folder)
        up = own_up(RECORDINGS_DIR=str(disk), FFMPEG=str(gate.ffmpeg))
        up.library = disk
        house = House(up, disk, gate)
        house.mount(ENOUGH)
        yield house


@pytest.mark.timeout(400)
def test_whatever_befalls_a_remux_costs_nothing_and_a_retry_finishes_it(
    house: House, fake_twitch: FakeTwitch
) -> None:
    up, gate = house.up, house.gate
    orphaned, unwritable, crowded = (fake_twitch.channel() for _ in range(3))

    # The worker is killed while its ffmpeg runs: that one goes along with it.
    with gate.closed():
        first = house.recorded(orphaned)
        killed = up.kill("worker-control-processor")
        up.wait_for(lambda: not gate.is_running(), "ffmpeg gone", 20)
        up.wait_for(
            lambda: up.pids.get("worker-control-processor", killed) != killed, "restarted", 60
        )
    assert up.parts(first) == orphaned.content()
    assert house.films(first) == []

    # The library turns read-only in between.
    with gate.closed():
        second = house.recorded(unwritable)
        house.mount("remount,ro")
    row = house.parked(second, unwritable)
    assert "cannot be written" in row["reason"] or "Read-only" in row["reason"], row["reason"]
    house.mount(ENOUGH)
    house.retried(row, unwritable)

    # The disk fills up in between.
    with gate.closed():
        third = house.recorded(crowded)
        filler = house.disk / "filler"
        free = os.statvfs(house.disk)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - 100_000)
    row = house.parked(third, crowded)
    assert "room" in row["reason"] or "free" in row["reason"], row["reason"]
    filler.unlink()
    house.retried(row, crowded)

    # The first one is missed after two minutes without a heartbeat, and made again by itself.
    house.finished(first, orphaned, timeout_s=180)
