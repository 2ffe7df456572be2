"""`./sv bench start`: the whole stack from nothing to ready, again, idle, and to its end.

Cold means an empty data folder, warm the same folder again; the limits are for a machine with
nothing else to do, so the load beside each start is shown. Memory is the sum of the PSS of every
process: what is shared between them counts once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

CLI = Path(__file__).parents[1] / "cli.py"
WARM_LIMIT_S = 4.0
MEMORY_LIMIT_MIB = 450.0
SETTLE_S = 10.0
MIB = 1 << 20
PATIENCE_S = 120.0
WIDTH = 150


@dataclass(frozen=True, slots=True)
class Start:
    name: str
    load: float
    ready_s: float
    cpu_s: float
    """Of all processes, up to ready."""
    stop_s: float
    memory_mib: dict[str, float]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./sv bench start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="warm starts")
    parser.add_argument("--settle", type=float, default=SETTLE_S, help="seconds until memory")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="sv-bench-") as folder:
        # The database's own account has to get in.
        Path(folder).chmod(0o711)
        names = ["cold", *(["warm"] * options.rounds)]
        starts = [measure(name, Path(folder) / "data", options.settle) for name in names]
    return report(starts)


def measure(name: str, data_dir: Path, settle_s: float) -> Start:
    env = os.environ | {"STREAMVAULT_DATA_DIR": str(data_dir), "STREAMVAULT_PORT": "0"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    load = os.getloadavg()[0]
    born = time.monotonic()
    with subprocess.Popen([sys.executable, CLI, "up"], env=env, stdout=subprocess.DEVNULL) as up:
        try:
            wait_until_ready(up, data_dir / "run.json")
            ready_s = time.monotonic() - born
            processes = family(up.pid)
            cpu_s = sum(sum(process.cpu_times()[:4]) for process in processes)
            time.sleep(settle_s)
            memory = memory_by_name(family(up.pid))
            asked = time.monotonic()
            up.send_signal(signal.SIGINT)
            if up.wait(PATIENCE_S):
                raise SystemExit(f"up ended with {up.returncode}")
        finally:
            up.kill()
    return Start(name, load, ready_s, cpu_s, time.monotonic() - asked, memory)


def wait_until_ready(up: subprocess.Popen[bytes], run_file: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and up.poll() is None:
        if run_file.exists() and json.loads(run_file.read_text())["ready"]:
            return
        time.sleep(0.02)
    raise SystemExit("up did not get ready")


def family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def memory_by_name(processes: Sequence[psutil.Process]) -> dict[str, float]:
    """PSS in MiB; PostgreSQL's processes together."""
    found: dict[str, float] = {}
    for process in processes:
        name = kind(process)
        found[name] = found.get(name, 0) + process.memory_full_info().pss / MIB
    return found


def kind(process: psutil.Process) -> str:
    command: list[str] = process.cmdline()
    if str(CLI) in command:
        return command[-1]  # the verb, or a worker's roles
    return "postgres" if process.name().startswith("postgres") else process.name()


def report(starts: Sequence[Start]) -> int:
    console = Console(width=WIDTH)
    names = list(starts[-1].memory_mib)
    table = Table("start", "load before", "ready s", "CPU s", "stop s", "PSS MiB", *names)
    for start in starts:
        figures = [start.load, start.ready_s, start.cpu_s, start.stop_s]
        memory = [sum(start.memory_mib.values()), *(start.memory_mib.get(n, 0) for n in names)]
        table.add_row(
            start.name,
            *(f"{f:.2f}" for f in figures),
            *(f"{mib:.0f}" for mib in memory),
        )
    console.print(table)
    warm = [start for start in starts if start.name == "warm"] or starts
    ready_s = statistics.median(start.ready_s for start in warm)
    memory_mib = max(sum(start.memory_mib.values()) for start in starts)
    limits = [
        (
            f"warm, median: ready after {ready_s:.2f} s, at most {WARM_LIMIT_S}",
            ready_s,
            WARM_LIMIT_S,
        ),
        (
            f"idle: {memory_mib:.0f} MiB PSS, at most {MEMORY_LIMIT_MIB:.0f}",
            memory_mib,
            MEMORY_LIMIT_MIB,
        ),
    ]
    for text, value, limit in limits:
        console.print(("kept:   " if value <= limit else "BROKEN: ") + text)
    return 0 if all(value <= limit for _, value, limit in limits) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
