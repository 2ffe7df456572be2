"""Truth is libav's demuxer."""

from __future__ import annotations

import io
from pathlib import Path

import av
import pytest

from streamvault.hls.timestamps import WRAP_S, continues, read_head, read_timescales


def mux(path: Path, container: str, *, size: tuple[int, int] = (64, 48), frames: int = 25) -> bytes:
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    with av.open(str(path), "w", format=container, options=options) as output:
        video = output.add_stream("libx264", rate=25, options={"bf": "2", "g": "10"})
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        audio = output.add_stream("aac", rate=48_000, layout="mono")
        for number in range(frames):
            frame = av.VideoFrame(*size, "yuv420p")
            frame.pts = number
            for plane in frame.planes:
                plane.update(bytes([number]) * plane.buffer_size)
            output.mux(video.encode(frame))
            sound = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            sound.sample_rate, sound.pts = 48_000, number * 1024
            sound.planes[0].update(bytes(sound.planes[0].buffer_size))
            output.mux(audio.encode(sound))
        output.mux(video.encode(None))
        output.mux(audio.encode(None))
    return path.read_bytes()


def first_video_pts_s(data: bytes) -> float:
    with av.open(io.BytesIO(data)) as source:
        packet = next(source.demux(source.streams.video[0]))
        assert packet.pts is not None
        return float(packet.pts * packet.time_base)


def test_the_first_timestamp_of_a_transport_stream_is_what_libav_reads(tmp_path: Path) -> None:
    data = mux(tmp_path / "a.ts", "mpegts")
    assert read_head(data).start_s == pytest.approx(first_video_pts_s(data), abs=0.001)


def test_other_dimensions_change_the_fingerprint_and_other_content_does_not(tmp_path: Path) -> None:
    small = read_head(mux(tmp_path / "a.ts", "mpegts"))
    longer = read_head(mux(tmp_path / "b.ts", "mpegts", frames=40))
    large = read_head(mux(tmp_path / "c.ts", "mpegts", size=(128, 96)))
    assert small.codecs == longer.codecs != 0
    assert large.codecs not in (0, small.codecs)


def test_fragmented_mp4_is_dated_by_its_first_fragment(tmp_path: Path) -> None:
    data = mux(tmp_path / "a.mp4", "mp4")
    at = data.index(b"moof") - 4
    scales = read_timescales(data[:at])
    assert set(scales) == {1, 2}
    assert scales[2] == 48_000
    assert read_head(data[at:], scales).start_s == 0.0
    assert read_head(data[at:], {}).start_s is None


@pytest.mark.parametrize("data", [b"", b"G", b"G" * 188, b"\x00" * 400, b"\x00\x00\x00\x08moof"])
def test_what_cannot_be_read_is_unknown(data: bytes) -> None:
    assert read_head(data).start_s is None


def test_timestamps_continue_over_their_wrap() -> None:
    assert continues(WRAP_S + 1.0, 1.0, 0.5)
    assert continues(10.0, 10.4, 0.5)
    assert not continues(10.0, 10.6, 0.5)
    assert not continues(10.0, 9.0, 0.5)
    assert continues(None, 10.0, 0.5) is None
    assert continues(10.0, None, 0.5) is None
