"""Making small media files with ffmpeg, and counting what a file holds, by PyAV."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import imageio_ffmpeg

from streamvault.media.remux import PartFile

FPS = 30
AUDIO_HZ = 48000
START = 1_700_000_000.0
Source = Callable[..., Path]
WHEEL = Path(imageio_ffmpeg.get_ffmpeg_exe())


def encode(
    path: Path,
    seconds: float,
    size: str,
    video: str | None,
    audio: bool,
    start_s: float,
    picture: str,
) -> None:
    args = [str(WHEEL), "-v", "error", "-y"]
    if video:
        joint = ":" if "=" in picture else "="
        args += ["-f", "lavfi", "-i", f"{picture}{joint}s={size}:r={FPS}"]
    if audio:
        args += ["-f", "lavfi", "-i", f"sine=r={AUDIO_HZ}"]
    args += ["-t", str(seconds)]
    if video:
        quick = {"libsvtav1": ["-preset", "12"]}.get(video, ["-preset", "ultrafast", "-bf", "2"])
        args += ["-pix_fmt", "yuv420p", "-c:v", video, *quick, "-g", str(FPS)]
    if audio:
        args += ["-c:a", "aac", "-b:a", "64k"]
    if path.suffix == ".mp4":
        args += ["-movflags", "frag_keyframe+empty_moov+default_base_moof"]
    subprocess.run([*args, "-output_ts_offset", str(start_s), str(path)], check=True)


def part(path: Path, start_wall_s: float = START, duration_s: float = 2.0) -> PartFile:
    return PartFile(path, start_wall_s, duration_s, size_bytes=path.stat().st_size)


def packets(*paths: Path) -> dict[str, int]:
    """Packets of the main streams, counted by reading all of them."""
    counts: Counter[str] = Counter()
    for path in paths:
        with av.open(str(path)) as container:
            main = [s for s in container.streams if s.type in {"video", "audio"} and not _cover(s)]
            counts.update(p.stream.type for p in container.demux(main) if p.size)
    return dict(counts)


def pictures(*paths: Path) -> list[str]:
    """A hash of every decoded frame of the main video, in order."""
    return [_luma_hash(frame) for path in paths for frame in _frames(path)]


def _luma_hash(frame: av.VideoFrame) -> str:
    """Without the padding behind each line, which is never written."""
    plane = frame.planes[0]
    data = memoryview(plane)
    rows = (data[n * plane.line_size :][: plane.width] for n in range(plane.height))
    return hashlib.md5(b"".join(rows)).hexdigest()


def _frames(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(path)) as container:
        yield from container.decode(video=0)


def _cover(stream: av.stream.Stream) -> bool:
    return bool(int(stream.disposition) & 0x0400)


def times(path: Path, kind: str) -> list[float]:
    """Presentation times of one stream's packets, in seconds, sorted."""
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        assert stream.time_base is not None
        return sorted(
            float(p.pts * stream.time_base)
            for p in container.demux(stream)
            if p.size and p.pts is not None
        )


def without_packets(path: Path, target: Path, kind: str, from_s: float, to_s: float) -> Path:
    """A copy in which one stream has nothing between two times after the file's start."""
    with av.open(str(path)) as given, av.open(str(target), "w", format="mpegts") as made:
        streams = {s.index: made.add_stream_from_template(s) for s in given.streams}
        start = (given.start_time or 0) / av.time_base
        for packet in given.demux():
            if packet.dts is None:
                continue
            at_s = float(packet.dts * packet.time_base) - start
            if packet.stream.type == kind and from_s <= at_s < to_s:
                continue
            packet.stream = streams[packet.stream.index]
            made.mux(packet)
    return target


def with_start_codes(path: Path, target: Path, code: Callable[[int, int, int], bytes]) -> Path:
    """A copy of an MPEG-TS with other start codes: `code(picture, unit, type)`, all but the type
    counted from 0, the units within their picture."""
    with av.open(str(path)) as given, av.open(str(target), "w", format="mpegts") as made:
        streams = {s.index: made.add_stream_from_template(s) for s in given.streams}
        counted = -1
        for packet in given.demux():
            if packet.dts is None:
                continue
            copy = packet
            if packet.stream.type == "video":
                counted += 1
                units = re.split(rb"\0*\0\0\x01", bytes(packet))[1:]
                copy = av.Packet(
                    b"".join(code(counted, n, unit[0] & 31) + unit for n, unit in enumerate(units))
                )
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                copy.is_keyframe = packet.is_keyframe
            copy.stream = streams[packet.stream.index]
            made.mux(copy)
    return target


def samples(path: Path) -> dict[str, list[tuple[int, int]]]:
    """Place and size in an MP4 of every sample of its main streams."""
    with av.open(str(path)) as container:
        main = [s for s in container.streams if s.type in {"video", "audio"} and not _cover(s)]
        return {s.type: [(e.pos, e.size) for e in s.index_entries] for s in main}


def flip(path: Path, at: int) -> None:
    """Change one bit."""
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def script(path: Path, body: str) -> Path:
    """An executable shell script that names itself as an ffmpeg."""
    path.write_text(
        '#!/bin/sh\ncase "$1" in -version) echo "ffmpeg version 7.0 fake"; exit 0;; esac\n' + body
    )
    path.chmod(0o755)
    return path


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with contextlib.suppress(OSError):
        # A zombie waits for init, which is nothing we started.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110  # another process cannot set an event
            await asyncio.sleep(0.02)
