"""Opening media with PyAV, for child processes only."""

from __future__ import annotations

from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

CONTAINERS = "mpegts,mov,aac,flv,matroska"
ATTACHED_PIC = 0x0400


def open_media(path: str | Path) -> InputContainer:
    """Only a local file, only as a media container. Raises av.error.FFmpegError.

    The `file:` prefix keeps a name such as `concat:x` from being read as a protocol, and the lists
    keep bytes that look like a playlist from opening other files.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    return av.open(f"file:{path}", options=options)


def is_cover(stream: VideoStream | AudioStream) -> bool:
    return bool(int(stream.disposition) & ATTACHED_PIC)


def main_video(container: InputContainer) -> VideoStream | None:
    """The first video stream that is not a cover."""
    return next((s for s in container.streams.video if not is_cover(s)), None)
