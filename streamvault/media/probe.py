"""What media files hold, as seen by the PyAV child; the typed side of `probe_child`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamvault.media.ffmpeg import run_python_child

CHILD = "streamvault.media.probe_child"
SCAN_BYTES_PER_S = 5_000_000  # far below any disk: the limit for a scan only ends one that hangs


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """One video or audio stream; fields that do not apply are 0."""

    index: int
    codec: str
    extradata: str
    """A short hash of the codec's set-up bytes."""
    rate: float
    """Frames or samples per second, 0 when not known."""
    width: int = 0
    height: int = 0
    channels: int = 0
    framing: str = ""
    """What tells NAL units apart: `lengths` or, in H.264, a habit of `start_codes`; else ''."""


@dataclass(frozen=True, slots=True)
class Step:
    """A jump of the decode time larger than 0.6 s: from `at_s` on, nothing for `length_s`."""

    at_s: float
    length_s: float


@dataclass(frozen=True, slots=True)
class PartFacts:
    format: str
    """libav's name, such as `mpegts`."""
    duration_s: float
    """First to last timestamp, 0 when not known."""
    video: StreamFacts | None
    audio: StreamFacts | None


@dataclass(frozen=True, slots=True)
class Packets:
    """Packets of one stream, counted; `end_s` on the file's own clock."""

    packets: int
    end_s: float
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class EmbeddedChapter:
    start_s: float
    end_s: float
    title: str


@dataclass(frozen=True, slots=True)
class OutputFacts:
    """A final file: an MP4 as its index describes it, Matroska as it was read to its end."""

    size_bytes: int
    duration_s: float
    streams: dict[str, Packets]
    """By `video` and `audio`."""
    data_end: int
    """The last byte of media by the index; beyond `size_bytes` when the file is cut short."""
    chapters: tuple[EmbeddedChapter, ...]
    tags: dict[str, str]
    cover_bytes: int
    index_first: bool | None
    """None where nothing depends on it."""


async def probe_parts(paths: Sequence[Path]) -> list[PartFacts]:
    """Streams and durations, from the first and last bytes of each part. Raises MediaError."""
    answer = await run_python_child(CHILD, {"what": "parts", "paths": [str(p) for p in paths]})
    return [_part_facts(part) for part in answer["parts"]]


async def probe_output(path: Path) -> OutputFacts:
    """What a finished file says of itself; of an MP4 only the index is read. Raises MediaError."""
    request = {"what": "output", "path": str(path)}
    answer = await run_python_child(CHILD, request, timeout_s=_limit_s([path]))
    streams: dict[str, Any] = answer["streams"]
    return OutputFacts(
        size_bytes=answer["size_bytes"],
        duration_s=answer["duration_s"],
        streams={kind: _packets(stream) for kind, stream in streams.items()},
        data_end=max((stream["data_end"] for stream in streams.values()), default=0),
        chapters=tuple(EmbeddedChapter(**chapter) for chapter in answer["chapters"]),
        tags=answer["tags"],
        cover_bytes=answer["cover_bytes"],
        index_first=answer["index_first"],
    )


async def scan_parts(paths: Sequence[Path]) -> list[dict[str, Packets]]:
    """Every packet of every part, read in full: about 0.8 of a remux's CPU. Raises MediaError."""
    request = {"what": "scan", "paths": [str(p) for p in paths]}
    answer = await run_python_child(CHILD, request, timeout_s=_limit_s(paths))
    return [{kind: _packets(seen) for kind, seen in part.items()} for part in answer["parts"]]


async def probe_chapters(path: Path) -> tuple[EmbeddedChapter, ...]:
    """Those of a finished file, from its header. Raises MediaError."""
    answer = await run_python_child(CHILD, {"what": "chapters", "path": str(path)})
    return tuple(EmbeddedChapter(**chapter) for chapter in answer["chapters"])


def _limit_s(paths: Sequence[Path]) -> float:
    """What is not there is for the child to find."""
    return 600 + sum(p.stat().st_size for p in paths if p.exists()) / SCAN_BYTES_PER_S


def _part_facts(part: Mapping[str, Any]) -> PartFacts:
    streams = {kind: StreamFacts(**facts) for kind, facts in part["streams"].items()}
    return PartFacts(part["format"], part["duration_s"], streams.get("video"), streams.get("audio"))


def _packets(seen: Mapping[str, Any]) -> Packets:
    steps = tuple(Step(at, length) for at, length in seen["steps"])
    return Packets(seen["packets"], seen["end_s"], steps)
