"""`./sv bench webhooks`: how many messages of EventSub are taken and refused, and how fast.

One API process of the product with its guard, before a PostgreSQL that writes to disk. Yardstick:
the same process answering /healthz, which does nothing. The clients share the cores with it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
import uvloop
from rich.console import Console
from rich.table import Table

from api.app import create_app
from api.eventsub import EventSubWebhook
from streamvault.db.migrate import upgrade
from streamvault.embedded.background import Background
from streamvault.embedded.postgres import Postgres
from streamvault.logs import configure_logs
from streamvault.metrics.eventsub import EventSubFigures
from streamvault.metrics.system import Metrics
from streamvault.settings import check_settings

SECRET = "a secret of the benchmark"
TAKEN_LIMIT = 400.0
FORGED_LIMIT = 1_500.0
P99_LIMITS_MS = {100: 100.0, 400: 250.0}
FLOODED_P99_LIMIT_MS = 250.0
REAL_PER_S = 50
CONNECTIONS = 50
FLOODERS = 32
STARTS_WITHIN_S = 30.0
WIDTH = 110


# ---- messages


def healthz() -> bytes:
    return b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def real() -> bytes:
    return post(SECRET)


def post(secret: str) -> bytes:
    message_id = str(uuid.uuid4())
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
    who = {"broadcaster_user_id": "1337", "broadcaster_user_login": "cool_user"}
    event = {"id": message_id, **who, "type": "live", "started_at": at}
    about = {
        "id": "f1c2a387-161a-49f9-a165-0f21d7a4e1c4",
        "status": "enabled",
        "type": "stream.online",
        "version": "1",
        "condition": {"broadcaster_user_id": "1337"},
        "transport": {"method": "webhook", "callback": "https://vault.example/eventsub"},
        "created_at": at,
        "cost": 0,
    }
    body = json.dumps({"subscription": about, "event": event}).encode()
    digest = hmac.new(secret.encode(), message_id.encode() + at.encode() + body, hashlib.sha256)
    head = {
        "Host": "localhost",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Twitch-Eventsub-Message-Id": message_id,
        "Twitch-Eventsub-Message-Retry": "0",
        "Twitch-Eventsub-Message-Type": "notification",
        "Twitch-Eventsub-Message-Signature": f"sha256={digest.hexdigest()}",
        "Twitch-Eventsub-Message-Timestamp": at,
        "Twitch-Eventsub-Subscription-Type": "stream.online",
        "Twitch-Eventsub-Subscription-Version": "1",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"POST /eventsub HTTP/1.1\r\n{lines}\r\n".encode() + body


# ---- clients


class Connection:
    """One request at a time over one kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> int:
        """The status of the answer."""
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        _, _, rest = head.partition(b"content-length:")
        if rest:
            await self._reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
        return int(head[9:12])


@dataclass(slots=True)
class Load:
    seconds: float
    statuses: dict[int, int] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)

    def note(self, status: int, begun: float) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.latencies_ms.append((time.perf_counter() - begun) * 1000)

    @property
    def per_s(self) -> float:
        return len(self.latencies_ms) / self.seconds

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


@asynccontextmanager
async def connections(port: int, count: int) -> AsyncIterator[list[Connection]]:
    opened = await asyncio.gather(
        *(asyncio.open_connection("127.0.0.1", port) for _ in range(count))
    )
    yield [Connection(*streams) for streams in opened]
    for _, writer in opened:
        writer.close()


async def as_fast_as_possible(
    port: int, count: int, seconds: float, make: Callable[[], bytes]
) -> Load:
    """Each connection asks again as soon as it was answered."""
    load = Load(seconds)
    ends_at = time.perf_counter() + seconds

    async def keep_asking(connection: Connection) -> None:
        while (begun := time.perf_counter()) < ends_at:
            load.note(await connection.ask(make()), begun)

    async with connections(port, count) as opened:
        await asyncio.gather(*map(keep_asking, opened))
    return load


async def at_a_rate(port: int, per_s: int, seconds: float, make: Callable[[], bytes]) -> Load:
    """Requests by the clock, however long the answers take; latency counts from the moment at
    which one should have been sent."""
    load = Load(seconds)
    free: asyncio.Queue[Connection] = asyncio.Queue()
    begun = time.perf_counter()

    async def send(due: float) -> None:
        connection = await free.get()
        load.note(await connection.ask(make()), due)
        free.put_nowait(connection)

    async with connections(port, CONNECTIONS) as opened, asyncio.TaskGroup() as group:
        for connection in opened:
            free.put_nowait(connection)
        for number in range(int(per_s * seconds)):
            due = begun + number / per_s
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            group.create_task(send(due))
    return load


def flood(port: int, seconds: float) -> int:
    """In a process of its own, so that the other client's clock runs true; prints its count."""
    forged = post("another secret")
    load = uvloop.run(as_fast_as_possible(port, FLOODERS, seconds, lambda: forged))
    print(json.dumps(load.statuses))
    return 0


# ---- the server


def serve(url: str, port: int, data_dir: str) -> int:
    """The product's application and server; the secret is the benchmark's."""

    async def secrets() -> list[str]:
        return [SECRET]

    configure_logs("error", "json")
    app = create_app(check_settings({"database_url": url, "data_dir": data_dir}))
    webhook = EventSubWebhook(url, secrets, EventSubFigures(Metrics().registry, "benchmark_"))
    app.router.routes.insert(0, webhook.route)
    uvicorn.run(app, port=port, log_config=None, access_log=False, server_header=False)
    return 0


@asynccontextmanager
async def server(url: str, folder: Path) -> AsyncIterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = (sys.executable, "-m", "benchmarks.webhooks", "--serve", url)
    process = await asyncio.create_subprocess_exec(
        *command, "--port", str(port), "--data-dir", str(folder / "data")
    )
    try:
        await until_up(port)
        yield port
    finally:
        process.terminate()
        await process.wait()


async def until_up(port: int) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        try:
            async with connections(port, 1) as [connection]:
                await connection.ask(healthz())
                return
        except OSError:
            await asyncio.sleep(0.1)
    raise SystemExit("the API did not start")


# ---- the phases


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    load: Load
    cpu_load: float


async def measure(port: int, seconds: float) -> tuple[list[Row], dict[int, int]]:
    rows: list[Row] = []

    async def phase(name: str, work: Awaitable[Load]) -> None:
        cpu_load = os.getloadavg()[0]
        rows.append(Row(name, await work, cpu_load))

    await phase("/healthz", as_fast_as_possible(port, CONNECTIONS, seconds, healthz))
    await phase("taken", as_fast_as_possible(port, CONNECTIONS, seconds, real))
    for per_s in P99_LIMITS_MS:
        await phase(f"/healthz, {per_s}/s", at_a_rate(port, per_s, seconds, healthz))
        await phase(f"taken, {per_s}/s", at_a_rate(port, per_s, seconds, real))
    command = (sys.executable, "-m", "benchmarks.webhooks", "--flood", str(port))
    flooding = await asyncio.create_subprocess_exec(
        *command, "--seconds", str(seconds + 2), stdout=subprocess.PIPE
    )
    await asyncio.sleep(1.5)
    await phase("taken, amid forged ones", at_a_rate(port, REAL_PER_S, seconds, real))
    said, _ = await flooding.communicate()
    return rows, {int(status): count for status, count in json.loads(said).items()}


def report(rows: Sequence[Row], forged_per_s: float, lost: int) -> int:
    console = Console(width=WIDTH)
    table = Table("messages", "load before", "per s", "p50 ms", "p99 ms", "answers")
    for row in rows:
        load = row.load
        figures = (row.cpu_load, load.per_s, load.percentile(0.5), load.percentile(0.99))
        table.add_row(row.name, *(f"{f:.1f}" for f in figures), str(load.statuses))
    console.print(table)
    by_name = {row.name: row.load for row in rows}
    taken, flooded = by_name["taken"], by_name["taken, amid forged ones"]
    limits = [
        (f"taken: {taken.per_s:.0f}/s, at least {TAKEN_LIMIT:.0f}", taken.per_s >= TAKEN_LIMIT),
        (
            f"forged ones refused: {forged_per_s:.0f}/s, at least {FORGED_LIMIT:.0f}",
            forged_per_s >= FORGED_LIMIT,
        ),
        below("p99 amid forged ones", flooded, FLOODED_P99_LIMIT_MS),
        *(
            below(f"p99 at {per_s}/s", by_name[f"taken, {per_s}/s"], limit)
            for per_s, limit in P99_LIMITS_MS.items()
        ),
        (f"answered with 204 and not in the database, or the reverse: {lost}", lost == 0),
    ]
    for text, is_kept in limits:
        console.print(("kept:   " if is_kept else "BROKEN: ") + text)
    ratio = by_name["/healthz"].per_s
    console.print(
        f"of /healthz: taken {taken.per_s / ratio:.2f}, refused {forged_per_s / ratio:.2f}"
    )
    return 0 if all(is_kept for _, is_kept in limits) else 1


def below(name: str, load: Load, limit_ms: float) -> tuple[str, bool]:
    p99 = load.percentile(0.99)
    return f"{name}: {p99:.0f} ms, at most {limit_ms:.0f}", p99 <= limit_ms


async def run(postgres: Postgres, folder: Path, seconds: float) -> int:
    await upgrade(postgres.url())
    async with server(postgres.url(), folder) as port:
        # What is only slow the first time.
        await as_fast_as_possible(port, CONNECTIONS, 1, real)
        before = count(postgres)
        rows, forged = await measure(port, seconds)
        stored = count(postgres) - before
    answered = sum(row.load.statuses.get(204, 0) for row in rows)
    forged_per_s = forged.get(403, 0) / (seconds + 2)
    if set(forged) != {403}:
        raise SystemExit(f"forged messages were answered with {forged}")
    return report(rows, forged_per_s, abs(stored - answered))


def count(postgres: Postgres) -> int:
    return int(postgres.query("SELECT count(*) FROM inbox", "streamvault"))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./sv bench webhooks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each phase")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--flood", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--data-dir", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        return serve(options.serve, options.port, options.data_dir)
    if options.flood:
        return flood(options.flood, options.seconds)
    with tempfile.TemporaryDirectory(prefix="sv-bench-") as name:
        folder = Path(name)
        # The database's own account has to get in.
        folder.chmod(0o711)
        postgres = Postgres(folder / "database")
        with Background(postgres, folder / "postgres.log"):
            return uvloop.run(run(postgres, folder, options.seconds))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
