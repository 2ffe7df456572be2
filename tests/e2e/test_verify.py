"""A recording with an ad break, watched across its end, and its file looked at again later."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import av
import httpx
import pytest

from tests.e2e.product import Up
from tests.fake_twitch.client import FakeChannel

AD_S = 4


@pytest.mark.timeout(240)
def test_it_is_watched_to_its_end_and_found_as_recorded_afterwards(
    own_up: Callable[..., Up], channel: FakeChannel
) -> None:
    up = own_up(AD_CHAPTERS="1")
    recording_id = str(up.record(url=channel.url)["id"])
    up.wait_segments(recording_id, 5)
    channel.ad(AD_S)
    up.wait_recording(recording_id, lambda r: r["totals"]["segments_ad"] == AD_S, "the ads")
    so_far = up.recording(recording_id)["totals"]["segments_stored"]
    up.wait_segments(recording_id, so_far + 4)
    viewer = Viewer(up, recording_id)
    viewer.watch()
    channel.offline()
    _watch_until(viewer, lambda: up.recording(recording_id)["status"] == "completed")
    # The parts are kept, and the playlist goes on, for as long as somebody watches.
    _watch_until(viewer, lambda: viewer.ended)
    assert viewer.body == channel.content()
    done = up.recording(recording_id)
    assert done["playable"] == {"hls": True, "media": True}

    final = up.library / done["path"]
    _chapters_show_the_break(final, channel)
    report = up.get(f"/api/recordings/{recording_id}/report")
    assert (report["totals"]["ad_s"], report["verified"]) == (AD_S, None)
    assert [ad["duration_s"] for ad in report["ads"]] == [AD_S]

    _verify_tells(up, recording_id, 0, "as recorded")
    whole = final.read_bytes()
    middle = len(whole) // 2
    final.write_bytes(whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :])
    _verify_tells(up, recording_id, 1, "stream hash")
    final.write_bytes(whole[:-1000])
    _verify_tells(up, recording_id, 1, "size")
    final.unlink()
    _verify_tells(up, recording_id, 1, "No such file")
    final.write_bytes(whole)
    assert up.call("POST", f"/api/recordings/{recording_id}/verify").status_code == 202
    up.wait_for(lambda: _verified(up, recording_id), "verified", 60)

    up.forget_viewers(recording_id)
    up.wait_unplayable(recording_id)
    gone = viewer.look()
    assert gone.status_code == 410
    assert gone.headers["link"] == f'</api/recordings/{recording_id}/media>; rel="alternate"'


class Viewer:
    """A player: takes each entry of the playlist once, in order."""

    def __init__(self, up: Up, recording_id: str) -> None:
        self._up = up
        self._base = f"/api/recordings/{recording_id}"
        self._taken = 0
        self.body = b""
        self.ended = False

    def look(self) -> httpx.Response:
        return self._up.call("GET", f"{self._base}/playlist.m3u8")

    def watch(self) -> None:
        """Whatever is new."""
        answer = self.look()
        assert answer.status_code == 200, answer.text
        lines = answer.text.splitlines()
        ranges = [line.partition(":")[2] for line in lines if line.startswith("#EXT-X-BYTERANGE")]
        names = [line for line in lines if line and not line.startswith("#")]
        for name, span in list(zip(names, ranges, strict=True))[self._taken :]:
            length, _, start = span.partition("@")
            self.body += self._fetch(name, int(start), int(length))
            self._taken += 1
        self.ended = "#EXT-X-ENDLIST" in lines

    def _fetch(self, name: str, start: int, length: int) -> bytes:
        url = f"{self._up.running['api']}{self._base}/{name}"
        answer = self._up.http.get(url, headers={"Range": f"bytes={start}-{start + length - 1}"})
        assert answer.status_code == 206, (name, answer.status_code)
        assert len(answer.content) == length
        return answer.content


def _watch_until(viewer: Viewer, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not done():
        assert time.monotonic() < deadline
        viewer.watch()
        time.sleep(0.5)


def _chapters_show_the_break(final: Path, channel: FakeChannel) -> None:
    before = next(t.number for t in channel.truth() if t.ad)
    with av.open(str(final)) as container:
        found = [
            (round(float(c["start"] * c["time_base"])), c["metadata"]["title"])
            for c in container.chapters()
        ]
    title = "First title (Chess)"
    assert found == [(0, title), (before, f"Ad break ({AD_S} s)"), (before + AD_S, title)]


def _verify_tells(up: Up, recording_id: str, code: int, words: str) -> None:
    process = up.command("verify", recording_id)
    said, wrong = process.communicate(timeout=90)
    assert process.returncode == code, f"{said}\n{wrong}"
    assert words in " ".join(said.split()), said


def _verified(up: Up, recording_id: str) -> bool:
    found = up.get(f"/api/recordings/{recording_id}/report")["verified"]
    return bool(found and found["ok"])
