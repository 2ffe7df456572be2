"""The supervisor, as a process of its own: order, crashes, restarts, and every way of dying."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamvault.embedded import runfile
from streamvault.embedded.runfile import Running

ROOT = Path(__file__).parents[3]
STACK = Path(__file__).with_name("tiny_stack.py")
PATIENCE_S = 20
ORPHANS_END_S = 2


class Tiny:
    """One tiny stack; everything it starts carries a mark in its environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *knobs: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, STACK, self.folder, *knobs],
            env=os.environ | {"PYTHONPATH": str(ROOT), "TINY_STACK": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def start_until_ready(self, *knobs: str) -> subprocess.Popen[str]:
        process = self.start(*knobs)
        until(lambda: self.state().ready)
        return process

    def state(self) -> Running:
        found = runfile.running(self.folder)
        return found or Running(0, "", "", "", "")

    @property
    def events(self) -> list[str]:
        path = self.folder / "events"
        return path.read_text().splitlines() if path.exists() else []

    def alive(self) -> list[str]:
        """Every process that carries our mark, however it was orphaned."""
        mark = f"TINY_STACK={self.folder}".encode()
        return [e.parent.name for e in Path("/proc").glob("[0-9]*/environ") if mark in content(e)]


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def until(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Tiny]:
    made = Tiny(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


def test_stages_start_in_order_and_stop_in_reverse(tiny: Tiny) -> None:
    process = tiny.start_until_ready()
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0
    assert tiny.events[:2] == ["server starts", "job runs"]
    assert sorted(tiny.events[2:4]) == ["first starts", "second starts"]
    assert sorted(tiny.events[4:6]) == ["first ends", "second ends"]
    assert tiny.events[6:] == ["server ends"]
    assert tiny.alive() == []
    assert not (tiny.folder / "run.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_stop_in_order_too(tiny: Tiny, number: signal.Signals) -> None:
    process = tiny.start_until_ready()
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == 0
    assert tiny.events[-1] == "server ends"


def test_a_killed_child_starts_again_and_takes_nobody_down(tiny: Tiny) -> None:
    tiny.start_until_ready()
    before = tiny.state().pids
    os.kill(before["first"], signal.SIGKILL)
    until(lambda: tiny.state().pids.get("first", before["first"]) != before["first"])
    after = tiny.state().pids
    assert {n: after[n] for n in ("server", "second")} == {
        n: before[n] for n in ("server", "second")
    }


def test_a_child_that_stands_still_is_killed_and_starts_again(tiny: Tiny) -> None:
    tiny.start_until_ready()
    before = tiny.state().pids
    os.kill(before["first"], signal.SIGSTOP)
    until(lambda: tiny.state().pids.get("first", before["first"]) != before["first"])
    assert tiny.state().pids["second"] == before["second"]


def test_after_all_stood_still_together_nobody_is_killed(tiny: Tiny) -> None:
    """As a laptop does that sleeps: only looks count, not the time between them."""
    process = tiny.start_until_ready()
    before = tiny.state().pids
    everybody = [*before.values(), process.pid]
    for pid in reversed(everybody):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(5)
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)
    with pytest.raises(AssertionError, match="did not come about"):
        until(lambda: tiny.state().pids != before, 4)


def test_a_second_supervisor_says_so_and_ends(tiny: Tiny) -> None:
    first = tiny.start_until_ready()
    second = tiny.start()
    _, said = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 1
    assert said.strip().count("\n") == 0
    assert f"already runs on {tiny.folder} (process {first.pid})" in said
    assert first.poll() is None


def test_kill_nine_of_the_supervisor_leaves_no_orphan(tiny: Tiny) -> None:
    process = tiny.start_until_ready("stubborn")
    assert len(tiny.alive()) >= 4
    process.kill()
    until(lambda: tiny.alive() == [], ORPHANS_END_S)
    assert runfile.running(tiny.folder) is None
    tiny.start_until_ready()


def test_kill_nine_while_it_starts_leaves_no_orphan_either(tiny: Tiny) -> None:
    process = tiny.start("broken")
    until(lambda: "server starts" in tiny.events)
    process.kill()
    until(lambda: tiny.alive() == [], ORPHANS_END_S)


def test_restart_swaps_the_last_stage_alone(tiny: Tiny) -> None:
    process = tiny.start_until_ready()
    before = tiny.state()
    process.send_signal(signal.SIGUSR1)
    until(lambda: tiny.state().generation == 2)
    after = tiny.state()
    assert after.pids["server"] == before.pids["server"]
    assert all(after.pids[n] != before.pids[n] for n in ("first", "second"))
    assert tiny.events.count("job runs") == 2
    assert process.poll() is None


def test_a_child_that_does_not_stop_is_killed_after_its_grace(tiny: Tiny) -> None:
    process = tiny.start_until_ready("stubborn")
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "second      | did not stop within 2 s: killed" in said
    assert tiny.events[-1] == "server ends"
    assert tiny.alive() == []


def test_a_second_ctrl_c_kills_at_once(tiny: Tiny) -> None:
    process = tiny.start_until_ready("stubborn")
    process.send_signal(signal.SIGINT)
    until(lambda: "first ends" in tiny.events)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert "killing" in said
    assert tiny.alive() == []


def test_a_wrong_setting_of_a_child_ends_the_start_in_one_line(tiny: Tiny) -> None:
    process = tiny.start("wrong-setting")
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert said == "STREAMVAULT_PORT: takes a number\n"
    assert tiny.alive() == []


def test_a_start_that_always_fails_is_given_up_with_its_last_line(tiny: Tiny) -> None:
    process = tiny.start("broken")
    out, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert said == "second did not start: no such thing: looked into it\n"
    pauses = [line.rsplit(" ", 2)[1] for line in out.splitlines() if "starts again" in line]
    assert pauses == ["0.5", "1", "2", "4"]
    assert tiny.alive() == []


def test_a_paused_terminal_holds_up_no_child(tiny: Tiny) -> None:
    """Nobody reads our output: ten megabytes are far more than all pipes in between can hold."""
    tiny.start_until_ready("chatty")
    until(lambda: content(tiny.folder / "count") == b"10000\n")
    assert len(tiny.state().pids) == 3


def test_children_start_again_when_an_address_changed(tiny: Tiny) -> None:
    tiny.start_until_ready()
    before = tiny.state().pids
    (tiny.folder / "address").write_text("127.0.0.1:1")
    os.kill(before["server"], signal.SIGKILL)
    until(lambda: tiny.state().pids.get("first", before["first"]) != before["first"])
    assert tiny.state().pids["second"] == before["second"]
    environment = content(Path(f"/proc/{tiny.state().pids['first']}/environ"))
    assert b"ADDRESS=127.0.0.1:1" in environment
