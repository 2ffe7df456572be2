"""`./sv bench detect`: what it costs to follow 1,000 streamers, and how soon 50 that begin within
one second are on the disk.

The whole product beside the fake Twitch on one machine, each with its own processes; the fake's own
CPU is not counted, but shares the cores. Yardsticks: a bare loop of the same requests, and one look
at a time with streamlink for the streams.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import psutil
import uvloop
from rich.console import Console
from rich.table import Table

from tests.e2e.product import Up, running_up
from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.fake_twitch.client_words import Application

STREAMERS = 1_000
POLL_S = 30
ROUNDS = 4
BURST = 50
START_AIM_S = 5.0
START_LIMIT_S = 15.0
POINTS_LIMIT = 25.0  # of 800; 10 calls twice a minute are 20
A_DAY_S = 86_400
PATIENCE_S = 120.0
WIDTH = 110
BATCH = 100
WORKER = "worker-control-processor"


@dataclass(frozen=True, slots=True)
class Polling:
    points_per_min: float
    worker_cpu: float
    """Of one core, in percent."""
    bare_cpu: float
    database_mb_a_day: float
    temporal_mb_a_day: float


@dataclass(frozen=True, slots=True)
class Starts:
    delays_s: list[float]
    """From Twitch's message to the first segment on the disk."""
    streamlink_s: float
    """One resolve by the streamlink command, alone."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./sv bench detect", description=__doc__)
    parser.add_argument("--streamers", type=int, default=STREAMERS)
    parser.add_argument("--burst", type=int, default=BURST)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of polling that are measured")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="sv-bench-") as folder,
        FakeTwitch(Path(folder) / "fake") as fake,
    ):
        # The database's own account has to get in.
        Path(folder).chmod(0o711)
        polling = measure_polling(fake, Path(folder), options.streamers, options.rounds)
        starts = measure_starts(fake, Path(folder), options.burst)
    return report(options.streamers, polling, starts)


# ---- polling


def measure_polling(fake: FakeTwitch, folder: Path, streamers: int, rounds: int) -> Polling:
    app = fake.application()
    channels = fake.channels(streamers)
    env = {"EVENTSUB_TRANSPORT": "poll", "POLL_INTERVAL_S": str(POLL_S)}
    with product(folder / "polling", app, env) as up:
        follow(up, channels)
        wait_for_round(fake, app)
        before = sizes(up)
        worker = psutil.Process(up.pids[WORKER])
        cpu_before, began = cpu_of(worker), time.monotonic()
        fake.clear_calls()
        for _ in range(rounds):
            wait_for_round(fake, app)
        took_s = time.monotonic() - began
        cpu_s = cpu_of(worker) - cpu_before
        calls = len(fake.calls("helix", app=app))
        after = sizes(up)
    return Polling(
        points_per_min=calls / took_s * 60,
        worker_cpu=100 * cpu_s / took_s,
        bare_cpu=100 * bare_loop(app, channels, rounds) / took_s,
        database_mb_a_day=(after[0] - before[0]) / took_s * A_DAY_S / 1e6,
        temporal_mb_a_day=(after[1] - before[1]) / took_s * A_DAY_S / 1e6,
    )


def follow(up: Up, channels: Sequence[FakeChannel]) -> None:
    for start in range(0, len(channels), BATCH):
        entries = [channel.login for channel in channels[start : start + BATCH]]
        answer = up.call("POST", "/api/streamers/import", {"entries": entries})
        answer.raise_for_status()


def wait_for_round(fake: FakeTwitch, app: Application) -> None:
    """Until one more round of Get Streams has been asked for, whole."""
    seen = len(fake.calls("helix.streams", app=app))
    deadline = time.monotonic() + PATIENCE_S
    while len(fake.calls("helix.streams", app=app)) == seen:
        if time.monotonic() > deadline:
            raise SystemExit("nobody polls")
        time.sleep(0.2)
    time.sleep(3)


def cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def sizes(up: Up) -> tuple[int, int]:
    """Bytes of the database and of Temporal's file."""

    async def ask() -> int:
        connection = await asyncpg.connect(up.running["database_url"].replace("+asyncpg", ""))
        try:
            size = await connection.fetchval("SELECT pg_database_size(current_database())")
        finally:
            await connection.close()
        return int(size)

    files = (up.data_dir / "temporal").glob("temporal.db*")
    return uvloop.run(ask()), sum(path.stat().st_size for path in files)


def bare_loop(app: Application, channels: Sequence[FakeChannel], rounds: int) -> float:
    """CPU seconds of asking the same questions with httpx and reading the answers."""
    env = {name.removeprefix("STREAMVAULT_"): value for name, value in app.env.items()}
    grant = {
        "client_id": env["TWITCH_CLIENT_ID"],
        "client_secret": env["TWITCH_CLIENT_SECRET"],
        "grant_type": "client_credentials",
    }
    with httpx.Client(trust_env=False) as client:
        token = client.post(f"{env['TWITCH_AUTH_URL']}/token", data=grant).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}", "Client-Id": env["TWITCH_CLIENT_ID"]}
        began = time.process_time()
        for _ in range(rounds):
            for start in range(0, len(channels), BATCH):
                ids = [channel.user_id for channel in channels[start : start + BATCH]]
                query = {"first": "100", "user_id": ids}
                client.get(
                    f"{env['TWITCH_HELIX_URL']}/streams",
                    params=httpx.QueryParams(query),
                    headers=headers,
                ).json()
        return time.process_time() - began


# ---- starts


def measure_starts(fake: FakeTwitch, folder: Path, burst: int) -> Starts:
    app = fake.application()
    channels = fake.channels(burst, prefix="burst")
    port = free_port()
    env = {
        "PORT": str(port),
        "BASE_URL": f"http://127.0.0.1:{port}",
        "POLL_INTERVAL_S": "600",
    }
    warm = fake.channel("warm")
    with product(folder / "starts", app, env) as up:
        follow(up, [warm, *channels])
        wait_for_subscriptions(fake, app, 3 * (burst + 1))
        # The first start loads streamlink, once in the life of a process.
        warm.online()
        first_segments(up, 1)
        streamlink_s = resolve_with_streamlink(fake, warm)
        warm.offline()
        fake.go_live(channels, over_s=1)
        stored = first_segments(up, burst + 1)
        told = {
            delivery.user_id: delivery.at
            for delivery in reversed(fake.deliveries(app=app, type="stream.online"))
            if delivery.message_type == "notification"
        }
    delays = [stored[channel.login] - told[channel.user_id] for channel in channels]
    return Starts(sorted(delays), streamlink_s)


def wait_for_subscriptions(fake: FakeTwitch, app: Application, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while sum(s["status"] == "enabled" for s in fake.subscriptions(app=app)) < count:
        if time.monotonic() > deadline:
            raise SystemExit("the subscriptions did not come about")
        time.sleep(0.5)


def first_segments(up: Up, count: int) -> dict[str, float]:
    """When each recording's first part held something: epoch seconds, within 50 ms, by login."""
    found: dict[str, float] = {}
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"{count - len(found)} streams were not recorded\n{up.tail()}")
        for part in up.library.glob("*/*/.streamvault/*/part-0001.*"):
            if part.parent.name not in found and part.stat().st_size:
                found[part.parent.name] = time.time()
        time.sleep(0.05)
    recordings = up.get(f"/api/recordings?limit={min(count, 200)}")["items"]
    return {row["streamer"]["login"]: found[row["id"]] for row in recordings}


def resolve_with_streamlink(fake: FakeTwitch, channel: FakeChannel) -> float:
    command = [sys.executable, "-m", "streamlink", "--http-proxy", fake.proxy_url]
    command += ["--stream-url", f"https://www.twitch.tv/{channel.login}", "best"]
    began = time.monotonic()
    env = os.environ | {"REQUESTS_CA_BUNDLE": str(fake.ca_bundle)}
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


# ---- the product


@contextmanager
def product(data_dir: Path, app: Application, env: dict[str, str]) -> Iterator[Up]:
    named = {f"STREAMVAULT_{name}": value for name, value in env.items()}
    quiet = {"STREAMVAULT_LOG_LEVEL": "warning"}
    with running_up(data_dir, app.env | quiet | named) as up:
        yield up


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# ---- the report


def report(streamers: int, polling: Polling, starts: Starts) -> int:
    console = Console(width=WIDTH)
    table = Table(
        "following", "Helix points/min", "CPU of a core", "bare loop", "database", "Temporal"
    )
    table.add_row(
        f"{streamers:,} streamers each {POLL_S} s",
        f"{polling.points_per_min:.1f}",
        f"{polling.worker_cpu:.2f} %",
        f"{polling.bare_cpu:.2f} %",
        f"{polling.database_mb_a_day:.1f} MB/day",
        f"{polling.temporal_mb_a_day:.1f} MB/day",
    )
    console.print(table)
    delays = starts.delays_s
    p95 = statistics.quantiles(delays, n=20)[-1] if len(delays) > 1 else delays[0]
    table = Table(
        "going live in one second", "median s", "p95 s", "last s", "streamlink, one alone"
    )
    table.add_row(
        str(len(delays)),
        f"{statistics.median(delays):.2f}",
        f"{p95:.2f}",
        f"{delays[-1]:.2f}",
        f"{starts.streamlink_s:.2f} s",
    )
    console.print(table)
    limits = [
        (f"points a minute {polling.points_per_min:.1f}", polling.points_per_min, POINTS_LIMIT),
        (f"p95 from message to disk {p95:.2f} s (aim {START_AIM_S})", p95, START_LIMIT_S),
    ]
    for text, value, limit in limits:
        kept = "kept:   " if value <= limit else "BROKEN: "
        console.print(f"{kept}{text}, at most {limit}")
    return 0 if all(value <= limit for _, value, limit in limits) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
