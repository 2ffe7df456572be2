"""Finding, starting and above all ending ffmpeg."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from streamvault.errors import MediaError, RemuxFailed, ToolMissing
from streamvault.media import ffmpeg as module
from streamvault.media.ffmpeg import Ffmpeg, find_ffmpeg, run, run_python_child, self_test
from tests.streamvault.media.media_files import WHEEL, is_gone, script, until

ROOT = Path(__file__).parents[3]


async def test_the_ffmpeg_found_passes_its_own_test(each_ffmpeg: Ffmpeg) -> None:
    assert each_ffmpeg.path.is_absolute()
    await self_test(each_ffmpeg)


def test_a_setting_comes_first(tmp_path: Path) -> None:
    own = script(tmp_path / "ffmpeg", "exit 0\n")
    assert find_ffmpeg(own) == Ffmpeg(own, "7.0")


def test_a_setting_that_is_no_ffmpeg_is_refused(tmp_path: Path) -> None:
    not_one = tmp_path / "ffmpeg"
    not_one.write_text("#!/bin/sh\necho hello\n")
    not_one.chmod(0o755)
    with pytest.raises(ToolMissing, match="is not an ffmpeg that runs here"):
        find_ffmpeg(not_one)


@pytest.mark.parametrize(("version", "taken"), [("4.4.2", False), ("5.1.9-0+deb12u1", True)])
def test_a_system_ffmpeg_counts_from_5_1_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, taken: bool
) -> None:
    own = tmp_path / "ffmpeg"
    own.write_text(f"#!/bin/sh\necho 'ffmpeg version {version} Copyright'\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    assert find_ffmpeg().path == (own if taken else WHEEL)


async def test_a_build_that_crashes_on_mpegts_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match="cannot read a plain MPEG-TS file: killed by SIGSEGV"):
        await self_test(Ffmpeg(script(tmp_path / "ffmpeg", "kill -SEGV $$\n"), "7.0"))


async def test_an_ffmpeg_that_hangs_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    hanging = script(tmp_path / "ffmpeg", f"echo $$ > {pid_file}; exec sleep 600\n")
    with pytest.raises(RemuxFailed, match="hung"):
        await run(Ffmpeg(hanging, "7.0"), [], stall_timeout_s=2)
    assert is_gone(int(pid_file.read_text()))


async def test_one_that_ignores_sigterm_is_killed_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_GRACE_S", 0.2)
    pids = tmp_path / "pids"
    body = f"trap '' TERM\n(while :; do sleep 1; done) & echo $$ $! > {pids}\nwait; sleep 600\n"
    with pytest.raises(RemuxFailed, match="hung"):
        await run(Ffmpeg(script(tmp_path / "ffmpeg", body), "7.0"), [], stall_timeout_s=2)
    await until_gone(*map(int, pids.read_text().split()))


async def test_output_that_grows_slowly_is_no_stall(tmp_path: Path) -> None:
    growing = tmp_path / "out.mp4"
    body = f"for n in 1 2 3 4 5 6 7 8 9 10 11 12; do echo $n >> {growing}; sleep 0.5; done\n"
    slow = Ffmpeg(script(tmp_path / "ffmpeg", body), "7.0")
    assert (await run(slow, [], stall_timeout_s=4, watch=growing)).returncode == 0


async def test_cancelling_the_waiting_task_leaves_no_process(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    body = f"sleep 600 & echo $$ $! > {pids}; wait\n"
    waiting = asyncio.create_task(run(Ffmpeg(script(tmp_path / "ffmpeg", body), "7.0"), []))
    await until(lambda: pids.exists() and pids.read_text().strip())
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until_gone(*map(int, pids.read_text().split()))


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv on this system")
async def test_ffmpeg_dies_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    hanging = script(tmp_path / "ffmpeg", f"echo $$ > {pid_file}; exec sleep 600\n")
    code = (
        "import asyncio, pathlib; from streamvault.media.ffmpeg import Ffmpeg, run\n"
        f"asyncio.run(run(Ffmpeg(pathlib.Path({str(hanging)!r}), '7.0'), []))"
    )
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT)
    await until(lambda: pid_file.exists() and pid_file.read_text().strip())
    worker.kill()
    await worker.wait()
    await until_gone(int(pid_file.read_text()))


async def test_children_see_neither_our_secrets_nor_our_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMVAULT_SECRET_KEY", "hidden")
    seen = tmp_path / "env"
    await run(Ffmpeg(script(tmp_path / "ffmpeg", f"env > {seen}; cat\n"), "7.0"), [])
    names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert "LC_ALL" in names
    assert not any(name.startswith("STREAMVAULT") for name in names)


async def test_a_flood_of_warnings_is_counted_and_kept_small(tmp_path: Path) -> None:
    body = (
        "i=0; while [ $i -lt 5000 ]; do i=$((i+1));"
        ' echo "[mp4 @ 0x55aa$i] [warning] Non-monotonous DTS in output stream 0:0;'
        ' previous: $i" >&2; done\n'
    )
    result = await run(Ffmpeg(script(tmp_path / "ffmpeg", body), "7.0"), [])
    assert result.non_monotonic == 5000
    assert len(result.warnings) == 1
    assert result.warnings[0].endswith("(x5000)")
    assert len(result.log_tail) <= 65536


async def test_a_child_answers_with_what_is_wrong() -> None:
    request = {"what": "parts", "paths": ["/nowhere/part-0001.ts"]}
    with pytest.raises(MediaError, match=r"probe_child: .*No such file"):
        await run_python_child("streamvault.media.probe_child", request)


async def test_a_defect_in_a_child_is_an_error_with_its_last_line() -> None:
    with pytest.raises(MediaError, match="probe_child: exit status 1: KeyError"):
        await run_python_child("streamvault.media.probe_child", {"what": "no such thing"})


async def test_a_child_says_how_far_it_is() -> None:
    heard: list[float] = []
    child = "tests.streamvault.media.slow_child"
    answer = await run_python_child(child, {"word": "hello"}, on_share=heard.append)
    assert (answer, heard) == ({"heard": "hello"}, [0.25, 0.5, 0.75, 1.0])


async def until_gone(*pids: int) -> None:
    await until(lambda: all(is_gone(pid) for pid in pids))
