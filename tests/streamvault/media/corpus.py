"""Every awkward way in which parts come, as one list: small files with the same sore points.

A sample lays its parts into a folder and says when each began on the recording's clock. What a
final file has to hold follows from reading the parts themselves.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av

from streamvault.media.remux import PartFile
from tests.streamvault.media.media_files import FPS, START, WHEEL, Source, without_packets

WRAP_S = 2**33 / 90_000
"""MPEG-TS counts 33 bits of 1/90000 s."""
HOUR = 3600.0


@dataclass(frozen=True)
class Laid:
    """One part and where it belongs."""

    path: Path
    at_s: float
    """On the recording's clock."""
    duration_s: float
    gap_s: float = 0.0

    def part(self, clock_s: float) -> PartFile:
        size = self.path.stat().st_size
        wall_s = START + self.at_s
        return PartFile(self.path, wall_s, self.duration_s, "", size, self.gap_s, clock_s)


@dataclass
class Bench:
    """Where samples are made."""

    source: Source
    folder: Path
    laid: list[Laid] = field(default_factory=list)

    def put(self, path: Path, at_s: float, duration_s: float = 2.0, gap_s: float = 0.0) -> Path:
        name = self.folder / f"part-{len(self.laid) + 1:04}{path.suffix}"
        if path != name:
            shutil.copyfile(path, name)
        self.laid.append(Laid(name, at_s, duration_s, gap_s))
        return name

    def cut(self, path: Path, kind: str, from_s: float, to_s: float) -> Path:
        name = self.folder / f"cut-{kind}-{from_s}.ts"
        return without_packets(path, name, kind, from_s, to_s)


@dataclass(frozen=True)
class Sample:
    lay: Callable[[Bench], None]
    files: tuple[int, ...] = ()
    """How many parts go into each final file; empty: all into one."""
    hole_parts_it: bool = False
    """It is only the hole that makes several files of it."""
    torn: int = 0
    """Pictures that a decoder may spoil because of one that came in pieces: a group of them."""
    browser: bool = True
    """Whether Debian's Chromium plays it: it has no decoder for HEVC, and gives up on a torn
    picture, and on a file that begins with pictures which need others."""

    @property
    def files_closed(self) -> tuple[int, ...]:
        return () if self.hole_parts_it else self.files


def _as_it_should_be(bench: Bench) -> None:
    bench.put(bench.source(4), 0, 4)


def _an_hour_ahead(bench: Bench) -> None:
    bench.put(bench.source(2), 0)
    bench.put(bench.source(2, start_s=HOUR), 2)


def _back_to_zero(bench: Bench) -> None:
    bench.put(bench.source(2, start_s=500), 0)
    bench.put(bench.source(2), 2)


def _a_hole_of(seconds: float) -> Callable[[Bench], None]:
    def lay(bench: Bench) -> None:
        bench.put(bench.source(2), 0)
        bench.put(bench.source(2, start_s=2 + seconds, picture="smptebars"), 2 + seconds)

    return lay


def _a_lost_segment(bench: Bench) -> None:
    thinner = bench.cut(bench.source(8), "video", 4, 6)
    bench.put(bench.cut(thinner, "audio", 4, 6), 0, 6, gap_s=2)


def _sound_drops_out(bench: Bench) -> None:
    bench.put(bench.cut(bench.source(30), "audio", 4, 24), 0, 30)


def _sound_drops_out_and_goes_on(bench: Bench) -> None:
    _sound_drops_out(bench)
    bench.put(bench.source(2, start_s=77), 30)


def _sound_ends_early(bench: Bench) -> None:
    bench.put(bench.cut(bench.source(8), "audio", 3, 99), 0, 8)


def _the_clock_wraps(bench: Bench) -> None:
    bench.put(bench.source(6, start_s=WRAP_S - 4), 0, 6)


def _the_tail_is_torn(bench: Bench) -> None:
    path = bench.folder / "torn.ts"
    shutil.copyfile(bench.source(4), path)
    os.truncate(path, path.stat().st_size * 3 // 4 // 188 * 188 + 100)
    bench.put(path, 0, span_of(path))


def _the_tail_is_torn_and_it_goes_on(bench: Bench) -> None:
    _the_tail_is_torn(bench)
    bench.put(bench.source(2, start_s=50), 9)


def _the_middle_is_corrupt(bench: Bench) -> None:
    """A handful of transport packets is noise, sync bytes and all."""
    path = bench.put(bench.source(4), 0, 4)
    middle = path.stat().st_size // 2 // 188 * 188
    with path.open("r+b") as file:
        file.seek(middle)
        file.write(bytes(range(1, 189)) * 3)


def _begins_between_keyframes(bench: Bench) -> None:
    bench.put(bench.cut(bench.source(4), "video", -1, 0.5), 0, 4)


def _only_sound(bench: Bench) -> None:
    for number, start_s in enumerate((0, 50, 7)):
        bench.put(bench.source(2.5, video=None, start_s=start_s), number * 2.5, 2.5)


def _no_sound(bench: Bench) -> None:
    bench.put(bench.source(2, audio=False), 0)
    bench.put(bench.source(2, audio=False, start_s=9), 2)


def _fragments_of(codec: str) -> Callable[[Bench], None]:
    def lay(bench: Bench) -> None:
        path = bench.source(2, video=codec, suffix=".mp4")
        bench.put(path, 0)
        bench.put(path, 7)

    return lay


def _hevc_in_ts(bench: Bench) -> None:
    bench.put(bench.source(2, video="libx265"), 0)
    bench.put(bench.source(2, video="libx265", start_s=9), 2)


def _the_picture_gets_smaller(bench: Bench) -> None:
    bench.put(bench.source(2), 0)
    bench.put(bench.source(2, size="128x72"), 10)
    bench.put(bench.source(2, size="128x72", start_s=9), 12)


def _another_codec(bench: Bench) -> None:
    bench.put(bench.source(2), 0)
    bench.put(bench.source(2, video="libsvtav1", suffix=".mp4"), 3)


def _sound_comes_late(bench: Bench) -> None:
    bench.put(bench.source(2, audio=False), 0)
    bench.put(bench.source(2, start_s=2), 2)


def _seven_hours_of_nothing(bench: Bench) -> None:
    bench.put(bench.source(2), 0)
    bench.put(bench.source(2), 7 * HOUR)


def _six_hours_of_nothing(bench: Bench) -> None:
    bench.put(bench.source(2), 0)
    bench.put(bench.source(2), 6 * HOUR)


def _a_whole_day_and_more(bench: Bench) -> None:
    """28 h in the three parts that the recorder makes of it, the clock wrapping in the last."""
    hour = bench.folder / "hour.ts"
    made = ["-f", "lavfi", "-i", "testsrc2=s=64x36:r=1", "-f", "lavfi", "-i", "sine=r=8000"]
    coded = ["-t", "3600", "-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-pix_fmt"]
    coded += ["yuv420p", "-c:a", "aac", "-b:a", "16k"]
    _run([*made, *coded, str(hour)])
    at_s = 0.0
    for hours in (12, 12, 4):
        path = bench.folder / f"from-{at_s}.ts"
        looped = ["-stream_loop", str(hours - 1), "-i", str(hour), "-c", "copy"]
        _run([*looped, "-output_ts_offset", str(at_s), str(path)])
        span_s = span_of(path)
        bench.put(path, at_s, span_s)
        at_s += span_s


def _run(args: list[str]) -> None:
    subprocess.run([str(WHEEL), "-v", "error", "-y", *args], check=True)


SAMPLES = {
    "as it should be": Sample(_as_it_should_be),
    "timestamps an hour ahead": Sample(_an_hour_ahead),
    "timestamps back to zero": Sample(_back_to_zero),
    "a hole of 15 s": Sample(_a_hole_of(15)),
    "a hole of 4 s": Sample(_a_hole_of(4)),
    "a hole of half an hour": Sample(_a_hole_of(1620)),
    "a lost segment": Sample(_a_lost_segment),
    "sound drops out for 20 s": Sample(_sound_drops_out),
    "sound drops out and another part follows": Sample(_sound_drops_out_and_goes_on),
    "sound ends early": Sample(_sound_ends_early),
    "sound comes late": Sample(_sound_comes_late, files=(1, 1)),
    "the clock wraps": Sample(_the_clock_wraps),
    "a torn tail": Sample(_the_tail_is_torn, torn=FPS + 2, browser=False),
    "a torn tail and another part": Sample(
        _the_tail_is_torn_and_it_goes_on, torn=FPS + 2, browser=False
    ),
    "a corrupt middle": Sample(_the_middle_is_corrupt),
    "begins between keyframes": Sample(_begins_between_keyframes, browser=False),
    "only sound": Sample(_only_sound),
    "no sound": Sample(_no_sound),
    "H.264 in fragments": Sample(_fragments_of("libx264")),
    "HEVC in fragments": Sample(_fragments_of("libx265"), browser=False),
    "AV1 in fragments": Sample(_fragments_of("libsvtav1")),
    "HEVC in TS": Sample(_hevc_in_ts, browser=False),
    "the picture gets smaller": Sample(_the_picture_gets_smaller, files=(1, 2)),
    "another codec": Sample(_another_codec, files=(1, 1)),
    "seven hours of nothing": Sample(_seven_hours_of_nothing, files=(1, 1), hole_parts_it=True),
    "six hours of nothing": Sample(_six_hours_of_nothing),
    "28 hours": Sample(_a_whole_day_and_more),
}

# ---- what is in a file, by reading all of it


Times = dict[str, list[float]]


def packet_times(path: Path) -> Times:
    """Presentation times of every packet of the main streams, in order; a wrap is taken out."""
    found: Times = {}
    with av.open(str(path)) as container:
        main = [s for s in container.streams if s.type in {"video", "audio"} and not _is_cover(s)]
        for packet in container.demux(main):
            if packet.size and packet.pts is not None:
                found.setdefault(packet.stream.type, []).append(
                    float(packet.pts * packet.time_base)
                )
    return {kind: sorted(times) for kind, times in found.items()}


def span_of(path: Path) -> float:
    """From the first packet to the end of the last one."""
    with av.open(str(path)) as container:
        shown = [
            (p.pts * p.time_base, (p.pts + (p.duration or 0)) * p.time_base)
            for p in container.demux()
            if p.size and p.pts is not None
        ]
    return float(max(end for _, end in shown) - min(start for start, _ in shown))


def _is_cover(stream: av.stream.Stream) -> bool:
    return bool(int(stream.disposition) & 0x0400)
