"""What runs out: connections of the database, and open files. Rows F7 and F56."""

from __future__ import annotations

import asyncio
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import asyncpg
import pytest

from tests.e2e.conftest import Gate
from tests.e2e.product import Up
from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.faults.accounts import account, recovery_s, table_line, wait_stored

OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name <> 'hog'"
FOR_S = 15
ANSWERED_WITHIN_S = 10.0
FEW = 4


@pytest.mark.timeout(300)
def test_connections_and_files_that_run_out_cost_nothing(
    own_up: Callable[..., Up],
    fake_twitch: FakeTwitch,
    channel: FakeChannel,
    gate: Gate,
    record_property: Callable[..., None],
) -> None:
    up = own_up(FFMPEG=str(gate.ffmpeg))
    recording_id = str(up.record(url=channel.url)["id"])
    wait_stored(up, recording_id, 5)

    with all_connections_taken(up):
        told = _answers(up, FOR_S)
    free_s = _ready_after_s(up)
    connections_s = recovery_s(up, recording_id, channel)
    assert {status for status, _, _ in told} <= {200, 503}
    assert all(retry_after for status, retry_after, _ in told if status == 503)
    assert max(took_s for _, _, took_s in told) < ANSWERED_WITHIN_S
    assert any(status == 503 for status, _, _ in told), "the connections were never all taken"

    second = fake_twitch.channel()
    second.online()
    with no_more_files(up.pids["worker-recorder"]):
        fake_twitch.cut_connections()
        begun = up.record(url=second.url)
        time.sleep(10)
    files_s = recovery_s(up, recording_id, channel)
    up.wait_segments(str(begun["id"]), 3)
    second.offline()

    with gate.closed():
        channel.offline()
        up.wait_status(recording_id, "processing")
        found = account(up, recording_id, channel)
    words = f"the database's connections are all taken, {FOR_S} s"
    record_property("fault", table_line("F7", words, found, max(free_s, connections_s)))
    record_property("fault", table_line("F56", "no file can be opened, 10 s", found, files_s))
    assert found.is_honest
    assert found.lost == ()
    for each in (recording_id, str(begun["id"])):
        up.wait_status(each, "completed", timeout_s=120)


def _answers(up: Up, seconds: float) -> list[tuple[int, str, float]]:
    """Status, Retry-After and how long it took, of a page that needs the database."""
    found, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        answer = up.call("GET", "/api/recordings")
        took_s = time.monotonic() - began
        found.append((answer.status_code, answer.headers.get("retry-after", ""), took_s))
        time.sleep(0.3)
    return found


def _ready_after_s(up: Up) -> float:
    began = time.monotonic()
    while up.call("GET", "/api/recordings").status_code != 200:
        assert time.monotonic() - began < 30, up.tail()
        time.sleep(0.1)
    return time.monotonic() - began


@contextmanager
def no_more_files(pid: int) -> Iterator[None]:
    """Whatever would need another descriptor fails with EMFILE."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # Those that are open stay so, and poll(2) of a few goes on working.
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (FEW, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def all_connections_taken(up: Up) -> Iterator[None]:
    """Every connection of the server is ours; those of others are ended."""
    url = up.running["database_url"].replace("postgresql+asyncpg", "postgresql")
    stop = threading.Event()
    hog = threading.Thread(target=asyncio.run, args=(_hold_all(url, stop),), daemon=True)
    hog.start()
    time.sleep(1)
    try:
        yield
    finally:
        stop.set()
        hog.join(30)


async def _hold_all(url: str, stop: threading.Event) -> None:
    held: list[asyncpg.Connection] = []
    try:
        while not stop.is_set():
            with suppress(asyncpg.TooManyConnectionsError):
                while not stop.is_set():
                    settings = {"application_name": "hog"}
                    held.append(await asyncpg.connect(url, server_settings=settings))
            await held[0].execute(OTHERS)
            await asyncio.sleep(0.05)
    finally:
        await asyncio.gather(*(connection.close() for connection in held))
