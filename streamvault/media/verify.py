"""Whether a final file holds what the parts held.

ffmpeg's exit status was 0 in every broken case measured, so it proves nothing.
"""

from __future__ import annotations

import itertools
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamvault.errors import MediaError, VerificationFailed
from streamvault.media.ffmpeg import (
    Ffmpeg,
    ProgressCallback,
    describe_exit,
    run,
    run_python_watched,
)
from streamvault.media.probe import OutputFacts, Packets, Step, probe_output, scan_parts
from streamvault.media.start_codes import HABITS
from streamvault.media.streamhash import SLICES, hash_output, read_hashes

HASH_CHILD = "streamvault.media.hash_child"
HASH_CHECK = "stream hash"
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
class Holes:
    """Where a file has nothing for a while, and how far apart its streams end."""

    steps: dict[str, tuple[Step, ...]]
    """By `video` and `audio`."""
    ends_apart_s: float


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of the source without looking at the output."""

    packets: dict[str, int]
    """By `video` and `audio`."""
    duration_s: float
    """Sum of the segments' durations and the holes kept."""
    stream_hash: dict[str, str]
    codecs: dict[str, str]
    hash_form: str = SLICES
    """What the stream hash was taken of, see `streamhash`."""
    non_monotonic: int = 0
    """Decode times that did not rise, as ffmpeg counted them while muxing."""
    parts: tuple[SourcePart, ...] = ()
    """Asked only when the output has a hole that needs an explanation."""
    holes: Holes | None = None
    """Those explained when the file was made: enough for a check after the parts are gone."""


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
    holes: Holes | None = None
    """Of the output."""

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def only_the_hash_differs(self) -> bool:
        return [check.name for check in self.checks if not check.ok] == [HASH_CHECK]

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
    """Check a finished file against its source; `full` reads it once more for the stream hash.

    A file that cannot even be opened is a failed check, not an error. Raises RemuxFailed when
    ffmpeg hangs.
    """
    try:
        found = await probe_output(path)
    except MediaError as error:
        return Verification((Check("readable", False, str(error)),))
    holes = Holes({k: s.steps for k, s in found.streams.items()}, _ends_apart(found.streams))
    checks = [*_quick_checks(found, expected), await _holes_check(holes, expected)]
    if not full:
        return Verification(tuple(checks), holes=holes)
    hashes = await hash_of(path, expected.codecs, expected.hash_form, ffmpeg, on_progress)
    return Verification((*checks, _hash_check(hashes, expected)), hashes, holes)


async def hash_of(
    path: Path,
    codecs: Mapping[str, str],
    form: str,
    ffmpeg: Ffmpeg,
    on_progress: ProgressCallback | None = None,
) -> dict[str, str]:
    """The stream hash of a final file, one full read; only `error` when it cannot be read on."""
    with tempfile.TemporaryDirectory(prefix="streamvault-") as scratch:
        target = Path(scratch) / "stream.hash"
        if form in HABITS:
            args = [str(path), form, str(target)]
            done = await run_python_watched(HASH_CHILD, args, on_progress=on_progress)
        else:
            reader = "matroska" if path.suffix == ".mkv" else "mov"
            source = ["-protocol_whitelist", "file", "-f", reader, "-i", f"file:{path}"]
            args = [*source, *hash_output(codecs, form, target)]
            done = await run(ffmpeg, args, on_progress=on_progress)
        if done.returncode:
            last_line = done.log_tail.strip().rpartition("\n")[2]
            return {"error": f"{describe_exit(done.returncode)}, {last_line}"}
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
    if found.index_first is not None:
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


def _hash_check(found: Mapping[str, str], expected: Expected) -> Check:
    known = expected.stream_hash
    detail = ", ".join(
        f"{kind} {found.get(kind, '-')} in the file, {known.get(kind, '-')} in the parts"
        for kind in sorted({*found, *known})
    )
    return Check(HASH_CHECK, dict(found) == known, f"of {expected.hash_form}: {detail}")


async def _holes_check(found: Holes, expected: Expected) -> Check:
    """Holes, and a difference of the ends, are fine where the source has them too."""
    known = expected.holes or Holes({}, 0.0)
    between = _between_parts(expected.parts)
    odd = _unexplained(found, known, between)
    readable = bool(expected.parts) and all(part.path.exists() for part in expected.parts)
    if (odd or not _end_alike(found, known)) and readable:
        known = await _holes_of_source(expected.parts)
        odd = _unexplained(found, known, between)
    words = [f"{kind} hole of {s.length_s:.2f} s at {s.at_s:.2f} s" for kind, s in odd[:3]]
    ends = f"streams end {found.ends_apart_s:.2f} s apart, {known.ends_apart_s:.2f} s in the parts"
    return Check("holes", not odd and _end_alike(found, known), "; ".join([*words, ends]))


def _end_alike(one: Holes, other: Holes) -> bool:
    return abs(one.ends_apart_s - other.ends_apart_s) < AV_END_SLACK_S


async def _holes_of_source(parts: Sequence[SourcePart]) -> Holes:
    source = _on_one_clock(await scan_parts([part.path for part in parts]), parts)
    return Holes({k: s.steps for k, s in source.items()}, _ends_apart(source))


def _between_parts(parts: Sequence[SourcePart]) -> list[Step]:
    return [
        Step(a.offset_s + a.span_s, b.offset_s - a.offset_s - a.span_s)
        for a, b in itertools.pairwise(parts)
    ]


def _unexplained(found: Holes, known: Holes, between: Sequence[Step]) -> list[tuple[str, Step]]:
    odd = []
    for kind, steps in found.steps.items():
        holes = _Sorted([*between, *known.steps.get(kind, ())])
        odd += [(kind, step) for step in steps if not holes.have(step)]
    return odd


class _Sorted:
    """Holes by their place, so that thousands of them are not compared with each other."""

    def __init__(self, holes: Sequence[Step]) -> None:
        self._holes = sorted(holes, key=_place)

    def have(self, step: Step) -> bool:
        reach = STEP_SLACK_S + 2 * DURATION_SLACK_SHARE * step.at_s + 1.0
        first = bisect_left(self._holes, step.at_s - reach, key=_place)
        last = bisect_right(self._holes, step.at_s + reach, key=_place)
        return any(_alike(step, hole) for hole in self._holes[first:last])


def _place(step: Step) -> float:
    return step.at_s


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
