"""Child process that hashes an MP4 as the byte stream it was made from.

`python -m streamvault.media.hash_child FILE HABIT TARGET`: pictures get start codes by that habit
(`start_codes`) instead of their lengths; sound is taken as it is. It reports progress in ffmpeg's
words and writes what ffmpeg's streamhash would.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from streamvault.media.av_open import main_video, open_media
from streamvault.media.start_codes import HABITS, Habit, units_by_length, with_start_codes
from streamvault.media.streamhash import HASH

BLOCK_BYTES = 1_000_000  # a packet of its own for each picture would cost as much as its hash
REPORT_S = 1.0
Pieces = Iterable[bytes | memoryview]


class StreamHash:
    """libav's streamhash, the one that hashed the source; it does not see where packets end."""

    def __init__(self, stream: VideoStream | AudioStream, unpack: Callable[[Any], Pieces]) -> None:
        self._unpack = unpack
        self._text = io.BytesIO()
        # One stream each: two would wait for each other in the muxer's queue, all the file long.
        self._muxer = av.open(self._text, "w", format="streamhash", options={"hash": HASH})
        self._stream = self._muxer.add_stream_from_template(stream)
        self._held: list[bytes | memoryview] = []
        self._size = 0
        self._blocks = 0

    def feed(self, packet: av.Packet[Any]) -> None:
        self._held += self._unpack(memoryview(packet))
        self._size += packet.size
        if self._size >= BLOCK_BYTES:
            self._write()

    def _write(self) -> None:
        block = av.Packet(b"".join(self._held))
        block.stream, block.dts, block.pts = self._stream, self._blocks, self._blocks
        self._muxer.mux(block)
        self._held, self._size, self._blocks = [], 0, self._blocks + 1

    def line(self) -> bytes:
        """What ffmpeg would have written: number of the stream, its kind, the hash."""
        if self._size:
            self._write()
        self._muxer.close()
        return self._text.getvalue()


def hash_lines(path: Path, habit: Habit) -> bytes:
    """Hashes of the main streams, a line each. Raises ValueError, OSError."""
    with open_media(path) as container:
        hashes: dict[int, StreamHash] = {}
        if video := main_video(container):
            size = _length_size(video)
            hashes[video.index] = StreamHash(
                video, lambda picture: with_start_codes(units_by_length(picture, size), habit)
            )
        for audio in container.streams.audio[:1]:
            hashes[audio.index] = StreamHash(audio, lambda frame: [frame])
        if not hashes:
            raise ValueError("there is neither picture nor sound in it")
        reported_at = time.monotonic()
        for packet in container.demux([container.streams[index] for index in hashes]):
            if packet.size:
                hashes[packet.stream.index].feed(packet)
            if packet.dts is not None and time.monotonic() - reported_at >= REPORT_S:
                reported_at = time.monotonic()
                at_us = int(packet.dts * packet.time_base * 1_000_000)
                print(f"out_time_us={at_us}", flush=True)
        return b"".join(one.line() for one in hashes.values())


def _length_size(video: VideoStream) -> int:
    """Bytes of a length, from the AVCDecoderConfigurationRecord (ISO/IEC 14496-15 §5.3.3.1)."""
    record = video.codec_context.extradata or b""
    if len(record) < 7 or record[0] != 1:
        raise ValueError("the file does not say how long its NAL units' lengths are")
    return 1 + (record[4] & 3)


if __name__ == "__main__":
    path, habit, target = sys.argv[1:]
    Path(target).write_bytes(hash_lines(Path(path), HABITS[habit]))
