"""Whether a final file holds what the parts held.

ffmpeg's exit status was 0 in every broken case measured, so it proves nothing.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamvault.errors import MediaError, VerificationFailed
from streamvault.media.ffmpeg import Ffmpeg, ProgressCallback, describe_exit, run
from streamvault.media.probe import OutputFacts, Packets, Step, probe_output, scan_parts
from streamvault.media.streamhash import hash_output, read_hashes

DURATION_SLACK_S = 1.0
DURATION_SLACK_SHARE = 0.001
AV_END_SLACK_S = 1.0
STEP_SLACK_S = 1.0


@dataclass(frozen=True, slots=True)
class SourcePart:
    """One part as it lies on the output's clock."""

    path: Path
    offset_s: float
    span_s: float
    """Media and the gaps inside it."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of the source without looking at the output."""

    packets: dict[str, int]
    """By `video` and `audio`."""
    duration_s: float
    """Sum of the segments' durations and the holes kept."""
    stream_hash: dict[str, str]
    codecs: dict[str, str]
    non_monotonic: int = 0
    """Decode times that did not rise, as ffmpeg counted them while muxing."""
    parts: tuple[SourcePart, ...] = ()
    """Asked only when the output has a hole that needs an explanation; may be gone later."""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    detail: str
    """Both figures, in words."""


@dataclass(frozen=True, slots=True)
class Verification:
    checks: tuple[Check, ...]
    stream_hash: dict[str, str] = field(default_factory=dict)
    """Of the output; empty when only the quick checks were asked for."""

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    def raise_if_bad(self) -> None:
        """Raises VerificationFailed naming each check that failed, with both figures."""
        bad = [f"{check.name}: {check.detail}" for check in self.checks if not check.ok]
        if bad:
            raise VerificationFailed(
                "; ".join(bad), hint="the parts are kept; retry, or play them as they are"
            )


async def verify(
    path: Path,
    expected: Expected,
    ffmpeg: Ffmpeg,
    *,
    full: bool = True,
    on_progress: ProgressCallback | None = None,
) -> Verification:
    """Check a finished MP4 against its source; `full` reads it once more for the stream hash.

    A file that cannot even be opened is a failed check, not an error. Raises RemuxFailed when
    ffmpeg hangs.
    """
    try:
        found = await probe_output(path)
    except MediaError as error:
        return Verification((Check("readable", False, str(error)),))
    checks = [*_quick_checks(found, expected), await _holes_check(found, expected)]
    if not full:
        return Verification(tuple(checks))
    hashes = await hash_of(path, expected.codecs, ffmpeg, on_progress)
    return Verification((*checks, _hash_check(hashes, expected.stream_hash)), hashes)


async def hash_of(
    path: Path,
    codecs: Mapping[str, str],
    ffmpeg: Ffmpeg,
    on_progress: ProgressCallback | None = None,
) -> dict[str, str]:
    """The stream hash of a file, one full read; empty when it cannot be read to its end."""
    with tempfile.TemporaryDirectory(prefix="streamvault-") as scratch:
        target = Path(scratch) / "stream.hash"
        args = ["-protocol_whitelist", "file", "-f", "mov", "-i", f"file:{path}"]
        done = await run(ffmpeg, [*args, *hash_output(codecs, target)], on_progress=on_progress)
        if done.returncode:
            return {"error": describe_exit(done.returncode)}
        return read_hashes(target)


def _quick_checks(found: OutputFacts, expected: Expected) -> Iterator[Check]:
    yield _same("packets", _counts(found.streams), expected.packets)
    slack = DURATION_SLACK_S + DURATION_SLACK_SHARE * expected.duration_s
    yield Check(
        "duration",
        abs(found.duration_s - expected.duration_s) < slack,
        f"{found.duration_s:.2f} s in the file, {expected.duration_s:.2f} s recorded",
    )
    yield Check(
        "bytes present",
        found.data_end <= found.size_bytes,
        f"{found.size_bytes} bytes, the index reaches to {found.data_end}",
    )
    yield Check(
        "rising timestamps",
        expected.non_monotonic == 0,
        f"{expected.non_monotonic} decode times did not rise while muxing",
    )
    yield Check("index first", found.index_first, "moov before mdat")


def _counts(streams: Mapping[str, Packets]) -> dict[str, int]:
    return {kind: stream.packets for kind, stream in streams.items()}


def _same(name: str, found: Mapping[str, int], expected: Mapping[str, int]) -> Check:
    kinds = sorted({*found, *expected})
    detail = ", ".join(
        f"{kind} {found.get(kind, 0)} in the file, {expected.get(kind, 0)} in the parts"
        for kind in kinds
    )
    return Check(name, dict(found) == dict(expected), detail)


def _hash_check(found: Mapping[str, str], expected: Mapping[str, str]) -> Check:
    kinds = sorted({*found, *expected})
    detail = ", ".join(
        f"{kind} {found.get(kind, '-')} in the file, {expected.get(kind, '-')} in the parts"
        for kind in kinds
    )
    return Check("stream hash", dict(found) == dict(expected), detail)


async def _holes_check(found: OutputFacts, expected: Expected) -> Check:
    """Holes and a difference of the ends are fine where the source has them too."""
    odd = _unexplained(found.streams, _between_parts(expected.parts))
    apart = _ends_apart(found.streams)
    if not odd and apart < AV_END_SLACK_S:
        return Check("holes", True, f"video and audio end {apart:.2f} s apart, no unknown hole")
    if not expected.parts or not all(part.path.exists() for part in expected.parts):
        return Check("holes", False, _hole_words(odd, apart, None))
    source = _on_one_clock(await scan_parts([p.path for p in expected.parts]), expected.parts)
    known = {kind: stream.steps for kind, stream in source.items()}
    odd = [(k, s) for k, s in odd if not any(_alike(s, t) for t in known.get(k, ()))]
    source_apart = _ends_apart(source)
    ok = not odd and abs(apart - source_apart) < AV_END_SLACK_S
    return Check("holes", ok, _hole_words(odd, apart, source_apart))


def _between_parts(parts: Sequence[SourcePart]) -> list[Step]:
    return [
        Step(a.offset_s + a.span_s, b.offset_s - a.offset_s - a.span_s)
        for a, b in itertools.pairwise(parts)
    ]


def _unexplained(streams: Mapping[str, Packets], holes: Sequence[Step]) -> list[tuple[str, Step]]:
    return [
        (kind, step)
        for kind, stream in streams.items()
        for step in stream.steps
        if not any(_alike(step, hole) for hole in holes)
    ]


def _alike(step: Step, hole: Step) -> bool:
    """Near the same place and of the same length; the sums of EXTINF drift from the clock."""
    slack = STEP_SLACK_S + DURATION_SLACK_SHARE * hole.at_s
    return abs(step.at_s - hole.at_s) < slack and abs(step.length_s - hole.length_s) < STEP_SLACK_S


def _ends_apart(streams: Mapping[str, Packets]) -> float:
    ends = [stream.end_s for stream in streams.values()]
    return max(ends, default=0.0) - min(ends, default=0.0)


def _on_one_clock(
    scans: Sequence[Mapping[str, Packets]], parts: Sequence[SourcePart]
) -> dict[str, Packets]:
    """The parts' packets joined as the output should hold them."""
    joined: dict[str, Packets] = {}
    for scan, part in zip(scans, parts, strict=True):
        for kind, seen in scan.items():
            before = joined.get(kind, Packets(0, 0.0, ()))
            moved = tuple(Step(s.at_s + part.offset_s, s.length_s) for s in seen.steps)
            joined[kind] = Packets(
                before.packets + seen.packets, seen.end_s + part.offset_s, before.steps + moved
            )
    return joined


def _hole_words(odd: Sequence[tuple[str, Step]], apart: float, source_apart: float | None) -> str:
    holes = [f"{kind} hole of {s.length_s:.2f} s at {s.at_s:.2f} s" for kind, s in odd[:3]]
    known = "" if source_apart is None else f", {source_apart:.2f} s in the parts"
    return "; ".join([*holes, f"video and audio end {apart:.2f} s apart{known}"])
