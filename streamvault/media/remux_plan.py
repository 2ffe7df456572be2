"""What a remux will do, worked out before ffmpeg starts; pure, no I/O.

Which parts go together, when each begins, and ffmpeg's arguments.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from streamvault.media.chapters import Chapter
from streamvault.media.probe import PartFacts, StreamFacts
from streamvault.media.start_codes import LENGTHS
from streamvault.media.streamhash import NAL_CODECS, PACKETS, SLICES, hash_output
from streamvault.media.verify import SourcePart

MIN_HOLE_S = 0.1  # below this the parts simply follow each other
# One step in an MP4 is a signed 32-bit number of 1/90000 s, 6.6 hours; beyond, a new file begins.
MAX_HOLE_S = 6 * 3600.0
# Actual cost is 13.6 bytes per packet without a cover; too little costs a second pass.
INDEX_BYTES_PER_PACKET = 20
INDEX_BYTES_PER_S = 2200
INDEX_BYTES_PER_CHAPTER = 1024
INDEX_BYTES_SPARE = 262_144
AAC_FRAME_SAMPLES = 1024
CONTAINERS = "concat,mpegts,mov,aac,flv,matroska"
MATROSKA = ".mkv"


@dataclass(frozen=True, slots=True)
class PartFile:
    """One part of a recording, as the journal knows it."""

    path: Path
    start_wall_s: float
    """Epoch seconds of its first segment, from PROGRAM-DATE-TIME or the time of arrival."""
    duration_s: float
    """Sum of the durations of its segments."""
    codecs: str = ""
    """The variant's CODECS, for people; the remux looks into the file."""
    size_bytes: int = 0
    gap_s: float = 0.0
    """Gaps inside the part, which its timestamps keep as holes."""
    clock_s: float | None = None
    """Where the chapters think that it begins; None: where it does."""

    @property
    def span_s(self) -> float:
        return self.duration_s + self.gap_s


@dataclass(frozen=True, slots=True)
class ProbedPart:
    file: PartFile
    facts: PartFacts

    @property
    def span_s(self) -> float:
        """By its timestamps, if these agree with the journal; a .ts can lie about its length."""
        journal, stamps = self.file.span_s, self.facts.duration_s
        return stamps if abs(stamps - journal) <= 1.0 + 0.01 * journal else journal


@dataclass(frozen=True, slots=True)
class Piece:
    """A part and the time in the output at which it begins."""

    part: ProbedPart
    offset_s: float
    hole_s: float
    """Nothing was recorded for this long after it, before the next."""


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """One output file: parts that fit into one set of streams."""

    pieces: tuple[Piece, ...]
    clock_s: float
    """Where it begins on the recording's clock; not 0 for a second file."""

    @property
    def first(self) -> PartFacts:
        return self.pieces[0].part.facts

    @property
    def codecs(self) -> dict[str, str]:
        """libav's codec names by `video` and `audio`."""
        return {
            kind: stream.codec
            for kind, stream in (("video", self.first.video), ("audio", self.first.audio))
            if stream
        }

    @property
    def hash_form(self) -> str:
        """What the source is hashed as while it is read: the cheapest form that fits all parts."""
        video = self.first.video
        if video is None or video.codec not in NAL_CODECS:
            return PACKETS
        framings = {p.part.facts.video.framing for p in self.pieces if p.part.facts.video}
        framing = framings.pop() if len(framings) == 1 else ""
        if framing == LENGTHS and video.codec == "h264" and len(self.pieces) > 1:
            # The concat demuxer gives H.264 start codes as the standard wants them.
            return "annexb"
        return PACKETS if framing == LENGTHS else framing or SLICES

    @property
    def video_words(self) -> str:
        video = self.first.video
        return f"{video.codec} {video.width}x{video.height}" if video else ""

    @property
    def audio_words(self) -> str:
        audio = self.first.audio
        return f"{audio.codec} {audio.rate:.0f} Hz, {audio.channels} channels" if audio else ""

    @property
    def duration_s(self) -> float:
        """By the journal, holes included: what the output is held against."""
        last = self.pieces[-1]
        return last.offset_s + last.part.file.span_s

    @property
    def size_bytes(self) -> int:
        return sum(piece.part.file.size_bytes for piece in self.pieces)

    @property
    def source_parts(self) -> tuple[SourcePart, ...]:
        return tuple(SourcePart(p.part.file.path, p.offset_s, p.part.span_s) for p in self.pieces)


def group_parts(parts: Sequence[ProbedPart], *, keep_holes: bool) -> list[OutputPlan]:
    """Parts in order, split where codec, picture size or sound change, or hours are missing."""
    groups: list[list[Piece]] = []
    for piece in _place(parts, keep_holes):
        if groups and _follows(groups[-1][0], groups[-1][-1], piece):
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return [OutputPlan(_from_zero(group), group[0].offset_s) for group in groups]


def clock_of(plans: Sequence[OutputPlan]) -> Callable[[float], float]:
    """From the clock of the chapters to that of the files: a part may be some frames longer than
    its segments said, and with each part that would add up."""
    pieces = [
        (piece.part.file.clock_s, plan.clock_s + piece.offset_s, piece.part)
        for plan in plans
        for piece in plan.pieces
    ]
    known = [(clock_s, at_s, part) for clock_s, at_s, part in pieces if clock_s is not None]

    def clock(told_s: float) -> float:
        if not known:
            return told_s
        n = max(bisect_right(known, told_s, key=_first) - 1, 0)
        clock_s, at_s, part = known[n]
        into_s, told_span_s = told_s - clock_s, part.file.span_s
        if 0 < into_s < told_span_s:
            return at_s + into_s * part.span_s / told_span_s
        beyond_s = min(into_s, 0.0) if into_s < told_span_s else part.span_s + into_s - told_span_s
        following_s = known[n + 1][1] if n + 1 < len(known) else float("inf")
        return min(at_s + beyond_s, following_s)

    return clock


def _first(known: tuple[float, float, ProbedPart]) -> float:
    return known[0]


def _follows(first: Piece, last: Piece, piece: Piece) -> bool:
    return last.hole_s <= MAX_HOLE_S and _fit(first.part.facts, piece.part.facts)


def _from_zero(group: Sequence[Piece]) -> tuple[Piece, ...]:
    start = group[0].offset_s
    moved = [replace(piece, offset_s=piece.offset_s - start) for piece in group]
    return (*moved[:-1], replace(moved[-1], hole_s=0.0))


def _fit(one: PartFacts, other: PartFacts) -> bool:
    return _same(one.video, other.video) and _same(one.audio, other.audio)


def _same(one: StreamFacts | None, other: StreamFacts | None) -> bool:
    if one is None or other is None:
        return one is other
    # In MPEG-TS and in H.264 parameter sets travel in the stream. HEVC and AV1 in MP4 have them in
    # the header only, and one file has one header.
    header = one.codec in {"hevc", "av1", "vp9"} and one.extradata != other.extradata
    numbers = [
        (one.width, other.width),
        (one.height, other.height),
        (one.channels, other.channels),
        *([(one.rate, other.rate)] if not one.width else []),
    ]
    differ = any(a != b for a, b in numbers if a and b)
    return one.codec == other.codec and one.index == other.index and not header and not differ


def _place(parts: Sequence[ProbedPart], keep_holes: bool) -> Iterator[Piece]:
    offset = 0.0
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        hole = 0.0
        if following and keep_holes:
            apart = following.file.start_wall_s - part.file.start_wall_s - part.span_s
            hole = apart if apart >= MIN_HOLE_S else 0.0
        yield Piece(part, offset, hole)
        offset += part.span_s + hole


def ffconcat(plan: OutputPlan) -> str:
    """The list for the concat demuxer: `duration` is the time to the next part where a hole stays.

    Without it ffmpeg takes the part's own end, which is exact where there is a picture.
    """
    lines = ["ffconcat version 1.0"]
    for piece in plan.pieces:
        name = str(piece.part.file.path.absolute()).replace("'", "'\\''")
        lines.append(f"file 'file:{name}'")
        if piece.hole_s or piece.part.facts.video is None:
            lines.append(f"duration {piece.part.span_s + piece.hole_s:.6f}")
    return "\n".join(lines) + "\n"


def index_bytes(plan: OutputPlan, chapters: Sequence[Chapter], cover_bytes: int) -> int:
    """Room to leave for the index at the front, `-moov_size`."""
    video, audio = plan.first.video, plan.first.audio
    per_s = (video.rate if video else 0.0) + (audio.rate / AAC_FRAME_SAMPLES if audio else 0.0)
    media = max(INDEX_BYTES_PER_S, INDEX_BYTES_PER_PACKET * per_s) * plan.duration_s
    chapter_bytes = INDEX_BYTES_PER_CHAPTER * len(chapters)
    return int(media) + cover_bytes + chapter_bytes + INDEX_BYTES_SPARE


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one run beside the parts themselves."""

    concat: Path
    metadata: Path
    cover: Path | None
    output: Path
    hashes: Path


def arguments(plan: OutputPlan, files: Files, *, moov_size: int | None, patient: bool) -> list[str]:
    """ffmpeg's arguments for the one pass: the file first, since progress counts the first output.

    Its ending says whether it becomes Matroska or MP4. Of an MP4 `moov_size` None writes the index
    at the end and moves it in a second pass. `patient` looks longer into the input for its streams.
    """
    return [
        *(("-probesize", "100M", "-analyzeduration", "60M") if patient else ()),
        # A part that begins like a playlist must not be read as one.
        *("-protocol_whitelist", "file", "-format_whitelist", CONTAINERS),
        # With more than one input ffmpeg 5 reads in threads, unless the first has no queue; they
        # cost a third more processor time. Later versions take 0 for their own default.
        *("-thread_queue_size", "0"),
        *_media_input(plan, files),
        *("-f", "ffmetadata", "-i", f"file:{files.metadata}"),
        *_cover_input(files),
        *_output(plan, files, moov_size),
        *hash_output(plan.codecs, plan.hash_form, files.hashes),
    ]


def slices_arguments(plan: OutputPlan, files: Files) -> list[str]:
    """ffmpeg's arguments for a hash of the source that no habit can change; one more read of it."""
    whitelist = ("-protocol_whitelist", "file", "-format_whitelist", CONTAINERS)
    return [*whitelist, *_media_input(plan, files), *hash_output(plan.codecs, SLICES, files.hashes)]


def _media_input(plan: OutputPlan, files: Files) -> list[str]:
    """One part is read as it is: the concat demuxer formats a log line per packet, a tenth of all.

    `-copyts` keeps ffmpeg from closing holes and from pulling sound and picture apart over them.
    """
    if len(plan.pieces) == 1:
        path = plan.pieces[0].part.file.path.absolute()
        return ["-copyts", "-start_at_zero", "-i", f"file:{path}"]
    return ["-f", "concat", "-safe", "0", "-i", f"file:{files.concat}"]


def _cover_input(files: Files) -> list[str]:
    """Matroska takes it as an attachment."""
    if files.cover is None or files.output.suffix == MATROSKA:
        return []
    return ["-f", "image2", "-i", f"file:{files.cover}"]


def _output(plan: OutputPlan, files: Files, moov_size: int | None) -> list[str]:
    form = _matroska(files) if files.output.suffix == MATROSKA else _mp4(plan, files, moov_size)
    return [
        *(("-map", "0:v:0") if "video" in plan.codecs else ()),
        *(("-map", "0:a:0") if "audio" in plan.codecs else ()),
        # A part may begin between keyframes; what was recorded stays, even if it shows late.
        *("-map_metadata", "1", "-map_chapters", "1", "-c", "copy", "-copyinkf"),
        *(*form, f"file:{files.output}"),
    ]


def _matroska(files: Files) -> list[str]:
    cover = ["-attach", f"file:{files.cover}", "-metadata:s:t", "mimetype=image/jpeg"]
    cover += ["-metadata:s:t", "filename=cover.jpg"]
    return [*(cover if files.cover else ()), "-f", "matroska"]


def _mp4(plan: OutputPlan, files: Files, moov_size: int | None) -> list[str]:
    video = plan.codecs.get("video")
    index = ["-movflags", "+faststart"] if moov_size is None else ["-moov_size", str(moov_size)]
    cover = ["-map", "2:v", f"-disposition:v:{1 if video else 0}", "attached_pic"]
    return [
        # Safari plays HEVC under this name only.
        *(("-tag:v:0", "hvc1") if video == "hevc" else ()),
        *(cover if files.cover else ()),
        *(*index, "-f", "mp4"),
    ]
