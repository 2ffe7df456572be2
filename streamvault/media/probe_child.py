"""Child process that looks into media files with PyAV: `python -m streamvault.media.probe_child`.

The `…_child` modules alone import libav. `probe` holds the typed side.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from streamvault.media.av_open import is_cover, main_video, open_media
from streamvault.media.child import serve
from streamvault.media.start_codes import LENGTHS, habit_of

Stream = VideoStream | AudioStream
SOUND_LOOK_S = 5.0
SAMPLED_PACKETS = 200  # a second or two, and what opening a file has read already
# A decode-time step beyond this is a hole, unless the pictures themselves come as seldom.
STEP_S = 0.6
STEP_FRAMES = 4


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Dispatch on `what`: `parts`, `output`, `chapters` or `scan`."""
    work: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "parts": lambda r: {"parts": [_part(path) for path in r["paths"]]},
        "output": lambda r: _output(Path(r["path"])),
        "chapters": lambda r: _chapters(Path(r["path"])),
        "scan": lambda r: {"parts": [_scan(path) for path in r["paths"]]},
    }
    return work[request["what"]](request)


def _streams(container: InputContainer) -> dict[str, Stream]:
    """The main video and audio stream; a cover is a video stream too, but not the main one."""
    found: dict[str, Stream] = {}
    for stream in container.streams:
        if isinstance(stream, (VideoStream, AudioStream)) and not is_cover(stream):
            found.setdefault(stream.type, stream)
    return found


def _part(path: str) -> dict[str, Any]:
    with open_media(path) as container:
        streams = {kind: _facts(stream) for kind, stream in _streams(container).items()}
        if video := main_video(container):
            streams["video"]["framing"] = _framing(container, video)
        told_s = (container.duration or 0) / av.time_base
        if container.format.name == "mpegts" and "video" not in streams and "audio" in streams:
            told_s = _sound_end_s(container, told_s)
        return {"format": container.format.name, "duration_s": told_s, "streams": streams}


def _sound_end_s(container: InputContainer, told_s: float) -> float:
    """Where the last frame ends, from the first one on: libav counts up to the start of the last
    packet of a .ts, and one without a picture holds half a second of sound."""
    audio = container.streams.audio[0]
    if audio.time_base is None or audio.start_time is None:
        return told_s
    near_the_end = int(max(told_s - SOUND_LOOK_S, 0.0) / audio.time_base) + audio.start_time
    container.seek(near_the_end, stream=audio, backward=True)
    ends = [p.pts + (p.duration or 0) for p in container.demux(audio) if p.pts is not None]
    if not ends:
        return told_s
    return max(told_s, float((max(ends) - audio.start_time) * audio.time_base))


def _framing(container: InputContainer, video: VideoStream) -> str:
    codec, header = video.codec_context.name, video.codec_context.extradata or b""
    if codec in {"h264", "hevc"} and header.startswith(b"\x01"):
        return LENGTHS
    if codec != "h264":
        return ""
    # Of all streams: one that is announced and never comes must not have the whole file read.
    packets = itertools.islice(container.demux(), SAMPLED_PACKETS)
    try:
        return habit_of([bytes(p) for p in packets if p.size and p.stream.index == video.index])
    except av.error.FFmpegError:
        # Whether the part can be read is for the remux to find out.
        return ""


def _facts(stream: Stream) -> dict[str, Any]:
    context = stream.codec_context
    facts: dict[str, Any] = {
        "index": stream.index,
        "codec": context.name,
        "extradata": hashlib.sha256(context.extradata or b"").hexdigest()[:16],
    }
    if isinstance(stream, VideoStream):
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        size = stream.codec_context
        return facts | {"width": size.width, "height": size.height, "rate": rate}
    return facts | {"rate": float(stream.rate or 0), "channels": stream.codec_context.channels}


def _output(path: Path) -> dict[str, Any]:
    with open_media(path) as container:
        streams = _streams(container)
        # What Matroska has for an index names a few places only.
        has_index = "mp4" in container.format.name
        cover_bytes = _cover_bytes(container)
        return {
            "size_bytes": path.stat().st_size,
            "duration_s": (container.duration or 0) / av.time_base,
            "streams": _all_indexed(streams) if has_index else _all_read(container, streams),
            "chapters": [_chapter(c) for c in container.chapters()],
            "tags": dict(container.metadata),
            "cover_bytes": cover_bytes,
            "index_first": _index_first(path) if has_index else None,
        }


def _chapters(path: Path) -> dict[str, Any]:
    with open_media(path) as container:
        return {"chapters": [_chapter(c) for c in container.chapters()]}


def _all_indexed(streams: dict[str, Stream]) -> dict[str, Any]:
    return {kind: _indexed(stream) for kind, stream in streams.items()}


def _all_read(container: InputContainer, streams: dict[str, Stream]) -> dict[str, Any]:
    """What `_indexed` says, of a file that was read to its end."""
    seen = _read(container, streams)
    return {
        kind: _facts(stream) | seen[kind].relative_to(0.0) | {"data_end": seen[kind].data_end}
        for kind, stream in streams.items()
    }


def _indexed(stream: Stream) -> dict[str, Any]:
    """Facts of a stream of an MP4, from its index alone."""
    unit = float(stream.time_base or 0)
    entries = stream.index_entries
    too_long = STEP_S / unit if unit else 0.0
    # One at a time: of two days there are ten million.
    steps = [
        (before * unit, (after - before) * unit)
        for before, after in itertools.pairwise(entry.timestamp for entry in entries)
        if after - before > too_long
    ]
    last = entries[len(entries) - 1] if len(entries) else None
    covered_s = (last.timestamp - entries[0].timestamp) * unit if last else 0.0
    return _facts(stream) | {
        "packets": stream.frames,
        "end_s": ((stream.start_time or 0) + (stream.duration or 0)) * unit,
        "data_end": last.pos + last.size if last else 0,
        "steps": _holes(steps, covered_s, len(entries)),
    }


def _holes(
    steps: list[tuple[float, float]], covered_s: float, packets: int
) -> list[tuple[float, float]]:
    """Without the steps that are usual in this stream, such as one of a picture each second."""
    usual_s = covered_s / max(packets - 1, 1)
    return [step for step in steps if step[1] > STEP_FRAMES * usual_s]


def _chapter(chapter: Any) -> dict[str, Any]:
    unit = float(chapter["time_base"])
    return {
        "start_s": chapter["start"] * unit,
        "end_s": chapter["end"] * unit,
        "title": chapter["metadata"].get("title", ""),
    }


def _cover_bytes(container: InputContainer) -> int:
    """Size of the attached picture, 0 without one."""
    for stream in container.streams.video:
        if is_cover(stream):
            return next((packet.size for packet in container.demux(stream)), 0)
    return 0


def _index_first(path: Path) -> bool:
    """Whether `moov` stands before `mdat`, so that a browser can play before the download ends."""
    with path.open("rb") as file:
        for kind in _boxes(file):
            if kind in {b"moov", b"mdat"}:
                return kind == b"moov"
    return False


def _boxes(file: BinaryIO) -> Iterator[bytes]:
    """Types of the top-level boxes (ISO/IEC 14496-12 §4.2)."""
    while len(header := file.read(8)) == 8:
        size, kind = int.from_bytes(header[:4]), header[4:]
        yield kind
        if size == 1:
            size = int.from_bytes(file.read(8)) - 8
        if size < 8:
            return
        file.seek(size - 8, 1)


def _scan(path: str) -> dict[str, Any]:
    """Read every packet of a part; a full read, for when the output needs an explanation."""
    with open_media(path) as container:
        seen = _read(container, _streams(container))
    starts = [s.start_s for s in seen.values() if s.start_s is not None]
    base = min(starts, default=0.0)
    return {kind: s.relative_to(base) for kind, s in seen.items()}


def _read(container: InputContainer, streams: dict[str, Stream]) -> dict[str, _Seen]:
    seen = {kind: _Seen(float(stream.time_base or 0)) for kind, stream in streams.items()}
    for packet in container.demux(list(streams.values())):
        seen[packet.stream.type].feed(packet)
    return seen


class _Seen:
    def __init__(self, unit: float) -> None:
        self._unit = unit
        self._previous: float | None = None
        self._steps: list[tuple[float, float]] = []
        self.packets = 0
        self.start_s: float | None = None
        self.end_s = 0.0
        self.data_end = 0

    def feed(self, packet: av.Packet[Any]) -> None:
        if not packet.size:
            return
        self.packets += 1
        self.data_end = (packet.pos or 0) + packet.size
        if packet.pts is not None:
            self.end_s = max(self.end_s, (packet.pts + (packet.duration or 0)) * self._unit)
        if packet.dts is None:
            return
        at = packet.dts * self._unit
        if self._previous is not None and at - self._previous > STEP_S:
            self._steps.append((self._previous, at - self._previous))
        self._previous = at
        self.start_s = at if self.start_s is None else self.start_s

    def relative_to(self, base: float) -> dict[str, Any]:
        covered_s = (self._previous or 0.0) - (self.start_s or 0.0)
        steps = _holes(self._steps, covered_s, self.packets)
        return {
            "packets": self.packets,
            "end_s": self.end_s - base,
            "steps": [(at - base, length) for at, length in steps],
        }


if __name__ == "__main__":
    serve(answer)
