"""What becomes of a finished recording: as the settings want it, deleted, had back, gone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from tests.e2e.conftest import Gate
from tests.e2e.pictures import decoded
from tests.e2e.product import Up
from tests.e2e.test_parking import parked_recording
from tests.fake_twitch.client import FakeChannel

AD_S = 4
WISHES = {
    "keep_holes": False,
    "ad_chapters": True,
    "chapters": "category",
    "trickplay": True,
}


@pytest.fixture
def wishes(shared_up: Up) -> Iterator[None]:
    assert shared_up.call("PATCH", "/api/settings", WISHES).status_code == 200
    yield
    shared_up.call("PATCH", "/api/settings", dict.fromkeys(WISHES))


@pytest.mark.usefixtures("wishes")
def test_holes_are_closed_and_chapters_go_with_the_pictures(
    shared_up: Up, channel: FakeChannel
) -> None:
    recording_id = str(shared_up.record(url=channel.url)["id"])
    shared_up.wait_segments(recording_id, 5)
    channel.ad(AD_S)
    shared_up.wait_recording(recording_id, lambda r: r["totals"]["segments_ad"] == AD_S, "the ads")
    before = shared_up.recording(recording_id)["totals"]["segments_stored"]
    channel.change(title="Same game, another title")
    channel.change(title="Another game", category="Go")
    shared_up.wait_segments(recording_id, before + 5)
    channel.offline()
    done = shared_up.wait_status(recording_id, "completed")

    final = shared_up.library / done["path"]
    assert decoded(final) == decoded(channel.content())
    stored = done["totals"]["segments_stored"]  # of a second each
    with av.open(str(final)) as container:
        assert container.duration is not None
        assert container.duration / av.time_base == pytest.approx(stored, abs=0.5)
        told = [
            (chapter["start"] * chapter["time_base"], chapter["metadata"]["title"])
            for chapter in container.chapters()
        ]
    assert [title for _, title in told] == ["Chess", "Go"]
    # The change came with the first segments after the break, which takes no time here.
    assert before - 1 <= told[1][0] <= before + 4
    assert [c["start_s"] for c in done["chapters"]] == pytest.approx([float(t) for t, _ in told])
    assert shared_up.get(f"/api/recordings/{recording_id}/report")["holes"] == "closed"
    assert list(final.with_suffix(".trickplay").glob("* - 10x10/0.jpg"))


def test_what_is_deleted_comes_back_and_deleted_twice_is_gone(
    shared_up: Up, channel: FakeChannel
) -> None:
    recording_id = str(shared_up.record(url=channel.url)["id"])
    shared_up.wait_segments(recording_id, 3)
    refused = shared_up.call("DELETE", f"/api/recordings/{recording_id}")
    assert (refused.status_code, refused.json()["hint"]) == (409, "stop it first, then delete it")
    channel.offline()
    done = shared_up.wait_status(recording_id, "completed")
    season = (shared_up.library / done["path"]).parent
    before = _names(season)
    assert any(name.endswith(".mp4") for name in before)

    assert shared_up.call("DELETE", f"/api/recordings/{recording_id}").status_code == 200
    assert recording_id not in _listed(shared_up)
    assert _names(season) == before
    assert shared_up.call("POST", f"/api/recordings/{recording_id}/undelete").status_code == 200
    assert recording_id in _listed(shared_up)

    for _ in range(2):
        assert shared_up.call("DELETE", f"/api/recordings/{recording_id}").status_code == 200
    gone = f"/api/recordings/{recording_id}"
    shared_up.wait_for(lambda: shared_up.call("GET", gone).status_code == 404, "gone", 60)
    assert _names(season) == []


def test_a_recording_that_the_database_lost_comes_back_by_the_doctor(
    shared_up: Up, channel: FakeChannel
) -> None:
    recording_id = str(shared_up.record(url=channel.url)["id"])
    shared_up.wait_segments(recording_id, 3)
    channel.change(title="A second title", category="Go")
    shared_up.wait_segments(recording_id, 6)
    channel.offline()
    shared_up.wait_status(recording_id, "completed")
    where = f"/api/recordings/{recording_id}"
    shared_up.wait_recording(recording_id, lambda r: not r["playable"]["hls"], "only the file")
    before = shared_up.get(where) | {"report": shared_up.get(f"{where}/report")}
    shared_up.forget(recording_id)
    assert shared_up.call("GET", where).status_code == 404

    command = shared_up.command("doctor", "--repair")
    out, err = command.communicate(timeout=90)
    assert command.returncode == 0, err
    assert "library: 1 added, 0 found elsewhere" in " ".join(out.split())
    after = shared_up.get(where) | {"report": shared_up.get(f"{where}/report")}
    assert _without_times(after) == _without_times(before)
    assert shared_up.call("GET", f"{where}/media").status_code == 200


def test_parts_that_the_database_lost_become_a_file(
    shared_up: Up, channel: FakeChannel, gate: Gate
) -> None:
    with gate.failing():
        lost = parked_recording(shared_up, channel)
    told = shared_up.recording(lost["id"])
    shared_up.call("POST", f"/api/pipelines/{lost['workflow_id']}/give-up")
    stored = shared_up.wait_status(lost["id"], "failed")["totals"]["segments_stored"]
    shared_up.forget(lost["id"])
    (folder,) = shared_up.library.rglob(f".streamvault/{lost['id']}")
    # As if nothing had been written there for an hour.
    an_hour_ago = time.time() - 3600
    os.utime(folder / "journal.jsonl", (an_hour_ago, an_hour_ago))

    command = shared_up.command("doctor", "--repair")
    out, err = command.communicate(timeout=90)
    assert command.returncode == 0, err
    assert "1 to be made from their parts" in " ".join(out.split())
    done = shared_up.wait_status(lost["id"], "completed")
    assert decoded(shared_up.library / done["path"]) == decoded(channel.content(0, stored))
    for name in ("streamer", "title", "category"):
        assert done[name] == told[name]
    assert [c["title"] for c in done["chapters"]] == [told["title"]]
    assert shared_up.parts(lost["id"]) == b""


def _without_times(told: dict[str, Any]) -> dict[str, Any]:
    """Steps are all done, but when is not in the report."""
    steps = [{"name": step["name"], "state": step["state"]} for step in told["steps"]]
    return {**told, "steps": steps}


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _listed(up: Up) -> list[str]:
    return [item["id"] for item in up.get("/api/recordings?limit=200")["items"]]
