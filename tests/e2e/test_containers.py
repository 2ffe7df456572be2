"""Other forms than MP4 in which a recording may stay: Matroska, and the parts as they came."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.e2e.pictures import decoded
from tests.e2e.product import Up
from tests.fake_twitch.client import FakeChannel

BESIDE = ("poster.jpg", "chapters.vtt", "storyboard.vtt")


@contextmanager
def kept_as(up: Up, container: str) -> Iterator[None]:
    assert up.call("PATCH", "/api/settings", {"container": container}).status_code == 200
    yield
    up.call("PATCH", "/api/settings", {"container": None})


def recorded(up: Up, channel: FakeChannel) -> str:
    """Of two titles, and just over."""
    recording_id = str(up.record(url=channel.url)["id"])
    up.wait_segments(recording_id, 3)
    channel.change(title="A second title", category="Go")
    up.wait_segments(recording_id, 7)
    channel.offline()
    return recording_id


def test_a_matroska_file_has_everything_that_was_recorded(
    shared_up: Up, channel: FakeChannel
) -> None:
    with kept_as(shared_up, "mkv"):
        recording_id = recorded(shared_up, channel)
        done = shared_up.wait_status(recording_id, "completed")
    final = shared_up.library / done["path"]
    assert final.suffix == ".mkv"
    assert decoded(final) == decoded(channel.content())
    assert {step["state"] for step in done["steps"]} == {"done"}
    where = f"/api/recordings/{recording_id}"
    media = shared_up.call("GET", f"{where}/media")
    assert (media.headers["content-type"], media.content) == (
        "video/x-matroska",
        final.read_bytes(),
    )
    for name in BESIDE:
        assert shared_up.call("GET", f"{where}/{name}").status_code == 200
    assert verified(shared_up, recording_id) == (True, [])


def test_parts_stay_as_they_came_and_are_found_damaged(shared_up: Up, channel: FakeChannel) -> None:
    with kept_as(shared_up, "parts"):
        recording_id = recorded(shared_up, channel)
        done = shared_up.wait_status(recording_id, "completed")
        shared_up.wait_recording(recording_id, lambda r: _ended(r, {}), "every step")
    where = f"/api/recordings/{recording_id}"
    assert (done["path"], done["playable"]) == (None, {"hls": True, "media": False})
    assert shared_up.parts(recording_id) == channel.content()
    playlist = shared_up.call("GET", f"{where}/playlist.m3u8").text
    assert playlist.rstrip().endswith("#EXT-X-ENDLIST")
    for name in BESIDE:
        assert shared_up.call("GET", f"{where}/{name}").status_code == 200
    assert verified(shared_up, recording_id) == (True, [])

    (folder,) = shared_up.library.rglob(f".streamvault/{recording_id}")
    part = folder / "part-0001.ts"
    whole = part.read_bytes()
    part.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    assert verified(shared_up, recording_id) == (False, ["parts"])
    part.write_bytes(whole)

    # The database may be lost as well.
    before = shared_up.recording(recording_id)
    shared_up.forget(recording_id)
    an_hour_ago = time.time() - 3600
    os.utime(folder / "journal.jsonl", (an_hour_ago, an_hour_ago))
    command = shared_up.command("doctor", "--repair")
    _, err = command.communicate(timeout=90)
    assert command.returncode == 0, err
    after = shared_up.recording(recording_id)
    for name in ("status", "title", "chapters", "totals", "playable", "started_at", "duration_s"):
        assert after[name] == before[name]

    for _ in range(2):
        assert shared_up.call("DELETE", where).status_code == 200
    shared_up.wait_for(lambda: shared_up.call("GET", where).status_code == 404, "gone", 60)
    assert not folder.exists()


def test_damaged_parts_do_not_pass_for_kept_ones(shared_up: Up, channel: FakeChannel) -> None:
    """Left out by a person, the step proves nothing, and no rule may delete them."""
    with kept_as(shared_up, "parts"):
        parked = damaged_while_recording(shared_up, channel)
        where = f"/api/pipelines/{parked['workflow_id']}"
        assert "checksum" in parked["reason"]
        assert shared_up.call("POST", f"{where}/skip").status_code in {200, 202}
        recording_id = parked["id"]
        shared_up.wait_status(recording_id, "completed")
        steps = {"remux": "skipped"}
        shared_up.wait_recording(recording_id, lambda r: _ended(r, steps), "every step")
    report = shared_up.get(f"/api/recordings/{recording_id}/report")
    assert report["container"] == ""
    asked = shared_up.call("POST", "/api/settings/retention/preview", {"library_bytes": 1})
    assert recording_id not in [item["id"] for item in asked.json()["items"]]


def damaged_while_recording(up: Up, channel: FakeChannel) -> dict[str, Any]:
    recording = up.record(url=channel.url)
    up.wait_segments(recording["id"], 4)
    (folder,) = up.library.rglob(f".streamvault/{recording['id']}")
    with (folder / "part-0001.ts").open("r+b") as part:
        part.seek(5000)
        part.write(b"not what came")
    up.ask(recording, "stop")
    return up.wait_status(recording["id"], "needs_attention", timeout_s=120)


def _ended(row: dict[str, object], otherwise: dict[str, str]) -> bool:
    steps = row["steps"]
    assert isinstance(steps, list)
    return all(step["state"] == otherwise.get(step["name"], "done") for step in steps)


def verified(up: Up, recording_id: str) -> tuple[bool, list[str]]:
    """What a look at it says now, and the checks that failed."""
    where = f"/api/recordings/{recording_id}"
    before = up.get(f"{where}/report")["verified"]
    asked: httpx.Response = up.call("POST", f"{where}/verify")
    assert asked.status_code == 202, asked.text
    up.wait_for(lambda: up.get(f"{where}/report")["verified"] != before, "verified", 60)
    found = up.get(f"{where}/report")["verified"]
    return found["ok"], [check["name"] for check in found["checks"] if not check["passed"]]
