"""`./sv bench soak`: recordings under random faults, for as long as one asks.

First every process is killed, stopped and restarted at random while streams are cut, frozen, looped
and interrupted; in the second half the recorder is left alone, and its memory, descriptors and
threads are watched. In the end each recording is compared with its source, and the invariants are
looked at. The seed makes a run repeatable.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from tests.e2e.conftest import QUICK, Gate
from tests.e2e.product import Up, running_up
from tests.fake_twitch.client import FakeTwitch
from tests.faults.accounts import Account, account, wait_stored

RECORDER = "worker-recorder"
OTHERS = ("worker-control-processor", "api", "temporal", "postgres")
SAMPLE_S = 10.0
FLAT = 1.10
"""The last third against the third before."""
CATCH_UP_S = 180.0


@dataclass
class Samples:
    """Of the recorder, in the half in which it is left alone."""

    pss_mb: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def take(self, pid: int) -> None:
        process = psutil.Process(pid)
        self.pss_mb.append(process.memory_full_info().pss / 1e6)
        self.descriptors.append(process.num_fds())
        self.threads.append(process.num_threads())


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./sv bench soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--recordings", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="sv-soak-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o711)
        with FakeTwitch(folder / "fake") as fake:
            gate = Gate(folder)
            env = fake.env | QUICK | {"STREAMVAULT_FFMPEG": str(gate.ffmpeg)}
            with running_up(folder / "vault", env) as up:
                return Soak(up, fake, gate, options).run()


class Soak:
    def __init__(self, up: Up, fake: FakeTwitch, gate: Gate, options: argparse.Namespace) -> None:
        self._up = up
        self._fake = fake
        self._gate = gate
        self._seconds = 60 * options.minutes
        self._chance = random.Random(options.seed)
        self._channels = [fake.channel() for _ in range(options.recordings)]
        self._ids: list[str] = []
        self._done: dict[str, int] = {}
        self._samples = Samples()
        self._console = Console()

    def run(self) -> int:
        for channel in self._channels:
            channel.online(segment_s=2)
            self._ids.append(str(self._up.record(url=channel.url)["id"]))
        for recording_id in self._ids:
            wait_stored(self._up, recording_id, 3)
        began = time.monotonic()
        self._disturb(began + self._seconds / 2, [*self._of_sources(), *self._of_processes()])
        self._disturb(began + self._seconds, self._of_sources(), watch=True)
        self._fake.clear_faults()
        accounts = self._finish()
        return self._tell(accounts)

    # ---- faults

    def _disturb(
        self, until: float, faults: Sequence[Callable[[], str]], *, watch: bool = False
    ) -> None:
        sampled_at = 0.0
        while time.monotonic() < until:
            name = self._chance.choice(faults)()
            self._done[name] = self._done.get(name, 0) + 1
            time.sleep(self._chance.uniform(1, 8))
            if watch and time.monotonic() - sampled_at > SAMPLE_S:
                sampled_at = time.monotonic()
                self._samples.take(self._up.pids[RECORDER])

    def _of_sources(self) -> list[Callable[[], str]]:
        return [
            lambda: self._fault("any", "reset", duration_s=self._chance.uniform(1, 15)),
            lambda: self._fault("any", "hang", seconds=5, duration_s=8),
            lambda: self._fault("playlist", "frozen", duration_s=self._chance.uniform(5, 20)),
            lambda: self._fault("playlist", "status", status=403, count=1),
            lambda: self._fault("segment", "status", status=500, count=3),
            lambda: self._fault("segment", "truncated", count=2),
            self._ads,
        ]

    def _fault(self, target: str, kind: str, **fields: object) -> str:
        self._chance.choice(self._channels).fault(target, kind, **fields)
        return f"{target} {kind}"

    def _ads(self) -> str:
        self._chance.choice(self._channels).ad(self._chance.randint(2, 8))
        return "ads"

    def _of_processes(self) -> list[Callable[[], str]]:
        return [
            *[lambda: self._kill(RECORDER)] * 2,
            lambda: self._kill(self._chance.choice(OTHERS)),
            lambda: self._signal(signal.SIGTERM, "the recorder restarted"),
            lambda: self._signal(signal.SIGSTOP, "the recorder stopped"),
        ]

    def _kill(self, name: str) -> str:
        self._await_new(name, self._up.kill(name))
        return f"{name} killed"

    def _signal(self, number: signal.Signals, words: str) -> str:
        recorder = self._up.pids[RECORDER]
        os.kill(recorder, number)
        self._await_new(RECORDER, recorder)
        return words

    def _await_new(self, name: str, old: int) -> None:
        def is_back() -> bool:
            running = self._up.running
            return bool(running["ready"]) and running["pids"].get(name, old) != old

        self._up.wait_for(is_back, f"{name} is back", 90)

    # ---- the end

    def _finish(self) -> list[Account]:
        for recording_id, channel in zip(self._ids, self._channels, strict=True):
            wait_stored(self._up, recording_id, channel.segments, CATCH_UP_S)
        with self._gate.closed():
            for channel in self._channels:
                channel.offline()
            for recording_id in self._ids:
                self._up.wait_status(recording_id, "processing", timeout_s=CATCH_UP_S)
            found = [
                account(self._up, recording_id, channel)
                for recording_id, channel in zip(self._ids, self._channels, strict=True)
            ]
        for recording_id in self._ids:
            self._up.wait_status(recording_id, "completed", timeout_s=600)
        return found

    def _tell(self, accounts: Sequence[Account]) -> int:
        table = Table("recording", "segments", "lost", "doubled or torn", "gap told", "gap true")
        for channel, found in zip(self._channels, accounts, strict=True):
            table.add_row(
                channel.login,
                str(channel.segments),
                str(len(found.lost)),
                f"{found.foreign_bytes} B",
                f"{found.told_gap_s:.1f} s",
                f"{found.true_gap_s:.1f} s",
            )
        self._console.print(table)
        self._console.print(", ".join(f"{name} {count}" for name, count in self._done.items()))
        wrong = [*self._growth(), *self._broken(accounts)]
        for line in wrong:
            self._console.print(f"[red]{line}[/]")
        return 1 if wrong else 0

    def _growth(self) -> list[str]:
        samples: dict[str, Sequence[float]] = {
            "MB PSS": self._samples.pss_mb,
            "descriptors": self._samples.descriptors,
            "threads": self._samples.threads,
        }
        wrong = []
        for name, values in samples.items():
            third = len(values) // 3
            before, last = _mean(values[third : 2 * third]), _mean(values[2 * third :])
            self._console.print(f"{name}: {before:.0f}, then {last:.0f}")
            if last > FLAT * before:
                wrong.append(f"{name} grow: {before:.0f} to {last:.0f}")
        return wrong

    def _broken(self, accounts: Sequence[Account]) -> list[str]:
        """Of the invariants: honest reports, one row each, nothing left running."""
        wrong = [f"not as reported: {found}" for found in accounts if not found.is_honest]
        rows = self._up.get("/api/recordings?limit=200")["items"]
        if len(rows) != len(self._ids):
            wrong.append(f"{len(rows)} rows for {len(self._ids)} recordings")
        if "streamvault_active_recordings 0.0" not in self._up.call("GET", "/metrics").text:
            wrong.append("the figures tell of active recordings")
        children = list(self._up.pids.values())
        self._up.stop()
        time.sleep(2)
        wrong += [f"process {pid} is left" for pid in children if psutil.pid_exists(pid)]
        return wrong


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
