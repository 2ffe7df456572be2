"""What streams are made of: HEVC in fragments, sound alone, another size in mid-stream."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import av
import pytest

from tests.e2e.product import Up
from tests.fake_twitch.client import FakeTwitch

FRAMES_A_SEGMENT = 30
HEVC = {"name": "1080p60", "profile": "180p-hevc", "source": True}
AV1 = {"name": "1440p60", "profile": "180p-av1", "source": True}
WRAP_S = (1 << 33) / 90_000
"""When the clock of a transport stream begins anew (ISO/IEC 13818-1, 2.4.3.7): 26.5 h."""
H264 = {"name": "720p60", "profile": "180p"}
SOUND = {"name": "audio_only", "profile": "audio"}


def pictures_of(path: Path) -> tuple[str, int, int]:
    """Codec, width, and how many can be decoded."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.codec_context.name, stream.width, sum(1 for _ in container.decode(stream))


@pytest.mark.parametrize(("wanted", "source"), [("h265", HEVC), ("av1", AV1)])
def test_a_preferred_codec_is_recorded_from_its_fragments(
    shared_up: Up, fake_twitch: FakeTwitch, wanted: str, source: dict[str, Any]
) -> None:
    channel = fake_twitch.channel(variants=[source, H264, SOUND])
    channel.online()
    streamer_id = shared_up.follow(channel.login)
    body = {"codecs": [wanted, "h264"]}
    assert shared_up.call("PATCH", f"/api/streamers/{streamer_id}", body).status_code == 200
    recording_id = str(shared_up.record(streamer_id=streamer_id)["id"])
    shared_up.wait_segments(recording_id, 6)
    assert shared_up.recording(recording_id)["quality"] == source["name"]
    channel.offline()
    done = shared_up.wait_status(recording_id, "completed")
    stored = done["totals"]["segments_stored"]
    assert (done["totals"]["segments_lost"], stored) == (0, channel.segments)
    codec, width, pictures = pictures_of(shared_up.library / done["path"])
    assert codec in {"hevc", "libdav1d", "av1"}
    assert (width, pictures) == (320, stored * FRAMES_A_SEGMENT)


def test_a_stream_of_more_than_a_day_goes_on_where_its_clock_begins_anew(
    shared_up: Up, fake_twitch: FakeTwitch
) -> None:
    channel = fake_twitch.channel()
    channel.online(pts_start_s=WRAP_S - 6)
    recording_id = str(shared_up.record(url=channel.url)["id"])
    shared_up.wait_segments(recording_id, 14)
    channel.offline()
    done = shared_up.wait_status(recording_id, "completed")
    assert (done["totals"]["segments_lost"], done["gaps"]) == (0, [])
    with av.open(str(shared_up.library / done["path"])) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert len(times) == channel.segments * FRAMES_A_SEGMENT
    steps = [after - before for before, after in itertools.pairwise(times)]
    assert abs(max(steps) - 1 / FRAMES_A_SEGMENT) < 0.01
    assert min(steps) > 0


def test_without_a_preference_it_is_h264_and_a_rule_chooses_the_quality(
    shared_up: Up, fake_twitch: FakeTwitch
) -> None:
    channel = fake_twitch.channel(
        variants=[{"name": "1440p60", "profile": "180p", "source": True}, H264, SOUND]
    )
    channel.online()
    best = str(shared_up.record(url=channel.url, quality="<=1080p60")["id"])
    shared_up.wait_segments(best, 3)
    assert shared_up.recording(best)["quality"] == "720p60"
    channel.offline()
    shared_up.wait_status(best, "completed")


def test_sound_alone_becomes_a_file(shared_up: Up, fake_twitch: FakeTwitch) -> None:
    channel = fake_twitch.channel()
    channel.online()
    recording_id = str(shared_up.record(url=channel.url, quality="audio_only")["id"])
    shared_up.wait_segments(recording_id, 5)
    channel.offline()
    done = shared_up.wait_status(recording_id, "completed")
    with av.open(str(shared_up.library / done["path"])) as container:
        assert not container.streams.video
        (sound,) = container.streams.audio
        heard_s = sum(frame.samples for frame in container.decode(sound)) / sound.rate
    assert abs(heard_s - channel.segments) < 0.2


def test_another_size_in_mid_stream_is_another_file_and_nothing_is_lost(
    shared_up: Up, fake_twitch: FakeTwitch
) -> None:
    channel = fake_twitch.channel(variants=[{"name": "1080p60", "profile": "180p", "source": True}])
    channel.online()
    recording_id = str(shared_up.record(url=channel.url)["id"])
    shared_up.wait_segments(recording_id, 5)
    before = channel.segments
    channel.change(variants=[{"name": "1080p60", "profile": "720p", "source": True}])
    shared_up.wait_segments(recording_id, before + 5)
    channel.offline()
    done = shared_up.wait_status(recording_id, "completed", timeout_s=120)
    assert (done["totals"]["segments_lost"], done["gaps"]) == (0, [])
    report = shared_up.get(f"/api/recordings/{recording_id}/report")
    folder = (shared_up.library / done["path"]).parent
    found = [pictures_of(folder / told["name"]) for told in report["files"]]
    assert [width for _, width, _ in found] == [320, 1280]
    assert sum(count for *_, count in found) == channel.segments * FRAMES_A_SEGMENT
