"""A finished recording goes to another disk, and is the same there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.e2e.pictures import decoded
from tests.e2e.product import Up
from tests.e2e.test_containers import verified
from tests.fake_twitch.client import FakeChannel


def test_a_recording_moves_to_another_disk(own_up: Callable[..., Up], channel: FakeChannel) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="streamvault-test-") as folder:
        up = own_up(RECORDINGS_DIR_2=folder)
        recording_id = str(up.record(url=channel.url)["id"])
        up.wait_segments(recording_id, 5)
        channel.offline()
        done = up.wait_status(recording_id, "completed")
        up.wait_recording(recording_id, lambda r: not r["playable"]["hls"], "only the file")
        where = f"/api/recordings/{recording_id}"
        before = {name: up.call("GET", f"{where}/{name}").content for name in LOOKED_AT}

        asked = up.call("POST", f"{where}/move", {"to": folder})
        assert asked.status_code == 202, asked.text
        job = f"/api/jobs/{asked.json()['id']}"
        up.wait_for(lambda: up.get(job)["state"] == "done", "moved", 60)
        assert up.get(job)["failed"] == []

        final = Path(folder) / done["path"]
        assert decoded(final) == decoded(channel.content())
        assert {name: up.call("GET", f"{where}/{name}").content for name in LOOKED_AT} == before
        assert verified(up, recording_id) == (True, [])
        assert not [path for path in up.library.rglob("*") if path.is_file()]


LOOKED_AT = ("media", "poster.jpg", "chapters.vtt", "storyboard.vtt", "storyboard-1.webp")
