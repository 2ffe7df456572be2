"""`./sv bench process`: a remux beside `cp` and a plain `ffmpeg -c copy` in the same run, and
beside what others do: an index moved in a second pass, a process for each picture.

Processor time and bytes are those of all processes a row starts; wall times say little on a shared
machine and are not shown. Limits: a remux at most 1.05 x the bytes of `cp` and 2.2 x the processor
time of the plain copy, full check at most one more read and 2 x, previews 5.5 s per hour; the
largest process takes hardly more memory for a recording of twice the length.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from streamvault.media.chapters import Chapter, ffmetadata
from streamvault.media.ffmpeg import Ffmpeg, find_ffmpeg, run
from streamvault.media.previews import MediaSource, make_poster, make_storyboard
from streamvault.media.probe import probe_parts
from streamvault.media.remux import PartFile, RemuxOrder, RemuxResult, remux
from streamvault.media.remux_plan import (
    Files,
    ProbedPart,
    arguments,
    ffconcat,
    group_parts,
    index_bytes,
)
from streamvault.media.verify import verify

SEED_S = 20
BYTES_LIMIT = 1.05
REMUX_CPU_LIMIT = 2.2
CHECK_CPU_LIMIT = 2.0
PREVIEWS_LIMIT_S_PER_H = 5.5
MEMORY_LIMIT = 1.25


@dataclass(frozen=True, slots=True)
class Cost:
    cpu_s: float
    read: int
    written: int


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    costs: list[Cost]


@dataclass(frozen=True, slots=True)
class Limit:
    name: str
    value: float
    at_most: float

    @property
    def kept(self) -> bool:
        return self.value <= self.at_most


class Bench:
    """One source and everything that is done to it, in a directory of its own."""

    def __init__(self, ffmpeg: Ffmpeg, source: Path, directory: Path, duration_s: float) -> None:
        self._ffmpeg, self._source, self._directory = ffmpeg, source, directory
        self._duration_s = duration_s
        self._part = PartFile(source, 0.0, duration_s, "", source.stat().st_size)
        (facts,) = asyncio.run(probe_parts([source]))
        (self._plan,) = group_parts([ProbedPart(self._part, facts)], keep_holes=True)
        self._chapters = [Chapter(0, 60, "One"), Chapter(60, duration_s, "Two")]
        self._tags = {"title": "Benchmark"}
        self._cover: Path | None = None
        self._result: RemuxResult | None = None

    @property
    def hash_form(self) -> str:
        return self._plan.hash_form

    async def copy(self) -> None:
        target = self._directory / "copy.ts"
        # A reflink would move no bytes at all.
        await execute("cp", "--reflink=never", "--sparse=never", self._source, target)
        target.unlink()

    async def plain(self) -> None:
        target = self._directory / "plain.mp4"
        copy = ("-map", "0:v:0", "-map", "0:a:0", "-c", "copy")
        await execute(
            self._ffmpeg.path, "-v", "error", "-nostdin", "-y", "-i", self._source, *copy, target
        )
        target.unlink()

    async def faststart(self) -> None:
        """As most do it: the index goes to the front when the file is written, by writing it again.
        Its chapters and tags would be a third pass."""
        target = self._directory / "faststart.mp4"
        copy = ("-map", "0:v:0", "-map", "0:a:0", "-c", "copy", "-movflags", "+faststart")
        await execute(
            self._ffmpeg.path, "-v", "error", "-nostdin", "-y", "-i", self._source, *copy, target
        )
        target.unlink()

    async def pictures_one_by_one(self) -> None:
        """A process for each of the storyboard's pictures."""
        assert self._result is not None
        target = self._directory / "picture.jpg"
        for at_s in range(0, int(self._duration_s), 10):
            await execute(
                *(self._ffmpeg.path, "-v", "error", "-nostdin", "-y", "-ss", str(at_s)),
                *("-noaccurate_seek", "-skip_frame", "nokey", "-i", self._result.path),
                *("-frames:v", "1", "-vf", "scale=320:-2", target),
            )

    async def remux_pass(self) -> None:
        """ffmpeg alone, with the arguments that a remux gives it."""
        names = ("parts.ffconcat", "meta.ffmeta", "pass.mp4", "source.hash")
        concat, metadata, output, hashes = (self._directory / name for name in names)
        concat.write_text(ffconcat(self._plan))
        metadata.write_text(ffmetadata(self._tags, self._chapters))
        files = Files(concat, metadata, self._cover, output, hashes)
        room = index_bytes(self._plan, self._chapters, 0 if not self._cover else 1_000_000)
        args = arguments(self._plan, files, moov_size=room, patient=False)
        done = await run(self._ffmpeg, args, watch=output)
        if done.returncode:
            raise SystemExit(done.log_tail)
        output.unlink()

    async def remux(self) -> None:
        """The whole step: a look into the parts, the pass, the quick checks, the final name."""
        final = self._directory / "final.mp4"
        final.unlink(missing_ok=True)
        order = RemuxOrder(
            [self._part], final, self._chapters, self._tags, self._cover, full_check=False
        )
        (self._result,) = await remux(order, self._ffmpeg)

    async def check(self) -> None:
        assert self._result is not None
        checked = await verify(self._result.path, self._result.expected, self._ffmpeg)
        checked.raise_if_bad()

    async def poster(self) -> None:
        poster = await make_poster(
            [MediaSource(self._source, 0, self._duration_s)], self._directory / "poster.jpg"
        )
        self._cover = poster.path if poster else None

    async def storyboard(self) -> None:
        assert self._result is not None
        await make_storyboard(
            [MediaSource(self._result.path, 0, self._duration_s)], self._directory
        )


def main(args: Sequence[str]) -> int:
    """Print the table; 1 when a limit is not kept."""
    options = _parser().parse_args(args)
    if options.peak:
        return _print_peak(options)
    console = Console()
    ffmpeg = find_ffmpeg(options.ffmpeg)
    with tempfile.TemporaryDirectory(prefix="streamvault-bench-", dir=options.dir) as scratch:
        source, duration_s = make_source(ffmpeg, Path(scratch), options.minutes)
        console.print(
            f"ffmpeg {ffmpeg.version}, {source.stat().st_size / 1e9:.2f} GB of 1080p60 in "
            f"{duration_s / 60:.0f} min, {options.rounds} rounds, median"
        )
        bench = Bench(ffmpeg, source, Path(scratch), duration_s)
        console.print(f"the source is hashed as {bench.hash_form}")
        rows = asyncio.run(measure(bench, options.rounds))
        size = source.stat().st_size
    console.print(_table(rows, size))
    peaks = [peak_bytes(options, minutes) for minutes in (options.minutes, options.minutes * 2)]
    console.print(f"largest process: {peaks[0] / 1e6:.0f} MB, then {peaks[1] / 1e6:.0f} MB")
    limits = [*_limits(rows, size, duration_s), Limit("memory", peaks[1] / peaks[0], MEMORY_LIMIT)]
    for limit in limits:
        verdict = "kept" if limit.kept else "NOT KEPT"
        console.print(f"{limit.name}: {limit.value:.2f}, at most {limit.at_most} — {verdict}")
    return 0 if all(limit.kept for limit in limits) else 1


def peak_bytes(options: argparse.Namespace, minutes: float) -> int:
    """Of the largest process in all the work on a recording of that length; measured in a process
    of its own, since the system keeps one figure for all children that ever were."""
    command = [sys.executable, "-m", "benchmarks.process", "--peak", "--minutes", str(minutes)]
    command += ["--dir", str(options.dir)] if options.dir else []
    command += ["--ffmpeg", str(options.ffmpeg)] if options.ffmpeg else []
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(told.stdout)


def _print_peak(options: argparse.Namespace) -> int:
    ffmpeg = find_ffmpeg(options.ffmpeg)
    with tempfile.TemporaryDirectory(prefix="streamvault-bench-", dir=options.dir) as scratch:
        source, duration_s = make_source(ffmpeg, Path(scratch), options.minutes)
        bench = Bench(ffmpeg, source, Path(scratch), duration_s)
        for work in (bench.poster, bench.remux, bench.check, bench.storyboard):
            asyncio.run(work())
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sv bench process", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="length of the source")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, help="where to work; a tmpfs makes it quicker")
    parser.add_argument("--ffmpeg", type=Path)
    parser.add_argument("--peak", action="store_true", help="only print the largest process")
    return parser


def make_source(ffmpeg: Ffmpeg, directory: Path, minutes: float) -> tuple[Path, float]:
    """An MPEG-TS of 1080p60 at 6 Mbit/s, 2 s between keyframes; 20 s of it are encoded once."""
    seed = Path(tempfile.gettempdir()) / "streamvault-bench-1080p60.ts"
    if not seed.exists():
        _encode(ffmpeg, seed)
    repeats = max(1, round(minutes * 60 / SEED_S))
    listing = directory / "seed.ffconcat"
    listing.write_text("ffconcat version 1.0\n" + f"file 'file:{seed}'\n" * repeats)
    source = directory / "part-0001.ts"
    subprocess.run(
        [
            *(ffmpeg.path, "-v", "error", "-nostdin", "-y", "-f", "concat", "-safe", "0"),
            *("-i", listing, "-map", "0", "-c", "copy", source),
        ],
        check=True,
    )
    return source, float(repeats * SEED_S)


def _encode(ffmpeg: Ffmpeg, seed: Path) -> None:
    unfinished = seed.with_suffix(".part.ts")
    picture = "testsrc2=s=1920x1080:r=60,noise=alls=12:allf=t"
    rate = ("-b:v", "6M", "-maxrate", "6M", "-bufsize", "12M", "-g", "120", "-bf", "2")
    subprocess.run(
        [
            *(ffmpeg.path, "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", picture),
            *("-f", "lavfi", "-i", "sine=r=48000", "-t", str(SEED_S)),
            *("-c:v", "libx264", "-preset", "ultrafast", *rate, "-c:a", "aac", "-b:a", "160k"),
            unfinished,
        ],
        check=True,
    )
    unfinished.replace(seed)


async def measure(bench: Bench, rounds: int) -> list[Row]:
    """Every kind of work once per round, so that a noisy minute hits all of them alike."""
    work: dict[str, Callable[[], Awaitable[None]]] = {
        "cp": bench.copy,
        "ffmpeg -c copy": bench.plain,
        "ffmpeg, faststart": bench.faststart,
        "poster": bench.poster,
        "remux pass, source hash in it": bench.remux_pass,
        "remux step as a whole": bench.remux,
        "full check": bench.check,
        "storyboard": bench.storyboard,
        "a process per picture": bench.pictures_one_by_one,
    }
    rows = [Row(name, []) for name in work]
    for _ in range(rounds):
        for row, part in zip(rows, work.values(), strict=True):
            row.costs.append(await cost_of(part))
    return rows


async def cost_of(work: Callable[[], Awaitable[None]]) -> Cost:
    before = _spent()
    await work()
    after = _spent()
    return Cost(
        after.cpu_s - before.cpu_s, after.read - before.read, after.written - before.written
    )


def _spent() -> Cost:
    """Of this process and of the children it has waited for; Linux adds theirs to `io`, too."""
    cpu_s = sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    lines = Path("/proc/self/io").read_text().splitlines()
    values = {name: int(value) for name, _, value in (line.partition(":") for line in lines)}
    return Cost(cpu_s, values["rchar"], values["wchar"])


async def execute(*argv: str | Path) -> None:
    # At the priority of our own children: who waits more finds the caches cold more often.
    process = await asyncio.create_subprocess_exec("nice", "-n", "10", *argv)
    if await process.wait():
        raise SystemExit(f"{argv[0]} ended with {process.returncode}")


def _table(rows: Sequence[Row], size: int) -> Table:
    table = Table("work", "CPU s per GB", "read GB per GB", "written GB per GB")
    for row in rows:
        cpu_s, read, written = (
            statistics.median(figures)
            for figures in zip(*((c.cpu_s, c.read, c.written) for c in row.costs), strict=True)
        )
        cells = (cpu_s * 1e9 / size, read / size, written / size)
        table.add_row(row.name, *(f"{cell:.2f}" for cell in cells))
    return table


def _limits(rows: Sequence[Row], size: int, duration_s: float) -> list[Limit]:
    by_name = {row.name: row.costs for row in rows}
    copy, plain = by_name["cp"], by_name["ffmpeg -c copy"]
    once, step = by_name["remux pass, source hash in it"], by_name["remux step as a whole"]
    check = by_name["full check"]
    hours = duration_s / 3600
    # There is one poster however long the recording is.
    previews = [
        poster.cpu_s + board.cpu_s / hours
        for poster, board in zip(by_name["poster"], by_name["storyboard"], strict=True)
    ]
    return [
        Limit("remux step, bytes moved x cp", _ratio(step, copy, _moved), BYTES_LIMIT),
        Limit("remux pass, CPU x plain copy", _ratio(once, plain, _cpu), REMUX_CPU_LIMIT),
        Limit("full check, reads of the file", _moved(check[0]) / size, BYTES_LIMIT),
        Limit("full check, CPU x plain copy", _ratio(check, plain, _cpu), CHECK_CPU_LIMIT),
        Limit("previews, CPU s per hour", statistics.median(previews), PREVIEWS_LIMIT_S_PER_H),
    ]


def _ratio(
    ours: Sequence[Cost], yardstick: Sequence[Cost], figure: Callable[[Cost], float]
) -> float:
    """Median of the rounds' own ratios: both sides of a round met the same neighbours."""
    pairs = zip(ours, yardstick, strict=True)
    return statistics.median(figure(one) / figure(other) for one, other in pairs)


def _cpu(cost: Cost) -> float:
    return cost.cpu_s


def _moved(cost: Cost) -> float:
    return cost.read + cost.written


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
