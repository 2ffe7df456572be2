"""Many recordings one after the other leave nothing behind: row F54."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.product import Up
from tests.fake_twitch.client import FakeChannel, FakeTwitch

AT_ONCE = 4
PROCESSES = ("worker-recorder", "worker-control-processor", "api")
MANY_CYCLES = 100
"""From so many on memory has come to rest, and may be asserted."""
MAY_GROW = 1.1
SPARE_FILES = 10
"""Connections that pools open when they are asked for the first time."""


@dataclass(frozen=True)
class Use:
    memory_mb: float
    files: int
    threads: int


@pytest.mark.timeout(3600)
def test_cycles_of_recording_leave_nothing_behind(
    own_up: Callable[..., Up],
    fake_twitch: FakeTwitch,
    cycles: int,
    record_property: Callable[..., None],
) -> None:
    up = own_up()
    channels = [fake_twitch.channel() for _ in range(AT_ONCE)]
    for channel in channels:
        channel.online()
    half = max(AT_ONCE, cycles // 2)
    _record(up, channels, half)
    before, started = _uses(up), _descendants(up)
    _record(up, channels, cycles - half)
    after = _uses(up)
    for name in PROCESSES:
        was, now = before[name], after[name]
        record_property("fault", _line(f"{cycles} recordings, {name}", was, now))
        assert now.files <= was.files + SPARE_FILES, name
        assert now.threads <= was.threads + AT_ONCE, name
        assert cycles < MANY_CYCLES or now.memory_mb <= MAY_GROW * was.memory_mb, (name, was, now)
    up.wait_for(lambda: _descendants(up) <= started, "no process is left over", 30)
    rows = up.get("/api/recordings?limit=200")["items"]
    assert len(rows) == min(cycles, 200)
    assert {row["status"] for row in rows} == {"completed"}


def _record(up: Up, channels: list[FakeChannel], cycles: int) -> None:
    """So many recordings, in as many threads as there are channels."""
    errors: list[Exception] = []
    threads = [
        threading.Thread(target=_work, args=(up, channel, times, errors), daemon=True)
        for channel, times in zip(channels, _shares(cycles), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]


def _shares(cycles: int) -> list[int]:
    each, more = divmod(cycles, AT_ONCE)
    return [each + (at < more) for at in range(AT_ONCE)]


def _work(up: Up, channel: FakeChannel, times: int, errors: list[Exception]) -> None:
    try:
        for _ in range(times):
            recording = up.record(url=channel.url)
            up.wait_segments(str(recording["id"]), 2)
            up.ask(recording, "stop")
            up.wait_status(str(recording["id"]), "completed")
    except (AssertionError, TimeoutError, OSError) as error:
        errors.append(error)


def _uses(up: Up) -> dict[str, Use]:
    time.sleep(12)  # what is kept for a moment is given back
    return {name: _use(up.pids[name]) for name in PROCESSES}


def _use(pid: int) -> Use:
    process = Path(f"/proc/{pid}")
    rollup = (process / "smaps_rollup").read_text()
    (pss_kb,) = (int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    counted = [len(list((process / name).iterdir())) for name in ("fd", "task")]
    return Use(pss_kb / 1024, *counted)


def _line(words: str, was: Use, now: Use) -> str:
    return (
        f"F54   {words:46} memory {was.memory_mb:.0f} then {now.memory_mb:.0f} MB"
        f"  files {was.files} then {now.files}  threads {was.threads} then {now.threads}"
    )


def _descendants(up: Up) -> set[str]:
    """Names of the commands that run below the supervisor."""
    assert up.process is not None
    return set(_below(up.process.pid))


def _below(pid: int) -> Iterator[str]:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            name = Path(f"/proc/{child}/comm").read_text().strip()
            yield name
            yield from _below(int(child))
        except (FileNotFoundError, ProcessLookupError):
            continue
