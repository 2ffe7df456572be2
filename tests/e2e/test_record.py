"""One live stream from the API's door to the finished file."""

from __future__ import annotations

import json
import signal
from datetime import datetime
from pathlib import Path

import av

from tests.e2e.pictures import decoded, first_picture
from tests.e2e.product import Up
from tests.fake_twitch.client import FakeChannel


def test_a_stream_started_through_the_api_ends_as_a_file_with_every_frame(
    shared_up: Up, channel: FakeChannel
) -> None:
    streamer = shared_up.follow(channel.login)
    started = shared_up.record(streamer_id=streamer)
    recording_id = started["id"]
    shared_up.wait_segments(recording_id, 6)
    channel.change(title="Second title", category="Go")
    shared_up.wait_recording(recording_id, lambda r: len(r["chapters"]) == 2, "two chapters")
    shared_up.wait_segments(recording_id, 14)
    channel.offline()
    done = shared_up.wait_status(recording_id, "completed")

    final = shared_up.library / done["path"]
    assert done["playable"]["media"]
    totals = done["totals"]
    published = [t for t in channel.truth() if not t.ad]
    assert (totals["segments_lost"], done["gaps"]) == (0, [])
    assert totals["segments_stored"] == len(published) == totals["segments_expected"]
    assert decoded(final) == decoded(channel.content())

    with av.open(str(final)) as container:
        titles = [chapter["metadata"]["title"] for chapter in container.chapters()]
    assert titles == ["First title (Chess)", "Second title (Go)"]
    report = json.loads(final.with_suffix(".report.json").read_text())
    assert report["files"][0]["source_stream_hash"] == report["files"][0]["file_stream_hash"]
    assert all(check["ok"] for check in report["files"][0]["checks"])
    assert final.with_suffix(".nfo").exists()
    assert final.with_name(f"{final.stem}.chapters.vtt").exists()
    assert final.with_name(f"{final.stem}-poster.jpg").read_bytes()[:2] == b"\xff\xd8"
    for name in ("tvshow.nfo", "poster.jpg", "fanart.jpg", "Season 2026/season.nfo"):
        assert (final.parents[1] / name.replace("2026", done["started_at"][:4])).exists()
    for path in ("poster.jpg", "storyboard.vtt", "chapters.vtt", "report"):
        assert shared_up.call("GET", f"/api/recordings/{recording_id}/{path}").status_code == 200
    # The parts went only after the file was verified.
    assert shared_up.parts(recording_id) == b""


def test_starting_twice_is_one_recording(shared_up: Up, channel: FakeChannel) -> None:
    first = shared_up.record(url=channel.url)
    second = shared_up.call("POST", "/api/recordings", {"url": channel.url})
    assert second.status_code == 200
    assert second.json()["id"] == first["id"]
    shared_up.wait_segments(first["id"], 4)
    assert shared_up.call("POST", f"/api/recordings/{first['id']}/stop").status_code == 202
    shared_up.wait_status(first["id"], "completed")


def test_record_from_the_command_line_and_ctrl_c_finishes_the_file(
    shared_up: Up, channel: FakeChannel, tmp_path: Path
) -> None:
    command = shared_up.command("record", channel.url, "--output", str(tmp_path / "out"))
    (recording,) = _wait_for_recordings(shared_up, channel)
    shared_up.wait_segments(recording["id"], 8)
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=60)
    assert command.returncode == 0, err
    final = Path(out.strip())
    assert final.parent == tmp_path / "out"
    stored = shared_up.recording(recording["id"])["totals"]["segments_stored"]
    # Recording starts at the oldest segment listed, and this stream is younger than the window.
    assert decoded(final) == decoded(channel.content(0, stored))


def test_the_playlist_plays_from_the_first_second_while_recording(
    shared_up: Up, channel: FakeChannel
) -> None:
    recording = shared_up.record(url=channel.url)
    shared_up.wait_segments(recording["id"], 10)
    url = f"{shared_up.running['api']}/api/recordings/{recording['id']}/playlist.m3u8"
    text = shared_up.http.get(url).text
    assert "#EXT-X-PLAYLIST-TYPE:EVENT" in text
    assert "#EXT-X-ENDLIST" not in text
    assert first_picture(url) == first_picture(channel.content(0, 1))
    shared_up.call("POST", f"/api/recordings/{recording['id']}/stop")
    shared_up.wait_status(recording["id"], "completed")
    shared_up.forget_viewers(recording["id"])
    # Not by asking for the playlist, which would be another viewer.
    shared_up.wait_unplayable(recording["id"])
    gone = shared_up.http.get(url)
    assert gone.status_code == 410
    assert "media" in gone.text


def test_a_streamers_own_template_names_the_file(shared_up: Up, channel: FakeChannel) -> None:
    streamer_id = shared_up.follow(channel.login)
    body = {"naming": "by category/{category}/{login} {title} [{quality}] {episode}"}
    changed = shared_up.call("PATCH", f"/api/streamers/{streamer_id}", body)
    assert changed.status_code == 200, changed.text
    recording = shared_up.record(streamer_id=streamer_id)
    shared_up.wait_segments(recording["id"], 4)
    channel.offline()
    done = shared_up.wait_status(recording["id"], "completed")
    started = datetime.fromisoformat(done["started_at"])
    name = f"{channel.login} First title [{done['quality']}] S{started:%Y}E{started:%m%d}01"
    final = shared_up.library / "by category" / "Chess" / f"{name}.mp4"
    assert shared_up.library / done["path"] == final
    assert decoded(final) == decoded(channel.content())
    assert final.with_suffix(".nfo").exists()
    report = shared_up.get(f"/api/recordings/{recording['id']}/report")
    assert [told["name"] for told in report["files"]] == [final.name]


def _wait_for_recordings(up: Up, channel: FakeChannel) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []

    def there() -> bool:
        items = up.get("/api/recordings")["items"]
        found[:] = [r for r in items if r["streamer"]["login"] == channel.login]
        return bool(found)

    up.wait_for(there, "a recording in the list", 60)
    return found
