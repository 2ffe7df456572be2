"""`./sv bench recorder`: what a recording costs, beside streamlink, ffmpeg and curl in one run.

Each side records the same live channels of 6 Mbit/s over TLS; curl fetches the same segments over
one keep-alive connection as fast as it can, which is the practical limit. It does so once more at
the pace of the streams: whoever sleeps between segments finds cold caches, which costs live sides
alone. Processor time is that of the recording processes alone, memory is PSS. Limits: 0.42 x
ffmpeg, 1.1 x curl, 0.5 MB for each further recording. Two hundred streamlinks or ffmpegs do not fit
into a home machine, so those sides are left out of the large rows. A side that stayed under 97 % of
the stream's bit rate did not keep up, and its row does not count.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import BinaryIO

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.origin import SEGMENT_S, make_certificate, make_pool
from streamvault.errors import UnknownSource
from streamvault.hls.capture import Capture
from streamvault.hls.fetch import Fetcher
from streamvault.hls.journal import JOURNAL_NAME, read_journal
from streamvault.hls.order import CaptureOrder, Surroundings
from streamvault.hls.records import SegmentStored
from streamvault.hls.writer import Disks
from streamvault.source import Playback, Transport, Wish

FFMPEG_LIMIT = 0.42
CURL_LIMIT = 1.1
FURTHER_LIMIT_MB = 0.5
KEPT_UP = 0.97
CURL_SEGMENTS = 120
ROUNDS = 5
CURL = ("curl", "-sS", "--http1.1", "--cacert")
POOL_MARGIN_S = 20
OURS = "StreamVault"
STREAMLINK, FFMPEG = "streamlink CLI", "ffmpeg -c copy"
MOST = {STREAMLINK: 50, FFMPEG: 100}
"""More of these processes do not fit into a home machine's memory."""
PACED = "curl, paced"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one side used while it was measured."""

    side: str
    recordings: int
    cpu_s: float
    mb: float
    seconds: float
    pss_mb: float
    lost: int | None = None
    doubled: int | None = None

    @property
    def ms_per_mb(self) -> float:
        return 1000 * self.cpu_s / self.mb if self.mb else float("inf")

    @property
    def mbps(self) -> float:
        """Mbit/s of each recording."""
        return 8 * self.mb / self.seconds / self.recordings


@dataclass(frozen=True, slots=True)
class Bench:
    scratch: Path
    pool: list[Path]
    certificate: Path
    ffmpeg: str
    warm_s: float
    seconds: float
    alone: bool = False

    @property
    def rate_mbps(self) -> float:
        return 8e-6 * sum(p.stat().st_size for p in self.pool) / (SEGMENT_S * len(self.pool))

    @contextmanager
    def origin(self, channels: int) -> Iterator[str]:
        """Its address; a new one for each side, since the pool is played once."""
        port = self.scratch / "port"
        port.unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.origin", self.scratch, self.pool[0].parent]
        process = subprocess.Popen([*map(str, command), str(channels)])
        try:
            while not port.exists():
                if process.poll() is not None:
                    raise RuntimeError("the origin did not start")
                time.sleep(0.05)
            yield f"https://127.0.0.1:{port.read_text()}"
        finally:
            process.kill()
            process.wait()


def main(args: Sequence[str]) -> int:
    """Print the table; 1 when a limit of a row that counts is not kept."""
    options = _parser().parse_args(args)
    console = Console()
    rows = [int(n) for n in options.rows.split(",")]
    base = options.dir or (Path("/dev/shm") if Path("/dev/shm").is_dir() else None)
    with tempfile.TemporaryDirectory(prefix="streamvault-bench-", dir=base) as scratch:
        bench = _prepare(options, Path(scratch))
        console.print(
            f"{bench.rate_mbps:.2f} Mbit/s over TLS, {options.seconds:.0f} s a side after "
            f"{options.warm:.0f} s, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        )
        costs = [cost for n in rows for cost in measure_row(bench, n, console)]
    console.print(_table(costs, bench.rate_mbps))
    verdicts = _limits(costs, bench.rate_mbps)
    for text, kept in verdicts:
        console.print(f"{text}: {'kept' if kept else 'NOT KEPT'}")
    return 0 if all(kept for _, kept in verdicts) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sv bench recorder", description=__doc__)
    parser.add_argument("--rows", default="1,10,50,100,200", help="numbers of recordings")
    parser.add_argument("--alone", action="store_true", help="without streamlink and ffmpeg")
    parser.add_argument("--seconds", type=float, default=24, help="how long each side is measured")
    parser.add_argument("--warm", type=float, default=8, help="seconds before, once all record")
    parser.add_argument("--dir", type=Path, help="where to work; by default a tmpfs")
    parser.add_argument("--ffmpeg", default=shutil.which("ffmpeg") or "ffmpeg")
    return parser


def _prepare(options: argparse.Namespace, scratch: Path) -> Bench:
    # Fifty starts of streamlink alone take the better part of a minute on two cores.
    most = max(int(n) for n in options.rows.split(","))
    pool_s = int(options.warm + options.seconds + POOL_MARGIN_S + 2 * most)
    pool_s = max(pool_s, int(CURL_SEGMENTS * SEGMENT_S) if most > 1 else pool_s)
    pool = make_pool(
        options.ffmpeg, Path(tempfile.gettempdir()) / f"streamvault-bench-60fps-{pool_s}", pool_s
    )
    return Bench(
        scratch,
        pool,
        make_certificate(scratch),
        options.ffmpeg,
        options.warm,
        options.seconds,
        options.alone,
    )


def measure_row(bench: Bench, recordings: int, console: Console) -> list[Cost]:
    """All sides, one after the other."""
    costs = []
    for side, start in SIDES.items():
        if side != OURS and (bench.alone or recordings > MOST[side]):
            continue
        console.print(f"{recordings} x {side} …", style="dim")
        costs.append(_measure(bench, recordings, side, start))
        cost = costs[-1]
        console.print(
            f"  {cost.ms_per_mb:.2f} ms/MB, {cost.pss_mb:.0f} MB PSS, {cost.mbps:.2f} Mbit/s each, "
            f"lost {cost.lost}, doubled {cost.doubled}",
            style="dim",
        )
    costs.append(_measure(bench, recordings, PACED, start_paced_curl))
    costs.append(measure_curl(bench, recordings))
    return costs


def _measure(bench: Bench, recordings: int, side: str, start: Start) -> Cost:
    folder = bench.scratch / "out"
    folder.mkdir()
    with bench.origin(recordings) as url:
        processes = start(bench, recordings, url, folder)
        try:
            _wait_for_all(folder, recordings)
            _settle(folder, bench.warm_s)
            cost = _watch(bench, recordings, side, processes, folder)
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                _end(process)
    if side == OURS:
        lost, doubled = _check(bench, folder)
        cost = replace(cost, lost=lost, doubled=doubled)
    shutil.rmtree(folder)
    return cost


def _watch(
    bench: Bench, recordings: int, side: str, processes: Sequence[subprocess.Popen[bytes]],
    folder: Path,
) -> Cost:  # fmt: skip
    watched = [p.pid for p in processes]
    cpu, size, began = _cpu_s(watched), _size(folder), time.monotonic()
    time.sleep(bench.seconds)
    pss = sum(_pss_mb(p) for p in watched)
    seconds = time.monotonic() - began
    return Cost(side, recordings, _cpu_s(watched) - cpu, (_size(folder) - size) / 1e6, seconds, pss)


def _wait_for_all(folder: Path, recordings: int) -> None:
    """Every recording has bytes."""
    deadline = time.monotonic() + 20 + 3 * recordings
    while sum(1 for p in folder.rglob("*.ts") if p.stat().st_size) < recordings:
        if time.monotonic() > deadline:
            raise RuntimeError("not all recordings began")
        time.sleep(0.2)


def _settle(folder: Path, warm_s: float) -> None:
    """Warm up, then wait until just behind a segment, so that whole segments are measured."""
    time.sleep(warm_s)
    deadline = time.monotonic() + 2 * SEGMENT_S
    before = _size(folder)
    while _size(folder) == before and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(SEGMENT_S / 2)


def _cpu_s(pids: Sequence[int]) -> float:
    """By each process's own clock, whose number clock_getcpuclockid(3) makes like this; the ticks
    of /proc are 10 ms, a tenth of what a single recording uses while it is measured."""
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)


def _pss_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    line = next(line for line in text.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) / 1024


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.ts"))


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _check(bench: Bench, folder: Path) -> tuple[int, int]:
    """Segments lost and doubled, by the pool's own bytes."""
    lost = doubled = 0
    for journal in folder.glob(f"*/{JOURNAL_NAME}"):
        numbers = [
            r.sequence for r in read_journal(journal).records if isinstance(r, SegmentStored)
        ]
        lost += len(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
        doubled += len(numbers) - len(set(numbers))
        bodies = b"".join(bench.pool[number].read_bytes() for number in numbers)
        parts = b"".join(part.read_bytes() for part in sorted(journal.parent.glob("part-*")))
        if parts != bodies:
            raise RuntimeError(f"{journal.parent.name}: the parts are not the source's segments")
    return lost, doubled


# ---- the sides

Start = Callable[[Bench, int, str, Path], list[subprocess.Popen[bytes]]]


def start_ours(
    bench: Bench, recordings: int, url: str, folder: Path
) -> list[subprocess.Popen[bytes]]:
    command = (sys.executable, "-m", "benchmarks.recorder", "record", url, folder)
    return [_spawn([*command, bench.certificate, recordings])]


def start_streamlink(
    bench: Bench, recordings: int, url: str, folder: Path
) -> list[subprocess.Popen[bytes]]:
    streamlink = Path(sys.executable).with_name("streamlink")
    return [
        _spawn(
            [
                *(streamlink, "-l", "error", f"hls://{url}/{n}/live.m3u8", "best"),
                *("-o", folder / f"{n}.ts"),
            ],
            REQUESTS_CA_BUNDLE=str(bench.certificate),
        )
        for n in range(recordings)
    ]


def start_ffmpeg(
    bench: Bench, recordings: int, url: str, folder: Path
) -> list[subprocess.Popen[bytes]]:
    tls = ("-tls_verify", "1", "-ca_file", bench.certificate)
    return [
        _spawn(
            [
                *(bench.ffmpeg, "-v", "error", "-nostdin", *tls, "-i", f"{url}/{n}/live.m3u8"),
                *("-map", "0", "-c", "copy", "-f", "mpegts", folder / f"{n}.ts"),
            ]
        )
        for n in range(recordings)
    ]


SIDES: dict[str, Start] = {
    OURS: start_ours,
    STREAMLINK: start_streamlink,
    FFMPEG: start_ffmpeg,
}


def start_paced_curl(
    bench: Bench, recordings: int, url: str, folder: Path
) -> list[subprocess.Popen[bytes]]:
    """All segments of all recordings one after the other, each when it is due."""
    count = int(recordings * (POOL_MARGIN_S + bench.warm_s + bench.seconds) / SEGMENT_S)
    config = bench.scratch / "paced.conf"
    config.write_text(
        "".join(
            f'url = "{url}/{n % recordings}/{n // recordings:04}.ts"\noutput = "{folder}/{n}.ts"\n'
            for n in range(count)
        )
    )
    rate = f"{60 * recordings / SEGMENT_S:.0f}/m"
    return [_spawn([*CURL, bench.certificate, "--rate", rate, "-K", config])]


def measure_curl(bench: Bench, recordings: int) -> Cost:
    """Segments one after the other over one connection, the median of some rounds; not live, so it
    has no bit rate."""
    count = min(CURL_SEGMENTS, len(bench.pool))
    with bench.origin(1) as url:
        config = bench.scratch / "curl.conf"
        target = bench.scratch / "curl.ts"
        config.write_text(
            "".join(f'url = "{url}/0/{n:04}.ts"\noutput = "{target}"\n' for n in range(count))
        )
        began = time.monotonic()
        cpu_s = median(_run_cpu_s([*CURL, bench.certificate, "-K", config]) for _ in range(ROUNDS))
        seconds = time.monotonic() - began
        target.unlink()
    mb = sum(path.stat().st_size for path in bench.pool[:count]) / 1e6
    return Cost("curl", recordings, cpu_s, mb, seconds, 0.0)


def _run_cpu_s(command: Sequence[object]) -> float:
    before = _children_cpu_s()
    subprocess.run([str(word) for word in command], check=True)
    return _children_cpu_s() - before


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _spawn(command: Sequence[object], **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(word) for word in command],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


# ---- our own side, a process of its own


async def record(url: str, folder: Path, certificate: Path, recordings: int) -> None:
    """Record until SIGTERM."""

    async def resolve(wish: Wish) -> Playback:
        return Playback(wish.url, Transport.HLS, "live")

    def open_reader(wish: Wish) -> BinaryIO:
        raise UnknownSource(f"{wish.url} is no playlist")

    fetcher = Fetcher(certificate, certificate.parent)
    around = Surroundings(resolve, open_reader, fetcher, Disks())
    captures = [
        Capture(CaptureOrder(str(n), f"{url}/{n}/live.m3u8", "best", folder / str(n), 0.0), around)
        for n in range(recordings)
    ]
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    await asked.wait()
    await asyncio.gather(*(capture.drain() for capture in captures))
    await fetcher.aclose()
    around.disks.close()


# ---- what is printed


def _table(costs: Sequence[Cost], rate_mbps: float) -> Table:
    table = Table("N", "side", "CPU ms/MB", "to ffmpeg", "to curl", "to paced curl", "PSS MB",
                  "each further MB", "Mbit/s each", "lost / doubled", "")  # fmt: skip
    for cost in costs:
        by_side = _row(costs, cost.recordings)
        live = cost.side in SIDES
        table.add_row(
            str(cost.recordings),
            cost.side,
            f"{cost.ms_per_mb:.2f}",
            _ratio(cost, by_side.get(FFMPEG)),
            f"{cost.ms_per_mb / by_side['curl'].ms_per_mb:.2f}",
            f"{cost.ms_per_mb / by_side[PACED].ms_per_mb:.2f}",
            f"{cost.pss_mb:.1f}" if live else "",
            _further_text(costs, cost) if live else "",
            f"{cost.mbps:.2f}" if live else "",
            "" if cost.lost is None else f"{cost.lost} / {cost.doubled}",
            "" if _counts(by_side, rate_mbps) else "does not count",
        )
    return table


def _ratio(cost: Cost, to: Cost | None) -> str:
    return "" if to is None else f"{cost.ms_per_mb / to.ms_per_mb:.2f}"


def _row(costs: Sequence[Cost], recordings: int) -> dict[str, Cost]:
    return {cost.side: cost for cost in costs if cost.recordings == recordings}


def _counts(by_side: dict[str, Cost], rate_mbps: float) -> bool:
    sides = [cost for side, cost in by_side.items() if side in SIDES]
    return all(cost.mbps >= KEPT_UP * rate_mbps for cost in sides)


def _further_mb(costs: Sequence[Cost], cost: Cost) -> float | None:
    """PSS of each recording beyond the smallest row's."""
    first = min((c for c in costs if c.side == cost.side), key=lambda c: c.recordings)
    more = cost.recordings - first.recordings
    return (cost.pss_mb - first.pss_mb) / more if more else None


def _further_text(costs: Sequence[Cost], cost: Cost) -> str:
    further = _further_mb(costs, cost)
    return "" if further is None else f"{further:.2f}"


def _limits(costs: Sequence[Cost], rate_mbps: float) -> list[tuple[str, bool]]:
    limits: list[tuple[str, bool]] = []
    for ours in (cost for cost in costs if cost.side == OURS):
        by_side = _row(costs, ours.recordings)
        n = ours.recordings
        limits.append((f"N={n}: lost and doubled 0", not ours.lost and not ours.doubled))
        if not _counts(by_side, rate_mbps):
            continue
        to_curl = ours.ms_per_mb / by_side["curl"].ms_per_mb
        if FFMPEG in by_side:
            to_ffmpeg = ours.ms_per_mb / by_side[FFMPEG].ms_per_mb
            limits.append((f"N={n}: {to_ffmpeg:.2f} of ffmpeg, at most {FFMPEG_LIMIT}",
                           to_ffmpeg <= FFMPEG_LIMIT))  # fmt: skip
        limits.append((f"N={n}: {to_curl:.2f} of curl, at most {CURL_LIMIT}",
                       to_curl <= CURL_LIMIT))  # fmt: skip
        further = _further_mb(costs, ours)
        if further is not None:
            limits.append((f"N={n}: {further:.2f} MB for each further recording, at most "
                           f"{FURTHER_LIMIT_MB}", further <= FURTHER_LIMIT_MB))  # fmt: skip
    return limits


if __name__ == "__main__":
    if sys.argv[1:2] == ["record"]:
        uvloop.run(record(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5])))
    else:
        sys.exit(main(sys.argv[1:]))
